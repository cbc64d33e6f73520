//! The store in an SQLite file.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gateway_core::services::StoreError;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};

use crate::database::{Database, Failure, Topic, Value, bound, columns};
use crate::store::SqlStore;

/// How long a statement waits for another process that writes.
const BUSY: Duration = Duration::from_secs(5);
/// How long a call waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(10);
/// Connections: SQLite has one writer, the others read.
const CONNECTIONS: u32 = 4;

/// An SQLite file that is open.
#[derive(Debug, Clone)]
pub struct SqliteFile {
    pool: SqlitePool,
}

/// Tokens, sessions and approvals in one SQLite file; several processes may have it open.
pub type SqliteStore = SqlStore<SqliteFile>;

impl SqlStore<SqliteFile> {
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
        crate::MIGRATIONS.run(&pool).await.map_err(|e| {
            named(
                &path,
                StoreError::Database(format!("it can't be brought up to date: {e}")),
            )
        })?;
        drop(lock);
        Ok(Self {
            database: SqliteFile { pool },
            sealing: Arc::default(),
        })
    }

    /// Ends all connections; what was written stays.
    pub async fn close(&self) {
        self.database.pool.close().await;
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

fn failure(error: sqlx::Error) -> Failure {
    match error.as_database_error() {
        Some(taken) if taken.is_unique_violation() => Failure::Taken(error.to_string()),
        _ => Failure::Store(failed(error)),
    }
}

columns!(SqliteRow);

#[async_trait]
impl Database for SqliteFile {
    type Row = SqliteRow;

    async fn execute(&self, sql: &'static str, values: Vec<Value>) -> Result<u64, Failure> {
        let done = bound!(sql, values).execute(&self.pool).await;
        Ok(done.map_err(failure)?.rows_affected())
    }

    /// There is one writer, so a statement that writes is alone.
    async fn execute_alone(&self, sql: &'static str, values: Vec<Value>) -> Result<u64, Failure> {
        self.execute(sql, values).await
    }

    async fn rows(&self, sql: &'static str, values: Vec<Value>) -> Result<Vec<SqliteRow>, Failure> {
        bound!(sql, values).fetch_all(&self.pool).await.map_err(failure)
    }

    /// Writes the file anew, and empties the log of what was written before.
    async fn scrub(&self) -> Result<(), Failure> {
        for sql in ["VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"] {
            sqlx::query(sql).execute(&self.pool).await.map_err(failure)?;
        }
        Ok(())
    }

    /// A file belongs to one gateway; there are no others.
    async fn tell(&self, _: Topic, _: &str) {}

    fn node(&self) -> Option<&str> {
        None
    }
}
