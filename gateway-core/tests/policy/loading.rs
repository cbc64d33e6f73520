//! What loading accepts and refuses, and what it says.

use std::fs;
use std::sync::Arc;

use gateway_core::policy::{PolicyEngine, PolicyError, SchemaPart, Vocabulary};

use crate::support::{Fixture, errors, principal, vocabulary, write};

/// Every policy that CONTRACT, DESIGN and the PostgreSQL cases show.
const EXAMPLES: &str = include_str!("../data/examples.cedar");

#[test]
fn the_documented_examples_are_valid() {
    let fixture = Fixture::new(EXAMPLES);
    assert_eq!(fixture.engine.policies(), 22);
    assert!(fixture.engine.status().warnings.is_empty());
}

#[test]
fn the_examples_for_databases_are_valid_without_other_adapters() {
    let (examples, _) = EXAMPLES.split_once("// Contract.").unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("examples.cedar"), examples).unwrap();
    let sql = SchemaPart::parse("gateway-sql", include_str!("../data/parts/sql.cedarschema")).unwrap();
    let vocabulary = Arc::new(Vocabulary::merge([sql]).unwrap());
    match PolicyEngine::open(dir.path(), vocabulary) {
        Ok(engine) => assert_eq!(engine.policies(), 16),
        Err(errors) => panic!("{errors}"),
    }
}

#[test]
fn what_is_refused_and_what_is_said() {
    let cases = [
        (
            "permit (principal, action, resource);",
            "test.cedar:1:1: this policy has no `@id`; write @id(",
        ),
        (
            "@id(\"a\")\npermit (principal, action, resource);\n\n@id(\"a\")\npermit (principal, action, resource);",
            "test.cedar:4:1: `@id` \"a\" is taken by",
        ),
        (
            "@id(\"a\")\n  @aprove(\"x\")\npermit (principal, action, resource);",
            "test.cedar:2:3: unknown annotation `@aprove`; did you mean `@approve`?",
        ),
        (
            "@id(\"a\") @expires(\"soon\") @approve(\"x\") permit (principal, action, resource);",
            "test.cedar:1:10: `@expires` can't be read: \"soon\"; write a duration: @expires(\"30m\")",
        ),
        (
            "@id permit (principal, action, resource);",
            "1:1: `@id` can't be read: \"\"",
        ),
        (
            "@id(\"a\") @approve permit (principal, action, resource);",
            "1:10: `@approve` can't be read",
        ),
        (
            "@id(\"a\") @rows(\"3\") forbid (principal, action, resource);",
            "test.cedar:1:10: `@rows` on a forbid has no meaning; a forbid carries `@id` alone",
        ),
        (
            "@id(\"a\") permit (principal, action == Action::\"raed\", resource);",
            "1:39: unrecognized action `Action::\"raed\"`; did you mean `Action::\"read\"`?",
        ),
        (
            "@id(\"a\") permit (principal in Grup::\"x\", action == Action::\"read\", resource);",
            "unrecognized entity type `Grup`; did you mean `Group`?",
        ),
        (
            "@id(\"a\") permit (principal, action == Action::\"read\", resource) when { context.databse == \"x\" };",
            "did you mean `database`?",
        ),
        (
            "@id(\"a\") permit (principal, action == Action::\"read\", resource) when { resource.getTag(\"env\") == \"x\" };",
            "try testing for the tag's presence with `.hasTag(\"env\") && ..`",
        ),
        (
            "@id(\"a\") permit (principal, action == Action::\"connect\", resource) when { context.login == \"x\" };",
            "optional attribute",
        ),
        (
            "@id(\"a\") forbid (principal, action == Action::\"read\", resource) when { false };",
            "1:1: this policy can never match;",
        ),
        (
            "@id(\"a\") forbid (principal, action == Action::\"call\", resource == Table::\"x\");",
            "this policy can never match",
        ),
        (
            "@id(\"a\") permit (principal == ?principal, action, resource);",
            "1:1: a template leaves its resource open",
        ),
        ("@id(\"a\")\npermit (principal, action, resource)", "test.cedar:"),
        (
            "@id(\"a\") @id(\"b\") permit (principal, action, resource);",
            "1:10: duplicate annotation: @id",
        ),
        (
            "@id(\"a\") permit (principal, action, resource) when { 1 };",
            "test.cedar:1:",
        ),
        (
            "@id(\"a\") permit (principal, action == Action::\"read\", resource) when { resource in [Table::\"x\", Column::\"y\"] };",
            "test.cedar:1:",
        ),
    ];
    for (policies, expected) in cases {
        let errors = errors(policies);
        assert!(errors.contains(expected), "{policies}\n{errors}");
        assert_eq!(errors.lines().count(), 1, "{policies}\n{errors}");
    }
}

#[test]
fn all_faults_of_all_files_are_collected() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("b.cedar"),
        "permit (principal, action, resource);",
    )
    .unwrap();
    fs::write(
        dir.path().join("a.cedar"),
        "@id(\"x\") @rows(\"n\") permit (principal, action, resource);\n@id(\"y\") permit (principal, action == Action::\"writ\", resource);",
    )
    .unwrap();
    fs::write(dir.path().join("c.cedar"), "permit (").unwrap();
    fs::write(dir.path().join("d.cedar"), [0xff, 0xfe]).unwrap();
    fs::write(dir.path().join("e.cedar"), vec![b' '; (1 << 20) + 1]).unwrap();
    let errors = PolicyEngine::open(dir.path(), vocabulary()).unwrap_err();
    let names: Vec<String> = errors
        .0
        .iter()
        .map(|PolicyError { file, line, .. }| {
            format!("{}:{line}", file.file_name().unwrap().to_str().unwrap())
        })
        .collect();
    assert_eq!(
        names,
        [
            "a.cedar:1",
            "a.cedar:2",
            "b.cedar:1",
            "c.cedar:1",
            "d.cedar:0",
            "e.cedar:0"
        ]
    );
}

#[test]
fn only_policy_files_of_the_directory_itself_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let policy = |id: &str| format!("@id(\"{id}\") permit (principal, action, resource);");
    fs::write(dir.path().join("a.cedar"), policy("a")).unwrap();
    fs::write(dir.path().join("a.cedar.bak"), "broken").unwrap();
    fs::write(dir.path().join(".b.cedar"), "broken").unwrap();
    fs::write(dir.path().join("readme.md"), "broken").unwrap();
    fs::create_dir(dir.path().join("sub.cedar")).unwrap();
    fs::write(dir.path().join("sub.cedar/c.cedar"), "broken").unwrap();
    fs::write(elsewhere.path().join("d"), policy("d")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("d"), dir.path().join("d.cedar")).unwrap();
    fs::write(dir.path().join("empty.cedar"), "// nothing yet\n").unwrap();
    let engine = PolicyEngine::open(dir.path(), vocabulary()).unwrap();
    assert_eq!(engine.policies(), 2);
    std::os::unix::fs::symlink("/nowhere", dir.path().join("e.cedar")).unwrap();
    let errors = PolicyEngine::open(dir.path(), vocabulary())
        .unwrap_err()
        .to_string();
    assert!(errors.contains("e.cedar: the file can't be read"), "{errors}");
}

#[test]
fn a_missing_directory_is_an_error_and_an_empty_one_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let engine = PolicyEngine::open(dir.path(), vocabulary()).unwrap();
    assert!(engine.status().warnings[0].contains("everything is denied"));
    let errors = PolicyEngine::open(dir.path().join("no"), vocabulary())
        .unwrap_err()
        .to_string();
    assert!(errors.contains("can't be read"), "{errors}");
}

/// A stack that overflows would end the process, and with it every session.
#[test]
fn the_deepest_policies_are_loaded_decided_and_dropped() {
    let chain = [
        "true || ".repeat(990),
        "if false then false else ".repeat(990),
        "!".repeat(4),
        "(".repeat(60),
    ];
    for start in chain {
        let end = ")".repeat(start.matches('(').count());
        let policy = format!("@id(\"a\") permit (principal, action, resource) when {{ {start}true{end} }};");
        let fixture = Fixture::new(&policy);
        // Cedar refuses to evaluate what its stack does not hold; that is a denial, not a crash.
        fixture.decide(&principal("alice", &[]), vec![write("public.orders")]);
    }
    for deep in [
        "(",
        "[",
        "!",
        "-",
        "if true then true else ",
        "1 + ",
        "true && ",
        "context.",
        "{a:",
    ] {
        let policy = format!(
            "@id(\"a\") permit (principal, action, resource) when {{ {} }};",
            deep.repeat(20_000)
        );
        let errors = errors(&policy);
        assert!(errors.contains("split it into several policies"), "{errors}");
    }
}
