//! The pipeline: authenticate, authorize, judge, audit. Every adapter goes through here, and only here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use sha2::Digest as _;

use crate::audit::{AuditMode, AuditSink, Event};
use crate::credentials::{CredentialError, Issuers, Lease, LeaseStore};
use crate::limits::Limits;
use crate::mask::MaskKey;
use crate::operation::{Operation, Operations, truncate};
use crate::own::OwnResource;
use crate::principal::Authenticated;
use crate::recording::Recorder;
use crate::resource::Resource;
use crate::secret::Secret;
use crate::services::{Approvals, AuthError, Authenticator, Policy, Store};
use crate::session::{SessionId, SessionRecord};
use crate::tls::TlsRequire;
use crate::verdict::Verdict;

mod everywhere;
mod granted;
mod leases;
mod live;
mod memo;
mod prove;
mod recheck;
mod scope;

pub use live::LiveSessions;
pub use prove::Challenge;
pub use scope::{Before, Control, Counters, Judged, Opening, PREPARED, SessionScope, Woken};

/// What a [`Gateway`] is made of. The outer rooms implement these; core only knows the traits.
pub struct Parts {
    /// Decides.
    pub policy: Arc<dyn Policy>,
    /// Remembers.
    pub audit: Arc<dyn AuditSink>,
    /// Knows who holds a secret.
    pub authenticator: Arc<dyn Authenticator>,
    /// Make credentials for targets.
    pub credentials: Issuers,
    /// The journal of what they make.
    pub leases: Arc<dyn LeaseStore>,
    /// Lets people decide.
    pub approvals: Arc<dyn Approvals>,
    /// Keeps what must outlive the process.
    pub store: Arc<dyn Store>,
    /// Bounds.
    pub limits: Limits,
    /// `[audit]`.
    pub audit_options: AuditOptions,
    /// `[tls] require`.
    pub tls_require: TlsRequire,
    /// The key of keyed masks.
    pub mask_key: MaskKey,
    /// Keeps what sessions show, for adapters that record.
    pub recorder: Arc<dyn Recorder>,
    /// The clock; tests put their own here.
    pub now: fn() -> Timestamp,
}

/// `[audit]` of the configuration, as far as the pipeline is concerned.
#[derive(Debug, Clone, Copy)]
pub struct AuditOptions {
    /// `mode`; `None`: durable for what changes something or was held, batched else.
    pub mode: Option<AuditMode>,
    /// `literals`: whether texts are kept as they are.
    pub literals: bool,
}

/// The pipeline with all that it needs, shared by all sessions.
pub struct Gateway {
    parts: Parts,
    resources: ArcSwap<BTreeMap<String, Arc<Resource>>>,
    own: ArcSwap<BTreeMap<String, Arc<dyn OwnResource>>>,
    live: LiveSessions,
    leases: leases::Leases,
    draining: AtomicBool,
    /// Whether the credentials of running sessions are checked again from time to time.
    rechecking: AtomicBool,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("live", &self.live.len())
            .finish_non_exhaustive()
    }
}

/// A login as it was tried; for the audit trail when it fails.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// From where.
    pub peer: SocketAddr,
    /// The adapter.
    pub protocol: &'static str,
    /// The user name as sent.
    pub user: String,
    /// The resource that it names.
    pub resource: String,
    /// Database or target login.
    pub detail: Option<String>,
}

impl Attempt {
    /// Splits `user = [login@]resource` at its last `@`.
    pub fn split_user(user: &str) -> (Option<&str>, &str) {
        match user.rsplit_once('@') {
            Some((login, resource)) => (Some(login), resource),
            None => (None, user),
        }
    }

    /// What a client that is refused is told instead of the reason, and the log beside it: whoever asks an operator
    /// has this to name. The same for all of an attempt; it tells nothing.
    pub fn correlation(&self) -> String {
        let mut hash = sha2::Sha256::new();
        for part in [self.peer.to_string().as_str(), self.protocol, &self.user] {
            hash.update(part);
            hash.update([0]);
        }
        let bytes = hash.finalize();
        bytes.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Why a login leads to no session. What the client is told is the protocol's way to refuse a login.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoginRefusal {
    /// Who it is could not be shown, or may not connect: told alike.
    #[error("login refused")]
    Refused,
    /// The gateway is full or stops.
    #[error("{0}")]
    Unavailable(&'static str),
}

const DRAINING: LoginRefusal = LoginRefusal::Unavailable("the gateway is shutting down; connect again later");

/// The resources, with the keepers of the secrets that they name.
fn bound(
    mut resources: BTreeMap<String, Arc<Resource>>,
    issuers: &Issuers,
) -> BTreeMap<String, Arc<Resource>> {
    for resource in resources.values_mut() {
        if !resource.credential.kept().is_empty() {
            Arc::make_mut(resource).credential.keepers = issuers.keepers().clone();
        }
    }
    resources
}

impl Gateway {
    /// Puts the parts together.
    pub fn new(parts: Parts, resources: BTreeMap<String, Arc<Resource>>) -> Arc<Self> {
        let resources = bound(resources, &parts.credentials);
        Arc::new(Self {
            parts,
            resources: ArcSwap::from_pointee(resources),
            own: ArcSwap::default(),
            live: LiveSessions::default(),
            leases: leases::Leases::default(),
            draining: AtomicBool::new(false),
            rechecking: AtomicBool::new(false),
        })
    }

    /// The resource of that name, one that the gateway itself answers among them.
    pub fn resource(&self, name: &str) -> Option<Arc<Resource>> {
        // Its own come first: no configuration can take their name.
        match self.own_resource(name) {
            Some(own) => Some(own.resource().clone()),
            None => self.resources.load().get(name).cloned(),
        }
    }

    /// Answers a resource itself from now on.
    pub fn answer(&self, own: &Arc<dyn OwnResource>) {
        self.own.rcu(|all| {
            let mut all = BTreeMap::clone(all);
            all.insert(own.resource().name.clone(), own.clone());
            all
        });
    }

    /// The resource of that name that the gateway itself answers.
    pub fn own_resource(&self, name: &str) -> Option<Arc<dyn OwnResource>> {
        self.own.load().get(name).cloned()
    }

    /// All resources of the configuration.
    pub fn resources(&self) -> Arc<BTreeMap<String, Arc<Resource>>> {
        self.resources.load_full()
    }

    /// Puts other resources in force; running sessions keep theirs.
    pub fn replace_resources(&self, resources: BTreeMap<String, Arc<Resource>>) {
        let resources = bound(resources, &self.parts.credentials);
        self.resources.store(Arc::new(resources));
    }

    /// The sessions that run.
    pub fn live(&self) -> &LiveSessions {
        &self.live
    }

    /// Bounds.
    pub fn limits(&self) -> &Limits {
        &self.parts.limits
    }

    /// The key of keyed masks.
    pub fn mask_key(&self) -> &MaskKey {
        &self.parts.mask_key
    }

    /// `[tls] require`.
    pub fn tls_require(&self) -> TlsRequire {
        self.parts.tls_require
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.parts.store
    }

    /// The policy.
    pub fn policy(&self) -> &Arc<dyn Policy> {
        &self.parts.policy
    }

    /// What keeps recordings.
    pub(crate) fn recorder(&self) -> &dyn Recorder {
        &*self.parts.recorder
    }

    /// The gateway's own login to a resource.
    pub async fn own_login(&self, resource: &Arc<Resource>) -> Result<Lease, CredentialError> {
        self.issuer(resource)?.own(resource).await
    }

    /// The clock.
    pub fn now(&self) -> Timestamp {
        (self.parts.now)()
    }

    /// Writes an event that belongs to no session; durable.
    pub async fn record(&self, event: &Event) -> Result<(), crate::audit::AuditError> {
        self.parts.audit.append(self.now(), event, true)?.settled().await
    }

    /// Writes an event without waiting for the disk, for callers that have nobody to tell.
    pub fn note(&self, event: &Event) {
        if let Err(error) = self.parts.audit.append(self.now(), event, false) {
            tracing::error!(%error, "an audit event was lost");
        }
    }

    /// Whether the gateway stops and takes no new sessions.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Takes no new sessions from now on; the running ones end as they fall quiet, all by the drain limit.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.live.drain();
    }

    /// Verifies a secret. A refusal is in the audit trail; the client is told nothing of why.
    pub async fn authenticate(
        &self,
        attempt: &Attempt,
        secret: &Secret,
    ) -> Result<Authenticated, LoginRefusal> {
        match self.parts.authenticator.authenticate(secret).await {
            Ok(who) => Ok(who),
            Err(error) => Err(self.not_authenticated(attempt, &error)),
        }
    }

    /// Whether what was shown by [`Self::authenticate`] still holds, for what goes on longer than one request. An `Err` says
    /// that it could not be asked.
    pub async fn still_holds(&self, who: &Authenticated) -> Result<bool, AuthError> {
        if who.expires.is_some_and(|expires| expires <= self.now()) {
            return Ok(false);
        }
        self.parts.authenticator.still_valid(&who.credential_id).await
    }

    fn not_authenticated(&self, attempt: &Attempt, error: &AuthError) -> LoginRefusal {
        self.refuse_login(attempt, None, &error.to_string());
        match error {
            AuthError::Unavailable(_) => {
                LoginRefusal::Unavailable("identities cannot be verified now; try again later")
            }
            _ => LoginRefusal::Refused,
        }
    }

    /// Puts a refused login into the trail.
    pub fn refuse_login(&self, attempt: &Attempt, who: Option<&Authenticated>, reason: &str) {
        metrics::counter!("gateway_logins_refused_total", "protocol" => attempt.protocol).increment(1);
        let mut user = attempt.user.clone();
        truncate(&mut user, 256);
        let mut resource = attempt.resource.clone();
        truncate(&mut resource, 256);
        let correlation = attempt.correlation();
        tracing::info!(peer = %attempt.peer, protocol = attempt.protocol, user, reason, %correlation, "login refused");
        self.note(&Event::LoginRefused {
            peer: attempt.peer,
            protocol: attempt.protocol.to_owned(),
            user,
            resource,
            principal: who.map(|w| w.principal.clone()),
            reason: reason.to_owned(),
            correlation,
        });
    }

    /// Decides `connect` and opens a session; its start is in the audit trail, durably, when this returns.
    pub async fn open_session(
        self: &Arc<Self>,
        attempt: &Attempt,
        who: Authenticated,
        context: impl FnOnce(Operation) -> Operation,
    ) -> Result<SessionScope, LoginRefusal> {
        if self.is_draining() {
            return Err(DRAINING);
        }
        let Some(resource) = self
            .resource(&attempt.resource)
            .filter(|r| r.protocol == attempt.protocol)
        else {
            self.refuse_login(attempt, Some(&who), "no such resource");
            return Err(LoginRefusal::Refused);
        };
        if !who.covers(&resource.name) {
            self.refuse_login(attempt, Some(&who), "the token is not for this resource");
            return Err(LoginRefusal::Refused);
        }
        let connect = context(Operation::connect(&resource.name));
        let summary = format!("connect {}", resource.name);
        let operations = Arc::new(Operations::new(vec![connect], summary));
        let (rules, owed) = match self.parts.policy.decide(&who.principal, &resource, &operations) {
            Verdict::Allow { rules, obligations } => {
                let by = obligations.reason_by().map(str::to_owned);
                (rules, obligations.reason_required.then_some(by))
            }
            Verdict::Deny(denial) => {
                let rule = denial.rule.as_deref().unwrap_or("no policy permits it");
                self.refuse_login(attempt, Some(&who), &format!("connect denied: {rule}"));
                return Err(LoginRefusal::Refused);
            }
            Verdict::Hold(_) => {
                self.refuse_login(
                    attempt,
                    Some(&who),
                    "connect is held, and nobody can approve a login here",
                );
                return Err(LoginRefusal::Refused);
            }
        };
        let id = SessionId::generate();
        let record = SessionRecord {
            id,
            principal: (*who.principal).clone(),
            resource: resource.name.clone(),
            protocol: attempt.protocol.to_owned(),
            detail: attempt.detail.clone(),
            peer: attempt.peer,
            started: self.now(),
            ended: None,
            reason: None,
            operations: 0,
            refused: 0,
            rows: 0,
            bytes: 0,
            node: None,
        };
        let Some(counters) = self
            .live
            .enter(record, &who.credential_id, self.parts.limits.sessions)
        else {
            self.refuse_login(attempt, Some(&who), "too many sessions");
            return Err(LoginRefusal::Unavailable(
                "the gateway has no room for another session; try again later",
            ));
        };
        if granted::by_a_grant(&rules) {
            counters
                .granted
                .note(None, &who.principal, &resource, &operations);
        }
        let started = Event::SessionStarted {
            session: id,
            principal: who.principal.clone(),
            credential: who.credential_id.clone(),
            resource: resource.name.clone(),
            protocol: attempt.protocol.to_owned(),
            detail: attempt.detail.clone(),
            peer: attempt.peer,
            rules,
        };
        // From here on the scope sees to it that the session leaves again, also where the login's deadline drops
        // this call before the trail has answered.
        let mut scope = SessionScope::new(self.clone(), id, who, resource, attempt.protocol, counters);
        if let Some(rule) = owed {
            scope.owe_reason(rule);
        }
        if self.is_draining() {
            // It may have entered after the drain told all sessions.
            scope.never_began();
            return Err(DRAINING);
        }
        if let Err(error) = self.record(&started).await {
            tracing::error!(%error, "a session is refused");
            scope.never_began();
            return Err(LoginRefusal::Unavailable(
                "the audit trail cannot be written; nothing is let through",
            ));
        }
        metrics::counter!("gateway_sessions_total", "protocol" => attempt.protocol).increment(1);
        self.recheck_credentials();
        scope.store_record(None);
        Ok(scope)
    }
}
