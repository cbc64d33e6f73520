//! The gist of a statement in a few words.

use crate::analysis::{Action, ColumnId, Object, StatementAnalysis, push_name};

/// Most characters of a gist.
const MOST: usize = 200;

/// At most 200 characters of a text.
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(MOST).collect()
}

/// Operations joined by `, `, the columns of a table gathered: `write public.orders, read public.orders(id, total)`.
pub(super) fn summary(statement: &StatementAnalysis) -> String {
    let mut text = String::new();
    let mut tables: Vec<(&ColumnId, Vec<&str>)> = Vec::new();
    for operation in &statement.operations {
        match &operation.object {
            Object::Column(id) => match tables
                .iter_mut()
                .find(|(of, _)| of.table == id.table && of.schema == id.schema)
            {
                Some((_, columns)) => columns.push(&id.column),
                None => tables.push((id, vec![&id.column])),
            },
            Object::Resource => separated(&mut text).push_str(operation.action.as_str()),
            Object::Table { .. } | Object::Function { .. } => {
                separated(&mut text).push_str(&operation.to_string());
            }
        }
    }
    for (of, columns) in tables {
        if text.len() > MOST * 4 {
            break;
        }
        let text = separated(&mut text);
        text.push_str(Action::Read.as_str());
        text.push(' ');
        push_name(text, &of.schema);
        text.push('.');
        push_name(text, &of.table);
        let mut before = '(';
        for column in columns {
            text.push(before);
            if before == ',' {
                text.push(' ');
            }
            text.push_str(column);
            before = ',';
        }
        text.push(')');
    }
    if text.is_empty() {
        return format!("{:?}", statement.kind).to_lowercase();
    }
    if text.len() > MOST {
        return clip(&text);
    }
    text
}

fn separated(text: &mut String) -> &mut String {
    if !text.is_empty() {
        text.push_str(", ");
    }
    text
}
