//! What a text asks of policy: gateway-sql's answer in the words of core, with the tags of what it reads.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use equivalent::Equivalent;
use gateway_core::machine::Text;
use gateway_core::operation::{Action, EntityRef, Object, Operation, Operations};
use gateway_sql as sql;
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::runtime::RuntimeFlavor;

use crate::mask::asked::{Asked, reads_tags, touches_tags};
use crate::mask::plan::Plan;
use crate::mask::reveal::{Token, tokens_in};
use crate::reached::reached;
use crate::structure::Structure;
use crate::tags::TagIndex;

/// Bytes of texts (with an allowance for what is known of each) that are kept for one structure.
const CACHE_BYTES: u64 = 32 << 20;
/// Stands for a text whose literals can't be told from the rest.
const HIDDEN: &str = "(not understood)";
/// A longer text is not kept.
const CACHED_TEXT: usize = 64 << 10;

/// A text, analysed under one structure and one state of a session. Cheap to clone: the count of who holds it is the session's
/// own, where that of its meaning is a place in memory that all processors would write to for every message.
#[derive(Debug, Clone)]
pub struct Analyzed(Arc<Found>);

#[derive(Debug)]
struct Found {
    text: Arc<Text>,
    /// What it does; shared by all texts of one shape, and by all sessions.
    meaning: Arc<Meaning>,
}

impl Deref for Analyzed {
    type Target = Meaning;

    fn deref(&self) -> &Meaning {
        &self.0.meaning
    }
}

/// What a text does.
#[derive(Debug)]
pub struct Meaning {
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
    /// Whether it can show the texts of the session's statements.
    pub shows_texts: bool,
    /// Whether it reads, or writes to a table with, data that has a tag: then texts of the target about it may quote it.
    pub touches_tags: bool,
    /// Whether it reads such data: then a text about what has failed while it ran may quote it, whatever it is about.
    pub reads_tags: bool,
    /// Whether it copies tagged data out: the server does not say which columns it copies, so the structure must be fresh.
    pub copies_tags: bool,
    /// Tags that it runs only with the right to see.
    pub unmasked: BTreeSet<String>,
    /// Literals and parameters that may be tokens.
    pub tokens: Vec<Token>,
    /// Whether it is what every text of the same shape does.
    of_shape: bool,
    normalised: OnceLock<Arc<str>>,
    tags: Arc<TagIndex>,
    plans: Mutex<Plans>,
}

/// What is masked, by the tags that are hidden: principals differ in few ways.
type Plans = Vec<(BTreeSet<String>, Option<Arc<Plan>>)>;

/// Most plans that one text keeps.
const MAX_PLANS: usize = 8;

impl Analyzed {
    /// Analyses a text.
    pub fn new(sql: Arc<str>, structure: &Structure, state: &sql::SessionState, resource: &str) -> Self {
        let analysis = sql::analyze(&sql, &structure.catalog, state);
        let meaning = Meaning::of(&sql, analysis, structure, &state.database, resource);
        Self::found(sql, Arc::new(meaning))
    }

    fn found(sql: Arc<str>, meaning: Arc<Meaning>) -> Self {
        // Texts of one shape are equal without their literals.
        let normalise = || sql::normalise(&sql).map_or_else(|| HIDDEN.into(), Arc::from);
        let normalised = meaning.normalised.get_or_init(normalise).clone();
        let text = Arc::new(Text {
            exact: sql,
            normalised,
        });
        Self(Arc::new(Found { text, meaning }))
    }

    /// The text.
    pub fn sql(&self) -> &Arc<str> {
        &self.0.text.exact
    }

    /// The text, and what it is without literals.
    pub fn text(&self) -> &Arc<Text> {
        &self.0.text
    }
}

impl Meaning {
    /// Puts an analysis into the words of core.
    fn of(
        text: &str,
        analysis: sql::Analysis,
        structure: &Structure,
        database: &str,
        resource: &str,
    ) -> Self {
        let of_shape = analysis.is_of_shape();
        let mut statements = analysis.statements;
        let tokens = tokens_in(text, &statements, &structure.catalog, &structure.tags);
        for statement in &mut statements {
            // A text with thousands of literals is kept without them.
            statement.matched = Vec::new();
        }
        let mut list: Vec<Operation> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut asked = Asked::default();
        for statement in &statements {
            for operation in &statement.operations {
                if seen.insert(operation) {
                    list.push(translate(operation, resource, database));
                }
            }
            asked.add(statement, &structure.tags);
        }
        list.extend(reached(&statements, &structure.catalog, resource, database));
        // Whether what is given is a token depends on whether its tag is shown.
        asked
            .or_masked
            .extend(tokens.iter().map(|token| token.tag.clone()));
        list.extend(asked.plainly.keys().map(|tag| Operation::unmask(tag, resource)));
        let masked = asked
            .or_masked
            .iter()
            .filter(|tag| !asked.plainly.contains_key(*tag));
        list.extend(masked.map(|tag| Operation::unmask_or_mask(tag, resource)));
        let summary = match statements.as_slice() {
            [] => "empty statement".to_owned(),
            several => several
                .iter()
                .map(|s| s.summary.as_str())
                .collect::<Vec<_>>()
                .join("; "),
        };
        let mut operations = Operations::new(list, summary);
        for (tag, why) in &asked.plainly {
            operations = operations.because(tag, why.to_string());
        }
        let changes = |o: &sql::Operation| !matches!(o.action, sql::Action::Read | sql::Action::Temp);
        Self {
            operations: Arc::new(operations),
            forbidden: statements.iter().find_map(|s| s.forbidden.clone()),
            unresolved: statements.iter().any(|s| s.unresolved),
            writes: statements.iter().flat_map(|s| &s.operations).any(changes),
            calls: statements.iter().any(|s| {
                s.opaque_call
                    || !s.opaque_functions.is_empty()
                    || s.operations
                        .iter()
                        .any(|o| matches!(o.action, sql::Action::Call | sql::Action::Unknown))
            }),
            copy_ins: statements
                .iter()
                .filter(|s| s.kind == sql::StatementKind::CopyIn)
                .count(),
            shows_texts: statements.iter().any(|s| s.shows_texts),
            names: statements.iter().any(|s| needs_names(s.kind)),
            touches_tags: !structure.tags.is_empty() && statements.iter().any(|s| touches_tags(s, structure)),
            reads_tags: !structure.tags.is_empty() && statements.iter().any(|s| reads_tags(s, structure)),
            copies_tags: !structure.tags.is_empty()
                && !asked.or_masked.is_empty()
                && statements.iter().any(|s| s.copy_form.is_some()),
            unmasked: asked.plainly.into_keys().collect(),
            // What a literal that may be a token stands for is a matter of this text.
            of_shape: of_shape && tokens.is_empty(),
            tokens,
            statements,
            normalised: OnceLock::new(),
            tags: structure.tags.clone(),
            plans: Mutex::default(),
        }
    }

    /// What is masked in its results where these tags are hidden.
    pub fn plan(&self, hidden: &BTreeSet<String>) -> Option<Arc<Plan>> {
        if hidden.is_empty() {
            return None;
        }
        let mut plans = self.plans.lock();
        if let Some((_, known)) = plans.iter().find(|(tags, _)| tags == hidden) {
            return known.clone();
        }
        let plan = Plan::new(&self.statements, hidden, &self.tags).map(Arc::new);
        if plans.len() >= MAX_PLANS {
            plans.remove(0);
        }
        plans.push((hidden.clone(), plan.clone()));
        plan
    }

    /// What FETCH asks of a portal that runs this.
    pub fn cursor(&self) -> sql::Cursor {
        let mut cursor = sql::Cursor::default();
        for statement in &self.statements {
            cursor.operations.extend(statement.operations.iter().cloned());
            cursor.reads.extend(statement.reads.iter().cloned());
            cursor.outputs.clone_from(&statement.outputs);
            cursor.open_result |= statement.open_result;
            cursor.compared.extend(statement.compared.iter().cloned());
            cursor.tested.extend(statement.tested.iter().cloned());
            cursor.opaque_call |= statement.opaque_call;
            cursor.shows_texts |= statement.shows_texts;
            cursor
                .opaque_functions
                .extend(statement.opaque_functions.iter().cloned());
            cursor.forbidden = cursor.forbidden.or_else(|| statement.forbidden.clone());
        }
        cursor
    }

    /// Whether the answer is the same for every session with the same search path.
    fn is_shareable(&self) -> bool {
        !self.unresolved && !self.statements.iter().any(|s| s.of_session)
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
        column @ sql::Object::Column(id) => {
            let table = sql::Object::Table {
                schema: id.schema.clone(),
                name: id.table.clone(),
            };
            Object::within(
                EntityRef::new("Column", format!("{resource}/{column}")),
                vec![EntityRef::new("Table", format!("{resource}/{table}"))],
            )
        }
    };
    Operation::new(Action::new(operation.action.as_str()), object).with("database", database)
}

/// A text, or the shape of texts, and what of a session its analysis depends on.
#[derive(Debug)]
struct Key {
    text: Box<str>,
    /// Whether `text` is a shape. A text can look like the shape of another.
    shape: bool,
    path: Arc<[String]>,
    database: Arc<str>,
    conforming: bool,
}

/// The same, to look up by.
#[derive(Clone, Copy)]
struct KeyRef<'a> {
    text: &'a str,
    shape: bool,
    path: &'a Arc<[String]>,
    database: &'a Arc<str>,
    conforming: bool,
}

impl Key {
    fn as_ref(&self) -> KeyRef<'_> {
        KeyRef {
            text: &self.text,
            shape: self.shape,
            path: &self.path,
            database: &self.database,
            conforming: self.conforming,
        }
    }
}

impl From<KeyRef<'_>> for Key {
    fn from(key: KeyRef<'_>) -> Self {
        Self {
            text: key.text.into(),
            shape: key.shape,
            path: key.path.clone(),
            database: key.database.clone(),
            conforming: key.conforming,
        }
    }
}

impl Hash for KeyRef<'_> {
    /// Of the text alone: one text is seldom read under several paths.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
        self.shape.hash(state);
    }
}

impl PartialEq for KeyRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape
            && self.conforming == other.conforming
            && self.text == other.text
            && (Arc::ptr_eq(self.path, other.path) || self.path == other.path)
            && self.database == other.database
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_ref().hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for Key {}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self == key.as_ref()
    }
}

/// Analyses of texts under one structure, shared by all sessions; bounded in bytes.
pub struct AnalysisCache {
    cache: Cache<Key, Arc<Meaning>>,
    hits: metrics::Counter,
    misses: metrics::Counter,
}

impl std::fmt::Debug for AnalysisCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnalysisCache")
            .field("entries", &self.cache.entry_count())
            .finish_non_exhaustive()
    }
}

impl Default for AnalysisCache {
    fn default() -> Self {
        let weigh = |key: &Key, value: &Arc<Meaning>| {
            let operations = value.operations.list().len().saturating_mul(300);
            u32::try_from(
                key.text
                    .len()
                    .saturating_mul(2)
                    .saturating_add(operations)
                    .saturating_add(1000),
            )
            .unwrap_or(u32::MAX)
        };
        Self {
            cache: Cache::builder().max_capacity(CACHE_BYTES).weigher(weigh).build(),
            hits: metrics::counter!("gateway_analysis_cache_hits_total"),
            misses: metrics::counter!("gateway_analysis_cache_misses_total"),
        }
    }
}

/// What of a session an analysis depends on, in a form that is cheap to compare; and room to work in.
#[derive(Debug, Clone)]
pub struct SharedState {
    /// The effective search path.
    pub path: Arc<[String]>,
    /// The database.
    pub database: Arc<str>,
}

/// Runs an analysis where it holds no other session up: a long text takes seconds of a thread that many share.
fn aside<T>(len: usize, analyse: impl FnOnce() -> T) -> T {
    let others = || {
        let runtime = tokio::runtime::Handle::try_current();
        runtime.is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
    };
    if len > CACHED_TEXT && others() {
        tokio::task::block_in_place(analyse)
    } else {
        analyse()
    }
}

impl AnalysisCache {
    /// The analysis of a text, from the cache where it can be: that of the same text, or of one of the same shape
    /// whose literals do not matter.
    pub fn analyzed(
        &self,
        sql: &Arc<str>,
        structure: &Structure,
        state: &sql::SessionState,
        shared: &SharedState,
        resource: &str,
    ) -> Analyzed {
        // What a rollback within the text brings back is told by what there was.
        let of_its_own = !state.temp.is_empty() || !state.temp_past.is_empty() || state.reverts;
        if of_its_own || sql.len() > CACHED_TEXT {
            return aside(sql.len(), || {
                Analyzed::new(sql.clone(), structure, state, resource)
            });
        }
        let key = |text, shape| KeyRef {
            text,
            shape,
            path: &shared.path,
            database: &shared.database,
            conforming: state.standard_conforming_strings,
        };
        let mut shape = String::new();
        let has_shape = sql::shape(sql, &mut shape);
        let known = if has_shape {
            self.cache.get(&key(&shape, true))
        } else {
            None
        };
        if let Some(meaning) = known.or_else(|| self.cache.get(&key(sql, false))) {
            self.hits.increment(1);
            return Analyzed::found(sql.clone(), meaning);
        }
        self.misses.increment(1);
        let analyzed = Analyzed::new(sql.clone(), structure, state, resource);
        if analyzed.is_shareable() {
            let key = if has_shape && analyzed.of_shape {
                key(&shape, true)
            } else {
                key(sql, false)
            };
            self.cache.insert(key.into(), analyzed.0.meaning.clone());
        }
        analyzed
    }
}
