//! A catalog made by hand.

use std::sync::{Arc, OnceLock};

use super::{Cast, UserType};
use super::{Catalog, Column, Document, Function, Operator, QualifiedName, Relation, RelationKind};
use crate::analysis::{Action, ColumnId, Object, StatementAnalysis, StatementKind};
use crate::analyze::analyze;
use crate::session::SessionState;

/// The type of a column that says none.
const TEXT: &str = "pg_catalog.text";

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
            let (name, type_name) = text.split_once(' ').unwrap_or((text, TEXT));
            column(num, name, type_name)
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
            acting: Vec::new(),
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

    /// Adds a view by the query behind it, in which every name of a relation is qualified, and returns its oid. Its
    /// columns, and what it depends on, are found out by analysing the query over what was added before. If that does
    /// not tell them, the view's meaning is not known: whatever names it asks `unknown`.
    pub fn view(&mut self, schema: &str, name: &str, query: &str) -> i64 {
        let session = SessionState {
            search_path: vec!["pg_catalog".to_owned()],
            ..SessionState::default()
        };
        let analysis = analyze(query, &Catalog::from(self.document.clone()), &session);
        let oid = self.relation(schema, name, RelationKind::View, &[]);
        self.with_last(|view| match analysis.statements.as_slice() {
            [select] => define(view, select),
            _ => view.unreadable = Some("its query is not one statement".to_owned()),
        });
        let numbers: Vec<(i64, i32)> = match analysis.statements.as_slice() {
            [select] => select.reads.iter().filter_map(|id| self.number(id)).collect(),
            _ => Vec::new(),
        };
        self.with_last(|view| {
            view.reads = numbers;
            view.definition = Some(query.to_owned());
        });
        oid
    }

    /// Says that the first relation inherits from the second, or is a partition of it.
    pub fn inherits(&mut self, child: i64, parent: i64) -> &mut Self {
        let relations = self.document.relations.iter_mut();
        for relation in relations.filter(|relation| relation.oid == child) {
            Arc::make_mut(relation).parents.push(parent);
        }
        self
    }

    /// A column as a view's dependencies name it.
    fn number(&self, id: &ColumnId) -> Option<(i64, i32)> {
        let mut relations = self.document.relations.iter();
        let relation =
            relations.find(|relation| relation.schema == id.schema && relation.name == id.table)?;
        let column = relation.columns.iter().find(|column| column.name == id.column)?;
        Some((relation.oid, column.num))
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

fn column(num: i32, name: &str, type_name: &str) -> Column {
    Column {
        name: name.to_owned(),
        num,
        type_name: type_name.to_owned(),
        made_of: None,
    }
}

/// Gives a view what the analysis of its query says.
fn define(view: &mut Relation, select: &StatementAnalysis) {
    let understood = select.kind == StatementKind::Select
        && !select.unresolved
        && !select.open_result
        && !select.outputs.is_empty()
        && select
            .operations
            .iter()
            .all(|operation| matches!(operation.action, Action::Read | Action::Call));
    if !understood {
        view.unreadable = Some("its query was not understood".to_owned());
    }
    let columns = (1..).zip(&select.outputs).map(|(num, output)| {
        let type_name = if output.type_name.is_empty() {
            TEXT
        } else {
            &output.type_name
        };
        column(num, output.name.as_deref().unwrap_or("?column?"), type_name)
    });
    view.columns = columns.collect();
    view.calls = select
        .operations
        .iter()
        .filter_map(|operation| match &operation.object {
            Object::Function { schema, name } => Some((schema.clone(), name.clone()).into()),
            Object::Column(_) | Object::Table { .. } | Object::Resource => None,
        })
        .collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(catalog: &Catalog, sql: &str) -> Vec<String> {
        let analysis = analyze(sql, catalog, &SessionState::default());
        analysis.operations().map(ToString::to_string).collect()
    }

    #[test]
    fn a_view_made_by_its_query_leads_to_its_base_columns_through_another_view() {
        let mut builder = Catalog::builder();
        builder.table("public", "customers", &["id", "email", "name"]);
        builder.view(
            "public",
            "contacts",
            "SELECT c.id, c.email AS mail FROM public.customers c",
        );
        builder.view(
            "public",
            "mails",
            "SELECT upper(mail) AS loud FROM public.contacts",
        );
        let catalog = builder.build();
        let analysis = analyze("SELECT loud FROM mails", &catalog, &SessionState::default());
        let [statement] = analysis.statements.as_slice() else {
            panic!()
        };
        let carried: Vec<String> = statement.outputs[0]
            .carries
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(
            carried.contains(&"public.customers.email".to_owned()),
            "{carried:?}"
        );
        assert!(
            !carried.contains(&"public.customers.id".to_owned()),
            "{carried:?}"
        );
        assert!(!statement.outputs[0].as_is);
        let asked = asked(&catalog, "SELECT loud FROM mails");
        assert!(
            asked.contains(&"read public.customers.email".to_owned()),
            "{asked:?}"
        );
        assert!(
            !asked.contains(&"read public.customers.name".to_owned()),
            "{asked:?}"
        );
    }

    #[test]
    fn a_view_whose_query_does_not_tell_what_it_reads_is_unknown() {
        let mut builder = Catalog::builder();
        builder.table("public", "customers", &["id", "email"]);
        for (name, query) in [
            ("unqualified", "SELECT id FROM customers"),
            ("absent", "SELECT id FROM public.nothing"),
            ("two", "SELECT 1; SELECT 2"),
            ("no_query", "DELETE FROM public.customers RETURNING id"),
            ("no_sql", "SELEC"),
        ] {
            builder.view("public", name, query);
        }
        let catalog = builder.build();
        for name in ["unqualified", "absent", "two", "no_query", "no_sql"] {
            let asked = asked(&catalog, &format!("SELECT * FROM {name}"));
            assert!(
                asked.contains(&"unknown resource".to_owned()),
                "{name}: {asked:?}"
            );
        }
    }

    #[test]
    fn the_functions_of_a_view_are_asked_of_whoever_reads_it() {
        let mut builder = Catalog::builder();
        builder.table("public", "customers", &["id"]);
        builder.function("public", "secretly", 1);
        builder.view(
            "public",
            "v",
            "SELECT public.secretly(id) AS x FROM public.customers",
        );
        let asked = asked(&builder.build(), "SELECT x FROM v");
        assert!(asked.contains(&"call public.secretly".to_owned()), "{asked:?}");
    }

    #[test]
    fn a_child_shares_the_rows_of_its_parent() {
        let mut builder = Catalog::builder();
        let parent = builder.table("public", "events", &["id", "at"]);
        let child = builder.table("public", "events_2024", &["id", "at"]);
        builder.inherits(child, parent);
        let analysis = analyze(
            "SELECT at FROM events",
            &builder.build(),
            &SessionState::default(),
        );
        let reads: Vec<String> = analysis.statements[0]
            .reads
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(reads, ["public.events.at", "public.events_2024.at"]);
    }
}
