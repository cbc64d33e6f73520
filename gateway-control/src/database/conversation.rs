//! One client as `pgwire` sees it: a sink that writes into a buffer, and a store of prepared statements. No socket.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use futures_util::{Sink, SinkExt};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::store::MemPortalStore;
use pgwire::api::{ClientInfo, ClientPortalStore, DefaultClient, PgWireConnectionState, SessionExtensions};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::response::{ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::{ParameterStatus, SecretKey};
use pgwire::messages::{DecodeContext, PgWireBackendMessage, PgWireFrontendMessage, ProtocolVersion};

use super::command::{SETTINGS, Statement};
use super::desk::Desk;
use super::told;

/// Prepared statements of one session.
const PREPARED: usize = 256;
/// Its portals: each may hold rows.
const PORTALS: usize = 4;

/// What a client is told of the server when it has logged in: those settings that PostgreSQL reports by itself.
const REPORTED: [(&str, &str); 8] = [
    ("server_version", "server_version"),
    ("server_encoding", "server_encoding"),
    ("client_encoding", "client_encoding"),
    ("DateStyle", "datestyle"),
    ("IntervalStyle", "intervalstyle"),
    ("TimeZone", "timezone"),
    ("integer_datetimes", "integer_datetimes"),
    ("standard_conforming_strings", "standard_conforming_strings"),
];

/// One client.
pub(super) struct Conversation {
    client: DefaultClient<Statement>,
    out: BytesMut,
    statements: BTreeSet<String>,
    portals: BTreeSet<String>,
}

impl Conversation {
    /// A client that has just logged in; it is told so.
    pub(super) fn new(secure: bool, subject: &str) -> PgWireResult<Self> {
        // Where it comes from is known where it was accepted; nothing here asks.
        let mut client = DefaultClient::new(SocketAddr::from(([0, 0, 0, 0], 0)), secure);
        client.set_state(PgWireConnectionState::ReadyForQuery);
        let mut this = Self {
            client,
            out: BytesMut::new(),
            statements: BTreeSet::new(),
            portals: BTreeSet::new(),
        };
        let own = [("session_authorization", subject), ("is_superuser", "off")];
        let settings = REPORTED.iter().filter_map(|(name, key)| {
            let (_, value) = SETTINGS.iter().find(|(known, _)| known == key)?;
            Some((*name, *value))
        });
        for (name, value) in settings.chain(own) {
            let status = ParameterStatus::new(name.to_owned(), value.to_owned());
            PgWireBackendMessage::ParameterStatus(status).encode(&mut this.out)?;
        }
        let ready = ReadyForQuery::new(TransactionStatus::Idle);
        PgWireBackendMessage::ReadyForQuery(ready).encode(&mut this.out)?;
        Ok(this)
    }

    /// What is to be sent.
    pub(super) fn out(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// Tells an error.
    pub(super) fn tell(&mut self, info: ErrorInfo) -> PgWireResult<()> {
        PgWireBackendMessage::ErrorResponse(info.into()).encode(&mut self.out)
    }

    /// Takes one whole frame, which was measured already. The error ends the session.
    pub(super) async fn take(&mut self, desk: &Arc<Desk>, frame: &mut BytesMut) -> PgWireResult<()> {
        let mut context = DecodeContext::default();
        context.awaiting_frontend_ssl = false;
        context.awaiting_frontend_startup = false;
        let message =
            PgWireFrontendMessage::decode(frame, &context)?.ok_or(PgWireError::InvalidMessageType(0))?;
        let extended = message.is_extended_query();
        match self.dispatch(desk, message).await {
            Ok(()) => Ok(()),
            Err(error) if error.is_fatal() => Err(error),
            Err(error) => self.failed(error, extended).await,
        }
    }

    /// An error, and after it (PostgreSQL, "Extended Query") nothing until Sync.
    async fn failed(&mut self, error: PgWireError, extended: bool) -> PgWireResult<()> {
        let info: ErrorInfo = error.into();
        self.tell(info)?;
        let status = self.transaction_status().to_error_state();
        self.set_transaction_status(status);
        if extended {
            self.set_state(PgWireConnectionState::AwaitingSync);
        } else {
            self.set_state(PgWireConnectionState::ReadyForQuery);
            let ready = ReadyForQuery::new(status);
            self.send(PgWireBackendMessage::ReadyForQuery(ready)).await?;
        }
        Ok(())
    }

    async fn dispatch(&mut self, desk: &Arc<Desk>, message: PgWireFrontendMessage) -> PgWireResult<()> {
        if matches!(self.state(), PgWireConnectionState::AwaitingSync) {
            if let PgWireFrontendMessage::Sync(sync) = message {
                desk.on_sync(self, sync).await?;
                self.set_state(PgWireConnectionState::ReadyForQuery);
            }
            return Ok(());
        }
        match message {
            PgWireFrontendMessage::Query(query) => desk.on_query(self, query).await,
            PgWireFrontendMessage::Parse(parse) => {
                room(&mut self.statements, parse.name.as_deref(), PREPARED)?;
                desk.on_parse(self, parse).await
            }
            PgWireFrontendMessage::Bind(bind) => {
                room(&mut self.portals, bind.portal_name.as_deref(), PORTALS)?;
                desk.on_bind(self, bind).await
            }
            PgWireFrontendMessage::Describe(describe) => desk.on_describe(self, describe).await,
            PgWireFrontendMessage::Execute(execute) => desk.on_execute(self, execute).await,
            PgWireFrontendMessage::Close(close) => {
                let names = if close.target_type == b'S' {
                    &mut self.statements
                } else {
                    &mut self.portals
                };
                names.remove(close.name.as_deref().unwrap_or_default());
                desk.on_close(self, close).await
            }
            PgWireFrontendMessage::Flush(flush) => desk.on_flush(self, flush).await,
            PgWireFrontendMessage::Sync(sync) => desk.on_sync(self, sync).await,
            other => {
                let kind = format!("{other:?}");
                let kind = kind.split('(').next().unwrap_or_default().to_owned();
                Err(told::error("08P01", format!("unexpected {kind}"), ""))
            }
        }
    }
}

/// A notice on the wire; one that can't be encoded is left out.
pub(super) fn notice(info: ErrorInfo) -> BytesMut {
    let mut out = BytesMut::new();
    if PgWireBackendMessage::NoticeResponse(info.into())
        .encode(&mut out)
        .is_err()
    {
        out.clear();
    }
    out
}

/// Keeps the number of names bounded.
fn room(names: &mut BTreeSet<String>, name: Option<&str>, most: usize) -> PgWireResult<()> {
    let name = name.unwrap_or_default();
    if names.contains(name) {
        return Ok(());
    }
    if names.len() >= most {
        let text = format!("more than {most} prepared statements or portals");
        return Err(told::error("53400", text, "close those that are not needed"));
    }
    names.insert(name.to_owned());
    Ok(())
}

impl Sink<PgWireBackendMessage> for Conversation {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, item: PgWireBackendMessage) -> io::Result<()> {
        item.encode(&mut self.get_mut().out).map_err(io::Error::from)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl ClientInfo for Conversation {
    fn socket_addr(&self) -> SocketAddr {
        self.client.socket_addr()
    }
    fn is_secure(&self) -> bool {
        self.client.is_secure()
    }
    fn protocol_version(&self) -> ProtocolVersion {
        self.client.protocol_version()
    }
    fn set_protocol_version(&mut self, version: ProtocolVersion) {
        self.client.set_protocol_version(version);
    }
    fn pid_and_secret_key(&self) -> (i32, SecretKey) {
        self.client.pid_and_secret_key()
    }
    fn set_pid_and_secret_key(&mut self, pid: i32, key: SecretKey) {
        self.client.set_pid_and_secret_key(pid, key);
    }
    fn state(&self) -> PgWireConnectionState {
        self.client.state()
    }
    fn set_state(&mut self, state: PgWireConnectionState) {
        self.client.set_state(state);
    }
    fn transaction_status(&self) -> TransactionStatus {
        self.client.transaction_status()
    }
    fn set_transaction_status(&mut self, status: TransactionStatus) {
        self.client.set_transaction_status(status);
    }
    fn metadata(&self) -> &HashMap<String, String> {
        self.client.metadata()
    }
    fn metadata_mut(&mut self) -> &mut HashMap<String, String> {
        self.client.metadata_mut()
    }
    fn session_extensions(&self) -> &SessionExtensions {
        self.client.session_extensions()
    }
}

impl ClientPortalStore for Conversation {
    type PortalStore = MemPortalStore<Statement>;

    fn portal_store(&self) -> &Self::PortalStore {
        self.client.portal_store()
    }
}
