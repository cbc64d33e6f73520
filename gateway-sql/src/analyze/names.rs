//! Names in syntax trees.

use pg_query::NodeEnum;
use pg_query::protobuf::{Node, ResTarget, TypeName};

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

/// Like the server, names an output column that has no AS; `None` if it can't be told.
pub(super) fn output_name(target: &ResTarget) -> Option<String> {
    if !target.name.is_empty() {
        return Some(target.name.clone());
    }
    target.val.as_deref().and_then(figure)
}

fn figure(node: &Node) -> Option<String> {
    let name = match node.node.as_ref()? {
        NodeEnum::ColumnRef(reference) => text_of(reference.fields.last()?)?,
        NodeEnum::AIndirection(indirection) => {
            let field = indirection.indirection.iter().rev().find_map(text_of);
            return field
                .map(str::to_owned)
                .or_else(|| figure(indirection.arg.as_deref()?));
        }
        NodeEnum::FuncCall(call) => text_of(call.funcname.last()?)?,
        NodeEnum::TypeCast(cast) => {
            let inner = cast.arg.as_deref().and_then(figure);
            return inner.or_else(|| text_of(cast.type_name.as_ref()?.names.last()?).map(str::to_owned));
        }
        NodeEnum::CollateClause(clause) => return figure(clause.arg.as_deref()?),
        NodeEnum::AConst(_) | NodeEnum::ParamRef(_) | NodeEnum::AExpr(_) | NodeEnum::BoolExpr(_) => {
            "?column?"
        }
        NodeEnum::CoalesceExpr(_) => "coalesce",
        NodeEnum::AArrayExpr(_) => "array",
        NodeEnum::RowExpr(_) => "row",
        _ => return None,
    };
    Some(name.to_owned())
}
