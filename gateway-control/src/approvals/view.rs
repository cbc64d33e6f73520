//! An approval as the API shows it.

use gateway_core::approval::{Approval, ApprovalState, ApprovalVote, Choice};
use gateway_core::audit::Parameter;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// An approval as the API shows it: all that an approver must know, nothing that proves who somebody is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalView {
    /// Its id.
    pub id: String,
    /// `open`, `approved`, `denied`, `expired` or `used`.
    pub state: ApprovalState,
    /// Who asks.
    pub principal: String,
    /// Human, agent or service.
    pub kind: String,
    /// For whom.
    #[serde(default)]
    pub on_behalf_of: Option<String>,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
    /// On what.
    pub resource: String,
    /// What, in one line.
    pub operation: String,
    /// Each thing that it tries.
    #[serde(default)]
    pub asked: Vec<String>,
    /// The exact text.
    #[serde(default)]
    pub statement: Option<String>,
    /// Bound parameters.
    #[serde(default)]
    pub parameters: Vec<Parameter>,
    /// Names in the text that stand for something in that session.
    #[serde(default)]
    pub stands_for: Vec<(String, String)>,
    /// About how many rows it would touch, as the target guessed when it was opened; told to those who decide it alone.
    #[serde(default)]
    pub estimate: Option<u64>,
    /// The groups that must approve.
    pub group: Vec<String>,
    /// So many people of each.
    pub approvers: u32,
    /// The policies that demand it.
    pub rules: Vec<String>,
    /// The version of the policies.
    pub policy: String,
    /// The session that asked first.
    pub session: String,
    /// When that was.
    pub created: Timestamp,
    /// The deadline.
    pub expires: Timestamp,
    /// What people said.
    #[serde(default)]
    pub decisions: Vec<DecisionView>,
    /// The operation that it was used for.
    #[serde(default)]
    pub used_by: Option<String>,
    /// Why it is over, where that is not the deadline.
    #[serde(default)]
    pub note: Option<String>,
}

/// What one person said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionView {
    /// Who.
    pub by: String,
    /// For which of the groups.
    pub groups: Vec<String>,
    /// `approve` or `deny`.
    pub decision: Choice,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
}

impl ApprovalView {
    /// For lists, which would be too long otherwise: without texts and values.
    pub fn brief(self) -> Self {
        Self {
            asked: Vec::new(),
            statement: None,
            parameters: Vec::new(),
            stands_for: Vec::new(),
            ..self
        }
    }
}

impl From<ApprovalVote> for DecisionView {
    fn from(vote: ApprovalVote) -> Self {
        Self {
            by: vote.subject,
            groups: vote.groups.into_iter().collect(),
            decision: vote.choice,
            reason: vote.reason,
            at: vote.at,
        }
    }
}

impl From<Approval> for ApprovalView {
    fn from(approval: Approval) -> Self {
        // Access that was given and taken back was not refused by those who were asked.
        let revoked = approval.grant.is_some() && approval.note.is_some();
        let state = match approval.state {
            ApprovalState::Denied if revoked => ApprovalState::Expired,
            state => state,
        };
        let decisions = approval.votes.into_iter().map(DecisionView::from);
        Self {
            decisions: decisions.collect(),
            id: approval.id,
            state,
            principal: approval.principal.subject,
            kind: approval.principal.kind.to_string(),
            on_behalf_of: approval.principal.on_behalf_of,
            reason: approval.reason,
            resource: approval.resource,
            operation: approval.operation,
            asked: approval.asked,
            statement: approval.statement,
            parameters: approval.parameters,
            stands_for: approval.stands_for,
            estimate: approval.estimate,
            group: approval.groups.into_iter().collect(),
            approvers: approval.approvers,
            rules: approval.rules,
            policy: approval.policy,
            session: approval.session.to_string(),
            created: approval.created,
            expires: approval.expires,
            used_by: approval.used_by,
            note: approval.note,
        }
    }
}
