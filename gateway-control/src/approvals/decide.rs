//! What approvers see, and what they say.

use gateway_core::approval::{Approval, ApprovalState, CannotDecide, Choice};
use gateway_core::operation::truncate;
use gateway_core::principal::Authenticated;
use gateway_core::services::StoreError;
use jiff::Timestamp;

use super::{ApprovalDesk, Inner, TRIES, event};

/// Longest reason of an approver, in bytes.
pub(super) const REASON_BYTES: usize = 500;

/// Why nothing was decided.
#[derive(Debug, thiserror::Error)]
pub enum NotDecided {
    /// There is none of that id, or it is none of this caller's business.
    #[error("there is no approval `{0}`")]
    Absent(String),
    /// The caller may not decide it.
    #[error("you can't decide {id}: {why}")]
    Refused {
        /// Its id.
        id: String,
        /// Why.
        why: CannotDecide,
    },
    /// Policies have changed since it was asked for.
    #[error("{0} was asked for under other policies than hold now; it must be asked for anew")]
    OtherPolicies(String),
    /// Store or trail failed.
    #[error("{0}")]
    Unavailable(String),
}

impl From<StoreError> for NotDecided {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl Inner {
    /// What it is at `now`, under the policies that are in force: what was asked for under others can't be approved any more,
    /// nor run.
    fn as_of(&self, approval: Approval, now: Timestamp) -> Approval {
        let state = approval.state_at(now);
        let waits = match state {
            ApprovalState::Open => true,
            // Access that was given goes on.
            ApprovalState::Approved => approval.grant.is_none(),
            _ => false,
        };
        if waits && *approval.policy != *self.parts.policy.version() {
            return Approval {
                state: ApprovalState::Expired,
                note: Some("other policies are in force since; sent again it is asked for anew".to_owned()),
                ..approval
            };
        }
        Approval { state, ..approval }
    }
}

impl ApprovalDesk {
    /// The newest, at most `limit`: those that `who` may see; without one, which is the operator on the host, all.
    pub async fn list(&self, who: Option<&Authenticated>, limit: u32) -> Result<Vec<Approval>, StoreError> {
        let now = self.0.now();
        let mut all = self.0.parts.store.approvals(limit).await?;
        all.retain(|approval| who.is_none_or(|who| approval.is_visible_to(who)));
        let all = all.into_iter().map(|approval| self.0.as_of(approval, now));
        Ok(match who {
            Some(who) => all.map(|approval| approval.shown_to(who)).collect(),
            None => all.collect(),
        })
    }

    /// One of them.
    pub async fn show(&self, who: Option<&Authenticated>, id: &str) -> Result<Option<Approval>, StoreError> {
        let found = self.0.parts.store.approval(id).await?;
        let now = self.0.now();
        Ok(found
            .map(|kept| kept.approval)
            .filter(|approval| who.is_none_or(|who| approval.is_visible_to(who)))
            .map(|approval| self.0.as_of(approval, now))
            .map(|approval| match who {
                Some(who) => approval.shown_to(who),
                None => approval,
            }))
    }

    /// Decides one, as `who`; gives what it is now. Its state is in the store, and the decision in the audit trail, when
    /// this returns.
    pub async fn decide(
        &self,
        who: &Authenticated,
        id: &str,
        choice: Choice,
        reason: Option<String>,
    ) -> Result<Approval, NotDecided> {
        let reason = reason.and_then(|reason| {
            let mut reason = reason.trim().to_owned();
            truncate(&mut reason, REASON_BYTES);
            (!reason.is_empty()).then_some(reason)
        });
        let inner = &self.0;
        for _ in 0..TRIES {
            let Some(kept) = inner.parts.store.approval(id).await? else {
                return Err(NotDecided::Absent(id.to_owned()));
            };
            let mut next = kept
                .approval
                .decide(who, choice, reason.clone(), inner.now())
                .map_err(|why| NotDecided::Refused {
                    id: id.to_owned(),
                    why,
                })?;
            if next.grant.is_some() && next.state == ApprovalState::Approved {
                // It is never claimed, so what showed who the approvers are is asked now.
                let valid = inner.valid_votes(&next).await;
                let valid = valid.map_err(|error| NotDecided::Unavailable(error.to_string()))?;
                if !next.is_carried(|vote| valid.contains(&vote.credential)) {
                    next.state = ApprovalState::Open;
                    next.expires = kept.approval.expires;
                }
            }
            if choice == Choice::Approve && *next.policy != *inner.parts.policy.version() {
                return Err(NotDecided::OtherPolicies(id.to_owned()));
            }
            if !inner.parts.store.swap_approval(kept.revision, &next).await? {
                continue;
            }
            let what = match next.state {
                ApprovalState::Approved => "approved",
                ApprovalState::Denied => "denied",
                _ => "approve",
            };
            let said = event(&next, what, &who.principal.subject, reason.as_deref(), None);
            let written = inner.record(&said).await;
            if next.grant.is_some() {
                inner.refresh_grants().await;
            }
            // Whoever waits is told all the same: nothing runs before the trail has that it was used, and by whom approved.
            inner.waiters.wake(id);
            return match written {
                Ok(()) => Ok(next),
                Err(error) => Err(NotDecided::Unavailable(format!(
                    "{id} is {}, but {error}",
                    next.state
                ))),
            };
        }
        Err(NotDecided::Unavailable(format!(
            "{id} changes all the time; try again"
        )))
    }
}
