//! What a value tells of the rows of a written table.

use pg_query::NodeEnum;
use pg_query::protobuf::{AExpr, AExprKind, AIndirection, FuncCall, Node, SelectStmt, TypeCast, a_const};

use super::super::constants::{integer_constant, string_constant};
use super::super::expr::split;
use super::super::names::{qualified, type_name};
use super::super::scope::{Reference, Source, Tells, is_system_column, resolve};
use super::super::walker::Walker;
use super::Tracker;

/// One side of a comparison, seen from the written table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// A column of it, or what tells its rows apart as one does.
    Target,
    /// A number of something in a column of it: never negative.
    Count,
    /// The place of its row among those that are equal to it in a column: never below 1, and 1 for one of them.
    Place,
    /// Something that has nothing to do with its rows.
    Other,
    /// Anything else.
    Mixed,
}

impl Walker<'_> {
    pub(super) fn subquery(&mut self, select: &SelectStmt) {
        let rows = self.select(select);
        if let Some(tracker) = &mut self.tracker {
            tracker.mirrors.extend(rows.mirrors);
        }
    }

    pub(super) fn side(&mut self, node: &Node, target: usize) -> Side {
        self.deeper(|walker| {
            Some(match walker.tells(node, target) {
                Tells::Rows => Side::Target,
                Tells::Count => Side::Count,
                Tells::Place => Side::Place,
                Tells::Nothing => walker.touches(target, |walker| walker.expr(node)),
            })
        })
        .unwrap_or(Side::Mixed)
    }

    /// What a value tells of an item's rows, by its own form alone.
    pub(in super::super) fn tells(&self, node: &Node, target: usize) -> Tells {
        let rows = |node: Option<&Node>| node.is_some_and(|node| self.tells(node, target) == Tells::Rows);
        let told = match node.node.as_ref() {
            Some(NodeEnum::ColumnRef(reference)) => {
                return split(reference).map_or(Tells::Nothing, |(qualifier, name)| {
                    let found = resolve(&self.items, &self.scopes, qualifier, name);
                    self.reference_tells(&found, name, target)
                });
            }
            Some(NodeEnum::TypeCast(cast)) => !rounds(cast) && rows(cast.arg.as_deref()),
            Some(NodeEnum::CollateClause(clause)) => rows(clause.arg.as_deref()),
            Some(NodeEnum::RowExpr(row)) => {
                !row.args.is_empty() && row.args.iter().all(|arg| rows(Some(arg)))
            }
            // What stands for NULL is a constant.
            Some(NodeEnum::CoalesceExpr(expr)) => match expr.args.split_first() {
                Some((first, rest)) => rows(Some(first)) && rest.iter().all(is_constant),
                None => false,
            },
            Some(NodeEnum::FuncCall(call)) => return self.call_tells(call, target),
            Some(NodeEnum::AExpr(expr)) => self.operation_tells(expr, target),
            Some(NodeEnum::AIndirection(part)) => rows(part.arg.as_deref()) && is_one_part(part),
            _ => false,
        };
        if told { Tells::Rows } else { Tells::Nothing }
    }

    fn reference_tells(&self, reference: &Reference, name: &str, target: usize) -> Tells {
        match reference {
            Reference::Columns(hits) if hits.iter().all(|&(item, _)| item == target) => {
                let mut told = hits.iter().map(|&(item, column)| {
                    let column = self.items.get(item).and_then(|item| item.columns.get(column));
                    column.map_or(Tells::Nothing, |column| column.tells)
                });
                let first = told.next().unwrap_or_default();
                if told.all(|other| other == first) {
                    first
                } else {
                    Tells::Nothing
                }
            }
            // Only ctid tells rows apart.
            Reference::System(items) if is_system_column(name) => {
                if items.as_slice() == [target] && name == "ctid" {
                    Tells::Rows
                } else {
                    Tells::Nothing
                }
            }
            // A relation that is not known may have any column.
            Reference::Open(items) if items.as_slice() == [target] => {
                let item = self.items.get(target);
                if item.is_some_and(|item| !matches!(item.source, Source::Derived)) {
                    Tells::Rows
                } else {
                    Tells::Nothing
                }
            }
            _ => Tells::Nothing,
        }
    }

    fn call_tells(&self, call: &FuncCall, target: usize) -> Tells {
        let Some((None | Some("pg_catalog"), name)) = qualified(&call.funcname) else {
            return Tells::Nothing;
        };
        let rows = |node: &Node| self.tells(node, target) == Tells::Rows;
        let plain = call.over.is_none() && call.agg_filter.is_none() && !call.func_variadic;
        let (Some(first), true) = (call.args.first(), plain) else {
            return Tells::Nothing;
        };
        let rest = call.args.get(1..).unwrap_or_default();
        let told = match name {
            "abs" | "cardinality" | "char_length" | "character_length" | "json_array_length"
            | "jsonb_array_length" | "length" | "octet_length"
                if rest.is_empty() && rows(first) =>
            {
                return Tells::Count;
            }
            "date" | "lower" | "upper" | "initcap" | "reverse" | "md5" | "to_tsvector" | "age" | "ceil"
            | "ceiling" | "floor" | "round" | "trunc" => rest.is_empty() && rows(first),
            "btrim" | "date_part" | "date_trunc" | "extract" | "timezone" => {
                let told = call.args.iter().filter(|arg| rows(arg)).count();
                let fixed = call.args.iter().filter(|arg| is_constant(arg)).count();
                told == 1 && told + fixed == call.args.len()
            }
            "ltrim" | "rtrim" => rows(first) && rest.iter().all(is_constant),
            "mod" => rows(first) && matches!(rest, [by] if self.at_least(by, 2)),
            "left" | "right" => rows(first) && matches!(rest, [length] if self.at_least(length, 1)),
            "substr" | "substring" => {
                let whole = |from: &Node| self.at_least(from, 1) && !self.at_least(from, 2);
                rows(first) && matches!(rest, [from, length] if whole(from) && self.at_least(length, 1))
            }
            // Nothing else of the text stands there whatever the time.
            "to_char" => {
                let format = match rest {
                    [format] => string_constant(format, &self.looked),
                    _ => None,
                };
                rows(first)
                    && format
                        .is_some_and(|format| format.starts_with("YYYY") && !format.contains(['"', '\\']))
            }
            _ => false,
        };
        if told { Tells::Rows } else { Tells::Nothing }
    }

    /// `profile ->> 'tier'`, `id % 10`, `total + 1`: a part of the column, or the column moved. A modulus of 1 has one
    /// value only; what is added to a number that is not exact, or to a time without end, may leave nothing of it.
    fn operation_tells(&self, expr: &AExpr, target: usize) -> bool {
        let (Some(left), Some(right)) = (expr.lexpr.as_deref(), expr.rexpr.as_deref()) else {
            return false;
        };
        let rows = |node: &Node| self.tells(node, target) == Tells::Rows;
        match (expr.kind(), qualified(&expr.name)) {
            (AExprKind::AexprNullif, _) => rows(left) && is_constant(right),
            (AExprKind::AexprOp, Some((None, symbol))) => match symbol {
                "->" | "->>" | "#>" | "#>>" => rows(left) && is_constant(right),
                "%" => rows(left) && self.at_least(right, 2),
                "*" => self.is_exact(left) && rows(left) && self.at_least(right, 1),
                "+" | "-" if self.is_exact(left) => rows(left) && is_number(right),
                "+" | "-" if self.is_time(left) && rows(left) => self.is_finite_interval(right),
                "-" => self.is_time(right) && rows(right) && is_present(left),
                _ => false,
            },
            _ => false,
        }
    }

    fn is_exact(&self, node: &Node) -> bool {
        matches!(
            self.type_of(node).as_str(),
            "pg_catalog.int2" | "pg_catalog.int4" | "pg_catalog.int8" | "pg_catalog.numeric"
        )
    }

    fn is_time(&self, node: &Node) -> bool {
        matches!(
            self.type_of(node).as_str(),
            "pg_catalog.date" | "pg_catalog.timestamp" | "pg_catalog.timestamptz"
        )
    }

    /// A length of time that is written out, or a number of days.
    fn is_finite_interval(&self, node: &Node) -> bool {
        match node.node.as_ref() {
            Some(NodeEnum::AConst(_)) => is_number(node),
            Some(NodeEnum::TypeCast(cast)) => {
                let named = cast.type_name.as_ref().and_then(type_name);
                matches!(named, Some((None | Some("pg_catalog"), "interval")))
                    && string_constant(node, &self.looked)
                        .is_some_and(|text| !text.to_ascii_lowercase().contains("inf"))
            }
            _ => false,
        }
    }

    /// Whether it is an integer constant of at least that.
    pub(super) fn at_least(&self, node: &Node, least: i32) -> bool {
        match node.node.as_ref() {
            Some(NodeEnum::AConst(constant)) => {
                integer_constant(constant, &self.looked).is_some_and(|number| number >= least)
            }
            _ => false,
        }
    }

    /// Whether what `walk` walks over touches the item, or something that mirrors it.
    pub(super) fn touches(&mut self, target: usize, walk: impl FnOnce(&mut Self)) -> Side {
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
        let touched = inner
            .items
            .iter()
            .any(|&at| at == target || at < known && !self.stands_apart(at, target));
        let own = self
            .items
            .get(target)
            .map(|item| item.mirrors.clone())
            .unwrap_or_default();
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

pub(super) fn is_constant(node: &Node) -> bool {
    match node.node.as_ref() {
        Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_)) => true,
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(is_constant),
        _ => false,
    }
}

/// A number with a scale may be rounded to nothing.
fn rounds(cast: &TypeCast) -> bool {
    cast.type_name.as_ref().is_none_or(|name| {
        !name.typmods.is_empty() && matches!(type_name(name), Some((_, "numeric" | "decimal")))
    })
}

/// A number that is written out.
fn is_number(node: &Node) -> bool {
    match node.node.as_ref() {
        Some(NodeEnum::AConst(constant)) => {
            matches!(constant.val, Some(a_const::Val::Ival(_) | a_const::Val::Fval(_)))
        }
        _ => false,
    }
}

/// The time that it is now.
fn is_present(node: &Node) -> bool {
    match node.node.as_ref() {
        Some(NodeEnum::SqlvalueFunction(_)) => true,
        Some(NodeEnum::FuncCall(call)) => {
            let name = qualified(&call.funcname);
            call.args.is_empty() && matches!(name, Some((None | Some("pg_catalog"), "now")))
        }
        _ => false,
    }
}

/// `profile['tier']`, `numbers[1]`.
fn is_one_part(part: &AIndirection) -> bool {
    part.indirection.iter().all(|step| match step.node.as_ref() {
        Some(NodeEnum::AIndices(indices)) => {
            !indices.is_slice && indices.uidx.as_deref().is_some_and(is_constant)
        }
        _ => false,
    })
}
