//! Messages to receivers outside, in a database.

use async_trait::async_trait;
use gateway_core::outbox::{KeptMessage, Outbox, OutboxMessage};
use gateway_core::services::StoreError;
use jiff::Timestamp;

use super::SqlStore;
use super::sealed::MESSAGE;
use crate::database::{Database, values};
use crate::row::{self, Found};

#[async_trait]
impl<D: Database> Outbox for SqlStore<D> {
    async fn put_message(&self, message: &OutboxMessage, most: u32) -> Result<u64, StoreError> {
        let values = values![
            &message.id,
            &message.receiver,
            &message.kind,
            self.sealed(&MESSAGE, &message.id, &message.body)?,
            message.state.as_str(),
            row::nanoseconds(message.created)?,
            row::nanoseconds(message.due)?,
            message.attempts,
            message.error.clone(),
        ];
        self.execute(
            "INSERT INTO outbox (id, receiver, kind, body, state, created, due, attempts, error, revision) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0) ON CONFLICT DO NOTHING",
            values,
        )
        .await?;
        self.execute(
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE receiver = $1 \
             ORDER BY CASE state WHEN 'dead' THEN 1 ELSE 0 END, created DESC, id DESC \
             LIMIT 9223372036854775807 OFFSET $2)",
            values![&message.receiver, most],
        )
        .await
    }

    async fn due_messages(
        &self,
        receiver: &str,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<KeptMessage>, StoreError> {
        let sql = "SELECT * FROM outbox WHERE receiver = $1 AND state = 'waiting' AND due <= $2 \
                   ORDER BY created, id LIMIT $3";
        let now = row::nanoseconds(now)?;
        let values = |limit| values![receiver, now, limit];
        Ok(self.first(sql, values, limit, row::message).await?.0)
    }

    async fn swap_message(&self, revision: i64, next: &OutboxMessage) -> Result<bool, StoreError> {
        let values = values![
            next.state.as_str(),
            row::nanoseconds(next.due)?,
            next.attempts,
            next.error.clone(),
            &next.id,
            revision,
        ];
        let sql = "UPDATE outbox SET state = $1, due = $2, attempts = $3, error = $4, revision = revision + 1 \
                   WHERE id = $5 AND revision = $6";
        Ok(self.execute(sql, values).await? > 0)
    }

    async fn remove_message(&self, id: &str, revision: i64) -> Result<bool, StoreError> {
        let sql = "DELETE FROM outbox WHERE id = $1 AND revision = $2";
        Ok(self.execute(sql, values![id, revision]).await? > 0)
    }

    async fn message(&self, id: &str) -> Result<Option<KeptMessage>, StoreError> {
        self.one("SELECT * FROM outbox WHERE id = $1", values![id], row::message)
            .await
    }

    async fn messages(&self, limit: u32) -> Result<Vec<OutboxMessage>, StoreError> {
        let sql = "SELECT * FROM outbox ORDER BY CASE state WHEN 'dead' THEN 0 ELSE 1 END, created DESC, id DESC \
                   LIMIT $1";
        let read = |found: &Found<'_>| row::message(found).map(|kept| kept.message);
        self.listed(sql, values![limit], read).await
    }
}
