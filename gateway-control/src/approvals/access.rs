//! Access that is asked for, given for a time, and taken back.
//!
//! A request is an approval like that of a held operation: the same people decide it, and the same states hold. What
//! differs is what it lets happen: approved, it is in force until its end, and nothing is ever claimed by it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::approval::{Approval, ApprovalState};
use gateway_core::operation::truncate;
use gateway_core::policy::{Asked, Grant, MOST_GRANTS, NoOffer, PolicyEngine};
use gateway_core::principal::Authenticated;
use gateway_core::resource::Resource;
use gateway_core::services::{Inserted, StoreError};
use gateway_core::session::SessionId;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

use super::decide::REASON_BYTES;
use super::view::DecisionView;
use super::{ApprovalDesk, EXPIRES, Inner, LOOK, TRIES, event, hex, new_id};

/// Longest name of what access is asked on, in bytes.
const ON_BYTES: usize = 1024;
/// How many are listed at most.
const LISTED: u32 = 10_000;

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRequest {
    /// The resource.
    pub resource: String,
    /// For how long, in seconds.
    #[serde(deserialize_with = "whole")]
    pub seconds: u64,
    /// Why.
    pub reason: String,
    /// Actions; none: all that the policies give.
    #[serde(default)]
    pub actions: BTreeSet<String>,
    /// Something in the resource (`public.payments`); none: the resource itself.
    #[serde(default)]
    pub on: Option<String>,
}

/// A whole number, which JSON also writes as `60.0`.
fn whole<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(from)?;
    let written = || number.as_f64().filter(|value| value.fract() == 0.0);
    let read = number
        .as_u64()
        .or_else(|| format!("{:.0}", written()?).parse().ok());
    read.ok_or_else(|| serde::de::Error::custom("`seconds` is a whole number from 1"))
}

/// Where a grant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GrantState {
    /// People have not decided.
    Requested,
    /// It is in force.
    Active,
    /// Its time is over.
    Ended,
    /// Somebody took it back.
    Revoked,
    /// Somebody refused it.
    Denied,
    /// Nobody decided in time.
    Expired,
}

impl GrantState {
    /// The word that users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Active => "active",
            Self::Ended => "ended",
            Self::Revoked => "revoked",
            Self::Denied => "denied",
            Self::Expired => "expired",
        }
    }
}

/// Access that was asked for, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantView {
    /// Its id, which is that of its approval.
    pub id: String,
    /// Where it stands.
    pub state: GrantState,
    /// Whose it is.
    pub principal: String,
    /// For whom that one acts.
    #[serde(default)]
    pub on_behalf_of: Option<String>,
    /// The resource.
    pub resource: String,
    /// On what, as policies write it.
    pub object: String,
    /// The actions; none: all of the template's.
    pub actions: Vec<String>,
    /// For how long, in seconds from the approval on.
    pub seconds: u64,
    /// Why.
    pub reason: String,
    /// The policy that gives it.
    pub template: String,
    /// The groups that must approve.
    pub group: Vec<String>,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it ends; of one that is not decided, until when that can be.
    pub expires: Timestamp,
    /// What people said.
    #[serde(default)]
    pub decisions: Vec<DecisionView>,
    /// Why it is over, where that is not its end.
    #[serde(default)]
    pub note: Option<String>,
}

impl GrantView {
    /// `None`: it is no request for access.
    fn of(approval: Approval, now: Timestamp) -> Option<Self> {
        let terms = approval.grant.clone()?;
        let given = approval.is_carried(|_| true);
        let state = match approval.state_at(now) {
            ApprovalState::Open => GrantState::Requested,
            ApprovalState::Approved | ApprovalState::Used => GrantState::Active,
            ApprovalState::Denied if given => GrantState::Revoked,
            ApprovalState::Denied if approval.note.is_some() => GrantState::Revoked,
            ApprovalState::Denied => GrantState::Denied,
            ApprovalState::Expired if given => GrantState::Ended,
            ApprovalState::Expired => GrantState::Expired,
        };
        Some(Self {
            state,
            id: approval.id,
            principal: approval.principal.subject,
            on_behalf_of: approval.principal.on_behalf_of,
            resource: approval.resource,
            object: terms.object.to_string(),
            actions: terms.actions.into_iter().collect(),
            seconds: terms.seconds,
            reason: approval.reason.unwrap_or_default(),
            template: terms.template,
            group: approval.groups.into_iter().collect(),
            created: approval.created,
            expires: approval.expires,
            decisions: approval.votes.into_iter().map(DecisionView::from).collect(),
            note: approval.note,
        })
    }
}

/// Why nothing was asked for or taken back.
#[derive(Debug, thiserror::Error)]
pub enum NoAccess {
    /// The policies give nothing of the kind.
    #[error(transparent)]
    NoOffer(#[from] NoOffer),
    /// The request is not readable.
    #[error("{0}")]
    Unreadable(String),
    /// Too many wait.
    #[error("too many approvals are open; wait until some are decided or over")]
    Full,
    /// There is none of that id that the caller may see.
    #[error("there is no access `{0}` that you may see")]
    Absent(String),
    /// It is over already.
    #[error("`{0}` is over already")]
    Over(String),
    /// Store or trail failed.
    #[error("{0}")]
    Unavailable(String),
}

impl From<StoreError> for NoAccess {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl ApprovalDesk {
    /// Asks for access, as `who`. The same asked for again, while it is not decided or in force, is the same request.
    pub async fn ask_access(
        &self,
        who: &Authenticated,
        resource: &Arc<Resource>,
        request: AccessRequest,
    ) -> Result<GrantView, NoAccess> {
        let inner = &self.0;
        let Some(engine) = &inner.parts.grants else {
            return Err(NoOffer::Nothing("anything".to_owned()).into());
        };
        let mut reason = request.reason.trim().to_owned();
        truncate(&mut reason, REASON_BYTES);
        if reason.is_empty() {
            return Err(NoAccess::Unreadable(
                "say why: access is given for a reason".to_owned(),
            ));
        }
        if request
            .on
            .as_ref()
            .is_some_and(|on| on.len() > ON_BYTES || on.chars().any(char::is_control))
        {
            return Err(NoAccess::Unreadable("what it is asked on is no name".to_owned()));
        }
        let offer = engine.offer(Asked {
            principal: &who.principal,
            resource,
            on: request.on.as_deref(),
            actions: &request.actions,
            lasting: Duration::from_secs(request.seconds),
        })?;
        let terms = serde_json::to_string(&(
            &offer.terms,
            &resource.name,
            &who.principal.subject,
            &who.principal.on_behalf_of,
            // Under other policies it is another request: this one can't be approved any more.
            inner.parts.policy.version().as_ref(),
        ))
        .map_err(|error| NoAccess::Unavailable(error.to_string()))?;
        let digest = hex(&Sha256::digest(format!("access\0{terms}")));
        for _ in 0..TRIES {
            let now = inner.now();
            if let Some(kept) = inner.parts.store.live_approval(&digest).await? {
                if kept.approval.state_at(now) == ApprovalState::Expired {
                    inner.expire(&kept).await?;
                    continue;
                }
                return GrantView::of(kept.approval, now).ok_or(NoAccess::Full);
            }
            let lives = offer.hold.expires.unwrap_or(EXPIRES);
            let mut principal = gateway_core::principal::Principal::clone(&who.principal);
            principal.claims.clear();
            let new = Approval {
                id: new_id(),
                digest: digest.clone(),
                state: ApprovalState::Open,
                principal,
                resource: resource.name.clone(),
                operation: offer.hold.operation.clone(),
                asked: Vec::new(),
                statement: None,
                parameters: Vec::new(),
                stands_for: Vec::new(),
                reason: Some(reason.clone()),
                groups: offer.hold.groups.clone(),
                approvers: offer.hold.approvers,
                rules: offer.hold.rules.clone(),
                policy: inner.parts.policy.version().to_string(),
                session: SessionId::generate(),
                created: now,
                expires: now.checked_add(lives).unwrap_or(now),
                votes: Vec::new(),
                used_by: None,
                note: None,
                estimate: None,
                grant: Some(offer.terms.clone()),
            };
            match inner.parts.store.insert_approval(&new, inner.parts.room).await? {
                Inserted::New => {}
                Inserted::Exists => continue,
                Inserted::Full => return Err(NoAccess::Full),
            }
            let opened = event(&new, "opened", &new.principal.subject, Some(&reason), None);
            inner
                .record(&opened)
                .await
                .map_err(|error| NoAccess::Unavailable(error.to_string()))?;
            return GrantView::of(new, now).ok_or(NoAccess::Full);
        }
        Err(NoAccess::Unavailable(
            "others ask for the same at the same time; try again".to_owned(),
        ))
    }

    /// Access that was asked for, newest first: what `who` may see; without one, which is the operator on the host, all.
    pub async fn access(&self, who: Option<&Authenticated>) -> Result<Vec<GrantView>, StoreError> {
        let now = self.0.now();
        let mut all = self.0.parts.store.approvals(LISTED).await?;
        all.retain(|approval| who.is_none_or(|who| may_see(approval, who)));
        let mut all: Vec<GrantView> = all
            .into_iter()
            .filter_map(|one| GrantView::of(one, now))
            .collect();
        all.sort_by(|one, other| (other.created, &other.id).cmp(&(one.created, &one.id)));
        Ok(all)
    }

    /// Takes access back, or a request for it: as its requester, as one of those who decide it, or as the operator. It is
    /// out of force when this returns.
    pub async fn revoke_access(
        &self,
        who: Option<&Authenticated>,
        id: &str,
        reason: Option<&str>,
    ) -> Result<GrantView, NoAccess> {
        let inner = &self.0;
        let by = who.map_or("operator", |who| who.principal.subject.as_str());
        for _ in 0..TRIES {
            let kept = inner.parts.store.approval(id).await?;
            let kept = kept.filter(|kept| {
                kept.approval.grant.is_some() && who.is_none_or(|who| may_see(&kept.approval, who))
            });
            let Some(kept) = kept else {
                return Err(NoAccess::Absent(id.to_owned()));
            };
            let Some(next) = kept.approval.revoke(by, reason, inner.now()) else {
                return Err(NoAccess::Over(id.to_owned()));
            };
            if !inner.parts.store.swap_approval(kept.revision, &next).await? {
                continue;
            }
            inner.refresh_grants().await;
            inner.waiters.wake(id);
            let told = inner.record(&event(&next, "revoked", by, reason, None)).await;
            told.map_err(|error| NoAccess::Unavailable(format!("{id} is revoked, but {error}")))?;
            return GrantView::of(next, inner.now()).ok_or_else(|| NoAccess::Absent(id.to_owned()));
        }
        Err(NoAccess::Unavailable(format!(
            "{id} changes all the time; try again"
        )))
    }

    /// Keeps in force what the store says is: what other gateways approve or revoke as well. Never ends.
    pub async fn keep_grants(self) {
        loop {
            self.0.refresh_grants().await;
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Inner {
    /// Puts into force what is approved and not over.
    pub(super) async fn refresh_grants(&self) {
        let Some(engine) = &self.parts.grants else { return };
        let now = self.now();
        let most = u32::try_from(MOST_GRANTS).unwrap_or(u32::MAX);
        match self.parts.store.granted_approvals(now, most).await {
            Ok(approved) => put_in_force(engine, approved),
            // What is in force ends by itself.
            Err(error) => tracing::warn!(%error, "grants could not be looked at"),
        }
    }
}

/// A member of the groups that decide it, who asked for it, for the same person, and that person.
fn may_see(approval: &Approval, who: &Authenticated) -> bool {
    let (own, theirs) = (&approval.principal, &who.principal);
    let same = own.subject == theirs.subject && own.on_behalf_of == theirs.on_behalf_of;
    let for_whom = own.on_behalf_of.as_ref() == Some(&theirs.subject);
    who.covers(&approval.resource) && (same || for_whom || !approval.groups_of(theirs).is_empty())
}

/// Puts what is approved into force, and nothing else.
pub fn put_in_force(engine: &PolicyEngine, approved: Vec<Approval>) {
    let grants = approved.into_iter().filter_map(|approval| {
        Some(Grant {
            terms: approval.grant?,
            id: approval.id,
            subject: approval.principal.subject,
            on_behalf_of: approval.principal.on_behalf_of,
            resource: approval.resource,
            until: approval.expires,
        })
    });
    engine.set_grants(grants.collect());
}
