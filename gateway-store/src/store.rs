//! The store on a database, whichever it is.

use std::sync::Arc;

use async_trait::async_trait;
use gateway_core::machine::Kill;
use gateway_core::sealing::Sealing;
use gateway_core::services::{SessionFilter, Store, StoreError, TokenRecord};
use gateway_core::session::{SessionId, SessionRecord};
use jiff::{SignedDuration, Timestamp};

use crate::database::{Columns, Database, Topic, Value, values};
use crate::row::{self, Found};

/// How far behind what can't be read one looks for what can.
const MOST: u32 = 10_000;

mod approvals;
mod leases;
mod outbox;
pub(crate) mod sealed;

/// For how long certificates of clients are kept that are over.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// Tokens, sessions and approvals in a database `D`. Cheap to clone where `D` is.
#[derive(Debug, Clone)]
pub struct SqlStore<D> {
    pub(crate) database: D,
    /// What must not be read in it is sealed with these keys.
    pub(crate) sealing: Arc<Sealing>,
}

impl<D: Database> SqlStore<D> {
    /// Forgets ended sessions but the `keep` that ended last; returns how many were forgotten.
    pub async fn prune(&self, keep: u32) -> Result<u64, StoreError> {
        self.execute(
            "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE ended IS NOT NULL \
             ORDER BY ended DESC, id DESC LIMIT 9223372036854775807 OFFSET $1)",
            values![keep],
        )
        .await
    }

    pub(crate) async fn execute(&self, sql: &'static str, values: Vec<Value>) -> Result<u64, StoreError> {
        Ok(self.database.execute(sql, values).await?)
    }

    /// All rows of a query, each read by `read`.
    pub(crate) async fn all<T>(
        &self,
        sql: &'static str,
        values: Vec<Value>,
        read: impl Fn(&Found<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let found = self.database.rows(sql, values).await?;
        found
            .iter()
            .map(|row| {
                read(&Found {
                    row,
                    sealing: &self.sealing,
                })
            })
            .collect()
    }

    /// The rows of a query that can be read, and the ids of those that can't, since a key is not there or somebody changed them.
    /// These are named in the log: they must neither hide the others, nor keep them from what is due.
    async fn apart<T>(
        &self,
        sql: &'static str,
        values: Vec<Value>,
        read: impl Fn(&Found<'_>) -> Result<T, StoreError>,
    ) -> Result<(Vec<T>, Vec<(String, StoreError)>), StoreError> {
        let found = self.database.rows(sql, values).await?;
        let (mut records, mut faulty) = (Vec::with_capacity(found.len()), Vec::new());
        for row in &found {
            let sealing = &self.sealing;
            match read(&Found { row, sealing }) {
                Ok(record) => records.push(record),
                Err(StoreError::Corrupt(why)) => {
                    tracing::error!(
                        "left out what can't be read: {why}; `gateway secrets status` counts what does not open"
                    );
                    let id = row.text("id").ok().flatten().unwrap_or_default();
                    faulty.push((id.to_owned(), StoreError::Corrupt(why)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok((records, faulty))
    }

    /// What can be read of a query, for who acts on it: what can't is as if it were not there, and gives nobody anything.
    pub(crate) async fn readable<T>(
        &self,
        sql: &'static str,
        values: Vec<Value>,
        read: impl Fn(&Found<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        Ok(self.apart(sql, values, read).await?.0)
    }

    /// The same for people who look at a list. Where nothing at all opens a key is missing, and an empty list would be a lie.
    pub(crate) async fn listed<T>(
        &self,
        sql: &'static str,
        values: Vec<Value>,
        read: impl Fn(&Found<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let (records, faulty) = self.apart(sql, values, read).await?;
        match faulty.into_iter().next() {
            Some((_, error)) if records.is_empty() => Err(error),
            _ => Ok(records),
        }
    }

    /// The first `limit` of what can be read, for queries whose last value is their limit: what can't be read and comes first
    /// keeps nothing from its turn.
    pub(crate) async fn first<T>(
        &self,
        sql: &'static str,
        values: impl Fn(u32) -> Vec<Value>,
        limit: u32,
        read: impl Fn(&Found<'_>) -> Result<T, StoreError>,
    ) -> Result<(Vec<T>, Vec<(String, StoreError)>), StoreError> {
        let mut asked = limit;
        loop {
            let (mut records, faulty) = self.apart(sql, values(asked), &read).await?;
            let (good, bad) = (records.len(), faulty.len());
            let most = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            if most(good) >= limit || most(good.saturating_add(bad)) < asked || asked >= MOST {
                records.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
                return Ok((records, faulty));
            }
            asked = limit
                .saturating_add(most(bad))
                .max(asked.saturating_mul(2))
                .min(MOST);
        }
    }

    /// The one row of a query that finds at most one.
    pub(crate) async fn one<T>(
        &self,
        sql: &'static str,
        values: Vec<Value>,
        read: impl Fn(&Found<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let found = self.database.rows(sql, values).await?;
        let read = |row| {
            read(&Found {
                row,
                sealing: &self.sealing,
            })
        };
        found.first().map(|row| read(row as &dyn Columns)).transpose()
    }
}

#[async_trait]
impl<D: Database> Store for SqlStore<D> {
    async fn insert_token(&self, token: &TokenRecord) -> Result<(), StoreError> {
        let key = token.key.as_ref();
        let values = values![
            &token.id,
            &token.hash,
            self.sealed(&sealed::SCRAM, &token.id, &token.scram)?,
            row::json(&token.principal)?,
            token.resources.as_ref().map(row::json).transpose()?,
            row::nanoseconds(token.created)?,
            row::nanoseconds(token.expires)?,
            token.revoked.map(row::nanoseconds).transpose()?,
            key.map(|key| key.fingerprint.clone()),
            i64::from(key.is_some_and(|key| key.certified)),
            key.and_then(|key| key.parent.clone()),
        ];
        self.execute(
            "INSERT INTO tokens (id, hash, scram, principal, resources, created, expires, revoked, \
             key_fingerprint, key_certified, parent) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            values,
        )
        .await?;
        if key.is_some_and(|key| key.certified) {
            // There may be one for each connection of a client; the trail has all.
            let over = token
                .created
                .saturating_sub(KEPT)
                .map_err(|e| StoreError::Database(e.to_string()))?;
            let sql = "DELETE FROM tokens WHERE key_certified = 1 AND expires < $1";
            self.execute(sql, values![row::nanoseconds(over)?]).await?;
        }
        Ok(())
    }

    async fn key_tokens(&self, fingerprint: &str) -> Result<Vec<TokenRecord>, StoreError> {
        let sql = "SELECT * FROM tokens WHERE key_fingerprint = $1 \
                   ORDER BY key_certified, (revoked IS NOT NULL), expires DESC, id LIMIT 32";
        self.readable(sql, values![fingerprint], row::token).await
    }

    async fn token(&self, id: &str) -> Result<Option<TokenRecord>, StoreError> {
        self.one("SELECT * FROM tokens WHERE id = $1", values![id], row::token)
            .await
    }

    async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        let sql = "SELECT * FROM tokens ORDER BY created DESC, id DESC";
        self.listed(sql, Vec::new(), row::token).await
    }

    async fn revoke_token(&self, id: &str, at: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE tokens SET revoked = $1 WHERE id = $2 AND revoked IS NULL";
        Ok(self.execute(sql, values![row::nanoseconds(at)?, id]).await? > 0)
    }

    async fn put_session(&self, session: &SessionRecord) -> Result<(), StoreError> {
        let values = values![
            session.id.to_string(),
            row::json(&session.principal)?,
            &session.resource,
            &session.protocol,
            session.detail.clone(),
            session.peer.to_string(),
            row::nanoseconds(session.started)?,
            session.ended.map(row::nanoseconds).transpose()?,
            session.reason.clone(),
            row::counter(session.operations),
            row::counter(session.refused),
            row::counter(session.rows),
            row::counter(session.bytes),
            self.database.node().map(str::to_owned),
        ];
        // An end stays: a state of before that comes late does not make a session run again. But an end that others only
        // presumed, because its gateway gave no sign of life, gives way to what that gateway says.
        self.execute(
            "INSERT INTO sessions (id, principal, resource, protocol, detail, peer, started, ended, reason, \
             operations, refused, row_count, byte_count, node) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
             ON CONFLICT (id) DO UPDATE SET principal = excluded.principal, resource = excluded.resource, \
             protocol = excluded.protocol, detail = excluded.detail, peer = excluded.peer, \
             started = excluded.started, ended = excluded.ended, reason = excluded.reason, \
             operations = excluded.operations, refused = excluded.refused, \
             row_count = excluded.row_count, byte_count = excluded.byte_count, \
             node = excluded.node, presumed = 0 \
             WHERE sessions.ended IS NULL OR excluded.ended IS NOT NULL OR sessions.presumed = 1",
            values,
        )
        .await?;
        Ok(())
    }

    async fn session(&self, id: SessionId) -> Result<Option<SessionRecord>, StoreError> {
        let sql = "SELECT * FROM sessions WHERE id = $1";
        self.one(sql, values![id.to_string()], row::session).await
    }

    async fn sessions(&self, filter: SessionFilter, limit: u32) -> Result<Vec<SessionRecord>, StoreError> {
        let sql = match filter {
            SessionFilter::Live => {
                "SELECT * FROM sessions WHERE ended IS NULL ORDER BY started DESC, id DESC LIMIT $1"
            }
            SessionFilter::Recent => "SELECT * FROM sessions ORDER BY started DESC, id DESC LIMIT $1",
        };
        self.all(sql, values![limit], row::session).await
    }

    async fn close_orphans(&self, at: Timestamp, reason: &str) -> Result<u64, StoreError> {
        // Where one gateway has the store alone, there are no nodes.
        self.execute(
            "UPDATE sessions SET ended = $1, reason = $2, presumed = 1 WHERE ended IS NULL \
             AND (node = $3 OR NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.id = sessions.node))",
            values![
                row::nanoseconds(at)?,
                reason,
                self.database.node().map(str::to_owned)
            ],
        )
        .await
    }

    async fn end_elsewhere(&self, id: SessionId, kill: &Kill) -> Result<bool, StoreError> {
        let Some(own) = self.database.node() else {
            return Ok(false);
        };
        let id = id.to_string();
        let asked = serde_json::to_string(kill).map_err(|e| StoreError::Database(e.to_string()))?;
        let sql = "INSERT INTO session_ends (session, node, asked) SELECT id, node, $3 FROM sessions \
                   WHERE id = $1 AND ended IS NULL AND node <> $2 \
                   ON CONFLICT (session) DO UPDATE SET node = excluded.node, asked = excluded.asked";
        if self.execute(sql, values![&id, own, asked]).await? == 0 {
            return Ok(false);
        }
        let sql = "SELECT node AS id FROM session_ends WHERE session = $1";
        let read = |found: &Found<'_>| row::id(found, "session end");
        if let Some(node) = self.one(sql, values![&id], read).await? {
            self.database.tell(Topic::SessionEnd, &node).await;
        }
        Ok(true)
    }
}
