//! What a text asks of policy: gateway-sql's answer in the words of core, with the tags of what it reads.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use gateway_core::operation::{Action, EntityRef, Object, Operation, Operations};
use gateway_sql as sql;
use moka::sync::Cache;

use crate::structure::Structure;

/// Bytes of texts (with an allowance for what is known of each) that are kept for one structure.
const CACHE_BYTES: u64 = 32 << 20;
/// Stands for a text whose literals can't be told from the rest.
const HIDDEN: &str = "(not understood)";
/// A longer text is not kept.
const CACHED_TEXT: usize = 64 << 10;

/// A text, analysed under one structure and one state of a session.
#[derive(Debug)]
pub struct Analyzed {
    /// The text.
    pub sql: Arc<str>,
    /// What it asks.
    pub operations: Arc<Operations>,
    /// Its statements.
    pub statements: Vec<sql::StatementAnalysis>,
    /// No policy lifts this.
    pub forbidden: Option<String>,
    /// A fresh structure may give another answer.
    pub unresolved: bool,
    /// Whether it changes something at the target.
    pub writes: bool,
    /// Whether it calls what is not known to be harmless.
    pub calls: bool,
    /// How many of its statements take COPY data from the client.
    pub copy_ins: usize,
    /// Whether it resolves names at all.
    pub names: bool,
    normalised: OnceLock<Arc<str>>,
}

impl Analyzed {
    /// Analyses a text.
    pub fn new(sql: Arc<str>, structure: &Structure, state: &sql::SessionState, resource: &str) -> Self {
        let analysis = sql::analyze(&sql, &structure.catalog, state);
        Self::of(sql, analysis.statements, structure, &state.database, resource)
    }

    /// Puts an analysis into the words of core.
    pub fn of(
        sql: Arc<str>,
        statements: Vec<sql::StatementAnalysis>,
        structure: &Structure,
        database: &str,
        resource: &str,
    ) -> Self {
        let mut list: Vec<Operation> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut tags = BTreeSet::new();
        for statement in &statements {
            for operation in &statement.operations {
                if seen.insert(operation) {
                    list.push(translate(operation, resource, database));
                }
            }
            for column in &statement.reads {
                tags.extend(structure.tags.of_column(column).map(str::to_owned));
            }
            if statement.opaque_call {
                tags.extend(structure.tags.all().iter().cloned());
            }
        }
        list.extend(tags.iter().map(|tag| Operation::unmask(tag, resource)));
        let summary = match statements.as_slice() {
            [] => "empty statement".to_owned(),
            several => several
                .iter()
                .map(|s| s.summary.as_str())
                .collect::<Vec<_>>()
                .join("; "),
        };
        let changes = |o: &sql::Operation| !matches!(o.action, sql::Action::Read | sql::Action::Temp);
        Self {
            operations: Arc::new(Operations::new(list, summary)),
            forbidden: statements.iter().find_map(|s| s.forbidden.clone()),
            unresolved: statements.iter().any(|s| s.unresolved),
            writes: statements.iter().flat_map(|s| &s.operations).any(changes),
            calls: statements.iter().any(|s| {
                s.opaque_call
                    || s.operations
                        .iter()
                        .any(|o| matches!(o.action, sql::Action::Call | sql::Action::Unknown))
            }),
            copy_ins: statements
                .iter()
                .filter(|s| s.kind == sql::StatementKind::CopyIn)
                .count(),
            names: statements.iter().any(|s| needs_names(s.kind)),
            statements,
            sql,
            normalised: OnceLock::new(),
        }
    }

    /// The text without literals.
    pub fn normalised(&self) -> Arc<str> {
        let normalise = || sql::normalise(&self.sql).map_or_else(|| HIDDEN.into(), Arc::from);
        self.normalised.get_or_init(normalise).clone()
    }

    /// What FETCH asks of a portal that runs this.
    pub fn cursor(&self) -> sql::Cursor {
        let mut cursor = sql::Cursor::default();
        for statement in &self.statements {
            cursor.operations.extend(statement.operations.iter().cloned());
            cursor.reads.extend(statement.reads.iter().cloned());
            cursor.outputs.clone_from(&statement.outputs);
            cursor.opaque_call |= statement.opaque_call;
            cursor.forbidden = cursor.forbidden.or_else(|| statement.forbidden.clone());
        }
        cursor
    }

    /// Whether the answer is the same for every session with the same search path.
    fn is_shareable(&self) -> bool {
        use sql::StatementKind as Kind;
        !self.unresolved
            && !self
                .statements
                .iter()
                .any(|s| matches!(s.kind, Kind::Execute | Kind::Fetch | Kind::Explain))
    }
}

/// Kinds of statements that mean the same whatever the search path.
fn needs_names(kind: sql::StatementKind) -> bool {
    use sql::StatementKind as Kind;
    !matches!(
        kind,
        Kind::Begin
            | Kind::Commit
            | Kind::Rollback
            | Kind::Savepoint
            | Kind::Release
            | Kind::RollbackTo
            | Kind::Set
            | Kind::Show
            | Kind::Deallocate
            | Kind::Close
            | Kind::Discard
            | Kind::Listen
    )
}

/// An operation of gateway-sql in the words of core.
pub fn translate(operation: &sql::Operation, resource: &str, database: &str) -> Operation {
    let object = match &operation.object {
        sql::Object::Resource => Object::new(EntityRef::resource(resource)),
        table @ sql::Object::Table { .. } => {
            Object::new(EntityRef::new("Table", format!("{resource}/{table}")))
        }
        function @ sql::Object::Function { .. } => {
            Object::new(EntityRef::new("Function", format!("{resource}/{function}")))
        }
        column @ sql::Object::Column { schema, table, .. } => {
            let table = sql::Object::Table {
                schema: schema.clone(),
                name: table.clone(),
            };
            Object::within(
                EntityRef::new("Column", format!("{resource}/{column}")),
                vec![EntityRef::new("Table", format!("{resource}/{table}"))],
            )
        }
    };
    Operation::new(Action::new(operation.action.as_str()), object).with("database", database)
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    sql: Arc<str>,
    path: Arc<[String]>,
    database: Arc<str>,
    conforming: bool,
}

/// Analyses of texts under one structure, shared by all sessions; bounded in bytes.
#[derive(Debug)]
pub struct AnalysisCache {
    cache: Cache<Key, Arc<Analyzed>>,
}

impl Default for AnalysisCache {
    fn default() -> Self {
        let weigh = |key: &Key, value: &Arc<Analyzed>| {
            let operations = value.operations.list().len().saturating_mul(300);
            u32::try_from(
                key.sql
                    .len()
                    .saturating_mul(2)
                    .saturating_add(operations)
                    .saturating_add(1000),
            )
            .unwrap_or(u32::MAX)
        };
        Self {
            cache: Cache::builder().max_capacity(CACHE_BYTES).weigher(weigh).build(),
        }
    }
}

/// What of a session an analysis depends on, in a form that is cheap to compare.
#[derive(Debug, Clone)]
pub struct SharedState {
    /// The effective search path.
    pub path: Arc<[String]>,
    /// The database.
    pub database: Arc<str>,
}

impl AnalysisCache {
    /// The analysis of a text, from the cache where it can be.
    pub fn analyzed(
        &self,
        sql: &Arc<str>,
        structure: &Structure,
        state: &sql::SessionState,
        shared: &SharedState,
        resource: &str,
    ) -> Arc<Analyzed> {
        let analyze = || Arc::new(Analyzed::new(sql.clone(), structure, state, resource));
        if !state.temp.is_empty() || sql.len() > CACHED_TEXT {
            return analyze();
        }
        let key = Key {
            sql: sql.clone(),
            path: shared.path.clone(),
            database: shared.database.clone(),
            conforming: state.standard_conforming_strings,
        };
        if let Some(known) = self.cache.get(&key) {
            metrics::counter!("gateway_analysis_cache_hits_total").increment(1);
            return known;
        }
        let analyzed = analyze();
        if analyzed.is_shareable() {
            self.cache.insert(key, analyzed.clone());
        }
        analyzed
    }
}
