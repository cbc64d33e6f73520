//! What a session has made of itself: search path, temporary relations, prepared statements, cursors.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::analysis::{OpaqueFunction, Operation, OutputColumn};
use crate::catalog::{QualifiedName, RelationKind};
use crate::column_set::ColumnSet;

/// A relation in the session's own temporary schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TempRelation {
    /// Names of its columns.
    pub columns: Vec<String>,
    /// Table, view, sequence.
    pub kind: RelationKind,
    /// What each column may carry, by name; a column that is absent carries what `carries` says.
    pub column_carries: HashMap<String, ColumnSet>,
    /// What every column may carry, since rows were written into it from elsewhere.
    pub carries: ColumnSet,
    /// Columns whose values are those of base columns as they are.
    pub as_is: BTreeSet<String>,
    /// What reading it asks besides `temp` (a temporary view reads on).
    pub operations: Vec<Operation>,
    /// The relations of the database that a temporary view stands on: what is written through it is written there.
    /// `None`: they are not known, and writing through it is not understood.
    pub beneath: Option<BTreeSet<QualifiedName>>,
}

impl TempRelation {
    /// A temporary table with these columns which carries nothing.
    pub fn table(columns: &[&str]) -> Self {
        TempRelation {
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            kind: RelationKind::Table,
            column_carries: HashMap::new(),
            carries: ColumnSet::new(),
            as_is: BTreeSet::new(),
            operations: Vec::new(),
            beneath: Some(BTreeSet::new()),
        }
    }
}

/// A named prepared statement, made by PREPARE or by Parse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedStatement {
    /// The statement's text. EXECUTE analyses it again, under the search path of that moment.
    pub sql: Arc<str>,
    /// The types that are declared for its parameters, built-in ones by name (`_text` for an array); empty: none; `?`: another.
    pub types: Arc<[String]>,
    /// What its names were found to be.
    pub meant: Meant,
}

/// What the names of a prepared statement were found to be ([`crate::StatementAnalysis::names`]), by the search path. The
/// server plans it anew where the path is another one, or what it has planned with has changed; not where something else has
/// come that is found before it (PostgreSQL's `plancache.c`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meant(Arc<Vec<(u64, u64)>>);

impl Meant {
    /// So many paths are kept for one statement.
    const MOST: usize = 4_096;

    /// A search path, as it is kept here.
    pub fn path(path: &[String]) -> u64 {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        hasher.finish()
    }

    /// The same, where it means this under that path now. `None`: the server may keep to something else that it meant
    /// under it.
    #[must_use]
    pub fn with(&self, path: u64, names: u64) -> Option<Self> {
        match self.0.iter().find(|(known, _)| *known == path) {
            Some((_, known)) => (*known == names).then(|| self.clone()),
            None if self.0.len() >= Self::MOST => None,
            None => {
                let mut all = Arc::clone(&self.0);
                Arc::make_mut(&mut all).push((path, names));
                Some(Meant(all))
            }
        }
    }
}

/// An open cursor or portal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// What its query asks; FETCH asks it again.
    pub operations: Vec<Operation>,
    /// What its query reads.
    pub reads: ColumnSet,
    /// Columns of its rows.
    pub outputs: Vec<OutputColumn>,
    /// See [`crate::StatementAnalysis::open_result`].
    pub open_result: bool,
    /// See [`crate::StatementAnalysis::compared`].
    pub compared: ColumnSet,
    /// See [`crate::StatementAnalysis::tested`].
    pub tested: ColumnSet,
    /// See [`crate::StatementAnalysis::opaque_call`].
    pub opaque_call: bool,
    /// See [`crate::StatementAnalysis::shows_texts`].
    pub shows_texts: bool,
    /// See [`crate::StatementAnalysis::opaque_functions`].
    pub opaque_functions: BTreeSet<OpaqueFunction>,
    /// See [`crate::StatementAnalysis::forbidden`].
    pub forbidden: Option<String>,
}

/// The state of one session, as far as names and texts depend on it.
#[derive(Clone, Debug)]
pub struct SessionState {
    /// Effective schemas in order, as `current_schemas(true)` gives them.
    pub search_path: Vec<String>,
    /// Temporary relations by name.
    pub temp: HashMap<String, TempRelation>,
    /// What was ever known of temporary relations, by name: a rollback brings one back that another has replaced, and
    /// making one where there is one may do nothing.
    pub temp_past: HashMap<String, TempPast>,
    /// Prepared statements by name.
    pub prepared: HashMap<String, PreparedStatement>,
    /// Cursors by name.
    pub cursors: HashMap<String, Cursor>,
    /// The database.
    pub database: String,
    /// The current user, for `$user` in a search path.
    pub current_user: String,
    /// How the server reads plain string literals. Texts are read the same way here.
    pub standard_conforming_strings: bool,
    /// The open transaction, or a part of it, has changed what names mean: path, role, temporary relations, definitions.
    /// What they mean where it ends within a text is not known.
    pub reverts: bool,
}

impl Default for SessionState {
    /// An empty session with the search path `pg_catalog, public`.
    fn default() -> Self {
        SessionState {
            search_path: vec!["pg_catalog".to_owned(), "public".to_owned()],
            temp: HashMap::new(),
            temp_past: HashMap::new(),
            prepared: HashMap::new(),
            cursors: HashMap::new(),
            database: String::new(),
            current_user: String::new(),
            standard_conforming_strings: true,
            reverts: false,
        }
    }
}

/// All that the relations of one name have carried and asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TempPast {
    columns: BTreeSet<String>,
    carries: ColumnSet,
    operations: Vec<Operation>,
    beneath: Option<BTreeSet<QualifiedName>>,
}

impl Default for TempPast {
    fn default() -> Self {
        TempPast {
            columns: BTreeSet::new(),
            carries: ColumnSet::new(),
            operations: Vec::new(),
            beneath: Some(BTreeSet::new()),
        }
    }
}

/// Names whose past is kept apart; that of others is kept together.
const MAX_PAST: usize = 10_000;

impl SessionState {
    fn temp_past(&mut self, name: &str) -> &mut TempPast {
        let full = self.temp_past.len() >= MAX_PAST && !self.temp_past.contains_key(name);
        let name = if full { String::new() } else { name.to_owned() };
        self.temp_past.entry(name).or_default()
    }

    /// A temporary relation was made, or may have been. One of a name that was there before counts as carrying what
    /// that did as well: which of them there is now, the server alone knows.
    pub fn temp_made(&mut self, name: &str, mut relation: TempRelation) {
        let shared = self.temp_past.get("").cloned().unwrap_or_default();
        let past = self.temp_past(name);
        let before = past.clone();
        past.columns.extend(relation.columns.iter().cloned());
        stand_on(&mut past.beneath, relation.beneath.as_ref());
        past.carries.add(&relation.carries);
        past.carries
            .extend(relation.column_carries.values().flatten().cloned());
        for operation in &relation.operations {
            if !past.operations.contains(operation) {
                past.operations.push(operation.clone());
            }
        }
        for past in [before, shared] {
            stand_on(&mut relation.beneath, past.beneath.as_ref());
            if !past.carries.is_empty() {
                relation.carries.add(&past.carries);
                relation.as_is.clear();
            }
            for operation in past.operations {
                if !relation.operations.contains(&operation) {
                    relation.operations.push(operation);
                }
            }
        }
        self.temp.insert(name.to_owned(), relation);
    }

    /// Rows that carry these columns were written into a temporary relation.
    pub fn temp_written(&mut self, name: &str, carries: &ColumnSet) {
        self.temp_past(name).carries.add(carries);
        if let Some(relation) = self.temp.get_mut(name) {
            relation.carries.add(carries);
        }
    }

    /// A rollback brings back what was there before, of which no more is known than what all of its name have carried and
    /// asked.
    pub fn temp_back(&mut self) {
        for (name, past) in &self.temp_past {
            if name.is_empty() || self.temp.contains_key(name) {
                continue;
            }
            let relation = TempRelation {
                columns: past.columns.iter().cloned().collect(),
                carries: past.carries.clone(),
                operations: past.operations.clone(),
                beneath: past.beneath.clone(),
                ..TempRelation::table(&[])
            };
            self.temp.insert(name.clone(), relation);
        }
    }

    /// DISCARD ALL, which no rollback undoes.
    pub fn forget_temp(&mut self) {
        self.temp_past.clear();
    }

    /// The effective search path after `SET search_path` to these schemas as given, or to its default. Schemas that do
    /// not exist are kept: nothing is found in them.
    pub fn effective_path(&self, path: Option<&[String]>, catalog: &crate::Catalog) -> Vec<String> {
        let default = ["$user".to_owned(), "public".to_owned()];
        let given = path.unwrap_or(&default);
        let mut effective: Vec<String> = Vec::new();
        for schema in given {
            match schema.as_str() {
                "$user" if catalog.has_schema(&self.current_user) => {
                    effective.push(self.current_user.clone())
                }
                "$user" => {}
                _ => effective.push(schema.clone()),
            }
        }
        if !effective.iter().any(|schema| schema == "pg_catalog") {
            effective.insert(0, "pg_catalog".to_owned());
        }
        effective
    }
}

/// Adds what another relation of the same name stands on.
fn stand_on(own: &mut Option<BTreeSet<QualifiedName>>, other: Option<&BTreeSet<QualifiedName>>) {
    match (own.as_mut(), other) {
        (Some(own), Some(other)) => own.extend(other.iter().cloned()),
        _ => *own = None,
    }
}
