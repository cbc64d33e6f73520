//! What policy answers, and what a client is told of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::operation::{Operation, truncate};

/// Why an operation does not run, as stable codes that clients and agents may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Policy does not permit it.
    Denied,
    /// It waits for a person.
    ApprovalPending,
    /// A person refused it.
    ApprovalRefused,
    /// Nobody decided in time.
    ApprovalExpired,
    /// More rows, bytes or time than policy gives.
    BudgetExhausted,
    /// The token or the grant ended.
    SessionExpired,
    /// It is no valid protocol.
    Malformed,
}

/// The decision object: what a client is told, the same on every protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What happened.
    pub code: Code,
    /// The `@id` of the deciding policy; null on a default deny.
    pub rule: Option<String>,
    /// What was tried, such as `write public.orders`.
    pub operation: String,
    /// Whether trying again can help.
    pub retry: bool,
    /// After how many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
    /// The approval that was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalRef>,
    /// One sentence on what would be allowed.
    pub hint: String,
    /// Finds the matching audit event: the session's id and the event's number.
    pub correlation: String,
    /// The client itself gave up waiting: not part of the object, but some protocols have a code of their own for it.
    #[serde(skip)]
    pub cancelled: bool,
}

/// Names an approval to a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRef {
    /// Its id, such as `apr_7`.
    pub id: String,
    /// Where a person decides.
    pub url: String,
    /// When it ends.
    pub expires: Timestamp,
}

impl Decision {
    /// The largest encoded decision object, in bytes.
    pub const MAX_BYTES: usize = 1024;

    /// Its code as users see it.
    pub fn word(&self) -> &'static str {
        match self.code {
            Code::Denied => "denied",
            Code::ApprovalPending => "approval_pending",
            Code::ApprovalRefused => "approval_refused",
            Code::ApprovalExpired => "approval_expired",
            Code::BudgetExhausted => "budget_exhausted",
            Code::SessionExpired => "session_expired",
            Code::Malformed => "malformed",
        }
    }

    /// The object as JSON of at most [`Self::MAX_BYTES`]; hint and operation are cut where they must be.
    pub fn to_json(&self) -> String {
        let mut cut = self.clone();
        for _ in 0..16 {
            // Serialising plain strings and numbers cannot fail; an empty text is still an answer.
            let text = serde_json::to_string(&cut).unwrap_or_default();
            if text.len() <= Self::MAX_BYTES {
                return text;
            }
            if cut.hint.len() > 80 {
                let half = cut.hint.len() / 2;
                truncate(&mut cut.hint, half);
            } else if cut.operation.len() > 40 {
                let half = cut.operation.len() / 2;
                truncate(&mut cut.operation, half);
            } else if let Some(rule) = &mut cut.rule {
                let half = rule.len() / 2;
                truncate(rule, half);
            } else {
                cut.approval = None;
                cut.hint.clear();
            }
        }
        String::from(
            r#"{"code":"denied","rule":null,"operation":"","retry":false,"hint":"","correlation":""}"#,
        )
    }
}

/// The policies that demand something, by their `@id`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitedBy {
    /// Whose [`Obligations::rows`] it is.
    pub rows: Option<String>,
    /// Whose [`Obligations::timeout`] it is.
    pub timeout: Option<String>,
    /// The first that demands a reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What an allow demands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obligations {
    /// At most so many rows (`@rows`).
    pub rows: Option<u64>,
    /// At most so much time (`@timeout`).
    pub timeout: Option<Duration>,
    /// A reason must be stated (`@reason("required")`).
    pub reason_required: bool,
    /// Tags whose data is masked in what comes back: the principal may not `unmask` them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub mask: BTreeSet<String>,
    /// Who demands it; `None` where nobody sets limits or wants a reason. Shared, since what is demanded is copied for each message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Arc<LimitedBy>>,
}

impl Obligations {
    /// The policy that demands a reason, where one does.
    pub fn reason_by(&self) -> Option<&str> {
        self.by.as_deref()?.reason.as_deref()
    }

    /// Whether they are more than a reason to be stated: limits and masks, which hold for what runs in sessions.
    pub fn limit_or_mask(&self) -> bool {
        self.rows.is_some() || self.timeout.is_some() || !self.mask.is_empty()
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// What a client is told.
    pub code: Code,
    /// The deciding `@id`; `None` on a default deny.
    pub rule: Option<String>,
    /// The operation that was refused, for people.
    pub operation: String,
    /// One sentence on what would be allowed; no policy internals, nothing of the target.
    pub hint: String,
}

impl Denial {
    /// A default deny of `operation`.
    pub fn new(operation: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code: Code::Denied,
            rule: None,
            operation: operation.into(),
            hint: hint.into(),
        }
    }

    /// The decision object of this denial.
    pub fn decision(&self, correlation: impl Into<String>) -> Decision {
        Decision {
            code: self.code,
            rule: self.rule.clone(),
            operation: self.operation.clone(),
            retry: matches!(self.code, Code::ApprovalPending | Code::SessionExpired),
            retry_after_s: None,
            approval: None,
            hint: self.hint.clone(),
            correlation: correlation.into(),
            cancelled: false,
        }
    }
}

/// Who must approve an operation, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Each of these groups must approve (`@approve`); a message can need several.
    pub groups: BTreeSet<String>,
    /// How many different approvers of each group (`@approvers`).
    pub approvers: u32,
    /// The one deadline from opening, for deciding and using (`@expires`).
    pub expires: Option<Duration>,
    /// How long the statement waits in-band (`@wait`).
    pub wait: Option<Duration>,
    /// The policies that demanded it.
    pub rules: Vec<String>,
    /// What is held, for people.
    pub operation: String,
    /// What holds once it is approved.
    pub obligations: Obligations,
}

impl Hold {
    /// The word for a tag whose data the requester is shown masked, in place of the action `unmask`.
    pub const MASKED: &str = "mask";

    /// What approvers are told of one operation of what is held: an action and an object. An `unmask` that policy refuses and that
    /// is done without ([`Operation::or_mask`]) is told as [`Self::MASKED`]: an approval lets the message run, and unmasks nothing.
    pub fn told(&self, operation: &Operation) -> String {
        let object = &operation.object.entity;
        let action = match operation.or_mask && self.obligations.mask.contains(&object.id) {
            true => Self::MASKED,
            false => operation.action.as_str(),
        };
        format!("{action} {} {}", object.kind, object.id)
    }
}

/// Policy's answer to the operations of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may run, under these obligations, by these rules (`@id`s; empty where nothing was asked).
    Allow {
        /// What the allow demands.
        obligations: Obligations,
        /// The determining policies.
        rules: Vec<String>,
    },
    /// It may not.
    Deny(Denial),
    /// A person decides first.
    Hold(Hold),
}

impl Verdict {
    /// The allow of a message that asks nothing.
    pub fn free() -> Self {
        Self::Allow {
            obligations: Obligations::default(),
            rules: Vec::new(),
        }
    }

    /// `allow`, `deny` or `hold`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Allow { .. } => "allow",
            Self::Deny(_) => "deny",
            Self::Hold(_) => "hold",
        }
    }
}

/// The final word on one message, after approvals and audit: it runs, or the client is told why not.
#[derive(Debug, Clone)]
pub enum Ruling {
    /// Forward it.
    Run {
        /// What holds while it runs.
        obligations: Obligations,
        /// Number of the operation within its session; outcomes refer to it.
        ticket: u64,
    },
    /// Refuse it with this decision object.
    Refuse {
        /// What the client is told.
        decision: Arc<Decision>,
        /// Number of the operation within its session.
        ticket: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_never_exceeds_its_limit() {
        let denial = Denial {
            code: Code::Denied,
            rule: Some("r".repeat(3000)),
            operation: "\u{1}".repeat(4000),
            hint: "h".repeat(9000),
        };
        let text = denial.decision("c").to_json();
        assert!(text.len() <= Decision::MAX_BYTES);
        assert!(serde_json::from_str::<Decision>(&text).is_ok());
    }
}
