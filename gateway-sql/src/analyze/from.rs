//! Items of a FROM clause.

use std::collections::BTreeSet;
use std::sync::Arc;

use pg_query::NodeEnum;
use pg_query::protobuf::{
    Alias, JoinExpr, JoinType, Node, RangeFunction, RangeTableFunc, RangeTableSample, RangeVar,
};

use super::calls::Callee;
use super::limit::Tracker;
use super::names::{qualified, text_of, value_name};
use super::scope::{Carries, Item, ItemColumn, Place, Places, Rows, Source, Tells};
use super::walker::Walker;
use crate::functions::out_columns;

impl Walker<'_> {
    /// Walks one FROM item and puts what it brings into the innermost scope.
    pub(super) fn bring_from(&mut self, node: &Node) {
        // What stands on both sides of a join is seen to by itself.
        let whole = matches!(
            node.node,
            Some(NodeEnum::RangeVar(_) | NodeEnum::JoinExpr(_) | NodeEnum::RangeTableSample(_))
        );
        if whole || self.only_reads {
            self.bring_item(node);
            return;
        }
        let known = self.items.len();
        let before = self.scopes.last().map_or(0, |scope| scope.items.len());
        let outer = self.tracker.replace(Tracker::default());
        self.bring_item(node);
        let inner = std::mem::replace(&mut self.tracker, outer).unwrap_or_default();
        let mut made_of = BTreeSet::new();
        for &at in inner.items.range(..known) {
            made_of.insert(at);
            made_of.extend(self.items.get(at).iter().flat_map(|item| item.made_of.iter()));
        }
        if let Some(tracker) = &mut self.tracker {
            tracker.items.extend(inner.items);
            tracker.mirrors.extend(inner.mirrors.iter().copied());
        }
        // Rows of a query tell themselves what they stand for.
        let mirrors = match node.node {
            Some(NodeEnum::RangeSubselect(_)) => BTreeSet::new(),
            _ => inner.mirrors,
        };
        if made_of.is_empty() && mirrors.is_empty() {
            return;
        }
        let made_of = Arc::new(made_of);
        let brought = self.scopes.last().and_then(|scope| scope.items.get(before..));
        for at in brought.unwrap_or_default().to_vec() {
            if let Some(item) = self.items.get_mut(at) {
                item.made_of = made_of.clone();
                if !mirrors.is_empty() {
                    Arc::make_mut(&mut item.mirrors).extend(mirrors.iter().copied());
                }
            }
        }
    }

    fn bring_item(&mut self, node: &Node) {
        self.deeper(|walker| match node.node.as_ref() {
            Some(NodeEnum::RangeVar(range)) => walker.range_var(range),
            Some(NodeEnum::RangeSubselect(subselect)) => {
                let rows = match subselect.subquery.as_deref().and_then(|node| node.node.as_ref()) {
                    Some(NodeEnum::SelectStmt(select)) if subselect.lateral => walker.select(select),
                    Some(NodeEnum::SelectStmt(select)) => {
                        walker.seeing(Vec::new(), |walker| walker.select(select))
                    }
                    _ => {
                        walker.unknown();
                        Rows::default()
                    }
                };
                walker.bring_rows(rows, subselect.alias.as_ref());
            }
            Some(NodeEnum::RangeFunction(function)) => walker.range_function(function),
            Some(NodeEnum::RangeTableFunc(function)) => walker.xml_table(function),
            Some(NodeEnum::JsonTable(table)) => walker.json_table(table),
            Some(NodeEnum::RangeTableSample(sample)) => walker.sample(sample),
            Some(NodeEnum::JoinExpr(join)) => walker.join(join),
            _ => walker.unknown(),
        });
    }

    /// Walks what sees only these items of the innermost FROM so far: what has the name of another one in it is something
    /// further out. A subquery that is not LATERAL sees none of its neighbours, a join's condition the join's two sides.
    fn seeing<T>(&mut self, items: Vec<usize>, walk: impl FnOnce(&mut Self) -> T) -> T {
        let all = self
            .scopes
            .last_mut()
            .map(|scope| std::mem::replace(&mut scope.items, items));
        let found = walk(self);
        if let (Some(scope), Some(all)) = (self.scopes.last_mut(), all) {
            scope.items = all;
        }
        found
    }

    fn range_var(&mut self, range: &RangeVar) {
        if range.schemaname.is_empty()
            && let Some(columns) = self.find_cte(&range.relname).map(|rows| rows.columns.len())
        {
            let fits = self.hand_on(columns);
            let rows = self.find_cte(&range.relname).filter(|_| fits).cloned();
            let rows = rows.unwrap_or_else(|| Rows {
                open: true,
                ..Rows::default()
            });
            let at = self.derived_item(rows, Some(&range.relname));
            self.aliased(at, range.alias.as_ref());
            self.bring(at);
            return;
        }
        let at = self.relation_item(range);
        self.bring(at);
    }

    fn bring_rows(&mut self, rows: Rows, alias: Option<&Alias>) {
        let at = self.derived_item(rows, None);
        self.aliased(at, alias);
        self.bring(at);
    }

    fn range_function(&mut self, range: &RangeFunction) {
        let mut rows = Rows::default();
        let alias = range.alias.as_ref();
        for node in &range.functions {
            let Some(NodeEnum::List(list)) = node.node.as_ref() else {
                self.unknown();
                continue;
            };
            let (call, definitions) = match list.items.as_slice() {
                [call] => (call, None),
                [call, definitions] => (call, Some(definitions)),
                _ => {
                    self.unknown();
                    continue;
                }
            };
            let flow = self.flow_of(|walker| walker.expr(call));
            let definitions = definitions.map_or(&[][..], |node| match node.node.as_ref() {
                Some(NodeEnum::List(list)) => list.items.as_slice(),
                _ => &[],
            });
            let definitions = if definitions.is_empty() {
                range.coldeflist.as_slice()
            } else {
                definitions
            };
            // Of several functions each column is called like its own.
            let alias = alias.filter(|_| range.functions.len() == 1);
            self.function_columns(call, definitions, (alias, range.ordinality), &flow, &mut rows);
        }
        if range.ordinality {
            rows.columns
                .push(ItemColumn::derived(Some("ordinality".to_owned()), Carries::new()));
        }
        let fallback = range.functions.first().and_then(function_name);
        let at = self.derived_item(rows, fallback);
        self.aliased(at, alias);
        self.bring(at);
    }

    /// The columns that a function in FROM has.
    fn function_columns(
        &mut self,
        call: &Node,
        definitions: &[Node],
        (alias, ordinality): (Option<&Alias>, bool),
        flow: &Carries,
        rows: &mut Rows,
    ) {
        let as_is = self.is_as_is(call);
        let own_name = value_name(call, self.catalog.server_version);
        // `unnest(ARRAY['a', 'b'])` is a list that is written out.
        let listed = match call.node.as_ref() {
            Some(NodeEnum::FuncCall(function)) => {
                let name = qualified(&function.funcname);
                matches!(name, Some((None | Some("pg_catalog"), "unnest")))
                    && function.args.iter().all(super::expr::bare_or_list)
                    && flow.is_empty()
            }
            _ => false,
        };
        let mut add = |name: Option<&str>| {
            let name = name.map(str::to_owned);
            rows.columns.push(ItemColumn {
                generated: !listed,
                mixed: !as_is && !flow.is_empty(),
                ..ItemColumn::derived_as_is(name, flow.clone(), as_is)
            });
        };
        if !definitions.is_empty() {
            for definition in definitions {
                if let Some(NodeEnum::ColumnDef(column)) = definition.node.as_ref() {
                    add(Some(&column.colname));
                    self.cast_to(column.type_name.as_ref());
                }
            }
            return;
        }
        let Some(NodeEnum::FuncCall(function)) = call.node.as_ref() else {
            // A value (CURRENT_USER, a cast): one column.
            let name = alias.map(|alias| alias.aliasname.clone()).or(own_name);
            add(name.as_deref());
            return;
        };
        let Some((schema, name)) = qualified(&function.funcname) else {
            return;
        };
        let mut names: Vec<String> = Vec::new();
        let mut open = false;
        let callees = self.callees(schema, name, None);
        for callee in &callees {
            match callee {
                // Its OUT columns are those of a tsvector; of arrays it is one column.
                Callee::Builtin(name) if name == "unnest" => {}
                Callee::Builtin(name) => names.extend(out_columns(name).iter().map(|&name| name.to_owned())),
                Callee::User(function) => {
                    for function in self.catalog.functions(&function.schema, &function.name) {
                        open |= function.unreadable.is_some();
                        names.extend(function.returns.iter().flatten().cloned());
                        if let Some(relation) = function.returns_relation {
                            match self.catalog.relation_by_oid(relation) {
                                Some(relation) => {
                                    open |= relation.unreadable.is_some();
                                    names.extend(relation.columns.iter().map(|column| column.name.clone()));
                                }
                                None => open = true,
                            }
                        }
                    }
                }
            }
        }
        if callees.is_empty() || name == "unnest" && function.args.len() > 1 {
            open = true;
        }
        if matches!(
            name,
            "json_populate_record"
                | "jsonb_populate_record"
                | "json_populate_recordset"
                | "jsonb_populate_recordset"
                | "unnest"
        ) {
            // Columns of the argument's type.
            names.extend(self.row_type_columns(function.args.first()));
        }
        names.dedup();
        if names.is_empty() {
            names.push(alias.map_or(name, |alias| alias.aliasname.as_str()).to_owned());
        }
        // The last name is that of the number, where there is one.
        let named = alias.map_or(0, |alias| alias.colnames.len());
        for _ in names.len()..named.saturating_sub(usize::from(ordinality)) {
            names.push(String::new());
        }
        if !self.hand_on(names.len()) {
            rows.open = true;
            return;
        }
        for name in &names {
            add(Some(name));
        }
        rows.open |= open && alias.is_none_or(|alias| alias.colnames.is_empty());
    }

    /// Columns of the composite type that an argument is cast to.
    fn row_type_columns(&mut self, arg: Option<&Node>) -> Vec<String> {
        let Some(NodeEnum::TypeCast(cast)) = arg.and_then(|arg| arg.node.as_ref()) else {
            return Vec::new();
        };
        let Some((schema, name)) = cast.type_name.as_ref().and_then(super::names::type_name) else {
            return Vec::new();
        };
        let mut schemas: Vec<&str> = schema.into_iter().collect();
        if schema.is_none() {
            schemas.extend(self.working.session.search_path.iter().map(String::as_str));
        }
        let relation = schemas
            .iter()
            .find_map(|schema| self.catalog.relation(schema, name));
        if relation.is_some_and(|relation| relation.unreadable.is_some()) {
            self.of_unknown_meaning();
        }
        relation
            .map(|relation| {
                relation
                    .columns
                    .iter()
                    .map(|column| column.name.clone())
                    .collect()
            })
            .unwrap_or_default()
    }

    fn xml_table(&mut self, table: &RangeTableFunc) {
        let mut rows = Rows::default();
        let flow = self.flow_of(|walker| {
            walker.exprs(table.docexpr.as_deref());
            walker.exprs(table.rowexpr.as_deref());
            walker.exprs(&table.namespaces);
            for node in &table.columns {
                match node.node.as_ref() {
                    Some(NodeEnum::RangeTableFuncCol(column)) => {
                        walker.exprs(column.colexpr.as_deref());
                        walker.exprs(column.coldefexpr.as_deref());
                        walker.cast_to(column.type_name.as_ref());
                        rows.columns
                            .push(ItemColumn::derived(Some(column.colname.clone()), Carries::new()));
                    }
                    _ => walker.unknown(),
                }
            }
        });
        // How many rows there are is what the path says of the document.
        self.out.compared.add(&flow);
        for column in &mut rows.columns {
            column.carries.clone_from(&flow);
            column.generated = true;
            column.mixed = true;
        }
        self.bring_rows(rows, table.alias.as_ref());
    }

    fn json_table(&mut self, table: &pg_query::protobuf::JsonTable) {
        self.once_a_name("json_table", super::expr::JSON_FUNCTIONS);
        let mut names = Vec::new();
        let flow = self.flow_of(|walker| {
            walker.json_value(table.context_item.as_deref());
            walker.exprs(&table.passing);
            walker.exprs(table.pathspec.as_deref().and_then(|path| path.string.as_deref()));
            walker.json_behavior(table.on_error.as_deref());
            walker.json_columns(&table.columns, &mut names);
        });
        self.out.compared.add(&flow);
        let columns = names
            .into_iter()
            .map(|name| ItemColumn {
                generated: true,
                mixed: true,
                ..ItemColumn::derived(Some(name), flow.clone())
            })
            .collect();
        self.bring_rows(
            Rows {
                columns,
                ..Rows::default()
            },
            table.alias.as_ref(),
        );
    }

    fn json_columns(&mut self, columns: &[Node], names: &mut Vec<String>) {
        self.deeper(|walker| {
            for node in columns {
                match node.node.as_ref() {
                    Some(NodeEnum::JsonTableColumn(column)) => {
                        walker.json_behavior(column.on_empty.as_deref());
                        walker.json_behavior(column.on_error.as_deref());
                        walker.exprs(column.pathspec.as_deref().and_then(|path| path.string.as_deref()));
                        walker.cast_to(column.type_name.as_ref());
                        if column.columns.is_empty() {
                            names.push(column.name.clone());
                        }
                        walker.json_columns(&column.columns, names);
                    }
                    _ => walker.unknown(),
                }
            }
        });
    }

    fn sample(&mut self, sample: &RangeTableSample) {
        if let Some(relation) = sample.relation.as_deref() {
            self.bring_from(relation);
        }
        match qualified(&sample.method) {
            Some((None | Some("pg_catalog"), "bernoulli" | "system")) => {}
            Some((schema, name)) => {
                self.call_found(schema, name, 1);
            }
            None => self.unknown(),
        }
        self.seeing(Vec::new(), |walker| {
            walker.steering(&sample.args);
            walker.steering(sample.repeatable.as_deref());
        });
    }

    fn join(&mut self, join: &JoinExpr) {
        let sizes = |walker: &Self| {
            let scope = walker.scopes.last();
            scope.map_or((0, 0), |scope| (scope.items.len(), scope.places_of_star.len()))
        };
        let (start, first_place) = sizes(self);
        if let Some(left) = join.larg.as_deref() {
            self.bring_from(left);
        }
        let (middle, middle_place) = sizes(self);
        if let Some(right) = join.rarg.as_deref() {
            self.bring_from(right);
        }
        let items = self
            .scopes
            .last()
            .map(|scope| scope.items.clone())
            .unwrap_or_default();
        let left = items.get(start..middle).unwrap_or_default().to_vec();
        let right = items.get(middle..).unwrap_or_default().to_vec();
        let mut shared: Vec<String> = join
            .using_clause
            .iter()
            .filter_map(text_of)
            .map(str::to_owned)
            .collect();
        if join.is_natural {
            let names = |walker: &Self, items: &[usize]| -> Vec<String> {
                let columns = items
                    .iter()
                    .filter_map(|&at| walker.items.get(at))
                    .flat_map(|item| item.columns.iter());
                columns.filter_map(|column| column.name.clone()).collect()
            };
            let right_names = names(self, &right);
            let left_names = names(self, &left);
            self.compare_names(left_names.len().saturating_mul(right_names.len()));
            let both = left_names.into_iter().filter(|name| right_names.contains(name));
            shared.extend(both);
        }
        let places = [&left, &right].into_iter().flatten().map(|&at| {
            let item = self.items.get(at);
            item.map_or(0, |item| item.columns.len())
        });
        let places: usize = places.sum();
        self.compare_names(places.saturating_mul(shared.len()));
        if !shared.is_empty() && self.hand_on(places / 4) {
            self.operators.insert((None, "=".to_owned()));
            self.merge_places(&shared, first_place, middle_place);
        }
        // The rows of both sides come out sorted by what they are joined on, those that match nothing too.
        let full = join.jointype() == JoinType::JoinFull;
        let mut merged = Vec::new();
        for name in shared {
            let as_is = left.iter().chain(&right).all(|&item| {
                self.items.get(item).is_none_or(|item| {
                    let mut columns = item.positions(&name).filter_map(|at| item.columns.get(at));
                    columns.all(|column| column.as_is)
                })
            });
            let carries = self.flow_of(|walker| {
                for &item in left.iter().chain(&right) {
                    let columns: Vec<usize> = walker
                        .items
                        .get(item)
                        .map(|item| item.positions(&name).collect())
                        .unwrap_or_default();
                    for column in columns {
                        walker.read_column(item, column);
                    }
                    if walker.items.get(item).is_some_and(|item| item.open) {
                        walker.read_whole(item);
                    }
                }
            });
            let generated = left.iter().chain(&right).any(|&item| {
                self.items.get(item).is_some_and(|item| {
                    let mut columns = item.positions(&name).filter_map(|at| item.columns.get(at));
                    columns.any(|column| column.generated)
                })
            });
            self.tell(as_is && !full && !generated, carries.clone());
            merged.push(ItemColumn::derived_as_is(Some(name), carries, as_is));
        }
        let both: Vec<usize> = left.iter().chain(&right).copied().collect();
        let outer = self.sorts;
        self.sorts |= full;
        self.seeing(both, |walker| walker.conditions(join.quals.as_deref()));
        self.sorts = outer;
        if let Some(alias) = &join.join_using_alias {
            let at = self.derived_item(
                Rows {
                    columns: merged,
                    ..Rows::default()
                },
                Some(&alias.aliasname),
            );
            self.stands_for(at, left.iter().chain(&right));
            // It answers to its alias only: unqualified names and `*` find the columns on both sides anyway.
            if let Some(scope) = self.scopes.last_mut() {
                scope.items.push(at);
            }
        }
        if let Some(alias) = &join.alias {
            self.alias_join(start, first_place, alias);
        }
    }

    /// The places of a join that makes one of the columns of these names: they stand first, then the others of the left
    /// side, then those of the right (PostgreSQL documentation, 7.2.1.1 Joined Tables).
    fn merge_places(&mut self, shared: &[String], first: usize, middle: usize) {
        let items = &self.items;
        let Some(scope) = self.scopes.last_mut() else {
            return;
        };
        scope.merged = true;
        let of = |at: &(usize, usize)| items.get(at.0).and_then(|item| item.columns.get(at.1));
        let named = |place: &Place, name: &str| {
            let column = of(&place.first);
            column.is_some_and(|column| column.name.as_deref() == Some(name))
        };
        let open = |item: &usize| items.get(*item).is_none_or(|item| item.open);
        let mut split = |at: usize| {
            let runs = scope.places_of_star.split_off(at.min(scope.places_of_star.len()));
            Place::all(&runs, items)
        };
        let (mut right, mut left) = (split(middle), split(first));
        scope.misplaced |= scope.items.iter().any(open);
        for name in shared {
            let places = [&mut left, &mut right].map(|side| {
                let at = side.iter().position(|place| named(place, name))?;
                Some(side.remove(at))
            });
            match places {
                [Some(mut one), Some(other)] => {
                    one.more.extend(other.columns());
                    scope.places_of_star.push(Places::One(one));
                }
                // The server refuses it, or knows a column that is not known here.
                _ => scope.misplaced = true,
            }
        }
        scope
            .places_of_star
            .extend(left.into_iter().chain(right).map(Places::One));
    }

    /// `(a JOIN b ...) AS j`: the alias hides the names inside, and its columns are those of the join, renamed.
    fn alias_join(&mut self, start: usize, first_place: usize, alias: &Alias) {
        let Some(scope) = self.scopes.last() else { return };
        let inner = scope.items.get(start..).unwrap_or_default().to_vec();
        let columns = inner.iter().filter_map(|&at| self.items.get(at));
        let columns = columns.map(|item| item.columns.len()).sum();
        if !self.hand_on(columns) {
            return;
        }
        let Some(scope) = self.scopes.last() else { return };
        let runs = scope.places_of_star.get(first_place..).unwrap_or_default();
        let places = Place::all(runs, &self.items);
        let open = scope.misplaced
            || inner
                .iter()
                .any(|&at| self.items.get(at).is_none_or(|item| item.open));
        if alias.colnames.is_empty() && (open || !scope.merged) {
            for at in inner {
                if let Some(item) = self.items.get_mut(at) {
                    item.placed = false;
                    item.names = vec![(None, alias.aliasname.as_str().into())];
                }
            }
            return;
        }
        for &at in &inner {
            if let Some(item) = self.items.get_mut(at) {
                item.placed = false;
            }
        }
        let plain = |item: &Item| !item.open && !matches!(item.source, Source::System { .. });
        let followed =
            alias.colnames.is_empty() && inner.iter().all(|&at| self.items.get(at).is_some_and(plain));
        // Reading the join counts as reading all that is in it, unless each column can be told to be what it is.
        let all = self.flow_of(|walker| {
            if !followed {
                for &item in &inner {
                    walker.read_whole(item);
                }
            }
        });
        let mirrors = inner
            .iter()
            .filter_map(|&at| self.items.get(at))
            .flat_map(|item| item.mirrors.iter().copied())
            .collect();
        let mut names = alias.colnames.iter();
        let mut columns: Vec<ItemColumn> = Vec::with_capacity(places.len());
        for place in &places {
            let mut column = self.column_at(place);
            let of = place
                .columns()
                .filter_map(|(item, column)| self.items.get(item)?.columns.get(column));
            for one in of {
                column.bases.extend(one.asked.iter().chain(&one.bases).cloned());
            }
            columns.push(column);
        }
        while columns.len() < alias.colnames.len() {
            columns.push(ItemColumn::default());
        }
        for column in &mut columns {
            if let Some(name) = names.next() {
                column.name = text_of(name).map(str::to_owned);
            }
            if open {
                *column = ItemColumn::derived(column.name.clone(), all.clone());
            }
        }
        let rows = Rows {
            columns,
            open,
            mirrors,
        };
        for &item in &inner {
            if let Some(item) = self.items.get_mut(item) {
                item.names.clear();
                // An unqualified name is one of the alias's columns.
                for column in Arc::make_mut(&mut item.columns) {
                    column.name = None;
                }
            }
        }
        let at = self.derived_item(rows, Some(&alias.aliasname));
        self.stands_for(at, &inner);
        if let Some(scope) = self.scopes.last_mut() {
            scope.places_of_star.truncate(first_place);
        }
        self.bring(at);
    }

    /// Rows of a join are rows of what is joined.
    fn stands_for<'i>(&mut self, at: usize, joined: impl IntoIterator<Item = &'i usize>) {
        let (mut mirrors, mut made_of) = (BTreeSet::new(), BTreeSet::new());
        for &one in joined {
            made_of.insert(one);
            if let Some(item) = self.items.get(one) {
                mirrors.extend(item.mirrors.iter().copied());
                made_of.extend(item.made_of.iter().copied());
            }
        }
        if let Some(item) = self.items.get_mut(at) {
            item.mirrors = Arc::new(mirrors);
            item.made_of = Arc::new(made_of);
        }
    }

    /// The column of a result that has a value of one of these at its place.
    pub(super) fn column_at(&self, place: &Place) -> ItemColumn {
        let mut of = place
            .columns()
            .filter_map(|(item, column)| self.items.get(item)?.columns.get(column));
        let Some(first) = of.next() else {
            return ItemColumn::default();
        };
        let mut column = ItemColumn {
            type_name: first.type_name.clone(),
            as_is: first.as_is,
            mixed: first.mixed,
            generated: first.generated,
            tells: first.tells,
            ..ItemColumn::derived(first.name.clone(), first.carries.clone())
        };
        for other in of {
            column.as_is &= other.as_is;
            // An outer join gives the value of one side or the other.
            column.mixed |= other.mixed || other.carries != column.carries;
            column.generated |= other.generated;
            column.carries.add(&other.carries);
            // Of which side's rows it tells is not known.
            column.tells = Tells::Nothing;
            if other.type_name != column.type_name {
                column.type_name.clear();
            }
        }
        column
    }
}

fn function_name(node: &Node) -> Option<&str> {
    let NodeEnum::List(list) = node.node.as_ref()? else {
        return None;
    };
    match list.items.first()?.node.as_ref()? {
        NodeEnum::FuncCall(call) => qualified(&call.funcname).map(|(_, name)| name),
        _ => None,
    }
}
