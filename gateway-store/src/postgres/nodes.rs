//! The gateways that share a store. Each is a row with a heartbeat by the server's clock, so that nobody's own clock
//! counts; one without a heartbeat for [`DEAD`] is gone, and its sessions with it.

use std::time::Duration;

use gateway_core::machine::Kill;
use gateway_core::services::StoreError;
use gateway_core::session::SessionId;
use jiff::Timestamp;

use super::PostgresServer;
use crate::database::{Database, values};
use crate::row::{self, Found};
use crate::store::SqlStore;

/// A gateway whose last heartbeat is older is gone.
pub const DEAD: Duration = Duration::from_secs(15);

/// Why a gateway does not become a node.
#[derive(Debug, thiserror::Error)]
pub enum NotJoined {
    /// It has other keys than those that run.
    #[error(
        "the gateway `{0}` on the same store has other keys: copy `mask.key` and `scram.key` from its data directory \
         into this one, so that masks and logins are the same on all"
    )]
    OtherKeys(String),
    /// It seals with a key that one that runs has not, or the other way round.
    #[error(
        "the gateway `{0}` on the same store could not open what this one seals, or this one what that one seals: a new key is \
         first given to all gateways behind the old one in `secrets.keys`, and put first only then; the first key of all is given \
         to all while none runs"
    )]
    OtherSealing(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Binds this gateway's id, which whoever calls these has.
macro_rules! own {
    ($store:expr) => {
        $store.database.node().unwrap_or_default()
    };
}

impl SqlStore<PostgresServer> {
    /// Becomes one of the gateways of this store, unless one that runs has other keys; `keys` is a fingerprint.
    pub async fn join(&self, keys: &str) -> Result<(), NotJoined> {
        // Of two that start at the same time one comes first, and the other sees it.
        let sealing = self.sealing.names().join(" ");
        let sql = "INSERT INTO nodes (id, keys, started, heartbeat, sealing) \
             SELECT $1, $2, clock.now, clock.now, $4 \
             FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint AS now) AS clock \
             WHERE NOT EXISTS (SELECT 1 FROM nodes WHERE id <> $1 AND heartbeat > clock.now - $3 AND (keys <> $2 \
             OR position(split_part($4, ' ', 1) IN coalesce(sealing, '')) = 0 \
             OR position(split_part(coalesce(sealing, ''), ' ', 1) IN $4) = 0)) \
             ON CONFLICT (id) DO UPDATE SET keys = excluded.keys, started = excluded.started, \
             heartbeat = excluded.heartbeat, sealing = excluded.sealing";
        let joined = self
            .database
            .execute_alone(sql, values![own!(self), keys, dead(), sealing])
            .await
            .map_err(StoreError::from)?;
        if joined > 0 {
            return Ok(());
        }
        let sql = "SELECT id FROM nodes WHERE keys <> $1 ORDER BY heartbeat DESC LIMIT 1";
        let read = |found: &Found<'_>| row::id(found, "node");
        if let Some(other) = self.one(sql, values![keys], read).await? {
            return Err(NotJoined::OtherKeys(other));
        }
        let sql = "SELECT id FROM nodes WHERE id <> $1 ORDER BY heartbeat DESC LIMIT 1";
        let other = self.one(sql, values![own!(self)], read).await?;
        Err(NotJoined::OtherSealing(other.unwrap_or_default()))
    }

    /// A gateway that runs on this store and has not the first of these keys; `None`: there is none.
    pub async fn without_key(&self, keys: &[&str]) -> Result<Option<String>, StoreError> {
        let Some(first) = keys.first() else {
            return Ok(None);
        };
        let sql = "SELECT id FROM nodes WHERE id <> $1 AND position($2 IN coalesce(sealing, '')) = 0 \
             AND heartbeat > (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint - $3 LIMIT 1";
        let read = |found: &Found<'_>| row::id(found, "node");
        self.one(sql, values![own!(self), *first, dead()], read).await
    }

    /// A gateway that runs on this store and seals with another key than the first of these; `None`: there is none.
    pub async fn with_another_first(&self, keys: &[&str]) -> Result<Option<String>, StoreError> {
        let Some(first) = keys.first() else {
            return Ok(None);
        };
        let sql = "SELECT id FROM nodes WHERE id <> $1 AND split_part(coalesce(sealing, ''), ' ', 1) <> $2 \
             AND heartbeat > (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint - $3 LIMIT 1";
        let read = |found: &Found<'_>| row::id(found, "node");
        self.one(sql, values![own!(self), *first, dead()], read).await
    }

    /// A sign of life. `false`: others have counted this gateway as gone; it must [`join`](Self::join) again.
    pub async fn beat(&self) -> Result<bool, StoreError> {
        let sql = "UPDATE nodes SET heartbeat = (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint WHERE id = $1";
        Ok(self.execute(sql, values![own!(self)]).await? > 0)
    }

    /// Strikes out gateways that are gone, and ends their sessions in the list; returns how many sessions. Only who has
    /// been seen by the server for [`DEAD`] without a gap may do this: after an outage of the server nobody's heartbeat is
    /// fresh.
    pub async fn bury(&self, at: Timestamp, reason: &str) -> Result<u64, StoreError> {
        // One statement: a gateway that beats in this moment is either gone with its sessions or not at all.
        let sql = "WITH gone AS (DELETE FROM nodes WHERE id <> $1 \
             AND heartbeat < (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint - $2 RETURNING id) \
             UPDATE sessions SET ended = $3, reason = $4, presumed = 1 \
             WHERE ended IS NULL AND (node IS NULL OR node IN (SELECT id FROM gone) \
             OR NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.id = sessions.node))";
        let ended = self
            .execute(sql, values![own!(self), dead(), row::nanoseconds(at)?, reason])
            .await?;
        let sql = "DELETE FROM session_ends WHERE NOT EXISTS \
                   (SELECT 1 FROM sessions WHERE sessions.id = session_ends.session AND sessions.ended IS NULL)";
        self.execute(sql, Vec::new()).await?;
        Ok(ended)
    }

    /// Is none of the gateways of this store any more.
    pub async fn leave(&self) -> Result<(), StoreError> {
        self.execute("DELETE FROM nodes WHERE id = $1", values![own!(self)])
            .await
            .map(drop)
    }

    /// The sessions of this gateway that others have asked to end, with who asks; each is given once.
    pub async fn take_ends(&self) -> Result<Vec<(SessionId, Kill)>, StoreError> {
        let sql = "DELETE FROM session_ends WHERE node = $1 RETURNING session AS id, asked";
        self.all(sql, values![own!(self)], row::session_end).await
    }

    /// The sessions of this gateway that run, as the store has it.
    pub async fn own_sessions(&self) -> Result<Vec<SessionId>, StoreError> {
        let sql = "SELECT id FROM sessions WHERE node = $1 AND ended IS NULL";
        self.all(sql, values![own!(self)], row::session_id).await
    }
}

fn dead() -> i64 {
    i64::try_from(DEAD.as_nanos()).unwrap_or(i64::MAX)
}
