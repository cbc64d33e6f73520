//! The outside of the seam: an adapter is a value in a registry and serves one connection a call.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OwnedSemaphorePermit;

use crate::gateway::Gateway;
use crate::meaning::Meaning;
use crate::policy::SchemaPart;
use crate::resource::Resource;
use crate::tls::{ServerTls, TlsRequire};
use crate::transport::Transport;

/// One protocol. What it does with each message is *parse, inspect, rewrite*: the verbs of the
/// [`ProtocolSession`](crate::machine::ProtocolSession) that it makes for a connection (or of the handlers,
/// where a library owns the wire).
#[async_trait]
pub trait ProtocolAdapter: Send + Sync {
    /// The protocol's name: key in `[listen]`, `protocol` of a resource, name of the adapter's own section.
    fn protocol(&self) -> &'static str;

    /// What it adds to the vocabulary of policies.
    fn vocabulary(&self) -> Result<Vec<SchemaPart>, ConfigProblem>;

    /// Takes its own section of the configuration (an empty table where there is none). Unknown keys are errors.
    fn configure(&mut self, section: serde_json::Value) -> Result<(), ConfigProblem>;

    /// Checks what only the adapter understands of a resource. Unknown keys are errors.
    fn check_resource(&self, resource: &Resource) -> Result<(), ConfigProblem>;

    /// What `statement` would ask of policy on `resource`, and what its results would carry, for `policy explain` and
    /// `policy test`. `place` is where in the resource the session would be (a database, a target login), where the
    /// protocol has such; `offline`: without asking the target.
    async fn meaning(
        &self,
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
        statement: &str,
        place: Option<&str>,
        offline: bool,
    ) -> Result<Meaning, ConfigProblem>;

    /// Serves one connection to its end.
    async fn serve(self: Arc<Self>, connection: Connection) -> Result<(), ServeError>;
}

/// A wrong setting: what is wrong, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigProblem(pub String);

/// Why a connection ended before it became a session; for the log, never for the client.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It was not in time.
    #[error("the login took longer than the limit")]
    Deadline,
    /// The peer broke the protocol or went away.
    #[error("{0}")]
    Client(String),
    /// The target could not be reached.
    #[error("{0}")]
    Target(String),
    /// The login was refused; it is in the audit trail.
    #[error("the login was refused")]
    Refused,
}

/// One accepted connection.
#[derive(Debug)]
pub struct Connection {
    /// Its bytes.
    pub transport: Transport,
    /// From where. Where a trusted proxy passes it on: whom the proxy names.
    pub peer: SocketAddr,
    /// The trusted proxy that passes it on.
    pub via: Option<SocketAddr>,
    /// The pipeline.
    pub gateway: Arc<Gateway>,
    /// For protocols that begin TLS by themselves.
    pub tls: Arc<ServerTls>,
    /// Until when the login must be done.
    pub deadline: tokio::time::Instant,
    /// Its place among the half-open connections; dropped once it has logged in.
    pub half_open: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Whether a secret may travel on this connection as it is now.
    pub fn may_carry_secret(&self) -> bool {
        self.transport.is_tls() || (self.gateway.tls_require() == TlsRequire::Remote && self.is_loopback())
    }

    /// Whether the client is on this host. What a proxy passes on never is, whatever address it names: its bytes may
    /// have come from anywhere.
    pub fn is_loopback(&self) -> bool {
        self.via.is_none() && self.peer.ip().to_canonical().is_loopback()
    }

    /// Runs a step of the login within its deadline.
    pub async fn in_time<T>(
        deadline: tokio::time::Instant,
        step: impl Future<Output = Result<T, ServeError>>,
    ) -> Result<T, ServeError> {
        tokio::time::timeout_at(deadline, step)
            .await
            .unwrap_or(Err(ServeError::Deadline))
    }
}

/// The adapters of a build, by protocol.
#[derive(Default)]
pub struct Registry {
    adapters: BTreeMap<&'static str, Arc<dyn ProtocolAdapter>>,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a configured adapter.
    pub fn register(&mut self, adapter: Arc<dyn ProtocolAdapter>) {
        self.adapters.insert(adapter.protocol(), adapter);
    }

    /// The adapter of that protocol; the error says which there are.
    pub fn adapter(&self, protocol: &str) -> Result<&Arc<dyn ProtocolAdapter>, ConfigProblem> {
        self.adapters.get(protocol).ok_or_else(|| self.absent(protocol))
    }

    /// All adapters.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn ProtocolAdapter>> {
        self.adapters.values()
    }

    /// Names of the adapters.
    pub fn protocols(&self) -> Vec<&'static str> {
        self.adapters.keys().copied().collect()
    }

    fn absent(&self, protocol: &str) -> ConfigProblem {
        let have = if self.adapters.is_empty() {
            "none".to_owned()
        } else {
            self.protocols().join(", ")
        };
        ConfigProblem(format!(
            "no adapter for protocol `{protocol}` is in this build (it has: {have}); build `gateway-bin` with the \
             feature of that protocol, or take it out of the configuration"
        ))
    }
}

/// How long a listener waits after an accept error (out of descriptors), so that it does not spin.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
