//! Parts, principals, resources and operations that the tests share.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use gateway_core::operation::{Action, EntityRef, Object, Operation, Operations};
use gateway_core::policy::{PolicyEngine, PolicyErrors, SchemaPart, Vocabulary};
use gateway_core::principal::{Principal, PrincipalKind};
use gateway_core::resource::Resource;
use gateway_core::services::Policy;
use gateway_core::verdict::Verdict;
use tempfile::TempDir;

pub(crate) const WHOLE: &str = include_str!("../data/policy.cedarschema");

/// The parts that the four adapters would give; SQL's comes from two of them.
pub(crate) fn parts() -> Vec<SchemaPart> {
    let sql = SchemaPart::parse("gateway-sql", include_str!("../data/parts/sql.cedarschema")).unwrap();
    vec![
        sql.clone(),
        sql,
        SchemaPart::parse("proto-ssh", include_str!("../data/parts/ssh.cedarschema")).unwrap(),
        SchemaPart::parse("proto-k8s", include_str!("../data/parts/k8s.cedarschema")).unwrap(),
    ]
}

pub(crate) fn vocabulary() -> Arc<Vocabulary> {
    Arc::new(Vocabulary::merge(parts()).unwrap())
}

/// An engine on one file of policies.
pub(crate) struct Fixture {
    pub(crate) engine: PolicyEngine,
    pub(crate) dir: TempDir,
}

impl Fixture {
    pub(crate) fn new(policies: &str) -> Self {
        match Self::open(policies) {
            Ok(fixture) => fixture,
            Err(errors) => panic!("{errors}"),
        }
    }

    pub(crate) fn open(policies: &str) -> Result<Self, PolicyErrors> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("test.cedar"), policies).unwrap();
        let engine = PolicyEngine::open(dir.path(), vocabulary())?;
        Ok(Self { engine, dir })
    }

    pub(crate) fn decide(&self, principal: &Arc<Principal>, operations: Vec<Operation>) -> Verdict {
        self.decide_on(principal, &orders_db(), operations)
    }

    /// Decides twice, so that the caches answer too.
    pub(crate) fn decide_on(
        &self,
        principal: &Arc<Principal>,
        resource: &Arc<Resource>,
        operations: Vec<Operation>,
    ) -> Verdict {
        let operations = Arc::new(Operations::new(operations, ""));
        let verdict = self.engine.decide(principal, resource, &operations);
        assert_eq!(self.engine.decide(principal, resource, &operations), verdict);
        let explained = self.engine.explain(principal, resource, &operations);
        assert_eq!(explained.verdict, verdict.word(), "{explained}");
        verdict
    }
}

/// All that is wrong with a file of policies.
pub(crate) fn errors(policies: &str) -> String {
    match Fixture::open(policies) {
        Ok(_) => String::new(),
        Err(errors) => errors.to_string(),
    }
}

pub(crate) fn principal(subject: &str, groups: &[&str]) -> Arc<Principal> {
    let mut principal = Principal::new(subject, PrincipalKind::Human);
    principal.groups = groups.iter().map(|group| (*group).to_owned()).collect();
    Arc::new(principal)
}

pub(crate) fn resource(name: &str, protocol: &str, labels: &[(&str, &str)]) -> Arc<Resource> {
    let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
    let json = serde_json::json!({
        "name": name,
        "protocol": protocol,
        "address": "127.0.0.1:1",
        "labels": labels,
        "credential": { "kind": "static", "username": "app" },
    });
    Arc::new(serde_json::from_value(json).unwrap())
}

pub(crate) fn orders_db() -> Arc<Resource> {
    resource("orders-db", "postgres", &[("env", "prod")])
}

pub(crate) fn table(name: &str) -> Object {
    Object::new(EntityRef::new("Table", format!("orders-db/{name}")))
}

pub(crate) fn column(table: &str, name: &str) -> Object {
    Object::within(
        EntityRef::new("Column", format!("orders-db/{table}.{name}")),
        vec![EntityRef::new("Table", format!("orders-db/{table}"))],
    )
}

pub(crate) fn sql(action: &'static str, object: Object) -> Operation {
    Operation::new(Action::new(action), object).with("database", "orders")
}

pub(crate) fn read(table: &str, name: &str) -> Operation {
    sql("read", column(table, name))
}

pub(crate) fn write(name: &str) -> Operation {
    sql("write", table(name))
}
