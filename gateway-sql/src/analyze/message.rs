//! One message: its statements in order, each seeing what the earlier ones define.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use pg_query::protobuf::RawStmt;
use pg_query::{NodeEnum, ParserOptions};

use super::scope::Carries;
use super::walker::{Walker, is_temp_schema};
use crate::analysis::{Analysis, Effect, StatementAnalysis, StatementKind};
use crate::catalog::{Catalog, Relation};
use crate::nesting::{MAX_DEPTH, MAX_TEXT, depth_bound};
use crate::session::{Meant, PreparedStatement, SessionState};

/// Stack for the shallowest text, and for each level of nesting.
const STACK: usize = 24 * 1024 * 1024;
const STACK_PER_LEVEL: usize = 6 * 1024;
/// A text that nests no deeper is analysed by the caller's thread. To start one costs more than the analysis.
const SHALLOW: usize = 128;
/// What must be left of the stack for a shallow text, and for each of its levels, so that no other is taken.
const LEFT: usize = 512 * 1024;
const LEFT_PER_LEVEL: usize = 16 * 1024;
/// From how many bytes on a text is analysed while no other such is.
const LONG: usize = 256 * 1024;
static ALONE: Mutex<()> = Mutex::new(());
/// Most states of the session that a message is read in.
const MAX_STATES: usize = 8;
/// Most EXECUTEs within EXECUTEs.
const MAX_NESTED: usize = 4;
/// Deepest view definition that is followed.
const MAX_VIEW_DEPTH: usize = 4000;

/// Session and catalog as the statements of this message have changed them so far.
#[derive(Clone)]
pub(super) struct Working<'a> {
    pub(super) session: Cow<'a, SessionState>,
    pub(super) nested: usize,
    created: HashMap<(String, String), Relation>,
    altered: BTreeSet<i64>,
    /// Relations that the message has given a rule.
    ruled: BTreeSet<i64>,
    functions: HashSet<(String, String)>,
    code: bool,
}

impl<'a> Working<'a> {
    /// The session as it is.
    pub(super) fn of(session: &'a SessionState) -> Self {
        Working::new(Cow::Borrowed(session), 0)
    }

    fn new(session: Cow<'a, SessionState>, nested: usize) -> Self {
        Working {
            session,
            nested,
            created: HashMap::new(),
            altered: BTreeSet::new(),
            ruled: BTreeSet::new(),
            functions: HashSet::new(),
            code: false,
        }
    }

    pub(super) fn relation<'c>(
        &'c self,
        catalog: &'c Catalog,
        schema: &str,
        name: &str,
    ) -> Option<&'c Relation> {
        if self.created.is_empty() {
            return catalog.relation(schema, name);
        }
        let created = self.created.get(&(schema.to_owned(), name.to_owned()));
        created.or_else(|| catalog.relation(schema, name))
    }

    fn relation_by_oid<'c>(&'c self, catalog: &'c Catalog, oid: i64) -> Option<&'c Relation> {
        let created = self.created.values().find(|relation| relation.oid == oid);
        created.or_else(|| catalog.relation_by_oid(oid))
    }

    /// Relations beneath a view, through all views beneath it.
    pub(super) fn bases<'c>(&'c self, catalog: &'c Catalog, view: &Relation) -> Vec<&'c Relation> {
        let mut seen = BTreeSet::from([view.oid]);
        let mut todo: Vec<i64> = view.reads.iter().map(|&(oid, _)| oid).collect();
        let mut bases = Vec::new();
        while let Some(oid) = todo.pop() {
            if seen.insert(oid)
                && let Some(relation) = self.relation_by_oid(catalog, oid)
            {
                if !relation.is_system() {
                    todo.extend(relation.reads.iter().map(|&(oid, _)| oid));
                }
                bases.push(relation);
            }
        }
        bases
    }

    /// Where CREATE puts an unqualified name: the first schema of the path that is not implicit.
    pub(super) fn creation_schema(&self, catalog: &Catalog) -> String {
        let mut path = self
            .session
            .search_path
            .iter()
            .filter(|s| *s != "pg_catalog" && !is_temp_schema(s));
        let first = path
            .clone()
            .find(|schema| catalog.has_schema(schema))
            .or_else(|| path.next());
        first.map_or_else(|| "public".to_owned(), Clone::clone)
    }

    /// True if the message has altered the relation: its columns are not certain any more.
    pub(super) fn is_altered(&self, relation: &Relation) -> bool {
        self.altered.contains(&relation.oid)
    }

    /// True if writing the relation may run a rule.
    pub(super) fn has_rules(&self, relation: &Relation) -> bool {
        relation.rules || self.ruled.contains(&relation.oid)
    }

    /// Relations that the message has altered.
    pub(super) fn altered<'c>(&'c self, catalog: &'c Catalog) -> Vec<&'c Relation> {
        self.altered
            .iter()
            .filter_map(|&oid| self.relation_by_oid(catalog, oid))
            .collect()
    }

    pub(super) fn has_function(&self, schema: &str, name: &str) -> bool {
        !self.functions.is_empty() && self.functions.contains(&(schema.to_owned(), name.to_owned()))
    }

    pub(super) fn created_count(&self) -> usize {
        self.created.len()
    }

    /// True if the message has made operators, casts or types.
    pub(super) fn defines_code(&self) -> bool {
        self.code
    }

    /// The states that there may be instead after this statement: what the message changed, undone; and temporary relations
    /// that are gone, or back, also those that were there before the message.
    fn undone(&self, statement: &StatementAnalysis, start: &Working<'a>) -> Vec<Working<'a>> {
        let has = |kind: fn(&Effect) -> bool| statement.effects.iter().any(kind);
        let ends = ends_transaction(statement);
        let drops = has(|effect| *effect == Effect::TempChanged);
        let mut undone = Vec::new();
        // A call of set_config may be local, or in a row that is never reached.
        if ends || has(|effect| *effect == Effect::SessionSettingsChanged) {
            undone.push(start.clone());
        }
        if ends || drops {
            undone.push(self.clone().without_temp());
        }
        if ends {
            // The transaction began in an earlier message, or this one did not commit: what was made in it goes, and what
            // was dropped in it comes back.
            undone.push(start.clone().without_temp());
            let mut back = start.clone();
            if !back.session.temp_past.is_empty() {
                back.session.to_mut().temp_back();
            }
            undone.push(back);
        }
        undone.retain(|state| state.differs(self));
        undone
    }

    fn without_temp(mut self) -> Self {
        if !self.session.temp.is_empty() {
            self.session.to_mut().temp.clear();
        }
        self
    }

    fn differs(&self, other: &Working<'_>) -> bool {
        self.session.search_path != other.session.search_path
            || self.session.temp != other.session.temp
            || self.session.prepared != other.session.prepared
            || self.session.cursors != other.session.cursors
            || self.created != other.created
    }

    fn apply(&mut self, statement: &StatementAnalysis, changes: Changes, catalog: &Catalog) {
        for relation in changes.created {
            self.created
                .insert((relation.schema.clone(), relation.name.clone()), relation);
        }
        self.altered.extend(changes.altered);
        self.ruled.extend(changes.ruled);
        self.functions.extend(changes.functions);
        self.code |= changes.code;
        for effect in &statement.effects {
            match effect {
                Effect::Prepare {
                    name,
                    sql,
                    types,
                    names,
                } => {
                    let prepared = PreparedStatement {
                        sql: sql.clone(),
                        types: types.clone(),
                        meant: Meant::default()
                            .with(Meant::path(&self.session.search_path), *names)
                            .unwrap_or_default(),
                    };
                    self.session.to_mut().prepared.insert(name.clone(), prepared);
                }
                Effect::Planned { name, path, names } => {
                    if let Some(prepared) = self.session.to_mut().prepared.get_mut(name)
                        && let Some(meant) = prepared.meant.with(*path, *names)
                    {
                        prepared.meant = meant;
                    }
                }
                Effect::Deallocate(Some(name)) => {
                    self.session.to_mut().prepared.remove(name);
                }
                Effect::Deallocate(None) => self.session.to_mut().prepared.clear(),
                Effect::DeclareCursor { name, cursor } => {
                    self.session.to_mut().cursors.insert(name.clone(), cursor.clone());
                }
                Effect::CloseCursor(Some(name)) => {
                    self.session.to_mut().cursors.remove(name);
                }
                Effect::CloseCursor(None) => self.session.to_mut().cursors.clear(),
                Effect::SetSearchPath(path) => {
                    let path = self.session.effective_path(path.as_deref(), catalog);
                    self.session.to_mut().search_path = path;
                }
                Effect::TempCreated { name, relation } => {
                    self.session.to_mut().temp_made(name, relation.clone());
                }
                Effect::TempWritten { name, carries } => {
                    self.session.to_mut().temp_written(name, carries);
                }
                Effect::StandardConformingStrings(on) => {
                    self.session.to_mut().standard_conforming_strings = *on
                }
                _ => {}
            }
        }
    }
}

/// What a statement changes in the catalog, for the rest of the message.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) created: Vec<Relation>,
    pub(super) altered: Vec<i64>,
    pub(super) ruled: Vec<i64>,
    pub(super) functions: Vec<(String, String)>,
    pub(super) code: bool,
}

/// Analyses a text on a stack that is large enough for it.
pub(super) fn analyze_text(sql: &str, catalog: &Catalog, session: &SessionState, nested: usize) -> Analysis {
    if sql.len() > MAX_TEXT {
        return one(StatementAnalysis::unknown("the text is too long", sql.len()));
    }
    let depth = depth_bound(sql);
    if depth > MAX_DEPTH {
        let why = match depth {
            usize::MAX => {
                "the text has more than a million parts, or comments within comments: send less at a time, or COPY"
            }
            _ => "the text nests too deep",
        };
        return one(StatementAnalysis::unknown(why, sql.len()));
    }
    if nested > MAX_NESTED {
        return one(StatementAnalysis::unknown(
            "statements execute each other",
            sql.len(),
        ));
    }
    // The tree of a long text is some hundred times as large: one at a time.
    let _alone =
        (nested == 0 && sql.len() > LONG).then(|| ALONE.lock().unwrap_or_else(PoisonError::into_inner));
    let run = || analyze_here(sql, catalog, session, nested);
    let result = match shallow(depth, run) {
        Some(result) if !result.as_ref().is_some_and(is_too_deep) => result,
        _ => std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .stack_size(STACK + depth * STACK_PER_LEVEL)
                .spawn_scoped(scope, run);
            thread.ok().and_then(|thread| thread.join().ok())
        }),
    };
    result.unwrap_or_else(|| one(StatementAnalysis::unknown("the analysis failed", sql.len())))
}

/// Runs an analysis by this thread; `None`: the text is too deep for that, `Some(None)`: it panicked.
fn shallow(depth: usize, run: impl Fn() -> Analysis) -> Option<Option<Analysis>> {
    if depth > SHALLOW {
        return None;
    }
    // A panic leaves nothing half done: what is shared is either set once or not at all.
    let caught = std::panic::AssertUnwindSafe(|| with_stack(depth, run));
    Some(std::panic::catch_unwind(caught).ok())
}

/// Runs on a stack that has room for a text so deep: this one, or a larger one.
fn with_stack<T>(depth: usize, run: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(
        LEFT + depth * LEFT_PER_LEVEL,
        STACK + depth * STACK_PER_LEVEL,
        run,
    )
}

/// The parser measures its stack by the thread's own, and may take another one for too small.
fn is_too_deep(analysis: &Analysis) -> bool {
    let errors = analysis
        .statements
        .iter()
        .filter_map(|statement| statement.syntax_error.as_deref());
    errors
        .into_iter()
        .any(|error| error.contains("stack depth limit exceeded"))
}

fn one(statement: StatementAnalysis) -> Analysis {
    Analysis {
        statements: vec![statement],
    }
}

fn parse(sql: &str, session: &SessionState) -> Result<Vec<RawStmt>, String> {
    let mut options = ParserOptions::DEFAULT;
    if !session.standard_conforming_strings {
        options |= ParserOptions::DISABLE_STANDARD_CONFORMING_STRINGS;
    }
    match pg_query::parse(sql, options) {
        Ok(result) => Ok(result.protobuf.stmts),
        Err(error) => Err(error.to_string()),
    }
}

fn analyze_here(sql: &str, catalog: &Catalog, session: &SessionState, nested: usize) -> Analysis {
    let statements = match parse(sql, session) {
        Ok(statements) => statements,
        Err(error) => {
            let mut statement = StatementAnalysis::unknown("the parser refuses the text", sql.len());
            statement.syntax_error = Some(error);
            return one(statement);
        }
    };
    let start = Working::new(Cow::Borrowed(session), nested);
    // The states that the session may be in: a transaction's end, inside the message, may undo what came before.
    let mut states = vec![start.clone()];
    let mut analysis = Analysis::default();
    let mut reverted = false;
    for (at, raw) in statements.iter().enumerate() {
        let last = at + 1 == statements.len();
        let location = usize::try_from(raw.stmt_location).unwrap_or(0);
        let len = match usize::try_from(raw.stmt_len) {
            Ok(len) if len > 0 => len,
            _ => sql.len().saturating_sub(location),
        };
        let text = sql.get(location..location + len).unwrap_or(sql);
        let mut all: Option<StatementAnalysis> = None;
        let mut undone: Vec<Working<'_>> = Vec::new();
        for working in &mut states {
            let (statement, changes) = analyze_statement(raw, text, catalog, working);
            if !last {
                working.apply(&statement, changes, catalog);
                undone.extend(working.undone(&statement, &start));
            }
            match &mut all {
                Some(all) => all.merge(&statement),
                None => all = Some(statement),
            }
        }
        for state in undone {
            if states.iter().all(|known| known.differs(&state)) {
                states.push(state);
            }
        }
        let mut statement = all.unwrap_or_else(|| StatementAnalysis::unknown("no state", len));
        if reverted && !moves_transaction(statement.kind) && names_something(&statement, raw, text) {
            let why =
                "what names mean after what stands before it is not known: send it in a message of its own";
            statement.merge(&StatementAnalysis::unknown(why, len));
        }
        reverted |= session.reverts && ends_transaction(&statement) || resets_path(&statement);
        if states.len() > MAX_STATES {
            // Too many ways to read the rest.
            statement.merge(&StatementAnalysis::unknown("the message undoes too much", len));
            states.truncate(MAX_STATES);
        }
        statement.location = location;
        statement.len = len;
        analysis.statements.push(statement);
    }
    analysis
}

/// Whether what a transaction, or a part of one, has changed may be undone or end by it.
fn ends_transaction(statement: &StatementAnalysis) -> bool {
    statement.kind == StatementKind::TwoPhase
        || statement
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::Commit | Effect::Rollback | Effect::RollbackTo(_)))
}

/// Whether the path becomes what the client's start, its role or the database say.
fn resets_path(statement: &StatementAnalysis) -> bool {
    statement.effects.contains(&Effect::SetSearchPath(None))
}

/// Longest statement that may name nothing: `SELECT pg_advisory_unlock_all()`, `RESET ALL`. A longer one is not looked through.
const NAMELESS: usize = 200;

/// Whether anything in it is found by its name, but functions that are known to be harmless. Catalogs are, too: relations
/// that are asked for by nobody's leave.
fn names_something(statement: &StatementAnalysis, raw: &RawStmt, text: &str) -> bool {
    let keeps = |effect: &Effect| {
        matches!(
            effect,
            Effect::DeclareCursor { .. } | Effect::TempCreated { .. } | Effect::CatalogChanged
        )
    };
    text.len() > NAMELESS
        || format!("{:?}", raw.stmt).contains("RangeVar")
        || !statement.operations.is_empty()
        || !statement.reads.is_empty()
        || statement.unresolved
        || statement.effects.iter().any(keeps)
}

/// Statements in which nothing is named but savepoints.
fn moves_transaction(kind: StatementKind) -> bool {
    matches!(
        kind,
        StatementKind::Begin
            | StatementKind::Commit
            | StatementKind::Rollback
            | StatementKind::Savepoint
            | StatementKind::Release
            | StatementKind::RollbackTo
    )
}

fn analyze_statement(
    raw: &RawStmt,
    text: &str,
    catalog: &Catalog,
    working: &Working<'_>,
) -> (StatementAnalysis, Changes) {
    let mut walker = Walker::new(catalog, working, StatementKind::Unknown);
    walker.allow(text.len());
    match raw.stmt.as_deref().and_then(|node| node.node.as_ref()) {
        Some(node) => walker.statement(node, text),
        None => walker.unknown(),
    }
    let changes = std::mem::take(&mut walker.changes);
    (walker.finish(), changes)
}

/// What each column of a view may carry, and whether as it is, from its definition (every name in it qualified).
pub(super) fn lineage_of(definition: &str, catalog: &Catalog, views: usize) -> Option<Vec<(Carries, bool)>> {
    let depth = depth_bound(definition);
    if depth > MAX_VIEW_DEPTH {
        return None;
    }
    with_stack(depth, || lineage_here(definition, catalog, views))
}

fn lineage_here(definition: &str, catalog: &Catalog, views: usize) -> Option<Vec<(Carries, bool)>> {
    let session = SessionState {
        search_path: vec!["pg_catalog".to_owned()],
        ..SessionState::default()
    };
    let statements = parse(definition, &session).ok()?;
    let [raw] = statements.as_slice() else { return None };
    let working = Working::new(Cow::Owned(session), 0);
    let mut walker = Walker::new(catalog, &working, StatementKind::Select);
    walker.views = views;
    let Some(NodeEnum::SelectStmt(select)) = raw.stmt.as_deref()?.node.as_ref() else {
        return None;
    };
    let rows = walker.select(select);
    let columns = rows.columns.into_iter();
    let columns = columns
        .map(|column| (column.carries, column.as_is && !column.mixed))
        .collect();
    let statement = walker.finish();
    let unsure = rows.open
        || statement.unresolved
        || statement
            .operations
            .iter()
            .any(|operation| operation.action == crate::Action::Unknown);
    if unsure { None } else { Some(columns) }
}
