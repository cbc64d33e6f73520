//! The operators' database: resource `gateway`, asked with psql, served by `pgwire` on a connection that an adapter has
//! accepted and logged in.
//!
//! ```text
//!   adapter (TLS, login, connect) ──SessionScope, Transport──▶ OperatorsDatabase
//!        frame.rs: bounded, well formed ─▶ pgwire: Query, Parse, Bind, ... ─▶ command.rs ─▶ desk.rs: judge, then do
//! ```
//!
//! Everything that is asked goes through the session's scope, is decided by the same policies as any operation, and is in
//! the trail. A row is shown only where policy permits it: a session by `session-view` and an event by `audit-search` on
//! their resource; policies and metrics by `administer` on the gateway; `KILL` needs `session-kill` and answers for what may
//! not be seen as for what is not there.

mod command;
mod conversation;
mod desk;
mod frame;
mod handlers;
mod lexer;
mod table;
mod told;
mod views;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use gateway_core::adapter::ConfigProblem;
use gateway_core::gateway::SessionScope;
use gateway_core::machine::{End, Fault, Peer};
use gateway_core::operation::Operations;
use gateway_core::own::{OwnResource, Vigil, gateway_resource};
use gateway_core::policy::ListedPolicy;
use gateway_core::resource::Resource;
use gateway_core::transport::Transport;
use parking_lot::Mutex;
use pgwire::error::{ErrorInfo, PgWireError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};

use command::{Command, View};
use conversation::Conversation;
use desk::Desk;
use frame::Front;

/// Searches of the trail at the same time; each reads all of it.
const SEARCHES: usize = 2;
/// A goodbye must be taken within this time.
const GOODBYE: Duration = Duration::from_secs(5);
/// What waits to be written before more commands are taken.
const HIGH_WATER: usize = 256 * 1024;
/// What a client may send ahead while a command runs.
const AHEAD: usize = 2 * frame::FRAME_BYTES;

/// Where the database gets what it shows, beside the pipeline itself.
pub struct Sources {
    /// The policies in force.
    pub policies: Box<dyn Fn() -> Vec<ListedPolicy> + Send + Sync>,
    /// The metrics, in Prometheus' text format.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// The directory of the audit trail.
    pub audit_dir: PathBuf,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("audit_dir", &self.audit_dir)
            .finish_non_exhaustive()
    }
}

/// What all sessions share.
struct Inner {
    resource: Arc<Resource>,
    sources: Sources,
    searches: Arc<Semaphore>,
}

/// The operators' database.
#[derive(Clone)]
pub struct OperatorsDatabase(Arc<Inner>);

impl std::fmt::Debug for OperatorsDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OperatorsDatabase").field(&self.0.sources).finish()
    }
}

impl OperatorsDatabase {
    /// Serves the clients that the adapter for `protocol` (one that speaks PostgreSQL's protocol) logs in.
    pub fn new(protocol: &str, sources: Sources) -> Self {
        Self(Arc::new(Inner {
            resource: gateway_resource(protocol),
            sources,
            searches: Arc::new(Semaphore::new(SEARCHES)),
        }))
    }
}

#[async_trait]
impl OwnResource for OperatorsDatabase {
    fn resource(&self) -> &Arc<Resource> {
        &self.0.resource
    }

    fn operations(&self, statement: &str) -> Result<Arc<Operations>, ConfigProblem> {
        let statements = command::parse(statement).map_err(|e| ConfigProblem(e.message))?;
        let mut list = Vec::new();
        for statement in &statements {
            let action = match statement.command {
                Command::Kill(_) => views::KILL,
                Command::Show(View::Policies | View::Metrics, _) => views::ADMINISTER,
                Command::Show(View::Sessions, _) => views::VIEW,
                Command::Show(View::Audit, _) => views::SEARCH,
                _ => continue,
            };
            list.extend(views::asks(action, &self.0.resource.name).list().iter().cloned());
        }
        Ok(Arc::new(Operations::new(list, "operators' database")))
    }

    async fn serve(self: Arc<Self>, scope: SessionScope, mut client: Transport) -> End {
        let mut vigil = scope.vigil();
        let (notices, mut told) = mpsc::channel(4);
        let subject = scope.who().principal.subject.clone();
        let desk = Arc::new(Desk {
            scope: Mutex::new(scope),
            inner: self.0.clone(),
            notices,
        });
        let secure = client.is_tls();
        let mut conversation = match Conversation::new(secure, &subject) {
            Ok(conversation) => conversation,
            Err(error) => {
                let end = End::Broken(Peer::Client, error.to_string());
                desk.scope.lock().finish(&end);
                return end;
            }
        };
        let end = converse(&mut client, &mut conversation, &desk, &mut vigil, &mut told)
            .await
            .unwrap_or_else(|end| end);
        // In the trail first; what the client does with its goodbye is its own affair.
        let session = {
            let mut scope = desk.scope.lock();
            scope.finish(&end);
            scope.id().to_string()
        };
        if let Some(info) = told::goodbye(&end, &session) {
            // A goodbye that can't be encoded is left out.
            let _ = conversation.tell(info);
        }
        let _ = tokio::time::timeout(GOODBYE, async {
            let _ = client.write_all(conversation.out()).await;
            let _ = client.shutdown().await;
        })
        .await;
        end
    }
}

/// Takes commands until the session ends.
async fn converse(
    client: &mut Transport,
    conversation: &mut Conversation,
    desk: &Arc<Desk>,
    vigil: &mut Vigil,
    notices: &mut mpsc::Receiver<ErrorInfo>,
) -> Result<End, End> {
    let mut input = BytesMut::with_capacity(4096);
    loop {
        match frame::front(&input) {
            Ok(Front::Frame(length)) if conversation.out().len() < HIGH_WATER => {
                let mut frame = input.split_to(length);
                vigil.active();
                let mut taking = std::pin::pin!(conversation.take(desk, &mut frame));
                loop {
                    let room = input.len() < AHEAD;
                    tokio::select! {
                        biased;
                        end = vigil.ended(false) => return Err(end),
                        done = &mut taking => {
                            done.map_err(broken)?;
                            break;
                        }
                        Some(info) = notices.recv() => {
                            write(client, &mut conversation::notice(info), vigil).await?;
                        }
                        // Nothing is done for a client that is gone.
                        read = client.read_buf(&mut input), if room => at_least_one(read)?,
                    }
                }
            }
            Ok(Front::Goodbye) => {
                write(client, conversation.out(), vigil).await?;
                return Ok(End::ClientClosed);
            }
            Ok(Front::Frame(_) | Front::Incomplete) if !conversation.out().is_empty() => {
                write(client, conversation.out(), vigil).await?;
            }
            Ok(Front::Frame(_)) => {}
            Ok(Front::Incomplete) => {
                tokio::select! {
                    biased;
                    end = vigil.ended(true) => return Err(end),
                    read = client.read_buf(&mut input) => at_least_one(read)?,
                }
            }
            Err(what) => {
                write(client, conversation.out(), vigil).await?;
                return Err(End::Fault(Fault::client(format!("sent {what}"))));
            }
        }
    }
}

fn at_least_one(read: io::Result<usize>) -> Result<(), End> {
    match read {
        Ok(0) => Err(End::ClientClosed),
        Ok(_) => Ok(()),
        Err(error) => Err(End::Broken(Peer::Client, error.to_string())),
    }
}

/// What ends a session in the middle of a command: a frame that was whole and can't be taken all the same.
fn broken(error: PgWireError) -> End {
    End::Fault(Fault::client(format!("sent what can't be answered: {error}")))
}

/// Writes all of `out`, unless the session must end first.
async fn write(client: &mut Transport, out: &mut BytesMut, vigil: &mut Vigil) -> Result<(), End> {
    let written = async {
        while out.has_remaining() {
            client.write_buf(out).await?;
        }
        client.flush().await
    };
    tokio::select! {
        biased;
        end = vigil.ended(false) => Err(end),
        written = written => written.map_err(|error| End::Broken(Peer::Client, error.to_string())),
    }
}
