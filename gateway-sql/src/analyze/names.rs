//! Names in syntax trees.

use pg_query::NodeEnum;
use pg_query::protobuf::{
    AExprKind, JsonExprOp, MinMaxOp, Node, ResTarget, SqlValueFunctionOp, SubLinkType, TypeName, XmlExprOp,
    a_const,
};

/// The text of a String node.
pub(super) fn text_of(node: &Node) -> Option<&str> {
    match node.node.as_ref() {
        Some(NodeEnum::String(text)) => Some(&text.sval),
        _ => None,
    }
}

/// Splits a qualified name into schema and name; a database before them is dropped.
pub(super) fn qualified(nodes: &[Node]) -> Option<(Option<&str>, &str)> {
    match nodes {
        [name] => Some((None, text_of(name)?)),
        [schema, name] => Some((Some(text_of(schema)?), text_of(name)?)),
        [database, schema, name] => {
            text_of(database)?;
            Some((Some(text_of(schema)?), text_of(name)?))
        }
        _ => None,
    }
}

/// Schema and name of a type.
pub(super) fn type_name(name: &TypeName) -> Option<(Option<&str>, &str)> {
    qualified(&name.names)
}

/// Like the server, names an output column that has no AS (`FigureColname` of `parse_target.c`); `None` if it can't be
/// told.
pub(super) fn output_name(target: &ResTarget, server_version: i32) -> Option<String> {
    if !target.name.is_empty() {
        return Some(target.name.clone());
    }
    let value = target.val.as_deref();
    match value.and_then(|value| figure(value, server_version)) {
        Some(figured) => figured.name,
        None => Some("?column?".to_owned()),
    }
}

/// How the server names a value in FROM that no alias names; `None` if it can't be told.
pub(super) fn value_name(value: &Node, server_version: i32) -> Option<String> {
    figure(value, server_version).map_or_else(|| Some("?column?".to_owned()), |figured| figured.name)
}

/// A name that is made of an expression.
struct Figured {
    /// `None`: it can't be told.
    name: Option<String>,
    /// It gives way to the name of a type, or to what is around it.
    weak: bool,
}

/// The name that an expression has, if it has one. `server_version`: some have changed.
fn figure(node: &Node, server_version: i32) -> Option<Figured> {
    let weak = |name: &str| {
        Some(Figured {
            name: Some(name.to_owned()),
            weak: true,
        })
    };
    let figure = |node: Option<&Node>| figure(node?, server_version);
    let strong = |name: Option<&str>| {
        Some(Figured {
            name: Some(name?.to_owned()),
            weak: false,
        })
    };
    strong(match node.node.as_ref()? {
        NodeEnum::ColumnRef(reference) => reference.fields.iter().rev().find_map(text_of),
        NodeEnum::AIndirection(indirection) => match indirection.indirection.iter().rev().find_map(text_of) {
            Some(field) => Some(field),
            None => return figure(indirection.arg.as_deref()),
        },
        NodeEnum::FuncCall(call) => match call.funcname.last().and_then(text_of) {
            Some("extract") if server_version < EXTRACT && call.funcname.len() > 1 => Some("date_part"),
            name => name,
        },
        NodeEnum::AExpr(expr) if expr.kind() == AExprKind::AexprNullif => Some("nullif"),
        NodeEnum::TypeCast(cast) => {
            let inner = figure(cast.arg.as_deref());
            match cast
                .type_name
                .as_ref()
                .and_then(|name| name.names.last())
                .and_then(text_of)
            {
                Some(name) if inner.as_ref().is_none_or(|inner| inner.weak) => return weak(name),
                _ => return inner,
            }
        }
        // Words for truth were casts.
        NodeEnum::AConst(constant) if matches!(constant.val, Some(a_const::Val::Boolval(_))) => {
            return if server_version < TRUTH {
                weak("bool")
            } else {
                None
            };
        }
        NodeEnum::CollateClause(clause) => return figure(clause.arg.as_deref()),
        NodeEnum::GroupingFunc(_) => Some("grouping"),
        NodeEnum::MergeSupportFunc(_) => Some("merge_action"),
        NodeEnum::SubLink(link) => match link.sub_link_type() {
            SubLinkType::ExistsSublink => Some("exists"),
            SubLinkType::ArraySublink => Some("array"),
            SubLinkType::ExprSublink => return subquery_name(link.subselect.as_deref()?, server_version),
            _ => None,
        },
        NodeEnum::CaseExpr(case) => {
            let inner = figure(case.defresult.as_deref());
            return if inner.as_ref().is_none_or(|inner| inner.weak) {
                weak("case")
            } else {
                inner
            };
        }
        NodeEnum::CoalesceExpr(_) => Some("coalesce"),
        NodeEnum::MinMaxExpr(expr) => Some(match expr.op() {
            MinMaxOp::IsLeast => "least",
            _ => "greatest",
        }),
        NodeEnum::AArrayExpr(_) => Some("array"),
        NodeEnum::RowExpr(_) => Some("row"),
        NodeEnum::SqlvalueFunction(function) => value_function_name(function.op()),
        NodeEnum::XmlExpr(xml) => match xml.op() {
            XmlExprOp::IsXmlconcat => Some("xmlconcat"),
            XmlExprOp::IsXmlelement => Some("xmlelement"),
            XmlExprOp::IsXmlforest => Some("xmlforest"),
            XmlExprOp::IsXmlparse => Some("xmlparse"),
            XmlExprOp::IsXmlpi => Some("xmlpi"),
            XmlExprOp::IsXmlroot => Some("xmlroot"),
            _ => None,
        },
        NodeEnum::XmlSerialize(_) => Some("xmlserialize"),
        NodeEnum::JsonParseExpr(_) => Some("json"),
        NodeEnum::JsonScalarExpr(_) => Some("json_scalar"),
        NodeEnum::JsonSerializeExpr(_) => Some("json_serialize"),
        NodeEnum::JsonObjectConstructor(_) => Some("json_object"),
        NodeEnum::JsonArrayConstructor(_) | NodeEnum::JsonArrayQueryConstructor(_) => Some("json_array"),
        NodeEnum::JsonObjectAgg(_) => Some("json_objectagg"),
        NodeEnum::JsonArrayAgg(_) => Some("json_arrayagg"),
        NodeEnum::JsonFuncExpr(json) => match json.op() {
            JsonExprOp::JsonExistsOp => Some("json_exists"),
            JsonExprOp::JsonQueryOp => Some("json_query"),
            JsonExprOp::JsonValueOp => Some("json_value"),
            _ => None,
        },
        _ => None,
    })
}

/// The server version since which EXTRACT is a function of its own, and since which `true` is no cast of a string.
const EXTRACT: i32 = 140_000;
const TRUTH: i32 = 150_000;

/// A subquery that is a value is called like its column, also where that has no name.
fn subquery_name(query: &Node, server_version: i32) -> Option<Figured> {
    let Some(NodeEnum::SelectStmt(select)) = query.node.as_ref() else {
        return None;
    };
    // A set operation has the names of its first query.
    let mut select = &**select;
    while let Some(first) = select.larg.as_deref() {
        select = first;
    }
    let name = if select.values_lists.is_empty() {
        let Some(NodeEnum::ResTarget(target)) = select.target_list.first()?.node.as_ref() else {
            return None;
        };
        let star = match target.val.as_deref().and_then(|value| value.node.as_ref()) {
            Some(NodeEnum::ColumnRef(reference)) => {
                reference.fields.iter().any(|field| text_of(field).is_none())
            }
            _ => false,
        };
        // Which column that is, only its walk tells.
        if star {
            None
        } else {
            output_name(target, server_version)
        }
    } else {
        Some("column1".to_owned())
    };
    Some(Figured { name, weak: false })
}

fn value_function_name(op: SqlValueFunctionOp) -> Option<&'static str> {
    use SqlValueFunctionOp::*;
    Some(match op {
        SvfopCurrentDate => "current_date",
        SvfopCurrentTime | SvfopCurrentTimeN => "current_time",
        SvfopCurrentTimestamp | SvfopCurrentTimestampN => "current_timestamp",
        SvfopLocaltime | SvfopLocaltimeN => "localtime",
        SvfopLocaltimestamp | SvfopLocaltimestampN => "localtimestamp",
        SvfopCurrentRole => "current_role",
        SvfopCurrentUser => "current_user",
        SvfopUser => "user",
        SvfopSessionUser => "session_user",
        SvfopCurrentCatalog => "current_catalog",
        SvfopCurrentSchema => "current_schema",
        SqlvalueFunctionOpUndefined => return None,
    })
}
