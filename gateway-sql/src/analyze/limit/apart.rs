//! Conditions that limit only together: those that show that a second alias over the written table means another row, or
//! none, and anti-joins.

use std::collections::BTreeSet;

use pg_query::NodeEnum;
use pg_query::protobuf::{
    AExpr, AExprKind, BoolExprType, FuncCall, JoinExpr, JoinType, Node, NullTestType, SelectStmt,
    SetOperation, SubLink, SubLinkType,
};

use super::super::expr::split;
use super::super::names::{qualified, text_of};
use super::super::scope::{Reference, Scope, Source, Tells, resolve};
use super::super::walker::Walker;
use super::side::is_constant;
use super::{is_equal, is_null};
use crate::catalog::RelationKind;

/// So many second aliases over the written table are looked at.
const MAX_ALIASES: usize = 4;

/// A column, by its item and its name in the relation.
type Known = (usize, String);

impl Walker<'_> {
    /// Whether the condition and the joins of the innermost scope limit the rows of an item. Another alias over the same
    /// table that they limit by itself does not stand for all of its rows.
    pub(in super::super) fn bounds(
        &mut self,
        condition: Option<&Node>,
        from: &[Node],
        target: usize,
    ) -> bool {
        if self.bounds_alone(condition, from, target) {
            return true;
        }
        let Some(own) = self.items.get(target).map(|item| item.mirrors.clone()) else {
            return false;
        };
        let items = self.scopes.last().map(|scope| scope.items.as_slice());
        let mirrors = |&at: &usize| {
            let item = self.items.get(at);
            at != target && item.is_some_and(|item| !item.mirrors.is_disjoint(&own))
        };
        let others: Vec<usize> = items
            .unwrap_or_default()
            .iter()
            .copied()
            .filter(mirrors)
            .collect();
        if others.len() > MAX_ALIASES {
            return false;
        }
        let mut freed = Vec::new();
        for at in others {
            if self.bounds_alone(condition, from, at)
                && let Some(item) = self.items.get_mut(at)
            {
                freed.push((at, std::mem::take(&mut item.mirrors)));
            }
        }
        let limited = !freed.is_empty() && self.compared(condition, from, target);
        for (at, mirrors) in freed {
            if let Some(item) = self.items.get_mut(at) {
                item.mirrors = mirrors;
            }
        }
        limited
    }

    fn bounds_alone(&mut self, condition: Option<&Node>, from: &[Node], target: usize) -> bool {
        if self.compared(condition, from, target) {
            return true;
        }
        let mut all = Vec::new();
        condition
            .iter()
            .for_each(|condition| conjuncts(condition, &mut all));
        from.iter().for_each(|node| join_conditions(node, &mut all));
        self.looks_at(all.len());
        self.has_duplicate(&all, target)
            || !self.in_or && from.iter().any(|node| self.left_out(node, &all, target))
    }

    /// So many conditions are looked at, each with all names of the innermost FROM.
    fn looks_at(&mut self, conditions: usize) {
        let items = self.scopes.last().map_or(0, |scope| scope.items.len());
        self.compare_names(conditions.saturating_mul(items));
    }

    /// Whether one of the conditions limits by itself.
    fn compared(&mut self, condition: Option<&Node>, from: &[Node], target: usize) -> bool {
        condition.is_some_and(|condition| self.limits(condition, target))
            || from.iter().any(|node| self.join_limits(node, target))
    }

    /// `a.id > b.id AND a.email = b.email`, both aliases of one table: b is another row, so that comparing with it limits.
    fn has_duplicate(&self, conjuncts: &[&Node], target: usize) -> bool {
        if !self.is_table(target) {
            return false;
        }
        let (mut other, mut equal) = (BTreeSet::new(), BTreeSet::new());
        for node in conjuncts {
            let Some(NodeEnum::AExpr(expr)) = node.node.as_ref() else {
                continue;
            };
            let Some((one, two)) = self.columns_compared(expr) else {
                continue;
            };
            let (own, at) = match (one.0 == target, two.0 == target) {
                (true, false) => (one, two),
                (false, true) => (two, one),
                _ => continue,
            };
            if own.1 != at.1 || !self.is_same_table(target, at.0) {
                continue;
            }
            match (expr.kind(), qualified(&expr.name)) {
                (AExprKind::AexprOp, Some((None, "<" | ">" | "<>" | "!="))) => {
                    other.insert(at.0);
                }
                (AExprKind::AexprOp, Some((None, "="))) | (AExprKind::AexprNotDistinct, _) => {
                    equal.insert(at.0);
                }
                _ => {}
            }
        }
        !other.is_disjoint(&equal)
    }

    /// `t LEFT JOIN o ON o.id = t.o_id ... WHERE o.id IS NULL`.
    fn left_out(&mut self, node: &Node, conjuncts: &[&Node], target: usize) -> bool {
        self.deeper(|walker| {
            let Some(NodeEnum::JoinExpr(join)) = node.node.as_ref() else {
                return false;
            };
            walker.looks_at(conjuncts.len());
            let kind = join.jointype();
            match kind {
                JoinType::JoinLeft
                    if join.alias.is_none() && walker.joins_nothing(join, conjuncts, target) =>
                {
                    true
                }
                JoinType::JoinLeft | JoinType::JoinInner if join.alias.is_none() => {
                    let left = join.larg.as_deref();
                    left.is_some_and(|left| walker.left_out(left, conjuncts, target))
                }
                _ => false,
            }
        })
    }

    fn joins_nothing(&mut self, join: &JoinExpr, conjuncts: &[&Node], target: usize) -> bool {
        let (Some(right), Some(quals)) = (join.rarg.as_deref(), join.quals.as_deref()) else {
            return false;
        };
        let mut items = Vec::new();
        if !matches!(right.node, Some(NodeEnum::RangeVar(_))) || !self.items_of(right, &mut items) {
            return false;
        }
        let mut conditions = Vec::new();
        self::conjuncts(quals, &mut conditions);
        let Some(met) = self.meets(&conditions, &items, target) else {
            return false;
        };
        conjuncts.iter().any(|node| match node.node.as_ref() {
            Some(NodeEnum::NullTest(test)) if test.nulltesttype() == NullTestType::IsNull => {
                let column = test.arg.as_deref().and_then(|arg| self.bare_column(arg));
                column.is_some_and(|column| met.contains(&column))
            }
            _ => false,
        })
    }

    /// `NOT EXISTS (SELECT 1 FROM o WHERE o.id = t.o_id)`, `o_id NOT IN (SELECT min(...) ... GROUP BY ...)`.
    pub(super) fn absence_limits(&mut self, link: &SubLink, target: usize) -> bool {
        let Some(NodeEnum::SelectStmt(select)) =
            link.subselect.as_deref().and_then(|node| node.node.as_ref())
        else {
            return false;
        };
        let plain = select.op() == SetOperation::SetopNone
            && select.values_lists.is_empty()
            && select.having_clause.is_none()
            && select.with_clause.is_none()
            && select.limit_count.is_none()
            && select.limit_offset.is_none()
            && select.distinct_clause.is_empty()
            // A row that another session has locked may be skipped.
            && select.locking_clause.is_empty();
        if !plain {
            return false;
        }
        let tested = link.testexpr.as_deref().and_then(|test| self.bare_column(test));
        self.scopes.push(Scope::default());
        for node in &select.from_clause {
            self.bring_from(node);
        }
        let limited = match link.sub_link_type() {
            SubLinkType::ExistsSublink => self.lacks(select, target),
            SubLinkType::AnySublink if is_equal(link) => {
                tested.is_some_and(|tested| self.is_not_the_first(&tested, select, target))
            }
            _ => false,
        };
        self.scopes.pop();
        limited
    }

    /// No row of other tables has the written row's value: which of their rows are looked at must be told by their
    /// columns, each once, so that no two conditions leave none.
    fn lacks(&mut self, select: &SelectStmt, target: usize) -> bool {
        let plain = |node: &Node| match node.node.as_ref() {
            Some(NodeEnum::ResTarget(target)) => matches!(
                target.val.as_deref().and_then(|value| value.node.as_ref()),
                Some(NodeEnum::AConst(_) | NodeEnum::ColumnRef(_))
            ),
            _ => false,
        };
        let mut items = Vec::new();
        if !select.group_clause.is_empty()
            || !select.target_list.iter().all(plain)
            || !select.from_clause.iter().all(is_joined)
            || !select
                .from_clause
                .iter()
                .all(|node| self.items_of(node, &mut items))
        {
            return false;
        }
        let mut all = Vec::new();
        select
            .where_clause
            .iter()
            .for_each(|condition| conjuncts(condition, &mut all));
        select
            .from_clause
            .iter()
            .for_each(|node| join_conditions(node, &mut all));
        self.looks_at(all.len());
        self.meets(&all, &items, target).is_some()
    }

    /// The columns of other tables that conditions ask to be equal to one of the written row, where the conditions say
    /// nothing else but which rows of these tables are meant.
    fn meets(&self, conditions: &[&Node], items: &[usize], target: usize) -> Option<BTreeSet<Known>> {
        if !items
            .iter()
            .all(|&at| self.is_permanent(at) && self.stands_apart(at, target))
        {
            return None;
        }
        let (mut met, mut equal, mut tested, mut absent) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for node in conditions {
            let own = |column: &Known| items.contains(&column.0);
            match node.node.as_ref()? {
                NodeEnum::AExpr(expr) => match self.columns_compared(expr) {
                    Some((one, two)) => {
                        if !is_equality(expr) || one.0 == two.0 {
                            return None;
                        }
                        for (column, other) in [(&one, &two), (&two, &one)] {
                            if own(column) && other.0 == target {
                                met.insert(column.clone());
                            } else if !own(column) && column.0 != target {
                                return None;
                            }
                            if own(column) {
                                equal.insert(column.clone());
                            }
                        }
                    }
                    None => {
                        let column = self.column_tested(expr).filter(own)?;
                        if !tested.insert(column) {
                            return None;
                        }
                    }
                },
                NodeEnum::NullTest(test) => {
                    let column = self.bare_column(test.arg.as_deref()?).filter(own)?;
                    if test.nulltesttype() == NullTestType::IsNull {
                        absent.insert(column.clone());
                    }
                    if !tested.insert(column) {
                        return None;
                    }
                }
                NodeEnum::ColumnRef(_) => {
                    if !tested.insert(self.bare_column(node).filter(own)?) {
                        return None;
                    }
                }
                NodeEnum::BoolExpr(expr) if expr.boolop() == BoolExprType::NotExpr => {
                    let arg = expr.args.first()?;
                    if !matches!(arg.node, Some(NodeEnum::ColumnRef(_)))
                        || !tested.insert(self.bare_column(arg).filter(own)?)
                    {
                        return None;
                    }
                }
                _ => return None,
            }
        }
        // What is NULL is equal to nothing.
        (!met.is_empty() && absent.is_disjoint(&equal)).then_some(met)
    }

    /// `id NOT IN (SELECT min(id) FROM t GROUP BY email)`: of each group one row stays.
    fn is_not_the_first(&self, own: &Known, select: &SelectStmt, target: usize) -> bool {
        let ([from], [chosen]) = (select.from_clause.as_slice(), select.target_list.as_slice()) else {
            return false;
        };
        let mut items = Vec::new();
        let known = matches!(from.node, Some(NodeEnum::RangeVar(_))) && self.items_of(from, &mut items);
        let (true, [item], None) = (known, items.as_slice(), &select.where_clause) else {
            return false;
        };
        let chosen = match chosen.node.as_ref() {
            Some(NodeEnum::ResTarget(chosen)) => chosen.val.as_deref(),
            _ => None,
        };
        let chosen = match chosen.and_then(|chosen| chosen.node.as_ref()) {
            Some(NodeEnum::FuncCall(call)) if is_plain_call(call) => match qualified(&call.funcname) {
                Some((None | Some("pg_catalog"), "min" | "max")) => call.args.first(),
                _ => None,
            },
            _ => None,
        };
        let Some(chosen) = chosen.and_then(|chosen| self.bare_column(chosen)) else {
            return false;
        };
        own.0 == target
            && chosen.0 == *item
            && own.1 == chosen.1
            && self.is_same_table(target, *item)
            && self.is_grouped(&select.group_clause, *item)
    }

    /// Whether the rows of the innermost scope are groups of a table's rows that have more than one:
    /// `GROUP BY email HAVING count(*) > 1`.
    pub(in super::super) fn are_of_several(&self, select: &SelectStmt) -> bool {
        let items = self.scopes.last().map(|scope| scope.items.as_slice());
        let (Some([item]), Some(having)) = (items, select.having_clause.as_deref()) else {
            return false;
        };
        if !self.is_table(*item) || !self.is_grouped(&select.group_clause, *item) {
            return false;
        }
        let mut all = Vec::new();
        conjuncts(having, &mut all);
        all.iter().any(|node| {
            let Some(NodeEnum::AExpr(expr)) = node.node.as_ref() else {
                return false;
            };
            let (Some(NodeEnum::FuncCall(call)), Some(number)) = (
                expr.lexpr.as_deref().and_then(|left| left.node.as_ref()),
                expr.rexpr.as_deref(),
            ) else {
                return false;
            };
            let counts = call.agg_star
                && call.over.is_none()
                && call.agg_filter.is_none()
                && matches!(
                    qualified(&call.funcname),
                    Some((None | Some("pg_catalog"), "count"))
                );
            let more = match qualified(&expr.name) {
                Some((None, ">")) => self.at_least(number, 1),
                Some((None, ">=" | "=")) => self.at_least(number, 2),
                _ => false,
            };
            counts && more && expr.kind() == AExprKind::AexprOp
        })
    }

    /// What a column of a result tells of the rows that it comes from.
    pub(in super::super) fn value_tells(&self, value: &Node) -> Tells {
        if self.only_reads {
            return Tells::Nothing;
        }
        let items = self.scopes.last().map(|scope| scope.items.as_slice());
        let items = items.unwrap_or_default();
        if let (Some(NodeEnum::FuncCall(call)), [item]) = (value.node.as_ref(), items)
            && let Some(window) = call.over.as_deref()
        {
            let ranks = matches!(
                qualified(&call.funcname),
                Some((None | Some("pg_catalog"), "row_number" | "rank" | "dense_rank"))
            );
            let own = window.name.is_empty() && window.refname.is_empty();
            let grouped = self.is_table(*item) && self.is_grouped(&window.partition_clause, *item);
            return if ranks && own && grouped && call.args.is_empty() && call.agg_filter.is_none() {
                Tells::Place
            } else {
                Tells::Nothing
            };
        }
        let told = items.iter().map(|&item| self.tells(value, item));
        told.into_iter()
            .find(|told| *told != Tells::Nothing)
            .unwrap_or_default()
    }

    /// By columns of the item as they are, at least one.
    fn is_grouped(&self, by: &[Node], item: usize) -> bool {
        let of_item = |node: &Node| {
            let bare = matches!(node.node, Some(NodeEnum::ColumnRef(_)));
            bare && self.bare_column(node).is_some_and(|column| column.0 == item)
        };
        !by.is_empty() && by.iter().all(of_item)
    }

    /// A column of an item, casts around it ignored.
    fn bare_column(&self, node: &Node) -> Option<Known> {
        match node.node.as_ref()? {
            NodeEnum::TypeCast(cast) => self.bare_column(cast.arg.as_deref()?),
            NodeEnum::ColumnRef(reference) => {
                let (qualifier, name) = split(reference)?;
                match resolve(&self.items, &self.scopes, qualifier, name) {
                    Reference::Columns(hits) => match hits.as_slice() {
                        [(item, column)] => {
                            let known = self.items.get(*item)?.columns.get(*column)?;
                            (!known.real.is_empty()).then(|| (*item, known.real.clone()))
                        }
                        _ => None,
                    },
                    Reference::System(items) if name == "ctid" => match items.as_slice() {
                        [item] => Some((*item, name.to_owned())),
                        _ => None,
                    },
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The columns of two items that are compared with each other, as they are.
    fn columns_compared(&self, expr: &AExpr) -> Option<(Known, Known)> {
        let bare = |node: &Node| {
            let bare = matches!(node.node, Some(NodeEnum::ColumnRef(_)));
            bare.then(|| self.bare_column(node)).flatten()
        };
        Some((bare(expr.lexpr.as_deref()?)?, bare(expr.rexpr.as_deref()?)?))
    }

    /// The column that is compared with constants.
    fn column_tested(&self, expr: &AExpr) -> Option<Known> {
        let (left, right) = (expr.lexpr.as_deref()?, expr.rexpr.as_deref()?);
        let given = |node: &Node| match node.node.as_ref() {
            Some(NodeEnum::List(list)) => list.items.iter().all(|item| is_constant(item) && !is_null(item)),
            _ => is_constant(node) && !is_null(node),
        };
        let compares = match (expr.kind(), qualified(&expr.name)) {
            (AExprKind::AexprOp, Some((None, symbol))) => {
                matches!(symbol, "=" | "<>" | "!=" | "<" | ">" | "<=" | ">=")
            }
            (AExprKind::AexprIn, _) => true,
            _ => false,
        };
        match (compares, given(left), given(right)) {
            (true, false, true) => self.bare_column(left),
            (true, true, false) => self.bare_column(right),
            _ => None,
        }
    }

    /// A table of the database, not a view of one.
    fn is_table(&self, item: usize) -> bool {
        let Some(Source::Relation { schema, name }) = self.items.get(item).map(|item| &item.source) else {
            return false;
        };
        let kind = self.catalog.relation(schema, name).map(|relation| relation.kind);
        matches!(kind, Some(RelationKind::Table | RelationKind::Partitioned))
    }

    /// What the session has not made itself.
    fn is_permanent(&self, item: usize) -> bool {
        let Some(Source::Relation { schema, name }) = self.items.get(item).map(|item| &item.source) else {
            return false;
        };
        self.catalog.relation(schema, name).is_some()
    }

    fn is_same_table(&self, one: usize, other: usize) -> bool {
        let name = |at: usize| match self.items.get(at).map(|item| &item.source) {
            Some(Source::Relation { schema, name }) => Some((schema, name)),
            _ => None,
        };
        self.is_table(one) && name(one) == name(other)
    }
}

/// The conditions that must all hold.
fn conjuncts<'n>(condition: &'n Node, all: &mut Vec<&'n Node>) {
    let mut open = vec![condition];
    while let Some(node) = open.pop() {
        match node.node.as_ref() {
            Some(NodeEnum::BoolExpr(expr)) if expr.boolop() == BoolExprType::AndExpr => {
                open.extend(&expr.args);
            }
            _ => all.push(node),
        }
    }
}

/// Those of inner joins.
fn join_conditions<'n>(node: &'n Node, all: &mut Vec<&'n Node>) {
    let mut open = vec![node];
    while let Some(node) = open.pop() {
        if let Some(NodeEnum::JoinExpr(join)) = node.node.as_ref()
            && join.jointype() == JoinType::JoinInner
            && join.alias.is_none()
        {
            join.quals.iter().for_each(|quals| conjuncts(quals, all));
            open.extend(join.larg.as_deref().into_iter().chain(join.rarg.as_deref()));
        }
    }
}

/// Named relations and their inner joins on conditions that are written.
fn is_joined(node: &Node) -> bool {
    let mut open = vec![node];
    while let Some(node) = open.pop() {
        match node.node.as_ref() {
            Some(NodeEnum::RangeVar(_)) => {}
            Some(NodeEnum::JoinExpr(join))
                if join.jointype() == JoinType::JoinInner
                    && join.alias.is_none()
                    && !join.is_natural
                    && join.using_clause.is_empty() =>
            {
                open.extend(join.larg.as_deref().into_iter().chain(join.rarg.as_deref()));
            }
            _ => return false,
        }
    }
    true
}

fn is_equality(expr: &AExpr) -> bool {
    expr.kind() == AExprKind::AexprOp && matches!(expr.name.as_slice(), [name] if text_of(name) == Some("="))
}

fn is_plain_call(call: &FuncCall) -> bool {
    call.args.len() == 1 && call.over.is_none() && call.agg_filter.is_none() && !call.agg_within_group
}
