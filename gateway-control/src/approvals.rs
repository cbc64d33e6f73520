//! Where held operations wait for people, and people decide.
//!
//! ```text
//!   session ──open──▶ store ◀──decide── approver (CLI, REST)
//!      │               │ │
//!      │◀──wake────────┘ └──▶ audit: opened, approve, approved, denied, expired, used, released
//!      └──claim──▶ used, once
//! ```
//!
//! The store is what counts: an approval outlives sessions and the gateway itself. A waiter is told within the process
//! as soon as somebody has decided, and looks by itself from time to time.

mod access;
mod claim;
mod decide;
mod view;
mod waiters;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use gateway_core::approval::{Approval, ApprovalState};
use gateway_core::audit::{AuditError, AuditSink, Event};
use gateway_core::machine::Estimate;
use gateway_core::plain::plain;
use gateway_core::policy::PolicyEngine;
use gateway_core::services::{
    Answer, ApprovalRoom, ApprovalStore, Approvals, Authenticator, Held, Inserted, KeptApproval, Opened,
    Policy, StoreError, Waiting,
};
use gateway_core::verdict::{ApprovalRef, Code, Decision, Denial};
use jiff::Timestamp;
use tokio::sync::Semaphore;

pub use access::{AccessRequest, GrantState, GrantView, NoAccess, put_in_force};
pub use decide::NotDecided;
pub use view::{ApprovalView, DecisionView};
use waiters::Waiters;

/// Until when a person can decide where policy says nothing (`@expires`).
pub const EXPIRES: Duration = Duration::from_secs(3600);
/// After how many seconds a client that no longer waits may ask again.
const RETRY: u64 = 10;
/// How often it is looked whether somebody else has changed what is waited for.
const LOOK: Duration = Duration::from_secs(1);
/// Every so many looks what is overdue is written down as expired.
const SWEEP: u32 = 5;
/// Overdue ones that are dealt with at a time.
const BATCH: u32 = 100;
/// How often a change that somebody else was faster with is tried again.
const TRIES: usize = 8;
/// Longest statement with its parameters that can be held: an approver must be able to see it.
const SHOWN_BYTES: usize = 256 * 1024;
/// Questions to targets, of how many rows held operations would touch, at the same time. Beyond them none are asked.
const ESTIMATES: usize = 4;
/// How long such a question may take.
const ESTIMATE: Duration = Duration::from_secs(5);
/// Things that an approval lists of what is tried.
const ASKED: usize = 200;

/// What approvals are made of.
pub struct Parts {
    /// Keeps them.
    pub store: Arc<dyn ApprovalStore>,
    /// Has every transition.
    pub audit: Arc<dyn AuditSink>,
    /// Knows whether what showed who an approver is still holds.
    pub authenticator: Arc<dyn Authenticator>,
    /// Whose version an approval is bound to.
    pub policy: Arc<dyn Policy>,
    /// Where grants of access are put into force; none: nobody can ask for any.
    pub grants: Option<Arc<PolicyEngine>>,
    /// What links begin with.
    pub url: String,
    /// How many may be live.
    pub room: ApprovalRoom,
    /// The clock.
    pub now: fn() -> Timestamp,
}

/// Where held operations wait for people, and people decide. Cheap to clone.
#[derive(Clone)]
pub struct ApprovalDesk(Arc<Inner>);

struct Inner {
    parts: Parts,
    waiters: Waiters,
    estimates: Arc<Semaphore>,
}

impl std::fmt::Debug for ApprovalDesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApprovalDesk")
    }
}

impl ApprovalDesk {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            parts,
            waiters: Waiters::default(),
            estimates: Arc::new(Semaphore::new(ESTIMATES)),
        }))
    }

    /// Somebody else has changed the approval of that id: whoever waits for it looks. Nothing is believed.
    pub fn wake(&self, id: &str) {
        self.0.waiters.wake(id);
    }

    /// Whoever waits looks.
    pub fn wake_all(&self) {
        self.0.waiters.wake_all();
    }

    /// Looks from time to time whether something has changed that nobody told of: deadlines, policies, and approvals that
    /// other processes decided. Never ends.
    pub async fn watch(self) {
        let mut policy = self.0.parts.policy.version();
        let mut looks = 0_u32;
        loop {
            tokio::time::sleep(LOOK).await;
            let version = self.0.parts.policy.version();
            if version != policy {
                policy = version;
                self.0.waiters.wake_all();
            }
            if let Err(error) = self.0.look(looks.is_multiple_of(SWEEP)).await {
                tracing::warn!(%error, "approvals could not be looked at");
            }
            looks = looks.wrapping_add(1);
        }
    }
}

impl Approvals for ApprovalDesk {
    fn open(&self, held: Held) -> BoxFuture<'static, Result<Opened, Denial>> {
        let inner = self.0.clone();
        Box::pin(async move { inner.open(held).await })
    }

    fn claim(&self, id: String, held: Held) -> BoxFuture<'static, Result<bool, Denial>> {
        Box::pin(claim::claim(self.0.clone(), id, held))
    }
}

impl Inner {
    fn now(&self) -> Timestamp {
        (self.parts.now)()
    }

    async fn look(&self, sweep: bool) -> Result<(), StoreError> {
        if !self.waiters.is_empty() {
            let open = self.parts.store.open_approvals().await?;
            self.waiters.wake_others(&open);
        }
        if sweep {
            for kept in self.parts.store.overdue_approvals(self.now(), BATCH).await? {
                self.expire(&kept).await?;
            }
        }
        Ok(())
    }

    async fn open(self: Arc<Self>, held: Held) -> Result<Opened, Denial> {
        let digest = hex(&held.digest);
        if shown_bytes(&held) > SHOWN_BYTES {
            let hint = format!(
                "this needs an approval, and its text with its parameters is longer than an approver could be shown \
                 ({SHOWN_BYTES} bytes)"
            );
            return Err(denial(&held, hint));
        }
        for _ in 0..TRIES {
            let found = self.parts.store.live_approval(&digest).await;
            let found = match found.map_err(|error| unavailable(&held, &error))? {
                Some(kept) if kept.approval.state_at(self.now()) == ApprovalState::Expired => {
                    self.expire(&kept)
                        .await
                        .map_err(|error| unavailable(&held, &error))?;
                    continue;
                }
                Some(kept) => kept.approval,
                None => {
                    let new = self.new_approval(&held, &digest);
                    let inserted = self.parts.store.insert_approval(&new, self.parts.room).await;
                    match inserted.map_err(|error| unavailable(&held, &error))? {
                        Inserted::New => {
                            let event = event(
                                &new,
                                "opened",
                                &new.principal.subject,
                                new.reason.as_deref(),
                                Some(&held.correlation),
                            );
                            self.record(&event)
                                .await
                                .map_err(|error| unavailable(&held, &error))?;
                            self.estimate(&new.id, held.estimate.clone());
                            new
                        }
                        Inserted::Exists => continue,
                        Inserted::Full => {
                            let hint = "too many approvals are open; wait until some are decided or over";
                            return Err(denial(&held, hint.to_owned()));
                        }
                    }
                }
            };
            if found.state == ApprovalState::Approved {
                return Ok(Opened::Approved(found.id));
            }
            if !held.correlation.starts_with(&found.session.to_string()) {
                let by = &found.principal.subject;
                let joined = event(&found, "attached", by, None, Some(&held.correlation));
                if let Err(error) = self.parts.audit.append(self.now(), &joined, false) {
                    tracing::error!(%error, "an audit event was lost");
                }
            }
            return Ok(Opened::Waiting(self.waiting(&found, held)));
        }
        Err(denial(
            &held,
            "others ask for the same at the same time; try again".to_owned(),
        ))
    }

    fn new_approval(&self, held: &Held, digest: &str) -> Approval {
        let now = self.now();
        let lives = held.hold.expires.unwrap_or(EXPIRES);
        let expires = now.checked_add(lives).unwrap_or(now);
        let mut principal = gateway_core::principal::Principal::clone(&held.principal);
        principal.claims.clear();
        let asked = held.operations.asked();
        let asked = asked.take(ASKED).map(|operation| held.hold.told(operation));
        Approval {
            id: new_id(),
            digest: digest.to_owned(),
            state: ApprovalState::Open,
            principal,
            resource: held.resource.name.clone(),
            operation: held.hold.operation.clone(),
            asked: asked.collect(),
            statement: held.statement.as_deref().map(str::to_owned),
            parameters: held.parameters.clone(),
            stands_for: held.stands_for.clone(),
            reason: held.reason.as_deref().map(str::to_owned),
            groups: held.hold.groups.clone(),
            approvers: held.hold.approvers,
            rules: held.hold.rules.clone(),
            policy: held.policy.as_ref().to_owned(),
            session: held.session,
            created: now,
            expires,
            votes: Vec::new(),
            used_by: None,
            note: None,
            estimate: None,
            grant: None,
        }
    }

    /// Waits until somebody decides, the deadline is over, or other policies hold.
    fn waiting(self: Arc<Self>, approval: &Approval, held: Held) -> Waiting {
        let id = approval.id.clone();
        let expires = approval.expires;
        let notice = self.notice(approval, &held);
        let told = notice.clone();
        let answer = async move {
            let waiter = self.waiters.enter(&id);
            loop {
                let woken = waiter.woken();
                match self.parts.store.approval(&id).await {
                    Ok(Some(kept)) => match kept.approval.state_at(self.now()) {
                        ApprovalState::Open => {}
                        ApprovalState::Approved | ApprovalState::Used => return Answer::Again,
                        ApprovalState::Denied => return Answer::Refused(refused(&kept.approval, &told)),
                        ApprovalState::Expired => {
                            if let Err(error) = self.expire(&kept).await {
                                tracing::warn!(%error, "an approval could not be written down as expired");
                            }
                            return Answer::Refused(expired(&told));
                        }
                    },
                    Ok(None) => return Answer::Refused(expired(&told)),
                    // It goes on waiting: the next look may succeed, and the window ends it.
                    Err(error) => tracing::warn!(%error, "an approval could not be looked at"),
                }
                if self.parts.policy.version() != held.policy {
                    return Answer::Again;
                }
                let left = expires
                    .duration_since(self.now())
                    .try_into()
                    .unwrap_or(Duration::ZERO);
                tokio::select! {
                    () = woken => {}
                    () = tokio::time::sleep(left.max(Duration::from_millis(10))) => {}
                }
            }
        };
        Waiting {
            notice,
            answer: Box::pin(answer),
        }
    }

    /// What a client is told of an operation that waits.
    fn notice(&self, approval: &Approval, held: &Held) -> Decision {
        let groups: Vec<&str> = approval.groups.iter().map(String::as_str).collect();
        let people = if approval.approvers > 1 {
            format!(
                "{} people of each of {}",
                approval.approvers,
                groups.join(" and ")
            )
        } else {
            groups.join(" and ")
        };
        Decision {
            code: Code::ApprovalPending,
            rule: held.hold.rules.first().cloned(),
            operation: held.hold.operation.clone(),
            retry: true,
            retry_after_s: Some(RETRY),
            approval: Some(ApprovalRef {
                id: approval.id.clone(),
                url: format!("{}/a/{}", self.parts.url, approval.id),
                expires: approval.expires,
            }),
            hint: format!(
                "this waits for the approval of {people}; the same sent again joins it and runs once"
            ),
            correlation: held.correlation.clone(),
            cancelled: false,
        }
    }

    /// Asks the target how many rows it would touch, and writes that down; nobody waits for it.
    fn estimate(self: &Arc<Self>, id: &str, estimate: Option<Estimate>) {
        let (Some(estimate), Ok(room)) = (estimate, self.estimates.clone().try_acquire_owned()) else {
            return;
        };
        let (inner, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            if let Ok(Some(rows)) = tokio::time::timeout(ESTIMATE, estimate.ask()).await
                && let Err(error) = inner.estimated(&id, rows).await
            {
                tracing::warn!(%error, id, "an estimate could not be kept");
            }
            drop(room);
        });
    }

    async fn estimated(&self, id: &str, rows: u64) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            let Some(kept) = self.parts.store.approval(id).await? else {
                return Ok(());
            };
            let Some(next) = kept.approval.estimated(rows) else {
                return Ok(());
            };
            if self.parts.store.swap_approval(kept.revision, &next).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Writes down that one is over.
    async fn expire(&self, kept: &KeptApproval) -> Result<(), StoreError> {
        let Some(next) = kept.approval.expire(self.now()) else {
            return Ok(());
        };
        // Where somebody was faster it is what they made of it.
        if self.parts.store.swap_approval(kept.revision, &next).await? {
            self.tell(&event(&next, "expired", GATEWAY, None, None)).await;
            self.waiters.wake(&next.id);
        }
        Ok(())
    }

    /// Puts an event into the trail, durably.
    async fn record(&self, event: &Event) -> Result<(), AuditError> {
        self.parts.audit.append(self.now(), event, true)?.settled().await
    }

    /// The same for what lets nothing run.
    async fn tell(&self, event: &Event) {
        if let Err(error) = self.record(event).await {
            tracing::error!(%error, "an audit event was lost");
        }
    }
}

/// Who does what no person does.
const GATEWAY: &str = "gateway";

fn event(
    approval: &Approval,
    what: &str,
    by: &str,
    reason: Option<&str>,
    correlation: Option<&str>,
) -> Event {
    use gateway_core::approval::Choice;
    let approved_by = approval
        .votes
        .iter()
        .filter(|vote| vote.choice == Choice::Approve);
    Event::Approval {
        id: approval.id.clone(),
        what: what.to_owned(),
        by: by.to_owned(),
        principal: approval.principal.subject.clone(),
        on_behalf_of: approval.principal.on_behalf_of.clone(),
        resource: approval.resource.clone(),
        operation: approval.operation.clone(),
        digest: approval.digest.clone(),
        groups: approval.groups.iter().cloned().collect(),
        approved_by: approved_by.map(|vote| vote.subject.clone()).collect(),
        reason: reason.map(str::to_owned),
        correlation: correlation.map(str::to_owned),
    }
}

fn refused(approval: &Approval, told: &Decision) -> Decision {
    let why = approval.votes.last().and_then(|vote| vote.reason.as_deref());
    Decision {
        code: Code::ApprovalRefused,
        retry: false,
        retry_after_s: None,
        hint: match why {
            Some(why) => format!("an approver refused it: {}", plain(why)),
            None => "an approver refused it".to_owned(),
        },
        ..told.clone()
    }
}

fn expired(told: &Decision) -> Decision {
    Decision {
        code: Code::ApprovalExpired,
        retry: false,
        retry_after_s: None,
        hint: "nobody decided in time; send it again to ask anew".to_owned(),
        ..told.clone()
    }
}

fn denial(held: &Held, hint: String) -> Denial {
    Denial {
        code: Code::Denied,
        rule: held.hold.rules.first().cloned(),
        operation: held.hold.operation.clone(),
        hint,
    }
}

/// What can't be kept, or put into the trail, does not wait for anybody.
fn unavailable(held: &Held, error: &dyn std::fmt::Display) -> Denial {
    tracing::error!(%error, "an operation that needs an approval is refused");
    denial(
        held,
        "approvals cannot be kept now, and nothing runs without; try again later".to_owned(),
    )
}

/// Bytes that an approver has to be shown.
fn shown_bytes(held: &Held) -> usize {
    let parameters = held.parameters.iter().flatten().map(String::len);
    let names = held
        .stands_for
        .iter()
        .map(|(name, text)| name.len().saturating_add(text.len()));
    let text = held.statement.as_ref().map_or(0, |text| text.len());
    parameters.chain(names).fold(text, usize::saturating_add)
}

/// A fresh id. It is no secret: whoever knows it must still be a member of the group.
fn new_id() -> String {
    let text = uuid::Uuid::now_v7().simple().to_string();
    format!("apr_{}", text.get(12..).unwrap_or(&text))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
