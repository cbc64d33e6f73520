//! Whether a condition limits the rows of a written table.
//!
//! It does when it compares a column of that table with something that is not the same row. Whatever can't be judged
//! does not limit. A subquery, CTE or second alias over the same table that is not itself limited stands for the same
//! rows ("mirrors" them), so comparing with it limits nothing. Nor does comparing with what is made of the row itself, as
//! a subquery in FROM that names the table outside of it.

use std::collections::BTreeSet;

use pg_query::NodeEnum;
use pg_query::protobuf::{
    AExpr, AExprKind, BoolExprType, BoolTestType, FuncCall, JoinType, Node, NullTestType, SelectStmt,
    SubLink, SubLinkType,
};

use super::constants::{Looked, integer_constant, string_constant};
use super::names::qualified;
use super::scope::{Reference, Scope, Source, is_system_column, resolve};
use super::walker::Walker;
use crate::catalog::RelationKind;

/// One side of a comparison, seen from the written table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// A column of it.
    Target,
    /// Something that has nothing to do with its rows.
    Other,
    /// Anything else.
    Mixed,
}

impl Walker<'_> {
    /// True if `condition` limits the rows of the item `target`.
    pub(super) fn limits(&mut self, condition: &Node, target: usize) -> bool {
        self.deeper(|walker| walker.limits_here(condition, target))
    }

    fn limits_here(&mut self, condition: &Node, target: usize) -> bool {
        let Some(kind) = condition.node.as_ref() else {
            return false;
        };
        match kind {
            NodeEnum::BoolExpr(expr) => match expr.boolop() {
                BoolExprType::AndExpr => expr.args.iter().any(|arg| self.limits(arg, target)),
                // `id = 1 OR id <> 1`, `id > 0 OR id <= 0`: inside OR only what picks rows limits.
                BoolExprType::OrExpr => {
                    let outer = std::mem::replace(&mut self.in_or, true);
                    let all = expr.args.iter().all(|arg| self.limits(arg, target));
                    self.in_or = outer;
                    all || !outer && self.ranges_apart(&expr.args, target)
                }
                BoolExprType::NotExpr if self.in_or => false,
                BoolExprType::NotExpr => expr.args.first().is_some_and(|arg| match arg.node.as_ref() {
                    Some(NodeEnum::AExpr(_) | NodeEnum::ColumnRef(_)) => self.limits(arg, target),
                    Some(NodeEnum::SubLink(link)) => self.in_apart(link, target),
                    _ => false,
                }),
                BoolExprType::Undefined => false,
            },
            NodeEnum::AExpr(expr) => self.comparison_limits(expr, target),
            NodeEnum::NullTest(test) => {
                test.nulltesttype() == NullTestType::IsNull
                    && test
                        .arg
                        .as_deref()
                        .is_some_and(|arg| self.side(arg, target) == Side::Target)
            }
            NodeEnum::BooleanTest(test) => {
                !self.in_or
                    && matches!(test.booltesttype(), BoolTestType::IsTrue | BoolTestType::IsFalse)
                    && test
                        .arg
                        .as_deref()
                        .is_some_and(|arg| self.side(arg, target) == Side::Target)
            }
            NodeEnum::ColumnRef(_) => self.side(condition, target) == Side::Target,
            NodeEnum::SubLink(link) => self.sub_link_limits(link, target),
            NodeEnum::CurrentOfExpr(_) => true,
            _ => false,
        }
    }

    /// `id < 3 OR customer_id > 100`: ranges of different columns, which can't be the two halves of one.
    fn ranges_apart(&mut self, args: &[Node], target: usize) -> bool {
        // A view may give one column twice.
        let item = self.items.get(target).map(|item| &item.source);
        let Some(Source::Relation { schema, name }) = item else {
            return false;
        };
        let relation = self.catalog.relation(schema, name);
        if !relation
            .is_some_and(|relation| matches!(relation.kind, RelationKind::Table | RelationKind::Partitioned))
        {
            return false;
        }
        let mut columns = BTreeSet::new();
        args.iter().all(|arg| {
            let column = self.column_compared(arg, target);
            column.is_some_and(|column| columns.insert(column)) && self.limits(arg, target)
        })
    }

    /// The column that a comparison compares with a constant.
    fn column_compared(&self, comparison: &Node, target: usize) -> Option<usize> {
        let Some(NodeEnum::AExpr(expr)) = comparison.node.as_ref() else {
            return None;
        };
        let (left, right) = (expr.lexpr.as_deref()?, expr.rexpr.as_deref()?);
        let column = match (is_constant(left), is_constant(right)) {
            (false, true) => left,
            (true, false) => right,
            _ => return None,
        };
        let Some(NodeEnum::ColumnRef(reference)) = column.node.as_ref() else {
            return None;
        };
        let (qualifier, name) = super::expr::split(reference)?;
        match resolve(&self.items, &self.scopes, qualifier, name) {
            Reference::Columns(hits) => match hits.as_slice() {
                [(item, column)] if *item == target && is_range(expr) => Some(*column),
                _ => None,
            },
            _ => None,
        }
    }

    fn comparison_limits(&mut self, expr: &AExpr, target: usize) -> bool {
        let Some((schema, symbol)) = qualified(&expr.name) else {
            return false;
        };
        if schema.is_some_and(|schema| schema != "pg_catalog") {
            return false;
        }
        if self.in_or && !picks_rows(expr.kind(), symbol) {
            return false;
        }
        let (Some(left), Some(right)) = (expr.lexpr.as_deref(), expr.rexpr.as_deref()) else {
            return false;
        };
        match expr.kind() {
            AExprKind::AexprOp => match symbol {
                "=" | "<>" | "!=" | "<" | ">" | "<=" | ">=" | "@>" | "<@" | "&&" => {
                    self.one_is_target(left, right, target)
                }
                "~~" | "~~*" | "!~~" | "!~~*" | "~" | "~*" | "!~" | "!~*" | "^@" => {
                    self.side(left, target) == Side::Target && self.pattern_limits(right, target)
                }
                _ => false,
            },
            AExprKind::AexprLike | AExprKind::AexprIlike | AExprKind::AexprSimilar => {
                self.side(left, target) == Side::Target && self.pattern_limits(right, target)
            }
            AExprKind::AexprOpAny => symbol == "=" && self.one_is_target(left, right, target),
            AExprKind::AexprOpAll => {
                let filled = matches!(right.node.as_ref(), Some(NodeEnum::AArrayExpr(list)) if !list.elements.is_empty());
                filled && self.one_is_target(left, right, target)
            }
            AExprKind::AexprIn
            | AExprKind::AexprBetween
            | AExprKind::AexprNotBetween
            | AExprKind::AexprBetweenSym
            | AExprKind::AexprNotBetweenSym => {
                self.side(left, target) == Side::Target && self.side(right, target) == Side::Other
            }
            AExprKind::AexprNotDistinct => self.one_is_target(left, right, target),
            AExprKind::AexprDistinct => {
                !is_null(left) && !is_null(right) && self.one_is_target(left, right, target)
            }
            AExprKind::AexprNullif | AExprKind::Undefined => false,
        }
    }

    fn one_is_target(&mut self, left: &Node, right: &Node, target: usize) -> bool {
        let (left, right) = (self.side(left, target), self.side(right, target));
        matches!(
            (left, right),
            (Side::Target, Side::Other) | (Side::Other, Side::Target)
        )
    }

    /// A pattern that is a constant must contain more than wildcards.
    fn pattern_limits(&mut self, pattern: &Node, target: usize) -> bool {
        let plain = match pattern.node.as_ref() {
            // SIMILAR TO wraps its pattern.
            Some(NodeEnum::FuncCall(call)) => call
                .args
                .first()
                .and_then(|arg| string_constant(arg, &self.looked)),
            _ => string_constant(pattern, &self.looked),
        };
        match plain {
            Some(text) => text.chars().any(char::is_alphanumeric),
            None => self.side(pattern, target) == Side::Other,
        }
    }

    fn sub_link_limits(&mut self, link: &SubLink, target: usize) -> bool {
        let select = match link.subselect.as_deref().and_then(|node| node.node.as_ref()) {
            Some(NodeEnum::SelectStmt(select)) => select,
            _ => return false,
        };
        match link.sub_link_type() {
            // A row is in the subquery only if the subquery has rows.
            SubLinkType::AnySublink => {
                self.in_apart(link, target) || is_equal(link) && self.exists_limits(select, target)
            }
            SubLinkType::ExistsSublink => self.exists_limits(select, target),
            _ => false,
        }
    }

    /// `column IN (subquery)` where the subquery has nothing to do with the row.
    fn in_apart(&mut self, link: &SubLink, target: usize) -> bool {
        let Some(NodeEnum::SelectStmt(select)) =
            link.subselect.as_deref().and_then(|node| node.node.as_ref())
        else {
            return false;
        };
        link.sub_link_type() == SubLinkType::AnySublink
            && is_equal(link)
            && link
                .testexpr
                .as_deref()
                .is_some_and(|test| self.side(test, target) == Side::Target)
            && self.touches(target, |walker| walker.subquery(select)) == Side::Other
    }

    /// EXISTS limits if its own condition does. An aggregate or a set operation may give a row whatever the condition.
    fn exists_limits(&mut self, select: &SelectStmt, target: usize) -> bool {
        let plain = select.op() == pg_query::protobuf::SetOperation::SetopNone
            && select.values_lists.is_empty()
            && select.group_clause.is_empty()
            && select.having_clause.is_none()
            && select.with_clause.is_none()
            && !select.from_clause.is_empty()
            && select.target_list.iter().all(is_plain_target);
        if !plain {
            return false;
        }
        self.scopes.push(Scope::default());
        for node in &select.from_clause {
            self.bring_from(node);
        }
        let limited = select
            .where_clause
            .as_deref()
            .is_some_and(|condition| self.limits(condition, target))
            || select
                .from_clause
                .iter()
                .any(|node| self.join_limits(node, target));
        self.scopes.pop();
        limited
    }

    /// True if an inner join's condition limits the item.
    pub(super) fn join_limits(&mut self, node: &Node, target: usize) -> bool {
        let Some(NodeEnum::JoinExpr(join)) = node.node.as_ref() else {
            return false;
        };
        if join.jointype() != JoinType::JoinInner {
            return false;
        }
        let shared = !join.using_clause.is_empty() && {
            let own = self
                .items
                .get(target)
                .map(|item| item.mirrors.clone())
                .unwrap_or_default();
            let items = self
                .scopes
                .last()
                .map(|scope| scope.items.clone())
                .unwrap_or_default();
            items.iter().filter(|&&at| at != target).all(|&at| {
                self.items
                    .get(at)
                    .is_some_and(|item| item.mirrors.is_disjoint(&own) && !item.made_of.contains(&target))
            })
        };
        shared
            || join
                .quals
                .as_deref()
                .is_some_and(|condition| self.limits(condition, target))
            || [join.larg.as_deref(), join.rarg.as_deref()]
                .into_iter()
                .flatten()
                .any(|node| self.deeper(|walker| walker.join_limits(node, target)))
    }

    fn subquery(&mut self, select: &SelectStmt) {
        let rows = self.select(select);
        if let Some(tracker) = &mut self.tracker {
            tracker.mirrors.extend(rows.mirrors);
        }
    }

    fn side(&mut self, node: &Node, target: usize) -> Side {
        self.deeper(|walker| Some(walker.side_here(node, target)))
            .unwrap_or(Side::Mixed)
    }

    fn side_here(&mut self, node: &Node, target: usize) -> Side {
        match node.node.as_ref() {
            Some(NodeEnum::ColumnRef(reference)) => {
                let Some((qualifier, name)) = super::expr::split(reference) else {
                    return Side::Mixed;
                };
                match resolve(&self.items, &self.scopes, qualifier, name) {
                    Reference::Columns(hits) => {
                        if hits.iter().all(|&(item, _)| item == target) {
                            return Side::Target;
                        }
                    }
                    // Only ctid tells rows apart.
                    Reference::System(items) if is_system_column(name) => {
                        let own = items.first() == Some(&target) || items.as_slice() == [target];
                        return if own && name == "ctid" {
                            Side::Target
                        } else {
                            Side::Mixed
                        };
                    }
                    // A relation that is not known may have any column.
                    Reference::Open(items) if items.as_slice() == [target] => return Side::Target,
                    Reference::Whole(_) | Reference::System(_) | Reference::Open(_) | Reference::Nothing => {}
                }
            }
            Some(NodeEnum::TypeCast(cast)) => {
                if let Some(arg) = cast.arg.as_deref() {
                    return self.side(arg, target);
                }
            }
            Some(NodeEnum::CollateClause(clause)) => {
                if let Some(arg) = clause.arg.as_deref() {
                    return self.side(arg, target);
                }
            }
            Some(NodeEnum::RowExpr(row)) => {
                let all = row.args.iter().all(|arg| self.side(arg, target) == Side::Target);
                if all && !row.args.is_empty() {
                    return Side::Target;
                }
            }
            Some(NodeEnum::FuncCall(call)) if is_transparent(call) => {
                let (mut targets, mut rest) = (0_usize, true);
                for arg in &call.args {
                    match self.side(arg, target) {
                        Side::Target => targets += 1,
                        Side::Other => rest &= is_constant(arg),
                        Side::Mixed => rest = false,
                    }
                }
                if targets == 1 && rest {
                    return Side::Target;
                }
            }
            Some(NodeEnum::AExpr(expr)) if is_part_of(expr, &self.looked) => {
                let part = expr.rexpr.as_deref().is_some_and(is_constant)
                    && expr
                        .lexpr
                        .as_deref()
                        .is_some_and(|left| self.side(left, target) == Side::Target);
                if part {
                    return Side::Target;
                }
            }
            _ => {}
        }
        self.touches(target, |walker| walker.expr(node))
    }

    /// Whether what `walk` walks over touches the item, or something that mirrors it.
    fn touches(&mut self, target: usize, walk: impl FnOnce(&mut Self)) -> Side {
        let known = self.items.len();
        let outer = self.tracker.replace(Tracker::default());
        // Names were walked before, in their own place: what is lost here is only that it can't be judged.
        let unresolved = std::mem::replace(&mut self.out.unresolved, false);
        let read_all = self.read_all;
        let flow = self.flow_of(walk);
        drop(flow);
        let inner = std::mem::replace(&mut self.tracker, outer).unwrap_or_default();
        let lost = std::mem::replace(&mut self.out.unresolved, unresolved);
        self.read_all = read_all;
        let own = self
            .items
            .get(target)
            .map(|item| item.mirrors.clone())
            .unwrap_or_default();
        let touched = inner.items.iter().any(|&at| {
            at == target
                || at < known
                    && self
                        .items
                        .get(at)
                        .is_some_and(|item| !item.mirrors.is_disjoint(&own) || item.made_of.contains(&target))
        });
        let mirrored = !inner.mirrors.is_disjoint(&own);
        if let Some(tracker) = &mut self.tracker {
            tracker.items.extend(inner.items);
            tracker.mirrors.extend(inner.mirrors);
        }
        if touched || mirrored || lost {
            Side::Mixed
        } else {
            Side::Other
        }
    }
}

/// Which items were read, and which relations subqueries mirror, while something was walked.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    pub(super) items: BTreeSet<usize>,
    pub(super) mirrors: BTreeSet<i64>,
}

/// Comparisons that pick rows, where others may only leave some out.
/// Whether a comparison with a constant picks a range, and not all but a value.
fn is_range(expr: &AExpr) -> bool {
    let range = matches!(qualified(&expr.name), Some((_, "<" | "<=" | ">" | ">=" | "=")));
    range && expr.kind() == AExprKind::AexprOp
}

fn picks_rows(kind: AExprKind, symbol: &str) -> bool {
    match kind {
        AExprKind::AexprBetween | AExprKind::AexprBetweenSym | AExprKind::AexprNotDistinct => true,
        AExprKind::AexprNotBetween | AExprKind::AexprNotBetweenSym | AExprKind::AexprDistinct => false,
        _ => matches!(
            symbol,
            "=" | "~~" | "~~*" | "~" | "~*" | "^@" | "@>" | "<@" | "&&"
        ),
    }
}

/// IN, or ANY with the server's equality.
fn is_equal(link: &SubLink) -> bool {
    link.oper_name.is_empty() || matches!(qualified(&link.oper_name), Some((None | Some("pg_catalog"), "=")))
}

fn is_null(node: &Node) -> bool {
    match node.node.as_ref() {
        Some(NodeEnum::AConst(constant)) => constant.isnull,
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(is_null),
        _ => false,
    }
}

fn is_constant(node: &Node) -> bool {
    match node.node.as_ref() {
        Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_)) => true,
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(is_constant),
        _ => false,
    }
}

/// Functions whose result still tells rows apart as the column does.
fn is_transparent(call: &FuncCall) -> bool {
    matches!(
        qualified(&call.funcname),
        Some((
            None | Some("pg_catalog"),
            "lower" | "upper" | "btrim" | "date" | "date_trunc" | "date_part" | "extract" | "timezone"
        ))
    )
}

/// `profile ->> 'tier'`, `id % 10`: a part of the column. A modulus of 1 has one value only.
fn is_part_of(expr: &AExpr, looked: &Looked) -> bool {
    if expr.kind() != AExprKind::AexprOp {
        return false;
    }
    match qualified(&expr.name) {
        Some((None, "->" | "->>" | "#>" | "#>>")) => true,
        Some((None, "%")) => match expr.rexpr.as_deref().and_then(|right| right.node.as_ref()) {
            Some(NodeEnum::AConst(constant)) => {
                integer_constant(constant, looked).is_some_and(|number| number > 1)
            }
            _ => false,
        },
        _ => false,
    }
}

fn is_plain_target(node: &Node) -> bool {
    let Some(NodeEnum::ResTarget(target)) = node.node.as_ref() else {
        return false;
    };
    matches!(
        target.val.as_deref().and_then(|value| value.node.as_ref()),
        Some(NodeEnum::AConst(_) | NodeEnum::ColumnRef(_) | NodeEnum::TypeCast(_))
    )
}
