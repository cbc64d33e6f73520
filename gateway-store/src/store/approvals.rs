//! Approvals in a database.

use async_trait::async_trait;
use gateway_core::approval::Approval;
use gateway_core::services::{ApprovalRoom, ApprovalStore, Inserted, KeptApproval, StoreError};
use jiff::Timestamp;

use super::SqlStore;
use super::sealed::APPROVAL;
use crate::database::{Database, Failure, Topic, values};
use crate::row::{self, Found};

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
            self.sealed(&APPROVAL, &approval.id, &row::json(approval)?)?,
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
            .await;
        match inserted {
            Ok(0) | Err(Failure::Taken(_)) => {}
            Ok(_) => return Ok(Inserted::New),
            // Where the answer was lost on its way, it may have been kept all the same.
            Err(Failure::Store(error)) => {
                return match self.approval(&approval.id).await {
                    Ok(Some(kept)) if kept.approval == *approval => Ok(Inserted::New),
                    _ => Err(error),
                };
            }
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
        let values = values![
            next.state.as_str(),
            self.sealed(&APPROVAL, &next.id, &row::json(next)?)?,
            row::nanoseconds(next.expires)?,
            &next.id,
            revision
        ];
        let sql = "UPDATE approvals SET state = $1, record = $2, expires = $3, revision = revision + 1 \
                   WHERE id = $4 AND revision = $5";
        match self.database.execute(sql, values).await {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            // It would be live again, and there is another live one of its digest by now.
            Err(Failure::Taken(_)) => return Ok(false),
            // Where the answer was lost on its way, it may have been done all the same. What each puts there says who did
            // it and when, so that it can be told from what another did.
            Err(Failure::Store(error)) => match self.approval(&next.id).await {
                Ok(Some(kept))
                    if revision.checked_add(1) == Some(kept.revision) && kept.approval == *next => {}
                _ => return Err(error),
            },
        }
        self.database.tell(Topic::Approval, &next.id).await;
        Ok(true)
    }

    async fn approvals(&self, limit: u32) -> Result<Vec<Approval>, StoreError> {
        let sql = "SELECT * FROM approvals ORDER BY CASE state WHEN 'open' THEN 0 ELSE 1 END, created DESC, id DESC \
                   LIMIT $1";
        let read = |found: &Found<'_>| row::approval(found).map(|kept| kept.approval);
        self.listed(sql, values![limit], read).await
    }

    async fn open_approvals(&self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT id FROM approvals WHERE state = 'open'";
        let read = |found: &Found<'_>| row::id(found, "approval");
        self.all(sql, Vec::new(), read).await
    }

    async fn granted_approvals(&self, now: Timestamp, limit: u32) -> Result<Vec<Approval>, StoreError> {
        let sql =
            "SELECT * FROM approvals WHERE state = 'approved' AND expires > $1 ORDER BY created, id LIMIT $2";
        let read = |found: &Found<'_>| row::approval(found).map(|kept| kept.approval);
        let now = row::nanoseconds(now)?;
        let (mut found, _) = self.first(sql, |limit| values![now, limit], limit, read).await?;
        found.retain(|approval| approval.grant.is_some());
        Ok(found)
    }

    async fn overdue_approvals(&self, now: Timestamp, limit: u32) -> Result<Vec<KeptApproval>, StoreError> {
        let sql = "SELECT * FROM approvals WHERE state IN ('open', 'approved') AND expires <= $1 \
                   ORDER BY expires LIMIT $2";
        let now = row::nanoseconds(now)?;
        let (found, faulty) = self
            .first(sql, |limit| values![now, limit], limit, row::approval)
            .await?;
        // Nobody can decide those, and while they count as live nobody can ask for the same again.
        for (id, _) in faulty {
            let sql = "UPDATE approvals SET state = 'expired', revision = revision + 1 \
                       WHERE id = $1 AND state IN ('open', 'approved') AND expires <= $2";
            self.execute(sql, values![id, now]).await?;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use gateway_core::approval::ApprovalState;
    use gateway_core::principal::{Principal, PrincipalKind};
    use gateway_core::session::SessionId;
    use sqlx::sqlite::SqliteRow;

    use super::*;
    use crate::SqliteStore;
    use crate::database::Value;
    use crate::sqlite::SqliteFile;

    /// A database whose answers to what writes may be lost.
    struct Loses {
        inner: SqliteFile,
        answers: AtomicBool,
        writes: AtomicBool,
    }

    #[async_trait]
    impl Database for Loses {
        type Row = SqliteRow;

        async fn execute(&self, sql: &'static str, values: Vec<Value>) -> Result<u64, Failure> {
            let lost = || Failure::Store(StoreError::Database("lost".to_owned()));
            if !self.writes.load(Ordering::SeqCst) {
                return Err(lost());
            }
            let done = self.inner.execute(sql, values).await;
            if self.answers.load(Ordering::SeqCst) {
                done
            } else {
                Err(lost())
            }
        }
        async fn execute_alone(&self, sql: &'static str, values: Vec<Value>) -> Result<u64, Failure> {
            self.execute(sql, values).await
        }
        async fn rows(&self, sql: &'static str, values: Vec<Value>) -> Result<Vec<SqliteRow>, Failure> {
            self.inner.rows(sql, values).await
        }
        async fn scrub(&self) -> Result<(), Failure> {
            Ok(())
        }
        async fn tell(&self, _: Topic, _: &str) {}
        fn node(&self) -> Option<&str> {
            None
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_lost_leaves_no_doubt_of_what_was_done() {
        let dir = tempfile::tempdir().unwrap();
        let inner = SqliteStore::open(dir.path().join("gateway.db")).await.unwrap();
        let store = SqlStore {
            database: Loses {
                inner: inner.database,
                answers: AtomicBool::new(false),
                writes: AtomicBool::new(true),
            },
            sealing: Arc::default(),
        };
        let time = Timestamp::UNIX_EPOCH;
        let one = Approval {
            id: "apr_1".to_owned(),
            digest: "d".to_owned(),
            state: ApprovalState::Open,
            principal: Principal::new("alice", PrincipalKind::Human),
            resource: "db".to_owned(),
            operation: "write t".to_owned(),
            asked: Vec::new(),
            statement: None,
            parameters: Vec::new(),
            stands_for: Vec::new(),
            reason: None,
            groups: std::collections::BTreeSet::new(),
            approvers: 1,
            rules: Vec::new(),
            policy: "v1".to_owned(),
            session: SessionId::generate(),
            created: time,
            expires: time,
            votes: Vec::new(),
            used_by: None,
            note: None,
            estimate: None,
            grant: None,
        };
        let room = ApprovalRoom { principal: 1, all: 1 };
        assert_eq!(store.insert_approval(&one, room).await.unwrap(), Inserted::New);
        let used = |by: &str| Approval {
            state: ApprovalState::Used,
            used_by: Some(by.to_owned()),
            ..one.clone()
        };
        // The first did it, whatever it was told; the second did not.
        assert!(store.swap_approval(0, &used("s/1")).await.unwrap());
        store.swap_approval(0, &used("s/2")).await.unwrap_err();
        assert_eq!(
            store.approval("apr_1").await.unwrap().unwrap().approval,
            used("s/1")
        );
        // What was not written is not taken for written.
        store.database.writes.store(false, Ordering::SeqCst);
        store.swap_approval(1, &used("s/3")).await.unwrap_err();
        let two = Approval {
            id: "apr_2".to_owned(),
            digest: "e".to_owned(),
            ..one.clone()
        };
        store.insert_approval(&two, room).await.unwrap_err();
    }
}
