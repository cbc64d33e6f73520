//! One session in the pipeline: its questions, its outcomes, its end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::leases::HeldLease;
use super::memo::{Known, Memo};
use super::{Gateway, live};
use crate::audit::{AuditError, AuditMode, Decided, Event, OperationEvent, Receipt};
use crate::credentials::{CredentialError, Lease};
use crate::machine::{Bound, Question, Stage, Statement};
use crate::operation::{Operations, truncate};
use crate::principal::Authenticated;
use crate::recording::SessionRecorder;
use crate::resource::Resource;
use crate::services::Held;
use crate::session::SessionId;
use crate::verdict::{Code, Decision, Denial, Hold, Obligations, Ruling, Verdict};

mod control;
mod ending;
mod hold;
mod own;

pub use control::{Control, Counters};
use hold::{Holding, digest};

/// The ticket of what is only prepared: it has no outcome.
pub const PREPARED: u64 = 0;

/// Longest reason that a client may state, in bytes.
const REASON_BYTES: usize = 500;

/// The answer to a question: at once, or later.
pub enum Judged {
    /// The ruling.
    Now(Ruling),
    /// The ruling is on its way: the audit trail. Tell [`SessionScope::ruled`] when it is there.
    Later(BoxFuture<'static, Ruling>),
    /// People must decide, and it is being seen to that they can.
    Opening(Before, BoxFuture<'static, Opening>),
}

/// What became of a message that policy holds.
pub enum Opening {
    /// The ruling: people had approved it before, or nobody can. Tell [`SessionScope::ruled`].
    Ruled(Ruling),
    /// People decide: the client is told at once, and waits.
    Held(Box<Decision>, BoxFuture<'static, Woken>),
}

/// What came of waiting for people.
pub enum Woken {
    /// Look at the message anew and judge it again: it may have been approved, and what it means or what policies say
    /// may have changed. Tell [`SessionScope::woken`] first.
    Again,
    /// The ruling: it does not run. Tell [`SessionScope::ruled`].
    Ruled(Ruling),
}

/// A message that has been held: what it was judged as.
#[derive(Debug, Clone, Copy)]
pub struct Before {
    ticket: u64,
    digest: [u8; 32],
}

impl Before {
    /// The number of the operation that is held.
    pub fn ticket(&self) -> u64 {
        self.ticket
    }
}

/// One session in the pipeline. Dropping it ends it, in the audit trail too.
pub struct SessionScope {
    id: SessionId,
    who: Authenticated,
    resource: Arc<Resource>,
    protocol: &'static str,
    gateway: Arc<Gateway>,
    counters: Arc<live::Entry>,
    memo: Memo,
    next_ticket: u64,
    /// Operations that run, in the order in which they began, with the time.
    running: VecDeque<(u64, std::time::Instant)>,
    lease: Option<Arc<HeldLease>>,
    /// Why the client is here, as it said.
    reason: Option<Arc<str>>,
    /// The rule that let the session in, where it demands a reason: nothing runs before it is stated.
    owes_reason: Option<Option<String>>,
    /// The message that is looked at now was held before.
    before: Option<Before>,
    finished: bool,
}

impl std::fmt::Debug for SessionScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionScope")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl SessionScope {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        id: SessionId,
        who: Authenticated,
        resource: Arc<Resource>,
        protocol: &'static str,
        counters: Arc<live::Entry>,
    ) -> Self {
        metrics::gauge!("gateway_sessions", "protocol" => protocol).increment(1.0);
        Self {
            id,
            who,
            resource,
            protocol,
            gateway,
            counters,
            memo: Memo::default(),
            next_ticket: PREPARED.saturating_add(1),
            running: VecDeque::new(),
            lease: None,
            reason: None,
            owes_reason: None,
            before: None,
            finished: false,
        }
    }

    /// `connect` itself demands a reason, by this rule. What states it comes with the login in one protocol and behind it
    /// in another, so the session begins, and does nothing without.
    pub(super) fn owe_reason(&mut self, rule: Option<String>) {
        self.owes_reason = Some(rule);
    }

    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Who it belongs to.
    pub fn who(&self) -> &Authenticated {
        &self.who
    }

    /// What it is for.
    pub fn resource(&self) -> &Arc<Resource> {
        &self.resource
    }

    /// The pipeline.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Takes note of why the client is here: for people who must approve something, and for policies that demand a
    /// reason. Blank is no reason; a long one is cut.
    pub fn state_reason(&mut self, reason: &str) {
        let mut reason = reason.trim().to_owned();
        truncate(&mut reason, REASON_BYTES);
        self.reason = (!reason.is_empty()).then(|| reason.into());
    }

    /// Starts this session's recordings. To be asked for once: it numbers them.
    pub fn recorder(&self) -> SessionRecorder {
        SessionRecorder::new(self.gateway.clone(), self.id, self.resource.clone())
    }

    /// Tells the session to end.
    pub fn control(&self) -> &Control {
        &self.counters.control
    }

    /// A credential for this session, taken back when it ends. `place`: where in the target (the database), where the
    /// protocol has such.
    pub async fn lease(&mut self, place: Option<&str>) -> Result<Lease, CredentialError> {
        let lease = &mut self.lease;
        let hold = |held| *lease = Some(held);
        self.gateway
            .lease(self.id, &self.who.principal, &self.resource, place, hold)
            .await
    }

    fn durable(&self, question: &Question, held: bool) -> bool {
        match self.resource.audit.or(self.gateway.parts.audit_options.mode) {
            Some(AuditMode::Durable) => true,
            Some(AuditMode::Batched) => false,
            None => question.writes || held,
        }
    }

    /// Gives an operation's event to the trail.
    fn append(
        &self,
        ticket: u64,
        decided: &Decided,
        statement: Option<&Statement>,
        durable: bool,
    ) -> Result<Receipt, AuditError> {
        append(&self.gateway, self.id, ticket, decided, statement, durable)
    }

    /// What an event says of a verdict that is not policy's own.
    fn decided(&self, operations: &Arc<Operations>, verdict: &Verdict, policy: &Arc<str>) -> Arc<Decided> {
        let decided = Decided::new(
            &self.who.principal,
            &self.resource.name,
            operations,
            verdict,
            policy,
        );
        Arc::new(decided)
    }

    fn correlation(&self, ticket: u64) -> String {
        format!("{}/{ticket}", self.id)
    }

    /// Decides one message. This is the choke point: nothing reaches a target that did not come through here.
    /// A ruling to run is given only after the audit event is where the mode wants it.
    ///
    /// `bound` is what an approval binds beside the statement's text, should there have to be one: see
    /// [`ProtocolSession::bound`](crate::machine::ProtocolSession::bound).
    pub fn judge(
        &mut self,
        question: &Question,
        bound: impl FnOnce() -> Bound,
        now: std::time::Instant,
    ) -> Judged {
        let known = self.memo.decide(
            &*self.gateway.parts.policy,
            &self.who.principal,
            &self.resource,
            &question.operations,
        );
        if let (Some(rule), None) = (&self.owes_reason, &self.reason) {
            let rule = rule.clone();
            self.supersede();
            return self.deny_without_reason(question, rule, &known.policy);
        }
        if question.stage == Stage::Run
            && let Verdict::Hold(hold) = &*known.verdict
            && !(hold.obligations.reason_required && self.reason.is_none())
        {
            return self.hold(question, hold, &known, bound(), now);
        }
        self.supersede();
        if let Stage::Prepare { runs } = question.stage {
            match &*known.verdict {
                Verdict::Hold(hold) if runs => {
                    let denial = Denial {
                        code: Code::Denied,
                        rule: hold.rules.first().cloned(),
                        operation: hold.operation.clone(),
                        hint:
                            "this needs an approval and can't be prepared before; send it as a simple query"
                                .to_owned(),
                    };
                    return self.deny_after_all(question, denial, &known.policy);
                }
                Verdict::Allow { obligations, .. } | Verdict::Hold(Hold { obligations, .. }) => {
                    // What is masked says how what was prepared is to be read; limits are for what runs.
                    let mask = obligations.mask.clone();
                    return Judged::Now(Ruling::Run {
                        obligations: Obligations {
                            mask,
                            ..Obligations::default()
                        },
                        ticket: PREPARED,
                    });
                }
                Verdict::Deny(_) => {}
            }
        }
        match &*known.verdict {
            // An obligation that can't be met is not dropped.
            Verdict::Allow { obligations, .. } if obligations.reason_required && self.reason.is_none() => {
                let rule = obligations.reason_by().map(str::to_owned);
                self.deny_without_reason(question, rule, &known.policy)
            }
            Verdict::Allow { obligations, .. } => self.allow(question, obligations.clone(), &known, now),
            Verdict::Deny(denial) => match told(denial, &question.operations) {
                // What is known of an operation is known for all messages that ask it; why one asks is its own.
                Some(denial) => self.deny_after_all(question, denial, &known.policy),
                None => {
                    let ticket = self.begin();
                    self.deny(ticket, question, denial, &known.decided)
                }
            },
            // Held ones for which nothing is missing were dealt with above.
            Verdict::Hold(hold) => {
                let rule = hold.obligations.reason_by().map(str::to_owned);
                self.deny_without_reason(question, rule, &known.policy)
            }
        }
    }

    fn deny_without_reason(
        &mut self,
        question: &Question,
        rule: Option<String>,
        policy: &Arc<str>,
    ) -> Judged {
        let denial = Denial {
            code: Code::Denied,
            rule,
            operation: question.operations.summary().to_owned(),
            hint:
                "this needs a stated reason, and this session has none: connect again with one (databases: \
                   `gateway.reason` among the options of the connection; SSH: the variable GATEWAY_REASON)"
                    .to_owned(),
        };
        self.deny_after_all(question, denial, policy)
    }

    /// A message that was held is judged as another one now, or not at all: the operation that it was ends here.
    fn supersede(&mut self) {
        if let Some(before) = self.before.take() {
            self.ended(before.ticket);
            self.gateway.note(&Event::Outcome {
                session: self.id,
                ticket: before.ticket,
                rows: 0,
                bytes: 0,
                micros: 0,
                error: Some("superseded".to_owned()),
            });
        }
    }

    /// Takes note that a message which was held is looked at and judged anew.
    pub fn woken(&mut self, before: Before) {
        self.before = Some(before);
    }

    /// The number of the next operation.
    fn begin(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket = self.next_ticket.saturating_add(1);
        self.counters.counters.operations.fetch_add(1, Ordering::Relaxed);
        ticket
    }

    fn allow(
        &mut self,
        question: &Question,
        obligations: Obligations,
        known: &Known,
        now: std::time::Instant,
    ) -> Judged {
        let ticket = self.begin();
        let durable = self.durable(question, false);
        match self.append(ticket, &known.decided, question.statement.as_ref(), durable) {
            Err(error) => self.unaudited(ticket, question, &error),
            Ok(receipt) => {
                self.running.push_back((ticket, now));
                if known.granted {
                    let granted = &self.counters.granted;
                    granted.note(
                        Some(ticket),
                        &self.who.principal,
                        &self.resource,
                        &question.operations,
                    );
                }
                match receipt {
                    Receipt::Taken => Judged::Now(Ruling::Run { obligations, ticket }),
                    pending => {
                        let refused = Arc::new(unaudited(question).decision(self.correlation(ticket)));
                        Judged::Later(Box::pin(after_audit(pending, ticket, obligations, refused)))
                    }
                }
            }
        }
    }

    fn deny(&self, ticket: u64, question: &Question, denial: &Denial, decided: &Decided) -> Judged {
        let durable = self.durable(question, false);
        match self.append(ticket, decided, question.statement.as_ref(), durable) {
            Err(error) => self.unaudited(ticket, question, &error),
            Ok(_) => Judged::Now(self.refuse(ticket, denial)),
        }
    }

    /// Denies what policy permits or holds, for a reason that is not policy's.
    fn deny_after_all(&mut self, question: &Question, denial: Denial, policy: &Arc<str>) -> Judged {
        let ticket = self.begin();
        let verdict = Verdict::Deny(denial.clone());
        let decided = self.decided(&question.operations, &verdict, policy);
        self.deny(ticket, question, &denial, &decided)
    }

    fn hold(
        &mut self,
        question: &Question,
        hold: &Hold,
        known: &Known,
        bound: Bound,
        now: std::time::Instant,
    ) -> Judged {
        let record = self.counters.record();
        let digest = digest(
            &self.who,
            &self.resource,
            record.detail.as_deref(),
            question,
            &bound.exact,
            &known.policy,
        );
        // What was held as the very same is still the operation that it was, and the trail has it.
        let before = self.before.take_if(|before| before.digest == digest);
        self.supersede();
        let ticket = match before {
            Some(before) => before.ticket,
            None => {
                let ticket = self.begin();
                self.running.push_back((ticket, now));
                ticket
            }
        };
        let statement = question.statement.clone();
        let held = Held {
            hold: hold.clone(),
            session: self.id,
            principal: self.who.principal.clone(),
            resource: self.resource.clone(),
            operations: question.operations.clone(),
            digest,
            statement: statement.as_ref().map(|s| s.text.exact.clone()),
            parameters: bound
                .parameters
                .or_else(|| statement.as_ref().map(|s| s.parameters.to_vec()))
                .unwrap_or_default(),
            stands_for: bound.stands_for,
            estimate: bound.estimate,
            reason: self.reason.clone(),
            policy: known.policy.clone(),
            correlation: self.correlation(ticket),
        };
        let holding = Holding {
            gateway: self.gateway.clone(),
            entry: self.counters.clone(),
            id: self.id,
            ticket,
            decided: known.decided.clone(),
            durable: self.durable(question, true),
            unaudited: unaudited(question),
            statement,
            held,
            written: before.is_some(),
        };
        Judged::Opening(Before { ticket, digest }, Box::pin(holding.open()))
    }

    /// What can't be put into the trail is refused.
    fn unaudited(&self, ticket: u64, question: &Question, error: &AuditError) -> Judged {
        tracing::error!(%error, session = %self.id, "an operation is refused");
        Judged::Now(self.refuse(ticket, &unaudited(question)))
    }

    fn refuse(&self, ticket: u64, denial: &Denial) -> Ruling {
        self.count_refusal();
        Ruling::Refuse {
            decision: Arc::new(denial.decision(self.correlation(ticket))),
            ticket,
        }
    }

    /// Takes note of a ruling that came later: what was refused after all counts as refused, and does not run.
    pub fn ruled(&mut self, ruling: &Ruling) {
        if let Ruling::Refuse { ticket, .. } = ruling {
            self.ended(*ticket);
            self.count_refusal();
        }
    }

    fn count_refusal(&self) {
        self.counters.counters.refused.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("gateway_operations_refused_total", "protocol" => self.protocol).increment(1);
    }

    /// Refuses something that never came so far as to be a question (too large, not understood by the
    /// protocol): it is in the trail like any other refusal.
    pub fn refuse_unasked(&mut self, denial: &Denial, statement: Option<Statement>) -> Ruling {
        self.supersede();
        let ticket = self.begin();
        let operations = Arc::new(Operations::new(Vec::new(), denial.operation.clone()));
        let policy = self.gateway.parts.policy.version();
        let decided = self.decided(&operations, &Verdict::Deny(denial.clone()), &policy);
        if let Err(error) = self.append(ticket, &decided, statement.as_ref(), false) {
            tracing::error!(%error, "an audit event was lost");
        }
        self.refuse(ticket, denial)
    }

    /// When the session must end by itself, from now.
    pub fn remaining(&self) -> Option<Duration> {
        self.who.expires.map(|at| {
            at.duration_since(self.gateway.now())
                .try_into()
                .unwrap_or(Duration::ZERO)
        })
    }
}

fn still_valid(gateway: Arc<Gateway>, credential: String) -> BoxFuture<'static, bool> {
    Box::pin(async move {
        match gateway.parts.authenticator.still_valid(&credential).await {
            Ok(valid) => valid,
            Err(error) => {
                // A store that can't be asked ends no session by itself: the expiry still bounds it.
                tracing::warn!(%error, "a token could not be checked again");
                true
            }
        }
    })
}

/// The denial with why the message asks what it is refused, where it does not say so itself.
fn told(denial: &Denial, operations: &Operations) -> Option<Denial> {
    let (_, id) = denial.operation.split_once(' ')?;
    let why = operations.why(id)?;
    Some(Denial {
        hint: format!("{why}; {}", denial.hint),
        ..denial.clone()
    })
}

/// Gives an operation's event to the trail.
fn append(
    gateway: &Gateway,
    session: SessionId,
    ticket: u64,
    decided: &Decided,
    statement: Option<&Statement>,
    durable: bool,
) -> Result<Receipt, AuditError> {
    let literals = gateway.parts.audit_options.literals;
    let operation = OperationEvent {
        session,
        ticket,
        decided,
        statement: statement.map(|s| {
            if literals {
                &*s.text.exact
            } else {
                &*s.text.normalised
            }
        }),
        parameters: match statement {
            Some(statement) if literals => &statement.parameters,
            _ => &[],
        },
    };
    gateway
        .parts
        .audit
        .append_operation(gateway.now(), &operation, durable)
}

async fn after_audit(
    receipt: Receipt,
    ticket: u64,
    obligations: Obligations,
    refused: Arc<Decision>,
) -> Ruling {
    match receipt.settled().await {
        Ok(()) => Ruling::Run { obligations, ticket },
        Err(error) => {
            tracing::error!(%error, "an operation is refused");
            Ruling::Refuse {
                decision: refused,
                ticket,
            }
        }
    }
}

fn unaudited(question: &Question) -> Denial {
    Denial {
        code: Code::Denied,
        rule: None,
        operation: question.operations.summary().to_owned(),
        hint: "the audit trail cannot be written, and nothing runs without it; try again later".to_owned(),
    }
}
