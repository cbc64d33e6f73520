//! SELECT: WITH, FROM, set operations, and the rows that come out.

mod cte;

use std::collections::BTreeSet;
use std::sync::Arc;

use pg_query::NodeEnum;
use pg_query::protobuf::{AExprKind, Alias, CoercionForm, Node, ResTarget, SelectStmt, SetOperation};

pub(super) use self::cte::Ctes;

use super::constants::{integer_constant, string_constant};
use super::limit::Tracker;
use super::names::{output_name, qualified, text_of};
use super::scope::{
    Carries, Item, ItemColumn, Output, Place, Places, Reference, Rows, Scope, Source, Tells, resolve,
};
use super::walker::{Named, Walker, apply_alias, renames};

impl Walker<'_> {
    /// Walks a query in the present scopes and returns its rows.
    pub(super) fn select(&mut self, select: &SelectStmt) -> Rows {
        self.deeper(|walker| {
            let outer = std::mem::take(&mut walker.flow);
            let rows = walker.select_here(select);
            walker.flow = outer;
            rows
        })
    }

    fn select_here(&mut self, select: &SelectStmt) -> Rows {
        // INTO makes a table; the statement sees to it.
        self.into.extend(select.into_clause.as_deref().cloned());
        let frames = self.with(select.with_clause.as_ref());
        let rows = match select.op() {
            SetOperation::SetopUnion | SetOperation::SetopIntersect | SetOperation::SetopExcept => {
                self.set_operation(select)
            }
            SetOperation::SetopNone if !select.values_lists.is_empty() => {
                let (mut rows, mirrors) = self.mirroring(|walker| walker.values(select));
                rows.mirrors.extend(mirrors);
                rows
            }
            SetOperation::SetopNone => self.plain_select(select),
            SetOperation::Undefined => {
                self.unknown();
                Rows::default()
            }
        };
        self.ctes.truncate(frames);
        rows
    }

    fn set_operation(&mut self, select: &SelectStmt) -> Rows {
        let (Some(left), Some(right)) = (select.larg.as_deref(), select.rarg.as_deref()) else {
            self.unknown();
            return Rows::default();
        };
        let recurs = std::mem::take(&mut self.recurs);
        let start = self.items.len();
        let mut rows = self.select(left);
        let middle = self.items.len();
        let other = self.select(right);
        merge(&mut rows, other);
        // `id < 3` of a table and `id >= 3` of the same: what limits each of two parts of a union does not limit it. The rows
        // of a recursion follow from each other.
        if select.op() == SetOperation::SetopUnion && !recurs {
            let tables = |items: Option<&[Item]>| -> BTreeSet<i64> {
                let items = items.unwrap_or_default().iter();
                items.flat_map(|item| item.mirrors.iter().copied()).collect()
            };
            let (one, two) = (
                tables(self.items.get(start..middle)),
                tables(self.items.get(middle..)),
            );
            rows.mirrors.extend(one.intersection(&two).copied());
        }
        if !(select.all && select.op() == SetOperation::SetopUnion) {
            self.told_apart(&rows);
        }
        self.tail_of(select, &rows);
        rows
    }

    fn values(&mut self, select: &SelectStmt) -> Rows {
        let mut rows = Rows::default();
        for list in &select.values_lists {
            let Some(NodeEnum::List(list)) = list.node.as_ref() else {
                self.unknown();
                continue;
            };
            for (at, value) in list.items.iter().enumerate() {
                let as_is = self.is_as_is(value);
                let mixed = self.is_mixed(value);
                let (flow, met) = self.meeting(|walker| walker.flow_of(|walker| walker.expr(value)));
                let name = Some(format!("column{}", at + 1));
                let column = ItemColumn {
                    mixed,
                    generated: met.generated || met.column && !as_is,
                    ..ItemColumn::derived_as_is(name, flow, as_is)
                };
                match rows.columns.get_mut(at) {
                    Some(own) => {
                        own.mixed |= is_mixed_with(own, &column);
                        own.as_is &= column.as_is;
                        own.generated |= column.generated;
                        own.carries.add(&column.carries);
                    }
                    None => rows.columns.push(column),
                }
            }
        }
        self.tail_of(select, &rows);
        rows
    }

    /// The same where only the output has names.
    fn tail_of(&mut self, select: &SelectStmt, rows: &Rows) {
        let mut scope = Scope::default();
        if !select.sort_clause.is_empty() {
            scope.outputs = outputs_of(rows);
        }
        self.scopes.push(scope);
        self.tail(select);
        self.scopes.pop();
    }

    fn plain_select(&mut self, select: &SelectStmt) -> Rows {
        self.scopes.push(Scope::default());
        for node in &select.from_clause {
            self.bring_from(node);
        }
        self.conditions(select.where_clause.as_deref());
        let setting = self.setting_of(select);
        let outer_setting = std::mem::replace(&mut self.one_setting, setting);
        let mut rows = self.targets(&select.target_list);
        self.one_setting = outer_setting;
        // Nothing else finds a column of the result by its name or place.
        let named = [
            &select.group_clause,
            &select.distinct_clause,
            &select.window_clause,
            &select.sort_clause,
        ];
        if let Some(scope) = self.scopes.last_mut()
            && (named.iter().any(|clause| !clause.is_empty()) || select.having_clause.is_some())
        {
            scope.outputs = outputs_of(&rows);
        }
        // DISTINCT ON gives its rows in the order of what it is on.
        let mut keys = Vec::new();
        select
            .group_clause
            .iter()
            .for_each(|node| group_keys(node, &mut keys));
        let groups = keys.into_iter().map(|node| (node, false));
        let distinct = select.distinct_clause.iter().map(|node| (node, true));
        for (node, sorts) in groups.chain(distinct) {
            if node.node.is_none() {
                self.told_apart(&rows);
                continue;
            }
            let mut bare = !sorts && self.is_bare(node) && !self.is_mixed(node);
            let flow = self.flow_of(|walker| bare &= walker.output_or_expr(node, sorts));
            self.tell(bare, flow);
        }
        self.conditions(select.having_clause.as_deref());
        for node in &select.window_clause {
            self.expr(node);
        }
        self.tail(select);
        for node in &select.locking_clause {
            match node.node.as_ref() {
                Some(NodeEnum::LockingClause(locking)) => {
                    for node in &select.from_clause {
                        self.lock_rows(node, &locking.locked_rels);
                    }
                }
                _ => self.unknown(),
            }
        }
        if !self.only_reads && !self.are_of_several(select) {
            let mirrors = self.mirrors(select.where_clause.as_deref(), &select.from_clause, &mut rows);
            rows.mirrors.extend(mirrors);
        }
        self.leave_scope();
        rows
    }

    /// Rows that are equal become one, or are matched: that tells which are. The server sorts for it, and the rows stay
    /// in that order.
    fn told_apart(&mut self, rows: &Rows) {
        for column in &rows.columns {
            self.tell(column.as_is && !column.mixed, column.carries.clone());
        }
    }

    /// ORDER BY, LIMIT and locking, which may use names of the output.
    fn tail(&mut self, select: &SelectStmt) {
        for node in &select.sort_clause {
            let Some(NodeEnum::SortBy(sort)) = node.node.as_ref() else {
                self.unknown();
                continue;
            };
            let flow = self.flow_of(|walker| {
                if let Some(node) = sort.node.as_deref() {
                    walker.output_or_expr(node, true);
                }
            });
            self.out.compared.add(&flow);
            if !sort.use_op.is_empty() {
                self.operator(&sort.use_op);
            }
        }
        self.steering(select.limit_offset.as_deref());
        self.steering(select.limit_count.as_deref());
    }

    /// FOR UPDATE and its like stop others from writing, and the server asks for the right to write: on the relations
    /// named, else on all of FROM, through subqueries as the server does it.
    fn lock_rows(&mut self, node: &Node, only: &[Node]) {
        let chosen = |alias: Option<&Alias>, name: &str| {
            let known = alias.map_or(name, |alias| alias.aliasname.as_str());
            let named = |node: &Node| match node.node.as_ref() {
                Some(NodeEnum::RangeVar(range)) => range.relname == known,
                _ => true,
            };
            only.is_empty() || only.iter().any(named)
        };
        self.deeper(|walker| match node.node.as_ref() {
            Some(NodeEnum::RangeVar(range)) => {
                let cte = range.schemaname.is_empty() && walker.find_cte(&range.relname).is_some();
                if !cte && chosen(range.alias.as_ref(), &range.relname) {
                    walker.write(Some(range), true);
                }
            }
            Some(NodeEnum::JoinExpr(join)) => {
                let inner = match &join.alias {
                    Some(_) if chosen(join.alias.as_ref(), "") => &[],
                    _ => only,
                };
                for side in [join.larg.as_deref(), join.rarg.as_deref()].into_iter().flatten() {
                    walker.lock_rows(side, inner);
                }
            }
            Some(NodeEnum::RangeSubselect(subselect)) if chosen(subselect.alias.as_ref(), "") => {
                match subselect.subquery.as_deref().and_then(|node| node.node.as_ref()) {
                    Some(NodeEnum::SelectStmt(select)) => {
                        for node in &select.from_clause {
                            walker.lock_rows(node, &[]);
                        }
                    }
                    _ => walker.unknown(),
                }
            }
            Some(NodeEnum::RangeTableSample(sample)) => {
                if let Some(relation) = sample.relation.as_deref() {
                    walker.lock_rows(relation, only);
                }
            }
            // Functions and the like have no rows to lock.
            _ => {}
        });
    }

    /// The setting, if the query reads only its row: `FROM pg_settings WHERE name = 'x'`, as pg_dump asks.
    fn setting_of(&mut self, select: &SelectStmt) -> Option<String> {
        let [from] = select.from_clause.as_slice() else {
            return None;
        };
        let Some(NodeEnum::RangeVar(range)) = from.node.as_ref() else {
            return None;
        };
        let cte = range.schemaname.is_empty() && self.find_cte(&range.relname).is_some();
        if cte || range.relname != "pg_settings" || range.alias.is_some() {
            return None;
        }
        match self.named(range) {
            Named::Relation(relation) if relation.schema == "pg_catalog" => {}
            _ => return None,
        }
        let Some(NodeEnum::AExpr(expr)) = select.where_clause.as_deref()?.node.as_ref() else {
            return None;
        };
        let equal = expr.kind() == AExprKind::AexprOp
            && matches!(qualified(&expr.name), Some((None | Some("pg_catalog"), "=")));
        match (expr.lexpr.as_deref(), expr.rexpr.as_deref()) {
            (Some(left), Some(right)) if equal && is_name_column(left) => {
                string_constant(right, &self.looked).map(str::to_owned)
            }
            _ => None,
        }
    }

    /// A sort or group key: a bare name may be an output column, a number always is one. GROUP BY alone prefers a column
    /// of its own FROM, but none further out (`findTargetlistEntrySQL92` of `parse_clause.c`). Whether the output column,
    /// where it is one, is a column's value as it is.
    fn output_or_expr(&mut self, node: &Node, prefer_output: bool) -> bool {
        if let Some(NodeEnum::ColumnRef(reference)) = node.node.as_ref()
            && let [name] = reference.fields.as_slice()
            && let Some(name) = text_of(name)
            && let Some(output) = self.scopes.last().and_then(|scope| scope.output(name))
        {
            let items = self.scopes.last().map_or(&[][..], |scope| scope.items.as_slice());
            let of = |at: &usize| self.items.get(*at);
            let own = items
                .iter()
                .filter_map(of)
                .any(|item| item.positions(name).next().is_some());
            let open = items.iter().filter_map(of).any(|item| item.open);
            if prefer_output || !own {
                self.look_up();
                self.flow.add(&output.carries);
                if open && !prefer_output {
                    self.expr(node);
                }
                return output.alone;
            }
        }
        if let Some(NodeEnum::AConst(constant)) = node.node.as_ref() {
            let place =
                integer_constant(constant, &self.looked).and_then(|number| usize::try_from(number).ok());
            let places = self
                .scopes
                .last()
                .map(|scope| scope.outputs.as_slice())
                .unwrap_or_default();
            let output = place.and_then(|place| places.get(place.checked_sub(1)?)).cloned();
            let output = output.unwrap_or_default();
            self.flow.add(&output.carries);
            return output.alone;
        }
        self.expr(node);
        true
    }

    /// A target list or RETURNING list. A value that is made of all rows of a table stands for them.
    pub(super) fn targets(&mut self, targets: &[Node]) -> Rows {
        if self.only_reads {
            return self.targets_here(targets);
        }
        let (mut rows, mirrors) = self.mirroring(|walker| walker.targets_here(targets));
        rows.mirrors.extend(mirrors);
        rows
    }

    /// Walks values, and tells which relations all of whose rows subqueries in them may be made of.
    fn mirroring<T>(&mut self, walk: impl FnOnce(&mut Self) -> T) -> (T, BTreeSet<i64>) {
        let outer = self.tracker.replace(Tracker::default());
        let walked = walk(self);
        let inner = std::mem::replace(&mut self.tracker, outer).unwrap_or_default();
        if let Some(tracker) = &mut self.tracker {
            tracker.items.extend(inner.items);
            tracker.mirrors.extend(inner.mirrors.iter().copied());
        }
        (walked, inner.mirrors)
    }

    fn targets_here(&mut self, targets: &[Node]) -> Rows {
        let mut rows = Rows::default();
        let mut misplaced = false;
        for node in targets {
            let Some(NodeEnum::ResTarget(target)) = node.node.as_ref() else {
                self.unknown();
                continue;
            };
            if let Some((star, qualified)) = self.star(target) {
                for &item in &star {
                    self.read_whole(item);
                    rows.open |= self.items.get(item).is_some_and(|item| item.open);
                }
                if !self.star_fits(&star, qualified, rows.columns.len()) {
                    rows.open = true;
                    return rows;
                }
                let scope = self.scopes.last();
                let places = if qualified {
                    misplaced |= star.len() > 1 && self.scopes.iter().any(|scope| scope.merged);
                    let columns = |item: &usize| {
                        let count = self.items.get(*item).map_or(0, |item| item.columns.len());
                        let item = *item;
                        (0..count).map(move |column| Place::of(item, column))
                    };
                    star.iter().flat_map(columns).collect()
                } else {
                    misplaced |= scope.is_some_and(|scope| scope.misplaced);
                    scope
                        .map(|scope| Place::all(&scope.places_of_star, &self.items))
                        .unwrap_or_default()
                };
                rows.columns
                    .extend(places.iter().map(|place| self.column_at(place)));
                continue;
            }
            if !self.targets_fit(rows.columns.len(), 1) {
                rows.open = true;
                return rows;
            }
            if let Some(column) = self.bare_target(target) {
                rows.columns.push(column);
                continue;
            }
            let as_is = target.val.as_deref().is_some_and(|value| self.is_as_is(value));
            let mixed = target.val.as_deref().is_some_and(|value| self.is_mixed(value));
            let type_name = target.val.as_deref().map(|value| self.type_of(value));
            let (flow, met) =
                self.meeting(|walker| walker.flow_of(|walker| walker.exprs(target.val.as_deref())));
            let name = output_name(target, self.catalog.server_version);
            // It may be found by a name that is not known here.
            rows.open |= name.is_none() && !flow.is_empty();
            if self.is_row_star(target) {
                rows.open = true;
            }
            let tells = target.val.as_deref().map(|value| self.value_tells(value));
            rows.columns.push(ItemColumn {
                type_name: type_name.unwrap_or_default(),
                tells: tells.unwrap_or_default(),
                mixed,
                generated: met.generated || met.column && !as_is,
                ..ItemColumn::derived_as_is(name, flow, as_is)
            });
        }
        if misplaced {
            // Which place has which column is not followed here: each may be any.
            let all: Carries = rows
                .columns
                .iter()
                .flat_map(|column| column.carries.iter().cloned())
                .collect();
            for column in &mut rows.columns {
                column.carries.clone_from(&all);
                column.as_is = all.is_empty();
                column.mixed = true;
            }
            rows.open = true;
        }
        rows
    }

    /// Whether the columns that a star stands for are no more than the server takes; told before any is made.
    fn star_fits(&mut self, star: &[usize], qualified: bool, known: usize) -> bool {
        let count = |item: &usize| self.items.get(*item).map_or(0, |item| item.columns.len());
        let of_places = |places: &Places| match places {
            Places::Item(item) => count(item),
            Places::One(_) => 1,
        };
        let more = match self.scopes.last() {
            Some(scope) if !qualified => scope.places_of_star.iter().map(of_places).sum(),
            _ => star.iter().map(count).sum(),
        };
        self.targets_fit(known, more)
    }

    /// A target that is no more than a name, which is looked up once.
    fn bare_target(&mut self, target: &ResTarget) -> Option<ItemColumn> {
        let Some(NodeEnum::ColumnRef(reference)) = target.val.as_deref()?.node.as_ref() else {
            return None;
        };
        let (qualifier, name) = super::expr::split(reference)?;
        self.look_up();
        let found = resolve(&self.items, &self.scopes, qualifier, name);
        if !matches!(found, Reference::Columns(_)) {
            return None;
        }
        let as_is = self.is_value_of_columns(&found);
        let mixed = self.is_mixed_value(&found);
        let type_name = self.type_of_columns(&found);
        let (flow, met) = self.meeting(|walker| {
            walker.flow_of(|walker| walker.deeper(|walker| walker.referred(&found, qualifier, name)))
        });
        let tells = target.val.as_deref().map(|value| self.value_tells(value));
        Some(ItemColumn {
            type_name,
            tells: tells.unwrap_or_default(),
            mixed,
            generated: met.generated || met.column && !as_is,
            ..ItemColumn::derived_as_is(output_name(target, self.catalog.server_version), flow, as_is)
        })
    }

    /// The items that a `*` stands for, and whether it has a qualifier.
    pub(super) fn star(&mut self, target: &ResTarget) -> Option<(Vec<usize>, bool)> {
        let Some(NodeEnum::ColumnRef(reference)) = target.val.as_deref()?.node.as_ref() else {
            return None;
        };
        if !matches!(reference.fields.last()?.node, Some(NodeEnum::AStar(_))) {
            return None;
        }
        let qualified = reference.fields.len() > 1;
        Some((self.star_items(reference), qualified)).filter(|(items, _)| !items.is_empty())
    }

    /// `(row).*` becomes several columns, or `x.*` of a composite.
    fn is_row_star(&self, target: &ResTarget) -> bool {
        let last = match target.val.as_deref().and_then(|value| value.node.as_ref()) {
            Some(NodeEnum::AIndirection(indirection)) => indirection.indirection.last(),
            Some(NodeEnum::ColumnRef(reference)) => reference.fields.last(),
            _ => None,
        };
        last.is_some_and(|last| matches!(last.node, Some(NodeEnum::AStar(_))))
    }

    /// Makes a FROM item of rows.
    pub(super) fn derived_item(&mut self, rows: Rows, name: Option<&str>) -> usize {
        self.push_item(Item {
            names: name.map(|name| (None, name.into())).into_iter().collect(),
            source: Source::Derived,
            columns: Arc::new(rows.columns),
            open: rows.open,
            used: true,
            read: 0,
            mirrors: Arc::new(rows.mirrors),
            placed: false,
            made_of: Arc::default(),
        })
    }

    pub(super) fn aliased(&mut self, at: usize, alias: Option<&Alias>) {
        let columns = self.items.get(at).map_or(0, |item| item.columns.len());
        if renames(alias) && !self.hand_on(columns) {
            return;
        }
        if let Some(item) = self.items.get_mut(at) {
            apply_alias(item, alias);
        }
    }

    /// Relations all of whose rows may come out of this scope, since no predicate limits them.
    /// Where more than one item is not limited, a column tells nothing of the rows of the others.
    pub(super) fn mirrors(
        &mut self,
        condition: Option<&Node>,
        from: &[Node],
        rows: &mut Rows,
    ) -> BTreeSet<i64> {
        let items = self
            .scopes
            .last()
            .map(|scope| scope.items.clone())
            .unwrap_or_default();
        let (mut mirrors, mut all) = (BTreeSet::new(), 0);
        for item in items {
            let Some(own) = self.items.get(item).map(|item| item.mirrors.clone()) else {
                continue;
            };
            if own.is_empty() || all > 1 && own.is_subset(&mirrors) {
                continue;
            }
            if !self.bounds(condition, from, item) {
                mirrors.extend(own.iter().copied());
                all += 1;
            }
        }
        if all > 1 {
            for column in &mut rows.columns {
                column.tells = Tells::Nothing;
            }
        }
        mirrors
    }
}

fn outputs_of(rows: &Rows) -> Vec<Output> {
    let output = |column: &ItemColumn| Output {
        name: column.name.clone(),
        carries: column.carries.clone(),
        alone: column.as_is && !column.mixed,
    };
    rows.columns.iter().map(output).collect()
}

/// The keys of GROUP BY, of grouping sets as well.
fn group_keys<'n>(node: &'n Node, keys: &mut Vec<&'n Node>) {
    let mut open = vec![node];
    while let Some(node) = open.pop() {
        match node.node.as_ref() {
            Some(NodeEnum::GroupingSet(set)) => open.extend(set.content.iter().rev()),
            Some(NodeEnum::List(list)) => open.extend(list.items.iter().rev()),
            Some(NodeEnum::RowExpr(row)) if row.row_format() == CoercionForm::CoerceImplicitCast => {
                open.extend(row.args.iter().rev());
            }
            _ => keys.push(node),
        }
    }
}

/// Whether values of two columns in one come from different places. What is made of a value in two ways is, too: of
/// `'e' || left(email, 0)` nothing is left but what was put before it.
fn is_mixed_with(one: &ItemColumn, other: &ItemColumn) -> bool {
    let made = !one.as_is || !other.as_is;
    one.mixed || other.mixed || made || one.carries != other.carries
}

/// The rows of two queries together: names of the first, what either carries.
fn merge(rows: &mut Rows, other: Rows) {
    for (at, column) in other.columns.into_iter().enumerate() {
        match rows.columns.get_mut(at) {
            Some(own) => {
                own.mixed |= is_mixed_with(own, &column);
                own.as_is &= column.as_is;
                own.generated |= column.generated;
                own.carries.add(&column.carries);
                if own.tells != column.tells {
                    own.tells = Tells::Nothing;
                }
            }
            None => rows.columns.push(column),
        }
    }
    rows.open |= other.open;
    rows.mirrors.extend(other.mirrors);
}

/// The bare column `name`.
pub(super) fn is_name_column(node: &Node) -> bool {
    match node.node.as_ref() {
        Some(NodeEnum::ColumnRef(reference)) => {
            matches!(reference.fields.as_slice(), [field] if text_of(field) == Some("name"))
        }
        _ => false,
    }
}
