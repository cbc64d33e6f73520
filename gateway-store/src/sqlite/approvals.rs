//! Approvals in SQLite.

use async_trait::async_trait;
use gateway_core::approval::Approval;
use gateway_core::services::{ApprovalRoom, ApprovalStore, Inserted, KeptApproval, StoreError};
use jiff::Timestamp;

use super::{SqliteStore, failed};
use crate::row;

impl SqliteStore {
    /// Forgets approvals that are over but the `keep` that were opened last; returns how many were forgotten.
    pub async fn prune_approvals(&self, keep: u32) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "DELETE FROM approvals WHERE id IN (SELECT id FROM approvals WHERE state NOT IN ('open', 'approved') \
             ORDER BY created DESC, id DESC LIMIT -1 OFFSET ?)",
        )
        .bind(i64::from(keep))
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(done.rows_affected())
    }
}

#[async_trait]
impl ApprovalStore for SqliteStore {
    async fn insert_approval(&self, approval: &Approval, room: ApprovalRoom) -> Result<Inserted, StoreError> {
        // One statement, so that of several that come at the same time no more are kept than there is room for.
        let done = sqlx::query(
            "INSERT INTO approvals (id, digest, state, subject, created, expires, revision, record) \
             SELECT ?, ?, ?, ?, ?, ?, 0, ? \
             WHERE (SELECT count(*) FROM approvals WHERE state IN ('open', 'approved')) < ? \
             AND (SELECT count(*) FROM approvals WHERE state IN ('open', 'approved') AND subject = ?) < ? \
             ON CONFLICT DO NOTHING",
        )
        .bind(&approval.id)
        .bind(&approval.digest)
        .bind(approval.state.as_str())
        .bind(&approval.principal.subject)
        .bind(row::nanoseconds(approval.created)?)
        .bind(row::nanoseconds(approval.expires)?)
        .bind(row::json(approval)?)
        .bind(i64::from(room.all))
        .bind(&approval.principal.subject)
        .bind(i64::from(room.principal))
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        if done.rows_affected() > 0 {
            return Ok(Inserted::New);
        }
        Ok(match self.live_approval(&approval.digest).await? {
            Some(_) => Inserted::Exists,
            None => Inserted::Full,
        })
    }

    async fn approval(&self, id: &str) -> Result<Option<KeptApproval>, StoreError> {
        let found = sqlx::query("SELECT * FROM approvals WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        found.as_ref().map(row::approval).transpose()
    }

    async fn live_approval(&self, digest: &str) -> Result<Option<KeptApproval>, StoreError> {
        let found = sqlx::query("SELECT * FROM approvals WHERE digest = ? AND state IN ('open', 'approved')")
            .bind(digest)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        found.as_ref().map(row::approval).transpose()
    }

    async fn swap_approval(&self, revision: i64, next: &Approval) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE approvals SET state = ?, record = ?, revision = revision + 1 WHERE id = ? AND revision = ?",
        )
        .bind(next.state.as_str())
        .bind(row::json(next)?)
        .bind(&next.id)
        .bind(revision)
        .execute(&self.pool)
        .await;
        match done {
            Ok(done) => Ok(done.rows_affected() > 0),
            // It would be live again, and there is another live one of its digest by now.
            Err(error) if error.as_database_error().is_some_and(|e| e.is_unique_violation()) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    async fn approvals(&self, limit: u32) -> Result<Vec<Approval>, StoreError> {
        let found = sqlx::query("SELECT * FROM approvals ORDER BY CASE state WHEN 'open' THEN 0 ELSE 1 END, created DESC, id DESC LIMIT ?",
        )
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        found
            .iter()
            .map(|found| row::approval(found).map(|kept| kept.approval))
            .collect()
    }

    async fn open_approvals(&self) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar("SELECT id FROM approvals WHERE state = 'open'")
            .fetch_all(&self.pool)
            .await
            .map_err(failed)
    }

    async fn overdue_approvals(&self, now: Timestamp, limit: u32) -> Result<Vec<KeptApproval>, StoreError> {
        let found = sqlx::query(
            "SELECT * FROM approvals WHERE state IN ('open', 'approved') AND expires <= ? ORDER BY expires LIMIT ?",
        )
        .bind(row::nanoseconds(now)?)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(failed)?;
        found.iter().map(row::approval).collect()
    }
}
