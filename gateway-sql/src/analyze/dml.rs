//! INSERT, UPDATE, DELETE, MERGE.

use std::collections::BTreeSet;
use std::sync::Arc;

use pg_query::NodeEnum;
use pg_query::protobuf::{
    CmdType, DeleteStmt, InsertStmt, MergeMatchKind, MergeStmt, Node, OnConflictAction, OnConflictClause,
    RangeVar, ReturningClause, UpdateStmt,
};

use super::own_values::gives_no_value;
use super::scope::{Carries, Item, ItemColumn, Rows, Scope, Source, find_items};
use super::walker::{Named, Walker};
use crate::analysis::{Action, Assignment, Change, ColumnId, Effect, RowChange};
use crate::catalog::{QualifiedName, Relation, RelationKind};

impl<'a> Walker<'a> {
    /// Makes the item of a written relation. That it is written is not that it is read.
    fn target(&mut self, relation: Option<&RangeVar>) -> Option<usize> {
        let Some(relation) = relation else {
            self.unknown();
            return None;
        };
        let at = self.relation_item(relation);
        if let Some(item) = self.items.get_mut(at) {
            item.used = true;
        }
        Some(at)
    }

    /// Remembers what becomes of a relation's rows.
    pub(super) fn changes(&mut self, range: Option<&RangeVar>, rows: RowChange) {
        let written = match range.map(|range| self.named(range)) {
            Some(Named::Relation(relation)) => vec![relation],
            Some(Named::Temp(name)) => self.beneath_temp(&name).unwrap_or_default(),
            Some(Named::Missing { .. }) | None => Vec::new(),
        };
        for relation in written {
            let bases = self.working.bases(self.catalog, relation);
            for one in std::iter::once(relation).chain(bases) {
                self.out.changes.insert(Change {
                    schema: one.schema.clone(),
                    name: one.name.clone(),
                    rows,
                });
            }
        }
    }

    /// Asks for writing a relation: a view's bases are written too.
    pub(super) fn write(&mut self, range: Option<&RangeVar>, bounded: bool) {
        let action = if bounded {
            Action::Write
        } else {
            Action::WriteUnbounded
        };
        self.write_as(range, action);
    }

    fn write_as(&mut self, range: Option<&RangeVar>, action: Action) {
        let Some(range) = range else { return };
        match self.named(range) {
            Named::Temp(name) => {
                self.ask_resource(Action::Temp);
                // A temporary view is no more than another name for what it stands on.
                match self.beneath_temp(&name) {
                    Some(beneath) => {
                        for relation in beneath {
                            self.write_beneath(relation, action);
                        }
                    }
                    None => self.unknown(),
                }
            }
            Named::Missing { schema, name } => self.ask_table(action, &schema, &name),
            Named::Relation(relation) if relation.is_system() => {
                self.ask_table(action, &relation.schema, &relation.name);
                self.ask_resource(Action::Control);
                self.forbid("the server's catalogs are not written");
            }
            Named::Relation(relation) => self.write_beneath(relation, action),
        }
    }

    /// Asks for writing a relation that may be reached through a view, and what that relation stands on itself.
    fn write_beneath(&mut self, relation: &Relation, action: Action) {
        self.ask_table(action, &relation.schema, &relation.name);
        self.write_is_plain(relation);
        for base in self.working.bases(self.catalog, relation) {
            if matches!(
                base.kind,
                RelationKind::Table | RelationKind::Partitioned | RelationKind::Foreign
            ) {
                self.ask_table(action, &base.schema, &base.name);
            }
            self.write_is_plain(base);
        }
    }

    /// A rule makes another statement of a write. Of the server's own views the one of pg_settings changes settings, and
    /// its tables are what the server is made of.
    fn write_is_plain(&mut self, relation: &Relation) {
        if self.working.has_rules(relation) {
            self.unknown();
        }
        if relation.is_system() {
            self.unknown();
            self.ask_resource(Action::Control);
            self.effect(Effect::SessionSettingsChanged);
        }
    }

    /// Relations of the database that a temporary relation stands on; `None` where they are not known.
    pub(super) fn beneath_temp(&self, name: &str) -> Option<Vec<&'a Relation>> {
        let beneath = self.working.session.temp.get(name)?.beneath.as_ref()?;
        let known = |one: &QualifiedName| self.working.relation(self.catalog, &one.schema, &one.name);
        beneath.iter().map(known).collect()
    }

    /// Remembers what a written column gets.
    fn assign(&mut self, target: usize, column: &str, carries: Carries, as_is: bool) {
        let Some(item) = self.items.get(target) else {
            return;
        };
        let id = match &item.source {
            Source::Temp => {
                let Some((_, table)) = item.names.last() else {
                    return;
                };
                let table = self
                    .temp_name(target)
                    .unwrap_or_else(|| table.as_ref().to_owned());
                self.effect(Effect::TempWritten { name: table, carries });
                return;
            }
            Source::Relation { schema, name } | Source::System { schema, name, .. } => {
                ColumnId::new(schema.as_ref(), name.as_ref(), column)
            }
            Source::Derived => return,
        };
        self.out.assignments.push(Assignment {
            target: id,
            carries,
            as_is,
        });
    }

    /// A scope with this item in it.
    fn push_scope_of(&mut self, item: usize) {
        self.scopes.push(Scope::default());
        self.bring(item);
    }

    fn temp_name(&self, target: usize) -> Option<String> {
        let column = self.items.get(target)?.columns.first()?;
        column
            .carries
            .iter()
            .find(|id| id.schema == super::walker::TEMP_SCHEMA)
            .map(|id| id.table.clone())
    }

    pub(super) fn insert(&mut self, insert: &InsertStmt) -> Rows {
        self.deeper(|walker| walker.insert_here(insert))
    }

    fn insert_here(&mut self, insert: &InsertStmt) -> Rows {
        let frames = self.with(insert.with_clause.as_ref());
        let Some(target) = self.target(insert.relation.as_ref()) else {
            return Rows::default();
        };
        let select = insert.select_stmt.as_deref();
        let mut source = match insert.select_stmt.as_deref().and_then(|node| node.node.as_ref()) {
            Some(NodeEnum::SelectStmt(select)) => self.select(select),
            None => Rows::default(),
            Some(_) => {
                self.unknown();
                Rows::default()
            }
        };
        // Rows that are written out are as many as are written.
        if matches!(select.and_then(|node| node.node.as_ref()), Some(NodeEnum::SelectStmt(select)) if !select.values_lists.is_empty())
        {
            source.mirrors.clear();
        }
        let mut columns: Vec<String> = Vec::new();
        for node in &insert.cols {
            match node.node.as_ref() {
                Some(NodeEnum::ResTarget(column)) => {
                    columns.push(column.name.clone());
                    self.steering(&column.indirection);
                }
                _ => self.unknown(),
            }
        }
        if columns.is_empty() {
            let all = self
                .items
                .get(target)
                .map(|item| item.columns.as_slice())
                .unwrap_or_default();
            columns = all.iter().map(|column| column.real.clone()).collect();
        }
        self.inserted(select, target, &columns);
        let all = all_carries(&source);
        let given = if source.open {
            columns.len()
        } else {
            source.columns.len()
        };
        for (at, name) in columns.iter().take(given).enumerate() {
            let own = source.columns.get(at).map(|column| column.carries.clone());
            let as_is = !source.open && source.columns.get(at).is_some_and(|column| column.as_is);
            if !gives_no_value(select, at) {
                self.own_value(None, target, name);
            }
            // With a star over unknown columns the places do not match.
            let carries = if source.open {
                all.clone()
            } else {
                own.unwrap_or_default()
            };
            self.assign(target, name, carries, as_is);
        }
        let mut bounded = true;
        self.changes(insert.relation.as_ref(), RowChange::Insert);
        self.push_scope_of(target);
        if let Some(conflict) = insert.on_conflict_clause.as_deref() {
            bounded = self.on_conflict(conflict, target, &source, &columns);
        }
        if insert.on_conflict_clause.as_deref().is_some_and(updates) {
            self.changes(insert.relation.as_ref(), RowChange::Update);
            self.write_as(insert.relation.as_ref(), Action::Write);
            if !bounded {
                self.write_as(insert.relation.as_ref(), Action::WriteUnbounded);
            }
        } else {
            self.write_as(insert.relation.as_ref(), Action::Write);
        }
        let mut rows = self.returning(insert.returning_clause.as_ref(), target);
        rows.mirrors.extend(source.mirrors);
        self.leave_scope();
        self.ctes.truncate(frames);
        rows
    }

    /// ON CONFLICT; true if an update is limited: by the rows that are inserted, unless these are the table's own, or
    /// by its condition.
    fn on_conflict(
        &mut self,
        conflict: &OnConflictClause,
        target: usize,
        source: &Rows,
        written: &[String],
    ) -> bool {
        if let Some(infer) = conflict.infer.as_deref() {
            // Arbiter columns are compared with what is inserted.
            let flow = self.flow_of(|walker| walker.exprs(&infer.index_elems));
            drop(flow);
            self.conditions(infer.where_clause.as_deref());
        }
        // A value of `excluded` is one that its column would get: it is what was given, and of the column's kind.
        let all = all_carries(source);
        let columns = self
            .items
            .get(target)
            .map(|item| item.columns.clone())
            .unwrap_or_default();
        let columns = columns.iter().map(|column| {
            let at = written.iter().position(|name| *name == column.real);
            let given = at.and_then(|at| source.columns.get(at)).filter(|_| !source.open);
            let mut carries = column.carries.clone();
            match given {
                Some(given) => carries.add(&given.carries),
                None => carries.add(&all),
            }
            let as_is = given.map_or(all.is_empty(), |given| given.as_is);
            ItemColumn::derived_as_is(column.name.clone(), carries, as_is)
        });
        let columns = Arc::new(columns.collect());
        let open = self.items.get(target).is_some_and(|item| item.open);
        let excluded = self.push_item(Item {
            names: vec![(None, "excluded".into())],
            source: Source::Derived,
            columns,
            open,
            used: true,
            read: 0,
            mirrors: Arc::new(source.mirrors.clone()),
            placed: false,
            made_of: Arc::default(),
        });
        // Unqualified names mean the table; `excluded` is one scope out so that it does not shadow it.
        self.scopes.insert(
            self.scopes.len().saturating_sub(1),
            Scope {
                items: vec![excluded],
                ..Scope::default()
            },
        );
        let own = self
            .items
            .get(target)
            .map(|item| item.mirrors.clone())
            .unwrap_or_default();
        self.assignments(&conflict.target_list, target);
        self.conditions(conflict.where_clause.as_deref());
        let limited = conflict
            .where_clause
            .as_deref()
            .is_some_and(|condition| self.limits(condition, target));
        self.scopes.remove(self.scopes.len().saturating_sub(2));
        limited || own.is_disjoint(&source.mirrors)
    }

    /// The SET list of an UPDATE.
    fn assignments(&mut self, targets: &[Node], target: usize) {
        for node in targets {
            let Some(NodeEnum::ResTarget(column)) = node.node.as_ref() else {
                self.unknown();
                continue;
            };
            self.steering(&column.indirection);
            let as_is = column.val.as_deref().is_some_and(|value| self.is_as_is(value));
            let as_is = as_is && column.indirection.is_empty();
            let carries = self.flow_of(|walker| walker.exprs(column.val.as_deref()));
            if column.indirection.is_empty() {
                self.written(column.val.as_deref(), target, &column.name);
            }
            self.own_value(column.val.as_deref(), target, &column.name);
            self.assign(target, &column.name, carries, as_is);
        }
    }

    fn returning(&mut self, clause: Option<&ReturningClause>, target: usize) -> Rows {
        let Some(clause) = clause else {
            return Rows::default();
        };
        // What has these names already keeps them.
        let free = |name: &&str| find_items(&self.items, &self.scopes, None, name).is_empty();
        let mut names: Vec<String> = ["old", "new"]
            .iter()
            .copied()
            .filter(free)
            .map(str::to_owned)
            .collect();
        for node in &clause.options {
            match node.node.as_ref() {
                Some(NodeEnum::ReturningOption(option)) => names.push(option.value.clone()),
                _ => self.unknown(),
            }
        }
        if let Some(item) = self.items.get_mut(target) {
            item.names
                .extend(names.into_iter().map(|name| (None, name.as_str().into())));
        }
        self.targets(&clause.exprs)
    }

    /// What the rows of a RETURNING list stand for.
    fn written_rows(&mut self, mut rows: Rows, condition: Option<&Node>, from: &[Node]) -> Rows {
        if !rows.columns.is_empty() || rows.open {
            let mirrors = self.mirrors(condition, from, &mut rows);
            rows.mirrors.extend(mirrors);
        }
        rows
    }

    pub(super) fn update(&mut self, update: &UpdateStmt) -> Rows {
        self.deeper(|walker| {
            let frames = walker.with(update.with_clause.as_ref());
            let Some(target) = walker.target(update.relation.as_ref()) else {
                return Rows::default();
            };
            walker.push_scope_of(target);
            for node in &update.from_clause {
                walker.bring_from(node);
            }
            walker.assignments(&update.target_list, target);
            walker.conditions(update.where_clause.as_deref());
            let condition = update.where_clause.as_deref();
            let bounded = walker.bounds(condition, &update.from_clause, target);
            walker.changes(update.relation.as_ref(), RowChange::Update);
            walker.write(update.relation.as_ref(), bounded);
            let rows = walker.returning(update.returning_clause.as_ref(), target);
            let rows = walker.written_rows(rows, condition, &update.from_clause);
            walker.leave_scope();
            walker.ctes.truncate(frames);
            rows
        })
    }

    pub(super) fn delete(&mut self, delete: &DeleteStmt) -> Rows {
        self.deeper(|walker| {
            let frames = walker.with(delete.with_clause.as_ref());
            let Some(target) = walker.target(delete.relation.as_ref()) else {
                return Rows::default();
            };
            walker.push_scope_of(target);
            for node in &delete.using_clause {
                walker.bring_from(node);
            }
            walker.conditions(delete.where_clause.as_deref());
            let condition = delete.where_clause.as_deref();
            let bounded = walker.bounds(condition, &delete.using_clause, target);
            walker.changes(delete.relation.as_ref(), RowChange::Delete);
            walker.write(delete.relation.as_ref(), bounded);
            let rows = walker.returning(delete.returning_clause.as_ref(), target);
            let rows = walker.written_rows(rows, condition, &delete.using_clause);
            walker.leave_scope();
            walker.ctes.truncate(frames);
            rows
        })
    }

    pub(super) fn merge(&mut self, merge: &MergeStmt) -> Rows {
        self.deeper(|walker| walker.merge_here(merge))
    }

    fn merge_here(&mut self, merge: &MergeStmt) -> Rows {
        let frames = self.with(merge.with_clause.as_ref());
        let Some(target) = self.target(merge.relation.as_ref()) else {
            return Rows::default();
        };
        self.push_scope_of(target);
        let own = self.scopes.last().map_or(0, |scope| scope.places_of_star.len());
        if let Some(source) = merge.source_relation.as_deref() {
            self.bring_from(source);
        }
        // RETURNING * gives the source's columns first (PostgreSQL documentation, MERGE).
        if let Some(scope) = self.scopes.last_mut() {
            scope.places_of_star.rotate_left(own);
        }
        self.conditions(merge.join_condition.as_deref());
        let joined = merge
            .join_condition
            .as_deref()
            .is_some_and(|condition| self.limits(condition, target));
        let mut actions: BTreeSet<Action> = BTreeSet::new();
        for node in &merge.merge_when_clauses {
            let Some(NodeEnum::MergeWhenClause(when)) = node.node.as_ref() else {
                self.unknown();
                continue;
            };
            self.conditions(when.condition.as_deref());
            let limited = when
                .condition
                .as_deref()
                .is_some_and(|condition| self.limits(condition, target));
            match when.command_type() {
                CmdType::CmdInsert => {
                    self.changes(merge.relation.as_ref(), RowChange::Insert);
                    self.merge_insert(when, target);
                    actions.insert(Action::Write);
                }
                command @ (CmdType::CmdUpdate | CmdType::CmdDelete) => {
                    let rows = match command {
                        CmdType::CmdUpdate => RowChange::Update,
                        _ => RowChange::Delete,
                    };
                    self.changes(merge.relation.as_ref(), rows);
                    self.assignments(&when.target_list, target);
                    let matched = when.match_kind() == MergeMatchKind::MergeWhenMatched;
                    let bounded = limited || matched && joined;
                    actions.insert(if bounded {
                        Action::Write
                    } else {
                        Action::WriteUnbounded
                    });
                }
                CmdType::CmdNothing => {}
                _ => self.unknown(),
            }
        }
        if actions.is_empty() {
            actions.insert(Action::Write);
        }
        for action in actions {
            self.write_as(merge.relation.as_ref(), action);
        }
        let rows = self.returning(merge.returning_clause.as_ref(), target);
        let rows = self.written_rows(rows, merge.join_condition.as_deref(), &[]);
        self.leave_scope();
        self.ctes.truncate(frames);
        rows
    }

    fn merge_insert(&mut self, when: &pg_query::protobuf::MergeWhenClause, target: usize) {
        let mut columns: Vec<String> = when
            .target_list
            .iter()
            .filter_map(|node| match node.node.as_ref() {
                Some(NodeEnum::ResTarget(column)) => Some(column.name.clone()),
                _ => None,
            })
            .collect();
        if columns.is_empty() {
            let all = self
                .items
                .get(target)
                .map(|item| item.columns.as_slice())
                .unwrap_or_default();
            columns = all.iter().map(|column| column.real.clone()).collect();
        }
        for (at, value) in when.values.iter().enumerate() {
            let as_is = self.is_as_is(value);
            let carries = self.flow_of(|walker| walker.expr(value));
            if let Some(column) = columns.get(at) {
                self.written(Some(value), target, column);
                self.own_value(Some(value), target, column);
                self.assign(target, column, carries, as_is);
            }
        }
    }
}

fn all_carries(rows: &Rows) -> Carries {
    rows.columns
        .iter()
        .flat_map(|column| column.carries.iter().cloned())
        .collect()
}

fn updates(conflict: &OnConflictClause) -> bool {
    conflict.action() == OnConflictAction::OnconflictUpdate
}
