//! A gateway of fakes that a test can steer, and sessions over pipes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use gateway_core::adapter::ConfigProblem;
use gateway_core::audit::{AuditError, AuditSink, Event, Receipt};
use gateway_core::credentials::{
    CredentialError, CredentialIssuer, Issued, Issuers, Lease, LeaseRecord, LeaseRequest, LeaseState,
    LeaseStore, Slot,
};
use gateway_core::gateway::{Attempt, AuditOptions, Gateway, LoginRefusal, Parts, SessionScope};
use gateway_core::limits::Limits;
use gateway_core::machine::{End, Outbound};
use gateway_core::operation::Operations;
use gateway_core::principal::{Authenticated, Principal, PrincipalKind};
use gateway_core::relay::{Leftover, Relay};
use gateway_core::resource::{CredentialConfig, Resource};
use gateway_core::secret::Secret;
use gateway_core::services::{
    Answer, Approvals, AuthError, Authenticator, Held, Opened, Policy, Provable, SessionFilter, Store,
    StoreError, TokenRecord, Waiting,
};
use gateway_core::session::{SessionId, SessionRecord};
use gateway_core::tls::TlsRequire;
use gateway_core::transport::{Stream, Transport};
use gateway_core::verdict::{Code, Decision, Denial, Hold, Obligations, Verdict};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::lines::{Interrupts, Lines, LinesProvider, PROTOCOL};

thread_local! {
    static PASSED: std::cell::Cell<i64> = const { std::cell::Cell::new(0) };
}

/// The clock on the gateway's wall stands still, but for what [`pass`] says.
pub(crate) fn wall() -> Timestamp {
    Timestamp::from_second(1_800_000_000 + PASSED.get()).unwrap()
}

/// So many seconds pass on the wall; negative: it is set back.
pub(crate) fn pass(seconds: i64) {
    PASSED.set(PASSED.get() + seconds);
}

/// Decides by a line's verb: `DENY` never, `HOLD` by a person, `SLOW` in a second, all else may.
type Rule = dyn Fn(&str) -> Verdict + Send + Sync;

pub(crate) struct Rules(Mutex<Arc<Rule>>);

pub(crate) fn usual(line: &str) -> Verdict {
    match line.split(' ').next().unwrap_or_default() {
        "DENY" => Verdict::Deny(Denial::new(line, "only others are permitted")),
        "HOLD" => Verdict::Hold(Hold {
            groups: BTreeSet::from(["owners".to_owned()]),
            approvers: 1,
            expires: None,
            wait: None,
            rules: vec!["hold-it".to_owned()],
            operation: line.to_owned(),
            obligations: Obligations::default(),
        }),
        "SLOW" => Verdict::Allow {
            obligations: Obligations {
                timeout: Some(Duration::from_secs(1)),
                ..Obligations::default()
            },
            rules: Vec::new(),
        },
        _ => Verdict::free(),
    }
}

impl Policy for Rules {
    fn decide(&self, _: &Arc<Principal>, _: &Arc<Resource>, operations: &Arc<Operations>) -> Verdict {
        let rule = self.0.lock().clone();
        rule(operations.summary())
    }

    fn version(&self) -> Arc<str> {
        Arc::from("v1")
    }
}

/// What the trail does with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Take,
    /// The test settles it.
    Pend,
    Fail,
}

type Settle = oneshot::Sender<Result<(), AuditError>>;

pub(crate) struct Trail {
    pub(crate) events: Mutex<Vec<Event>>,
    /// For operations.
    pub(crate) mode: Mutex<Mode>,
    /// For starts of sessions.
    pub(crate) start: Mutex<Mode>,
    pub(crate) pending: Mutex<Vec<Settle>>,
}

impl Trail {
    pub(crate) fn set(&self, mode: Mode) {
        *self.mode.lock() = mode;
    }

    /// Settles the oldest pending event.
    pub(crate) fn settle(&self, result: Result<(), AuditError>) {
        let settle = self.pending.lock().remove(0);
        let _ = settle.send(result);
    }

    pub(crate) fn operations(&self) -> Vec<String> {
        let events = self.events.lock();
        let line = |event: &Event| match event {
            Event::Operation {
                operation, verdict, ..
            } => Some(format!("{verdict} {operation}")),
            _ => None,
        };
        events.iter().filter_map(line).collect()
    }

    pub(crate) fn outcomes(&self) -> usize {
        let events = self.events.lock();
        events
            .iter()
            .filter(|e| matches!(e, Event::Outcome { .. }))
            .count()
    }

    /// With which error, if any, operations ended.
    pub(crate) fn errors(&self) -> Vec<Option<String>> {
        let events = self.events.lock();
        let error = |event: &Event| match event {
            Event::Outcome { error, .. } => Some(error.clone()),
            _ => None,
        };
        events.iter().filter_map(error).collect()
    }

    /// Reason, operations and refusals of each session that ended.
    pub(crate) fn ends(&self) -> Vec<(String, u64, u64)> {
        let events = self.events.lock();
        let end = |event: &Event| match event {
            Event::SessionEnded {
                reason,
                operations,
                refused,
                ..
            } => Some((reason.clone(), *operations, *refused)),
            _ => None,
        };
        events.iter().filter_map(end).collect()
    }
}

impl AuditSink for Trail {
    fn append(&self, _: Timestamp, event: &Event, _: bool) -> Result<Receipt, AuditError> {
        let mode = match event {
            Event::Operation { .. } => *self.mode.lock(),
            Event::SessionStarted { .. } => *self.start.lock(),
            _ => Mode::Take,
        };
        if mode == Mode::Fail {
            return Err(AuditError::Write("no space".into()));
        }
        self.events.lock().push(event.clone());
        if mode == Mode::Take {
            return Ok(Receipt::Taken);
        }
        let (settle, receipt) = oneshot::channel();
        self.pending.lock().push(settle);
        Ok(Receipt::Pending(receipt))
    }
}

/// Approvals that the test answers.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) asked: Mutex<Vec<oneshot::Sender<Result<(), Decision>>>>,
    /// Digests of all that was held.
    pub(crate) held: Mutex<Vec<[u8; 32]>>,
    /// Digests that were approved and not used.
    pub(crate) approved: Arc<Mutex<BTreeSet<[u8; 32]>>>,
}

impl Approvals for Desk {
    fn open(&self, held: Held) -> BoxFuture<'static, Result<Opened, Denial>> {
        if self.approved.lock().contains(&held.digest) {
            return Box::pin(std::future::ready(Ok(Opened::Approved("apr_1".into()))));
        }
        self.held.lock().push(held.digest);
        let (answer, answered) = oneshot::channel();
        self.asked.lock().push(answer);
        let notice = Denial {
            code: Code::ApprovalPending,
            ..Denial::new(held.hold.operation, "ask an owner")
        };
        let gone = notice.decision(held.correlation.clone());
        let approved = self.approved.clone();
        let waiting = Waiting {
            notice: notice.decision(held.correlation),
            answer: Box::pin(async move {
                match answered.await.unwrap_or(Err(gone)) {
                    Ok(()) => {
                        approved.lock().insert(held.digest);
                        Answer::Again
                    }
                    Err(decision) => Answer::Refused(decision),
                }
            }),
        };
        Box::pin(std::future::ready(Ok(Opened::Waiting(waiting))))
    }

    fn claim(&self, _: String, held: Held) -> BoxFuture<'static, Result<bool, Denial>> {
        let won = self.approved.lock().remove(&held.digest);
        Box::pin(std::future::ready(Ok(won)))
    }
}

/// Knows every token but `bad`; `expires` and `revoked` are for all.
#[derive(Default)]
pub(crate) struct Identity {
    pub(crate) expires: Mutex<Option<Duration>>,
    pub(crate) revoked: AtomicBool,
    /// Whether checking again panics.
    pub(crate) panics: AtomicBool,
}

#[async_trait]
impl Authenticator for Identity {
    async fn authenticate(&self, secret: &Secret) -> Result<Authenticated, AuthError> {
        if secret.expose() == "bad" {
            return Err(AuthError::Unknown);
        }
        Ok(Authenticated {
            principal: Arc::new(Principal::new("ann@example.com", PrincipalKind::Human)),
            credential_id: "tok_1".into(),
            expires: self.expires.lock().map(|left| wall() + left),
            resources: None,
        })
    }

    async fn provable(&self, _: &str) -> Result<Option<Provable>, AuthError> {
        Ok(None)
    }

    async fn still_valid(&self, _: &str) -> Result<bool, AuthError> {
        assert!(!self.panics.load(Ordering::Relaxed), "as the test wants");
        Ok(!self.revoked.load(Ordering::Relaxed))
    }
}

#[derive(Default)]
pub(crate) struct Issuer {
    pub(crate) leased: Mutex<Vec<String>>,
    pub(crate) revoked: Mutex<Vec<String>>,
    pub(crate) renewed: AtomicU64,
    pub(crate) handles: Mutex<Vec<Option<String>>>,
    /// What making a lease waits for.
    pub(crate) hurdle: Mutex<Option<Arc<tokio::sync::Notify>>>,
    /// What the issuer itself calls what it makes.
    pub(crate) issued: Mutex<Option<Issued>>,
    /// Nothing is good for longer.
    pub(crate) end: Mutex<Option<Timestamp>>,
    /// Nothing can be taken back.
    pub(crate) away: AtomicBool,
    /// Nothing can be adjusted.
    pub(crate) rigid: AtomicBool,
}

#[async_trait]
impl CredentialIssuer for Issuer {
    fn kind(&self) -> &'static str {
        "static"
    }

    fn check(&self, _: &Resource) -> Result<(), ConfigProblem> {
        Ok(())
    }

    fn term(&self, _: &Resource) -> Option<Duration> {
        Some(Duration::from_secs(60))
    }

    async fn lease(&self, request: LeaseRequest<'_>) -> Result<Lease, CredentialError> {
        self.leased.lock().push(request.id.to_owned());
        let hurdle = self.hurdle.lock().clone();
        if let Some(hurdle) = hurdle {
            hurdle.notified().await;
        }
        Ok(Lease {
            username: "app".into(),
            password: None,
            issued: self.issued.lock().clone(),
        })
    }

    async fn own(&self, _: &Arc<Resource>) -> Result<Lease, CredentialError> {
        Err(CredentialError::Source("none".into()))
    }

    async fn renew(
        &self,
        _: &Arc<Gateway>,
        _: &Arc<Resource>,
        _: &LeaseRecord,
        until: Timestamp,
    ) -> Result<Timestamp, CredentialError> {
        self.renewed.fetch_add(1, Ordering::Relaxed);
        Ok(self.end.lock().map_or(until, |end| end.min(until)))
    }

    async fn adjust(
        &self,
        _: &Arc<Gateway>,
        _: &Arc<Principal>,
        _: &Arc<Resource>,
        _: &LeaseRecord,
    ) -> Result<(), CredentialError> {
        match self.rigid.load(Ordering::Relaxed) {
            true => Err(CredentialError::Issuer("the target is away".into())),
            false => Ok(()),
        }
    }

    async fn revoke(
        &self,
        _: &Arc<Gateway>,
        _: &Arc<Resource>,
        lease: &LeaseRecord,
    ) -> Result<(), CredentialError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(CredentialError::Issuer("the target is away".into()));
        }
        self.revoked.lock().push(lease.id.clone());
        self.handles.lock().push(lease.handle.clone());
        Ok(())
    }
}

/// A journal in memory.
#[derive(Default)]
pub(crate) struct Journal {
    pub(crate) leases: Mutex<BTreeMap<String, LeaseRecord>>,
    slots: Mutex<BTreeMap<String, Slot>>,
    pub(crate) broken: AtomicBool,
}

#[async_trait]
impl LeaseStore for Journal {
    async fn installation(&self) -> Result<String, StoreError> {
        Ok("here".into())
    }
    async fn put_lease(&self, lease: &LeaseRecord) -> Result<(), StoreError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(StoreError::Database("the disk is full".into()));
        }
        self.leases.lock().insert(lease.id.clone(), lease.clone());
        Ok(())
    }
    async fn remove_lease(&self, id: &str) -> Result<(), StoreError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(StoreError::Database("the disk is full".into()));
        }
        self.leases.lock().remove(id);
        self.slots.lock().remove(id);
        Ok(())
    }
    async fn has_lease(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self.leases.lock().contains_key(id))
    }
    async fn claim_slot(&self, id: &str, slot: &Slot) -> Result<bool, StoreError> {
        let mut slots = self.slots.lock();
        if slots.iter().any(|(other, taken)| other != id && taken == slot) {
            return Ok(false);
        }
        slots.insert(id.to_owned(), slot.clone());
        Ok(true)
    }
    async fn slot_of(&self, id: &str) -> Result<Option<Slot>, StoreError> {
        Ok(self.slots.lock().get(id).cloned())
    }
    async fn slots(&self, pool: &str) -> Result<Vec<String>, StoreError> {
        let slots = self.slots.lock();
        let of = slots.values().filter(|slot| slot.pool == pool);
        Ok(of.map(|slot| slot.name.clone()).collect())
    }
    async fn leases(&self, _: u32) -> Result<Vec<LeaseRecord>, StoreError> {
        Ok(self.leases.lock().values().cloned().collect())
    }
    async fn take_returned(
        &self,
        now: Timestamp,
        until: Timestamp,
        _: u32,
    ) -> Result<Vec<LeaseRecord>, StoreError> {
        let mut taken = Vec::new();
        for lease in self.leases.lock().values_mut() {
            if lease.state == LeaseState::Returned && lease.due <= now {
                lease.due = until;
                taken.push(lease.clone());
            }
        }
        Ok(taken)
    }
    async fn return_orphans(&self, now: Timestamp, own: bool) -> Result<u64, StoreError> {
        let mut count = 0;
        for lease in self.leases.lock().values_mut().filter(|_| own) {
            lease.state = LeaseState::Returned;
            lease.due = now;
            count += 1;
        }
        Ok(count)
    }
}

#[derive(Default)]
pub(crate) struct Memory {
    sessions: Mutex<BTreeMap<SessionId, SessionRecord>>,
}

#[async_trait]
impl Store for Memory {
    async fn insert_token(&self, _: &TokenRecord) -> Result<(), StoreError> {
        Ok(())
    }
    async fn token(&self, _: &str) -> Result<Option<TokenRecord>, StoreError> {
        Ok(None)
    }
    async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        Ok(Vec::new())
    }
    async fn revoke_token(&self, _: &str, _: Timestamp) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn put_session(&self, session: &SessionRecord) -> Result<(), StoreError> {
        self.sessions.lock().insert(session.id, session.clone());
        Ok(())
    }
    async fn session(&self, id: SessionId) -> Result<Option<SessionRecord>, StoreError> {
        Ok(self.sessions.lock().get(&id).cloned())
    }
    async fn sessions(&self, _: SessionFilter, _: u32) -> Result<Vec<SessionRecord>, StoreError> {
        Ok(self.sessions.lock().values().cloned().collect())
    }
    async fn close_orphans(&self, _: Timestamp, _: &str) -> Result<u64, StoreError> {
        Ok(0)
    }
}

pub(crate) struct World {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) trail: Arc<Trail>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) interrupts: Arc<Interrupts>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default(), "127.0.0.1:1")
    }

    pub(crate) fn limited(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        Self::with(limits, "127.0.0.1:1")
    }

    pub(crate) fn with(limits: Limits, address: &str) -> Self {
        let desk = Arc::new(Desk::default());
        Self::build(limits, address, desk.clone(), desk)
    }

    pub(crate) fn build(
        limits: Limits,
        address: &str,
        desk: Arc<Desk>,
        approvals: Arc<dyn Approvals>,
    ) -> Self {
        let rules = Arc::new(Rules(Mutex::new(Arc::new(usual))));
        let trail = Arc::new(Trail {
            events: Mutex::default(),
            mode: Mutex::new(Mode::Take),
            start: Mutex::new(Mode::Take),
            pending: Mutex::default(),
        });
        let identity = Arc::new(Identity::default());
        let issuer = Arc::new(Issuer::default());
        let journal = Arc::new(Journal::default());
        let resource = Resource {
            name: "lines-1".into(),
            protocol: PROTOCOL.into(),
            address: address.into(),
            labels: BTreeMap::new(),
            credential: CredentialConfig::login_as("app"),
            audit: None,
            tags: Vec::new(),
            detect: Vec::new(),
            functions: Vec::new(),
            recording: None,
            settings: serde_json::Map::new(),
        };
        let parts = Parts {
            policy: rules.clone(),
            audit: trail.clone(),
            authenticator: identity.clone(),
            credentials: Issuers::from([issuer.clone() as Arc<dyn CredentialIssuer>]),
            leases: journal.clone(),
            approvals,
            store: Arc::new(Memory::default()),
            limits,
            audit_options: AuditOptions {
                mode: None,
                literals: true,
            },
            tls_require: TlsRequire::default(),
            mask_key: gateway_core::mask::MaskKey::ephemeral().unwrap(),
            recorder: std::sync::Arc::new(gateway_core::recording::Unrecorded),
            now: wall,
        };
        let resources = BTreeMap::from([(resource.name.clone(), Arc::new(resource))]);
        Self {
            gateway: Gateway::new(parts, resources),
            rules,
            trail,
            desk,
            identity,
            issuer,
            journal,
            interrupts: Arc::default(),
        }
    }

    pub(crate) fn rule(&self, rule: impl Fn(&str) -> Verdict + Send + Sync + 'static) {
        *self.rules.0.lock() = Arc::new(rule);
    }

    pub(crate) fn attempt() -> Attempt {
        Attempt {
            peer: ([127, 0, 0, 1], 40_000).into(),
            protocol: PROTOCOL,
            user: "lines-1".into(),
            resource: "lines-1".into(),
            detail: None,
        }
    }

    pub(crate) async fn open(&self) -> Result<SessionScope, LoginRefusal> {
        let attempt = Self::attempt();
        let who = self.gateway.authenticate(&attempt, &Secret::new("good")).await?;
        self.gateway.open_session(&attempt, who, |o| o).await
    }

    /// A session over pipes of 64 KiB.
    pub(crate) async fn session(&self) -> Wire {
        self.session_over(|pipe| Box::new(pipe)).await
    }

    /// A session whose target is reached through what `wrap` makes of the pipe to it.
    pub(crate) async fn session_over(&self, wrap: fn(DuplexStream) -> Box<dyn Stream>) -> Wire {
        let mut scope = self.open().await.unwrap();
        let id = scope.id();
        let (client, inner_client) = tokio::io::duplex(PIPE);
        let (target, inner_target) = tokio::io::duplex(PIPE);
        let provider = LinesProvider(self.interrupts.clone());
        let inner_target = wrap(inner_target);
        let task = tokio::spawn(async move {
            Relay::new(
                &mut scope,
                Lines::default(),
                provider,
                Transport::Other(Box::new(inner_client)),
                Transport::Other(inner_target),
                Leftover::default(),
                Outbound::default(),
            )
            .run()
            .await
        });
        Wire {
            id,
            client,
            target,
            task,
        }
    }
}

pub(crate) const PIPE: usize = 64 * 1024;

/// A connection that is reset where the peer's end of it would close.
pub(crate) struct Reset(pub(crate) DuplexStream);

impl AsyncRead for Reset {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(cx, into))?;
        let reset = into.filled().len() == before;
        Poll::Ready(if reset {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            Ok(())
        })
    }
}

impl AsyncWrite for Reset {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Both ends of a session.
pub(crate) struct Wire {
    pub(crate) id: SessionId,
    pub(crate) client: DuplexStream,
    pub(crate) target: DuplexStream,
    pub(crate) task: JoinHandle<End>,
}

impl Wire {
    pub(crate) async fn end(self) -> End {
        soon(self.task).await.unwrap()
    }
}

/// Nothing takes longer than this; paused clocks go there at once.
pub(crate) async fn soon<F: Future>(step: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), step)
        .await
        .expect("it takes too long")
}

/// Lets all tasks do what they can do now.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

pub(crate) async fn send(to: &mut (impl AsyncWriteExt + Unpin), text: &str) {
    soon(to.write_all(text.as_bytes())).await.unwrap();
}

/// The next line, without its end; empty where the peer closed.
pub(crate) async fn line(from: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut text = Vec::new();
    soon(async {
        while let Ok(byte) = from.read_u8().await {
            if byte == b'\n' {
                break;
            }
            text.push(byte);
        }
    })
    .await;
    String::from_utf8(text).unwrap()
}

/// All until the peer closes.
pub(crate) async fn rest(from: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut text = Vec::new();
    let _ = soon(from.read_to_end(&mut text)).await;
    String::from_utf8(text).unwrap()
}

/// Nothing arrives now.
pub(crate) async fn silent(from: &mut (impl AsyncReadExt + Unpin)) {
    let read = tokio::time::timeout(Duration::from_millis(50), from.read_u8()).await;
    assert!(read.is_err(), "{read:?}");
}

/// Writes lines until the other end takes no more; returns how many bytes it took.
pub(crate) async fn flood(to: &mut (impl AsyncWriteExt + Unpin), text: &str, most: usize) -> usize {
    let mut taken = 0;
    let chunk = text.repeat((16 * 1024 / text.len()).max(1));
    while taken < most {
        let mut bytes = chunk.as_bytes();
        while !bytes.is_empty() {
            let written = tokio::time::timeout(Duration::from_secs(1), to.write(bytes)).await;
            match written {
                Ok(Ok(n)) if n > 0 => {
                    taken += n;
                    bytes = &bytes[n..];
                }
                _ => return taken,
            }
        }
    }
    taken
}
