//! `analyze`: what statements do, by `gateway_sql`, for tests and benches in other languages.
//!
//! ```text
//! {"catalog": "the document that gateway_sql::catalog_query() gave"}      becomes the structure from here on
//! {"sql": "SELECT ...", "search_path": ["pg_catalog", "public"],
//!  "temp": {"t": ["a", "b"]}, "before": ["CREATE TEMP VIEW ..."]}         one line of JSON comes back for each
//! ```
//!
//! `analyze query` prints the query for the document. A statement with `"rounds": N` is analysed N times: its `nanoseconds`
//! are the least that the analysis took, the parser with its tree decoded, and the parser alone.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a tool for tests; what is wrong is told at once"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::io::{BufRead as _, Write as _};
use std::time::{Duration, Instant};

use gateway_sql::{
    Action, Analysis, Catalog, ColumnId, Effect, Object, RelationKind, SessionState, StatementAnalysis,
    TempRelation,
};
use serde_json::{Value, json};

// The gateway's own: what is measured here is what a statement costs there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    if std::env::args()
        .nth(1)
        .is_some_and(|argument| argument == "query")
    {
        println!("{}", gateway_sql::catalog_query());
        return;
    }
    let mut catalog = Catalog::default();
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("standard input");
        let asked: Value = serde_json::from_str(&line).expect("a line of JSON");
        if let Some(document) = asked.get("catalog").and_then(Value::as_str) {
            catalog = Catalog::from_json(document).expect("a catalog document");
            continue;
        }
        let sql = asked.get("sql").and_then(Value::as_str).expect("`sql`");
        let session = session(&asked, &catalog);
        let mut answer = said(&gateway_sql::analyze(sql, &catalog, &session), &catalog);
        if let Some(rounds) = asked.get("rounds").and_then(Value::as_u64) {
            answer = json!({"said": answer, "nanoseconds": times(sql, &catalog, &session, rounds)});
        }
        writeln!(out, "{answer}")
            .and_then(|()| out.flush())
            .expect("standard output");
    }
}

fn session(asked: &Value, catalog: &Catalog) -> SessionState {
    let texts = |value: &Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut session = SessionState::default();
    if let Some(path) = asked.get("search_path") {
        session.search_path = texts(path);
    }
    for (name, columns) in asked.get("temp").and_then(Value::as_object).into_iter().flatten() {
        let columns = texts(columns);
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        session.temp.insert(name.clone(), TempRelation::table(&columns));
    }
    for sql in asked.get("before").map(texts).unwrap_or_default() {
        let made = gateway_sql::analyze(&sql, catalog, &session);
        for effect in made.statements.iter().flat_map(|statement| &statement.effects) {
            if let Effect::TempCreated { name, relation } = effect {
                session.temp_made(name, relation.clone());
            }
        }
    }
    session
}

fn texts(ids: &BTreeSet<ColumnId>) -> Vec<[&str; 3]> {
    ids.iter()
        .map(|id| [id.schema.as_str(), id.table.as_str(), id.column.as_str()])
        .collect()
}

fn said(analysis: &Analysis, catalog: &Catalog) -> Value {
    let statements = analysis.statements.iter();
    Value::Array(statements.map(|statement| one(statement, catalog)).collect())
}

fn one(statement: &StatementAnalysis, catalog: &Catalog) -> Value {
    let operations: Vec<[String; 2]> = statement
        .operations
        .iter()
        .map(|operation| [operation.action.to_string(), operation.object.to_string()])
        .collect();
    let outputs: Vec<Value> = statement
        .outputs
        .iter()
        .map(|output| json!({"name": output.name, "carries": texts(&output.carries), "as_is": output.as_is}))
        .collect();
    json!({
        "operations": operations,
        "tables": tables(statement),
        "reads": texts(&statement.reads),
        "outputs": outputs,
        "open_result": statement.open_result,
        "beneath_views": texts(&beneath_views(statement, catalog)),
        "unknown": statement.operations.iter().any(|operation| operation.action == Action::Unknown),
        "unresolved": statement.unresolved,
        "opaque": statement.opaque_call || !statement.opaque_functions.is_empty(),
        "forbidden": statement.forbidden,
        "syntax_error": statement.syntax_error,
    })
}

/// Relations that the operations name, themselves or by a column.
fn tables(statement: &StatementAnalysis) -> BTreeSet<(&str, &str)> {
    let objects = statement.operations.iter().map(|operation| &operation.object);
    objects
        .filter_map(|object| match object {
            Object::Column(id) => Some((id.schema.as_str(), id.table.as_str())),
            Object::Table { schema, name } => Some((schema.as_str(), name.as_str())),
            Object::Function { .. } | Object::Resource => None,
        })
        .collect()
}

/// All that the views which the statement reads depend on, their conditions included.
fn beneath_views(statement: &StatementAnalysis, catalog: &Catalog) -> BTreeSet<ColumnId> {
    let read = statement
        .reads
        .iter()
        .map(|id| (id.schema.as_str(), id.table.as_str()));
    let named: BTreeSet<(&str, &str)> = read.chain(tables(statement)).collect();
    named
        .into_iter()
        .filter_map(|(schema, name)| catalog.relation(schema, name))
        .filter(|relation| relation.kind == RelationKind::View)
        .flat_map(|view| catalog.view_reads(view).0)
        .collect()
}

fn least(rounds: u64, work: impl Fn()) -> Duration {
    let once = || {
        let began = Instant::now();
        work();
        began.elapsed()
    };
    (0..rounds).map(|_| once()).min().unwrap_or_default()
}

fn times(sql: &str, catalog: &Catalog, session: &SessionState, rounds: u64) -> Value {
    let measured: BTreeMap<&str, Duration> = BTreeMap::from([
        (
            "analyze",
            least(rounds, || {
                drop(black_box(gateway_sql::analyze(sql, catalog, session)))
            }),
        ),
        (
            "parse",
            least(rounds, || drop(black_box(pg_query::parse(sql, 0)))),
        ),
        // The C parser without the tree being written out and read: it only tells where statements end.
        (
            "parser",
            least(rounds, || drop(black_box(pg_query::split_with_parser(sql)))),
        ),
    ]);
    let nanoseconds = measured.into_iter().map(|(name, time)| {
        (
            name.to_owned(),
            json!(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
        )
    });
    Value::Object(nanoseconds.collect())
}
