//! What is done at targets with the admin login of a credential: connections to one database, a few, shared by all that make,
//! change and drop roles there, and what their statements are put together of.

pub(crate) mod quote;
pub(crate) mod server;
pub(crate) mod settings;
pub(crate) mod verifier;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gateway_core::credentials::CredentialError;
use gateway_core::gateway::Gateway;
use gateway_core::resource::Resource;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::target::{OwnConnection, TargetError};
use quote::NotQuotable;
use server::{HELLO, Server};

/// Connections to one database at the same time.
const AT_ONCE: usize = 4;
/// Of these, how many may be used for what sessions have left. It may wait for locks, and whoever logs in does not wait for it.
const BEHIND: usize = AT_ONCE - 1;
/// One that nobody used for so long is closed.
const IDLE: Duration = Duration::from_secs(60);
/// For a connection that is free nobody waits longer.
const WAIT: Duration = Duration::from_secs(20);
/// How often a statement is tried again that met another one which changed the same.
const CONFLICTS: u32 = 8;

/// What they are opened with.
const SETTINGS: &[(&str, &str)] = &[
    // A role that a crash of the target loses was lost with the session that had it. One whose dropping it loses has an end
    // of its own, `VALID UNTIL`, and is found by the sweep, since the journal knows nothing of it any more.
    ("synchronous_commit", "off"),
    ("default_transaction_read_only", "off"),
    ("statement_timeout", "20s"),
    ("lock_timeout", "5s"),
    ("client_min_messages", "error"),
    ("standard_conforming_strings", "on"),
    ("jit", "off"),
];

pub(crate) struct Admin {
    pub(crate) resource: Arc<Resource>,
    pub(crate) database: String,
    idle: Mutex<Vec<(OwnConnection, Instant)>>,
    room: Semaphore,
    behind: Semaphore,
    server: Mutex<Option<Server>>,
    /// How often the database turned out to be another one of the same name.
    anew: AtomicU64,
    reaping: AtomicBool,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Admin({}, {})", self.resource.name, self.database)
    }
}

impl Admin {
    pub(crate) fn new(resource: Arc<Resource>, database: String) -> Self {
        Self {
            resource,
            database,
            idle: Mutex::default(),
            room: Semaphore::new(AT_ONCE),
            behind: Semaphore::new(BEHIND),
            server: Mutex::default(),
            anew: AtomicU64::new(0),
            reaping: AtomicBool::new(false),
        }
    }

    /// What the server is.
    pub(crate) async fn server(self: &Arc<Self>, gateway: &Arc<Gateway>) -> Result<Server, TargetError> {
        if let Some(server) = *self.server.lock() {
            return Ok(server);
        }
        let _room = self.enter().await?;
        let connection = self.open(gateway).await?;
        self.put(connection);
        let server = *self.server.lock();
        server.ok_or_else(|| TargetError::Malformed("the server does not say what it is".to_owned()))
    }

    async fn enter(&self) -> Result<SemaphorePermit<'_>, TargetError> {
        within(&self.room).await
    }

    /// As [`Self::ask`], for what is done behind sessions that have ended: at least one connection stays for those that begin.
    pub(crate) async fn ask_behind(
        self: &Arc<Self>,
        gateway: &Arc<Gateway>,
        sql: &str,
    ) -> Result<Option<String>, TargetError> {
        let _behind = within(&self.behind).await?;
        self.ask(gateway, sql).await
    }

    /// The first value of the last row that a text gives. A connection that turns out to be gone is replaced and the text sent
    /// again: texts are such that having been run once before does no harm.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        gateway: &Arc<Gateway>,
        sql: &str,
    ) -> Result<Option<String>, TargetError> {
        let _room = self.enter().await?;
        let mut conflicts = 0;
        loop {
            let idle = self.idle.lock().pop();
            let (mut connection, used) = match idle {
                Some((connection, since)) if since.elapsed() < IDLE => (connection, true),
                _ => (self.open(gateway).await?, false),
            };
            let error = match connection.execute(sql).await {
                Ok(value) => {
                    self.put(connection);
                    return Ok(value);
                }
                Err(error) => error,
            };
            match &error {
                TargetError::Refused { code, .. } if !is_end(code) => {
                    self.put(connection);
                    if !is_conflict(code) || conflicts >= CONFLICTS {
                        return Err(error);
                    }
                    conflicts += 1;
                    tokio::time::sleep(Duration::from_millis(5 << conflicts)).await;
                }
                _ if used => {
                    tracing::debug!(%error, resource = self.resource.name, "an admin connection is opened again");
                    self.idle.lock().clear();
                }
                _ => return Err(error),
            }
        }
    }

    async fn open(&self, gateway: &Arc<Gateway>) -> Result<OwnConnection, TargetError> {
        let mut connection =
            OwnConnection::open_with(gateway, &self.resource, &self.database, SETTINGS).await?;
        let hello = connection.value(HELLO).await?;
        let server = Server::of(&hello, gateway.now());
        let server = server.ok_or_else(|| {
            TargetError::Malformed("the server does not say what it is as PostgreSQL does".to_owned())
        })?;
        let before = self.server.lock().replace(server);
        if before.is_some_and(|before| before.database != server.database) {
            self.anew.fetch_add(1, Ordering::AcqRel);
        }
        Ok(connection)
    }

    /// Another number than before: the database was dropped and made anew since. To drop it ends all connections, so that this
    /// shows with the next thing that is asked.
    pub(crate) fn anew(&self) -> u64 {
        self.anew.load(Ordering::Acquire)
    }

    fn put(self: &Arc<Self>, connection: OwnConnection) {
        let mut idle = self.idle.lock();
        if idle.len() < AT_ONCE {
            idle.push((connection, Instant::now()));
        }
        drop(idle);
        if !self.reaping.swap(true, Ordering::AcqRel) {
            let admin = Arc::downgrade(self);
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(IDLE).await;
                    let Some(admin) = admin.upgrade() else { return };
                    let mut idle = admin.idle.lock();
                    idle.retain(|(_, since)| since.elapsed() < IDLE);
                    if idle.is_empty() {
                        admin.reaping.store(false, Ordering::Release);
                        return;
                    }
                }
            });
        }
    }
}

async fn within(room: &Semaphore) -> Result<SemaphorePermit<'_>, TargetError> {
    match tokio::time::timeout(WAIT, room.acquire()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(TargetError::Timeout(WAIT)),
    }
}

/// The connection is over, or the server is.
fn is_end(code: &str) -> bool {
    code.starts_with("57P") || code.starts_with("08")
}

/// Somebody changed the same at the same time: `tuple concurrently updated`, a deadlock.
fn is_conflict(code: &str) -> bool {
    matches!(code, "XX000" | "40P01" | "40001")
}

impl From<NotQuotable> for TargetError {
    fn from(error: NotQuotable) -> Self {
        Self::Structure(error.to_string())
    }
}

/// What an operator reads, who can do something about it.
pub(crate) fn failed(error: &TargetError) -> CredentialError {
    if let TargetError::Refused { code, message } = error
        && code == "3D000"
    {
        return CredentialError::Place(message.clone());
    }
    let advice = match error {
        TargetError::Refused { code, .. } => match code.as_str() {
            "25006" => {
                "; the target takes no writes (a replica?): roles can't be made there, use another kind of credential"
            }
            "42501" => "; the admin login needs CREATEROLE",
            "28P01" | "28000" => "; look at credential.admin",
            "53100" => "; the target's disk is full",
            _ => "",
        },
        _ => "",
    };
    CredentialError::Issuer(format!("{error}{advice}"))
}

pub(crate) fn code(error: &TargetError) -> &str {
    match error {
        TargetError::Refused { code, .. } => code,
        _ => "",
    }
}

/// Reads a JSON answer of our own question.
pub(crate) fn read<T: serde::de::DeserializeOwned>(answer: Option<String>) -> Result<T, TargetError> {
    serde_json::from_str(&answer.unwrap_or_default())
        .map_err(|e| TargetError::Malformed(format!("the target's answer is not as expected: {e}")))
}
