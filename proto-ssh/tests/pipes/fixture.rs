//! A gateway whose targets are pipes.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::signature::Ed25519KeyPair;
use gateway_core::adapter::{ConfigProblem, Connection, ProtocolAdapter};
use gateway_core::audit::{AuditError, Event};
use gateway_core::credentials::{
    CredentialError, CredentialIssuer, Issuers, Lease, LeaseRequest, NoJournal, STATIC,
};
use gateway_core::embed::{Everyone, Forgets, PolicyFn, Told};
use gateway_core::gateway::{AuditOptions, Gateway, Parts};
use gateway_core::limits::Limits;
use gateway_core::mask::MaskKey;
use gateway_core::principal::{Principal, PrincipalKind};
use gateway_core::resource::Resource;
use gateway_core::secret::Secret;
use gateway_core::services::NobodyApproves;
use gateway_core::tls::{ServerTls, TlsConfig, TlsRequire};
use gateway_core::transport::Transport as Way;
use gateway_core::verdict::{Denial, Obligations, Verdict};
use jiff::Timestamp;
use parking_lot::Mutex;
use proto_ssh::{Dial, SshAdapter};
use russh::keys::ssh_key::PublicKey;
use tokio::io::{DuplexStream, duplex};

use super::peer::Peer;
use super::script::Settings;
use super::target::Target;
use super::transport::{Role, Transport, key_blob};
use super::watch::{Watch, permits};

/// The client's token.
pub const TOKEN: &str = "zeppelin";
/// The target's password.
pub const SECRET: &str = "blimp-of-the-target";
/// Bytes that a pipe holds.
pub const PIPE: usize = 64 << 10;
/// Connections to the target that one script may have.
const TARGETS: usize = 64;

/// A way to a target of one script.
pub struct Targets {
    key: Arc<Ed25519KeyPair>,
    round: Mutex<Option<(Settings, Arc<Watch>)>>,
    pub peers: Mutex<Vec<Peer>>,
}

#[async_trait]
impl Dial for Targets {
    async fn dial(&self, _: &str, _: u16) -> io::Result<Way> {
        let Some((settings, watch)) = self.round.lock().clone() else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let mut peers = self.peers.lock();
        if peers.len() >= TARGETS {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = duplex(PIPE);
        let transport = Transport::new(Role::Target(self.key.clone()), settings.bare_target);
        peers.push(Peer::start(transport, Target::new(settings, watch), ours));
        Ok(Way::Other(Box::new(theirs)))
    }
}

/// The login at the target.
struct Password;

fn lease() -> Lease {
    Lease {
        username: "deploy".to_owned(),
        password: Some(Secret::new(SECRET)),
        issued: None,
    }
}

#[async_trait]
impl CredentialIssuer for Password {
    fn kind(&self) -> &'static str {
        STATIC
    }
    fn check(&self, _: &Resource) -> Result<(), ConfigProblem> {
        Ok(())
    }
    fn term(&self, _: &Resource) -> Option<Duration> {
        None
    }
    async fn lease(&self, _: LeaseRequest<'_>) -> Result<Lease, CredentialError> {
        Ok(lease())
    }
    async fn own(&self, _: &Arc<Resource>) -> Result<Lease, CredentialError> {
        Ok(lease())
    }
}

/// What all scripts of a thread share.
pub struct Fixture {
    adapter: Arc<SshAdapter>,
    pub targets: Arc<Targets>,
    tls: Arc<ServerTls>,
}

impl Fixture {
    pub fn new() -> Self {
        gateway_core::tls::install_provider();
        let dir = tempfile::tempdir().unwrap();
        let targets = Arc::new(Targets {
            key: Arc::new(Ed25519KeyPair::generate().unwrap()),
            round: Mutex::default(),
            peers: Mutex::default(),
        });
        let adapter = SshAdapter::dialling(targets.clone());
        adapter.prepare(dir.path(), &Arc::default()).unwrap();
        Self {
            adapter: Arc::new(adapter),
            targets,
            tls: Arc::new(ServerTls::open(TlsConfig::default(), dir.path()).unwrap()),
        }
    }

    /// A gateway for one script.
    pub fn gateway(&self, settings: Settings, watch: &Arc<Watch>) -> Arc<Gateway> {
        *self.targets.round.lock() = Some((settings, watch.clone()));
        self.targets.peers.lock().clear();
        let (judge, trail) = (watch.clone(), watch.clone());
        let policy = PolicyFn::new("pipes", move |_, _, operations| {
            let all = operations.list();
            let mut obligations = Obligations::default();
            for operation in all.iter().filter(|operation| !permits(operation)) {
                if !operation.or_mask {
                    return Verdict::Deny(Denial::new(operations.summary(), "not here"));
                }
                obligations.mask.insert("found".to_owned());
            }
            if operations.summary().contains("slow") {
                obligations.timeout = Some(Duration::from_secs(20));
            }
            all.iter().for_each(|operation| judge.permitted(operation));
            Verdict::Allow {
                obligations,
                rules: Vec::new(),
            }
        });
        let told = move |_: Timestamp, event: &Event| -> Result<(), AuditError> {
            trail.trail.lock().push(event.clone());
            Ok(())
        };
        let parts = Parts {
            policy: Arc::new(policy),
            audit: Arc::new(Told(told)),
            authenticator: Arc::new(Everyone::known_by(|secret| {
                (secret.expose() == TOKEN).then(|| Principal::new("ann@example.test", PrincipalKind::Human))
            })),
            credentials: Issuers::from([Arc::new(Password) as Arc<dyn CredentialIssuer>]),
            leases: Arc::new(NoJournal),
            approvals: Arc::new(NobodyApproves),
            store: Arc::new(Forgets),
            limits: Limits::default(),
            audit_options: AuditOptions {
                mode: None,
                literals: true,
            },
            tls_require: TlsRequire::Remote,
            mask_key: MaskKey::ephemeral().unwrap(),
            recorder: Arc::new(gateway_core::recording::Unrecorded),
            now: Timestamp::now,
        };
        let resource = Arc::new(self.resource(settings));
        Gateway::new(parts, BTreeMap::from([("web-1".to_owned(), resource)]))
    }

    fn resource(&self, settings: Settings) -> Resource {
        let key = PublicKey::from_bytes(&key_blob(&self.targets.key)).unwrap();
        let mut detect = serde_json::json!([]);
        if settings.detects {
            detect = serde_json::json!([{ "tag": "found", "find": ["email"] }]);
        }
        let serde_json::Value::Object(settings) = serde_json::json!({
            "host_key": key.to_openssh().unwrap(),
            "runbook": [{
                "name": "greet", "command": "ok {name}", "parameters": [{ "name": "name", "type": "word" }],
            }],
        }) else {
            unreachable!()
        };
        let credential = serde_json::json!({ "kind": STATIC, "username": "deploy" });
        Resource {
            name: "web-1".to_owned(),
            protocol: "ssh".to_owned(),
            address: "target.test:22".to_owned(),
            labels: BTreeMap::new(),
            credential: serde_json::from_value(credential).unwrap(),
            audit: None,
            tags: Vec::new(),
            detect: serde_json::from_value(detect).unwrap(),
            functions: Vec::new(),
            recording: None,
            settings,
        }
    }

    /// Serves a client.
    pub async fn serve(&self, gateway: &Arc<Gateway>, pipe: DuplexStream) -> tokio::task::JoinHandle<()> {
        let connection = Connection {
            transport: Way::Other(Box::new(pipe)),
            peer: SocketAddr::from(([192, 0, 2, 1], 40000)),
            via: None,
            gateway: gateway.clone(),
            tls: self.tls.clone(),
            deadline: tokio::time::Instant::now() + gateway.limits().login,
            half_open: None,
        };
        let serving = self.adapter.clone().serve(connection);
        tokio::spawn(async move { drop(serving.await) })
    }
}
