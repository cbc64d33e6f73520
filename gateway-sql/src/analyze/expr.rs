//! Expressions: what they read, call and carry.

use pg_query::NodeEnum;
use pg_query::protobuf::{
    AExpr, AExprKind, BoolExprType, ColumnRef, JsonBehavior, JsonExprOp, JsonFormatType, JsonOutput,
    JsonValueExpr, Node, SubLink, SubLinkType, TypeName, WindowDef, a_const,
};

use super::calls::Callee;
use super::names::{qualified, text_of, type_name};
use super::scope::{Carries, Item, Reference, Source, resolve};
use super::walker::Walker;

impl Walker<'_> {
    pub(super) fn exprs<'n>(&mut self, nodes: impl IntoIterator<Item = &'n Node>) {
        for node in nodes {
            self.expr(node);
        }
    }

    /// Walks an expression. Kinds that are not listed ask `unknown`.
    pub(super) fn expr(&mut self, node: &Node) {
        self.deeper(|walker| walker.expr_node(node));
    }

    fn expr_node(&mut self, node: &Node) {
        // An empty node stands for an omitted part (plain DISTINCT).
        let Some(kind) = node.node.as_ref() else { return };
        match kind {
            NodeEnum::AConst(_)
            | NodeEnum::ParamRef(_)
            | NodeEnum::SetToDefault(_)
            | NodeEnum::SqlvalueFunction(_)
            | NodeEnum::CurrentOfExpr(_)
            | NodeEnum::Integer(_)
            | NodeEnum::Float(_)
            | NodeEnum::Boolean(_)
            | NodeEnum::String(_)
            | NodeEnum::BitString(_) => {}
            NodeEnum::MergeSupportFunc(_) => self.once_a_name("merge_action", MERGE_ACTION),
            NodeEnum::ColumnRef(reference) => self.column_ref(reference),
            NodeEnum::FuncCall(call) => self.func_call(call),
            NodeEnum::SubLink(link) => self.sub_link(link),
            NodeEnum::AExpr(expr) => self.a_expr(expr),
            NodeEnum::BoolExpr(_) | NodeEnum::NullTest(_) | NodeEnum::BooleanTest(_) => {
                self.condition(node);
            }
            NodeEnum::TypeCast(cast) => {
                let total = self.is_total_cast(cast);
                self.passing(total, |walker| walker.exprs(cast.arg.as_deref()));
                self.cast_to(cast.type_name.as_ref());
            }
            NodeEnum::AIndirection(indirection) => self.indirection(indirection),
            NodeEnum::WindowDef(window) => self.window(window),
            NodeEnum::CaseExpr(case) => {
                if case.arg.is_some() {
                    self.operators.insert((None, "=".to_owned()));
                }
                let steering = self.flow_of(|walker| {
                    walker.exprs(case.arg.as_deref());
                    for when in &case.args {
                        if let Some(NodeEnum::CaseWhen(when)) = when.node.as_ref() {
                            walker.conditions(when.expr.as_deref());
                        }
                    }
                });
                self.out.compared.extend(steering);
                for when in &case.args {
                    match when.node.as_ref() {
                        Some(NodeEnum::CaseWhen(when)) => self.exprs(when.result.as_deref()),
                        _ => self.unknown(),
                    }
                }
                self.exprs(case.defresult.as_deref());
            }
            NodeEnum::SortBy(sort) => {
                self.exprs(sort.node.as_deref());
                if !sort.use_op.is_empty() {
                    self.operator(&sort.use_op);
                }
            }
            NodeEnum::MultiAssignRef(assign) => self.exprs(assign.source.as_deref()),
            NodeEnum::XmlSerialize(xml) => {
                let total = is_unlimited(xml.type_name.as_ref());
                self.passing(total, |walker| walker.exprs(xml.expr.as_deref()));
                self.cast_to(xml.type_name.as_ref());
            }
            _ => self.plain_or_json(kind),
        }
    }

    /// Expressions that only pass on what their parts carry.
    fn plain_or_json(&mut self, kind: &NodeEnum) {
        match kind {
            NodeEnum::CoalesceExpr(expr) => self.exprs(&expr.args),
            NodeEnum::MinMaxExpr(expr) => {
                let flow = self.flow_of(|walker| walker.exprs(&expr.args));
                self.out.compared.add(&flow);
                self.flow.add(&flow);
            }
            NodeEnum::AArrayExpr(expr) => {
                // Arrays in arrays must be of one length.
                let total = expr.elements.iter().all(|element| self.is_no_array(element));
                self.passing(total, |walker| walker.exprs(&expr.elements));
            }
            NodeEnum::RowExpr(expr) => self.exprs(&expr.args),
            NodeEnum::CollateClause(clause) => self.exprs(clause.arg.as_deref()),
            NodeEnum::NamedArgExpr(named) => self.exprs(named.arg.as_deref()),
            NodeEnum::GroupingFunc(grouping) => self.exprs(&grouping.args),
            NodeEnum::GroupingSet(set) => self.exprs(&set.content),
            NodeEnum::List(list) => self.exprs(&list.items),
            NodeEnum::ResTarget(target) => {
                self.exprs(target.val.as_deref());
                self.exprs(&target.indirection);
            }
            NodeEnum::AIndices(indices) => self.passing(false, |walker| {
                walker.exprs(indices.lidx.as_deref());
                walker.exprs(indices.uidx.as_deref());
            }),
            NodeEnum::XmlExpr(xml) => self.passing(super::as_is::builds_xml(xml.op()), |walker| {
                walker.exprs(&xml.named_args);
                walker.exprs(&xml.args);
            }),
            NodeEnum::IndexElem(elem) => {
                if !elem.name.is_empty() {
                    self.unqualified(&elem.name);
                }
                self.exprs(elem.expr.as_deref());
            }
            _ => self.json(kind),
        }
    }

    fn json(&mut self, kind: &NodeEnum) {
        if let Some((name, since)) = json_word(kind) {
            self.once_a_name(name, since);
        }
        match kind {
            NodeEnum::JsonValueExpr(value) => self.json_value(Some(value)),
            NodeEnum::JsonArgument(argument) => self.json_value(argument.val.as_deref()),
            NodeEnum::JsonKeyValue(pair) => {
                self.exprs(pair.key.as_deref());
                self.json_value(pair.value.as_deref());
            }
            NodeEnum::JsonFuncExpr(json) => {
                self.passing(false, |walker| {
                    walker.json_value(json.context_item.as_deref());
                    walker.exprs(json.pathspec.as_deref());
                    walker.exprs(&json.passing);
                });
                self.json_output(json.output.as_ref());
                self.json_behavior(json.on_empty.as_deref());
                self.json_behavior(json.on_error.as_deref());
            }
            NodeEnum::JsonBehavior(behavior) => self.json_behavior(Some(behavior)),
            NodeEnum::JsonIsPredicate(json) => {
                self.passing(false, |walker| walker.exprs(json.expr.as_deref()));
            }
            NodeEnum::JsonParseExpr(json) => {
                self.passing(false, |walker| walker.json_value(json.expr.as_deref()));
                self.json_output(json.output.as_ref());
            }
            NodeEnum::JsonScalarExpr(json) => {
                let total = is_any_json(json.output.as_ref());
                self.passing(total, |walker| walker.exprs(json.expr.as_deref()));
                self.json_output(json.output.as_ref());
            }
            NodeEnum::JsonSerializeExpr(json) => {
                // What is no JSON can't be written as such.
                self.passing(false, |walker| walker.json_value(json.expr.as_deref()));
                self.json_output(json.output.as_ref());
            }
            NodeEnum::JsonObjectConstructor(json) => {
                // A key may be missing, or be there twice.
                let total = !json.unique
                    && is_any_json(json.output.as_ref())
                    && json.exprs.iter().all(|pair| match pair.node.as_ref() {
                        Some(NodeEnum::JsonKeyValue(pair)) => {
                            pair.key.as_deref().is_some_and(super::as_is::is_fixed)
                        }
                        _ => false,
                    });
                self.passing(total, |walker| walker.exprs(&json.exprs));
                self.json_output(json.output.as_ref());
            }
            NodeEnum::JsonArrayConstructor(json) => {
                let total = is_any_json(json.output.as_ref());
                self.passing(total, |walker| walker.exprs(&json.exprs));
                self.json_output(json.output.as_ref());
            }
            NodeEnum::JsonArrayQueryConstructor(json) => {
                let total = is_any_json(json.output.as_ref());
                self.passing(total, |walker| {
                    walker.subquery_value(json.query.as_deref());
                });
                self.json_output(json.output.as_ref());
            }
            NodeEnum::JsonObjectAgg(json) => {
                if let Some(pair) = json.arg.as_deref() {
                    self.passing(false, |walker| {
                        walker.exprs(pair.key.as_deref());
                        walker.json_value(pair.value.as_deref());
                    });
                }
                self.json_aggregate(json.constructor.as_deref());
            }
            NodeEnum::JsonArrayAgg(json) => {
                let output = json
                    .constructor
                    .as_deref()
                    .and_then(|constructor| constructor.output.as_ref());
                self.passing(is_any_json(output), |walker| {
                    walker.json_value(json.arg.as_deref())
                });
                self.json_aggregate(json.constructor.as_deref());
            }
            _ => self.unknown(),
        }
    }

    /// A word that a server before version `since` reads as the name of a function, if there is one of that name.
    pub(super) fn once_a_name(&mut self, name: &str, since: i32) {
        if self.catalog.server_version >= since {
            return;
        }
        let callees = self.callees(None, name, None);
        if callees.iter().any(|callee| matches!(callee, Callee::User(_))) {
            self.of_unknown_meaning();
        } else if callees.is_empty() && self.catalog.server_version > 0 {
            // Somebody may have made it since.
            self.out.miss(super::clip(&format!("function {name}")));
        }
    }

    pub(super) fn json_value(&mut self, value: Option<&JsonValueExpr>) {
        if let Some(value) = value {
            // With FORMAT JSON a text is read, and refused where it is none.
            let format = value.format.as_ref().map(|format| format.format_type());
            let total = matches!(format, None | Some(JsonFormatType::JsFormatDefault));
            self.passing(total, |walker| {
                walker.exprs(value.raw_expr.as_deref());
                walker.exprs(value.formatted_expr.as_deref());
            });
        }
    }

    pub(super) fn json_behavior(&mut self, behavior: Option<&JsonBehavior>) {
        self.exprs(behavior.and_then(|behavior| behavior.expr.as_deref()));
    }

    fn json_output(&mut self, output: Option<&JsonOutput>) {
        self.cast_to(output.and_then(|output| output.type_name.as_ref()));
    }

    fn json_aggregate(&mut self, constructor: Option<&pg_query::protobuf::JsonAggConstructor>) {
        let Some(constructor) = constructor else { return };
        self.json_output(constructor.output.as_ref());
        self.conditions(constructor.agg_filter.as_deref());
        self.steering(&constructor.agg_order);
        if let Some(window) = constructor.over.as_deref() {
            self.window(window);
        }
    }

    pub(super) fn window(&mut self, window: &WindowDef) {
        // Rows come out in the order of their partitions.
        self.steering(&window.partition_clause);
        self.steering(&window.order_clause);
        self.steering(window.start_offset.as_deref());
        self.steering(window.end_offset.as_deref());
    }

    /// Expressions that do not reach the output but order or select it.
    pub(super) fn steering<'n>(&mut self, nodes: impl IntoIterator<Item = &'n Node>) {
        let flow = self.flow_of(|walker| walker.exprs(nodes));
        self.out.compared.add(&flow);
    }

    /// Remembers that something becomes a value of this type.
    pub(super) fn cast_to(&mut self, name: Option<&TypeName>) {
        let Some(name) = name else { return };
        self.steering(&name.typmods);
        let Some((schema, name)) = type_name(name) else {
            return;
        };
        match schema {
            Some(schema) => {
                self.casts.insert(format!("{schema}.{name}"));
                self.types.insert(format!("{schema}.{name}"));
            }
            None => {
                // Built-in types matter only to casts that users have made.
                let made = !self.catalog.casts().is_empty();
                for schema in &self.working.session.search_path {
                    if made && schema == "pg_catalog" || self.catalog.user_type(schema, name).is_some() {
                        self.casts.insert(format!("{schema}.{name}"));
                        self.types.insert(format!("{schema}.{name}"));
                    }
                }
            }
        }
    }

    pub(super) fn operator(&mut self, name: &[Node]) {
        match qualified(name) {
            Some((schema, symbol)) => {
                self.operators
                    .insert((schema.map(str::to_owned), symbol.to_owned()));
            }
            None => self.unknown(),
        }
    }

    fn a_expr(&mut self, expr: &AExpr) {
        match expr.kind() {
            AExprKind::AexprOp if !is_comparison(&expr.name) => {
                match qualified(&expr.name) {
                    Some((None, symbol)) if self.has_number(expr) => {
                        self.numeric.insert(symbol.to_owned());
                    }
                    _ => self.operator(&expr.name),
                }
                if let Some(access) = self.json_operation(expr) {
                    self.walk_access(&access);
                    return;
                }
                self.passing(self.is_total_operation(expr), |walker| {
                    walker.exprs(expr.lexpr.as_deref());
                    walker.exprs(expr.rexpr.as_deref());
                });
            }
            AExprKind::AexprNullif => {
                self.operators.insert((None, "=".to_owned()));
                let flow = self.flow_of(|walker| {
                    walker.exprs(expr.lexpr.as_deref());
                    walker.exprs(expr.rexpr.as_deref());
                });
                self.out.compared.add(&flow);
                self.flow.add(&flow);
            }
            AExprKind::Undefined => self.unknown(),
            _ => self.comparison(expr),
        }
    }

    /// Whether one side is known to be a number.
    fn has_number(&self, expr: &AExpr) -> bool {
        let is_number = |side: &Node| match side.node.as_ref() {
            Some(NodeEnum::AConst(constant)) => {
                matches!(constant.val, Some(a_const::Val::Ival(_) | a_const::Val::Fval(_)))
            }
            _ => matches!(
                self.type_of(side).as_str(),
                "pg_catalog.int2"
                    | "pg_catalog.int4"
                    | "pg_catalog.int8"
                    | "pg_catalog.numeric"
                    | "pg_catalog.float4"
                    | "pg_catalog.float8"
            ),
        };
        let mut sides = [expr.lexpr.as_deref(), expr.rexpr.as_deref()]
            .into_iter()
            .flatten();
        sides.any(is_number)
    }

    /// A comparison: its truth value carries nothing, but unless it is equality of bare columns it steers.
    fn comparison(&mut self, expr: &AExpr) {
        match expr.kind() {
            AExprKind::AexprBetween
            | AExprKind::AexprNotBetween
            | AExprKind::AexprBetweenSym
            | AExprKind::AexprNotBetweenSym => {
                for symbol in ["<=", ">=", "<", ">"] {
                    self.operators.insert((None, symbol.to_owned()));
                }
            }
            AExprKind::AexprDistinct | AExprKind::AexprNotDistinct => {
                self.operators.insert((None, "=".to_owned()));
            }
            _ => self.operator(&expr.name),
        }
        let equality = is_equality(expr);
        if let (true, Some(left), Some(right)) = (equality, expr.lexpr.as_deref(), expr.rexpr.as_deref()) {
            self.meet(left, right);
        }
        let sides = [expr.lexpr.as_deref(), expr.rexpr.as_deref()].map(|side| {
            let Some(side) = side else {
                return (true, true, Carries::new());
            };
            let bare = self.is_bare(side);
            let (flow, met) = self.meeting(|walker| walker.flow_of(|walker| walker.expr(side)));
            // Equality with a value is a guess at it; with many that are made on the way it finds out which it is.
            let query = matches!(side.node, Some(NodeEnum::SubLink(_)));
            let one = bare || !met.column || query && !met.computed;
            (bare, one && !met.generated, flow)
        });
        let [left, right] = sides;
        let (left_one, right_one) = (left.1, right.1);
        self.tell(equality && left.0 && right_one, left.2);
        self.tell(equality && right.0 && left_one, right.2);
    }

    pub(super) fn conditions<'n>(&mut self, nodes: impl IntoIterator<Item = &'n Node>) {
        for node in nodes {
            self.condition(node);
        }
    }

    /// A condition: what it reads steers, unless it is a null test or equality of a bare column.
    pub(super) fn condition(&mut self, node: &Node) {
        self.deeper(|walker| match node.node.as_ref() {
            Some(NodeEnum::BoolExpr(expr)) => match expr.boolop() {
                BoolExprType::AndExpr | BoolExprType::OrExpr | BoolExprType::NotExpr => {
                    walker.conditions(&expr.args)
                }
                BoolExprType::Undefined => walker.unknown(),
            },
            Some(NodeEnum::NullTest(test)) => {
                let Some(arg) = test.arg.as_deref() else { return };
                let bare = walker.is_bare(arg);
                let flow = walker.flow_of(|walker| walker.expr(arg));
                walker.tell(bare, flow);
            }
            Some(NodeEnum::BooleanTest(test)) => walker.conditions(test.arg.as_deref()),
            _ => {
                let flow = walker.flow_of(|walker| walker.expr_node(node));
                walker.out.compared.add(&flow);
            }
        });
    }

    fn sub_link(&mut self, link: &SubLink) {
        match link.sub_link_type() {
            SubLinkType::ExistsSublink => {
                self.flow_of(|walker| {
                    walker.subquery_value(link.subselect.as_deref());
                });
            }
            SubLinkType::AllSublink | SubLinkType::AnySublink | SubLinkType::RowcompareSublink => {
                if link.oper_name.is_empty() {
                    self.operators.insert((None, "=".to_owned()));
                } else {
                    self.operator(&link.oper_name);
                }
                let equality = link.oper_name.is_empty() || is_equality_name(&link.oper_name);
                let mut bare = link.testexpr.as_deref().is_none_or(|node| self.is_bare(node));
                let (flow, met) = self.meeting(|walker| {
                    walker.flow_of(|walker| {
                        walker.exprs(link.testexpr.as_deref());
                        bare &= walker.subquery_value(link.subselect.as_deref());
                    })
                });
                self.tell(equality && bare && !met.generated, flow);
            }
            SubLinkType::ArraySublink => self.passing(false, |walker| {
                walker.exprs(link.testexpr.as_deref());
                walker.subquery_value(link.subselect.as_deref());
            }),
            SubLinkType::ExprSublink | SubLinkType::MultiexprSublink => {
                self.exprs(link.testexpr.as_deref());
                self.subquery_value(link.subselect.as_deref());
            }
            SubLinkType::CteSublink | SubLinkType::Undefined => self.unknown(),
        }
    }

    /// A subquery whose rows become a value; whether they are columns' values as they are.
    fn subquery_value(&mut self, query: Option<&Node>) -> bool {
        let Some(NodeEnum::SelectStmt(select)) = query.and_then(|node| node.node.as_ref()) else {
            self.unknown();
            return false;
        };
        let rows = self.select(select);
        if let Some(tracker) = &mut self.tracker {
            tracker.mirrors.extend(rows.mirrors.iter().copied());
        }
        let as_is = !rows.open && rows.columns.iter().all(|column| column.as_is);
        self.met.generated |= rows.columns.iter().any(|column| column.generated);
        self.met.computed |= !as_is;
        for column in rows.columns {
            self.flow.add(&column.carries);
        }
        as_is
    }

    /// Walks the operands of something that passes on what they carry; unless that is all it does (`total`), they steer
    /// as well.
    fn passing(&mut self, total: bool, walk: impl FnOnce(&mut Self)) {
        if total {
            walk(self);
            return;
        }
        let flow = self.flow_of(walk);
        self.out.compared.add(&flow);
        self.flow.add(&flow);
    }

    fn indirection(&mut self, indirection: &pg_query::protobuf::AIndirection) {
        if let Some(access) = self.json_subscript(indirection) {
            self.walk_access(&access);
            return;
        }
        // `(c).email` reads one column of a row. `(c.f).email` does not: it calls f.
        let mut rest = indirection.indirection.as_slice();
        let arg = indirection.arg.as_deref();
        let mut done = false;
        if let Some(NodeEnum::ColumnRef(reference)) = arg.and_then(|arg| arg.node.as_ref())
            && let Some((qualifier @ None, name)) = split(reference)
            && let Reference::Whole(whole) = resolve(&self.items, &self.scopes, qualifier, name)
            && let Some(field) = rest.first().and_then(text_of)
        {
            let columns = self.fields(&whole, field);
            if !columns.is_empty() {
                for (item, column) in columns {
                    self.read_column(item, column);
                }
                rest = rest.get(1..).unwrap_or_default();
                done = true;
            }
        }
        if !done {
            self.exprs(arg);
        }
        for part in rest {
            match part.node.as_ref() {
                // `(row).f` may be the function f applied to the row.
                Some(NodeEnum::String(field)) => self.field_or_function(&field.sval),
                Some(NodeEnum::AStar(_)) => {}
                _ => self.expr(part),
            }
        }
    }

    /// The columns of that name in a row: item and place in it.
    pub(super) fn fields(&self, row: &[usize], name: &str) -> Vec<(usize, usize)> {
        let of = |&at: &usize| {
            let item = self.items.get(at).into_iter();
            item.flat_map(move |item| item.positions(name).map(move |column| (at, column)))
        };
        row.iter().flat_map(of).collect()
    }

    /// A column reference; `*` outside a target list reads all of the innermost scope.
    pub(super) fn column_ref(&mut self, reference: &ColumnRef) {
        if reference
            .fields
            .last()
            .is_some_and(|last| matches!(last.node, Some(NodeEnum::AStar(_))))
        {
            for item in self.star_items(reference) {
                self.read_whole(item);
            }
            return;
        }
        let Some((qualifier, name)) = split(reference) else {
            self.lost(None);
            return;
        };
        self.reference(qualifier, name);
    }

    pub(super) fn unqualified(&mut self, name: &str) {
        self.reference(None, name);
    }

    fn reference(&mut self, qualifier: Option<Qualifier<'_>>, name: &str) {
        self.look_up();
        let found = resolve(&self.items, &self.scopes, qualifier, name);
        self.referred(&found, qualifier, name);
    }

    /// Reads what a name refers to.
    pub(super) fn referred(&mut self, found: &Reference, qualifier: Option<Qualifier<'_>>, name: &str) {
        match found {
            Reference::Columns(hits) => {
                for &(item, column) in hits {
                    self.read_column(item, column);
                }
            }
            Reference::Whole(whole) => {
                for &item in whole {
                    self.read_whole(item);
                }
                if qualifier.is_some() {
                    self.out.unresolved |= self.callees(None, name, Some(1)).is_empty();
                    self.field_or_function(name);
                }
            }
            Reference::System(items) => {
                for &item in items {
                    let relation = |item: &Item| matches!(item.source, Source::Relation { .. });
                    if self.items.get(item).is_some_and(relation) {
                        self.read_table(item);
                    }
                }
            }
            Reference::Open(items) => {
                self.out.unresolved = true;
                for &item in items {
                    self.read_whole(item);
                }
                self.read_scopes();
            }
            Reference::Nothing => {
                let output = self.scopes.iter().rev().find_map(|scope| scope.output(name));
                match output {
                    Some(output) if qualifier.is_none() => self.flow.add(&output.carries),
                    _ => self.lost(Some(name)),
                }
            }
        }
    }

    /// Reads everything in the visible scopes: for a name that may be anything's.
    fn read_scopes(&mut self) {
        let all: Vec<usize> = self
            .scopes
            .iter()
            .flat_map(|scope| scope.items.iter().copied())
            .collect();
        for item in all {
            self.read_whole(item);
        }
    }

    /// Items that `*`, `q.*` or `s.q.*` stand for.
    pub(super) fn star_items(&mut self, reference: &ColumnRef) -> Vec<usize> {
        let fields = reference.fields.split_last().map_or(&[][..], |(_, rest)| rest);
        if fields.is_empty() {
            return self
                .scopes
                .last()
                .map(|scope| scope.items.clone())
                .unwrap_or_default();
        }
        let Some((schema, name)) = qualified(fields) else {
            self.lost(None);
            return Vec::new();
        };
        for scope in self.scopes.iter().rev() {
            let answers = |at: &usize| {
                self.items
                    .get(*at)
                    .is_some_and(|item| item.answers_to(schema, name))
            };
            let found: Vec<usize> = scope.items.iter().copied().filter(answers).collect();
            if !found.is_empty() {
                return found;
            }
        }
        // `x.*` may be all fields of a composite column.
        self.reference(schema.map(|schema| (None, schema)), name);
        Vec::new()
    }
}

/// The versions since which words are not names any more (`kwlist.h` of each version).
const JSON_CONSTRUCTORS: i32 = 160_000;
pub(super) const JSON_FUNCTIONS: i32 = 170_000;
const MERGE_ACTION: i32 = 170_000;

/// The word that a JSON expression begins with, and since when it is one.
fn json_word(kind: &NodeEnum) -> Option<(&'static str, i32)> {
    Some(match kind {
        NodeEnum::JsonFuncExpr(json) => match json.op() {
            JsonExprOp::JsonExistsOp => ("json_exists", JSON_FUNCTIONS),
            JsonExprOp::JsonQueryOp => ("json_query", JSON_FUNCTIONS),
            JsonExprOp::JsonValueOp => ("json_value", JSON_FUNCTIONS),
            JsonExprOp::JsonTableOp | JsonExprOp::Undefined => ("json_table", JSON_FUNCTIONS),
        },
        NodeEnum::JsonParseExpr(_) => ("json", JSON_FUNCTIONS),
        NodeEnum::JsonScalarExpr(_) => ("json_scalar", JSON_FUNCTIONS),
        NodeEnum::JsonSerializeExpr(_) => ("json_serialize", JSON_FUNCTIONS),
        NodeEnum::JsonObjectConstructor(_) => ("json_object", JSON_CONSTRUCTORS),
        NodeEnum::JsonArrayConstructor(_) | NodeEnum::JsonArrayQueryConstructor(_) => {
            ("json_array", JSON_CONSTRUCTORS)
        }
        NodeEnum::JsonObjectAgg(_) => ("json_objectagg", JSON_CONSTRUCTORS),
        NodeEnum::JsonArrayAgg(_) => ("json_arrayagg", JSON_CONSTRUCTORS),
        _ => return None,
    })
}

/// Schema, where given, and name of a FROM item.
pub(super) type Qualifier<'n> = (Option<&'n str>, &'n str);

/// Splits a reference into qualifier and column; a database name is dropped.
pub(super) fn split(reference: &ColumnRef) -> Option<(Option<Qualifier<'_>>, &str)> {
    match reference.fields.as_slice() {
        [name] => Some((None, text_of(name)?)),
        [item, name] => Some((Some((None, text_of(item)?)), text_of(name)?)),
        [schema, item, name] => Some((Some((Some(text_of(schema)?), text_of(item)?)), text_of(name)?)),
        [database, schema, item, name] => {
            text_of(database)?;
            Some((Some((Some(text_of(schema)?), text_of(item)?)), text_of(name)?))
        }
        _ => None,
    }
}

fn is_comparison(name: &[Node]) -> bool {
    let Some((_, symbol)) = qualified(name) else {
        return false;
    };
    matches!(
        symbol,
        "=" | "<>"
            | "!="
            | "<"
            | ">"
            | "<="
            | ">="
            | "~"
            | "~*"
            | "!~"
            | "!~*"
            | "~~"
            | "~~*"
            | "!~~"
            | "!~~*"
            | "@>"
            | "<@"
            | "&&"
            | "?"
            | "?|"
            | "?&"
            | "@@"
            | "@?"
            | "^@"
    )
}

fn is_equality_name(name: &[Node]) -> bool {
    qualified(name).is_some_and(|(_, symbol)| matches!(symbol, "=" | "<>" | "!="))
}

fn is_equality(expr: &AExpr) -> bool {
    match expr.kind() {
        AExprKind::AexprDistinct | AExprKind::AexprNotDistinct => true,
        AExprKind::AexprOp | AExprKind::AexprOpAny | AExprKind::AexprOpAll | AExprKind::AexprIn => {
            is_equality_name(&expr.name)
        }
        _ => false,
    }
}

/// A bare column, a constant or parameter, or a list of these: equality with it reveals no part of a value.
pub(super) fn bare_or_list(node: &Node) -> bool {
    match node.node.as_ref() {
        Some(NodeEnum::ColumnRef(_) | NodeEnum::AConst(_) | NodeEnum::ParamRef(_)) => true,
        Some(NodeEnum::List(list)) => list.items.iter().all(bare_or_list),
        Some(NodeEnum::AArrayExpr(list)) => list.elements.iter().all(bare_or_list),
        Some(NodeEnum::RowExpr(row)) => row.args.iter().all(bare_or_list),
        // A cast constant, but not a cast column: `ssn::char(1)` is a part of it.
        Some(NodeEnum::TypeCast(cast)) => cast
            .arg
            .as_deref()
            .is_some_and(|arg| !matches!(arg.node, Some(NodeEnum::ColumnRef(_))) && bare_or_list(arg)),
        _ => false,
    }
}

/// A type that every text fits into.
fn is_unlimited(type_name: Option<&TypeName>) -> bool {
    let Some(type_name) = type_name else { return true };
    let known = matches!(
        super::names::type_name(type_name),
        Some((None | Some("pg_catalog"), "text" | "varchar" | "bytea" | "json"))
    );
    known && type_name.typmods.is_empty()
}

/// Whether what a constructor makes is JSON of whatever length: `jsonb` refuses some.
fn is_any_json(output: Option<&JsonOutput>) -> bool {
    output.is_none_or(|output| is_unlimited(output.type_name.as_ref()))
}
