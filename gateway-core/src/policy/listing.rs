//! The policies in force, for people to read.

use std::collections::BTreeMap;

use super::engine::PolicyEngine;

/// One policy in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPolicy {
    /// Its `@id`.
    pub id: String,
    /// `permit` or `forbid`.
    pub effect: &'static str,
    /// Where it stands, such as `analysts.cedar:12`.
    pub place: String,
    /// Its annotations as written, without `@id`.
    pub annotations: BTreeMap<String, String>,
    /// Its text, in Cedar's own layout.
    pub text: String,
}

impl PolicyEngine {
    /// All policies in force, in the order of their files.
    pub fn list(&self) -> Vec<ListedPolicy> {
        self.end_grants(jiff::Timestamp::now());
        let set = self.in_force();
        set.rules
            .list
            .iter()
            .map(|rule| ListedPolicy {
                id: rule.id.clone(),
                effect: if rule.forbid { "forbid" } else { "permit" },
                place: rule.place.clone(),
                annotations: rule.written.clone(),
                text: rule.policy.to_cedar().unwrap_or_default(),
            })
            .collect()
    }
}
