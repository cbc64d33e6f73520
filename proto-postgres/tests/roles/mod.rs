//! A server, a gateway in front of it whose policy is a closure, and psql.
#![allow(dead_code, reason = "each test uses some of it")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use gateway_core::adapter::{Connection, ProtocolAdapter};
use gateway_core::credentials::{
    CredentialError, CredentialIssuer, Issuers, Lease, LeaseRecord, LeaseRequest, LeaseState, LeaseStore,
    Slot,
};
use gateway_core::embed::{Everyone, Forgets, Told};
use gateway_core::gateway::{AuditOptions, Gateway, Parts};
use gateway_core::limits::Limits;
use gateway_core::operation::{Operation, Operations};
use gateway_core::principal::{Principal, PrincipalKind};
use gateway_core::resource::Resource;
use gateway_core::secret::Secret;
use gateway_core::services::{NobodyApproves, Policy, StoreError};
use gateway_core::session::SessionId;
use gateway_core::tls::{ServerTls, TlsConfig, TlsRequire, install_provider};
use gateway_core::transport::Transport;
use gateway_core::verdict::{Denial, Verdict};
use gateway_testkit::{PostgresOptions, PostgresServer};
use jiff::Timestamp;
use parking_lot::Mutex;
use proto_postgres::PostgresAdapter;
use tokio::net::TcpListener;

pub const INSTALLATION: &str = "inst7";

/// The journal, in memory, and what leases have of pools.
#[derive(Default)]
pub struct Journal(
    pub Mutex<BTreeMap<String, LeaseRecord>>,
    Mutex<BTreeMap<String, Slot>>,
);

#[async_trait]
impl LeaseStore for Journal {
    async fn installation(&self) -> Result<String, StoreError> {
        Ok(INSTALLATION.to_owned())
    }
    async fn put_lease(&self, lease: &LeaseRecord) -> Result<(), StoreError> {
        self.0.lock().insert(lease.id.clone(), lease.clone());
        Ok(())
    }
    async fn remove_lease(&self, id: &str) -> Result<(), StoreError> {
        self.0.lock().remove(id);
        self.1.lock().remove(id);
        Ok(())
    }
    async fn has_lease(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self.0.lock().contains_key(id))
    }
    async fn claim_slot(&self, id: &str, slot: &Slot) -> Result<bool, StoreError> {
        let mut slots = self.1.lock();
        if slots.iter().any(|(other, taken)| other != id && taken == slot) {
            return Ok(false);
        }
        slots.insert(id.to_owned(), slot.clone());
        Ok(true)
    }
    async fn slot_of(&self, id: &str) -> Result<Option<Slot>, StoreError> {
        Ok(self.1.lock().get(id).cloned())
    }
    async fn slots(&self, pool: &str) -> Result<Vec<String>, StoreError> {
        let slots = self.1.lock();
        let of = slots.values().filter(|slot| slot.pool == pool);
        Ok(of.map(|slot| slot.name.clone()).collect())
    }
    async fn leases(&self, _: u32) -> Result<Vec<LeaseRecord>, StoreError> {
        Ok(self.0.lock().values().cloned().collect())
    }
    async fn take_returned(
        &self,
        _: Timestamp,
        _: Timestamp,
        _: u32,
    ) -> Result<Vec<LeaseRecord>, StoreError> {
        Ok(Vec::new())
    }
    async fn return_orphans(&self, _: Timestamp, _: bool) -> Result<u64, StoreError> {
        Ok(0)
    }
}

/// What policy permits: `action object` as it is written, `*` at an end for any.
pub type Permits = Arc<Mutex<Vec<String>>>;

fn permits(list: &[String], operation: &Operation) -> bool {
    let asked = format!("{} {}", operation.action, operation.object.entity.id);
    list.iter().any(|rule| match rule.strip_suffix('*') {
        Some(prefix) => asked.starts_with(prefix),
        None => *rule == asked,
    })
}

/// The list as policy; as Cedar's, it tells when it is another.
struct Listed {
    permits: Permits,
    generation: AtomicU64,
}

impl Policy for Listed {
    fn decide(&self, _: &Arc<Principal>, _: &Arc<Resource>, operations: &Arc<Operations>) -> Verdict {
        let rules = self.permits.lock();
        let free = |o: &Operation| {
            // Nothing is forbidden here, so what comes with something else is as free as that.
            o.action.as_str() == "connect" || o.or_mask || o.reached || permits(&rules, o)
        };
        match operations.list().iter().find(|o| !free(o)) {
            None => Verdict::free(),
            Some(o) => Verdict::Deny(Denial::new(o.action.to_string(), "not permitted by the test")),
        }
    }

    fn version(&self) -> Arc<str> {
        Arc::from("test")
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    fn holds_for_its_version(&self) -> bool {
        true
    }
}

pub struct World {
    policy: Arc<Listed>,
    pub replica: Option<PostgresServer>,
    pub server: PostgresServer,
    pub gateway: Arc<Gateway>,
    pub issuer: Arc<dyn CredentialIssuer>,
    pub resource: Arc<Resource>,
    pub journal: Arc<Journal>,
    /// Where the gateway listens.
    pub address: SocketAddr,
    /// The file with the admin login's password.
    pub password: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

pub struct Options<'a> {
    pub admin: &'a str,
    pub owned: &'a str,
    /// Run by the superuser first.
    pub sql: &'a str,
    pub permits: &'a [&'a str],
    /// Further keys of the resource.
    pub tags: serde_json::Value,
    /// `credential`, but for its `admin`; none: a role for each session.
    pub credential: serde_json::Value,
    /// Sessions go to a standby that follows the server.
    pub replica: bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            admin: PostgresServer::USER,
            owned: "keep",
            sql: "",
            permits: &[],
            tags: serde_json::json!([]),
            credential: serde_json::Value::Null,
            replica: false,
        }
    }
}

/// Everybody's word.
pub const WORD: &str = "open-sesame";

impl World {
    pub async fn start(options: Options<'_>) -> Self {
        install_provider();
        let server = PostgresServer::start(&PostgresOptions::default());
        if !options.sql.is_empty() {
            server.sql("postgres", options.sql);
        }
        let dir = tempfile::tempdir().unwrap();
        let password = dir.path().join("password");
        std::fs::write(&password, PostgresServer::PASSWORD).unwrap();
        let replica = options.replica.then(|| server.replica());
        let mut credential = options.credential;
        if credential.is_null() {
            credential = serde_json::json!({ "kind": "role", "owned": options.owned });
        }
        credential["admin"] =
            serde_json::json!({ "username": options.admin, "password": { "file": password } });
        let mut address = server.address();
        if let Some(replica) = &replica {
            credential["admin"]["address"] = address.to_string().into();
            address = replica.address();
        }
        let resource: Arc<Resource> = Arc::new(
            serde_json::from_value(serde_json::json!({
                "name": "shop", "protocol": "postgres", "address": address.to_string(), "tls": "disable",
                "credential": credential, "tag": options.tags,
            }))
            .unwrap(),
        );
        let adapter = Arc::new(PostgresAdapter::default());
        adapter.check_resource(&resource).unwrap();
        let issuer = Issuers::with(adapter.issuers()).of(&resource).unwrap().clone();
        issuer.check(&resource).unwrap();
        let list = options.permits.iter().map(|&p| p.to_owned()).collect();
        let list: Permits = Arc::new(Mutex::new(list));
        let journal = Arc::new(Journal::default());
        let policy = Arc::new(Listed {
            permits: list.clone(),
            generation: AtomicU64::new(0),
        });
        let guest = |secret: &Secret| {
            // The word and then the name.
            let name = secret.expose().strip_prefix(WORD)?;
            Some(Principal::new(format!("guest{name}"), PrincipalKind::Human))
        };
        let parts = Parts {
            policy: policy.clone(),
            audit: Arc::new(Told(|_, _: &gateway_core::audit::Event| Ok(()))),
            authenticator: Arc::new(Everyone::known_by(guest)),
            credentials: Issuers::with(adapter.issuers()),
            leases: journal.clone(),
            approvals: Arc::new(NobodyApproves),
            store: Arc::new(Forgets),
            limits: Limits::default(),
            audit_options: AuditOptions {
                mode: None,
                literals: true,
            },
            tls_require: TlsRequire::Remote,
            mask_key: gateway_core::mask::MaskKey::ephemeral().unwrap(),
            recorder: std::sync::Arc::new(gateway_core::recording::Unrecorded),
            now: Timestamp::now,
        };
        let gateway = Gateway::new(parts, BTreeMap::from([("shop".to_owned(), resource.clone())]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = Arc::new(ServerTls::open(TlsConfig::default(), dir.path()).unwrap());
        let serving = gateway.clone();
        tokio::spawn(async move {
            loop {
                let (tcp, peer) = listener.accept().await.unwrap();
                let connection = Connection {
                    transport: Transport::Tcp(tcp),
                    peer,
                    via: None,
                    gateway: serving.clone(),
                    tls: tls.clone(),
                    deadline: tokio::time::Instant::now() + serving.limits().login,
                    half_open: None,
                };
                tokio::spawn(adapter.clone().serve(connection));
            }
        });
        Self {
            replica,
            server,
            gateway,
            issuer,
            resource,
            policy,
            journal,
            address,
            password,
            _dir: dir,
        }
    }

    pub fn permit(&self, rules: &[&str]) {
        *self.policy.permits.lock() = rules.iter().map(|&rule| rule.to_owned()).collect();
        self.policy.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// What psql prints through the gateway, errors and all.
    pub async fn psql(&self, database: &str, sql: &str) -> String {
        self.psql_as("", database, sql).await
    }

    pub async fn psql_as(&self, name: &str, database: &str, sql: &str) -> String {
        let target = format!(
            "host=127.0.0.1 port={} user=anyone@shop dbname={database} sslmode=disable",
            self.address.port()
        );
        let run = tokio::process::Command::new("psql")
            .args(["-X", "-q", "-A", "-t", "-d", &target, "-c", sql])
            .env("PGPASSWORD", format!("{WORD}{name}"))
            .output();
        let done = run.await.unwrap();
        String::from_utf8_lossy(&[done.stdout, done.stderr].concat())
            .trim()
            .to_owned()
    }

    /// Where sessions go.
    pub fn target(&self) -> &PostgresServer {
        self.replica.as_ref().unwrap_or(&self.server)
    }

    /// Straight at the server, as a role that was leased.
    pub async fn direct(&self, lease: &Lease, database: &str, sql: &str) -> String {
        let run = tokio::process::Command::new("psql")
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-h",
                "127.0.0.1",
                "-U",
                &lease.username,
                "-d",
                database,
                "-c",
                sql,
            ])
            .env("PGPORT", self.target().port().to_string())
            .env("PGPASSWORD", lease.password.as_ref().unwrap().expose())
            .output();
        let done = run.await.unwrap();
        String::from_utf8_lossy(&[done.stdout, done.stderr].concat())
            .trim()
            .to_owned()
    }

    pub fn record(&self, id: &str, database: &str) -> LeaseRecord {
        let now = Timestamp::now();
        LeaseRecord {
            id: id.to_owned(),
            kind: self.issuer.kind().to_owned(),
            resource: "shop".to_owned(),
            place: Some(database.to_owned()),
            session: SessionId::generate(),
            subject: "guest".to_owned(),
            created: now,
            expires: now + std::time::Duration::from_secs(900),
            state: LeaseState::Held,
            attempts: 0,
            due: now,
            error: None,
            handle: None,
        }
    }

    pub fn guest(&self) -> Arc<Principal> {
        Arc::new(Principal::new("guest", PrincipalKind::Human))
    }

    pub async fn lease(&self, record: &LeaseRecord) -> Result<Lease, CredentialError> {
        self.lease_for(record, &self.guest()).await
    }

    pub async fn lease_for(
        &self,
        record: &LeaseRecord,
        who: &Arc<Principal>,
    ) -> Result<Lease, CredentialError> {
        self.lease_by(&*self.issuer, record, who).await
    }

    /// The issuer of another gateway.
    pub fn another(&self) -> Arc<dyn CredentialIssuer> {
        let issuers = Issuers::with(PostgresAdapter::default().issuers());
        issuers.of(&self.resource).unwrap().clone()
    }

    pub async fn lease_by(
        &self,
        issuer: &dyn CredentialIssuer,
        record: &LeaseRecord,
        who: &Arc<Principal>,
    ) -> Result<Lease, CredentialError> {
        let request = LeaseRequest {
            gateway: &self.gateway,
            id: &record.id,
            session: record.session,
            principal: who,
            resource: &self.resource,
            place: record.place.as_deref(),
            expires: Some(record.expires),
        };
        issuer.lease(request).await
    }

    pub async fn adjust(&self, record: &LeaseRecord) {
        self.issuer
            .adjust(&self.gateway, &self.guest(), &self.resource, record)
            .await
            .unwrap();
    }

    pub async fn revoke(&self, record: &LeaseRecord) -> Result<(), CredentialError> {
        self.issuer.revoke(&self.gateway, &self.resource, record).await
    }

    pub async fn sweep(&self) -> Vec<String> {
        self.issuer.sweep(&self.gateway, &self.resource).await.unwrap()
    }

    /// Roles of sessions that are there.
    pub fn roles(&self) -> String {
        self.server.sql(
            "postgres",
            "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles WHERE rolname LIKE 'gw\\_%'",
        )
    }

    /// Waits until no session's role is there.
    pub async fn all_gone(&self) {
        for _ in 0..100 {
            if self.roles().is_empty() && self.journal.0.lock().is_empty() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("still there: {} {:?}", self.roles(), self.journal.0.lock());
    }
}
