//! The index, the shortcut to parents and the caches change no decision: random policies, with and without.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use cedar_policy::{Authorizer, Decision, PolicySet};
use proptest::prelude::*;

use super::cache::Who;
use super::combine::combine;
use super::request::{Outcome, chain, reference};
use super::{PolicyEngine, SchemaPart, Vocabulary};
use crate::operation::{Action, EntityRef, Object, Operation, Operations, Value};
use crate::principal::{Principal, PrincipalKind};
use crate::resource::Resource;
use crate::services::Policy;

const PRINCIPALS: [&str; 6] = [
    "principal",
    "principal in Group::\"a\"",
    "principal in Group::\"b\"",
    "principal == Principal::\"p\"",
    "principal is Principal",
    "principal is Principal in Group::\"a\"",
];
const ACTIONS: [&str; 6] = [
    "action",
    "action == Action::\"read\"",
    "action == Action::\"define\"",
    "action in [Action::\"read\", Action::\"define\", Action::\"read\"]",
    "action in Action::\"sftp-read\"",
    "action in [Action::\"sftp-read\", Action::\"read\"]",
];
const RESOURCES: [&str; 14] = [
    "resource",
    "resource",
    "resource",
    "resource in Resource::\"r\"",
    "resource == Resource::\"r\"",
    "resource in Table::\"r/t1\"",
    "resource in Table::\"r/t2\"",
    "resource == Table::\"r/t1\"",
    "resource == Column::\"r/t1.x\"",
    "resource in Column::\"r/t1.x\"",
    "resource is Column",
    "resource is Table in Resource::\"r\"",
    "resource in Path::\"r/etc\"",
    "resource == Path::\"r/\"",
];
const CONDITIONS: [&str; 16] = [
    "",
    "",
    "",
    "when { resource.hasTag(\"env\") && resource.getTag(\"env\") == \"prod\" }",
    "unless { resource.hasTag(\"env\") }",
    "when { resource in [Table::\"r/t1\", Table::\"r/t2\"] }",
    "when { resource in [Column::\"r/t1.x\", Column::\"r/t1.y\"] }",
    "unless { resource == Table::\"r/t2\" }",
    "when { resource is Table }",
    "unless { resource is Column }",
    "when { principal.groups.contains(\"a\") && !(resource in Table::\"r/t1\") }",
    "when { resource != Column::\"r/t1.y\" }",
    "when { resource in Path::\"r/etc/x\" || Path::\"r/\" == resource }",
    "when { principal.kind == \"human\" }",
    "when { [resource].contains(resource) && if resource is Path then true else resource in Resource::\"r\" }",
    "when { resource.hasTag(\"n\") && 9223372036854775807 + (if resource in Table::\"r/t1\" then 1 else 0) > 0 }",
];
const ANNOTATIONS: [&str; 4] = ["", "", "@approve(\"dba\") @expires(\"5m\")", "@rows(\"3\")"];

fn vocabulary() -> Arc<Vocabulary> {
    let sql = include_str!("../../tests/data/parts/sql.cedarschema");
    let ssh = include_str!("../../tests/data/parts/ssh.cedarschema");
    let parts = [
        SchemaPart::parse("sql", sql).unwrap(),
        SchemaPart::parse("ssh", ssh).unwrap(),
    ];
    Arc::new(Vocabulary::merge(parts).unwrap())
}

fn policy() -> impl Strategy<Value = String> {
    (
        any::<prop::sample::Index>(),
        prop::sample::select(&PRINCIPALS[..]),
        prop::sample::select(&ACTIONS[..]),
        prop::sample::select(&RESOURCES[..]),
        prop::collection::vec(prop::sample::select(&CONDITIONS[..]), 0..3),
        prop::bool::weighted(0.15),
    )
        .prop_map(|(annotation, principal, action, resource, conditions, forbid)| {
            let effect = if forbid { "forbid" } else { "permit" };
            let annotation = if forbid { "" } else { annotation.get(&ANNOTATIONS) };
            format!(
                "{annotation} {effect} ({principal}, {action}, {resource}) {};",
                conditions.join(" ")
            )
        })
}

fn operations() -> Vec<Operation> {
    let table = |name: &str| EntityRef::new("Table", format!("r/{name}"));
    let column =
        |t: &str, c: &str| Object::within(EntityRef::new("Column", format!("r/{t}.{c}")), vec![table(t)]);
    let sql = |action: &'static str, object: Object| {
        Operation::new(Action::new(action), object).with("database", "d")
    };
    let path = |names: &[&str]| {
        let mut list: Vec<EntityRef> = names.iter().map(|name| EntityRef::new("Path", *name)).collect();
        let own = list.remove(0);
        Operation::new(Action::new("sftp-read"), Object::within(own, list))
            .with("login", "l")
            .with("path", "/")
    };
    let mut in_itself = column("t1", "x");
    in_itself.parents.push(table("t1"));
    let mut attributes = column("t1", "x");
    attributes.attributes.insert("n".to_owned(), Value::Long(1));
    let mut list = vec![
        sql("read", Object::new(table("t1"))),
        sql("read", Object::new(table("t2"))),
        sql("define", Object::new(table("t1"))),
        sql("define", Object::new(EntityRef::resource("r"))),
        sql("read", in_itself),
        sql("read", attributes),
        sql("define", column("t1", "x")),
        Operation::new(Action::new("read"), column("t1", "x")),
        path(&["r/etc/x", "r/etc", "r/"]),
        path(&["r/etc", "r/"]),
        path(&["r/etc", "r/", "r/etc"]),
        path(&["r/"]),
        path(&["r/var", "r/"]),
    ];
    for (t, c) in [("t1", "x"), ("t1", "y"), ("t1", "z"), ("t2", "x"), ("t3", "x")] {
        list.push(sql("read", column(t, c)));
    }
    list
}

fn resource(labels: &[(&str, &str)]) -> Arc<Resource> {
    let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
    let json = serde_json::json!({
        "name": "r", "protocol": "x", "address": "x", "labels": labels,
        "credential": { "kind": "static", "username": "u" },
    });
    Arc::new(serde_json::from_value(json).unwrap())
}

/// What Cedar says of all policies at once, without index, shortcut and cache.
fn plain(vocabulary: &Vocabulary, set: &PolicySet, who: Who<'_>, operation: &Operation) -> Outcome {
    let built = chain(vocabulary, operation, who.resource)
        .and_then(|chain| reference(vocabulary, who.principal, who.resource, operation, &chain));
    let (entities, request) = match built {
        Ok(built) => built,
        Err(message) => {
            return Outcome {
                faults: vec![(None, message)],
                ..Outcome::default()
            };
        }
    };
    let response = Authorizer::new().is_authorized(&request, set, &entities);
    let number = |id: &cedar_policy::PolicyId| {
        let id: &str = id.as_ref();
        id.trim_start_matches("policy").parse::<usize>().unwrap()
    };
    let mut reasons: Vec<usize> = response.diagnostics().reason().map(number).collect();
    reasons.sort_unstable();
    let mut outcome = Outcome::default();
    match response.decision() {
        Decision::Allow => outcome.permits = reasons,
        Decision::Deny => outcome.forbids = reasons,
    }
    for error in response.diagnostics().errors() {
        outcome.faults.push((None, error.to_string()));
    }
    outcome
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_shortcut_changes_a_decision(policies in prop::collection::vec(policy(), 1..10)) {
        let vocabulary = vocabulary();
        // Those that can never match are refused at load; leave them out here.
        let fits = |text: &String| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("p.cedar"), format!("@id(\"x\") {text}")).unwrap();
            PolicyEngine::open(dir.path(), Arc::clone(&vocabulary)).is_ok()
        };
        let policies: Vec<String> = policies
            .into_iter()
            .filter(fits)
            .enumerate()
            .map(|(at, text)| format!("@id(\"p{at}\") {text}\n"))
            .collect();
        let text = policies.concat();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("p.cedar"), &text).unwrap();
        let engine = PolicyEngine::open(dir.path(), Arc::clone(&vocabulary)).unwrap();
        let set = PolicySet::from_str(&text).unwrap();
        let in_force = engine.in_force();
        for labels in [&[][..], &[("env", "prod")], &[("env", "dev"), ("n", "1")]] {
            let resource = resource(labels);
            for groups in [&[][..], &["a"], &["b", "c"]] {
                let mut principal = Principal::new("p", PrincipalKind::Human);
                principal.groups = groups.iter().map(|group| (*group).to_owned()).collect();
                let principal = Arc::new(principal);
                let who = Who { principal: &principal, resource: &resource };
                for operation in operations() {
                    let expected = Arc::new(plain(&vocabulary, &set, who, &operation));
                    let message = Arc::new(Operations::new(vec![operation.clone()], ""));
                    let verdict = engine.decide(&principal, &resource, &message);
                    let wanted = combine(&in_force.rules.list, &resource, &message, &[expected]);
                    prop_assert_eq!(verdict, wanted, "{}\n{:?}", text, operation);
                }
            }
        }
    }
}
