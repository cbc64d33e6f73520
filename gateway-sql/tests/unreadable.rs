//! One object that does not read hides no other, and whatever names it is not understood.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panic"
)]

use gateway_sql::{Catalog, SessionState, analyze};

const DOCUMENT: &str = r#"{"server_version": 150000, "schemas": ["pg_catalog", "public"],
"relations": [
  {"oid": 1, "schema": "public", "name": "good", "kind": "r", "columns": [{"name": "a", "num": 1, "type": "pg_catalog.int4"}]},
  {"oid": 2, "schema": "public", "name": "odd", "kind": "?", "columns": [{"name": "a", "num": 1, "type": "pg_catalog.int4"}, {"name": null, "num": 2}], "parents": [4]},
  {"oid": 3, "schema": "public", "name": "over", "kind": "v", "columns": [{"name": "a", "num": 1, "type": "pg_catalog.int4"}], "reads": [[2, 1]], "definition": "SELECT odd.a FROM public.odd;"},
  {"oid": 4, "schema": "public", "name": "parent", "kind": "r", "columns": [{"name": "a", "num": 1, "type": "public.of_odd"}]}],
"functions": [
  {"schema": "public", "name": "fine", "kind": "f", "volatility": "v", "language": "sql", "max_args": 1},
  {"schema": "public", "name": "strange", "kind": "f", "volatility": "v", "language": "sql", "returns": ["a", null]}],
"operators": [{"schema": "public", "name": "@@@", "left": ["public"], "function": ["public", "fine"]}],
"casts": [{"source": ["public", "mood"], "target": ["pg_catalog", "text"], "context": 7, "function": ["public", "fine"]}],
"types": [{"schema": "public", "name": "mood", "kind": "e"}, {"schema": "public", "name": "of_odd", "kind": 7}]}"#;

fn asked(catalog: &Catalog, sql: &str) -> (String, bool) {
    let session = SessionState {
        search_path: vec!["pg_catalog".to_owned(), "public".to_owned()],
        ..SessionState::default()
    };
    let analysis = analyze(sql, catalog, &session);
    let operations = analysis.operations().map(ToString::to_string).collect::<Vec<_>>();
    let everything = analysis
        .statements
        .iter()
        .any(|statement| statement.opaque_call || !statement.opaque_functions.is_empty());
    (operations.join("; "), everything)
}

#[test]
fn other_objects_read_as_ever() {
    let catalog = Catalog::from_json(DOCUMENT).unwrap();
    assert_eq!(
        asked(&catalog, "SELECT a FROM good"),
        ("read public.good.a".to_owned(), false)
    );
    assert_eq!(asked(&catalog, "SELECT fine(1)").0, "call public.fine");
    let names: Vec<String> = catalog.unreadable().into_iter().collect();
    let names: Vec<&str> = names
        .iter()
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "cast from public.mood",
            "function public.strange",
            "operator public.@@@",
            "relation public.odd",
            "type public.of_odd",
        ]
    );
}

#[test]
fn whatever_names_one_is_unknown_and_may_carry_everything() {
    let catalog = Catalog::from_json(DOCUMENT).unwrap();
    for sql in [
        "SELECT a FROM odd",
        "SELECT * FROM public.odd",
        "SELECT 1 FROM odd",
        "INSERT INTO odd VALUES (1)",
        "DELETE FROM odd WHERE a = 1",
        "TRUNCATE odd",
        "DROP TABLE odd",
        "COPY odd TO STDOUT",
        // What stands on it, and what has its rows.
        "SELECT a FROM over",
        "SELECT count(*) FROM parent",
        "SELECT strange()",
        "SELECT * FROM strange() s",
        "SELECT a @@@ 1 FROM good",
        "SELECT 'calm'::mood::text",
        "SELECT 1::of_odd",
        "CREATE VIEW v AS SELECT a FROM odd",
        "EXPLAIN SELECT * FROM odd",
        "SELECT * FROM good WHERE a IN (SELECT a FROM odd)",
    ] {
        let (operations, everything) = asked(&catalog, sql);
        assert!(operations.contains("unknown resource"), "{sql}: {operations}");
        assert!(everything, "{sql}");
    }
}

#[test]
fn it_stays_so_when_the_catalog_is_written_and_read() {
    let catalog = Catalog::from_json(DOCUMENT).unwrap();
    let again = Catalog::from_json(&serde_json::to_string(&catalog).unwrap()).unwrap();
    assert_eq!(again.unreadable(), catalog.unreadable());
    assert_eq!(again.unreadable().len(), 5);
}

#[test]
fn two_relations_of_one_name_are_neither() {
    let twice = r#"{"relations": [
        {"oid": 1, "schema": "public", "name": "t", "kind": "r", "columns": [{"name": "a", "num": 1, "type": "pg_catalog.int4"}]},
        {"oid": 2, "schema": "public", "name": "t", "kind": "r", "columns": []}]}"#;
    let catalog = Catalog::from_json(twice).unwrap();
    assert!(asked(&catalog, "SELECT a FROM t").0.contains("unknown resource"));
}

#[test]
fn what_cannot_even_be_named_is_an_error() {
    for document in [
        r#"{"relations": [{"oid": 1, "schema": "public", "kind": "r", "columns": []}]}"#,
        r#"{"relations": [{"oid": 1, "schema": "public", "name": 7, "kind": "r", "columns": []}]}"#,
        // Whose rows it has can't be told.
        r#"{"relations": [{"oid": 1, "schema": "public", "name": "t", "kind": "?", "columns": [], "parents": "x"}]}"#,
        r#"{"functions": [{"schema": "public"}]}"#,
        r#"{"operators": [{"name": "+"}]}"#,
        r#"{"casts": [{"source": ["public", "mood"]}]}"#,
        r#"{"relations": {}}"#,
        "[]",
        "",
    ] {
        assert!(Catalog::from_json(document).is_err(), "{document}");
    }
}
