//! `policy test` and `policy explain`.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_core::meaning::Meaning;
use gateway_core::operation::{Action, EntityRef, Object, Operation, Operations, Value};
use gateway_core::policy::run_tests;

use crate::support::{Fixture, column, orders_db, principal, read, resource, sql, write};

const POLICIES: &str = r#"
@id("analysts-read") @rows("1000")
permit (principal in Group::"analysts", action == Action::"read", resource in Resource::"orders-db");

@id("oncall-writes") @approve("dba") @expires("30m")
permit (principal in Group::"oncall", action == Action::"write", resource in Table::"orders-db/public.payments");

@id("no-drops") forbid (principal, action == Action::"define", resource);

@id("inside") permit (principal, action == Action::"forward", resource)
when { context.host == "10.0.0.7" && context has ip && context.ip.isLoopback() == false };
"#;

const EXPECTATIONS: &str = r#"
principals:
  alice: { groups: [analysts], kind: human }
  olaf: { subject: olaf@corp.test, groups: [oncall] }
tests:
  - name: analysts read orders
    as: alice
    resource: orders-db
    statement: "SELECT total FROM orders"
    expect: allow
    rule: analysts-read
  - name: on-call writes are held
    as: olaf
    resource: orders-db
    operation:
      action: write
      object: { entity: { kind: Table, id: orders-db/public.payments } }
      context: { database: orders }
    expect: hold
    group: dba
  - name: agents write nothing
    as: { subject: bot, kind: agent, groups: [], on_behalf_of: alice }
    resource: orders-db
    operation:
      action: write
      object: { entity: { kind: Table, id: orders-db/public.payments } }
      context: { database: "10.0.0.7" }
    expect: deny
  - name: definitions are forbidden
    as: alice
    resource: orders-db
    operation: { action: define, object: { entity: { kind: Resource, id: orders-db } }, context: { database: x } }
    expect: deny
    rule: no-drops
  - name: in short, on the resource itself
    as: alice
    resource: orders-db
    operation: define
    database: orders
    expect: deny
    rule: no-drops
  - name: fails by a word that is no action
    as: alice
    resource: orders-db
    operation: definne
    expect: deny
  - name: addresses
    as: alice
    resource: web-1
    operation:
      action: forward
      object: { entity: { kind: Endpoint, id: "web-1/10.0.0.7:22" } }
      context: { login: deploy, host: 10.0.0.7, port: 22, ip: 10.0.0.7 }
    expect: allow
  - name: the e-mail is masked, with a name that was not found
    as: alice
    resource: orders-db
    statement: "SELECT email, totl FROM orders"
    database: orders
    expect: mask
  - name: fails by mask
    as: alice
    resource: orders-db
    statement: "SELECT total FROM orders"
    expect: mask
  - name: fails by place
    as: alice
    resource: orders-db
    operation: { action: define, object: { entity: { kind: Resource, id: orders-db } }, context: { database: orders } }
    database: orders
    expect: deny
  - name: fails by word
    as: alice
    resource: orders-db
    statement: "SELECT total FROM orders"
    expect: deny
  - name: fails by rule
    as: alice
    resource: orders-db
    statement: "SELECT total FROM orders"
    expect: allow
    rule: other
  - name: fails by statement
    as: alice
    resource: orders-db
    statement: "nonsense"
    expect: allow
  - name: fails by type
    as: alice
    resource: orders-db
    operation: { action: define, object: { entity: { kind: Resource, id: orders-db } }, context: { database: 3 } }
    expect: deny
  - name: fails by principal
    as: bob
    resource: orders-db
    statement: "SELECT total FROM orders"
    expect: deny
"#;

#[test]
fn expectations_are_checked() {
    let fixture = Fixture::new(POLICIES);
    let resources: BTreeMap<_, _> = [orders_db(), resource("web-1", "ssh", &[])]
        .map(|r| (r.name.clone(), r))
        .into();
    let statements = |resource: &str, statement: &str, place: Option<&str>| {
        assert_eq!(resource, "orders-db");
        if statement.starts_with("SELECT email") {
            assert_eq!(place, Some("orders"));
            let asked = vec![
                read("public.orders", "total"),
                Operation::unmask_or_mask("pii.email", resource),
            ];
            let mut meaning = Meaning::from(Arc::new(Operations::new(asked, "")));
            meaning.doubts.push("not found: column totl".to_owned());
            Ok(meaning)
        } else if statement.starts_with("SELECT") {
            Ok(Arc::new(Operations::new(vec![read("public.orders", "total")], "")).into())
        } else {
            Err("not understood".to_owned())
        }
    };
    let report = run_tests(EXPECTATIONS, &fixture.engine, &resources, &statements).unwrap();
    for test in &report.tests {
        let fails = test.name.starts_with("fails");
        assert_eq!(test.failure.is_some(), fails, "{report}");
    }
    assert_eq!((report.tests.len(), report.failed()), (15, 8));
    assert!(!report.passed());
    let text = report.to_string();
    for expected in [
        "ok    analysts read orders",
        "FAIL  fails by word: expected deny, got allow",
        "permit analysts-read (test.cedar:2) @rows(\"1000\")",
        "expected the rule other, decided by analysts-read",
        "not understood",
        "`database` has a value of another type",
        "`bob` is not among the principals",
        "ok    the e-mail is masked, with a name that was not found\n      careful: not found: column totl",
        "expected mask, got allow, and nothing is masked",
        "is in its context",
        "did you mean `define`?",
        "7 passed, 8 failed",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    for bad in [
        "",
        "tests: []",
        "tests: [{name: x}]",
        "test: []\ntests: []",
        "- x",
    ] {
        assert!(
            run_tests(bad, &fixture.engine, &resources, &statements).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn explanations_name_policies_and_what_is_missing() {
    let fixture = Fixture::new(POLICIES);
    let ask = |groups: &[&str], operations: Vec<Operation>| {
        let operations = Arc::new(Operations::new(operations, ""));
        fixture
            .engine
            .explain(&principal("alice", groups), &orders_db(), &operations)
    };
    let held = ask(&["oncall"], vec![write("public.payments")]);
    assert_eq!(held.verdict, "hold");
    let note = &held.operations[0].policies[0];
    assert_eq!(
        (note.id.as_str(), note.effect, note.place.as_str()),
        ("oncall-writes", "permit", "test.cedar:5")
    );
    assert_eq!(note.annotations["expires"], "30m");

    let denied = ask(
        &["analysts", "oncall"],
        vec![read("public.orders", "id"), write("public.orders")],
    );
    assert_eq!(denied.verdict, "deny");
    assert_eq!(denied.operations[0].verdict, "allow");
    let missing = denied.operations[1].missing.as_ref().unwrap();
    assert_eq!(
        missing.message,
        "no policy permits `write` on Table::\"orders-db/public.orders\" to alice (groups: analysts, oncall)"
    );
    assert_eq!(
        missing.permit,
        "@id(\"alice-write-orders-db-public.orders\")\n\
         permit (principal == Principal::\"alice\", action == Action::\"write\", \
         resource == Table::\"orders-db/public.orders\")\n\
         when { context.database == \"orders\" };"
    );
    assert!(serde_json::to_string(&denied).unwrap().contains("\"missing\""));
}

/// What `explain` offers permits exactly what was asked.
#[test]
fn the_missing_permit_permits() {
    let empty = Fixture::new("");
    let alice = principal("a\"li\\ce\n\u{7f}é", &[]);
    let exec = Operation::new(Action::new("exec"), Object::new(EntityRef::resource("orders-db")))
        .with("program", "sh \"x\"")
        .with("args", "-c \\ \u{202e} \u{0}")
        .with("argc", Value::Long(-3))
        .with("stdin", false)
        .with("tty", true)
        .with("login", "");
    let forward = Operation::new(
        Action::new("forward"),
        Object::new(EntityRef::new("Endpoint", "orders-db/[::1]:1")),
    )
    .with("login", "deploy")
    .with("host", "::1")
    .with("port", Value::Long(i64::MAX))
    .with("ip", Value::Ip("::1".parse().unwrap()));
    let operations = [
        write("public.\"odd\"\"name\""),
        sql("read", column("public.orders", "id")),
        Operation::connect("orders-db"),
        Operation::unmask("pii.email", "orders-db"),
        exec.clone(),
        forward,
    ];
    for operation in operations {
        let message = Arc::new(Operations::new(vec![operation.clone()], ""));
        let explained = empty.engine.explain(&alice, &orders_db(), &message);
        let permit = &explained.operations[0].missing.as_ref().unwrap().permit;
        let fixture = Fixture::new(permit);
        assert_eq!(
            fixture.decide(&alice, vec![operation.clone()]).word(),
            "allow",
            "{permit}"
        );
        assert_eq!(
            fixture.decide(&principal("alice", &[]), vec![operation]).word(),
            "deny",
            "{permit}"
        );
    }
    let message = Arc::new(Operations::new(vec![exec.clone()], ""));
    let explained = empty.engine.explain(&alice, &orders_db(), &message);
    let fixture = Fixture::new(&explained.operations[0].missing.as_ref().unwrap().permit);
    let more = exec.with("container", "c");
    assert_eq!(fixture.decide(&alice, vec![more]).word(), "deny");
}
