//! The one room where the value of a literal is read. Whoever reads one says so ([`Looked`]): the answer then holds for
//! that text alone, and not for all texts of its shape.

use std::cell::Cell;
use std::rc::Rc;

use pg_query::NodeEnum;
use pg_query::protobuf::{AConst, Node, a_const};

/// Whether the value of a literal was looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Looked(Rc<Cell<bool>>);

impl Looked {
    fn mark(&self) {
        self.0.set(true);
    }

    /// Whether there was one.
    pub(super) fn at_a_value(&self) -> bool {
        self.0.get()
    }
}

/// The value of a string constant, casts around it ignored.
pub(super) fn string_constant<'n>(node: &'n Node, looked: &Looked) -> Option<&'n str> {
    match node.node.as_ref()? {
        NodeEnum::AConst(constant) => {
            looked.mark();
            match constant.val.as_ref()? {
                a_const::Val::Sval(text) => Some(&text.sval),
                _ => None,
            }
        }
        NodeEnum::TypeCast(cast) => string_constant(cast.arg.as_deref()?, looked),
        NodeEnum::NamedArgExpr(named) => string_constant(named.arg.as_deref()?, looked),
        _ => None,
    }
}

/// The value of a constant that is a step into JSON, casts around it ignored.
pub(super) fn json_step_constant<'n>(node: &'n Node, looked: &Looked) -> Option<&'n a_const::Val> {
    match node.node.as_ref()? {
        NodeEnum::AConst(constant) => {
            looked.mark();
            constant.val.as_ref()
        }
        NodeEnum::TypeCast(cast) => json_step_constant(cast.arg.as_deref()?, looked),
        _ => None,
    }
}

/// The value of a literal that meets a column's values. Not looked at: what the statement does is the same for any, and
/// whoever uses the value analyses the text that has it.
pub(super) fn literal_value(constant: &AConst) -> Option<String> {
    match constant.val.as_ref()? {
        a_const::Val::Sval(text) => Some(text.sval.clone()),
        a_const::Val::Ival(number) => Some(number.ival.to_string()),
        a_const::Val::Fval(number) => Some(number.fval.clone()),
        _ => None,
    }
}

/// The value of an integer constant.
pub(super) fn integer_constant(constant: &AConst, looked: &Looked) -> Option<i32> {
    looked.mark();
    match &constant.val {
        Some(a_const::Val::Ival(number)) => Some(number.ival),
        _ => None,
    }
}

/// The value that a setting is given, as text.
pub(super) fn setting_value(node: &Node, looked: &Looked) -> Option<String> {
    match node.node.as_ref()? {
        NodeEnum::AConst(constant) => {
            looked.mark();
            Some(match constant.val.as_ref()? {
                a_const::Val::Sval(text) => text.sval.clone(),
                a_const::Val::Ival(number) => number.ival.to_string(),
                a_const::Val::Fval(number) => number.fval.clone(),
                a_const::Val::Boolval(value) => value.boolval.to_string(),
                a_const::Val::Bsval(bits) => bits.bsval.clone(),
            })
        }
        NodeEnum::TypeCast(cast) => setting_value(cast.arg.as_deref()?, looked),
        _ => None,
    }
}
