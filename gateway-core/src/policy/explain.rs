//! Why a message is permitted, held or refused; for operators and `gateway policy explain`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::sync::Arc;

use serde::Serialize;

use super::PolicyEngine;
use super::cache::Who;
use super::combine::{Word, word};
use super::load::Rule;
use super::request::Outcome;
use super::vocabulary::Vocabulary;
use crate::meaning::{Meaning, ResultColumn};
use crate::operation::{Operation, Operations, Value};
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
    /// The columns of the results, where the adapter can tell: see [`Explanation::with_meaning`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<ResultColumn>,
    /// Where in the resource it was looked at (a database), where the protocol has such.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// What keeps this from being what a session would be told, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
    /// Tags whose data is masked.
    #[serde(skip)]
    hidden: BTreeSet<String>,
}

impl Explanation {
    /// Tells as well what the adapter knows of the statement: what its results carry and which masks they get, where it was
    /// looked at, and what is doubtful.
    #[must_use]
    pub fn with_meaning(mut self, meaning: &Meaning) -> Self {
        if let Some(lineage) = &meaning.lineage {
            self.results = lineage.results(&self.hidden);
        }
        self.place.clone_from(&meaning.place);
        self.doubts.clone_from(&meaning.doubts);
        self
    }

    /// Whether data in the results is masked.
    pub fn masks(&self) -> bool {
        !self.hidden.is_empty()
    }
}

/// Why one operation is permitted, held or refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OperationExplanation {
    /// The action.
    pub action: String,
    /// The object, as policies name it.
    pub object: String,
    /// `allow`, `deny`, `hold`, or `mask`: the message runs, and what it asks for is masked.
    pub verdict: &'static str,
    /// Why the statement asks it, where it does not say so itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
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
    /// Where it is within the policy directory: `analysts.cedar:12`.
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
    pub fn explain(
        &self,
        principal: &Arc<Principal>,
        resource: &Arc<Resource>,
        operations: &Arc<Operations>,
    ) -> Explanation {
        self.end_grants(jiff::Timestamp::now());
        let set = self.in_force();
        let rules = &set.rules.list;
        let mut strictest = Word::Allow;
        let mut hidden = BTreeSet::new();
        let mut list = Vec::with_capacity(operations.list().len());
        for operation in operations.list() {
            let outcome = self.evaluate(&set, Who { principal, resource }, operation);
            let word = word(rules, operation, &outcome);
            if word == Word::Mask {
                hidden.insert(operation.object.entity.id.clone());
            }
            // The message runs, with a mask.
            strictest = strictest.max(if word == Word::Mask { Word::Allow } else { word });
            let nothing = outcome.is_silent();
            if nothing && operation.reached {
                continue;
            }
            list.push(OperationExplanation {
                action: operation.action.to_string(),
                object: operation.object.entity.to_string(),
                verdict: word.as_str(),
                because: operations.why(&operation.object.entity.id).map(str::to_owned),
                policies: notes(rules, &outcome),
                faults: faults(rules, &outcome),
                missing: nothing.then(|| missing(self.vocabulary(), principal, operation)),
            });
        }
        Explanation {
            verdict: strictest.as_str(),
            version: set.rules.version.to_string(),
            operations: list,
            results: Vec::new(),
            place: None,
            doubts: Vec::new(),
            hidden,
        }
    }
}

fn notes(rules: &[Rule], outcome: &Outcome) -> Vec<PolicyNote> {
    let decided = outcome.forbids.iter().chain(&outcome.permits);
    decided
        .filter_map(|index| rules.get(*index))
        .map(|rule| PolicyNote {
            id: rule.id.clone(),
            effect: if rule.forbid { "forbid" } else { "permit" },
            place: rule.place.clone(),
            annotations: rule.written.clone(),
        })
        .collect()
}

fn faults(rules: &[Rule], outcome: &Outcome) -> Vec<PolicyFault> {
    let id = |index: Option<usize>| {
        index
            .and_then(|index| rules.get(index))
            .map(|rule| rule.id.clone())
    };
    outcome
        .faults
        .iter()
        .map(|(index, message)| PolicyFault {
            id: id(*index),
            message: message.clone(),
        })
        .collect()
}

fn missing(vocabulary: &Vocabulary, principal: &Principal, operation: &Operation) -> Missing {
    let groups: Vec<&str> = principal.groups.iter().map(String::as_str).collect();
    let groups = if groups.is_empty() {
        "none".to_owned()
    } else {
        groups.join(", ")
    };
    let (action, object) = (operation.action.as_str(), &operation.object.entity);
    let message = format!(
        "no policy permits `{action}` on {}::{} to {} (groups: {groups})",
        object.kind,
        quoted(&object.id),
        principal.subject
    );
    Missing {
        message,
        permit: permit(vocabulary, principal, operation),
    }
}

/// A policy that permits exactly this operation to exactly this principal.
fn permit(vocabulary: &Vocabulary, principal: &Principal, operation: &Operation) -> String {
    let object = &operation.object;
    let id: String = format!("{}-{}-{}", principal.subject, operation.action, object.entity.id)
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@') {
                c
            } else {
                '-'
            }
        })
        .take(120)
        .collect();
    let mut text = format!(
        "@id({})\npermit (principal == Principal::{}, action == Action::{}, resource == {}::{})",
        quoted(&id),
        quoted(&principal.subject),
        quoted(operation.action.as_str()),
        object.entity.kind,
        quoted(&object.entity.id)
    );
    let mut conditions = Vec::new();
    for (name, value) in &object.attributes {
        conditions.extend(condition("resource", name, value, true));
    }
    let context = vocabulary
        .context_of(operation.action.as_str())
        .unwrap_or_default();
    for (name, value) in &operation.context {
        let required = context.get(name).is_some_and(|attribute| attribute.required);
        conditions.extend(condition("context", name, value, required));
    }
    // What is optional and was not there must not be there.
    for (name, attribute) in &context {
        if !attribute.required && !operation.context.contains_key(name) {
            conditions.push(format!("!(context has {})", key(name)));
        }
    }
    if !conditions.is_empty() {
        // Writing to a string can't fail.
        let _ = write!(text, "\nwhen {{ {} }}", conditions.join(" &&\n       "));
    }
    text.push(';');
    text
}

/// What holds of one attribute, and first that it is there.
fn condition(of: &str, name: &str, value: &Value, required: bool) -> Vec<String> {
    let mut list = Vec::new();
    if !required {
        list.push(format!("{of} has {}", key(name)));
    }
    let path = if is_word(name) {
        format!("{of}.{name}")
    } else {
        format!("{of}[{}]", quoted(name))
    };
    match value {
        Value::Bool(true) => list.push(path),
        Value::Bool(false) => list.push(format!("!{path}")),
        Value::Long(number) => list.push(format!("{path} == {number}")),
        Value::Ip(address) => list.push(format!("{path} == ip(\"{address}\")")),
        Value::String(text) => list.push(format!("{path} == {}", quoted(text))),
        Value::Entity(entity) => list.push(format!("{path} == {}::{}", entity.kind, quoted(&entity.id))),
        // Cedar can't type an empty set.
        Value::Strings(set) if set.is_empty() => list.push(format!("{path}.isEmpty()")),
        Value::Strings(set) => {
            let items: Vec<String> = set.iter().map(|text| quoted(text)).collect();
            list.push(format!("{path} == [{}]", items.join(", ")));
        }
        Value::Record(map) => {
            for (name, value) in map {
                list.extend(condition(&path, name, value, true));
            }
        }
    }
    list
}

fn is_word(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let reserved = [
        "true", "false", "if", "then", "else", "in", "is", "like", "has", "__cedar",
    ];
    starts && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !reserved.contains(&name)
}

fn key(name: &str) -> String {
    if is_word(name) {
        name.to_owned()
    } else {
        quoted(name)
    }
}

/// A Cedar string literal.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len().saturating_add(2));
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.extend(c.escape_unicode()),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (policy version {})", self.verdict, self.version)?;
        if let Some(place) = &self.place {
            write!(f, "\n      in `{place}`")?;
        }
        for doubt in &self.doubts {
            write!(f, "\n      careful: {doubt}")?;
        }
        if self.operations.is_empty() {
            f.write_str("\n  nothing is asked of policy")?;
        }
        for operation in &self.operations {
            write!(
                f,
                "\n{:5} {} on {}",
                operation.verdict, operation.action, operation.object
            )?;
            if let Some(why) = &operation.because {
                write!(f, "\n      because {why}")?;
            }
            for policy in &operation.policies {
                write!(f, "\n      {} {} ({})", policy.effect, policy.id, policy.place)?;
                for (name, value) in &policy.annotations {
                    write!(f, " @{name}({})", quoted(value))?;
                }
            }
            for fault in &operation.faults {
                match &fault.id {
                    Some(id) => write!(f, "\n      {id} erred: {}", fault.message)?,
                    None => write!(f, "\n      {}", fault.message)?,
                }
            }
            if let Some(missing) = &operation.missing {
                write!(f, "\n      {}; this would permit exactly it:", missing.message)?;
                for line in missing.permit.lines() {
                    write!(f, "\n        {line}")?;
                }
            }
        }
        let several = self.results.iter().any(|column| column.statement > 1);
        for (at, column) in self.results.iter().enumerate() {
            if at == 0 {
                f.write_str("\nresult")?;
            }
            match several {
                true => write!(f, "\n      {}: {column}", column.statement)?,
                false => write!(f, "\n      {column}")?,
            }
        }
        Ok(())
    }
}
