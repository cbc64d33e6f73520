//! Values of the client's own among those that a temporary table carries.
//!
//! Whoever puts values of its own beside hidden ones, and gets the rows in the order of both, finds any value by
//! halving. Within one statement `ItemColumn::mixed` sees to it. A temporary table would keep the mixture for statements
//! that show no trace of it: an index, CLUSTER, an index scan, sorted groups. So making the mixture counts as comparing,
//! and so does an index over what is carried.

use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableCmd, AlterTableType, ConstrType, FuncCall, Node, RangeVar};

use super::as_is::is_fixed;
use super::names::{qualified, text_of};
use super::scope::{Carries, Item, ItemColumn, Source};
use super::walker::{Named, TEMP_SCHEMA, Walker};
use crate::analysis::Effect;

/// Functions whose result is made of their first argument in the same way in every row, and is NULL where it is. The
/// others choose between values or fill in for NULL, or may.
const OF_FIRST: &[&str] = &[
    "array_agg",
    "avg",
    "btrim",
    "char_length",
    "character_length",
    "first_value",
    "initcap",
    "json_agg",
    "jsonb_agg",
    "last_value",
    "left",
    "length",
    "lower",
    "ltrim",
    "md5",
    "nth_value",
    "quote_ident",
    "quote_literal",
    "reverse",
    "right",
    "row_to_json",
    "rtrim",
    "split_part",
    "string_agg",
    "substr",
    "substring",
    "sum",
    "to_json",
    "to_jsonb",
    "upper",
];

/// NULL or DEFAULT: no value that could stand between others. What a column's default is, is asked where it is set.
fn is_no_value(node: &Node) -> bool {
    match node.node.as_ref() {
        Some(NodeEnum::AConst(constant)) => constant.isnull,
        Some(NodeEnum::SetToDefault(_)) => true,
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(is_no_value),
        _ => false,
    }
}

/// Whether an INSERT gives no value for its column at this place.
pub(super) fn gives_no_value(select: Option<&Node>, at: usize) -> bool {
    let Some(NodeEnum::SelectStmt(select)) = select.and_then(|node| node.node.as_ref()) else {
        return false;
    };
    let none = |row: &Node| match row.node.as_ref() {
        Some(NodeEnum::List(row)) => row.items.get(at).is_some_and(is_no_value),
        _ => false,
    };
    !select.values_lists.is_empty() && select.values_lists.iter().all(none)
}

/// What columns carry of the database's; their own names stand for values of the client's.
fn carried<'c>(columns: impl IntoIterator<Item = &'c ItemColumn>) -> Carries {
    let ids = columns.into_iter().flat_map(|column| column.carries.iter());
    ids.filter(|id| id.schema != TEMP_SCHEMA).cloned().collect()
}

/// What a column carries; of one that is not known, what any does.
fn carried_by(item: &Item, column: &str) -> Carries {
    if item.columns.iter().any(|known| known.real == column) {
        carried(item.columns.iter().filter(|known| known.real == column))
    } else {
        carried(item.columns.iter())
    }
}

/// Whether a constraint of a column gives it values that are not in the text.
fn makes_values(node: &Node) -> bool {
    let Some(NodeEnum::Constraint(constraint)) = node.node.as_ref() else {
        return true;
    };
    match constraint.contype() {
        ConstrType::ConstrGenerated => true,
        ConstrType::ConstrDefault => !constraint.raw_expr.as_deref().is_some_and(is_fixed),
        _ => false,
    }
}

impl Walker<'_> {
    /// A value is written into a column. In a temporary relation that column may carry what is hidden.
    pub(super) fn own_value(&mut self, value: Option<&Node>, target: usize, column: &str) {
        if value.is_some_and(is_no_value) {
            return;
        }
        let Some(item) = self.items.get(target) else {
            return;
        };
        if matches!(item.source, Source::Temp) {
            let carries = carried_by(item, column);
            self.out.compared.add(&carries);
        }
    }

    /// COPY FROM writes into these columns; none: into all.
    pub(super) fn own_rows(&mut self, range: &RangeVar, columns: &[Node]) {
        let Named::Temp(name) = self.named(range) else {
            return;
        };
        let item = self.temp_item(&name);
        let named: Vec<&str> = columns.iter().filter_map(text_of).collect();
        let mut carries = Carries::new();
        if named.is_empty() {
            carries = carried(item.columns.iter());
        }
        for column in named {
            carries.add(&carried_by(&item, column));
        }
        self.out.compared.add(&carries);
    }

    /// A temporary table is made of these columns, and what is mixed in one of them stays so.
    pub(super) fn keeps(&mut self, columns: &[ItemColumn]) {
        let carries = carried(columns.iter().filter(|column| column.mixed));
        self.out.compared.add(&carries);
    }

    /// The rows of a relation are put in an order, or those of others are set among them.
    pub(super) fn among_rows(&mut self, range: &RangeVar) {
        let carries = match self.named(range) {
            Named::Temp(name) => carried(self.temp_item(&name).columns.iter()),
            Named::Relation(relation) => carried(self.item_of(relation).columns.iter()),
            Named::Missing { .. } => return,
        };
        self.out.compared.add(&carries);
    }

    /// The same, where it is one of the session's own.
    pub(super) fn among_temp_rows(&mut self, range: Option<&RangeVar>) {
        if let Some(range) = range
            && matches!(self.named(range), Named::Temp(_))
        {
            self.among_rows(range);
        }
    }

    /// An index over what is carried keeps it in order.
    pub(super) fn indexed(&mut self, range: Option<&RangeVar>, flow: &Carries) {
        if range.is_some_and(|range| matches!(self.named(range), Named::Temp(_))) {
            let ids = flow.iter().filter(|id| id.schema != TEMP_SCHEMA);
            self.out.compared.extend(ids.cloned());
        }
    }

    /// A command of ALTER TABLE on a temporary relation: a default is a value of its rows to come, and what it does to the
    /// columns is followed, so that what they carry stays known.
    pub(super) fn alters_temp(&mut self, range: Option<&RangeVar>, command: &Node) {
        let (Some(range), Some(NodeEnum::AlterTableCmd(command))) = (range, command.node.as_ref()) else {
            return;
        };
        let Named::Temp(name) = self.named(range) else {
            return;
        };
        match command.subtype() {
            AlterTableType::AtColumnDefault
                if command.def.as_deref().is_some_and(|value| !is_no_value(value)) =>
            {
                let carries = carried_by(&self.temp_item(&name), &command.name);
                self.out.compared.add(&carries);
            }
            AlterTableType::AtAddColumn | AlterTableType::AtDropColumn => self.recolumned(name, command),
            _ => {}
        }
    }

    /// A temporary relation has a column more or less. Where the server finds others than these, it is not known.
    fn recolumned(&mut self, name: String, command: &AlterTableCmd) {
        let made = self.out.effects.iter().rev().find_map(|effect| match effect {
            Effect::TempCreated { name: own, relation } if *own == name => Some(relation.clone()),
            _ => None,
        });
        let known = made.or_else(|| self.working.session.temp.get(&name).cloned());
        let Some(mut relation) = known else { return };
        match command.def.as_deref().and_then(|node| node.node.as_ref()) {
            Some(NodeEnum::ColumnDef(column)) if command.subtype() == AlterTableType::AtAddColumn => {
                // What is generated, or made by a default, may have values from elsewhere: they are not followed.
                let made = column.constraints.iter().any(makes_values);
                if made || relation.columns.contains(&column.colname) {
                    return;
                }
                relation.columns.push(column.colname.clone());
                relation.column_carries.remove(&column.colname);
            }
            _ => {
                relation.columns.retain(|column| *column != command.name);
                relation.column_carries.remove(&command.name);
                relation.as_is.remove(&command.name);
            }
        }
        self.effect(Effect::TempCreated { name, relation });
    }

    /// A temporary relation, or a column of one, gets another name, and what is carried goes with it.
    pub(super) fn renames_temp(&mut self, range: &RangeVar, column: Option<&str>, new: &str) {
        let Named::Temp(name) = self.named(range) else {
            return;
        };
        let Some(mut relation) = self.working.session.temp.get(&name).cloned() else {
            return;
        };
        let Some(column) = column else {
            let name = new.to_owned();
            self.effect(Effect::TempCreated { name, relation });
            return;
        };
        for own in relation.columns.iter_mut().filter(|own| *own == column) {
            new.clone_into(own);
        }
        if let Some(carries) = relation.column_carries.remove(column) {
            relation.column_carries.insert(new.to_owned(), carries);
        }
        if relation.as_is.remove(column) {
            relation.as_is.insert(new.to_owned());
        }
        self.effect(Effect::TempCreated { name, relation });
    }

    /// Whether the values that a function gives may come from elsewhere than the one column that it is given.
    pub(super) fn is_mixed_call(&self, call: &FuncCall) -> bool {
        let of_first = match qualified(&call.funcname) {
            Some((None | Some("pg_catalog"), name)) => OF_FIRST.contains(&name) && !call.func_variadic,
            _ => false,
        };
        let Some((first, others)) = call.args.split_first().filter(|_| of_first) else {
            return true;
        };
        self.is_mixed(first) || !others.iter().all(is_fixed)
    }
}
