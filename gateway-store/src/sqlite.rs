//! The store in an SQLite file.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use gateway_core::services::{SessionFilter, Store, StoreError, TokenRecord};
use gateway_core::session::{SessionId, SessionRecord};
use jiff::Timestamp;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use crate::row;

mod approvals;

/// How long a statement waits for another process that writes.
const BUSY: Duration = Duration::from_secs(5);
/// How long a call waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(10);
/// Connections: SQLite has one writer, the others read.
const CONNECTIONS: u32 = 4;

/// Tokens, sessions and approvals in one SQLite file; several processes may have it open.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    pool: SqlitePool,
}

impl SqliteStore {
    /// Opens the store at `path`, makes it where it isn't there, and brings it up to date. Only its owner may read
    /// it. Every commit is on disk when the call returns (WAL, `synchronous = FULL`).
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        let lock = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || prepare(&path))
                .await
                .map_err(|e| StoreError::Database(e.to_string()))??
        };
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE)
            .connect_with(options)
            .await
            .map_err(|e| named(&path, failed(e)))?;
        sqlx::migrate!().run(&pool).await.map_err(|e| {
            named(
                &path,
                StoreError::Database(format!("it can't be brought up to date: {e}")),
            )
        })?;
        drop(lock);
        Ok(Self { pool })
    }

    /// Forgets ended sessions but the `keep` that ended last; returns how many were forgotten.
    pub async fn prune(&self, keep: u32) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE ended IS NOT NULL \
             ORDER BY ended DESC, id DESC LIMIT -1 OFFSET ?)",
        )
        .bind(i64::from(keep))
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(done.rows_affected())
    }

    /// Ends all connections; what was written stays.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Makes the file with its mode before SQLite would (its WAL gets the same), and takes the lock under which one
/// process at a time changes the schema.
fn prepare(path: &Path) -> Result<File, StoreError> {
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |e: std::io::Error| named(&path, StoreError::Database(e.to_string()))
    };
    let open = |path: &Path| {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(refused(path))
    };
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    let lock = open(&lock_path)?;
    lock.lock().map_err(refused(&lock_path))?;
    open(path)?.sync_all().map_err(refused(path))?;
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(refused(dir))?;
    Ok(lock)
}

fn named(path: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Database(why) => StoreError::Database(format!("`{}`: {why}", path.display())),
        StoreError::Corrupt(why) => StoreError::Corrupt(format!("`{}`: {why}", path.display())),
    }
}

/// SQLite's CORRUPT and NOTADB tell of what is stored, all else of the database.
fn failed(error: sqlx::Error) -> StoreError {
    let code = error
        .as_database_error()
        .and_then(|e| e.code())
        .and_then(|code| code.parse::<u32>().ok());
    match code {
        Some(code) if matches!(code & 0xff, 11 | 26) => StoreError::Corrupt(error.to_string()),
        _ => StoreError::Database(error.to_string()),
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn insert_token(&self, token: &TokenRecord) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO tokens (id, hash, scram, principal, resources, created, expires, revoked) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&token.id)
        .bind(&token.hash)
        .bind(&token.scram)
        .bind(row::json(&token.principal)?)
        .bind(token.resources.as_ref().map(row::json).transpose()?)
        .bind(row::nanoseconds(token.created)?)
        .bind(row::nanoseconds(token.expires)?)
        .bind(token.revoked.map(row::nanoseconds).transpose()?)
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn token(&self, id: &str) -> Result<Option<TokenRecord>, StoreError> {
        let found = sqlx::query("SELECT * FROM tokens WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        found.as_ref().map(row::token).transpose()
    }

    async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        let found = sqlx::query("SELECT * FROM tokens ORDER BY created DESC, id DESC")
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        found.iter().map(row::token).collect()
    }

    async fn revoke_token(&self, id: &str, at: Timestamp) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE tokens SET revoked = ? WHERE id = ? AND revoked IS NULL")
            .bind(row::nanoseconds(at)?)
            .bind(id)
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(done.rows_affected() > 0)
    }

    async fn put_session(&self, session: &SessionRecord) -> Result<(), StoreError> {
        // An end stays: a state of before that comes late does not make a session run again.
        sqlx::query(
            "INSERT INTO sessions (id, principal, resource, protocol, detail, peer, started, ended, reason, \
             operations, refused, row_count, byte_count) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT (id) DO UPDATE SET principal = excluded.principal, resource = excluded.resource, \
             protocol = excluded.protocol, detail = excluded.detail, peer = excluded.peer, \
             started = excluded.started, ended = excluded.ended, reason = excluded.reason, \
             operations = excluded.operations, refused = excluded.refused, \
             row_count = excluded.row_count, byte_count = excluded.byte_count \
             WHERE sessions.ended IS NULL OR excluded.ended IS NOT NULL",
        )
        .bind(session.id.to_string())
        .bind(row::json(&session.principal)?)
        .bind(&session.resource)
        .bind(&session.protocol)
        .bind(&session.detail)
        .bind(session.peer.to_string())
        .bind(row::nanoseconds(session.started)?)
        .bind(session.ended.map(row::nanoseconds).transpose()?)
        .bind(&session.reason)
        .bind(row::counter(session.operations))
        .bind(row::counter(session.refused))
        .bind(row::counter(session.rows))
        .bind(row::counter(session.bytes))
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn session(&self, id: SessionId) -> Result<Option<SessionRecord>, StoreError> {
        let found = sqlx::query("SELECT * FROM sessions WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        found.as_ref().map(row::session).transpose()
    }

    async fn sessions(&self, filter: SessionFilter, limit: u32) -> Result<Vec<SessionRecord>, StoreError> {
        let query = match filter {
            SessionFilter::Live => {
                "SELECT * FROM sessions WHERE ended IS NULL ORDER BY started DESC, id DESC LIMIT ?"
            }
            SessionFilter::Recent => "SELECT * FROM sessions ORDER BY started DESC, id DESC LIMIT ?",
        };
        let found = sqlx::query(query)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        found.iter().map(row::session).collect()
    }

    async fn close_orphans(&self, at: Timestamp, reason: &str) -> Result<u64, StoreError> {
        let done = sqlx::query("UPDATE sessions SET ended = ?, reason = ? WHERE ended IS NULL")
            .bind(row::nanoseconds(at)?)
            .bind(reason)
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(done.rows_affected())
    }
}
