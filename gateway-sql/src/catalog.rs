//! The structure of one database as a value.

mod build;
mod document;
mod object;
mod query;
mod stamps;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

pub use build::CatalogBuilder;
pub use document::CatalogError;
pub(crate) use document::Document;
pub(crate) use object::is_system_schema;
pub use object::{
    ActingKey, Cast, Column, Function, KeyAction, Operator, QualifiedName, Relation, RelationKind, UserType,
};
pub use query::{catalog_query, stamps_query};
pub use stamps::{Outdated, OutdatedObjects, Stamps};

use foldhash::HashMap;
use serde::{Deserialize, Serialize};

use crate::analyze::Brought;
use crate::column_set::ColumnSet;

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
    relations: Vec<Arc<Relation>>,
    by_name: ByName<usize>,
    by_oid: HashMap<i64, usize>,
    children: HashMap<i64, Vec<i64>>,
    acting: bool,
    functions: ByName<Vec<Arc<Function>>>,
    operators: HashMap<String, Vec<Operator>>,
    casts: Vec<Cast>,
    types: ByName<Arc<UserType>>,
    stamps: Option<Arc<Stamps>>,
    /// What naming each of `relations` brings, worked out when one is first named.
    brought: Vec<OnceLock<Arc<Brought>>>,
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
        let mut doubtful = Vec::new();
        for (at, relation) in document.relations.iter().enumerate() {
            if !catalog.schemas.contains(&relation.schema) {
                catalog.schemas.insert(relation.schema.clone());
            }
            catalog.by_oid.insert(relation.oid, at);
            catalog.acting |= !relation.acting.is_empty();
            for &parent in &relation.parents {
                catalog.children.entry(parent).or_default().push(relation.oid);
            }
            let names = match catalog.by_name.get_mut(&relation.schema) {
                Some(names) => names,
                None => catalog.by_name.entry(relation.schema.clone()).or_default(),
            };
            if names.insert(relation.name.clone(), at).is_some() {
                doubtful.push(at);
            }
        }
        catalog.relations = document.relations;
        catalog.brought = catalog.relations.iter().map(|_| OnceLock::new()).collect();
        // Parts of the answer are of different moments: which one the name stands for is not certain.
        for at in doubtful {
            if let Some(relation) = catalog.relations.get_mut(at) {
                let why = || "two relations have its name".to_owned();
                Arc::make_mut(relation).unreadable.get_or_insert_with(why);
            }
        }
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
        self.relations.iter().map(Arc::as_ref)
    }

    /// Reads the document that [`catalog_query`] yields. A single object that does not read is kept by its name alone;
    /// see [`Catalog::unreadable`].
    ///
    /// # Errors
    /// If the text is not that document, or not even the name of some object can be read.
    pub fn from_json(text: &str) -> Result<Self, CatalogError> {
        Document::from_json(text).map(Catalog::from)
    }

    /// Objects of which little more than the name is known, and why.
    pub fn unreadable(&self) -> BTreeSet<String> {
        let line = |kind: &str, schema: &str, name: &str, why: &Option<String>| {
            let why = why.as_ref()?;
            Some(format!("{kind} {schema}.{name}: {why}"))
        };
        let relations = self
            .relations
            .iter()
            .filter_map(|r| line("relation", &r.schema, &r.name, &r.unreadable));
        let functions = self.functions.values().flat_map(HashMap::values).flatten();
        let functions = functions.filter_map(|f| line("function", &f.schema, &f.name, &f.unreadable));
        let operators = self.operators.values().flatten();
        let operators = operators.filter_map(|o| line("operator", &o.schema, &o.name, &o.unreadable));
        let casts = self.casts.iter();
        let casts = casts.filter_map(|c| line("cast from", &c.source.schema, &c.source.name, &c.unreadable));
        let types = self.types.values().flat_map(HashMap::values);
        let types = types.filter_map(|t| line("type", &t.schema, &t.name, &t.unreadable));
        relations
            .chain(functions)
            .chain(operators)
            .chain(casts)
            .chain(types)
            .collect()
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
            .map(Arc::as_ref)
    }

    /// Where it is kept what naming the relation brings; `None` if the relation is not this catalog's.
    pub(crate) fn brought(&self, relation: &Relation) -> Option<&OnceLock<Arc<Brought>>> {
        let &at = self.by_oid.get(&relation.oid)?;
        let own = self.relations.get(at)?;
        if !std::ptr::eq(own.as_ref(), relation) {
            return None;
        }
        self.brought.get(at)
    }

    /// The relation with that oid.
    pub fn relation_by_oid(&self, oid: i64) -> Option<&Relation> {
        let relation = self.by_oid.get(&oid).and_then(|&at| self.relations.get(at));
        relation.map(Arc::as_ref)
    }

    /// True if the schema exists.
    pub fn has_schema(&self, schema: &str) -> bool {
        self.schemas.contains(schema)
    }

    /// All schemas.
    pub fn schemas(&self) -> impl Iterator<Item = &str> {
        self.schemas.iter().map(String::as_str)
    }

    /// All functions; built-in ones are not listed.
    pub fn all_functions(&self) -> impl Iterator<Item = &Function> {
        let functions = self.functions.values().flat_map(HashMap::values).flatten();
        functions.map(Arc::as_ref)
    }

    /// Functions of that name in that schema, all signatures. Built-in ones are not listed.
    pub fn functions(&self, schema: &str, name: &str) -> &[Arc<Function>] {
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
        self.types.get(schema)?.get(name).map(Arc::as_ref)
    }

    /// Whether any foreign key changes rows when those that it refers to go or change.
    pub fn has_acting_keys(&self) -> bool {
        self.acting
    }

    /// Whether any relation has children.
    pub fn has_children(&self) -> bool {
        !self.children.is_empty()
    }

    /// The children and partitions of a relation, theirs, and so on.
    pub fn descendants(&self, relation: &Relation) -> Vec<&Relation> {
        let mut seen = BTreeSet::from([relation.oid]);
        let mut found = Vec::new();
        let mut todo = vec![relation.oid];
        while let Some(oid) = todo.pop() {
            for child in self.children.get(&oid).into_iter().flatten() {
                if seen.insert(*child)
                    && let Some(child) = self.relation_by_oid(*child)
                    // An index is a child of its table here, and nobody's rows.
                    && matches!(
                        child.kind,
                        RelationKind::Table | RelationKind::Partitioned | RelationKind::Foreign
                    )
                {
                    found.push(child);
                    todo.push(child.oid);
                }
            }
        }
        found
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
    pub fn view_reads(&self, view: &Relation) -> (ColumnSet, BTreeSet<QualifiedName>) {
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
        (columns.into(), calls)
    }
}
