//! Parts of JSON values: `payload->'user'->>'email'` carries that member alone.
//!
//! A part is followed only from a value that is a column's as it stands there, of type json or jsonb, and by steps that
//! the text tells; else the whole value counts as carried.

use pg_query::NodeEnum;
use pg_query::protobuf::{AExpr, AExprKind, AIndirection, FuncCall, Node, a_const};

use super::constants::{Looked, json_step_constant};
use super::names::qualified;
use super::scope::Carries;
use super::walker::Walker;
use crate::analysis::JsonStep;

const JSON: [&str; 2] = ["pg_catalog.json", "pg_catalog.jsonb"];

/// Most accesses within each other that are followed.
const MAX_CHAIN: usize = 500;

/// What an access to a part of a JSON value gives.
pub(super) struct Access<'n> {
    /// The value.
    pub(super) of: &'n Node,
    /// The steps into it.
    pub(super) steps: Vec<JsonStep>,
    /// Whether what comes out is a text, not JSON.
    pub(super) text: bool,
}

impl Walker<'_> {
    /// Whether an expression is known to be json or jsonb: a part of either is one, too. A chain of accesses is followed down to
    /// what it begins with in one go, and asked for at each of its links.
    fn is_json(&self, node: &Node) -> bool {
        let mut of = node;
        for _ in 0..MAX_CHAIN {
            match self.json_part(of) {
                Some(whole) => of = whole,
                None => {
                    return matches!(of.node, Some(NodeEnum::ColumnRef(_)))
                        && JSON.contains(&self.type_of(of).as_str());
                }
            }
        }
        false
    }

    /// What an expression would give a part of, as JSON, if that is JSON.
    fn json_part<'n>(&self, node: &'n Node) -> Option<&'n Node> {
        match node.node.as_ref()? {
            NodeEnum::AExpr(expr) if expr.kind() == AExprKind::AexprOp => {
                let (of, step) = (expr.lexpr.as_deref()?, expr.rexpr.as_deref()?);
                match qualified(&expr.name)? {
                    (None | Some("pg_catalog"), "->") => one_step(step, &self.looked).map(|_| of),
                    (None | Some("pg_catalog"), "#>") => path(step, &self.looked).map(|_| of),
                    _ => None,
                }
            }
            NodeEnum::FuncCall(call) if !call.func_variadic => {
                let name = qualified(&call.funcname)?;
                let (of, steps) = call.args.split_first()?;
                let given = matches!(
                    name,
                    (
                        None | Some("pg_catalog"),
                        "json_extract_path" | "jsonb_extract_path"
                    )
                );
                let fixed = steps.iter().all(|step| path_step(step, &self.looked).is_some());
                (given && fixed).then_some(of)
            }
            NodeEnum::AIndirection(indirection) => {
                let fixed = indirection
                    .indirection
                    .iter()
                    .all(|node| match node.node.as_ref() {
                        Some(NodeEnum::AIndices(indices)) if !indices.is_slice => indices
                            .uidx
                            .as_deref()
                            .is_some_and(|index| path_step(index, &self.looked).is_some()),
                        _ => false,
                    });
                indirection.arg.as_deref().filter(|_| fixed)
            }
            _ => None,
        }
    }

    /// `j -> step`, `j ->> step`, `j #> path`, `j #>> path`.
    pub(super) fn json_operation<'n>(&self, expr: &'n AExpr) -> Option<Access<'n>> {
        if expr.kind() != AExprKind::AexprOp {
            return None;
        }
        let (of, step) = (expr.lexpr.as_deref()?, expr.rexpr.as_deref()?);
        let Some((None | Some("pg_catalog"), symbol)) = qualified(&expr.name) else {
            return None;
        };
        let steps = match symbol {
            "->" | "->>" if self.is_json(of) => vec![one_step(step, &self.looked)?],
            "#>" | "#>>" if self.is_json(of) => path(step, &self.looked)?,
            _ => return None,
        };
        let text = symbol.ends_with(">>");
        Some(Access { of, steps, text })
    }

    /// `json_extract_path(j, 'a', 'b')` and its like.
    pub(super) fn json_extract<'n>(&self, call: &'n FuncCall) -> Option<Access<'n>> {
        let Some((None | Some("pg_catalog"), name)) = qualified(&call.funcname) else {
            return None;
        };
        let text = match name {
            "json_extract_path" | "jsonb_extract_path" => false,
            "json_extract_path_text" | "jsonb_extract_path_text" => true,
            _ => return None,
        };
        let (of, steps) = call.args.split_first()?;
        if call.func_variadic || !self.is_json(of) {
            return None;
        }
        let steps = steps.iter().map(|step| path_step(step, &self.looked));
        let steps = steps.collect::<Option<_>>()?;
        Some(Access { of, steps, text })
    }

    /// `j['a'][0]`.
    pub(super) fn json_subscript<'n>(&self, indirection: &'n AIndirection) -> Option<Access<'n>> {
        let of = indirection.arg.as_deref()?;
        if !self.is_json(of) {
            return None;
        }
        let step = |node: &'n Node| match node.node.as_ref() {
            Some(NodeEnum::AIndices(indices)) if !indices.is_slice => {
                path_step(indices.uidx.as_deref()?, &self.looked)
            }
            _ => None,
        };
        let steps = indirection.indirection.iter().map(step).collect::<Option<_>>()?;
        Some(Access {
            of,
            steps,
            text: false,
        })
    }

    /// The access that an expression is, if it is one.
    pub(super) fn json_access<'n>(&self, node: &'n Node) -> Option<Access<'n>> {
        match node.node.as_ref()? {
            NodeEnum::AExpr(expr) => self.json_operation(expr),
            NodeEnum::FuncCall(call) => self.json_extract(call),
            NodeEnum::AIndirection(indirection) => self.json_subscript(indirection),
            _ => None,
        }
    }

    /// Walks the value of an access: what comes out carries the part, if the value is a column's as it is.
    pub(super) fn walk_access(&mut self, access: &Access<'_>) {
        let as_is = self.is_as_is(access.of);
        let flow = self.flow_of(|walker| walker.expr(access.of));
        if as_is {
            let parts = flow.into_iter().map(|column| column.part(&access.steps));
            self.flow.extend(parts.collect::<Carries>());
        } else {
            self.flow.add(&flow);
        }
    }

    /// The type of what an access gives.
    pub(super) fn type_of_access(&self, access: &Access<'_>) -> String {
        if access.text {
            "pg_catalog.text".to_owned()
        } else {
            self.type_of(access.of)
        }
    }
}

/// The step of `->`: a text is a key, a number a place. `None`: not fixed, so it may steer.
fn one_step(node: &Node, looked: &Looked) -> Option<JsonStep> {
    if !super::as_is::is_fixed(node) {
        return None;
    }
    Some(match json_step_constant(node, looked) {
        Some(a_const::Val::Sval(key)) => JsonStep::Key(key.sval.clone()),
        Some(a_const::Val::Ival(_)) => JsonStep::Element,
        _ => JsonStep::Any,
    })
}

/// A step of a path of texts: digits may be a place as well as a key.
fn path_step(node: &Node, looked: &Looked) -> Option<JsonStep> {
    Some(match one_step(node, looked)? {
        JsonStep::Key(key) => key_or_place(&key),
        // A number is read as the text of it, which may be a member's name.
        _ => JsonStep::Any,
    })
}

fn key_or_place(text: &str) -> JsonStep {
    // As `strtol` reads it: blanks and a sign before the digits.
    let digits = text.trim_start().trim_start_matches(['-', '+']);
    if digits.starts_with(|c: char| c.is_ascii_digit()) {
        JsonStep::Any
    } else {
        JsonStep::Key(text.to_owned())
    }
}

/// The path of `#>`: an array of texts. One that is not a plain literal may lead anywhere.
fn path(node: &Node, looked: &Looked) -> Option<Vec<JsonStep>> {
    if let Some(NodeEnum::AArrayExpr(array)) = node.node.as_ref() {
        return array
            .elements
            .iter()
            .map(|element| path_step(element, looked))
            .collect();
    }
    if !super::as_is::is_fixed(node) {
        return None;
    }
    let text = match json_step_constant(node, looked) {
        Some(a_const::Val::Sval(text)) => text.sval.as_str(),
        _ => return None,
    };
    let inside = text.strip_prefix('{')?.strip_suffix('}')?;
    if inside.is_empty() {
        return Some(Vec::new());
    }
    let steps = inside.split(',').map(|part| {
        let plain = !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$' | '@' | '.' | ':'));
        // NULL in any case is no text.
        (plain && !part.eq_ignore_ascii_case("null")).then(|| key_or_place(part))
    });
    steps.collect()
}
