//! What is asked of policy: an action on an object.

use std::fmt;

use super::ColumnId;

/// What is asked of a policy, one word of the contract each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// A column, or a table of which no column is named, is read.
    Read,
    /// A table is written and the text limits the rows.
    Write,
    /// A table is written and nothing in the text limits the rows.
    WriteUnbounded,
    /// The structure is changed, or a table is locked or maintained.
    Define,
    /// Rights, roles, or settings that change them or what policy sees.
    Control,
    /// A function that is not known to be harmless.
    Call,
    /// Files and programs of the server, other servers.
    File,
    /// The session's own temporary tables and views.
    Temp,
    /// What was not understood.
    Unknown,
}

impl Action {
    /// The word that policies use.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Read => "read",
            Action::Write => "write",
            Action::WriteUnbounded => "write-unbounded",
            Action::Define => "define",
            Action::Control => "control",
            Action::Call => "call",
            Action::File => "file",
            Action::Temp => "temp",
            Action::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an action is asked on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Object {
    /// One column, whole.
    Column(ColumnId),
    /// A table, view, sequence or other relation.
    Table {
        /// Its schema.
        schema: String,
        /// Its name.
        name: String,
    },
    /// A function or procedure of any signature.
    Function {
        /// Its schema.
        schema: String,
        /// Its name.
        name: String,
    },
    /// The whole resource.
    Resource,
}

impl fmt::Display for Object {
    /// The id as policies write it, without the resource; `resource` for the resource itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Column(id) => {
                write!(f, "{}.{}.{}", part(&id.schema), part(&id.table), part(&id.column))
            }
            Object::Table { schema, name } | Object::Function { schema, name } => {
                write!(f, "{}.{}", part(schema), part(name))
            }
            Object::Resource => f.write_str("resource"),
        }
    }
}

/// A name as it stands in an id: in double quotes if it contains `.`, `/` or `"`, each `"` in it twice.
pub(super) fn part(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    push_name(&mut text, name);
    text
}

/// The same, appended to a text.
pub(crate) fn push_name(text: &mut String, name: &str) {
    let quote = name.bytes().any(|byte| matches!(byte, b'.' | b'/' | b'"'));
    if quote {
        text.push('"');
    }
    for (at, part) in name.split('"').enumerate() {
        if at > 0 {
            // Once, it would end the name: `x"."y` would be two.
            text.push_str("\"\"");
        }
        text.push_str(part);
    }
    if quote {
        text.push('"');
    }
}

/// One action on one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Operation {
    /// The action.
    pub action: Action,
    /// The object.
    pub object: Object,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.action, self.object)
    }
}
