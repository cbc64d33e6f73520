//! Approvals in a database.

use async_trait::async_trait;
use gateway_core::approval::Approval;
use gateway_core::services::{ApprovalRoom, ApprovalStore, Inserted, KeptApproval, StoreError};
use jiff::Timestamp;

use super::SqlStore;
use crate::database::{Columns, Database, Failure, Topic, values};
use crate::row;

impl<D: Database> SqlStore<D> {
    /// Forgets approvals that are over but the `keep` that were opened last; returns how many were forgotten.
    pub async fn prune_approvals(&self, keep: u32) -> Result<u64, StoreError> {
        self.execute(
            "DELETE FROM approvals WHERE id IN (SELECT id FROM approvals WHERE state NOT IN ('open', 'approved') \
             ORDER BY created DESC, id DESC LIMIT 9223372036854775807 OFFSET $1)",
            values![keep],
        )
        .await
    }
}

#[async_trait]
impl<D: Database> ApprovalStore for SqlStore<D> {
    async fn insert_approval(&self, approval: &Approval, room: ApprovalRoom) -> Result<Inserted, StoreError> {
        let values = values![
            &approval.id,
            &approval.digest,
            approval.state.as_str(),
            &approval.principal.subject,
            row::nanoseconds(approval.created)?,
            row::nanoseconds(approval.expires)?,
            row::json(approval)?,
            room.all,
            room.principal,
        ];
        // Alone, so that of several that come at the same time no more are kept than there is room for.
        let inserted = self
            .database
            .execute_alone(
                "INSERT INTO approvals (id, digest, state, subject, created, expires, revision, record) \
                 SELECT $1, $2, $3, $4, $5, $6, 0, $7 \
                 WHERE (SELECT count(*) FROM approvals WHERE state IN ('open', 'approved')) < $8 \
                 AND (SELECT count(*) FROM approvals WHERE state IN ('open', 'approved') AND subject = $4) < $9 \
                 ON CONFLICT DO NOTHING",
                values,
            )
            .await?;
        if inserted > 0 {
            return Ok(Inserted::New);
        }
        Ok(match self.live_approval(&approval.digest).await? {
            Some(_) => Inserted::Exists,
            None => Inserted::Full,
        })
    }

    async fn approval(&self, id: &str) -> Result<Option<KeptApproval>, StoreError> {
        let sql = "SELECT * FROM approvals WHERE id = $1";
        self.one(sql, values![id], row::approval).await
    }

    async fn live_approval(&self, digest: &str) -> Result<Option<KeptApproval>, StoreError> {
        let sql = "SELECT * FROM approvals WHERE digest = $1 AND state IN ('open', 'approved')";
        self.one(sql, values![digest], row::approval).await
    }

    async fn swap_approval(&self, revision: i64, next: &Approval) -> Result<bool, StoreError> {
        let values = values![next.state.as_str(), row::json(next)?, &next.id, revision];
        let sql = "UPDATE approvals SET state = $1, record = $2, revision = revision + 1 \
                   WHERE id = $3 AND revision = $4";
        match self.database.execute(sql, values).await {
            Ok(0) => Ok(false),
            Ok(_) => {
                self.database.tell(Topic::Approval, &next.id).await;
                Ok(true)
            }
            // It would be live again, and there is another live one of its digest by now.
            Err(Failure::Taken(_)) => Ok(false),
            Err(Failure::Store(error)) => Err(error),
        }
    }

    async fn approvals(&self, limit: u32) -> Result<Vec<Approval>, StoreError> {
        let sql = "SELECT * FROM approvals ORDER BY CASE state WHEN 'open' THEN 0 ELSE 1 END, created DESC, id DESC \
                   LIMIT $1";
        let read = |found: &dyn Columns| row::approval(found).map(|kept| kept.approval);
        self.all(sql, values![limit], read).await
    }

    async fn open_approvals(&self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT id FROM approvals WHERE state = 'open'";
        let read = |found: &dyn Columns| row::id(found, "approval");
        self.all(sql, Vec::new(), read).await
    }

    async fn overdue_approvals(&self, now: Timestamp, limit: u32) -> Result<Vec<KeptApproval>, StoreError> {
        let sql = "SELECT * FROM approvals WHERE state IN ('open', 'approved') AND expires <= $1 \
                   ORDER BY expires LIMIT $2";
        let values = values![row::nanoseconds(now)?, limit];
        self.all(sql, values, row::approval).await
    }
}
