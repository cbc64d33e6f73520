//! Whether a condition limits the rows of a written table.
//!
//! It does when it compares a column of that table with something that is not the same row. Whatever can't be judged
//! does not limit. A subquery, CTE or second alias over the same table that is not itself limited stands for the same
//! rows ("mirrors" them), so comparing with it limits nothing. Nor does comparing with what is made of the row itself, as
//! a subquery in FROM that names the table outside of it. `side` tells what the sides of a comparison are, `apart` where
//! several comparisons together show that another row is meant.

mod apart;
mod side;

use std::collections::BTreeSet;

use pg_query::NodeEnum;
use pg_query::protobuf::{
    AExpr, AExprKind, BoolExprType, BoolTestType, BooleanTest, JoinExpr, JoinType, Node, NullTestType,
    SelectStmt, SubLink, SubLinkType,
};

use self::side::{Side, is_constant};
use super::constants::string_constant;
use super::names::{qualified, text_of};
use super::scope::{Reference, Scope, Source, Tells, find_item, resolve};
use super::walker::Walker;
use crate::catalog::RelationKind;

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
                BoolExprType::NotExpr => expr.args.iter().all(|arg| self.negation_limits(arg, target)),
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
            NodeEnum::BooleanTest(test) => self.truth_limits(test, target),
            // Of a cast to a truth value: nothing else is a condition.
            NodeEnum::ColumnRef(_) | NodeEnum::TypeCast(_) => self.side(condition, target) == Side::Target,
            NodeEnum::SubLink(link) => self.sub_link_limits(link, target),
            NodeEnum::CurrentOfExpr(_) => true,
            _ => false,
        }
    }

    /// `NOT condition`: what only leaves some rows out does not limit inside OR.
    fn negation_limits(&mut self, condition: &Node, target: usize) -> bool {
        if self.in_or {
            return false;
        }
        self.deeper(|walker| match condition.node.as_ref() {
            Some(NodeEnum::AExpr(expr)) => {
                let sides = [expr.lexpr.as_deref(), expr.rexpr.as_deref()];
                // No number of something is negative, and nothing is in an empty list.
                let leaves_out = sides
                    .into_iter()
                    .flatten()
                    .all(|side| !matches!(walker.side(side, target), Side::Count | Side::Place))
                    && (expr.kind() != AExprKind::AexprOpAny || expr.rexpr.as_deref().is_some_and(is_filled));
                leaves_out && walker.limits(condition, target)
            }
            Some(NodeEnum::ColumnRef(_) | NodeEnum::TypeCast(_)) => walker.limits(condition, target),
            Some(NodeEnum::NullTest(test)) => {
                let arg = test.arg.as_deref();
                test.nulltesttype() == NullTestType::IsNotNull
                    && arg.is_some_and(|arg| walker.side(arg, target) == Side::Target)
            }
            Some(NodeEnum::SubLink(link)) => {
                walker.in_apart(link, target) || walker.absence_limits(link, target)
            }
            Some(NodeEnum::BoolExpr(expr)) => match expr.boolop() {
                BoolExprType::OrExpr => expr.args.iter().any(|arg| walker.negation_limits(arg, target)),
                BoolExprType::NotExpr => expr.args.iter().all(|arg| walker.limits(arg, target)),
                _ => false,
            },
            _ => false,
        })
    }

    /// `active IS NOT TRUE`.
    fn truth_limits(&mut self, test: &BooleanTest, target: usize) -> bool {
        let Some(arg) = test.arg.as_deref() else {
            return false;
        };
        match test.booltesttype() {
            BoolTestType::IsTrue if self.in_or => self.is_comparison_that_limits(arg, target),
            BoolTestType::IsTrue => self.limits(arg, target),
            BoolTestType::IsFalse
            | BoolTestType::IsNotTrue
            | BoolTestType::IsNotFalse
            | BoolTestType::IsUnknown => !self.in_or && self.side(arg, target) == Side::Target,
            BoolTestType::IsNotUnknown | BoolTestType::Undefined => false,
        }
    }

    fn is_comparison_that_limits(&mut self, node: &Node, target: usize) -> bool {
        matches!(node.node, Some(NodeEnum::AExpr(_))) && self.limits(node, target)
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
            let parts = match arg.node.as_ref() {
                Some(NodeEnum::BoolExpr(expr)) if expr.boolop() == BoolExprType::AndExpr => {
                    expr.args.as_slice()
                }
                _ => std::slice::from_ref(arg),
            };
            parts.iter().any(|part| {
                let column = self.column_compared(part, target);
                column.is_some_and(|column| {
                    !columns.contains(&column) && self.limits(part, target) && columns.insert(column)
                })
            })
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
                // A generated column may be another one, by another name.
                [(item, column)] if *item == target && is_range(expr) => self
                    .items
                    .get(*item)
                    .and_then(|item| item.columns.get(*column))
                    .filter(|column| !column.generated)
                    .map(|_| *column),
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
                "=" | "<>" | "!=" | "<" | ">" | "<=" | ">=" => {
                    self.one_is_target(left, right, target)
                        || self.number_limits(left, symbol, right, target)
                        || self.number_limits(right, turned(symbol), left, target)
                }
                // Everything contains nothing.
                "@>" | "<@" | "&&" => {
                    !self.says_nothing(left)
                        && !self.says_nothing(right)
                        && self.one_is_target(left, right, target)
                }
                "?" | "?|" => {
                    is_given(right) && !self.says_nothing(right) && self.side(left, target) == Side::Target
                }
                // Every document has all of no keys.
                "?&" => is_given(right) && is_filled(right) && self.side(left, target) == Side::Target,
                "~~" | "~~*" | "!~~" | "!~~*" | "~" | "~*" | "!~" | "!~*" | "^@" => {
                    self.side(left, target) == Side::Target && self.pattern_limits(right, target)
                }
                _ => false,
            },
            AExprKind::AexprLike | AExprKind::AexprIlike | AExprKind::AexprSimilar => {
                self.side(left, target) == Side::Target && self.pattern_limits(right, target)
            }
            AExprKind::AexprOpAny => match symbol {
                "=" => self.one_is_target(left, right, target),
                "~~" | "~~*" => match right.node.as_ref() {
                    Some(NodeEnum::AArrayExpr(list)) => {
                        self.side(left, target) == Side::Target
                            && list.elements.iter().all(|one| self.pattern_limits(one, target))
                    }
                    _ => false,
                },
                _ => false,
            },
            AExprKind::AexprOpAll => {
                matches!(right.node, Some(NodeEnum::AArrayExpr(_)))
                    && is_filled(right)
                    && self.one_is_target(left, right, target)
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

    /// `length(name) > 10`, `rn > 1`: a number that is not below 0, or not below 1 and 1 for some row, is more than all
    /// rows have.
    fn number_limits(&mut self, left: &Node, symbol: &str, right: &Node, target: usize) -> bool {
        match self.side(left, target) {
            Side::Count => match symbol {
                "=" => self.side(right, target) == Side::Other,
                ">" => self.at_least(right, 1),
                ">=" => self.at_least(right, 2),
                "<" | "<=" => self.at_least(right, 0),
                _ => false,
            },
            Side::Place => match symbol {
                ">" => self.at_least(right, 1),
                "=" | ">=" => self.at_least(right, 2),
                "<>" | "!=" => self.at_least(right, 1) && !self.at_least(right, 2),
                _ => false,
            },
            Side::Target | Side::Other | Side::Mixed => false,
        }
    }

    /// `'{}'`, `ARRAY[]`: a constant in which nothing is.
    fn says_nothing(&self, node: &Node) -> bool {
        match node.node.as_ref() {
            Some(NodeEnum::AArrayExpr(list)) => list.elements.is_empty(),
            Some(NodeEnum::FuncCall(call)) => call.args.is_empty(),
            Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_none_or(|arg| self.says_nothing(arg)),
            _ => string_constant(node, &self.looked)
                .is_some_and(|text| !text.chars().any(char::is_alphanumeric)),
        }
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
        let limited = self.bounds(select.where_clause.as_deref(), &select.from_clause, target);
        self.scopes.pop();
        limited
    }

    /// `JOIN ... USING`: whether the item is one side's, joined by what tells its rows apart, and all of the other stands for
    /// other rows.
    fn is_shared(&self, join: &JoinExpr, target: usize) -> bool {
        let sides = [join.larg.as_deref(), join.rarg.as_deref()].map(|side| {
            let mut items = Vec::new();
            let known = side.is_some_and(|side| self.items_of(side, &mut items));
            known.then_some(items)
        });
        let [Some(left), Some(right)] = sides else {
            return false;
        };
        let other = match (left.contains(&target), right.contains(&target)) {
            (true, false) => right,
            (false, true) => left,
            _ => return false,
        };
        let Some(item) = self.items.get(target) else {
            return false;
        };
        let tells = join.using_clause.iter().filter_map(text_of).any(|name| {
            let mut columns = item.positions(name).filter_map(|at| item.columns.get(at));
            item.open && matches!(item.source, Source::Relation { .. })
                || columns.any(|column| column.tells == Tells::Rows)
        });
        tells && other.iter().all(|&at| self.stands_apart(at, target))
    }

    /// The items that a FROM item brought; false where that can't be told.
    fn items_of(&self, node: &Node, items: &mut Vec<usize>) -> bool {
        let alias = match node.node.as_ref() {
            Some(NodeEnum::JoinExpr(join)) => {
                let sides = [join.larg.as_deref(), join.rarg.as_deref()];
                return join.alias.is_none()
                    && sides
                        .into_iter()
                        .all(|side| side.is_some_and(|side| self.items_of(side, items)));
            }
            Some(NodeEnum::RangeVar(range)) => match &range.alias {
                None => Some(range.relname.as_str()),
                Some(alias) => Some(alias.aliasname.as_str()),
            },
            Some(NodeEnum::RangeSubselect(select)) => {
                select.alias.as_ref().map(|alias| alias.aliasname.as_str())
            }
            _ => None,
        };
        let scope = self.scopes.last().map_or(&[][..], std::slice::from_ref);
        let found = alias.and_then(|name| find_item(&self.items, scope, None, name));
        items.extend(found);
        found.is_some()
    }

    /// Whether an item neither stands for the rows of the other nor is made of them.
    fn stands_apart(&self, at: usize, target: usize) -> bool {
        let (Some(item), Some(own)) = (self.items.get(at), self.items.get(target)) else {
            return false;
        };
        let made_of = item.made_of.iter().any(|&of| {
            let mirrors = self.items.get(of).map(|item| &item.mirrors);
            of == target || mirrors.is_none_or(|mirrors| !mirrors.is_disjoint(&own.mirrors))
        });
        at != target && !made_of && item.mirrors.is_disjoint(&own.mirrors)
    }

    /// True if an inner join's condition limits the item.
    pub(super) fn join_limits(&mut self, node: &Node, target: usize) -> bool {
        let Some(NodeEnum::JoinExpr(join)) = node.node.as_ref() else {
            return false;
        };
        // The names within a join that has one of its own are others than those outside.
        if join.jointype() != JoinType::JoinInner || join.alias.is_some() {
            return false;
        }
        let shared = !join.using_clause.is_empty() && self.is_shared(join, target);
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
}

/// What a comparison says with its sides turned.
fn turned(symbol: &str) -> &str {
    match symbol {
        "<" => ">",
        ">" => "<",
        "<=" => ">=",
        ">=" => "<=",
        other => other,
    }
}

/// A constant, or a list of constants.
fn is_given(node: &Node) -> bool {
    match node.node.as_ref() {
        Some(NodeEnum::AArrayExpr(list)) => list.elements.iter().all(is_constant),
        _ => is_constant(node),
    }
}

/// A list with something in it, or the rows of a query.
fn is_filled(node: &Node) -> bool {
    match node.node.as_ref() {
        Some(NodeEnum::AArrayExpr(list)) => !list.elements.is_empty(),
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(is_filled),
        Some(NodeEnum::SubLink(_)) => true,
        _ => false,
    }
}

/// Which items were read, and which relations subqueries mirror, while something was walked.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    pub(super) items: BTreeSet<usize>,
    pub(super) mirrors: BTreeSet<i64>,
}

/// Whether a comparison with a constant picks a range, and not all but a value.
fn is_range(expr: &AExpr) -> bool {
    let range = matches!(qualified(&expr.name), Some((_, "<" | "<=" | ">" | ">=" | "=")));
    range && expr.kind() == AExprKind::AexprOp
}

/// Comparisons that pick rows, where others may only leave some out.
fn picks_rows(kind: AExprKind, symbol: &str) -> bool {
    match kind {
        AExprKind::AexprBetween | AExprKind::AexprBetweenSym | AExprKind::AexprNotDistinct => true,
        AExprKind::AexprNotBetween | AExprKind::AexprNotBetweenSym | AExprKind::AexprDistinct => false,
        _ => matches!(
            symbol,
            "=" | "~~" | "~~*" | "~" | "~*" | "^@" | "@>" | "<@" | "&&" | "?" | "?|"
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

fn is_plain_target(node: &Node) -> bool {
    let Some(NodeEnum::ResTarget(target)) = node.node.as_ref() else {
        return false;
    };
    matches!(
        target.val.as_deref().and_then(|value| value.node.as_ref()),
        Some(NodeEnum::AConst(_) | NodeEnum::ColumnRef(_) | NodeEnum::TypeCast(_))
    )
}
