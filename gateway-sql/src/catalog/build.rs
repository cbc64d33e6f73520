//! A catalog made by hand.

use std::sync::{Arc, OnceLock};

use super::{Cast, UserType};
use super::{Catalog, Column, Document, Function, Operator, QualifiedName, Relation, RelationKind};

/// Collects relations and functions; see [`Catalog::builder`].
#[derive(Debug)]
pub struct CatalogBuilder {
    document: Document,
    next: i64,
}

impl CatalogBuilder {
    pub(super) fn new() -> Self {
        CatalogBuilder {
            document: Document::default(),
            next: 16_384,
        }
    }

    /// Adds a table and returns its oid.
    pub fn table(&mut self, schema: &str, name: &str, columns: &[&str]) -> i64 {
        self.relation(schema, name, RelationKind::Table, columns)
    }

    /// Adds a relation of any kind and returns its oid. A column may say its type: `mood public.mood`.
    pub fn relation(&mut self, schema: &str, name: &str, kind: RelationKind, columns: &[&str]) -> i64 {
        let oid = self.next;
        self.next += 1;
        let columns = (1..).zip(columns).map(|(num, text)| {
            let (name, type_name) = text.split_once(' ').unwrap_or((text, "pg_catalog.text"));
            Column {
                name: name.to_owned(),
                num,
                type_name: type_name.to_owned(),
            }
        });
        self.document.relations.push(Arc::new(Relation {
            oid,
            schema: schema.to_owned(),
            name: name.to_owned(),
            kind,
            columns: columns.collect(),
            parents: Vec::new(),
            reads: Vec::new(),
            calls: Vec::new(),
            rules: false,
            rls: false,
            referencing: Vec::new(),
            definition: None,
            unreadable: None,
            lineage: OnceLock::new(),
        }));
        oid
    }

    /// Changes the relation that was added last.
    pub fn with_last(&mut self, change: impl FnOnce(&mut Relation)) -> &mut Self {
        if let Some(relation) = self.document.relations.last_mut() {
            change(Arc::make_mut(relation));
        }
        self
    }

    /// Adds a view with its query, in which every name is qualified, and the columns that it depends on.
    pub fn view(
        &mut self,
        schema: &str,
        name: &str,
        columns: &[&str],
        query: &str,
        reads: &[(i64, i32)],
    ) -> i64 {
        let oid = self.relation(schema, name, RelationKind::View, columns);
        self.with_last(|view| {
            view.definition = Some(query.to_owned());
            view.reads = reads.to_vec();
        });
        oid
    }

    /// Adds a function.
    pub fn function(&mut self, schema: &str, name: &str, args: i32) -> &mut Self {
        self.document.functions.push(Arc::new(Function {
            oid: 0,
            schema: schema.to_owned(),
            name: name.to_owned(),
            kind: "f".to_owned(),
            volatility: "v".to_owned(),
            language: "plpgsql".to_owned(),
            min_args: args,
            max_args: Some(args),
            extension: false,
            returns: None,
            returns_relation: None,
            unreadable: None,
        }));
        self
    }

    /// Adds an operator and names the function behind it.
    pub fn operator(&mut self, schema: &str, name: &str, function: &str) -> &mut Self {
        let function = QualifiedName {
            schema: schema.to_owned(),
            name: function.to_owned(),
        };
        let (schema, name) = (schema.to_owned(), name.to_owned());
        self.document.operators.push(Operator {
            schema,
            name,
            left: None,
            right: None,
            function,
            unreadable: None,
        });
        self
    }

    /// Adds a type (an enum).
    pub fn user_type(&mut self, schema: &str, name: &str) -> &mut Self {
        let kind = "e".to_owned();
        self.document.types.push(Arc::new(UserType {
            oid: 0,
            schema: schema.to_owned(),
            name: name.to_owned(),
            kind,
            base: None,
            unreadable: None,
        }));
        self
    }

    /// Adds a cast with a function.
    pub fn cast(&mut self, cast: Cast) -> &mut Self {
        self.document.casts.push(cast);
        self
    }

    /// The catalog.
    pub fn build(self) -> Catalog {
        Catalog::from(self.document)
    }
}
