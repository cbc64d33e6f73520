//! `[[resource]]`: what core knows of one is checked here, key by key; the rest is its adapter's to check.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gateway_core::adapter::{ConfigProblem, Registry};
use gateway_core::audit::AuditMode;
use gateway_core::credentials::{Issuers, SecretKeepers};
use gateway_core::own::GATEWAY;
use gateway_core::recording::{OnFailure, Rules};
use gateway_core::resource::{CredentialConfig, DetectRule, FunctionRule, Mask, Resource, TagRule};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::{join, refuse_unknown, with_suggestion};
use super::{Problems, Raw};
use crate::adapters;

/// The keys of every resource.
const KEYS: [&str; 10] = [
    "name",
    "protocol",
    "address",
    "labels",
    "credential",
    "audit",
    "recording",
    "tag",
    "detect",
    "function",
];

/// Checks all resources.
pub(super) fn check(
    raw: &Raw,
    value: Option<Value>,
    registry: &Registry,
    issuers: &Issuers,
    spills: bool,
    problems: &mut Problems,
) -> BTreeMap<String, Arc<Resource>> {
    let mut resources = BTreeMap::new();
    let mut names = BTreeSet::new();
    let list = match value {
        None => Vec::new(),
        Some(Value::Array(list)) => list,
        Some(_) => {
            problems.push("resource", "must be a list: `[[resource]]`");
            Vec::new()
        }
    };
    for (index, value) in list.into_iter().enumerate() {
        let Value::Object(table) = value else {
            problems.push(&format!("resource[{index}]"), "must be a table");
            continue;
        };
        // Faults are told by its name, where it has one.
        let name = table.get("name").and_then(Value::as_str).unwrap_or_default();
        let path = if Resource::is_name(name) {
            format!("resource.{name}")
        } else {
            format!("resource[{index}]")
        };
        let before = problems.0.len();
        let one = One {
            raw,
            registry,
            issuers,
            spills,
            problems,
            path: path.clone(),
        };
        let Some(resource) = one.check(table) else {
            continue;
        };
        if !names.insert(resource.name.clone()) {
            problems.push(&path, "there are two resources of this name");
        } else if problems.0.len() == before {
            resources.insert(resource.name.clone(), Arc::new(resource));
        }
    }
    resources
}

/// One resource on its way.
struct One<'a> {
    raw: &'a Raw,
    registry: &'a Registry,
    issuers: &'a Issuers,
    /// Whether recordings have a second place.
    spills: bool,
    problems: &'a mut Problems,
    path: String,
}

impl One<'_> {
    fn push(&mut self, key: &str, what: impl std::fmt::Display) {
        self.problems.push(&join(&self.path, key), what);
    }

    fn check(mut self, mut table: Map<String, Value>) -> Option<Resource> {
        let name = self.text(&mut table, "name");
        if let Some(name) = &name {
            if !Resource::is_name(name) {
                self.push(
                    "name",
                    "a name has letters, digits, `.`, `_` and `-`, at most 128 of them",
                );
            } else if name == GATEWAY {
                self.push("name", "this name stands for the gateway itself; take another");
            }
        }
        let protocol = self.text(&mut table, "protocol");
        let address = self.text(&mut table, "address");
        let labels = self
            .typed::<BTreeMap<String, String>>(&mut table, "labels")
            .unwrap_or_default();
        let audit = self.typed::<AuditMode>(&mut table, "audit");
        let recording = self.recording(table.remove("recording"));
        let tags = self.tags(table.remove("tag"));
        let detect = self.detect(table.remove("detect"));
        let functions = self.functions(table.remove("function"));
        let credential = self.credential(table.remove("credential"));
        // The paths among the adapters' keys; relative ones start where all do.
        for key in ["ca", "cert", "key"] {
            if let Some(Value::String(path)) = table.get_mut(key) {
                *path = self.raw.resolve(&*path).display().to_string();
            }
        }
        let resource = Resource {
            name: name?,
            protocol: protocol?,
            address: address?,
            labels,
            credential: credential?,
            audit,
            recording,
            tags,
            detect,
            functions,
            settings: table,
        };
        self.check_credential(&resource);
        match self.registry.adapter(&resource.protocol) {
            Ok(adapter) => {
                if resource.recording.is_some() && !adapter.records() {
                    self.push(
                        "recording",
                        format!("sessions of the protocol `{}` are not recorded; the audit trail has what they did", resource.protocol),
                    );
                }
                if let Err(problem) = adapter.check_resource(&resource) {
                    let named = format!("resource `{}`: ", resource.name);
                    let text = problem.0.strip_prefix(&named).unwrap_or(&problem.0);
                    let text = with_suggestion(&self.path, text, &KEYS);
                    self.problems.push(&self.path, text);
                }
            }
            Err(problem) => {
                let absent = adapters::absent(&resource.protocol, &self.registry.protocols());
                self.push("protocol", absent.unwrap_or_else(|| problem.to_string()));
            }
        }
        Some(resource)
    }

    fn text(&mut self, table: &mut Map<String, Value>, key: &str) -> Option<String> {
        match table.remove(key) {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            Some(_) => {
                self.push(key, "must be a text that is not empty");
                None
            }
            None => {
                self.push(key, "is missing");
                None
            }
        }
    }

    fn typed<T: for<'de> Deserialize<'de>>(
        &mut self,
        table: &mut Map<String, Value>,
        key: &str,
    ) -> Option<T> {
        match serde_json::from_value(table.remove(key)?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.push(key, error);
                None
            }
        }
    }

    /// The tables of a list such as `[[resource.tag]]`; `fault` says what is wrong with one that has the right keys.
    fn list<T: for<'de> Deserialize<'de>>(
        &mut self,
        value: Option<Value>,
        name: &str,
        known: &[&str],
        fault: impl Fn(&T) -> Option<String>,
    ) -> Vec<T> {
        let list = match value {
            None => return Vec::new(),
            Some(Value::Array(list)) => list,
            Some(_) => {
                self.push(name, format!("must be a list: `[[resource.{name}]]`"));
                return Vec::new();
            }
        };
        let mut rules = Vec::with_capacity(list.len());
        for (index, value) in list.into_iter().enumerate() {
            let key = format!("{name}[{index}]");
            let Value::Object(mut table) = value else {
                self.push(&key, "must be a table");
                continue;
            };
            refuse_unknown(&join(&self.path, &key), &mut table, known, self.problems);
            match serde_json::from_value::<T>(Value::Object(table)) {
                Ok(rule) => match fault(&rule) {
                    Some(why) => self.push(&key, why),
                    None => rules.push(rule),
                },
                Err(error) => self.push(&key, error),
            }
        }
        rules
    }

    fn recording(&mut self, value: Option<Value>) -> Option<Rules> {
        let mut table = match value? {
            Value::Object(table) => table,
            _ => {
                self.push("recording", "must be a table: `{ on_failure = \"stop\", ... }`");
                return None;
            }
        };
        let known = ["on_failure", "shell", "exec", "files", "input"];
        refuse_unknown(&join(&self.path, "recording"), &mut table, &known, self.problems);
        match serde_json::from_value::<Rules>(Value::Object(table)) {
            Ok(rules) => {
                if rules.on_failure == OnFailure::Spill && !self.spills {
                    self.push(
                        "recording.on_failure",
                        "`spill` needs a second place: set `recording.spill_dir`",
                    );
                }
                Some(rules)
            }
            Err(error) => {
                self.push("recording", error);
                None
            }
        }
    }

    fn tags(&mut self, value: Option<Value>) -> Vec<TagRule> {
        let known = ["tag", "columns", "mask", "predicates"];
        self.list(value, "tag", &known, |rule: &TagRule| {
            rule.tag.is_empty().then(|| "`tag` is empty".to_owned())
        })
    }

    fn detect(&mut self, value: Option<Value>) -> Vec<DetectRule> {
        self.list(value, "detect", &["tag", "find", "mask"], |rule: &DetectRule| {
            if rule.tag.is_empty() {
                Some("`tag` is empty".to_owned())
            } else if rule.find.is_empty() {
                Some("`find` is empty: it says what to look for, such as [\"email\", \"card\"]".to_owned())
            } else if matches!(rule.mask, Mask::Redact | Mask::Partial | Mask::Hash) {
                None
            } else {
                Some(
                    "`mask` must be `redact`, `partial` or `hash`: it stands in the middle of a text"
                        .to_owned(),
                )
            }
        })
    }

    fn functions(&mut self, value: Option<Value>) -> Vec<FunctionRule> {
        let known = ["name", "tags", "mask"];
        self.list(value, "function", &known, |rule: &FunctionRule| {
            let empty = rule.tags.iter().any(String::is_empty);
            empty.then(|| "`tags` has an empty one".to_owned())
        })
    }

    /// Nothing of what is given may appear in an error: it may be a secret in a wrong place.
    fn credential(&mut self, value: Option<Value>) -> Option<CredentialConfig> {
        let Some(value) = value else {
            self.push("credential", "is missing");
            return None;
        };
        let Value::Object(mut table) = value else {
            self.push("credential", "must be a table: `{ kind = \"static\", ... }`");
            return None;
        };
        let Some(Value::String(kind)) = table.remove("kind") else {
            self.push(
                "credential.kind",
                "must be a kind of credential, such as `static`",
            );
            return None;
        };
        for value in table.values_mut() {
            self.resolve_files(value);
        }
        Some(CredentialConfig {
            kind,
            settings: table,
            keepers: SecretKeepers::default(),
        })
    }

    /// What its issuer says of the credential. Which kinds there are is the adapter's to say, where it is in the build.
    fn check_credential(&mut self, resource: &Resource) {
        let problem = match self.issuers.of(resource) {
            Ok(issuer) => issuer.check(resource).err(),
            Err(_) if self.registry.adapter(&resource.protocol).is_err() => None,
            Err(problem) => match adapters::absent_kind(&resource.credential.kind) {
                Some(absent) => Some(ConfigProblem(format!("credential.kind: {absent}"))),
                None => Some(problem),
            },
        };
        let Some(problem) = problem else {
            for (key, kept) in resource.credential.kept() {
                if let Err(problem) = self.issuers.keepers().check(&kept) {
                    self.push(&join("credential", key), problem);
                }
            }
            return;
        };
        let named = format!("resource `{}`: ", resource.name);
        let text = problem.0.strip_prefix(&named).unwrap_or(&problem.0);
        match text.split_once(": ") {
            Some((key, what)) if key.starts_with("credential") && !key.contains(' ') => self.push(key, what),
            _ => self.push("credential", text),
        }
    }

    /// The paths of secrets start where all do.
    fn resolve_files(&self, value: &mut Value) {
        let Value::Object(table) = value else { return };
        match table.get_mut("file") {
            Some(Value::String(path)) if !path.is_empty() => {
                *path = self.raw.resolve(&*path).display().to_string();
            }
            _ => table.values_mut().for_each(|value| self.resolve_files(value)),
        }
    }
}
