//! The store on a PostgreSQL server, shared by several gateways.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gateway_core::services::StoreError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions, PgRow};
use sqlx::{Connection, Executor, Postgres};

use crate::database::{Database, Failure, Topic, Value, bound, columns};
use crate::store::SqlStore;

mod errors;
mod listen;
mod nodes;
mod url;

use errors::{failure, opening};
pub use listen::Told;
pub use nodes::{DEAD, NotJoined};
pub use url::{StoreUrl, UnusableUrl};

/// Connections of one gateway, beside the one that listens.
const CONNECTIONS: u32 = 8;
/// How long a call waits for a connection; so long it takes, too, until one learns that the server is away.
const ACQUIRE: Duration = Duration::from_secs(5);
/// How long the server has for an answer. The server itself gives up before.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a start waits for the server, and for others who bring the schema up to date.
const OPEN: Duration = Duration::from_secs(30);
/// What every connection begins with: bounds; the isolation for which the statements are written; and no commit that is
/// told before it is on disk.
const BEGIN: &str = "SELECT set_config('statement_timeout', '8s', false), set_config('lock_timeout', '5s', false), \
     set_config('idle_in_transaction_session_timeout', '20s', false), \
     set_config('default_transaction_isolation', 'read committed', false), \
     set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' \
     ELSE current_setting('synchronous_commit') END, false)";
/// The advisory lock of what must be alone. Any number; it is this gateway's.
const ALONE: i64 = 0x6761_7465_7761_7931;

/// A PostgreSQL server to which connections are kept.
#[derive(Clone)]
pub struct PostgresServer {
    pool: PgPool,
    url: StoreUrl,
    node: Option<Arc<str>>,
}

impl std::fmt::Debug for PostgresServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresServer")
            .field("url", &self.url)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// Tokens, sessions and approvals in a PostgreSQL database that several gateways share.
pub type PostgresStore = SqlStore<PostgresServer>;

impl SqlStore<PostgresServer> {
    /// Opens the store at `url` and brings its tables up to date.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`] says what to do: the server can't be reached, refuses the login, has no such database, or
    /// the login may not make tables.
    pub async fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        match tokio::time::timeout(OPEN, Self::connect(url)).await {
            Ok(opened) => opened,
            Err(_) => Err(StoreError::Database(format!(
                "PostgreSQL at `{}` has not answered within {} s",
                url.place(),
                OPEN.as_secs()
            ))),
        }
    }

    async fn connect(url: &StoreUrl) -> Result<Self, StoreError> {
        // A pool would only say that it waited.
        let mut first = PgConnection::connect_with(&url.options())
            .await
            .map_err(|error| opening(url, &error))?;
        check(&mut first, url).await?;
        // A connection that does not close in order is closed by its socket.
        let _ = first.close().await;
        let alone = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE)
            .connect_lazy_with(url.options());
        let migrated = crate::MIGRATIONS.run(&alone).await;
        alone.close().await;
        migrated.map_err(|error| {
            StoreError::Database(format!(
                "the tables in `{}` can't be brought up to date: {error}; `{}` must own them, or be allowed to make \
                 them: GRANT CREATE ON SCHEMA public TO ...",
                url.place(),
                url.user()
            ))
        })?;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE)
            .after_connect(|connection, _| Box::pin(async move { connection.execute(BEGIN).await.map(drop) }))
            .connect_lazy_with(url.options());
        Ok(Self {
            database: PostgresServer {
                pool,
                url: url.clone(),
                node: None,
            },
            sealing: Arc::default(),
        })
    }

    /// The same store, as the gateway of that id sees it: sessions that it puts there are its own.
    pub fn as_node(&self, id: &str) -> Self {
        Self {
            database: PostgresServer {
                node: Some(id.into()),
                ..self.database.clone()
            },
            sealing: self.sealing.clone(),
        }
    }

    /// Ends all connections; what was written stays.
    pub async fn close(&self) {
        self.database.pool.close().await;
    }
}

/// Refuses a database that can't keep what it is to keep.
async fn check(connection: &mut PgConnection, url: &StoreUrl) -> Result<(), StoreError> {
    let sql = "SELECT current_setting('server_encoding'), pg_is_in_recovery()";
    let (encoding, standby): (String, bool) = sqlx::query_as(sql)
        .fetch_one(connection)
        .await
        .map_err(|error| opening(url, &error))?;
    if encoding != "UTF8" {
        return Err(StoreError::Database(format!(
            "the database `{}` has the encoding {encoding}; make one with UTF8: CREATE DATABASE ... ENCODING 'UTF8' \
             TEMPLATE template0",
            url.place()
        )));
    }
    if standby {
        return Err(StoreError::Database(format!(
            "the server of `{}` is a standby and takes no writes; name the primary",
            url.place()
        )));
    }
    Ok(())
}

/// A connection that goes back to the pool only once its answer is complete. Where the caller gave up, or the server did
/// not answer in time, it is closed: nobody else shall wait for what it still owes.
struct Lent(Option<PoolConnection<Postgres>>);

impl Lent {
    fn finish(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

impl PostgresServer {
    /// Runs `work` on a connection of its own, within bounds.
    async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Failure> {
        let mut lent = Lent(Some(self.pool.acquire().await.map_err(failure)?));
        let Some(connection) = lent.0.as_mut() else {
            return Err(Failure::Store(StoreError::Database("no connection".to_owned())));
        };
        match tokio::time::timeout(ANSWER, work(connection)).await {
            Ok(done) => {
                if !matches!(done, Err(sqlx::Error::Io(_) | sqlx::Error::Protocol(_))) {
                    lent.finish();
                }
                done.map_err(failure)
            }
            Err(_) => Err(Failure::Store(StoreError::Database(format!(
                "PostgreSQL has not answered within {} s",
                ANSWER.as_secs()
            )))),
        }
    }
}

columns!(PgRow);

#[async_trait]
impl Database for PostgresServer {
    type Row = PgRow;

    async fn execute(&self, sql: &'static str, values: Vec<Value>) -> Result<u64, Failure> {
        self.with(async |connection| {
            let done = bound!(sql, values).execute(connection).await?;
            Ok(done.rows_affected())
        })
        .await
    }

    async fn execute_alone(&self, sql: &'static str, values: Vec<Value>) -> Result<u64, Failure> {
        self.with(async |connection| {
            let mut alone = connection.begin().await?;
            sqlx::query("SELECT pg_advisory_xact_lock($1)")
                .bind(ALONE)
                .execute(&mut *alone)
                .await?;
            let done = bound!(sql, values).execute(&mut *alone).await?;
            alone.commit().await?;
            Ok(done.rows_affected())
        })
        .await
    }

    async fn rows(&self, sql: &'static str, values: Vec<Value>) -> Result<Vec<PgRow>, Failure> {
        self.with(async |connection| bound!(sql, values).fetch_all(connection).await)
            .await
    }

    async fn scrub(&self) -> Result<(), Failure> {
        // Pages are the server's, and its operators'.
        Ok(())
    }

    async fn tell(&self, topic: Topic, what: &str) {
        let values = crate::database::values![topic.channel(), what];
        if let Err(error) = self.rows("SELECT pg_notify($1, $2)", values).await {
            let error = StoreError::from(error);
            tracing::warn!(%error, "other gateways were not told of a change; they look by themselves");
        }
    }

    fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }
}
