//! The gist of a statement in a few words.

use crate::analysis::{Action, Object, StatementAnalysis};

/// At most 200 characters of a text.
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Operations joined by `, `, the columns of a table gathered: `write public.orders, read public.orders(id, total)`.
pub(super) fn summary(statement: &StatementAnalysis) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut tables: Vec<(String, Vec<&str>)> = Vec::new();
    for operation in &statement.operations {
        match &operation.object {
            Object::Column {
                schema,
                table,
                column,
            } => {
                let id = Object::Table {
                    schema: schema.clone(),
                    name: table.clone(),
                }
                .to_string();
                match tables.iter_mut().find(|(other, _)| *other == id) {
                    Some((_, columns)) => columns.push(column),
                    None => tables.push((id, vec![column])),
                }
            }
            Object::Resource => parts.push(operation.action.to_string()),
            Object::Table { .. } | Object::Function { .. } => parts.push(operation.to_string()),
        }
    }
    let reads = tables
        .iter()
        .map(|(table, columns)| format!("{} {table}({})", Action::Read, columns.join(", ")));
    parts.extend(reads);
    if parts.is_empty() {
        format!("{:?}", statement.kind).to_lowercase()
    } else {
        clip(&parts.join(", "))
    }
}
