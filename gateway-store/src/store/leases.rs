//! The journal of leases, in a database.

use async_trait::async_trait;
use gateway_core::credentials::{LeaseRecord, LeaseStore, Slot};
use gateway_core::services::StoreError;
use gateway_core::session::SessionId;
use jiff::Timestamp;

use super::SqlStore;
use super::sealed::HANDLE;
use crate::database::{Database, Failure, Value, values};
use crate::row::{self, Found};

impl<D: Database> SqlStore<D> {
    /// A lease, column by column.
    fn values_of(&self, lease: &LeaseRecord) -> Result<Vec<Value>, StoreError> {
        Ok(values![
            &lease.id,
            &lease.kind,
            &lease.resource,
            lease.place.clone(),
            lease.session.to_string(),
            &lease.subject,
            row::nanoseconds(lease.created)?,
            row::nanoseconds(lease.expires)?,
            lease.state.as_str(),
            lease.attempts,
            row::nanoseconds(lease.due)?,
            lease.error.clone(),
            self.database.node().map(str::to_owned),
            lease
                .handle
                .as_deref()
                .map(|handle| self.sealed(&HANDLE, &lease.id, handle))
                .transpose()?,
        ])
    }
}

#[async_trait]
impl<D: Database> LeaseStore for SqlStore<D> {
    async fn installation(&self) -> Result<String, StoreError> {
        let read = |found: &Found<'_>| row::id(found, "installation");
        let sql = "SELECT id FROM installation WHERE one = 1";
        if let Some(id) = self.one(sql, Vec::new(), read).await? {
            return Ok(id);
        }
        // Of two who make one at the same time, the first's stays.
        let id = SessionId::generate().short();
        self.execute(
            "INSERT INTO installation (one, id) VALUES (1, $1) ON CONFLICT (one) DO NOTHING",
            values![id],
        )
        .await?;
        let kept = self.one(sql, Vec::new(), read).await?;
        kept.ok_or_else(|| StoreError::Database("the installation's name was not kept".to_owned()))
    }

    async fn put_lease(&self, lease: &LeaseRecord) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO leases (id, kind, resource, place, session, subject, created, expires, state, attempts, \
             due, error, node, handle) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
             ON CONFLICT (id) DO UPDATE SET expires = excluded.expires, state = excluded.state, \
             attempts = excluded.attempts, due = excluded.due, error = excluded.error, node = excluded.node, \
             handle = excluded.handle",
            self.values_of(lease)?,
        )
        .await?;
        Ok(())
    }

    async fn put_lease_with(&self, lease: &LeaseRecord, slot: &Slot) -> Result<bool, StoreError> {
        let sql = "INSERT INTO leases (id, kind, resource, place, session, subject, created, expires, state, attempts, \
                   due, error, node, handle, pool, slot) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
        let mut values = self.values_of(lease)?;
        values.extend(values![&slot.pool, &slot.name]);
        match self.database.execute(sql, values).await {
            Ok(_) => Ok(true),
            Err(Failure::Taken(_)) => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn remove_lease(&self, id: &str) -> Result<(), StoreError> {
        self.execute("DELETE FROM leases WHERE id = $1", values![id])
            .await
            .map(drop)
    }

    async fn has_lease(&self, id: &str) -> Result<bool, StoreError> {
        let read = |found: &Found<'_>| row::id(found, "lease");
        let found = self.one("SELECT id FROM leases WHERE id = $1", values![id], read);
        Ok(found.await?.is_some())
    }

    async fn claim_slot(&self, id: &str, slot: &Slot) -> Result<bool, StoreError> {
        // One that was returned meanwhile is about to be struck out by somebody who does not know of the slot.
        let sql = "UPDATE leases SET pool = $1, slot = $2 WHERE id = $3 AND state = 'held'";
        match self
            .database
            .execute(sql, values![&slot.pool, &slot.name, id])
            .await
        {
            Ok(0) => Err(StoreError::Database("the lease is not held any more".to_owned())),
            Ok(_) => Ok(true),
            Err(Failure::Taken(_)) => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn slot_of(&self, id: &str) -> Result<Option<Slot>, StoreError> {
        let sql = "SELECT pool, slot FROM leases WHERE id = $1 AND slot IS NOT NULL";
        self.one(sql, values![id], row::slot).await
    }

    async fn slots(&self, pool: &str) -> Result<Vec<String>, StoreError> {
        let read = |found: &Found<'_>| row::slot(found).map(|slot| slot.name);
        let sql = "SELECT pool, slot FROM leases WHERE pool = $1";
        self.all(sql, values![pool], read).await
    }

    async fn leases(&self, limit: u32) -> Result<Vec<LeaseRecord>, StoreError> {
        let sql = "SELECT * FROM leases ORDER BY CASE WHEN attempts > 0 THEN 0 ELSE 1 END, created DESC, id DESC \
                   LIMIT $1";
        self.listed(sql, values![limit], row::lease).await
    }

    async fn take_returned(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<LeaseRecord>, StoreError> {
        let own = self.database.node().map(str::to_owned);
        let now = row::nanoseconds(now)?;
        // Looked at again by the UPDATE itself: of two gateways one gets a lease. What is due in ten minutes or later was
        // put off by a clock that was set back since.
        let sql = "UPDATE leases SET due = $1, node = $2 WHERE state = 'returned' \
                   AND (due <= $3 OR due > $3 + 600000000000) \
                   AND id IN (SELECT id FROM leases WHERE state = 'returned' \
                   AND (due <= $3 OR due > $3 + 600000000000) \
                   AND (node IS NULL OR node = $2 OR NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.id = leases.node)) \
                   ORDER BY due, id LIMIT $4) RETURNING *";
        self.readable(
            sql,
            values![row::nanoseconds(until)?, own, now, limit],
            row::lease,
        )
        .await
    }

    async fn return_orphans(&self, now: Timestamp, own: bool) -> Result<u64, StoreError> {
        let own = own.then(|| self.database.node().unwrap_or_default().to_owned());
        // Where one gateway has the store alone, its leases are of no node: only a start may count them as orphans.
        self.execute(
            "UPDATE leases SET state = 'returned', due = $1 WHERE state = 'held' \
             AND (coalesce(node, '') = $2 \
             OR (node IS NOT NULL AND NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.id = leases.node)))",
            values![row::nanoseconds(now)?, own],
        )
        .await
    }
}
