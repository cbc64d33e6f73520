//! Who asks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What kind of asker a principal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrincipalKind {
    /// A person.
    Human,
    /// A tool-using agent, usually on behalf of a person.
    Agent,
    /// A service, script or CI job.
    Service,
}

impl PrincipalKind {
    /// The word that policies compare with: `human`, `agent` or `service`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Agent => "agent",
            Self::Service => "service",
        }
    }
}

impl fmt::Display for PrincipalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for PrincipalKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "human" => Ok(Self::Human),
            "agent" => Ok(Self::Agent),
            "service" => Ok(Self::Service),
            other => Err(format!(
                "`{other}` is no kind of principal; use human, agent or service"
            )),
        }
    }
}

/// Who asks: one authenticated identity with its groups.
///
/// Two principals are equal for policy when subject, kind, groups and on-behalf-of are; `claims` only inform.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Principal {
    /// The subject, as its issuer names it (an e-mail address or an opaque id).
    pub subject: String,
    /// Human, agent or service.
    pub kind: PrincipalKind,
    /// Names of the groups it is in, those of its identity provider included.
    #[serde(default)]
    pub groups: BTreeSet<String>,
    /// The subject for which an agent acts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
    /// Further claims of its token; informative, never a base of decisions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, serde_json::Value>,
}

impl Principal {
    /// A principal without groups.
    pub fn new(subject: impl Into<String>, kind: PrincipalKind) -> Self {
        Self {
            subject: subject.into(),
            kind,
            groups: BTreeSet::new(),
            on_behalf_of: None,
            claims: BTreeMap::new(),
        }
    }

    fn identity(&self) -> (&str, PrincipalKind, &BTreeSet<String>, Option<&str>) {
        (
            &self.subject,
            self.kind,
            &self.groups,
            self.on_behalf_of.as_deref(),
        )
    }
}

impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Principal {}

impl Hash for Principal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// A principal together with what proved it and how long that holds.
#[derive(Debug, Clone)]
pub struct Authenticated {
    /// Who it is.
    pub principal: Arc<Principal>,
    /// A printable id of the proof (a token's id); never the secret.
    pub credential_id: String,
    /// When the proof, and with it every session opened by it, ends.
    pub expires: Option<Timestamp>,
    /// The only resources that the proof is good for; `None`: no such limit.
    pub resources: Option<BTreeSet<String>>,
}

impl Authenticated {
    /// Whether the proof may be used for `resource`.
    pub fn covers(&self, resource: &str) -> bool {
        self.resources.as_ref().is_none_or(|list| list.contains(resource))
    }
}
