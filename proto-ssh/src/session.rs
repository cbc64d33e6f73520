//! One session: who it belongs to, and the one way in which anything of it is decided.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gateway_core::credentials::{CredentialError, Lease};
use gateway_core::detect::Detectors;
use gateway_core::gateway::{Before, Gateway, Judged, Opening, SessionScope, Woken};
use gateway_core::machine::{Bound, End, Outcome, Question, Statement};
use gateway_core::principal::Principal;
use gateway_core::recording::SessionRecorder;
use gateway_core::resource::Resource;
use gateway_core::session::SessionId;
use gateway_core::verdict::{Code, Decision, Denial, Obligations, Ruling};
use tokio::sync::{Mutex, Notify, OnceCell};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::authority::{self, Granted};
use crate::config::ResourceSettings;
use crate::login::Authorities;
use crate::login_ca::Permits;
use crate::operations::Place;
use crate::shown::Shown;
use crate::target::{Asked, Doors, Proof, Unreachable};

/// A session that has logged in, shared by its channels.
pub(crate) struct Session {
    scope: Mutex<SessionScope>,
    lease: OnceCell<Lease>,
    authorities: Arc<Authorities>,
    principal: Arc<Principal>,
    recorder: SessionRecorder,
    /// The pipeline.
    pub(crate) gateway: Arc<Gateway>,
    /// The target.
    pub(crate) resource: Arc<Resource>,
    /// What its section says.
    pub(crate) settings: ResourceSettings,
    /// The resource's name and the login there.
    pub(crate) place: Place,
    /// The session's id.
    pub(crate) id: SessionId,
    /// What the certificate permits by which the client came.
    pub(crate) permits: Permits,
    /// What proved the principal has ended: nothing more is permitted.
    expired: CancellationToken,
    /// Why the session ends, once it does: what runs is told, and ended.
    stopped: OnceLock<Stop>,
    stopping: CancellationToken,
    /// The gateway is about to stop.
    drain: CancellationToken,
    /// Operations whose end is not in the trail yet.
    open: AtomicUsize,
    closed: Notify,
    /// Channels and requests that run, and when that last changed.
    busy: AtomicI64,
    changed: parking_lot::Mutex<Instant>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Something runs for as long as this lives.
pub(crate) struct Busy(Arc<Session>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
        *self.0.changed.lock() = Instant::now();
    }
}

/// Why a session is told to end.
struct Stop {
    /// As the trail has it.
    reason: String,
    /// As clients read it.
    told: String,
}

/// What may run, and under which number.
#[derive(Debug)]
pub(crate) struct Permitted {
    /// The number of the operation; its outcome carries it.
    pub(crate) ticket: u64,
    /// What holds while it runs.
    pub(crate) obligations: Obligations,
}

/// The answer to a question that can't wait.
pub(crate) type Answer = Result<Permitted, Arc<Decision>>;

impl Session {
    /// A session that begins.
    pub(crate) fn new(
        scope: SessionScope,
        settings: ResourceSettings,
        login: &str,
        authorities: Arc<Authorities>,
        permits: Permits,
    ) -> Arc<Self> {
        let resource = scope.resource().clone();
        Arc::new(Self {
            lease: OnceCell::new(),
            authorities,
            permits,
            gateway: scope.gateway().clone(),
            principal: scope.who().principal.clone(),
            recorder: scope.recorder(),
            settings,
            place: Place::new(&resource, login),
            resource,
            id: scope.id(),
            expired: CancellationToken::new(),
            stopped: OnceLock::new(),
            stopping: CancellationToken::new(),
            drain: scope.control().drain.clone(),
            open: AtomicUsize::new(0),
            closed: Notify::new(),
            busy: AtomicI64::new(0),
            changed: parking_lot::Mutex::new(Instant::now()),
            scope: Mutex::new(scope),
        })
    }

    /// The session in the pipeline, for its end.
    pub(crate) fn scope(&self) -> &Mutex<SessionScope> {
        &self.scope
    }

    /// Whose it is.
    pub(crate) fn principal(&self) -> Arc<Principal> {
        self.principal.clone()
    }

    /// Who is at the doors of targets.
    pub(crate) fn doors(&self) -> &Doors {
        &self.authorities.doors
    }

    /// Starts its recordings.
    pub(crate) fn recorder(&self) -> &SessionRecorder {
        &self.recorder
    }

    /// What it does can't be recorded any more: it ends.
    pub(crate) async fn unrecorded(&self) {
        self.scope.lock().await.control().end(End::Unrecorded);
    }

    /// What looks through the output of what may run with these tags masked; `None`: nothing of it is masked.
    pub(crate) fn shown(&self, masked: &BTreeSet<String>, terminal: bool) -> Option<Shown> {
        let key = self.gateway.mask_key();
        self.looked(masked)
            .map(|detectors| Shown::new(detectors, key.clone(), terminal))
    }

    /// What is looked for where these tags are masked; `None`: nothing is.
    pub(crate) fn looked(&self, masked: &BTreeSet<String>) -> Option<Detectors> {
        let detectors = Detectors::of(&self.resource.detect, |tag| masked.contains(tag));
        (!detectors.is_empty()).then_some(detectors)
    }

    /// Notes that something runs.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::SeqCst);
        Busy(self.clone())
    }

    /// For how long nothing has run; zero while something does.
    pub(crate) fn quiet_for(&self) -> Duration {
        match self.busy.load(Ordering::SeqCst) {
            0 => self.changed.lock().elapsed(),
            _ => Duration::ZERO,
        }
    }

    /// From now on every question is refused.
    pub(crate) fn expire(&self) {
        self.expired.cancel();
    }

    /// Answers once the gateway is about to stop.
    pub(crate) async fn drained(&self) {
        self.drain.cancelled().await;
    }

    /// Ends what runs: `reason` is what the trail says, `told` what clients read.
    pub(crate) fn stop(&self, reason: String, told: String) {
        let _ = self.stopped.set(Stop { reason, told });
        self.stopping.cancel();
    }

    /// What cut off an operation that was still running.
    pub(crate) fn cause(&self) -> String {
        match self.stopped.get() {
            Some(stop) => stop.reason.clone(),
            None => "client closed".to_owned(),
        }
    }

    /// Answers once its token has ended, or it is told to end: with what a client is told, and what the trail says.
    pub(crate) async fn ended(&self, operation: &str) -> (Decision, String) {
        tokio::select! {
            biased;
            () = self.expired.cancelled() => (self.expired(operation), "session_expired".to_owned()),
            () = self.stopping.cancelled() => (self.stopped(operation), self.cause()),
        }
    }

    /// What a client is told of what it asks once nothing more is permitted.
    fn over(&self, operation: &str) -> Option<Decision> {
        if self.expired.is_cancelled() {
            return Some(self.expired(operation));
        }
        self.stopping.is_cancelled().then(|| self.stopped(operation))
    }

    fn stopped(&self, operation: &str) -> Decision {
        let hint = self.stopped.get().map_or("", |stop| stop.told.as_str());
        let mut decision = self.expired(operation);
        hint.clone_into(&mut decision.hint);
        decision
    }

    /// An operation has begun of which [`Self::outcome_of`] will tell.
    pub(crate) fn opened(&self) {
        self.open.fetch_add(1, Ordering::SeqCst);
    }

    /// The outcome of such an operation.
    pub(crate) async fn outcome_of(&self, ticket: u64, bytes: u64, error: Option<String>) {
        self.outcome(ticket, bytes, error).await;
        self.open.fetch_sub(1, Ordering::SeqCst);
        self.closed.notify_waiters();
    }

    /// Waits until the end of all that ran is in the trail, for so long at most.
    pub(crate) async fn settled(&self, limit: Duration) {
        let all = async {
            loop {
                let closed = self.closed.notified();
                if self.open.load(Ordering::SeqCst) == 0 {
                    return;
                }
                closed.await;
            }
        };
        let _ = tokio::time::timeout(limit, all).await;
    }

    /// What a client is told once its token has ended.
    pub(crate) fn expired(&self, operation: &str) -> Decision {
        let denial = Denial {
            code: Code::SessionExpired,
            rule: None,
            operation: operation.to_owned(),
            hint: "the token, or the access that it gave, has ended; log in again".to_owned(),
        };
        denial.decision(self.id.to_string())
    }

    /// The credential of this session, got once.
    pub(crate) async fn lease(&self) -> Result<&Lease, CredentialError> {
        let get = || async { self.scope.lock().await.lease(Some(&self.place.login)).await };
        self.lease.get_or_try_init(get).await
    }

    /// What proves this session's login for one connection, which may what is granted and no more.
    pub(crate) async fn proof(&self, granted: &Granted) -> Result<Proof, Unreachable> {
        let lease = self.lease().await?;
        let asked = Asked {
            authority: &self.authorities.targets,
            login: &self.place.login,
            key_id: &authority::key_id(&self.principal, self.id),
            granted,
            now: self.gateway.now(),
        };
        Proof::of(&self.resource, lease, &asked)
    }

    /// Decides, and waits for people where policy says so. `told` is given what the client is to be told while it waits;
    /// where it answers `false` nobody waits, and the answer is that decision.
    ///
    /// This is the one way: nothing of a session reaches a target that did not come through here.
    pub(crate) async fn ask<F>(
        &self,
        question: &Question,
        bound: &[u8],
        mut told: impl FnMut(Decision) -> F,
    ) -> Answer
    where
        F: Future<Output = bool>,
    {
        if let Some(missing) = self.permits.lacks(question) {
            return Err(self.lacking(question.operations.summary(), missing).await);
        }
        let mut before: Option<Before> = None;
        loop {
            if let Some(decision) = self.over(question.operations.summary()) {
                return Err(Arc::new(decision));
            }
            let judged = {
                let mut scope = self.scope.lock().await;
                if let Some(before) = before.take() {
                    scope.woken(before);
                }
                let bound = || Bound {
                    exact: bound.to_vec(),
                    ..Bound::default()
                };
                scope.judge(question, bound, Instant::now().into_std())
            };
            let ruling = match judged {
                Judged::Now(ruling) => return self.ruled(question, ruling).await,
                Judged::Later(ruling) => ruling.await,
                Judged::Opening(held, opening) => match opening.await {
                    Opening::Ruled(ruling) => ruling,
                    Opening::Held(decision, woken) => {
                        if !told((*decision).clone()).await {
                            // It does not wait; people may decide it all the same.
                            let word = decision.word().to_owned();
                            self.outcome(held.ticket(), 0, Some(word)).await;
                            return Err(Arc::new(*decision));
                        }
                        let woken = tokio::select! {
                            woken = woken => woken,
                            // Nothing runs on a token that has ended, whoever approves it.
                            (decision, why) = self.ended(question.operations.summary()) => {
                                self.outcome(held.ticket(), 0, Some(why)).await;
                                return Err(Arc::new(decision));
                            }
                        };
                        match woken {
                            Woken::Again => {
                                before = Some(held);
                                continue;
                            }
                            Woken::Ruled(ruling) => ruling,
                        }
                    }
                },
            };
            self.scope.lock().await.ruled(&ruling);
            return self.ruled(question, ruling).await;
        }
    }

    /// The same for what can't wait: what people must decide is refused for now, and stays open for them.
    pub(crate) async fn ask_now(&self, question: &Question, bound: &[u8]) -> Answer {
        self.ask(question, bound, |_| std::future::ready(false)).await
    }

    async fn ruled(&self, question: &Question, ruling: Ruling) -> Answer {
        match ruling {
            Ruling::Refuse { decision, .. } => Err(decision),
            // An obligation that can't be met is not dropped: there are no rows here to count.
            Ruling::Run { obligations, ticket } if obligations.rows.is_some() => {
                self.outcome(ticket, 0, Some("@rows can't be kept".to_owned()))
                    .await;
                let mut denial = Denial::new(
                    question.operations.summary(),
                    "policy limits the rows of this, and nothing here has rows",
                );
                denial.rule = obligations.by.as_ref().and_then(|by| by.rows.clone());
                Err(Arc::new(denial.decision(format!("{}/{ticket}", self.id))))
            }
            Ruling::Run { obligations, ticket } => Ok(Permitted { ticket, obligations }),
        }
    }

    /// Refuses what never came so far as to be a question; it is in the trail like any other refusal.
    pub(crate) async fn refuse(&self, denial: &Denial, text: Option<&str>) -> Arc<Decision> {
        let statement = text.map(|text| Statement::new(text, denial.operation.as_str()));
        match self.scope.lock().await.refuse_unasked(denial, statement) {
            Ruling::Refuse { decision, .. } => decision,
            // Never: what was not asked does not run.
            Ruling::Run { .. } => Arc::new(denial.decision(self.id.to_string())),
        }
    }

    /// Refuses what the certificate by which the client came does not permit.
    pub(crate) async fn lacking(&self, operation: &str, missing: &str) -> Arc<Decision> {
        let why = format!("the certificate by which you logged in lacks `{missing}`");
        self.refuse(&Denial::new(operation, &why), None).await
    }

    /// Refuses what is no valid request.
    pub(crate) async fn malformed(&self, operation: &str, why: &str) -> Arc<Decision> {
        let denial = Denial {
            code: Code::Malformed,
            rule: None,
            operation: operation.to_owned(),
            hint: why.to_owned(),
        };
        self.refuse(&denial, None).await
    }

    /// Puts how an operation ended into the trail. `bytes`: sent to the client.
    pub(crate) async fn outcome(&self, ticket: u64, bytes: u64, error: Option<String>) {
        let outcome = Outcome {
            ticket,
            rows: 0,
            bytes,
            error,
        };
        self.scope
            .lock()
            .await
            .outcome(&outcome, Instant::now().into_std());
    }

    /// What a client is told whose operation has used up its time.
    pub(crate) async fn out_of_time(&self, ticket: u64, by: Option<&str>) -> Decision {
        self.scope.lock().await.out_of_time(ticket, by)
    }
}
