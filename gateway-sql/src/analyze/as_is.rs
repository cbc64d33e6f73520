//! Which expressions give a value as it is, and which can't tell more of a value than they give back.
//!
//! A mask of a column's own kind (its last four characters, its year) is safe only on the whole value: of
//! `substr(email, 1, 4)` the last four characters are the first four of the address. So a result is told apart by whether
//! it *is* a column's value or only carries it. For the same reason equality is equality of a column only where the
//! operand is the column's value.
//!
//! An expression whose evaluation depends on the value otherwise than by its result steers: it fails for some values,
//! gives more or fewer rows, or tells others. Then what it reads counts as compared. Those that do not are listed here.

use pg_query::NodeEnum;
use pg_query::protobuf::{AExpr, FuncCall, Node, TypeCast, XmlExprOp};

use super::calls::Callee;
use super::names::{qualified, text_of, type_name};
use super::scope::{Reference, resolve};
use super::walker::Walker;

/// Built-in functions that fail for no value, give one row, and tell nobody: their result carries what their arguments
/// do, and there is no more to learn. Fixed further arguments (a length, a separator) are the text's own.
const TOTAL: &[&str] = &[
    "array_agg",
    "array_length",
    "array_to_json",
    "array_to_string",
    "avg",
    "bool_and",
    "bool_or",
    "btrim",
    "cardinality",
    "char_length",
    "character_length",
    "concat",
    "concat_ws",
    "count",
    "every",
    "first_value",
    "initcap",
    "json_agg",
    "json_build_array",
    "json_strip_nulls",
    "jsonb_agg",
    "jsonb_build_array",
    "jsonb_pretty",
    "jsonb_strip_nulls",
    "lag",
    "last_value",
    "lead",
    "left",
    "length",
    "lower",
    "ltrim",
    "md5",
    "nth_value",
    "num_nonnulls",
    "num_nulls",
    "quote_ident",
    "quote_literal",
    "quote_nullable",
    "reverse",
    "right",
    "row_to_json",
    "rtrim",
    "split_part",
    "starts_with",
    "string_agg",
    "substr",
    "substring",
    "sum",
    "to_json",
    "to_jsonb",
    "upper",
    "xmlagg",
];

/// The same with a key first, which must not come from a value: a NULL key is an error.
const TOTAL_WITH_KEYS: &[&str] = &[
    "json_build_object",
    "json_object_agg",
    "jsonb_build_object",
    "jsonb_object_agg",
];

/// Functions that give one of their arguments' values as it is.
const CHOOSES: &[&str] = &["first_value", "lag", "last_value", "lead", "nth_value"];

/// Functions of texts that give a text.
const TEXTS: &[&str] = &[
    "btrim",
    "concat",
    "concat_ws",
    "initcap",
    "left",
    "lower",
    "ltrim",
    "md5",
    "quote_literal",
    "replace",
    "reverse",
    "right",
    "rtrim",
    "split_part",
    "string_agg",
    "substr",
    "upper",
];

/// A constant, or a value that the client sent.
pub(super) fn is_fixed(node: &Node) -> bool {
    match node.node.as_ref() {
        Some(
            NodeEnum::AConst(_)
            | NodeEnum::ParamRef(_)
            | NodeEnum::SetToDefault(_)
            | NodeEnum::SqlvalueFunction(_),
        ) => true,
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(is_fixed),
        Some(NodeEnum::NamedArgExpr(named)) => named.arg.as_deref().is_some_and(is_fixed),
        _ => false,
    }
}

/// Whether it is `a || b`.
fn joins(expr: &AExpr) -> bool {
    matches!(qualified(&expr.name), Some((None | Some("pg_catalog"), "||")))
}

/// A cast to a type that every value has a text for, and that cuts nothing.
fn is_to_text(cast: &TypeCast) -> bool {
    let Some(name) = cast.type_name.as_ref() else {
        return false;
    };
    name.typmods.is_empty()
        && name.array_bounds.is_empty()
        && matches!(
            type_name(name),
            Some((None | Some("pg_catalog"), "text" | "varchar"))
        )
}

impl Walker<'_> {
    /// Whether an expression's value is that of a column as it stands there, or carries none.
    pub(super) fn is_as_is(&self, node: &Node) -> bool {
        let Some(kind) = node.node.as_ref() else {
            return true;
        };
        if let Some(access) = self.json_access(node) {
            return self.is_as_is(access.of);
        }
        match kind {
            _ if is_fixed(node) => true,
            NodeEnum::ColumnRef(reference) => {
                let Some((qualifier, name)) = super::expr::split(reference) else {
                    return false;
                };
                self.is_value_of_columns(&resolve(&self.items, &self.scopes, qualifier, name))
            }
            // `(c).email` of a row.
            NodeEnum::AIndirection(indirection) => {
                let [field] = indirection.indirection.as_slice() else {
                    return false;
                };
                let (Some(NodeEnum::ColumnRef(reference)), Some(field)) = (
                    indirection.arg.as_deref().and_then(|arg| arg.node.as_ref()),
                    text_of(field),
                ) else {
                    return false;
                };
                let Some((qualifier @ None, name)) = super::expr::split(reference) else {
                    return false;
                };
                let Reference::Whole(whole) = resolve(&self.items, &self.scopes, qualifier, name) else {
                    return false;
                };
                let mut found = false;
                for (item, column) in self.fields(&whole, field) {
                    let column = self.items.get(item).and_then(|item| item.columns.get(column));
                    if !column.is_some_and(|column| column.as_is) {
                        return false;
                    }
                    found = true;
                }
                found
            }
            NodeEnum::CoalesceExpr(expr) => expr.args.iter().all(|arg| self.is_as_is(arg)),
            NodeEnum::CollateClause(clause) => clause.arg.as_deref().is_some_and(|arg| self.is_as_is(arg)),
            NodeEnum::CaseExpr(case) => {
                let results = case.args.iter().all(|when| match when.node.as_ref() {
                    Some(NodeEnum::CaseWhen(when)) => {
                        when.result.as_deref().is_none_or(|result| self.is_as_is(result))
                    }
                    _ => false,
                });
                results
                    && case
                        .defresult
                        .as_deref()
                        .is_none_or(|result| self.is_as_is(result))
            }
            NodeEnum::FuncCall(call) => {
                let Some((schema, name)) = qualified(&call.funcname) else {
                    return false;
                };
                let chooses = matches!(schema, None | Some("pg_catalog")) && CHOOSES.contains(&name);
                // What a function returns whose body is not understood is a value of its own.
                let returns = || {
                    let callees = self.callees(schema, name, None);
                    call.args.iter().all(is_fixed)
                        && !callees.is_empty()
                        && callees.iter().all(|callee| matches!(callee, Callee::User(_)))
                };
                chooses && call.args.iter().all(|arg| self.is_as_is(arg)) || returns()
            }
            NodeEnum::TypeCast(cast) => {
                is_to_text(cast)
                    && cast
                        .arg
                        .as_deref()
                        .is_some_and(|arg| self.is_text(arg) && self.is_as_is(arg))
            }
            _ => false,
        }
    }

    pub(super) fn is_value_of_columns(&self, reference: &Reference) -> bool {
        match reference {
            Reference::Columns(hits) => hits.iter().all(|(item, column)| {
                self.items
                    .get(*item)
                    .and_then(|item| item.columns.get(*column))
                    .is_some_and(|column| column.as_is)
            }),
            Reference::System(_) => true,
            Reference::Whole(_) | Reference::Open(_) | Reference::Nothing => false,
        }
    }

    /// The type of a column or of a part of its JSON; else nothing.
    pub(super) fn type_of(&self, node: &Node) -> String {
        if let Some(access) = self.json_access(node) {
            return self.type_of_access(&access);
        }
        let Some(NodeEnum::ColumnRef(reference)) = node.node.as_ref() else {
            return String::new();
        };
        let Some((qualifier, name)) = super::expr::split(reference) else {
            return String::new();
        };
        self.type_of_columns(&resolve(&self.items, &self.scopes, qualifier, name))
    }

    pub(super) fn type_of_columns(&self, reference: &Reference) -> String {
        let Reference::Columns(hits) = reference else {
            return String::new();
        };
        let mut types = hits.iter().filter_map(|(item, column)| {
            let column = self.items.get(*item)?.columns.get(*column)?;
            Some(column.type_name.as_str())
        });
        let first = types.next().unwrap_or_default();
        if types.all(|other| other == first) {
            first.to_owned()
        } else {
            String::new()
        }
    }

    fn is_text(&self, node: &Node) -> bool {
        matches!(
            self.type_of(node).as_str(),
            "pg_catalog.text" | "pg_catalog.varchar"
        )
    }

    /// Whether equality of it is equality of columns' whole values: bare columns, constants, and lists of these.
    pub(super) fn is_bare(&self, node: &Node) -> bool {
        let all = |nodes: &[Node]| nodes.iter().all(|node| self.is_bare(node));
        match node.node.as_ref() {
            Some(NodeEnum::List(list)) => all(&list.items),
            Some(NodeEnum::AArrayExpr(list)) => all(&list.elements),
            Some(NodeEnum::RowExpr(row)) => all(&row.args),
            Some(NodeEnum::ColumnRef(_)) => self.is_as_is(node),
            // A part of JSON is as much of a value as its tag says; see the path of what it carries.
            _ if self.json_access(node).is_some() => self.is_as_is(node),
            Some(NodeEnum::FuncCall(_)) => self.is_as_is(node),
            _ => super::expr::bare_or_list(node),
        }
    }

    /// Notes what was tested: `bare`, by equality of whole values or for NULL, which shows no part of a value.
    pub(super) fn tell(&mut self, bare: bool, flow: super::scope::Carries) {
        if bare && !self.sorts {
            self.out.tested.add(&flow);
        } else {
            self.out.compared.add(&flow);
        }
    }

    /// What a built-in function's arguments carry: it reaches the result, and steers unless the function is known to do
    /// no more than that.
    pub(super) fn is_total_call(&self, call: &FuncCall, schema: Option<&str>, name: &str) -> bool {
        if !matches!(schema, None | Some("pg_catalog")) || call.func_variadic {
            return false;
        }
        if TOTAL_WITH_KEYS.contains(&name) {
            return call.args.iter().step_by(2).all(is_fixed);
        }
        if !TOTAL.contains(&name) {
            return false;
        }
        match name {
            // A length that is negative, or a place that is 0, is an error; a computed one may be.
            "left" | "right" | "split_part" | "substr" | "substring" | "lag" | "lead" | "nth_value" => {
                call.args.iter().skip(1).all(is_fixed)
            }
            // Arrays in arrays must be of one length.
            "array_agg" => call.args.iter().all(|arg| self.is_no_array(arg)),
            _ => true,
        }
    }

    /// Whether an operator fails for no value of its operands.
    pub(super) fn is_total_operation(&self, expr: &AExpr) -> bool {
        let (left, right) = (expr.lexpr.as_deref(), expr.rexpr.as_deref());
        match qualified(&expr.name) {
            Some((None | Some("pg_catalog"), "||")) => [left, right]
                .into_iter()
                .flatten()
                .all(|side| self.is_no_array(side)),
            // Which part is taken is the text's own choice.
            Some((None | Some("pg_catalog"), "->" | "->>" | "#>" | "#>>")) => right.is_some_and(is_fixed),
            _ => false,
        }
    }

    /// Whether an expression is known to give no array: those of different lengths do not fit together.
    pub(super) fn is_no_array(&self, node: &Node) -> bool {
        let all = |nodes: &[Node]| nodes.iter().all(|node| self.is_no_array(node));
        let plain = |name: &str| {
            let name = name.strip_prefix("pg_catalog.");
            name.is_some_and(|name| !name.starts_with('_') && name != "anyarray")
        };
        match node.node.as_ref() {
            Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_) | NodeEnum::SqlvalueFunction(_)) => true,
            Some(NodeEnum::ColumnRef(_)) => plain(&self.type_of(node)),
            Some(NodeEnum::TypeCast(cast)) => is_to_text(cast),
            Some(NodeEnum::CoalesceExpr(expr)) => all(&expr.args),
            Some(NodeEnum::CollateClause(_)) => true,
            Some(NodeEnum::FuncCall(call)) => qualified(&call.funcname).is_some_and(|(schema, name)| {
                matches!(schema, None | Some("pg_catalog")) && TEXTS.contains(&name)
            }),
            Some(NodeEnum::AExpr(expr)) => {
                matches!(qualified(&expr.name), Some((_, "||" | "->>" | "#>>")))
                    && self.is_total_operation(expr)
            }
            _ => false,
        }
    }

    /// Whether its values come from different places.
    pub(super) fn is_mixed(&self, node: &Node) -> bool {
        if let Some(access) = self.json_access(node) {
            return self.is_mixed(access.of);
        }
        match node.node.as_ref() {
            Some(NodeEnum::ColumnRef(reference)) => {
                let Some((qualifier, name)) = super::expr::split(reference) else {
                    return true;
                };
                self.is_mixed_value(&resolve(&self.items, &self.scopes, qualifier, name))
            }
            Some(NodeEnum::AIndirection(indirection)) => indirection
                .arg
                .as_deref()
                .is_none_or(|arg| self.is_mixed_row(arg)),
            Some(NodeEnum::CollateClause(clause)) => {
                clause.arg.as_deref().is_none_or(|arg| self.is_mixed(arg))
            }
            Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_none_or(|arg| self.is_mixed(arg)),
            Some(NodeEnum::FuncCall(call)) => self.is_mixed_call(call),
            // The same text before or behind every value; an array is NULL no more where one side is not.
            Some(NodeEnum::AExpr(expr)) if self.is_total_operation(expr) => {
                // Of a chain that is total each part is.
                let mut part = &**expr;
                loop {
                    let rest = match (part.lexpr.as_deref(), part.rexpr.as_deref()) {
                        (Some(one), Some(other)) if is_fixed(other) => one,
                        (Some(one), Some(other)) if is_fixed(one) => other,
                        _ => return true,
                    };
                    match rest.node.as_ref() {
                        Some(NodeEnum::AExpr(inner)) if joins(part) && joins(inner) => part = inner,
                        _ => return self.is_mixed(rest),
                    }
                }
            }
            _ => !is_fixed(node),
        }
    }

    pub(super) fn is_mixed_value(&self, reference: &Reference) -> bool {
        match reference {
            Reference::Columns(hits) => hits.iter().any(|(item, column)| {
                let column = self.items.get(*item).and_then(|item| item.columns.get(*column));
                column.is_none_or(|column| column.mixed)
            }),
            Reference::System(_) => false,
            Reference::Whole(whole) => whole.iter().any(|&item| self.is_mixed_item(item)),
            _ => true,
        }
    }

    fn is_mixed_item(&self, item: usize) -> bool {
        self.items
            .get(item)
            .is_none_or(|item| item.columns.iter().any(|column| column.mixed))
    }

    /// Whether one of a row's columns is.
    fn is_mixed_row(&self, node: &Node) -> bool {
        let Some(NodeEnum::ColumnRef(reference)) = node.node.as_ref() else {
            return true;
        };
        let Some((qualifier, name)) = super::expr::split(reference) else {
            return true;
        };
        match resolve(&self.items, &self.scopes, qualifier, name) {
            Reference::Whole(whole) => whole.iter().any(|&item| self.is_mixed_item(item)),
            _ => true,
        }
    }

    /// Whether a cast can't fail, whatever the value.
    pub(super) fn is_total_cast(&self, cast: &TypeCast) -> bool {
        is_to_text(cast) || cast.arg.as_deref().is_none_or(is_fixed)
    }
}

/// XML that is built, not read.
pub(super) fn builds_xml(op: XmlExprOp) -> bool {
    matches!(
        op,
        XmlExprOp::IsXmlconcat | XmlExprOp::IsXmlelement | XmlExprOp::IsXmlforest
    )
}
