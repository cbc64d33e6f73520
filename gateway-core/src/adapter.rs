//! The outside of the seam: an adapter is a value in a registry and serves one connection a call.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::credentials::CredentialIssuer;
use crate::gateway::Gateway;
use crate::half_open::Place;
use crate::meaning::Meaning;
use crate::operation::Operation;
use crate::policy::SchemaPart;
use crate::resource::Resource;
use crate::sealing::Sealing;
use crate::secret::Secret;
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

    /// Makes what the adapter keeps between starts (a key of its own), in `data_dir` unless its section says otherwise, sealed
    /// with `sealing`. Called once, before anybody can connect; checking a configuration alone makes nothing.
    fn prepare(&self, data_dir: &Path, sealing: &Arc<Sealing>) -> Result<(), ConfigProblem> {
        let _ = (data_dir, sealing);
        Ok(())
    }

    /// The files in `data_dir` in which it keeps keys, sealed as [`Sealing::for_file`] does; whether they are there or not.
    fn key_files(&self, data_dir: &Path) -> Vec<PathBuf> {
        let _ = data_dir;
        Vec::new()
    }

    /// The issuers of credentials that only this protocol's targets have.
    fn issuers(&self) -> Vec<Arc<dyn CredentialIssuer>> {
        Vec::new()
    }

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

    /// Tries whether a resource can be reached as sessions would reach it, with the gateway's own login, and whether credentials
    /// can be made. What is worth knowing, one sentence each; an error: it can't. Changes nothing at the target.
    async fn probe(
        &self,
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
    ) -> Result<Vec<String>, ConfigProblem> {
        let _ = gateway;
        Err(ConfigProblem(format!(
            "targets of the protocol `{}` can't be tried",
            resource.protocol
        )))
    }

    /// Whether its sessions are recorded where their resource says so: a resource of any other can't say anything of it.
    fn records(&self) -> bool {
        false
    }

    /// What a login would ask of policy, `place` as [`Self::meaning`] has it: one operation for each place that it may be meant for
    /// where none is named. For what is told without a login (what one may connect to, `policy explain`).
    fn connects(&self, resource: &Resource, _place: Option<&str>) -> Vec<Operation> {
        vec![Operation::connect(&resource.name)]
    }

    /// Where in the resource a session is that asks for no place (the database that it is pinned to), for clients that must
    /// name one.
    fn place(&self, _resource: &Resource) -> Option<String> {
        None
    }

    /// How the protocol's usual client is run against a resource, with everything set; for `gateway connect`. An adapter
    /// that says nothing here has no client that can be run.
    fn native_client(&self, _reach: &Reach<'_>) -> Result<NativeClient, ConfigProblem> {
        Err(ConfigProblem(format!(
            "this build knows no client for `{}`; connect with a client of your own",
            self.protocol()
        )))
    }

    /// A section for the settings file of the protocol's clients, by which programs of their own reach the resource; for
    /// `gateway connect --print-config`. It has no secret in it. An adapter that says nothing here has clients without such a file.
    fn client_config(&self, _reach: &Reach<'_>) -> Result<String, ConfigProblem> {
        Err(ConfigProblem(format!(
            "clients of `{}` have no file for it; run them with `gateway connect`",
            self.protocol()
        )))
    }

    /// The public keys by which the protocol's clients know the gateway, as its tools write them; none: clients know it otherwise
    /// (TLS).
    fn server_keys(&self) -> Vec<String> {
        Vec::new()
    }

    /// The fingerprint of a client's public key, both as the protocol's tools write them; an error says why it can't prove
    /// anybody. An adapter that says nothing here has clients without keys.
    fn fingerprint(&self, _public_key: &str) -> Result<String, ConfigProblem> {
        Err(self.no_keys())
    }

    /// Signs a certificate by which a client logs in, with a key of the gateway's own, as the protocol's tools read it.
    fn certify(&self, _certified: &Certified<'_>) -> Result<String, ConfigProblem> {
        Err(self.no_keys())
    }

    /// A fresh key of a client, for one run of [`Self::native_client`].
    fn new_client_key(&self) -> Result<ClientKey, ConfigProblem> {
        Err(self.no_keys())
    }

    /// What clients are told who would log in with a key.
    fn no_keys(&self) -> ConfigProblem {
        ConfigProblem(format!(
            "clients of the protocol `{}` have no keys",
            self.protocol()
        ))
    }

    /// Serves one connection to its end.
    async fn serve(self: Arc<Self>, connection: Connection) -> Result<(), ServeError>;
}

/// What a certificate for a client says.
#[derive(Debug, Clone, Copy)]
pub struct Certified<'a> {
    /// The client's public key, as the protocol's tools write it.
    pub public_key: &'a str,
    /// The id of the token that it stands for.
    pub id: &'a str,
    /// Whose it is.
    pub subject: &'a str,
    /// From when it is valid.
    pub from: jiff::Timestamp,
    /// Until when one may log in with it.
    pub until: jiff::Timestamp,
}

/// A key of a client's, as the files of the protocol's usual client have it.
#[derive(Debug)]
pub struct ClientKey {
    /// The private key.
    pub private: Secret,
    /// The public key.
    pub public: String,
}

/// The way to a resource, as a client on another machine knows it.
#[derive(Debug, Clone, Copy)]
pub struct Reach<'a> {
    /// The resource.
    pub resource: &'a str,
    /// Where in it, as [`ProtocolAdapter::place`] tells it.
    pub place: Option<&'a str>,
    /// The gateway's host.
    pub host: &'a str,
    /// The port of the adapter's listener there.
    pub port: u16,
    /// What proves who asks.
    pub secret: &'a Secret,
    /// The file of a private key that proves it, too, with its certificate beside it as the protocol's tools name it.
    pub identity: Option<&'a Path>,
    /// The keys by which the gateway is known, as [`ProtocolAdapter::server_keys`] told them; none: it is not known which.
    pub server_keys: &'a [String],
    /// A folder for files that the client is to read: its owner's alone, and gone with the client.
    pub folder: Option<&'a Path>,
    /// The certificates that the gateway's own is signed by; `None`: it is not known which.
    pub roots: Option<&'a Path>,
    /// Why, as the person said.
    pub reason: Option<&'a str>,
    /// What was typed behind `--`: options of the usual client, or another command that takes the same settings.
    pub command: &'a [String],
}

impl Reach<'_> {
    /// Whether the gateway is on this host, where a secret may travel without TLS.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self
                .host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.to_canonical().is_loopback())
    }
}

/// A client that is to be run. No shell reads any of it.
#[derive(Debug, Clone)]
pub struct NativeClient {
    /// The program.
    pub program: String,
    /// Its arguments; never a secret, which others on the host could read here.
    pub arguments: Vec<String>,
    /// Variables that are set for it.
    pub environment: Vec<(&'static str, Secret)>,
    /// Variables of the caller that it must not see, because they would lead it elsewhere.
    pub without: &'static [&'static str],
    /// What the caller is told before it runs, where it may be meant otherwise.
    pub note: Option<String>,
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
    pub half_open: Option<Place>,
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
#[derive(Clone, Default)]
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
