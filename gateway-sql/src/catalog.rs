//! The structure of one database as a value.

mod build;
mod query;

use std::collections::{BTreeSet, HashMap};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

pub use build::CatalogBuilder;
pub use query::CATALOG_QUERY;

use serde::{Deserialize, Serialize};

use crate::analysis::ColumnId;

/// What a relation is, by `pg_class.relkind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RelationKind {
    /// An ordinary table.
    #[serde(rename = "r")]
    Table,
    /// A view.
    #[serde(rename = "v")]
    View,
    /// A materialised view.
    #[serde(rename = "m")]
    MaterializedView,
    /// A partitioned table.
    #[serde(rename = "p")]
    Partitioned,
    /// A table of a foreign server.
    #[serde(rename = "f")]
    Foreign,
    /// A sequence.
    #[serde(rename = "S")]
    Sequence,
    /// A composite type.
    #[serde(rename = "c")]
    Composite,
    /// An index.
    #[serde(rename = "i")]
    Index,
    /// An index of a partitioned table.
    #[serde(rename = "I")]
    PartitionedIndex,
}

/// A schema and a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "(String, String)", into = "(String, String)")]
pub struct QualifiedName {
    /// The schema.
    pub schema: String,
    /// The name.
    pub name: String,
}

impl From<(String, String)> for QualifiedName {
    fn from((schema, name): (String, String)) -> Self {
        QualifiedName { schema, name }
    }
}

impl From<QualifiedName> for (String, String) {
    fn from(value: QualifiedName) -> Self {
        (value.schema, value.name)
    }
}

/// A column of a relation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its number, from 1.
    pub num: i32,
    /// Its type as `schema.name`.
    #[serde(rename = "type", default)]
    pub type_name: String,
}

/// A relation. Its `reads` and `calls` are those of the rule that makes it a view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    /// `pg_class.oid`.
    pub oid: i64,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: RelationKind,
    /// Its live columns in order.
    pub columns: Vec<Column>,
    /// Relations that it inherits from or is a partition of; the table of an index.
    #[serde(default)]
    pub parents: Vec<i64>,
    /// Columns that a view depends on: relation oid and column number, 0 for all.
    #[serde(default)]
    pub reads: Vec<(i64, i32)>,
    /// Functions that a view calls, built-in ones too.
    #[serde(default)]
    pub calls: Vec<QualifiedName>,
    /// It has rules for INSERT, UPDATE or DELETE.
    #[serde(default)]
    pub rules: bool,
    /// Row-level security is on.
    #[serde(default)]
    pub rls: bool,
    /// Tables whose foreign keys refer to it: TRUNCATE ... CASCADE empties them.
    #[serde(default)]
    pub referencing: Vec<i64>,
    /// A view's query, every name in it qualified.
    #[serde(default)]
    pub definition: Option<String>,
    /// What each column of a view may carry, made from `definition` when first asked for.
    #[serde(skip)]
    pub(crate) lineage: OnceLock<Vec<(BTreeSet<ColumnId>, bool)>>,
}

impl Relation {
    /// True if it has a column of that name.
    pub fn has_column(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.name == name)
    }

    /// Its column of that name as an id.
    pub fn column_id(&self, name: &str) -> ColumnId {
        ColumnId {
            schema: self.schema.clone(),
            table: self.name.clone(),
            column: name.to_owned(),
        }
    }

    /// True for the server's own catalogs and `information_schema`.
    pub fn is_system(&self) -> bool {
        is_system_schema(&self.schema)
    }
}

pub(crate) fn is_system_schema(schema: &str) -> bool {
    schema == "pg_catalog" || schema == "information_schema"
}

/// A function, procedure or aggregate outside `pg_catalog`, or one that somebody put in there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `f` function, `p` procedure, `a` aggregate, `w` window function.
    pub kind: String,
    /// `i` immutable, `s` stable, `v` volatile: what its author says of it.
    pub volatility: String,
    /// The language of its body.
    pub language: String,
    /// Fewest arguments.
    #[serde(default)]
    pub min_args: i32,
    /// Most arguments; `None`: any number.
    #[serde(default)]
    pub max_args: Option<i32>,
    /// It belongs to an extension.
    #[serde(default)]
    pub extension: bool,
    /// Names of its OUT and TABLE columns.
    #[serde(default)]
    pub returns: Option<Vec<String>>,
    /// The relation or composite type whose rows it returns.
    #[serde(default)]
    pub returns_relation: Option<i64>,
}

/// An operator made by a user or an extension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// Its schema.
    pub schema: String,
    /// Its symbol.
    pub name: String,
    /// Type of its left side, if it has one.
    #[serde(default)]
    pub left: Option<QualifiedName>,
    /// Type of its right side, if it has one.
    #[serde(default)]
    pub right: Option<QualifiedName>,
    /// The function behind it.
    pub function: QualifiedName,
}

/// A cast made by a user or an extension, with a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cast {
    /// From this type.
    pub source: QualifiedName,
    /// To this type.
    pub target: QualifiedName,
    /// `e` explicit, `a` in assignments too, `i` implicit too.
    pub context: String,
    /// The function behind it.
    pub function: QualifiedName,
}

/// A type outside `pg_catalog`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserType {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `pg_type.typtype`.
    pub kind: String,
}

#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Document {
    #[serde(default)]
    pub(crate) server_version: i32,
    #[serde(default)]
    pub(crate) schemas: Vec<String>,
    #[serde(default)]
    pub(crate) relations: Vec<Relation>,
    #[serde(default)]
    pub(crate) functions: Vec<Function>,
    #[serde(default)]
    pub(crate) operators: Vec<Operator>,
    #[serde(default)]
    pub(crate) casts: Vec<Cast>,
    #[serde(default)]
    pub(crate) types: Vec<UserType>,
}

/// The server's answer to [`CATALOG_QUERY`] was not the document expected.
#[derive(Debug)]
pub struct CatalogError(serde_json::Error);

impl std::fmt::Display for CatalogError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "server sent a malformed catalog document: {}", self.0)
    }
}

impl std::error::Error for CatalogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

type ByName<T> = HashMap<String, HashMap<String, T>>;

/// The structure of one database: a plain value, built once and shared in an `Arc`. It serialises to the document that
/// it is read from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Document", into = "Document")]
pub struct Catalog {
    /// Grows with every catalog that this process builds: a key for cached analyses.
    pub version: u64,
    /// `server_version_num`.
    pub server_version: i32,
    schemas: BTreeSet<String>,
    relations: Vec<Relation>,
    by_name: ByName<usize>,
    by_oid: HashMap<i64, usize>,
    children: HashMap<i64, Vec<i64>>,
    functions: ByName<Vec<Function>>,
    operators: HashMap<String, Vec<Operator>>,
    casts: Vec<Cast>,
    types: ByName<UserType>,
}

impl From<Document> for Catalog {
    fn from(document: Document) -> Self {
        static VERSION: AtomicU64 = AtomicU64::new(1);
        let mut catalog = Catalog {
            version: VERSION.fetch_add(1, Ordering::Relaxed),
            server_version: document.server_version,
            schemas: document.schemas.into_iter().collect(),
            casts: document.casts,
            ..Catalog::default()
        };
        for (at, relation) in document.relations.iter().enumerate() {
            catalog.schemas.insert(relation.schema.clone());
            catalog.by_oid.insert(relation.oid, at);
            for &parent in &relation.parents {
                catalog.children.entry(parent).or_default().push(relation.oid);
            }
            catalog
                .by_name
                .entry(relation.schema.clone())
                .or_default()
                .insert(relation.name.clone(), at);
        }
        catalog.relations = document.relations;
        for function in document.functions {
            let schema = catalog.functions.entry(function.schema.clone()).or_default();
            schema.entry(function.name.clone()).or_default().push(function);
        }
        for operator in document.operators {
            catalog
                .operators
                .entry(operator.name.clone())
                .or_default()
                .push(operator);
        }
        for user_type in document.types {
            let schema = catalog.types.entry(user_type.schema.clone()).or_default();
            schema.insert(user_type.name.clone(), user_type);
        }
        catalog
    }
}

impl From<Catalog> for Document {
    fn from(catalog: Catalog) -> Self {
        Document {
            server_version: catalog.server_version,
            schemas: catalog.schemas.into_iter().collect(),
            relations: catalog.relations,
            functions: catalog
                .functions
                .into_values()
                .flat_map(HashMap::into_values)
                .flatten()
                .collect(),
            operators: catalog.operators.into_values().flatten().collect(),
            casts: catalog.casts,
            types: catalog
                .types
                .into_values()
                .flat_map(HashMap::into_values)
                .collect(),
        }
    }
}

impl Catalog {
    /// All relations.
    pub fn relations(&self) -> impl Iterator<Item = &Relation> {
        self.relations.iter()
    }

    /// Reads the document that [`CATALOG_QUERY`] yields.
    ///
    /// # Errors
    /// If the text is not that document.
    pub fn from_json(text: &str) -> Result<Self, CatalogError> {
        serde_json::from_str::<Document>(text)
            .map(Catalog::from)
            .map_err(CatalogError)
    }

    /// A catalog made by hand, for tests and examples.
    pub fn builder() -> CatalogBuilder {
        CatalogBuilder::new()
    }

    /// The relation of that name.
    pub fn relation(&self, schema: &str, name: &str) -> Option<&Relation> {
        self.by_name
            .get(schema)?
            .get(name)
            .and_then(|&at| self.relations.get(at))
    }

    /// The relation with that oid.
    pub fn relation_by_oid(&self, oid: i64) -> Option<&Relation> {
        self.by_oid.get(&oid).and_then(|&at| self.relations.get(at))
    }

    /// True if the schema exists.
    pub fn has_schema(&self, schema: &str) -> bool {
        self.schemas.contains(schema)
    }

    /// Functions of that name in that schema, all signatures. Built-in ones are not listed.
    pub fn functions(&self, schema: &str, name: &str) -> &[Function] {
        self.functions
            .get(schema)
            .and_then(|names| names.get(name))
            .map_or(&[], Vec::as_slice)
    }

    /// Operators of that symbol in any schema, built-in ones not listed.
    pub fn operators(&self, name: &str) -> &[Operator] {
        self.operators.get(name).map_or(&[], Vec::as_slice)
    }

    /// Casts with functions that users or extensions made.
    pub fn casts(&self) -> &[Cast] {
        &self.casts
    }

    /// The type of that name, unless built in.
    pub fn user_type(&self, schema: &str, name: &str) -> Option<&UserType> {
        self.types.get(schema)?.get(name)
    }

    /// Relations by inheritance or partitioning that share its rows or lend them their tags: its descendants, and the
    /// ancestors of all of them. Itself is not included.
    pub fn family(&self, relation: &Relation) -> Vec<&Relation> {
        let mut seen = BTreeSet::from([relation.oid]);
        let mut family = Vec::new();
        let mut up: Vec<i64> = relation.parents.clone();
        let mut down: Vec<i64> = self.children.get(&relation.oid).cloned().unwrap_or_default();
        while let Some(oid) = down.pop() {
            if seen.insert(oid)
                && let Some(child) = self.relation_by_oid(oid)
            {
                family.push(child);
                down.extend(self.children.get(&oid).into_iter().flatten());
                up.extend(&child.parents);
            }
        }
        while let Some(oid) = up.pop() {
            if seen.insert(oid)
                && let Some(parent) = self.relation_by_oid(oid)
            {
                family.push(parent);
                up.extend(&parent.parents);
            }
        }
        family
    }

    /// What a view depends on through all views beneath it: base columns, and functions called. Relations of the system
    /// are not followed.
    pub fn view_reads(&self, view: &Relation) -> (BTreeSet<ColumnId>, BTreeSet<QualifiedName>) {
        let (mut columns, mut calls) = (BTreeSet::new(), BTreeSet::new());
        let (mut seen, mut todo) = (BTreeSet::from([view.oid]), vec![view]);
        while let Some(relation) = todo.pop() {
            calls.extend(relation.calls.iter().cloned());
            for &(oid, num) in &relation.reads {
                let Some(base) = self.relation_by_oid(oid) else {
                    continue;
                };
                for column in base.columns.iter().filter(|column| num == 0 || column.num == num) {
                    columns.insert(base.column_id(&column.name));
                }
                if !base.is_system() && seen.insert(oid) {
                    todo.push(base);
                }
            }
        }
        (columns, calls)
    }
}
