//! Why a message is permitted, held or refused; for operators and `gateway policy explain`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::PolicyEngine;
use crate::operation::Operations;
use crate::principal::Principal;
use crate::resource::Resource;

/// Why a message is permitted, held or refused. Names policies: for operators, never for clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `allow`, `deny` or `hold`, for the message as a whole.
    pub verdict: &'static str,
    /// The version that decided.
    pub version: String,
    /// Each operation, in order.
    pub operations: Vec<OperationExplanation>,
}

/// Why one operation is permitted, held or refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OperationExplanation {
    /// The action.
    pub action: String,
    /// The object, as policies name it.
    pub object: String,
    /// `allow`, `deny` or `hold`.
    pub verdict: &'static str,
    /// The policies that decided.
    pub policies: Vec<PolicyNote>,
    /// Policies that erred, and what does not fit the vocabulary; any is a denial.
    pub faults: Vec<PolicyFault>,
    /// What is missing, on a default deny.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
}

/// A policy that decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyNote {
    /// Its `@id`.
    pub id: String,
    /// `permit` or `forbid`.
    pub effect: &'static str,
    /// Where it is: `policies/analysts.cedar:12`.
    pub place: String,
    /// Its obligations, as written (`approve` to `dba`).
    pub annotations: BTreeMap<String, String>,
}

/// Why an operation could not be decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyFault {
    /// The `@id` of the policy that erred; none where the operation itself does not fit the vocabulary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What happened.
    pub message: String,
}

/// The permission that is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// What no policy permits to whom.
    pub message: String,
    /// A policy that would permit exactly it, ready to paste.
    pub permit: String,
}

impl PolicyEngine {
    /// Says why `operations` are permitted, held or refused. Evaluates afresh, beside all caches.
    pub fn explain(&self, _: &Arc<Principal>, _: &Arc<Resource>, _: &Arc<Operations>) -> Explanation {
        Explanation {
            verdict: "deny",
            version: String::new(),
            operations: Vec::new(),
        }
    }
}
