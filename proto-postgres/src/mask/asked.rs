//! Which tags a message needs the right to see, and which can be masked in its results instead.

use std::collections::BTreeSet;

use gateway_sql as sql;

use crate::structure::Structure;
use crate::tags::{TagIndex, Use};

/// The tags whose `unmask` a message asks for.
#[derive(Default)]
pub(crate) struct Asked {
    /// Without it the message does not run.
    pub(crate) plainly: BTreeSet<String>,
    /// Without it the message runs, and the data is masked.
    pub(crate) or_masked: BTreeSet<String>,
}

impl Asked {
    /// Adds what a statement asks for.
    pub(crate) fn add(&mut self, statement: &sql::StatementAnalysis, tags: &TagIndex) {
        use sql::{Effect, StatementKind as Kind};
        if statement.opaque_call {
            self.plainly.extend(tags.all().iter().cloned());
        }
        for function in &statement.opaque_functions {
            match tags.declared(&function.name) {
                None => self.plainly.extend(tags.all().iter().cloned()),
                // Where its result goes is in the lineage.
                Some(_) if function.traced => {}
                Some(declared) => self.plainly.extend(declared.iter().cloned()),
            }
        }
        if gives_rows(statement) {
            self.or_masked.extend(tags.detected().iter().cloned());
        }
        let plain = |column: &sql::ColumnId| tags.of_column(column).map(str::to_owned).collect::<Vec<_>>();
        let results = matches!(
            statement.kind,
            Kind::Select
                | Kind::Insert
                | Kind::Update
                | Kind::Delete
                | Kind::Merge
                | Kind::Prepare
                | Kind::Declare
                | Kind::Fetch
                | Kind::Execute
        ) || statement.copy_form.is_some();
        // A temporary table is made of rows that keep their tags; another one's columns would have to have them.
        let copies = statement.kind == Kind::CreateTableAs
            && statement
                .operations
                .iter()
                .all(|o| o.action != sql::Action::Define);
        // With a name that could not be placed, which column a value comes from is not known.
        if !(results || copies) || statement.open_result || statement.unresolved {
            self.plainly.extend(statement.reads.iter().flat_map(plain));
            return;
        }
        for (columns, used) in [
            (&statement.compared, Use::Compared),
            (&statement.tested, Use::Tested),
        ] {
            let forbid = columns.iter().flat_map(|column| tags.that_forbid(used, column));
            self.plainly.extend(forbid.map(str::to_owned));
        }
        for assignment in &statement.assignments {
            for column in &assignment.carries {
                // Of what is made of a value the tag's mask would leave any part.
                if assignment.as_is {
                    let lost = tags.lost(column, &assignment.target);
                    self.plainly.extend(lost.map(str::to_owned));
                } else {
                    self.plainly.extend(plain(column));
                }
            }
        }
        // What a temporary table's constraints say of a value that is written shows in whether it fails.
        for effect in &statement.effects {
            if let Effect::TempWritten { carries, .. } = effect {
                self.plainly.extend(carries.iter().flat_map(plain));
            }
        }
        for column in statement.outputs.iter().flat_map(|output| &output.carries) {
            self.or_masked.extend(plain(column));
        }
    }
}

/// Whether it can give rows.
fn gives_rows(statement: &sql::StatementAnalysis) -> bool {
    use sql::StatementKind as Kind;
    match statement.kind {
        Kind::Insert | Kind::Update | Kind::Delete | Kind::Merge => {
            statement.open_result || !statement.outputs.is_empty()
        }
        Kind::Select
        | Kind::CopyOut
        | Kind::Show
        | Kind::Explain
        | Kind::Execute
        | Kind::Fetch
        | Kind::Call
        | Kind::Prepare
        | Kind::Declare
        | Kind::Utility
        | Kind::Unknown => true,
        _ => false,
    }
}

/// Whether a statement reads data that has a tag, or writes to a table that has some.
pub(crate) fn touches_tags(statement: &sql::StatementAnalysis, structure: &Structure) -> bool {
    let tags = &structure.tags;
    let tagged = |column: &sql::ColumnId| tags.of_column(column).next().is_some();
    let opaque = |function: &sql::OpaqueFunction| {
        tags.declared(&function.name)
            .is_none_or(|declared| !declared.is_empty())
    };
    statement.opaque_call
        || statement.opaque_functions.iter().any(opaque)
        || statement.open_result
        || statement.reads.iter().any(tagged)
        || statement
            .operations
            .iter()
            .any(|operation| match &operation.object {
                sql::Object::Table { schema, name } => {
                    structure.catalog.relation(schema, name).is_none_or(|relation| {
                        let mut columns = relation.columns.iter();
                        columns.any(|column| tagged(&relation.column_id(&column.name)))
                    })
                }
                _ => false,
            })
}
