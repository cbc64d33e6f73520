//! An approval: a person's decision on exactly one held operation, and the states that it can be in.
//!
//! ```text
//!   open ──approve──▶ approved ──claim──▶ used          an approver's token ended before the claim,
//!    │                   │  ▲──release─────┘            or the deadline passed: expired
//!    ├──deny──▶ denied   └──────────▶ expired
//!    └──────────────────────────────▶ expired
//! ```
//!
//! Everything here is pure: a transition takes the approval as it is kept and gives what is to be kept instead. The
//! store swaps one for the other only where nobody else has in the meantime, so of two that race one wins and the
//! other looks again. [`Approval::release`] gives back a claim whose operation was never forwarded.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use crate::audit::Parameter;
use crate::policy::Terms;
use crate::principal::{Authenticated, Principal, PrincipalKind};
use crate::session::SessionId;

#[cfg(test)]
mod model;

/// Where an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalState {
    /// It waits for people.
    Open,
    /// Enough people approved it; it has not run.
    Approved,
    /// A person refused it.
    Denied,
    /// Its time is over, or what approved it does not count any more.
    Expired,
    /// It ran, or was about to when the gateway stopped.
    Used,
}

impl ApprovalState {
    /// The word that users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Used => "used",
        }
    }

    /// Whether a retry attaches to it.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Open | Self::Approved)
    }
}

impl fmt::Display for ApprovalState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a person said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// It may run once.
    Approve,
    /// It may not.
    Deny,
}

/// What one person decided, and what showed who that is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalVote {
    /// Who.
    pub subject: String,
    /// For whom that person acted, by what showed who it is: the two count as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
    /// Of the groups that were asked, those that the person was in.
    pub groups: BTreeSet<String>,
    /// What.
    pub choice: Choice,
    /// Why, as the person said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
    /// Id of the token that showed who it is; asked again before the operation runs.
    pub credential: String,
    /// When that token ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
}

/// One held operation, and what people said of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Its id, `apr_...`.
    pub id: String,
    /// Digest of all that it binds, in hex.
    pub digest: String,
    /// Where it stands.
    pub state: ApprovalState,
    /// Who asked; its claims are not kept.
    pub principal: Principal,
    /// On what.
    pub resource: String,
    /// What, in one line.
    pub operation: String,
    /// Each thing that it tries: an action and an object ([`Hold::told`](crate::verdict::Hold::told)).
    #[serde(default)]
    pub asked: Vec<String>,
    /// The exact text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// Its bound parameters, as the audit trail shows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// Names in the text that stand for something in its session, with what they stand for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stands_for: Vec<(String, String)>,
    /// Why, as the requester said when it logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Each of these groups must approve.
    pub groups: BTreeSet<String>,
    /// So many people of each.
    pub approvers: u32,
    /// The policies that demand it.
    pub rules: Vec<String>,
    /// The version of the policies that hold it.
    pub policy: String,
    /// The session that opened it; of a request for access an id of its own.
    pub session: SessionId,
    /// When that was.
    pub created: Timestamp,
    /// The one deadline, for deciding and for running.
    pub expires: Timestamp,
    /// What people said, in order.
    #[serde(default)]
    pub votes: Vec<ApprovalVote>,
    /// The operation that it was used for: `session/number`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<String>,
    /// Why it is over, where that is not the deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// About how many rows it would touch, as the target guessed when it was opened; for those who decide it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<u64>,
    /// What it gives, where it is a request for access and not a held operation: approved, it is in force until `expires`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Terms>,
}

/// Why a person may not decide an approval.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotDecide {
    /// Nobody decides what was asked for oneself.
    #[error("an approver is another person: you asked for this yourself, or it was asked on your behalf")]
    Requester,
    /// Neither agents nor services decide.
    #[error("a person decides: the token is one of {0}, not of a human")]
    NoPerson(&'static str),
    /// In none of the groups.
    #[error("only members of {0} decide this, and the token is in none of these groups")]
    NotInGroup(String),
    /// The token is for other resources.
    #[error("the token is not good for the resource `{0}`")]
    OtherResource(String),
    /// It was decided or is over.
    #[error("it is {0} already")]
    Over(ApprovalState),
    /// The person has said so before.
    #[error("you have approved it already; it needs others, too")]
    Again,
}

/// Whether two subjects name one person: over all issuers, and whatever the case of the letters and the way in which their
/// accents are written.
pub fn is_same_person(one: &str, other: &str) -> bool {
    // By way of capitals, for letters that have several small forms.
    let folded = |subject: &str| {
        let composed: String = subject.trim().nfc().collect();
        composed.to_uppercase().to_lowercase()
    };
    one == other || folded(one) == folded(other)
}

/// Who a principal is, and for whom it acts.
fn people(who: &Principal) -> impl Iterator<Item = &String> + Clone {
    std::iter::once(&who.subject).chain(&who.on_behalf_of)
}

/// Whether any of these subjects names one person with any of those: who acts for somebody counts as both.
fn share_a_person<'a>(
    ours: impl IntoIterator<Item = &'a String>,
    theirs: impl IntoIterator<Item = &'a String> + Clone,
) -> bool {
    ours.into_iter()
        .any(|one| theirs.clone().into_iter().any(|other| is_same_person(one, other)))
}

impl Approval {
    /// Its state at that time: what is past its deadline has expired, also where nobody has written that down yet.
    pub fn state_at(&self, now: Timestamp) -> ApprovalState {
        if self.state.is_live() && self.expires <= now {
            ApprovalState::Expired
        } else {
            self.state
        }
    }

    /// Whether `who` is the requester, or the one for whom it acts, or acts for one of these.
    pub fn concerns(&self, who: &Principal) -> bool {
        share_a_person(people(&self.principal), people(who))
    }

    /// Of the groups that must approve, those that `who` is in.
    pub fn groups_of(&self, who: &Principal) -> BTreeSet<String> {
        self.groups.intersection(&who.groups).cloned().collect()
    }

    /// Whether `who` may see it: a member of one of its groups, or whoever asked for it.
    pub fn is_visible_to(&self, who: &Authenticated) -> bool {
        let concerned =
            !self.groups_of(&who.principal).is_empty() || self.principal.subject == who.principal.subject;
        concerned && who.covers(&self.resource)
    }

    /// As `who` may see it. What the target guesses can tell of data that the requester may not see: it is for those who
    /// decide.
    pub fn shown_to(self, who: &Authenticated) -> Self {
        let decides = !self.groups_of(&who.principal).is_empty() && !self.concerns(&who.principal);
        Self {
            estimate: self.estimate.filter(|_| decides),
            ..self
        }
    }

    /// What is to be kept where the target has guessed how many rows it would touch; `None`: nobody waits for that any
    /// more.
    pub fn estimated(&self, rows: u64) -> Option<Self> {
        (self.state == ApprovalState::Open && self.estimate.is_none()).then(|| Self {
            estimate: Some(rows),
            ..self.clone()
        })
    }

    /// What is to be kept once `who` has said `choice`.
    pub fn decide(
        &self,
        who: &Authenticated,
        choice: Choice,
        reason: Option<String>,
        now: Timestamp,
    ) -> Result<Self, CannotDecide> {
        let principal = &who.principal;
        if !who.covers(&self.resource) {
            return Err(CannotDecide::OtherResource(self.resource.clone()));
        }
        let groups = self.groups_of(principal);
        if groups.is_empty() {
            let names: Vec<&str> = self.groups.iter().map(String::as_str).collect();
            return Err(CannotDecide::NotInGroup(names.join(" and ")));
        }
        if self.concerns(principal) {
            return Err(CannotDecide::Requester);
        }
        if principal.kind != PrincipalKind::Human {
            return Err(CannotDecide::NoPerson(principal.kind.as_str()));
        }
        let state = self.state_at(now);
        if state != ApprovalState::Open {
            return Err(CannotDecide::Over(state));
        }
        let spoke = |vote: &ApprovalVote| {
            share_a_person(
                std::iter::once(&vote.subject).chain(&vote.on_behalf_of),
                people(principal),
            )
        };
        let mut spoken = self.votes.iter().filter(|vote| spoke(vote));
        if choice == Choice::Approve && spoken.any(|vote| vote.credential == who.credential_id) {
            return Err(CannotDecide::Again);
        }
        let mut next = self.clone();
        if choice == Choice::Approve {
            // By another token the same person says it anew, for the former may have ended: the later word counts, once.
            next.votes.retain(|vote| !spoke(vote));
        }
        next.votes.push(ApprovalVote {
            subject: principal.subject.clone(),
            on_behalf_of: principal.on_behalf_of.clone(),
            groups,
            choice,
            reason,
            at: now,
            credential: who.credential_id.clone(),
            valid_until: who.expires,
        });
        next.state = match choice {
            Choice::Deny => ApprovalState::Denied,
            Choice::Approve if next.is_carried(|_| true) => ApprovalState::Approved,
            Choice::Approve => ApprovalState::Open,
        };
        if let (ApprovalState::Approved, Some(terms)) = (next.state, &next.grant) {
            let lasting = Duration::from_secs(terms.seconds);
            next.expires = now.checked_add(lasting).unwrap_or(now);
        }
        Ok(next)
    }

    /// Whether the approvals that `count` are enough: for each group as many different people as it needs, and nobody
    /// stands for two groups.
    pub fn is_carried(&self, count: impl Fn(&ApprovalVote) -> bool) -> bool {
        let votes: Vec<&ApprovalVote> = self
            .votes
            .iter()
            .filter(|vote| vote.choice == Choice::Approve && count(vote))
            .collect();
        // Each seat of each group needs a person of its own: a matching, grown seat by seat.
        let seats = self.groups.iter().flat_map(|group| {
            let needed = usize::try_from(self.approvers.max(1)).unwrap_or(usize::MAX);
            std::iter::repeat_n(group.as_str(), needed)
        });
        let mut taken: BTreeMap<usize, (usize, &str)> = BTreeMap::new();
        let mut any = false;
        for (number, group) in seats.enumerate() {
            any = true;
            // More seats than people can't be filled, however many are asked for.
            if number >= votes.len() || !seat(&votes, (number, group), &mut taken, &mut BTreeSet::new()) {
                return false;
            }
        }
        any
    }

    /// What is to be kept once its deadline has passed; `None`: it has not, or it is over already.
    pub fn expire(&self, now: Timestamp) -> Option<Self> {
        (self.state.is_live() && self.expires <= now).then(|| Self {
            state: ApprovalState::Expired,
            ..self.clone()
        })
    }

    /// What is to be kept where an approved one is claimed for the operation `by`. With votes that do not `count` any
    /// more it expires instead. `None`: there is nothing to claim.
    pub fn claim(&self, by: &str, now: Timestamp, count: impl Fn(&ApprovalVote) -> bool) -> Option<Self> {
        if self.state_at(now) != ApprovalState::Approved || self.grant.is_some() {
            return None;
        }
        let mut next = self.clone();
        if self.is_carried(count) {
            next.state = ApprovalState::Used;
            next.used_by = Some(by.to_owned());
        } else {
            next.state = ApprovalState::Expired;
            next.note = Some("what showed who approved it has ended or was revoked".to_owned());
        }
        Some(next)
    }

    /// What is to be kept where access, or a request for it, is taken back; `None`: it is none, or it is over.
    pub fn revoke(&self, by: &str, reason: Option<&str>, now: Timestamp) -> Option<Self> {
        if self.grant.is_none() || !self.state_at(now).is_live() {
            return None;
        }
        let why = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        Some(Self {
            state: ApprovalState::Denied,
            note: Some(format!("revoked by {by}{why}")),
            ..self.clone()
        })
    }

    /// What is to be kept where `by`, which had claimed it, surely was not forwarded; `None`: it was not claimed by that.
    pub fn release(&self, by: &str) -> Option<Self> {
        (self.state == ApprovalState::Used && self.used_by.as_deref() == Some(by)).then(|| Self {
            state: ApprovalState::Approved,
            used_by: None,
            ..self.clone()
        })
    }
}

/// Finds somebody for a seat, moving others where they can sit elsewhere.
fn seat<'a>(
    votes: &[&ApprovalVote],
    wanted: (usize, &'a str),
    taken: &mut BTreeMap<usize, (usize, &'a str)>,
    tried: &mut BTreeSet<usize>,
) -> bool {
    for (person, vote) in votes.iter().enumerate() {
        // A subject that voted twice is one person; `decide` keeps that from happening.
        if !vote.groups.contains(wanted.1) || !tried.insert(person) {
            continue;
        }
        let free = match taken.get(&person).copied() {
            None => true,
            Some(other) => seat(votes, other, taken, tried),
        };
        if free {
            taken.insert(person, wanted);
            return true;
        }
    }
    false
}
