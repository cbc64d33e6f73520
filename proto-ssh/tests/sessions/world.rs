//! A gateway between a client and a target, both russh: the target is a few commands that do what tests need.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gateway_core::adapter::{Connection, ProtocolAdapter};
use gateway_core::audit::{AuditError, Event};
use gateway_core::credentials::Issuers;
use gateway_core::embed::{Everyone, Forgets, PolicyFn, Told};
use gateway_core::gateway::{AuditOptions, Gateway, Parts};
use gateway_core::limits::Limits;
use gateway_core::mask::MaskKey;
use gateway_core::operation::Operation;
use gateway_core::principal::{Authenticated, Principal, PrincipalKind};
use gateway_core::resource::{CredentialConfig, Resource};
use gateway_core::secret::Secret;
use gateway_core::services::{AuthError, Authenticator, NobodyApproves, Provable};
use gateway_core::tls::{ServerTls, TlsConfig, TlsRequire};
use gateway_core::transport::Transport;
use gateway_core::verdict::{Denial, Verdict};
use jiff::Timestamp;
use parking_lot::Mutex;
use proto_ssh::SshAdapter;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey, PublicKeyOrCertificate};
use russh::server::{self, Auth, ChannelOpenHandle, Msg, Server as _};
use russh::{Channel, ChannelId, ChannelMsg, client};

use super::journal::Journal;

pub(crate) const TOKEN: &str = "zeppelin";

/// What the target was asked to do.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) connections: AtomicUsize,
    pub(crate) commands: Mutex<Vec<String>>,
    pub(crate) env: Mutex<Vec<String>>,
}

/// A gateway with its target.
pub(crate) struct World {
    pub(crate) adapter: Arc<SshAdapter>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) asked: Arc<Asked>,
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
    /// Fingerprints of keys that are ann's, with the id that their certificates must have.
    pub(crate) keys: Arc<Mutex<BTreeMap<String, Option<String>>>>,
    tls: Arc<ServerTls>,
    dir: tempfile::TempDir,
}

pub(crate) type Rule = fn(&Operation) -> bool;

/// A target, and what the gateway knows of it.
pub(crate) struct Towards {
    pub(crate) address: SocketAddr,
    pub(crate) host_key: String,
    pub(crate) credential: serde_json::Value,
    pub(crate) adapter: SshAdapter,
    pub(crate) now: fn() -> Timestamp,
}

/// Whose token it is, and whose keys.
struct Known {
    tokens: Everyone,
    keys: Arc<Mutex<BTreeMap<String, Option<String>>>>,
}

#[async_trait::async_trait]
impl Authenticator for Known {
    async fn authenticate(&self, secret: &Secret) -> Result<Authenticated, AuthError> {
        self.tokens.authenticate(secret).await
    }
    async fn provable(&self, name: &str) -> Result<Option<Provable>, AuthError> {
        self.tokens.provable(name).await
    }
    async fn knows_key(&self, fingerprint: &str) -> Result<bool, AuthError> {
        Ok(self.keys.lock().contains_key(fingerprint))
    }
    async fn key_holder(
        &self,
        fingerprint: &str,
        certificate: Option<&str>,
    ) -> Result<Authenticated, AuthError> {
        match self.keys.lock().get(fingerprint) {
            Some(id) if id.as_deref() == certificate => {}
            _ => return Err(AuthError::Unknown),
        }
        self.tokens.authenticate(&Secret::new(TOKEN)).await
    }
    async fn still_valid(&self, credential: &str) -> Result<bool, AuthError> {
        self.tokens.still_valid(credential).await
    }
}

pub(crate) fn adapter_in(dir: &std::path::Path) -> SshAdapter {
    let adapter = SshAdapter::default();
    adapter.prepare(dir, &Arc::default()).unwrap();
    adapter
}

pub(crate) fn new_key() -> PrivateKey {
    PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap()
}

impl World {
    /// `permits`: the policy. `latency`: how long the target takes to let somebody in.
    pub(crate) async fn new(permits: Rule, latency: Duration) -> Self {
        Self::with(permits, latency, false).await
    }

    /// The same, with a target that shows another host key than the pinned one.
    pub(crate) async fn with_an_impostor(permits: Rule) -> Self {
        Self::with(permits, Duration::ZERO, true).await
    }

    async fn with(permits: Rule, latency: Duration, impostor: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (host, login, other) = (new_key(), new_key(), new_key());
        let file = dir.path().join("login");
        std::fs::write(&file, login.to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
        let asked = Arc::<Asked>::default();
        let target = target(host.clone(), asked.clone(), latency).await;
        let pinned = if impostor { &other } else { &host };
        let credential = serde_json::json!({
            "kind": "static", "username": "deploy", "private_key": { "file": file },
        });
        let towards = Towards {
            address: target,
            host_key: pinned.public_key().to_openssh().unwrap(),
            credential,
            adapter: adapter_in(dir.path()),
            now: Timestamp::now,
        };
        Self::towards(permits, dir, towards, asked)
    }

    /// The same with a target that is somebody else.
    pub(crate) fn towards(
        permits: Rule,
        dir: tempfile::TempDir,
        towards: Towards,
        asked: Arc<Asked>,
    ) -> Self {
        gateway_core::tls::install_provider();
        let settings = serde_json::json!({ "host_key": towards.host_key });
        let serde_json::Value::Object(settings) = settings else {
            unreachable!()
        };
        let resource = Resource {
            name: "web-1".to_owned(),
            protocol: "ssh".to_owned(),
            address: towards.address.to_string(),
            labels: BTreeMap::new(),
            credential: serde_json::from_value::<CredentialConfig>(towards.credential).unwrap(),
            audit: None,
            tags: Vec::new(),
            detect: Vec::new(),
            functions: Vec::new(),
            recording: None,
            settings,
        };
        let policy = PolicyFn::new("test", move |_, _, operations| {
            match operations.list().iter().find(|operation| !permits(operation)) {
                None => Verdict::free(),
                Some(_) => Verdict::Deny(Denial::new(operations.summary(), "not here")),
            }
        });
        let adapter = towards.adapter;
        adapter.check_resource(&resource).unwrap();
        let events = Arc::<Mutex<Vec<Event>>>::default();
        let trail = events.clone();
        let told = move |_: Timestamp, event: &Event| -> Result<(), AuditError> {
            trail.lock().push(event.clone());
            Ok(())
        };
        let keys = Arc::<Mutex<BTreeMap<String, Option<String>>>>::default();
        let parts = Parts {
            policy: Arc::new(policy),
            audit: Arc::new(Told(told)),
            authenticator: Arc::new(Known {
                tokens: Everyone::known_by(|secret| {
                    (secret.expose() == TOKEN)
                        .then(|| Principal::new("ann@example.test", PrincipalKind::Human))
                }),
                keys: keys.clone(),
            }),
            credentials: Issuers::with(adapter.issuers()),
            leases: Arc::new(Journal),
            approvals: Arc::new(NobodyApproves),
            store: Arc::new(Forgets),
            limits: Limits {
                login: Duration::from_secs(5),
                ..Limits::default()
            },
            audit_options: AuditOptions {
                mode: None,
                literals: true,
            },
            tls_require: TlsRequire::Remote,
            mask_key: MaskKey::ephemeral().unwrap(),
            recorder: std::sync::Arc::new(gateway_core::recording::Unrecorded),
            now: towards.now,
        };
        let resources = BTreeMap::from([("web-1".to_owned(), Arc::new(resource))]);
        Self {
            adapter: Arc::new(adapter),
            gateway: Gateway::new(parts, resources),
            asked,
            events,
            keys,
            tls: Arc::new(ServerTls::open(TlsConfig::default(), dir.path()).unwrap()),
            dir,
        }
    }

    /// A client's connection, in memory, that has not logged in.
    pub(crate) async fn dial(&self) -> client::Handle<Trusting> {
        client::connect_stream(Arc::default(), self.raw(), Trusting)
            .await
            .unwrap()
    }

    /// A client over a real socket, that has logged in.
    pub(crate) async fn client_by_socket(&self) -> client::Handle<Trusting> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = async {
            let (accepted, _) = listener.accept().await.unwrap();
            self.serve(Transport::Tcp(accepted));
        };
        let dialled = client::connect(Arc::default(), address, Trusting);
        let (client, ()) = tokio::join!(dialled, accepted);
        let mut client = client.unwrap();
        let login = client.authenticate_password("deploy@web-1", TOKEN).await.unwrap();
        assert!(login.success());
        client
    }

    /// The same, before a byte was sent.
    pub(crate) fn raw(&self) -> tokio::io::DuplexStream {
        let (ours, theirs) = tokio::io::duplex(256 << 10);
        self.serve(Transport::Other(Box::new(theirs)));
        ours
    }

    fn serve(&self, transport: Transport) {
        let connection = Connection {
            transport,
            peer: SocketAddr::from(([192, 0, 2, 1], 40000)),
            via: None,
            gateway: self.gateway.clone(),
            tls: self.tls.clone(),
            deadline: tokio::time::Instant::now() + self.gateway.limits().login,
            half_open: None,
        };
        tokio::spawn(self.adapter.clone().serve(connection));
    }

    /// A client that has logged in.
    pub(crate) async fn client(&self) -> client::Handle<Trusting> {
        self.client_of("deploy@web-1").await
    }

    /// The same as another user.
    pub(crate) async fn client_of(&self, user: &str) -> client::Handle<Trusting> {
        let mut client = self.dial().await;
        let login = client.authenticate_password(user, TOKEN).await.unwrap();
        assert!(login.success());
        client
    }

    /// The data directory.
    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub(crate) fn has_event(&self, is: impl Fn(&Event) -> bool) -> bool {
        self.events.lock().iter().any(is)
    }
}

/// Takes any gateway.
pub(crate) struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;
    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

/// What came on a channel, to its end.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
    pub(crate) status: Option<u32>,
    pub(crate) signal: Option<String>,
    pub(crate) failed: bool,
    /// The status came before the end of output.
    pub(crate) status_first: bool,
}

pub(crate) async fn read(channel: &mut Channel<client::Msg>) -> Seen {
    let mut seen = Seen::default();
    let reading = async {
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => seen.out.extend_from_slice(&data),
                ChannelMsg::ExtendedData { data, .. } => seen.err += &String::from_utf8_lossy(&data),
                ChannelMsg::ExitStatus { exit_status } => seen.status = Some(exit_status),
                ChannelMsg::ExitSignal { signal_name, .. } => seen.signal = Some(format!("{signal_name:?}")),
                ChannelMsg::Eof => seen.status_first = seen.status.is_some(),
                ChannelMsg::Failure => seen.failed = true,
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reading)
        .await
        .expect("the channel ends");
    seen
}

/// Runs a command without input.
pub(crate) async fn run(client: &client::Handle<Trusting>, command: &str) -> Seen {
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, command).await.unwrap();
    channel.eof().await.unwrap();
    read(&mut channel).await
}

#[derive(Clone)]
struct Target {
    asked: Arc<Asked>,
    latency: Duration,
    channels: Arc<Mutex<BTreeMap<ChannelId, Channel<Msg>>>>,
}

async fn target(key: PrivateKey, asked: Arc<Asked>, latency: Duration) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = Arc::new(server::Config {
        keys: vec![key],
        auth_rejection_time_initial: Some(Duration::ZERO),
        server_id: russh::SshId::Standard(Cow::Borrowed("SSH-2.0-target")),
        ..server::Config::default()
    });
    let mut server = Target {
        asked,
        latency,
        channels: Arc::default(),
    };
    tokio::spawn(async move { server.run_on_socket(config, &listener).await });
    address
}

impl server::Server for Target {
    type Handler = Self;
    fn new_client(&mut self, _: Option<SocketAddr>) -> Self {
        self.asked.connections.fetch_add(1, Ordering::SeqCst);
        Self {
            channels: Arc::default(),
            ..self.clone()
        }
    }
}

/// A byte that tells where in a stream it stands.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i.wrapping_mul(31) >> 3) as u8).collect()
}

impl server::Handler for Target {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        user: &str,
        _: server::VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        tokio::time::sleep(self.latency).await;
        Ok(if user == "deploy" {
            Auth::Accept
        } else {
            Auth::reject()
        })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Result<(), russh::Error> {
        self.channels.lock().insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn env_request(
        &mut self,
        _: ChannelId,
        name: &str,
        _: &str,
        _: &mut server::Session,
    ) -> Result<(), russh::Error> {
        self.asked.env.lock().push(name.to_owned());
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        line: &[u8],
        session: &mut server::Session,
    ) -> Result<(), russh::Error> {
        let line = String::from_utf8_lossy(line).replace('\'', "");
        self.asked.commands.lock().push(line.clone());
        session.channel_success(id)?;
        let channel = self.channels.lock().remove(&id).unwrap();
        tokio::spawn(command(line, channel, session.handle()));
        Ok(())
    }
}

async fn command(line: String, channel: Channel<Msg>, handle: server::Handle) {
    let words: Vec<&str> = line.split(' ').collect();
    let number = |index: usize| {
        words
            .get(index)
            .and_then(|word| word.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let id = channel.id();
    match words[0] {
        "flood" => {
            let bytes = pattern(usize::try_from(number(1)).unwrap());
            channel.data_bytes(bytes).await.unwrap();
            channel.exit_status(0).await.unwrap();
        }
        // Echoes for as long as there is input, after a while.
        "cat" => {
            tokio::time::sleep(Duration::from_millis(number(1))).await;
            // Read to the side: whoever writes while nobody reads locks a russh session up.
            let (mut read, write) = channel.split();
            let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
            tokio::spawn(async move {
                while let Some(message) = read.wait().await {
                    match message {
                        ChannelMsg::Data { data } => tell.send(data).unwrap_or_default(),
                        ChannelMsg::Eof => break,
                        _ => {}
                    }
                }
            });
            while let Some(data) = told.recv().await {
                write.data_bytes(data).await.unwrap();
            }
            write.exit_status(0).await.unwrap();
            write.eof().await.unwrap();
            return write.close().await.unwrap();
        }
        "exit" => {
            channel.extended_data_bytes(1, "to stderr").await.unwrap();
            channel.data_bytes("to stdout").await.unwrap();
            channel
                .exit_status(u32::try_from(number(1)).unwrap())
                .await
                .unwrap();
        }
        "signal" => {
            let sent = handle.exit_signal_request(id, russh::Sig::ALRM, false, String::new(), String::new());
            sent.await.unwrap();
        }
        // Ends its output long before it ends.
        "closes" => {
            channel.eof().await.unwrap();
            tokio::time::sleep(Duration::from_millis(number(1))).await;
            channel.exit_status(3).await.unwrap();
            return channel.close().await.unwrap();
        }
        _ => channel.exit_status(127).await.unwrap(),
    }
    let _ = channel.eof().await;
    let _ = channel.close().await;
}
