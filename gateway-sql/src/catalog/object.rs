//! The objects of a database as values.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::analysis::ColumnId;
use crate::column_set::ColumnSet;

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
    /// Numbers of the columns that a generated column is made of; 0: of any. `None`: it is not generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_of: Option<Vec<i32>>,
}

/// What a foreign key does to its own rows when those that it refers to go or change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyAction {
    /// Nothing, or it refuses.
    #[serde(rename = "a", alias = "r")]
    Nothing,
    /// They go or change with them.
    #[serde(rename = "c")]
    Cascade,
    /// Their columns get NULL, or their defaults.
    #[serde(rename = "n", alias = "d")]
    Set,
}

/// A foreign key as the table that it refers to sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActingKey {
    /// Oid of the table that has it.
    pub table: i64,
    /// ON DELETE.
    pub on_delete: KeyAction,
    /// ON UPDATE.
    pub on_update: KeyAction,
    /// Numbers of the columns that it refers to.
    pub refers_to: Vec<i32>,
    /// Numbers of its own columns.
    pub columns: Vec<i32>,
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
    /// Foreign keys that refer to it and change rows of their tables when its own go or change.
    #[serde(default)]
    pub acting: Vec<ActingKey>,
    /// A view's query, every name in it qualified.
    #[serde(default)]
    pub definition: Option<String>,
    /// Why the rest of it is not known: the server's account of it did not read. Whatever names it is not understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// What each column of a view may carry, and whether as it is, made from `definition` when first asked for.
    #[serde(skip)]
    pub(crate) lineage: OnceLock<Vec<(ColumnSet, bool)>>,
}

impl Relation {
    /// True if it has a column of that name.
    pub fn has_column(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.name == name)
    }

    /// Its column of that name as an id.
    pub fn column_id(&self, name: &str) -> ColumnId {
        ColumnId::new(self.schema.clone(), self.name.clone(), name)
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
    /// `pg_proc.oid`; 0 if made by hand.
    #[serde(default)]
    pub oid: i64,
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
    /// Why the rest of it is not known: the server's account of it did not read. Whatever names it is not understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
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
    /// Why the rest of it is not known: the server's account of it did not read. Whatever names it is not understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
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
    /// Why the rest of it is not known: the server's account of it did not read. Whatever names it is not understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// A type outside `pg_catalog`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserType {
    /// `pg_type.oid`; 0 if made by hand.
    #[serde(default)]
    pub oid: i64,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `pg_type.typtype`.
    pub kind: String,
    /// What a domain is made of, as `schema.name`.
    #[serde(default)]
    pub base: Option<String>,
    /// Why the rest of it is not known: the server's account of it did not read. Whatever names it is not understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}
