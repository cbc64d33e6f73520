//! The state of one statement's analysis: what was asked so far, and how names become relations.

use std::collections::{BTreeSet, HashMap, HashSet};

use pg_query::protobuf::{Alias, RangeVar};

use super::constants::Looked;
use super::limit::Tracker;
use super::message::{Changes, Working};
use super::names::text_of;
use super::scope::{Carries, Item, ItemColumn, Rows, Scope, Source};
use crate::analysis::{Action, ColumnId, Effect, Object, Operation, StatementAnalysis, StatementKind};
use crate::catalog::{Catalog, Relation, RelationKind, is_system_schema};
use crate::protected::guard;

/// Deepest nesting that is walked.
const MAX_WALK: usize = 600;
/// Most nodes that are visited for one statement, beside twice its length in bytes: judging a condition visits
/// subqueries again.
const MAX_VISITS: usize = 200_000;
/// Most views within views.
const MAX_VIEWS: usize = 20;

/// Schema of temporary relations in column ids.
pub(super) const TEMP_SCHEMA: &str = "pg_temp";

/// What a RangeVar names.
pub(super) enum Named<'a> {
    Relation(&'a Relation),
    Temp(String),
    Missing { schema: String, name: String },
}

pub(super) struct Walker<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) working: &'a Working<'a>,
    pub(super) out: StatementAnalysis,
    seen: HashSet<Operation>,
    pub(super) items: Vec<Item>,
    pub(super) scopes: Vec<Scope>,
    pub(super) ctes: Vec<HashMap<String, Rows>>,
    /// What the expression that is walked may carry.
    pub(super) flow: Carries,
    /// What is touched, while a condition is judged.
    pub(super) tracker: Option<Tracker>,
    depth: usize,
    visits: usize,
    budget: usize,
    /// A condition is judged inside OR: what only excludes some rows does not limit there.
    pub(super) in_or: bool,
    pub(super) views: usize,
    /// User types whose values are touched.
    pub(super) types: BTreeSet<String>,
    /// Types that something is cast to.
    pub(super) casts: BTreeSet<String>,
    /// Operators used: schema where given, symbol.
    pub(super) operators: BTreeSet<(Option<String>, String)>,
    /// What the statement changes for the rest of its message.
    pub(super) changes: Changes,
    /// The one setting that the rows of the innermost query are about (`FROM pg_settings WHERE name = 'x'`).
    pub(super) one_setting: Option<String>,
    /// INTO clauses met.
    pub(super) into: Vec<pg_query::protobuf::IntoClause>,
    /// A name could not be placed: all columns of all relations count as read.
    pub(super) read_all: bool,
    /// Whether the answer depends on the value of a literal.
    pub(super) looked: Looked,
    /// What has been met since this was last emptied.
    pub(super) met: Met,
    /// The plan of the statement is shown: what the server knows of the values behind a view shows in it.
    pub(super) explains: bool,
    /// What is compared decides on the order of rows: equality then tells as much as `<`.
    pub(super) sorts: bool,
}

impl<'a> Walker<'a> {
    pub(super) fn new(catalog: &'a Catalog, working: &'a Working<'a>, kind: StatementKind) -> Self {
        Walker {
            catalog,
            working,
            out: StatementAnalysis::new(kind),
            seen: HashSet::new(),
            items: Vec::new(),
            scopes: Vec::new(),
            ctes: Vec::new(),
            flow: Carries::new(),
            tracker: None,
            depth: 0,
            visits: 0,
            budget: MAX_VISITS,
            in_or: false,
            views: 0,
            types: BTreeSet::new(),
            casts: BTreeSet::new(),
            operators: BTreeSet::new(),
            changes: Changes::default(),
            one_setting: None,
            into: Vec::new(),
            read_all: false,
            looked: Looked::default(),
            met: Met::default(),
            explains: false,
            sorts: false,
        }
    }

    /// Allows for a text of this many bytes.
    pub(super) fn allow(&mut self, len: usize) {
        self.budget = MAX_VISITS.saturating_add(len.saturating_mul(2));
    }

    pub(super) fn ask(&mut self, action: Action, object: Object) {
        let operation = Operation { action, object };
        if self.seen.insert(operation.clone()) {
            self.out.operations.push(operation);
        }
    }

    pub(super) fn ask_resource(&mut self, action: Action) {
        self.ask(action, Object::Resource);
    }

    pub(super) fn ask_table(&mut self, action: Action, schema: &str, name: &str) {
        self.ask(
            action,
            Object::Table {
                schema: schema.to_owned(),
                name: name.to_owned(),
            },
        );
    }

    pub(super) fn ask_function(&mut self, action: Action, schema: &str, name: &str) {
        self.ask(
            action,
            Object::Function {
                schema: schema.to_owned(),
                name: name.to_owned(),
            },
        );
    }

    pub(super) fn ask_all(&mut self, operations: &[Operation]) {
        for operation in operations {
            self.ask(operation.action, operation.object.clone());
        }
    }

    pub(super) fn unknown(&mut self) {
        self.ask_resource(Action::Unknown);
    }

    /// What is named can't be told from its name: it may be anything, and carry everything.
    pub(super) fn of_unknown_meaning(&mut self) {
        self.unknown();
        self.out.opaque_call = true;
    }

    pub(super) fn forbid(&mut self, reason: &str) {
        self.out.forbidden.get_or_insert_with(|| reason.to_owned());
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        if !self.out.effects.contains(&effect) {
            self.out.effects.push(effect);
        }
    }

    /// Runs `walk` one level deeper, or asks `unknown` if the statement nests too deep or is too large.
    pub(super) fn deeper<T: Default>(&mut self, walk: impl FnOnce(&mut Self) -> T) -> T {
        self.visits += 1;
        if self.depth >= MAX_WALK || self.visits >= self.budget {
            self.unknown();
            return T::default();
        }
        self.depth += 1;
        let result = walk(self);
        self.depth -= 1;
        result
    }

    /// Runs `walk` and returns what the values it walks over may carry, without adding it to the enclosing flow.
    pub(super) fn flow_of(&mut self, walk: impl FnOnce(&mut Self)) -> Carries {
        let outer = std::mem::take(&mut self.flow);
        walk(self);
        std::mem::replace(&mut self.flow, outer)
    }

    /// Finds the relation that a name stands for, as the server does: temporary relations at their place in the search
    /// path, which is first unless the path says otherwise.
    pub(super) fn named(&mut self, range: &RangeVar) -> Named<'a> {
        let named = self.placed(range);
        if let Named::Relation(relation) = &named
            && relation.unreadable.is_some()
        {
            self.of_unknown_meaning();
        }
        named
    }

    fn placed(&mut self, range: &RangeVar) -> Named<'a> {
        let session = &self.working.session;
        if !range.catalogname.is_empty() && range.catalogname != session.database {
            self.unknown();
        }
        let name = range.relname.as_str();
        let schema = range.schemaname.as_str();
        if schema.is_empty() {
            let path_has_temp = session.search_path.iter().any(|schema| is_temp_schema(schema));
            if !path_has_temp && session.temp.contains_key(name) {
                return Named::Temp(name.to_owned());
            }
            for schema in &session.search_path {
                if is_temp_schema(schema) {
                    if session.temp.contains_key(name) {
                        return Named::Temp(name.to_owned());
                    }
                } else if let Some(relation) = self.working.relation(self.catalog, schema, name) {
                    return Named::Relation(relation);
                }
            }
            self.out.unresolved = true;
            let schema = self.working.creation_schema(self.catalog);
            return Named::Missing {
                schema,
                name: name.to_owned(),
            };
        }
        if is_temp_schema(schema) {
            let own = schema == TEMP_SCHEMA || session.search_path.iter().any(|other| other == schema);
            if own && session.temp.contains_key(name) {
                return Named::Temp(name.to_owned());
            }
            if !own {
                self.unknown();
            }
        } else if let Some(relation) = self.working.relation(self.catalog, schema, name) {
            return Named::Relation(relation);
        }
        self.out.unresolved = true;
        Named::Missing {
            schema: schema.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Makes the FROM item of a relation and returns its place in the list.
    pub(super) fn relation_item(&mut self, range: &RangeVar) -> usize {
        let named = self.named(range);
        let mut item = match named {
            Named::Relation(relation) => self.item_of(relation),
            Named::Temp(name) => self.temp_item(&name),
            Named::Missing { schema, name } => {
                if is_system_schema(&schema) || schema == "pg_toast" {
                    self.guarded_table(&schema, &name);
                }
                let mut carries = Carries::new();
                for relation in self.working.altered(self.catalog) {
                    carries.extend(
                        relation
                            .columns
                            .iter()
                            .map(|column| relation.column_id(&column.name)),
                    );
                }
                // It may be a temporary one by another name.
                for temp in self.working.session.temp.values() {
                    carries.extend(temp.carries.iter().cloned());
                    carries.extend(temp.column_carries.values().flatten().cloned());
                }
                self.out.reads.extend(carries);
                Item {
                    names: vec![(Some(schema.clone()), name.clone())],
                    source: Source::Relation { schema, name },
                    columns: Vec::new(),
                    open: true,
                    used: false,
                    mirrors: BTreeSet::new(),
                }
            }
        };
        apply_alias(&mut item, range.alias.as_ref());
        self.push_item(item)
    }

    pub(super) fn push_item(&mut self, item: Item) -> usize {
        self.items.push(item);
        self.items.len() - 1
    }

    /// Puts an item into the innermost scope.
    pub(super) fn bring(&mut self, at: usize) {
        let count = self.items.get(at).map_or(0, |item| item.columns.len());
        if let Some(scope) = self.scopes.last_mut() {
            scope.items.push(at);
            scope
                .places_of_star
                .extend((0..count).map(|column| vec![(at, column)]));
        }
    }

    pub(super) fn temp_item(&mut self, name: &str) -> Item {
        self.ask_resource(Action::Temp);
        let relation = self.working.session.temp.get(name);
        let columns = relation.map(|relation| {
            let columns = relation.columns.iter().map(|column| {
                let id = ColumnId::new(TEMP_SCHEMA, name, column.clone());
                let as_is = relation.carries.is_empty() && relation.as_is.contains(column);
                let mut carries = relation.carries.clone();
                carries.extend(relation.column_carries.get(column).into_iter().flatten().cloned());
                carries.insert(id);
                ItemColumn {
                    real: column.clone(),
                    as_is,
                    // What is in it can be the client's, or be made by the server.
                    generated: carries.len() == 1,
                    ..ItemColumn::derived(Some(column.clone()), carries)
                }
            });
            (columns.collect(), relation.operations.clone())
        });
        let (columns, operations): (Vec<ItemColumn>, _) = columns.unwrap_or_default();
        self.ask_all(&operations);
        Item {
            names: vec![(Some(TEMP_SCHEMA.to_owned()), name.to_owned())],
            source: Source::Temp,
            columns,
            open: false,
            used: true,
            mirrors: BTreeSet::new(),
        }
    }

    pub(super) fn item_of(&mut self, relation: &'a Relation) -> Item {
        let (schema, name) = (relation.schema.clone(), relation.name.clone());
        let texts = ["pg_prepared_statements", "pg_cursors", "pg_stat_activity"];
        self.out.shows_texts |= relation.is_system() && texts.contains(&name.as_str());
        let names = vec![(Some(schema.clone()), name.clone())];
        if relation.is_system() || guard(&schema, &name).is_some() {
            self.guarded_table(&schema, &name);
            let columns = relation.columns.iter().map(|column| ItemColumn {
                name: Some(column.name.clone()),
                real: column.name.clone(),
                as_is: true,
                ..ItemColumn::default()
            });
            let source = Source::System {
                guard: guard(&schema, &name),
                schema,
                name,
            };
            return Item {
                names,
                source,
                columns: columns.collect(),
                open: false,
                used: true,
                mirrors: BTreeSet::new(),
            };
        }
        if relation.kind == RelationKind::Foreign {
            self.ask_resource(Action::File);
        }
        let (bases, calls) = self.catalog.view_reads(relation);
        for call in &calls {
            self.call_by_name(&call.schema, &call.name);
        }
        if self.explains {
            self.out.reads.extend(bases.iter().cloned());
        }
        let lineage = if relation.reads.is_empty() {
            None
        } else {
            self.view_lineage(relation)
        };
        let family = self.catalog.family(relation);
        let unreadable = family.iter().any(|other| other.unreadable.is_some());
        if unreadable {
            self.of_unknown_meaning();
        }
        // A base that is a foreign table or guarded asks what it would ask by itself.
        for base in self.working.bases(self.catalog, relation) {
            if base.kind == RelationKind::Foreign {
                self.ask_resource(Action::File);
            }
            if base.unreadable.is_some() {
                self.of_unknown_meaning();
            }
            self.guard_base(base, &bases);
        }
        let mut columns = Vec::with_capacity(relation.columns.len());
        for (at, column) in relation.columns.iter().enumerate() {
            let known = lineage.and_then(|lineage| lineage.get(at));
            let own = known.map_or(&bases, |(carries, _)| carries);
            // A table's own values are as they are, and a view's where its definition says so.
            let as_is = relation.reads.is_empty() || known.is_some_and(|(_, as_is)| *as_is);
            let mut carries = own.clone();
            // A part of a column is read by reading the column.
            let asked: Carries = own
                .iter()
                .map(ColumnId::whole)
                .filter(|id| bases.contains(id))
                .collect();
            carries.insert(relation.column_id(&column.name));
            for other in family.iter().filter(|other| other.has_column(&column.name)) {
                carries.insert(other.column_id(&column.name));
            }
            for base in own {
                self.add_family(base, &mut carries);
            }
            // A generated column carries what it is made of.
            let made_of = column.made_of.as_deref().unwrap_or_default();
            for other in &relation.columns {
                if other.num != column.num && (made_of.contains(&other.num) || made_of.contains(&0)) {
                    let id = relation.column_id(&other.name);
                    self.add_family(&id, &mut carries);
                    carries.insert(id);
                }
            }
            let as_is = as_is && column.made_of.is_none();
            columns.push(ItemColumn {
                name: Some(column.name.clone()),
                asked: Some(relation.column_id(&column.name)),
                real: column.name.clone(),
                carries,
                bases: asked,
                type_name: column.type_name.clone(),
                as_is,
                mixed: false,
                generated: false,
            });
        }
        let mirrors = self.related(relation);
        Item {
            names,
            source: Source::Relation { schema, name },
            columns,
            open: self.working.is_altered(relation) || relation.unreadable.is_some(),
            used: false,
            mirrors,
        }
    }

    fn add_family(&self, base: &ColumnId, carries: &mut Carries) {
        let Some(relation) = self.catalog.relation(&base.schema, &base.table) else {
            return;
        };
        for other in self
            .catalog
            .family(relation)
            .iter()
            .filter(|other| other.has_column(&base.column))
        {
            carries.insert(other.column_id(&base.column).part(&base.path));
        }
    }

    fn guard_base(&mut self, base: &Relation, reads: &Carries) {
        let Some(guard) = guard(&base.schema, &base.name) else {
            return;
        };
        let shown = |column: &&str| {
            reads
                .iter()
                .any(|id| id.schema == base.schema && id.table == base.name && id.column == **column)
        };
        if guard.columns.is_empty() || guard.columns.iter().any(shown) {
            self.ask_table(Action::Read, &base.schema, &base.name);
            self.forbid(guard.reason);
        }
    }

    /// Relations whose rows may be rows of this one: itself, its family, and what a view stands on.
    pub(super) fn related(&self, relation: &Relation) -> BTreeSet<i64> {
        let mut related = BTreeSet::from([relation.oid]);
        let mut bases = self.working.bases(self.catalog, relation);
        bases.push(relation);
        for base in bases {
            related.insert(base.oid);
            related.extend(self.catalog.family(base).iter().map(|other| other.oid));
        }
        related
    }

    /// What each column of a view may carry, from its definition; computed once and kept in the catalog.
    fn view_lineage(&mut self, relation: &'a Relation) -> Option<&'a Vec<(Carries, bool)>> {
        if let Some(known) = relation.lineage.get() {
            return Some(known);
        }
        let definition = relation.definition.as_deref()?;
        if self.views >= MAX_VIEWS {
            return None;
        }
        let lineage = super::message::lineage_of(definition, self.catalog, self.views + 1)?;
        if lineage.len() != relation.columns.len() {
            return None;
        }
        Some(relation.lineage.get_or_init(|| lineage))
    }

    fn guarded_table(&mut self, schema: &str, name: &str) {
        if let Some(guard) = guard(schema, name)
            && guard.columns.is_empty()
        {
            self.ask_table(Action::Read, schema, name);
            self.forbid(guard.reason);
        }
    }

    fn touch(&mut self, at: usize) {
        if let Some(item) = self.items.get_mut(at) {
            item.used = true;
        }
        if let Some(tracker) = &mut self.tracker {
            tracker.items.insert(at);
        }
    }

    /// Reads one column of an item.
    pub(super) fn read_column(&mut self, item: usize, column: usize) {
        self.touch(item);
        let Some(item) = self.items.get_mut(item) else {
            return;
        };
        let Some(column) = item.columns.get(column).cloned() else {
            return;
        };
        self.met.column = true;
        self.met.generated |= column.generated;
        if let Source::System {
            schema,
            name,
            guard: Some(guard),
        } = &item.source
            && guard.columns.contains(&column.real.as_str())
        {
            let (schema, name, reason) = (schema.clone(), name.clone(), guard.reason);
            self.ask_table(Action::Read, &schema, &name);
            self.forbid(reason);
        }
        for id in column.asked.iter().chain(&column.bases) {
            if !is_system_schema(&id.schema) {
                let (schema, table) = (id.schema.clone(), id.table.clone());
                self.ask(
                    Action::Read,
                    Object::Column {
                        schema,
                        table,
                        column: id.column.clone(),
                    },
                );
            }
        }
        if !column.type_name.is_empty() && !column.type_name.starts_with("pg_catalog.") {
            self.types.insert(element_type(&column.type_name));
        }
        self.out.reads.extend(column.carries.iter().cloned());
        self.flow.extend(column.carries);
    }

    /// Reads every column of an item.
    pub(super) fn read_whole(&mut self, item: usize) {
        let count = self.items.get(item).map_or(0, |item| item.columns.len());
        for column in 0..count {
            self.read_column(item, column);
        }
        if self.items.get(item).is_some_and(|item| item.open) {
            self.read_table(item);
        }
    }

    /// Reads a table of which no column is named.
    pub(super) fn read_table(&mut self, item: usize) {
        self.touch(item);
        let Some(item) = self.items.get(item) else { return };
        if let Source::Relation { schema, name } = &item.source {
            let (schema, name) = (schema.clone(), name.clone());
            self.ask_table(Action::Read, &schema, &name);
        }
    }

    /// A name could not be placed.
    pub(super) fn lost(&mut self) {
        self.out.unresolved = true;
        self.read_all = true;
    }

    /// Leaves a scope: relations of which nothing was named are read as tables.
    pub(super) fn leave_scope(&mut self) -> Scope {
        let scope = self.scopes.pop().unwrap_or_default();
        for &item in &scope.items {
            if self.items.get(item).is_some_and(|item| !item.used) {
                self.read_table(item);
            }
        }
        scope
    }

    /// The finished analysis.
    pub(super) fn finish(mut self) -> StatementAnalysis {
        if self.read_all {
            let flow = self.flow_of(|walker| {
                for item in 0..walker.items.len() {
                    walker.read_whole(item);
                }
            });
            for output in &mut self.out.outputs {
                output.carries.extend(flow.iter().cloned());
                output.as_is = false;
            }
        }
        self.finish_domains();
        self.finish_operators();
        self.finish_casts();
        self.out
            .operations
            .sort_by_key(|operation| operation.action == Action::Read);
        self.out.summary = super::summary::summary(&self.out);
        self.out.literals_matter = self.looked.at_a_value() || !self.out.is_of_any_values();
        self.out
    }
}

/// `public._mood` and `public.mood` are both values of mood.
pub(super) fn element_type(name: &str) -> String {
    match name.split_once("._") {
        Some((schema, name)) => format!("{schema}.{name}"),
        None => name.to_owned(),
    }
}

pub(super) fn is_temp_schema(schema: &str) -> bool {
    schema == TEMP_SCHEMA || schema.starts_with("pg_temp_")
}

/// What an expression is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Met {
    /// A column.
    pub(super) column: bool,
    /// Values of which there may be any number.
    pub(super) generated: bool,
    /// A subquery whose value is not a column's as it is.
    pub(super) computed: bool,
}

impl Walker<'_> {
    /// Walks, and tells what was met on the way.
    pub(super) fn meeting<T>(&mut self, walk: impl FnOnce(&mut Self) -> T) -> (T, Met) {
        let outer = std::mem::take(&mut self.met);
        let done = walk(self);
        let met = self.met;
        self.met = Met {
            column: outer.column | met.column,
            generated: outer.generated | met.generated,
            computed: outer.computed | met.computed,
        };
        (done, met)
    }
}

/// Renames an item and its first columns.
pub(super) fn apply_alias(item: &mut Item, alias: Option<&Alias>) {
    let Some(alias) = alias else { return };
    item.names = vec![(None, alias.aliasname.clone())];
    for (column, name) in item.columns.iter_mut().zip(&alias.colnames) {
        column.name = text_of(name).map(str::to_owned);
    }
}
