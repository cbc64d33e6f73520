//! COPY: what it reads or writes, and in what form its rows travel.

use pg_query::NodeEnum;
use pg_query::protobuf::{CopyStmt, Node};

use super::constants::setting_value;
use super::names::text_of;
use super::scope::{ItemColumn, Rows, Scope};
use super::walker::Walker;
use crate::analysis::{Action, CopyForm, Effect, RowChange, StatementKind};

impl Walker<'_> {
    pub(super) fn copy(&mut self, copy: &CopyStmt) {
        let outside = copy.is_program || !copy.filename.is_empty();
        if outside {
            self.ask_resource(Action::File);
        }
        self.out.kind = match (outside, copy.is_from) {
            (true, _) => StatementKind::CopyFile,
            (false, true) => StatementKind::CopyIn,
            (false, false) => StatementKind::CopyOut,
        };
        let kind = self.out.kind;
        match (
            copy.relation.as_ref(),
            copy.query.as_deref().and_then(|query| query.node.as_ref()),
        ) {
            (Some(relation), None) if copy.is_from => {
                self.changes(Some(relation), RowChange::Insert);
                self.write(Some(relation), true);
                self.own_rows(relation, &copy.attlist);
                if let Some(condition) = copy.where_clause.as_deref() {
                    let item = self.relation_item(relation);
                    self.scopes.push(Scope {
                        items: vec![item],
                        ..Scope::default()
                    });
                    self.condition(condition);
                    self.leave_scope();
                }
                if !outside {
                    self.effect(Effect::CopyIn);
                }
            }
            (Some(relation), None) => {
                let rows = self.copied_columns(relation, &copy.attlist);
                self.gives(&rows);
            }
            (None, Some(query)) => {
                let (_, rows) = self.query(query);
                self.gives(&rows);
                if !self.into.is_empty() {
                    self.unknown();
                }
            }
            _ => self.unknown(),
        }
        if !outside && !copy.is_from {
            self.effect(Effect::CopyOut);
            self.out.copy_form = self.copy_form(&copy.options);
            // A value that looks like what stands for NULL would be shown by it.
            if let Some(CopyForm::Text { null, .. } | CopyForm::Csv { null, .. }) = &self.out.copy_form
                && !matches!(null.as_str(), "" | "\\N")
            {
                for output in &self.out.outputs {
                    self.out.compared.add(&output.carries);
                }
            }
        }
        self.out.kind = kind;
    }

    /// The columns of `COPY relation (columns) TO`.
    fn copied_columns(&mut self, relation: &pg_query::protobuf::RangeVar, attlist: &[Node]) -> Rows {
        let item = self.relation_item(relation);
        self.scopes.push(Scope {
            items: vec![item],
            ..Scope::default()
        });
        let mut rows = Rows::default();
        let names: Vec<String> = if attlist.is_empty() {
            let item = self.items.get(item);
            rows.open = item.is_none_or(|item| item.open);
            let columns = item.map(|item| item.columns.as_slice()).unwrap_or_default();
            columns.iter().filter_map(|column| column.name.clone()).collect()
        } else {
            attlist.iter().filter_map(text_of).map(str::to_owned).collect()
        };
        for name in names {
            let column = self.items.get(item).and_then(|item| {
                let at = item.positions(&name).next()?;
                item.columns
                    .get(at)
                    .map(|column| (column.as_is, column.type_name.clone()))
            });
            let (as_is, type_name) = column.unwrap_or_default();
            let carries = self.flow_of(|walker| walker.unqualified(&name));
            rows.columns.push(ItemColumn {
                type_name,
                ..ItemColumn::derived_as_is(Some(name), carries, as_is)
            });
        }
        self.leave_scope();
        rows
    }

    /// How the rows travel; `None` where an option is not understood.
    fn copy_form(&mut self, options: &[Node]) -> Option<CopyForm> {
        let mut given: Vec<(&str, Option<String>)> = Vec::new();
        for node in options {
            let Some(NodeEnum::DefElem(option)) = node.node.as_ref() else {
                return None;
            };
            given.push((option.defname.as_str(), self.option_value(option.arg.as_deref())));
        }
        let get = |wanted: &str| {
            let found = given.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| value.as_deref())
        };
        let known = [
            "format",
            "delimiter",
            "null",
            "header",
            "quote",
            "escape",
            "force_quote",
        ];
        if given.iter().any(|(name, _)| !known.contains(name)) {
            return None;
        }
        let one_byte = |wanted: &str, default: u8| match get(wanted) {
            None => Some(default),
            Some(Some(text)) => match text.as_bytes() {
                [byte] if byte.is_ascii() => Some(*byte),
                _ => None,
            },
            Some(None) => None,
        };
        let null = |default: &str| match get("null") {
            None => Some(default.to_owned()),
            Some(value) => value.map(str::to_owned),
        };
        let header = match get("header") {
            None => false,
            Some(value) => match value.unwrap_or("true") {
                "true" | "on" | "1" | "TRUE" | "ON" => true,
                "false" | "off" | "0" | "FALSE" | "OFF" => false,
                _ => return None,
            },
        };
        match get("format").map(|format| format.unwrap_or_default()) {
            None | Some("text") => Some(CopyForm::Text {
                delimiter: one_byte("delimiter", b'\t')?,
                null: null("\\N")?,
                header,
            }),
            Some("csv") => {
                let quote = one_byte("quote", b'"')?;
                Some(CopyForm::Csv {
                    delimiter: one_byte("delimiter", b',')?,
                    null: null("")?,
                    header,
                    quote,
                    escape: one_byte("escape", quote)?,
                })
            }
            Some("binary") => Some(CopyForm::Binary),
            Some(_) => None,
        }
    }

    /// A word or a constant; `None` where there is no value, or not one.
    fn option_value(&self, node: Option<&Node>) -> Option<String> {
        let node = node?;
        match node.node.as_ref()? {
            NodeEnum::String(text) => Some(text.sval.clone()),
            NodeEnum::Boolean(value) => Some(value.boolval.to_string()),
            NodeEnum::Integer(number) => Some(number.ival.to_string()),
            _ => setting_value(node, &self.looked),
        }
    }
}
