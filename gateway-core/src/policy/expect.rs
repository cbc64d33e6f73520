//! Expectations on policies, written as YAML: `gateway policy test`.
//!
//! ```yaml
//! principals:
//!   alice: { groups: [analysts], kind: human }
//! tests:
//!   - name: analysts read orders
//!     as: alice                        # one of the above, or { subject, kind, groups, on_behalf_of }
//!     resource: orders-db
//!     statement: "SELECT total FROM orders"
//!     database: orders                 # optional: where, if the resource pins none; `place` for protocols without databases
//!     expect: allow                    # allow | mask (allowed, some data masked) | deny | hold
//!     rule: analysts-read              # optional: a rule that decides
//!   - name: nobody empties payments
//!     as: alice
//!     resource: orders-db
//!     operation:                       # in place of a statement
//!       action: write-unbounded
//!       object: { entity: { kind: Table, id: orders-db/public.payments } }
//!       context: { database: orders }
//!     expect: deny
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::PolicyEngine;
use super::annotations::nearest;
use super::vocabulary::{Attribute, AttributeType, Vocabulary};
use crate::meaning::Meaning;
use crate::operation::{Action, EntityRef, Object, Operation, Operations, Value};
use crate::principal::{Principal, PrincipalKind};
use crate::resource::Resource;
use crate::services::Policy;
use crate::verdict::Verdict;

/// Finds what a statement means: resource, statement and (where given) the place in the resource in.
pub type Statements<'a> = dyn Fn(&str, &str, Option<&str>) -> Result<Meaning, String> + 'a;

/// A file of expectations that can't be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the expectations can't be read: {0}")]
pub struct ExpectationError(pub String);

/// How one test went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestOutcome {
    /// Its name.
    pub name: String,
    /// What differs from the expectation; none where it passed.
    pub failure: Option<String>,
    /// What keeps the answer from being a session's: a name that was not found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
}

/// How all tests went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Each test, in the file's order.
    pub tests: Vec<TestOutcome>,
}

impl Report {
    /// How many failed.
    pub fn failed(&self) -> usize {
        self.tests.iter().filter(|test| test.failure.is_some()).count()
    }

    /// Whether every test passed (and there was one).
    pub fn passed(&self) -> bool {
        self.failed() == 0 && !self.tests.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for test in &self.tests {
            match &test.failure {
                None => writeln!(f, "ok    {}", test.name)?,
                Some(failure) => writeln!(f, "FAIL  {}: {failure}", test.name)?,
            }
            // Where it failed the explanation says it.
            for doubt in test.doubts.iter().filter(|_| test.failure.is_none()) {
                writeln!(f, "      careful: {doubt}")?;
            }
        }
        write!(
            f,
            "{} passed, {} failed",
            self.tests.len().saturating_sub(self.failed()),
            self.failed()
        )
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    principals: BTreeMap<String, Named>,
    tests: Vec<Test>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    /// Where it is absent, the key is the subject.
    subject: Option<String>,
    #[serde(default = "human")]
    kind: PrincipalKind,
    #[serde(default)]
    groups: BTreeSet<String>,
    on_behalf_of: Option<String>,
}

fn human() -> PrincipalKind {
    PrincipalKind::Human
}

#[derive(Deserialize)]
#[serde(untagged)]
enum As {
    Key(String),
    Inline(Named),
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Allow,
    Mask,
    Deny,
    Hold,
}

impl Expected {
    fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Mask => "mask",
            Self::Deny => "deny",
            Self::Hold => "hold",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    name: String,
    #[serde(rename = "as")]
    principal: As,
    resource: String,
    statement: Option<String>,
    operation: Option<Asked>,
    #[serde(alias = "database")]
    place: Option<String>,
    expect: Expected,
    rule: Option<String>,
    group: Option<String>,
}

/// An operation, whole or in short.
#[derive(Deserialize)]
#[serde(untagged)]
enum Asked {
    /// An action on the resource itself.
    Action(String),
    /// With its object and context.
    Whole(JsonOperation),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonOperation {
    action: String,
    object: JsonObject,
    #[serde(default)]
    context: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonObject {
    entity: EntityRef,
    #[serde(default)]
    parents: Vec<EntityRef>,
    #[serde(default)]
    attributes: BTreeMap<String, serde_json::Value>,
}

/// Runs a file of expectations. `statements` finds what the `statement` of a test asks.
///
/// # Errors
/// A file that is no such YAML, or holds no test.
pub fn run_tests(
    yaml: &str,
    engine: &PolicyEngine,
    resources: &BTreeMap<String, Arc<Resource>>,
    statements: &Statements<'_>,
) -> Result<Report, ExpectationError> {
    let file: File = serde_yaml_ng::from_str(yaml).map_err(|error| ExpectationError(error.to_string()))?;
    if file.tests.is_empty() {
        return Err(ExpectationError("there are no tests".to_owned()));
    }
    let runner = Runner {
        engine,
        resources,
        statements,
        principals: &file.principals,
    };
    let tests = file.tests.iter().map(|test| {
        let mut doubts = Vec::new();
        TestOutcome {
            name: test.name.clone(),
            failure: runner.run(test, &mut doubts).err(),
            doubts,
        }
    });
    Ok(Report {
        tests: tests.collect(),
    })
}

struct Runner<'a> {
    engine: &'a PolicyEngine,
    resources: &'a BTreeMap<String, Arc<Resource>>,
    statements: &'a Statements<'a>,
    principals: &'a BTreeMap<String, Named>,
}

impl Runner<'_> {
    fn run(&self, test: &Test, doubts: &mut Vec<String>) -> Result<(), String> {
        let (name, named) = match &test.principal {
            As::Key(key) => {
                let named = self.principals.get(key);
                (
                    key.as_str(),
                    named.ok_or_else(|| format!("`{key}` is not among the principals"))?,
                )
            }
            As::Inline(named) => ("", named),
        };
        let subject = named.subject.as_deref().unwrap_or(name);
        if subject.is_empty() {
            return Err("a principal needs a subject".to_owned());
        }
        let mut principal = Principal::new(subject, named.kind);
        principal.groups.clone_from(&named.groups);
        principal.on_behalf_of.clone_from(&named.on_behalf_of);
        let principal = Arc::new(principal);
        let resource = self.resources.get(&test.resource);
        let resource = resource.ok_or_else(|| format!("there is no resource `{}`", test.resource))?;
        let meaning = match (&test.statement, &test.operation) {
            (Some(statement), None) => (self.statements)(&test.resource, statement, test.place.as_deref())?,
            (None, Some(Asked::Action(action))) => {
                let mut operation = JsonOperation::on_resource(action, &test.resource);
                if let Some(place) = &test.place {
                    operation
                        .context
                        .insert("database".to_owned(), place.clone().into());
                }
                let operation = read(self.engine.vocabulary(), &operation)?;
                Arc::new(Operations::new(vec![operation], "")).into()
            }
            (None, Some(Asked::Whole(_))) if test.place.is_some() => {
                return Err(
                    "the database of an `operation` is in its context: `context: { database: NAME }`"
                        .to_owned(),
                );
            }
            (None, Some(Asked::Whole(operation))) => {
                let operation = read(self.engine.vocabulary(), operation)?;
                Arc::new(Operations::new(vec![operation], "")).into()
            }
            _ => return Err("give a `statement` or an `operation`, one of the two".to_owned()),
        };
        doubts.clone_from(&meaning.doubts);
        let verdict = self.engine.decide(&principal, resource, &meaning.operations);
        let explain = || {
            let explanation = self.engine.explain(&principal, resource, &meaning.operations);
            explanation.with_meaning(&meaning)
        };
        // What detectors would look for may be in any text; a mask is expected of a column.
        let masks = match (&test.expect, &meaning.lineage) {
            (Expected::Mask, Some(_)) => {
                let results = explain().results;
                Some(results.iter().any(|column| column.mask.is_some() || column.parts))
            }
            _ => None,
        };
        check(test, &verdict, masks).map_err(|difference| {
            let explanation = explain();
            format!("{difference}\n{}", indent(&explanation.to_string()))
        })
    }
}

fn indent(text: &str) -> String {
    text.lines()
        .map(|line| format!("      {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// `masks`: whether a column of the results is masked, where that is known.
fn check(test: &Test, verdict: &Verdict, masks: Option<bool>) -> Result<(), String> {
    let asked = matches!(verdict, Verdict::Allow { obligations, .. } if !obligations.mask.is_empty());
    let got = match test.expect {
        // What is masked is allowed, too.
        Expected::Mask if asked && masks.unwrap_or(true) => "mask",
        _ => verdict.word(),
    };
    if got != test.expect.as_str() {
        let unmasked = matches!(test.expect, Expected::Mask) && got == "allow";
        let with = if unmasked { ", and nothing is masked" } else { "" };
        return Err(format!("expected {}, got {got}{with}", test.expect.as_str()));
    }
    if let Some(rule) = &test.rule {
        let rules: &[String] = match verdict {
            Verdict::Allow { rules, .. } => rules,
            Verdict::Hold(hold) => &hold.rules,
            Verdict::Deny(denial) => denial.rule.as_slice(),
        };
        if !rules.contains(rule) {
            let by = if rules.is_empty() {
                "no rule".to_owned()
            } else {
                rules.join(", ")
            };
            return Err(format!("expected the rule {rule}, decided by {by}"));
        }
    }
    match (&test.group, verdict) {
        (None, _) => Ok(()),
        (Some(group), Verdict::Hold(hold)) if hold.groups.contains(group) => Ok(()),
        (Some(group), Verdict::Hold(hold)) => {
            let groups: Vec<&str> = hold.groups.iter().map(String::as_str).collect();
            Err(format!(
                "expected the approval of {group}, needs that of {}",
                groups.join(", ")
            ))
        }
        (Some(group), _) => Err(format!("expected the approval of {group}, and nothing is held")),
    }
}

impl JsonOperation {
    fn on_resource(action: &str, resource: &str) -> Self {
        Self {
            action: action.to_owned(),
            object: JsonObject {
                entity: EntityRef::resource(resource),
                parents: Vec::new(),
                attributes: BTreeMap::new(),
            },
            context: BTreeMap::new(),
        }
    }
}

fn read(vocabulary: &Vocabulary, operation: &JsonOperation) -> Result<Operation, String> {
    let Some(context) = vocabulary.context_of(&operation.action) else {
        let near = nearest(&operation.action, vocabulary.actions());
        let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        return Err(format!(
            "no adapter of this build asks an action `{}`{near}",
            operation.action
        ));
    };
    let kind = &operation.object.entity.kind;
    let shape = vocabulary
        .entity(kind)
        .map(|entity| entity.attributes.clone())
        .unwrap_or_default();
    Ok(Operation {
        action: Action(operation.action.clone().into()),
        object: Object {
            entity: operation.object.entity.clone(),
            parents: operation.object.parents.clone(),
            attributes: record(vocabulary, &shape, &operation.object.attributes)?,
        },
        context: record(vocabulary, &context, &operation.context)?,
        or_mask: false,
        reached: false,
    })
}

fn record(
    vocabulary: &Vocabulary,
    shape: &BTreeMap<String, Attribute>,
    values: &BTreeMap<String, serde_json::Value>,
) -> Result<BTreeMap<String, Value>, String> {
    let mut record = BTreeMap::new();
    for (name, value) in values {
        let ty = shape.get(name).map(|attribute| vocabulary.resolve(&attribute.ty));
        let value = typed(vocabulary, ty, value).map_err(|message| format!("`{name}` {message}"))?;
        record.insert(name.clone(), value);
    }
    Ok(record)
}

/// Reads a value as the vocabulary types it: an address where a string is asked for stays a string.
fn typed(
    vocabulary: &Vocabulary,
    ty: Option<&AttributeType>,
    value: &serde_json::Value,
) -> Result<Value, String> {
    use serde_json::Value as Json;
    Ok(match (ty, value) {
        (None, _) => return Err("is not in the vocabulary here".to_owned()),
        (Some(AttributeType::Bool), Json::Bool(value)) => Value::Bool(*value),
        (Some(AttributeType::Long), Json::Number(number)) => match number.as_i64() {
            Some(number) => Value::Long(number),
            None => return Err("must be a whole number of 64 bits".to_owned()),
        },
        (Some(AttributeType::String), Json::String(text)) => Value::String(text.clone()),
        (Some(AttributeType::Extension(name)), Json::String(text)) if name == "ipaddr" => Value::Ip(
            text.parse::<IpAddr>()
                .map_err(|_| "must be an address".to_owned())?,
        ),
        (Some(AttributeType::Name(kind)), value) => {
            let entity: EntityRef = serde_json::from_value(value.clone())
                .map_err(|_| format!("must be an entity: {{ kind: {kind}, id: ... }}"))?;
            Value::Entity(entity)
        }
        (Some(AttributeType::Set(_)), Json::Array(items)) => {
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
            let texts: Option<BTreeSet<String>> = texts.collect();
            Value::Strings(texts.ok_or_else(|| "must be a list of strings".to_owned())?)
        }
        (Some(AttributeType::Record(shape)), Json::Object(map)) => {
            let map = map
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            Value::Record(record(vocabulary, shape, &map)?)
        }
        _ => return Err("has a value of another type than the vocabulary gives it".to_owned()),
    })
}
