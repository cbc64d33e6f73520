//! Literals and parameters that meet the values of columns: compared for equality with one, or written into one.

use pg_query::NodeEnum;
use pg_query::protobuf::{Node, a_const};

use super::constants::literal_value;
use super::names::type_name;
use super::scope::Carries;
use super::walker::Walker;
use crate::analysis::{Given, Matched};

impl Walker<'_> {
    /// Two sides are compared for equality: what is given on one side meets what the other carries.
    pub(super) fn meet(&mut self, left: &Node, right: &Node) {
        match (left.node.as_ref(), right.node.as_ref()) {
            (Some(NodeEnum::RowExpr(row)), Some(NodeEnum::List(list))) => {
                let left = Node {
                    node: Some(NodeEnum::RowExpr(row.clone())),
                };
                for item in &list.items {
                    self.meet(&left, item);
                }
            }
            (Some(NodeEnum::RowExpr(one)), Some(NodeEnum::RowExpr(other))) => {
                for (one, other) in one.args.iter().zip(&other.args) {
                    self.meet(one, other);
                }
            }
            _ => {
                for (value, column) in [(right, left), (left, right)] {
                    if self.is_given(value) && !super::as_is::is_fixed(column) && self.is_as_is(column) {
                        let columns = self.flow_of(|walker| walker.expr(column));
                        self.given(value, &columns);
                    }
                }
            }
        }
    }

    /// What a column of the written relation is known by.
    fn columns_written(&self, target: usize, column: &str) -> Carries {
        let item = self.items.get(target);
        let columns = item.into_iter().flat_map(|item| item.columns.iter());
        let named = columns.filter(|known| known.real == column);
        named.flat_map(|column| column.carries.iter().cloned()).collect()
    }

    /// A value is written into a column.
    pub(super) fn written(&mut self, value: Option<&Node>, target: usize, column: &str) {
        if let Some(value) = value.filter(|value| self.is_given(value)) {
            let columns = self.columns_written(target, column);
            self.given(value, &columns);
        }
    }

    /// The rows of an INSERT, as far as they are written in it.
    pub(super) fn inserted(&mut self, select: Option<&Node>, target: usize, columns: &[String]) {
        let Some(NodeEnum::SelectStmt(select)) = select.and_then(|node| node.node.as_ref()) else {
            return;
        };
        let columns: Vec<_> = columns
            .iter()
            .map(|column| self.columns_written(target, column))
            .collect();
        for row in &select.values_lists {
            let Some(NodeEnum::List(row)) = row.node.as_ref() else {
                continue;
            };
            for (value, columns) in row.items.iter().zip(&columns) {
                self.given(value, columns);
            }
        }
        for (node, columns) in select.target_list.iter().zip(&columns) {
            match node.node.as_ref() {
                Some(NodeEnum::ResTarget(value)) if self.star(value).is_none() => {
                    if let Some(value) = value.val.as_deref() {
                        self.given(value, columns);
                    }
                }
                // Behind a star the places are not those of the list.
                _ => break,
            }
        }
    }

    /// Whether something that the client gives is in there.
    fn is_given(&self, node: &Node) -> bool {
        match node.node.as_ref() {
            Some(NodeEnum::AConst(constant)) => !constant.isnull,
            Some(NodeEnum::ParamRef(_)) => true,
            Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(|arg| self.is_given(arg)),
            Some(NodeEnum::List(list)) => list.items.iter().any(|item| self.is_given(item)),
            Some(NodeEnum::AArrayExpr(list)) => list.elements.iter().any(|item| self.is_given(item)),
            _ => false,
        }
    }

    /// Notes what is given in there as meeting these columns.
    pub(super) fn given(&mut self, node: &Node, columns: &Carries) {
        self.given_as(node, None, columns);
    }

    /// The same of what becomes a value of this type first.
    pub(super) fn given_as(&mut self, node: &Node, cast: Option<&str>, columns: &Carries) {
        if columns.is_empty() {
            return;
        }
        match node.node.as_ref() {
            Some(NodeEnum::AConst(constant)) => {
                let Ok(start) = usize::try_from(constant.location) else {
                    return;
                };
                let number = matches!(constant.val, Some(a_const::Val::Ival(_) | a_const::Val::Fval(_)));
                // Its value is looked at only where a column has tokens; then the text is analysed by itself.
                if let Some(value) = literal_value(constant) {
                    self.match_value(Given::Literal { start, value, number }, cast, columns);
                }
            }
            Some(NodeEnum::ParamRef(param)) => {
                if let (Ok(number), Ok(start)) =
                    (u16::try_from(param.number), usize::try_from(param.location))
                {
                    self.match_value(Given::Parameter { number, start }, cast, columns);
                }
            }
            // A cast may cut the value, or tell it by failing: whoever reveals a value looks at the type. One of a
            // cast is not given.
            Some(NodeEnum::TypeCast(outer)) if cast.is_none() => {
                let Some(name) = outer.type_name.as_ref().filter(|name| name.typmods.is_empty()) else {
                    return;
                };
                let Some((None | Some("pg_catalog"), own)) = type_name(name) else {
                    return;
                };
                let own = if name.array_bounds.is_empty() {
                    own.to_owned()
                } else {
                    format!("_{own}")
                };
                if let Some(arg) = outer.arg.as_deref() {
                    self.given_as(arg, Some(&own), columns);
                }
            }
            Some(NodeEnum::List(list)) => {
                for item in &list.items {
                    self.given_as(item, cast, columns);
                }
            }
            Some(NodeEnum::AArrayExpr(list)) => {
                for item in &list.elements {
                    self.given_as(item, cast, columns);
                }
            }
            _ => {}
        }
    }

    fn match_value(&mut self, value: Given, cast: Option<&str>, columns: &Carries) {
        self.out.matched.push(Matched {
            value,
            cast: cast.map(str::to_owned),
            columns: columns.clone(),
        });
    }
}
