//! A gateway without listeners, its people, and a way to ask it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use gateway_control::api::{self, Api, CertificateRequest, CertificateView, Door, Host, NotCertified};
use gateway_control::approvals::{self, AccessRequest, ApprovalDesk};
use gateway_control::live::{Live, Tapped};
use gateway_control::notify::{self, Notifier};
use gateway_core::adapter::Registry;
use gateway_core::audit::log::{AuditLog, AuditLogOptions};
use gateway_core::audit::{AuditError, AuditSink};
use gateway_core::credentials::{Issuers, NoJournal};
use gateway_core::gateway::{Attempt, AuditOptions, Gateway, Parts, SessionScope};
use gateway_core::limits::Limits;
use gateway_core::mask::MaskKey;
use gateway_core::operation::{Action, EntityRef, Object, Operation, Operations};
use gateway_core::outbox::{Outbox, OutboxMessage, OutboxState};
use gateway_core::policy::{PolicyEngine, Vocabulary};
use gateway_core::principal::{Authenticated, Principal, PrincipalKind};
use gateway_core::recording::{Directory, DirectoryOptions, Kind, Recorded, Recording, Terminal};
use gateway_core::resource::Resource;
use gateway_core::secret::Secret;
use gateway_core::services::{ApprovalRoom, Approvals, AuthError, Authenticator, Held, Opened, Provable};
use gateway_core::session::SessionId;
use gateway_core::tls::TlsRequire;
use gateway_core::verdict::{Hold, Obligations};
use gateway_store::SqliteStore;
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;

const POLICIES: &str = r#"
@id("all-connect") permit (principal in Group::"staff", action == Action::"connect", resource == Resource::"db");
@id("view") permit (principal in Group::"viewers", action == Action::"session-view", resource == Resource::"db");
@id("watch") permit (principal in Group::"watchers", action in [Action::"session-view", Action::"session-watch"],
    resource == Resource::"db");
@id("kill") permit (principal in Group::"killers", action in [Action::"session-view", Action::"session-kill"],
    resource == Resource::"db");
@id("reasons") @reason("required")
permit (principal in Group::"reasoners", action in [Action::"session-kill"], resource == Resource::"db");
@id("audit") permit (principal in Group::"auditors", action in [Action::"session-view", Action::"audit-search"],
    resource == Resource::"db");
@id("admin") permit (principal in Group::"admins", action == Action::"administer", resource == Resource::"db");
@id("ask-kill") @approve("dba") @longest("1h")
permit (principal == ?principal, action == Action::"session-kill", resource in ?resource)
when { principal in Group::"staff" };
@id("root") permit (principal in Group::"root", action, resource);
"#;

/// Subject, groups, and the only resource of the token.
pub(crate) const PEOPLE: &[(&str, &[&str], Option<&str>)] = &[
    ("nobody", &[], None),
    ("staff", &["staff"], None),
    ("viewer", &["viewers"], None),
    ("watcher", &["watchers"], None),
    ("killer", &["killers"], None),
    ("reasoner", &["viewers", "reasoners"], None),
    ("auditor", &["auditors"], None),
    ("admin", &["admins"], None),
    ("dba", &["dba"], None),
    // May everything, with a token that is for something else.
    ("elsewhere", &["root", "dba"], Some("other")),
    ("root", &["root"], None),
];

/// Tokens are names; those here no longer hold.
#[derive(Default)]
pub(crate) struct Tokens(pub(crate) Mutex<BTreeSet<String>>);

#[async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, secret: &Secret) -> Result<Authenticated, AuthError> {
        let name = secret.expose();
        if name == "expired" {
            return Err(AuthError::Expired);
        }
        if self.0.lock().contains(name) {
            return Err(AuthError::Revoked);
        }
        let (subject, groups, only) = PEOPLE
            .iter()
            .find(|(subject, ..)| *subject == name)
            .ok_or(AuthError::Unknown)?;
        let mut principal = Principal::new(*subject, PrincipalKind::Human);
        principal.groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Ok(Authenticated {
            principal: Arc::new(principal),
            credential_id: name.to_owned(),
            expires: None,
            resources: only.map(|only| BTreeSet::from([only.to_owned()])),
        })
    }
    async fn provable(&self, _: &str) -> Result<Option<Provable>, AuthError> {
        Ok(None)
    }
    async fn still_valid(&self, credential: &str) -> Result<bool, AuthError> {
        Ok(!self.0.lock().contains(credential))
    }
}

struct Process;

#[async_trait]
impl Host for Process {
    async fn audit_ready(&self) -> Result<(), AuditError> {
        Ok(())
    }
    fn metrics(&self) -> String {
        "gateway_sessions 0\n".to_owned()
    }
    async fn certify(
        &self,
        who: &Authenticated,
        request: &CertificateRequest,
        seconds: u32,
    ) -> Result<CertificateView, NotCertified> {
        if request.protocol != "lamp" {
            return Err(NotCertified::Wrong("no such protocol".to_owned()));
        }
        Ok(CertificateView {
            id: who.credential_id.clone(),
            certificate: format!("{} {:?}", who.principal.subject, api::resources_of(who, request)),
            fingerprint: seconds.to_string(),
            until: Timestamp::UNIX_EPOCH,
            expires: Timestamp::UNIX_EPOCH,
        })
    }
}

pub(crate) struct World {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) desk: ApprovalDesk,
    pub(crate) live: Arc<Live>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) router: Router,
    pub(crate) sessions: Mutex<Vec<SessionScope>>,
    pub(crate) recorded: Mutex<Vec<Recording>>,
    pub(crate) recordings: Arc<Directory>,
    pub(crate) dir: tempfile::TempDir,
    digests: Mutex<u8>,
    outbox: Arc<dyn Outbox>,
}

fn resource(name: &str) -> Arc<Resource> {
    Arc::new(
        serde_json::from_value(serde_json::json!({
            "name": name, "protocol": "lamp", "address": "10.0.0.1:1",
            "credential": { "kind": "static", "username": "app" },
        }))
        .unwrap(),
    )
}

/// The host that browsers come to.
#[cfg(feature = "console")]
pub(crate) const HOST: &str = "gw.test:6080";

#[cfg(feature = "console")]
fn console(api: &Api) -> Router {
    let mut names = gateway_control::console::Names::default();
    names.add(HOST, false);
    gateway_control::console::router(api, names)
}

#[cfg(not(feature = "console"))]
fn console(_: &Api) -> Router {
    Router::new()
}

/// Where requests come from.
pub(crate) fn net() -> Door {
    Door::Net(SocketAddr::from(([192, 0, 2, 1], 7)))
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let policies = dir.path().join("policies");
        std::fs::create_dir(&policies).unwrap();
        std::fs::write(policies.join("all.cedar"), POLICIES).unwrap();
        let vocabulary = Arc::new(Vocabulary::merge([]).unwrap());
        let engine = Arc::new(PolicyEngine::open(&policies, vocabulary).unwrap());
        let audit_dir = dir.path().join("audit");
        let log: Arc<dyn AuditSink> =
            Arc::new(AuditLog::open(&audit_dir, AuditLogOptions::default()).unwrap());
        let live = Arc::new(Live::default());
        let trail = Arc::new(Tapped::new(log, live.clone()));
        let store = Arc::new(SqliteStore::open(dir.path().join("gateway.db")).await.unwrap());
        let tokens = Arc::new(Tokens::default());
        let options = DirectoryOptions {
            dir: dir.path().join("recordings"),
            spill_dir: None,
            spill_bytes: 0,
            limit: 1 << 20,
            input: true,
            files: false,
            retain: None,
        };
        let recordings =
            Directory::open(options, Arc::default(), trail.clone(), None, Timestamp::now).unwrap();
        let desk = ApprovalDesk::new(approvals::Parts {
            store: store.clone(),
            audit: trail.clone(),
            authenticator: tokens.clone(),
            policy: engine.clone(),
            grants: Some(engine.clone()),
            url: "https://gw".to_owned(),
            room: ApprovalRoom {
                principal: 250,
                all: 250,
            },
            now: Timestamp::now,
        });
        let notifier = Notifier::new(notify::Parts {
            outbox: store.clone(),
            approvals: store.clone(),
            sessions: store.clone(),
            receivers: Vec::new(),
            url: "https://gw".to_owned(),
            kept: notify::KEPT,
            now: Timestamp::now,
        });
        let outbox = store.clone();
        let parts = Parts {
            policy: engine.clone(),
            audit: trail,
            authenticator: tokens.clone(),
            credentials: Issuers::default(),
            leases: Arc::new(NoJournal),
            approvals: Arc::new(desk.clone()),
            store,
            limits: Limits::default(),
            audit_options: AuditOptions {
                mode: None,
                literals: true,
            },
            tls_require: TlsRequire::Remote,
            mask_key: MaskKey::ephemeral().unwrap(),
            recorder: recordings.clone(),
            now: Timestamp::now,
        };
        let resources = BTreeMap::from([
            ("db".to_owned(), resource("db")),
            ("other".to_owned(), resource("other")),
        ]);
        let gateway = Gateway::new(parts, resources);
        let api = Api::new(api::Parts {
            gateway: gateway.clone(),
            approvals: desk.clone(),
            policies: engine,
            notifier,
            slack: None,
            adapters: Registry::new(),
            audit_dir,
            live: live.clone(),
            recordings: recordings.clone(),
            host: Arc::new(Process),
        });
        api.listens(BTreeMap::from([(
            "lamp".to_owned(),
            SocketAddr::from(([127, 0, 0, 1], 6432)),
        )]));
        Self {
            gateway,
            desk,
            live,
            tokens,
            router: api.router(console(&api)),
            sessions: Mutex::default(),
            recorded: Mutex::default(),
            recordings,
            dir,
            digests: Mutex::new(0),
            outbox,
        }
    }

    /// A running session of `staff` on `db`.
    pub(crate) async fn session(&self) -> SessionId {
        let who = self.tokens.authenticate(&Secret::new("staff")).await.unwrap();
        self.session_of(who, None).await
    }

    /// A running session of `staff` on `db` with a terminal that is recorded.
    pub(crate) async fn recording(&self) -> SessionId {
        let id = self.session().await;
        let recorder = self.sessions.lock().last().unwrap().recorder();
        let what = Recorded {
            channel: "0".to_owned(),
            kind: Kind::Shell,
            title: "shell db".to_owned(),
            terminal: Some(Terminal {
                cols: 40,
                rows: 5,
                name: "xterm".to_owned(),
            }),
        };
        let recording = recorder.start(what).await.unwrap();
        self.recorded.lock().push(recording);
        id
    }

    /// A running session on `db`, with what its client says of itself.
    pub(crate) async fn session_of(&self, who: Authenticated, detail: Option<&str>) -> SessionId {
        let attempt = Attempt {
            peer: SocketAddr::from(([127, 0, 0, 1], 9)),
            protocol: "lamp",
            user: "staff@db".to_owned(),
            resource: "db".to_owned(),
            detail: detail.map(str::to_owned),
        };
        let scope = self
            .gateway
            .open_session(&attempt, who, |operation| operation)
            .await
            .unwrap();
        let id = scope.id();
        self.sessions.lock().push(scope);
        id
    }

    /// An open approval that the group `dba` decides.
    pub(crate) async fn approval(&self) -> String {
        self.open(self.held()).await
    }

    /// An operation of `staff` that the group `dba` decides, another one each time.
    pub(crate) fn held(&self) -> Held {
        let digest = {
            let mut digests = self.digests.lock();
            *digests += 1;
            *digests
        };
        let session = SessionId::generate();
        let write = Operation::new(Action::new("write"), Object::new(EntityRef::new("Table", "db/t")));
        Held {
            hold: Hold {
                groups: BTreeSet::from(["dba".to_owned()]),
                approvers: 1,
                expires: None,
                wait: None,
                rules: vec!["held".to_owned()],
                operation: "write t".to_owned(),
                obligations: Obligations::default(),
            },
            session,
            principal: Arc::new(Principal::new("staff", PrincipalKind::Human)),
            resource: resource("db"),
            operations: Arc::new(Operations::new(vec![write], "write t")),
            digest: [digest; 32],
            statement: Some(Arc::from("UPDATE t SET a = 1")),
            parameters: Vec::new(),
            stands_for: Vec::new(),
            estimate: None,
            reason: None,
            policy: self.gateway.policy().version(),
            correlation: format!("{session}/1"),
        }
    }

    /// The approval that it waits for.
    pub(crate) async fn open(&self, held: Held) -> String {
        match self.desk.open(held).await {
            Ok(Opened::Waiting(waiting)) => waiting.notice.approval.unwrap().id,
            _ => panic!("nothing was opened"),
        }
    }

    /// A request for access of `staff` to `db`, another one each time.
    pub(crate) async fn access(&self) -> String {
        let seconds = {
            let mut digests = self.digests.lock();
            *digests += 1;
            u64::from(*digests)
        };
        let request = AccessRequest {
            resource: "db".to_owned(),
            seconds,
            reason: "INC-1".to_owned(),
            actions: BTreeSet::new(),
            on: None,
        };
        let who = self.tokens.authenticate(&Secret::new("staff")).await.unwrap();
        let asked = self.desk.ask_access(&who, &resource("db"), request).await;
        asked.unwrap().id
    }

    /// A message that was given up.
    pub(crate) async fn message(&self) -> String {
        let message = OutboxMessage {
            id: format!("msg_{}", SessionId::generate().to_string().replace('-', "")),
            receiver: "ops".to_owned(),
            kind: "approval.opened".to_owned(),
            body: "{}".to_owned(),
            state: OutboxState::Dead,
            created: Timestamp::now(),
            due: Timestamp::now(),
            attempts: 7,
            error: Some("it answers 500".to_owned()),
        };
        self.outbox.put_message(&message, notify::KEPT).await.unwrap();
        message.id
    }

    pub(crate) async fn send(&self, door: Door, request: Request<Body>) -> Response<Body> {
        let router = api::through(&self.router, door);
        TowerToHyperService::new(router).call(request).await.unwrap()
    }

    /// The answer's head; its body is not read.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&str>,
    ) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = Body::from(body.unwrap_or_default().to_owned());
        self.send(net(), request.body(body).unwrap()).await
    }

    /// Status and JSON of the answer to a `GET`.
    pub(crate) async fn get(&self, path: &str, token: &str) -> (StatusCode, Value) {
        let response = self.ask("GET", path, Some(token), None).await;
        let status = response.status();
        (status, json(response).await)
    }
}

pub(crate) async fn json(response: Response<Body>) -> Value {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("no JSON: {bytes:?}"))
}

/// The problem that an answer is.
pub(crate) async fn problem(response: Response<Body>) -> Value {
    let status = response.status();
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json",
        "{status}"
    );
    let problem = json(response).await;
    assert_eq!(problem["status"], status.as_u16());
    for field in ["type", "title", "detail"] {
        assert!(
            problem[field].as_str().is_some_and(|text| !text.is_empty()),
            "{problem}"
        );
    }
    problem
}
