//! The state of one statement's analysis: what was asked so far, and how names become relations.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::HashSet;
use pg_query::protobuf::{Alias, RangeVar};

use super::constants::Looked;
use super::limit::Tracker;
use super::message::{Changes, Working};
use super::names::text_of;
use super::query::Ctes;
use super::scope::{Carries, Item, ItemColumn, Places, Scope, Source, Tells};
use crate::analysis::{Action, ColumnId, Effect, Object, Operation, StatementAnalysis, StatementKind};
use crate::catalog::{Catalog, QualifiedName, Relation, RelationKind, is_system_schema};
use crate::protected::guard;

/// Deepest nesting that is walked.
const MAX_WALK: usize = 600;
/// Most nodes that are visited for one statement, beside twice its length in bytes: judging a condition visits
/// subqueries again.
const MAX_VISITS: usize = 200_000;
/// Most columns of rows that are handed on within one statement, and sources of columns by sixteens: stars over queries
/// over stars multiply them.
const MAX_HANDED_ON: usize = 250_000;
/// So many sources of a column come for free.
const FEW_SOURCES: usize = 16;
/// Most items of one FROM clause. Each is compared with each.
const MAX_FROM: usize = 1000;
/// Most columns of a result (PostgreSQL documentation, Appendix K, PostgreSQL Limits).
const MAX_TARGETS: usize = 1664;
/// So many comparisons of names count as one node visited.
const NAMES_PER_VISIT: usize = 64;
/// Most effects of one statement.
const MAX_EFFECTS: usize = 1000;
/// So many operations are looked through one by one.
const FEW: usize = 24;

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
    pub(super) ctes: Vec<Ctes>,
    /// What the expression that is walked may carry.
    pub(super) flow: Carries,
    /// What is touched, while a condition is judged.
    pub(super) tracker: Option<Tracker>,
    depth: usize,
    visits: usize,
    budget: usize,
    /// Columns handed on so far.
    handed_on: usize,
    /// A condition is judged inside OR: what only excludes some rows does not limit there.
    pub(super) in_or: bool,
    /// The next union is that of a recursion.
    pub(super) recurs: bool,
    pub(super) views: usize,
    /// User types whose values are touched.
    pub(super) types: BTreeSet<String>,
    /// Types that something is cast to.
    pub(super) casts: BTreeSet<String>,
    /// Operators used: schema where given, symbol.
    pub(super) operators: BTreeSet<(Option<String>, String)>,
    /// Those that were seen with a number only: no function of texts is theirs.
    pub(super) numeric: BTreeSet<String>,
    /// What names without a schema were found to be.
    found: BTreeSet<u64>,
    /// What is walked runs when something else does: a default, a view, a cursor.
    pub(super) later: bool,
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
    /// The relations of the database that the statement names, for a view that is made of it; `None`: one is not known.
    pub(super) stands_on: Option<BTreeSet<QualifiedName>>,
    /// The statement only reads: which relations the rows of its queries stand for is never asked.
    pub(super) only_reads: bool,
}

impl<'a> Walker<'a> {
    pub(super) fn new(catalog: &'a Catalog, working: &'a Working<'a>, kind: StatementKind) -> Self {
        Walker {
            catalog,
            working,
            out: StatementAnalysis::new(kind),
            seen: HashSet::default(),
            items: Vec::new(),
            scopes: Vec::new(),
            ctes: Vec::new(),
            flow: Carries::new(),
            tracker: None,
            depth: 0,
            visits: 0,
            budget: MAX_VISITS,
            handed_on: 0,
            in_or: false,
            recurs: false,
            views: 0,
            types: BTreeSet::new(),
            casts: BTreeSet::new(),
            operators: BTreeSet::new(),
            numeric: BTreeSet::new(),
            found: BTreeSet::new(),
            later: false,
            changes: Changes::default(),
            one_setting: None,
            into: Vec::new(),
            read_all: false,
            looked: Looked::default(),
            met: Met::default(),
            explains: false,
            sorts: false,
            stands_on: Some(BTreeSet::new()),
            only_reads: false,
        }
    }

    /// Allows for a text of this many bytes.
    pub(super) fn allow(&mut self, len: usize) {
        self.budget = MAX_VISITS.saturating_add(len.saturating_mul(2));
    }

    pub(super) fn ask(&mut self, action: Action, object: Object) {
        let operation = Operation { action, object };
        let asked = &mut self.out.operations;
        let known = if asked.len() < FEW {
            asked.contains(&operation)
        } else {
            if self.seen.is_empty() {
                self.seen.extend(asked.iter().cloned());
            }
            !self.seen.insert(operation.clone())
        };
        if !known {
            asked.push(operation);
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
        if self.out.effects.len() >= MAX_EFFECTS {
            self.too_much();
        } else if !self.out.effects.contains(&effect) {
            self.out.effects.push(effect);
        }
    }

    /// Runs `walk` one level deeper, or asks `unknown` if the statement nests too deep or is too large.
    pub(super) fn deeper<T: Default>(&mut self, walk: impl FnOnce(&mut Self) -> T) -> T {
        self.visits += 1;
        if self.is_too_much() {
            self.too_much();
            return T::default();
        }
        if self.depth >= MAX_WALK {
            self.unknown();
            return T::default();
        }
        self.depth += 1;
        let result = walk(self);
        self.depth -= 1;
        result
    }

    /// The statement is larger than what is analysed: no more of it is walked.
    pub(super) fn too_much(&mut self) {
        self.visits = self.budget;
        self.of_unknown_meaning();
    }

    fn is_too_much(&self) -> bool {
        self.visits >= self.budget
    }

    /// Makes room for so many columns more; false if they are too many.
    pub(super) fn hand_on(&mut self, columns: usize) -> bool {
        self.handed_on = self.handed_on.saturating_add(columns);
        if self.handed_on > MAX_HANDED_ON {
            self.too_much();
        }
        !self.is_too_much()
    }

    /// The same for what columns carry.
    fn hand_on_sources(&mut self, sources: usize) -> bool {
        self.hand_on(sources / FEW_SOURCES)
    }

    /// Makes room for so many columns in a result that has some; false if the server would not take them.
    pub(super) fn targets_fit(&mut self, known: usize, more: usize) -> bool {
        if known.saturating_add(more) > MAX_TARGETS {
            self.too_much();
            return false;
        }
        // One is made of a text of its own.
        self.hand_on(more.saturating_sub(1))
    }

    /// So many names are compared.
    pub(super) fn compare_names(&mut self, names: usize) {
        self.visits = self.visits.saturating_add(names / NAMES_PER_VISIT);
        if self.is_too_much() {
            self.too_much();
        }
    }

    /// A name is looked for in all visible columns.
    pub(super) fn look_up(&mut self) {
        let items = self.scopes.iter().flat_map(|scope| &scope.items);
        let names = items.map(|&at| self.items.get(at).map_or(1, |item| item.columns.len().max(1)));
        let outputs = self.scopes.iter().map(|scope| scope.outputs.len());
        let names = names.chain(outputs).sum();
        self.compare_names(names);
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
        if range.schemaname.is_empty() {
            self.found.insert(found_as(&range.relname, &named));
        }
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
            self.out.miss(super::clip(&format!("table {name}")));
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
        self.out.miss(super::clip(&format!("table {schema}.{name}")));
        Named::Missing {
            schema: schema.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Makes the FROM item of a relation and returns its place in the list.
    pub(super) fn relation_item(&mut self, range: &RangeVar) -> usize {
        let named = self.named(range);
        self.stand_on(&named);
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
                    carries.add(&temp.carries);
                    carries.extend(temp.column_carries.values().flatten().cloned());
                }
                self.hand_on_sources(carries.len());
                self.out.reads.add(&carries);
                Item {
                    names: vec![(Some(schema.as_str().into()), name.as_str().into())],
                    source: Source::Relation {
                        schema: schema.into(),
                        name: name.into(),
                    },
                    columns: Arc::default(),
                    open: true,
                    used: false,
                    read: 0,
                    mirrors: Arc::default(),
                    placed: false,
                    made_of: Arc::default(),
                }
            }
        };
        if renames(range.alias.as_ref()) && !self.hand_on(item.columns.len()) {
            item.columns = Arc::default();
            item.open = true;
        }
        apply_alias(&mut item, range.alias.as_ref());
        self.push_item(item)
    }

    /// Notes what a view that is made of the statement stands on.
    fn stand_on(&mut self, named: &Named<'_>) {
        let Some(known) = &mut self.stands_on else { return };
        match named {
            Named::Relation(relation) => {
                let (schema, name) = (relation.schema.clone(), relation.name.clone());
                known.insert(QualifiedName { schema, name });
            }
            Named::Temp(name) => {
                let temp = self.working.session.temp.get(name);
                match temp.and_then(|temp| temp.beneath.as_ref()) {
                    Some(beneath) => known.extend(beneath.iter().cloned()),
                    None => self.stands_on = None,
                }
            }
            Named::Missing { .. } => self.stands_on = None,
        }
    }

    pub(super) fn push_item(&mut self, item: Item) -> usize {
        self.items.push(item);
        self.items.len() - 1
    }

    /// Puts an item into the innermost scope.
    pub(super) fn bring(&mut self, at: usize) {
        let full = self
            .scopes
            .last()
            .is_some_and(|scope| scope.items.len() >= MAX_FROM);
        if full {
            self.too_much();
        } else if let Some(scope) = self.scopes.last_mut() {
            scope.items.push(at);
            scope.places_of_star.push(Places::Item(at));
        }
    }

    pub(super) fn temp_item(&mut self, name: &str) -> Item {
        self.ask_resource(Action::Temp);
        let temp = self.working.session.temp.get(name);
        let size = temp.map_or(0, |temp| {
            temp.columns
                .len()
                .saturating_mul(1 + temp.carries.len() / FEW_SOURCES)
        });
        let relation = temp.filter(|_| self.hand_on(size));
        let beneath = self.beneath_temp(name).unwrap_or_default();
        let of_system = beneath.iter().any(|relation| relation.is_system());
        let columns = relation.map(|relation| {
            let columns = relation.columns.iter().map(|column| {
                let id = ColumnId::new(TEMP_SCHEMA, name, column.clone());
                let as_is = relation.carries.is_empty() && relation.as_is.contains(column);
                let mut carries = relation.carries.clone();
                carries.extend(relation.column_carries.get(column).into_iter().flatten().cloned());
                carries.insert(id);
                let tells = relation.kind != RelationKind::View || of_system || as_is && carries.len() > 1;
                ItemColumn {
                    real: column.clone(),
                    tells: if tells { Tells::Rows } else { Tells::Nothing },
                    as_is,
                    // Of which places the values of a view are is not kept.
                    mixed: relation.kind == RelationKind::View && !as_is,
                    // What is in it can be the client's, or be made by the server.
                    generated: carries.len() == 1,
                    ..ItemColumn::derived(Some(column.clone()), carries)
                }
            });
            (columns.collect(), relation.operations.clone())
        });
        let view = relation.is_some_and(|relation| relation.kind == RelationKind::View);
        let (columns, operations): (Vec<ItemColumn>, _) = columns.unwrap_or_default();
        self.ask_all(&operations);
        // A function that a view calls may set what it likes of the session.
        if operations
            .iter()
            .any(|operation| operation.action == Action::Call)
        {
            self.effect(Effect::SessionSettingsChanged);
        }
        let mirrors = if self.only_reads {
            BTreeSet::new()
        } else {
            self.temp_mirrors(name, view)
        };
        Item {
            names: vec![(Some(TEMP_SCHEMA.into()), name.into())],
            source: Source::Temp,
            columns: Arc::new(columns),
            open: false,
            used: true,
            read: 0,
            mirrors: Arc::new(mirrors),
            placed: relation.is_some_and(|relation| relation.kind == RelationKind::Table),
            made_of: Arc::default(),
        }
    }

    /// Relations whose rows a temporary relation may show: those of any, where a view stands on what is not known.
    fn temp_mirrors(&self, name: &str, view: bool) -> BTreeSet<i64> {
        match self.beneath_temp(name) {
            Some(beneath) => beneath
                .iter()
                .flat_map(|relation| self.related(relation))
                .collect(),
            None if view => self.catalog.relations().map(|relation| relation.oid).collect(),
            None => BTreeSet::new(),
        }
    }

    pub(super) fn guarded_table(&mut self, schema: &str, name: &str) {
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
    pub(super) fn read_column(&mut self, item_at: usize, column: usize) {
        self.touch(item_at);
        let Some(item) = self.items.get(item_at) else {
            return;
        };
        let columns = item.columns.clone();
        let sources = columns.get(column).map_or(0, |column| column.carries.len());
        if sources > FEW_SOURCES && !self.hand_on_sources(sources) {
            return;
        }
        let Some(item) = self.items.get_mut(item_at) else {
            return;
        };
        let bit = u32::try_from(column)
            .ok()
            .and_then(|column| 1_u64.checked_shl(column))
            .unwrap_or(0);
        let again = item.read & bit != 0;
        item.read |= bit;
        let Some(column) = columns.get(column) else {
            return;
        };
        self.met.column = true;
        self.met.generated |= column.generated;
        self.flow.add(&column.carries);
        if again {
            return;
        }
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
                self.ask(Action::Read, Object::Column(id.clone()));
            }
        }
        if !column.type_name.is_empty() && !column.type_name.starts_with("pg_catalog.") {
            self.types.insert(element_type(&column.type_name));
        }
        self.out.reads.add(&column.carries);
    }

    /// Reads every column of an item.
    pub(super) fn read_whole(&mut self, item: usize) {
        let count = self.items.get(item).map_or(0, |item| item.columns.len());
        if !self.hand_on(count / FEW_SOURCES) {
            return;
        }
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

    /// A column's name could not be placed.
    pub(super) fn lost(&mut self, name: Option<&str>) {
        self.out.unresolved = true;
        if let Some(name) = name {
            self.out.miss(super::clip(&format!("column {name}")));
        }
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

    /// What [`StatementAnalysis::names`] is so far.
    pub(super) fn names_found(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.found.hash(&mut hasher);
        hasher.finish()
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
                output.carries.add(&flow);
                output.as_is = false;
            }
        }
        self.finish_domains();
        self.finish_operators();
        self.finish_casts();
        self.out
            .operations
            .sort_by_key(|operation| operation.action == Action::Read);
        self.out.names = self.names_found();
        self.out.summary = super::summary::summary(&self.out);
        self.out.literals_matter = self.looked.at_a_value() || !self.out.is_of_any_values();
        self.out
    }
}

fn found_as(name: &str, named: &Named<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    match named {
        Named::Temp(_) => 0_u8.hash(&mut hasher),
        Named::Relation(relation) => (1_u8, &relation.schema).hash(&mut hasher),
        Named::Missing { .. } => 2_u8.hash(&mut hasher),
    }
    hasher.finish()
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

/// Whether an alias renames columns: then they are no longer shared.
pub(super) fn renames(alias: Option<&Alias>) -> bool {
    alias.is_some_and(|alias| !alias.colnames.is_empty())
}

/// Renames an item and its first columns.
pub(super) fn apply_alias(item: &mut Item, alias: Option<&Alias>) {
    let Some(alias) = alias else { return };
    item.names = vec![(None, alias.aliasname.as_str().into())];
    if alias.colnames.is_empty() {
        return;
    }
    for (column, name) in Arc::make_mut(&mut item.columns).iter_mut().zip(&alias.colnames) {
        column.name = text_of(name).map(str::to_owned);
    }
}
