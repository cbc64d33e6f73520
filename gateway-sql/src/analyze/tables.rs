//! Statements that make relations: CREATE TABLE, VIEW, TABLE AS, SELECT INTO.

use std::collections::{BTreeSet, HashMap};

use pg_query::NodeEnum;
use pg_query::protobuf::{
    Constraint, CreateStmt, CreateTableAsStmt, IntoClause, Node, PartitionBoundSpec, RangeVar, ViewStmt,
};

use super::names::text_of;
use super::scope::{Carries, ItemColumn, Rows, Scope};
use super::walker::{Named, Walker, is_temp_schema};
use crate::analysis::{Action, Effect, StatementKind};
use crate::catalog::{Column, Relation, RelationKind};
use crate::session::TempRelation;

/// A dependency on a relation's rows, not on a column of it.
const NO_COLUMN: i32 = -1;

impl Walker<'_> {
    /// True if a relation that is made by this name is temporary.
    pub(super) fn makes_temp(&self, range: &RangeVar) -> bool {
        range.relpersistence == "t" || is_temp_schema(&range.schemaname)
    }

    /// Schema and name that a relation is made by.
    fn made_name(&self, range: &RangeVar) -> (String, String) {
        let schema = if range.schemaname.is_empty() {
            self.working.creation_schema(self.catalog)
        } else {
            range.schemaname.clone()
        };
        (schema, range.relname.clone())
    }

    /// Asks for making a relation, and `define` on what it replaces.
    pub(super) fn define_new(&mut self, range: Option<&RangeVar>) {
        let Some(range) = range else {
            self.unknown();
            return;
        };
        if self.makes_temp(range) {
            self.ask_resource(Action::Temp);
        } else {
            let (schema, name) = self.made_name(range);
            self.ask_table(Action::Define, &schema, &name);
            if crate::catalog::is_system_schema(&schema) {
                self.forbid("the server's catalogs are not written");
            }
            self.effect(Effect::CatalogChanged);
        }
    }

    /// Notes a relation that is made, for later statements and for the session.
    fn made(&mut self, range: &RangeVar, columns: &[ItemColumn], kind: RelationKind, reads: Vec<(i64, i32)>) {
        let name_of = |column: &ItemColumn| column.name.clone().unwrap_or_default();
        if self.makes_temp(range) {
            let relation = TempRelation {
                columns: columns.iter().map(name_of).collect(),
                kind,
                column_carries: columns
                    .iter()
                    .map(|column| (name_of(column), column.carries.clone()))
                    .collect::<HashMap<_, _>>(),
                carries: Carries::new(),
                as_is: columns
                    .iter()
                    .filter(|column| column.as_is && !column.mixed)
                    .map(name_of)
                    .collect(),
                operations: if kind == RelationKind::View {
                    self.out.operations.clone()
                } else {
                    Vec::new()
                },
                beneath: if kind == RelationKind::View {
                    self.stands_on.clone()
                } else {
                    Some(BTreeSet::new())
                },
            };
            self.effect(Effect::TempCreated {
                name: range.relname.clone(),
                relation,
            });
            return;
        }
        let (schema, name) = self.made_name(range);
        let lineage = std::sync::OnceLock::new();
        // A new table's columns carry what they are filled with, as a view's do, for the rest of the message.
        let filled = columns.iter().any(|column| !column.carries.is_empty());
        let of = |column: &ItemColumn| (column.carries.clone(), column.as_is && !column.mixed);
        if filled && lineage.set(columns.iter().map(of).collect()).is_err() {
            self.unknown();
        }
        let oid = -1 - i64::try_from(self.working.created_count()).unwrap_or(0);
        // A view over what is not known: what becomes of a row that is written into it is not known either.
        if kind == RelationKind::View && self.stands_on.is_none() {
            self.changes.ruled.push(oid);
        }
        let columns = (1..).zip(columns).map(|(num, column)| Column {
            name: name_of(column),
            num,
            type_name: String::new(),
            made_of: None,
        });
        self.changes.created.push(Relation {
            oid,
            schema,
            name,
            kind,
            columns: columns.collect(),
            parents: Vec::new(),
            reads,
            calls: Vec::new(),
            rules: false,
            rls: false,
            referencing: Vec::new(),
            acting: Vec::new(),
            definition: None,
            unreadable: None,
            lineage,
        });
    }

    /// Every relation of the database that was read, as a view's dependencies.
    fn dependencies(&self) -> Vec<(i64, i32)> {
        let mut found = BTreeSet::new();
        for id in &self.out.reads {
            if let Some(relation) = self.working.relation(self.catalog, &id.schema, &id.table) {
                let column = relation.columns.iter().find(|column| column.name == id.column);
                found.insert((relation.oid, column.map_or(0, |column| column.num)));
            }
        }
        // Also those of which no column is named: rows are written there.
        for one in self.stands_on.iter().flatten() {
            if let Some(relation) = self.working.relation(self.catalog, &one.schema, &one.name) {
                found.insert((relation.oid, NO_COLUMN));
            }
        }
        found.into_iter().collect()
    }

    /// CREATE TABLE AS and SELECT INTO: the rows of a query become a table.
    pub(super) fn create_from(&mut self, into: Option<&IntoClause>, rows: &Rows, matview: bool) {
        let Some(range) = into.and_then(|into| into.rel.as_ref()) else {
            self.unknown();
            return;
        };
        self.define_new(Some(range));
        if rows.open {
            self.out.unresolved = true;
        }
        let names = into.map(|into| into.col_names.as_slice()).unwrap_or_default();
        let columns = named_columns(rows, names);
        let (kind, reads) = if matview {
            (RelationKind::MaterializedView, self.dependencies())
        } else {
            (RelationKind::Table, self.dependencies())
        };
        self.made(range, &columns, kind, reads);
        if self.makes_temp(range) {
            self.keeps(&columns);
        }
        if self.makes_temp(range) && (rows.open || columns.is_empty()) {
            self.effect(Effect::TempChanged);
        }
    }

    pub(super) fn create_table_as(&mut self, create: &CreateTableAsStmt) {
        let matview = create.objtype() == pg_query::protobuf::ObjectType::ObjectMatview;
        let rows = match create.query.as_deref().and_then(|query| query.node.as_ref()) {
            Some(NodeEnum::ExecuteStmt(execute)) => {
                self.execute(execute);
                let columns = std::mem::take(&mut self.out.outputs);
                let open = columns.is_empty();
                let columns = columns.into_iter().map(|column| ItemColumn {
                    mixed: column.mixed,
                    ..ItemColumn::derived_as_is(column.name, column.carries, column.as_is)
                });
                Rows {
                    columns: columns.collect(),
                    open,
                    mirrors: BTreeSet::new(),
                }
            }
            Some(query) => self.query(query).1,
            None => Rows::default(),
        };
        self.out.kind = StatementKind::CreateTableAs;
        self.create_from(create.into.as_deref(), &rows, matview);
    }

    pub(super) fn create_view(&mut self, view: &ViewStmt) {
        let Some(range) = view.view.as_ref() else {
            self.unknown();
            return;
        };
        let rows = match view.query.as_deref().and_then(|query| query.node.as_ref()) {
            Some(NodeEnum::SelectStmt(select)) => self.running_later(|walker| walker.select(select)),
            _ => {
                self.unknown();
                Rows::default()
            }
        };
        if !self.into.is_empty() {
            self.unknown();
        }
        // A view over temporary relations is temporary itself: what it is then is for the server to say.
        let over_temp = self
            .out
            .operations
            .iter()
            .any(|operation| operation.action == Action::Temp);
        // What a temporary view shows is not looked at when it is read.
        if self.out.shows_texts && (over_temp || self.makes_temp(range)) {
            self.unknown();
        }
        self.define_new(Some(range));
        if over_temp && !self.makes_temp(range) {
            self.effect(Effect::TempChanged);
        }
        let columns = named_columns(&rows, &view.aliases);
        let reads = self.dependencies();
        self.made(range, &columns, RelationKind::View, reads);
        if view.replace && !self.makes_temp(range) {
            self.alter(Some(range));
        }
        if !over_temp && !self.makes_temp(range) {
            self.out.kind = StatementKind::View;
        }
    }

    pub(super) fn create_table(&mut self, create: &CreateStmt) {
        let Some(range) = create.relation.as_ref() else {
            self.unknown();
            return;
        };
        self.define_new(Some(range));
        let mut columns: Vec<ItemColumn> = Vec::new();
        for node in create.inh_relations.iter() {
            let Some(NodeEnum::RangeVar(parent)) = node.node.as_ref() else {
                self.unknown();
                continue;
            };
            // A child adds rows to its parent.
            self.alter(Some(parent));
            // What is written into a temporary child stands among them.
            if self.makes_temp(range) {
                self.among_rows(parent);
            }
            self.copy_columns(parent, &mut columns);
        }
        for node in &create.table_elts {
            match node.node.as_ref() {
                Some(NodeEnum::ColumnDef(column)) => columns.push(empty_column(&column.colname)),
                Some(NodeEnum::TableLikeClause(like)) => {
                    if let Some(source) = like.relation.as_ref() {
                        self.copy_columns(source, &mut columns);
                    }
                }
                Some(NodeEnum::Constraint(_)) => {}
                _ => self.unknown(),
            }
        }
        let items = columns.clone();
        let open = create.of_typename.is_some();
        self.with_definition(items, open, |walker| {
            for node in create.table_elts.iter().chain(&create.constraints) {
                walker.table_element(node);
            }
            for node in create.partspec.iter().flat_map(|spec| &spec.part_params) {
                if let Some(NodeEnum::PartitionElem(element)) = node.node.as_ref() {
                    walker.exprs(element.expr.as_deref());
                }
            }
            walker.partition_bound(create.partbound.as_ref());
        });
        if open && self.makes_temp(range) {
            self.effect(Effect::TempChanged);
        }
        self.made(range, &columns, RelationKind::Table, Vec::new());
    }

    /// The bounds of a partition are computed when it is made or attached.
    pub(super) fn partition_bound(&mut self, bound: Option<&PartitionBoundSpec>) {
        let Some(bound) = bound else { return };
        self.exprs(bound.listdatums.iter());
        for datum in bound.lowerdatums.iter().chain(&bound.upperdatums) {
            match datum.node.as_ref() {
                Some(NodeEnum::PartitionRangeDatum(datum)) => self.exprs(datum.value.as_deref()),
                _ => self.expr(datum),
            }
        }
    }

    fn copy_columns(&mut self, source: &RangeVar, columns: &mut Vec<ItemColumn>) {
        match self.named(source) {
            Named::Relation(relation) => {
                columns.extend(relation.columns.iter().map(|column| empty_column(&column.name)));
            }
            Named::Temp(name) => {
                let names = self
                    .working
                    .session
                    .temp
                    .get(&name)
                    .map(|temp| temp.columns.clone());
                columns.extend(names.unwrap_or_default().iter().map(|name| empty_column(name)));
            }
            Named::Missing { .. } => {}
        }
    }

    /// Runs `walk` in a scope that has these columns; naming them reads nothing.
    pub(super) fn with_definition(
        &mut self,
        columns: Vec<ItemColumn>,
        open: bool,
        walk: impl FnOnce(&mut Self),
    ) {
        let unresolved = self.out.unresolved;
        let rows = Rows {
            columns,
            open,
            mirrors: BTreeSet::new(),
        };
        let item = self.derived_item(rows, Some("new"));
        if let Some(item) = self.items.get_mut(item) {
            item.names.push((None, "old".into()));
        }
        self.scopes.push(Scope {
            items: vec![item],
            ..Scope::default()
        });
        let flow = self.flow_of(|walker| walker.running_later(walk));
        drop(flow);
        self.scopes.pop();
        if open {
            self.out.unresolved = unresolved;
        }
    }

    /// The expressions of a column or constraint: they run when rows are written, so what they call is asked.
    pub(super) fn table_element(&mut self, node: &Node) {
        self.deeper(|walker| match node.node.as_ref() {
            Some(NodeEnum::ColumnDef(column)) => {
                walker.cast_to(column.type_name.as_ref());
                walker.exprs(column.raw_default.as_deref());
                for constraint in &column.constraints {
                    walker.table_element(constraint);
                }
                if !column.fdwoptions.is_empty() {
                    walker.ask_resource(Action::File);
                }
            }
            Some(NodeEnum::Constraint(constraint)) => walker.constraint(constraint),
            Some(NodeEnum::TableLikeClause(_)) => {}
            _ => walker.unknown(),
        });
    }

    fn constraint(&mut self, constraint: &Constraint) {
        // A key that is there twice, or is missing elsewhere, is quoted by the error.
        let keys = constraint.keys.iter().chain(&constraint.fk_attrs);
        for name in keys.filter_map(text_of) {
            self.unqualified(name);
        }
        self.conditions(constraint.raw_expr.as_deref());
        self.conditions(constraint.where_clause.as_deref());
        for exclusion in &constraint.exclusions {
            if let Some(NodeEnum::List(list)) = exclusion.node.as_ref() {
                for item in &list.items {
                    match item.node.as_ref() {
                        Some(NodeEnum::IndexElem(_)) => self.expr(item),
                        Some(NodeEnum::List(name)) => self.operator(&name.items),
                        _ => self.unknown(),
                    }
                }
            }
        }
    }
}

/// A column of a relation that has no rows yet.
fn empty_column(name: &str) -> ItemColumn {
    ItemColumn::derived_as_is(Some(name.to_owned()), Carries::new(), true)
}

fn named_columns(rows: &Rows, names: &[Node]) -> Vec<ItemColumn> {
    let mut names = names.iter();
    let columns = rows.columns.iter().map(|column| {
        let given = names.next().and_then(text_of).map(str::to_owned);
        let name = given
            .or_else(|| column.name.clone())
            .unwrap_or_else(|| "?column?".to_owned());
        ItemColumn {
            mixed: column.mixed,
            ..ItemColumn::derived_as_is(Some(name), column.carries.clone(), column.as_is)
        }
    });
    columns.collect()
}
