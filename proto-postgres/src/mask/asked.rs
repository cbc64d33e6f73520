//! Which tags a message needs the right to see, and which can be masked in its results instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use gateway_sql as sql;
use gateway_sql::{ColumnId, QualifiedName};

use crate::structure::Structure;
use crate::tags::{TagIndex, Use};

/// The tags whose `unmask` a message asks for.
#[derive(Default)]
pub(crate) struct Asked {
    /// Without it the message does not run, and why not.
    pub(crate) plainly: BTreeMap<String, Why>,
    /// Without it the message runs, and the data is masked.
    pub(crate) or_masked: BTreeSet<String>,
}

/// Why a tag's data can't be masked instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// Code runs that is not understood.
    Code,
    /// What this function gives back is not known.
    Function(QualifiedName),
    /// Names were not found, so that which column a value comes from is not known.
    Missing(Vec<String>),
    /// The columns of the result can't be told.
    Open(ColumnId),
    /// It is compared in a way that tells its value.
    Used(ColumnId),
    /// It would be written where the tag is not, as it is or as part of something.
    Written(ColumnId, Option<ColumnId>),
    /// A statement of this kind can't be masked.
    Read(ColumnId),
}

impl fmt::Display for Why {
    /// A clause about a tag, for who is refused it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code => f.write_str("it runs code that is not understood and may show it"),
            Self::Function(QualifiedName { schema, name }) => write!(
                f,
                "what {schema}.{name}() gives back is not understood and may be such data (an operator can declare it: \
                 [[resource.function]])"
            ),
            Self::Missing(names) if names.is_empty() => {
                f.write_str("a name in it was not found, so that what it shows can't be told")
            }
            Self::Missing(names) => write!(
                f,
                "not found: {}; with a wrong name what it shows can't be told",
                names.join(", ")
            ),
            Self::Open(column) => write!(
                f,
                "it reads {column}, and which columns its result has can't be told; name them in place of *"
            ),
            Self::Used(column) => write!(
                f,
                "it uses {column} otherwise than as a column of the result: in a comparison, an order or an expression \
                 that would tell its value, or beside values of another origin"
            ),
            Self::Written(column, Some(target)) => {
                write!(f, "it would copy {column} into {target}, which has not the tag")
            }
            Self::Written(column, None) => {
                write!(
                    f,
                    "it would write what is made of {column} where it can't be masked"
                )
            }
            Self::Read(column) => write!(
                f,
                "it reads {column}, and a statement of its kind can't be masked"
            ),
        }
    }
}

impl Asked {
    fn need<'a>(&mut self, tags: impl IntoIterator<Item = &'a str>, why: impl Fn() -> Why) {
        for tag in tags {
            if !self.plainly.contains_key(tag) {
                self.plainly.insert(tag.to_owned(), why());
            }
        }
    }

    /// Adds what a statement asks for that uses columns otherwise than by giving their values.
    fn uses(&mut self, statement: &sql::StatementAnalysis, tags: &TagIndex) {
        for (columns, used) in [
            (&statement.compared, Use::Compared),
            (&statement.tested, Use::Tested),
        ] {
            for column in columns {
                self.need(tags.that_forbid(used, column), || Why::Used(column.clone()));
            }
        }
    }

    /// Adds what a statement asks for.
    pub(crate) fn add(&mut self, statement: &sql::StatementAnalysis, tags: &TagIndex) {
        use sql::{Effect, StatementKind as Kind};
        if statement.opaque_call {
            self.need(tags.all().iter().map(String::as_str), || Why::Code);
        }
        for function in &statement.opaque_functions {
            let needed = match tags.declared(&function.name) {
                None => tags.all(),
                // Where its result goes is in the lineage.
                Some(_) if function.traced => continue,
                Some(declared) => declared,
            };
            let why = || Why::Function(function.name.clone());
            self.need(needed.iter().map(String::as_str), why);
        }
        if gives_rows(statement) {
            self.or_masked.extend(tags.detected().iter().cloned());
        }
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
        // The tags of what a view is made of are those of its columns.
        let shows = statement.kind == Kind::View;
        // With a name that could not be placed, which column a value comes from is not known.
        if !(results || copies || shows) || statement.open_result || statement.unresolved {
            for column in &statement.reads {
                self.need(tags.of_column(column), || {
                    if statement.unresolved {
                        Why::Missing(statement.missing.clone())
                    } else if statement.open_result {
                        Why::Open(column.clone())
                    } else {
                        Why::Read(column.clone())
                    }
                });
            }
            // What is set among rows, or put in order, need not be read.
            self.uses(statement, tags);
            return;
        }
        self.uses(statement, tags);
        for assignment in &statement.assignments {
            for column in &assignment.carries {
                // Of what is made of a value the tag's mask would leave any part.
                let into = || Why::Written(column.clone(), Some(assignment.target.clone()));
                if assignment.as_is {
                    self.need(tags.lost(column, &assignment.target), into);
                } else {
                    self.need(tags.of_column(column), || Why::Written(column.clone(), None));
                }
            }
        }
        // What a temporary table's constraints say of a value that is written shows in whether it fails.
        for effect in &statement.effects {
            if let Effect::TempWritten { carries, .. } = effect {
                for column in carries {
                    self.need(tags.of_column(column), || Why::Written(column.clone(), None));
                }
            }
        }
        for column in statement.outputs.iter().flat_map(|output| &output.carries) {
            self.or_masked.extend(tags.of_column(column).map(str::to_owned));
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

/// Whether a statement reads data that has a tag, so that what it computes may fail with a text that quotes it.
pub(crate) fn reads_tags(statement: &sql::StatementAnalysis, structure: &Structure) -> bool {
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
}

/// Whether a statement reads data that has a tag, or writes to a table that has some.
pub(crate) fn touches_tags(statement: &sql::StatementAnalysis, structure: &Structure) -> bool {
    let tags = &structure.tags;
    let tagged = |column: &sql::ColumnId| tags.of_column(column).next().is_some();
    reads_tags(statement, structure)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// One database where the column `email` is tagged, with these predicates.
    fn structure(predicates: &str) -> Structure {
        let mut builder = sql::Catalog::builder();
        builder.table("public", "customers", &["id", "email"]);
        let resource = serde_json::json!({
            "name": "db", "protocol": "postgres", "address": "127.0.0.1:5432",
            "credential": {"kind": "static", "username": "x"},
            "tag": [{"tag": "pii", "columns": ["*.*.email"], "predicates": predicates}]
        });
        let tags = TagIndex::of(&serde_json::from_value(resource).unwrap()).unwrap();
        Structure::new(builder.build(), Arc::new(tags))
    }

    /// Whether a message needs the right to see `email`, and whether it reads any.
    fn asks(sql: &str, predicates: &str) -> (bool, bool) {
        let structure = structure(predicates);
        let mut asked = Asked::default();
        let mut reads = false;
        for statement in &sql::analyze(sql, &structure.catalog, &sql::SessionState::default()).statements {
            asked.add(statement, &structure.tags);
            reads |= reads_tags(statement, &structure);
        }
        (asked.plainly.contains_key("pii"), reads)
    }

    #[test]
    fn own_values_beside_those_of_a_temporary_table_need_the_right_to_see_these() {
        let kept = "CREATE TEMP TABLE t AS SELECT id, email FROM customers";
        for (sql, predicates, needed) in [
            ("SELECT id, email FROM t", "equality", false),
            ("INSERT INTO t VALUES (-1, 'e6')", "equality", true),
            ("INSERT INTO t VALUES (-1, 'e6')", "deny", true),
            ("INSERT INTO t VALUES (-1, 'e6')", "allow", false),
            ("INSERT INTO t (id) VALUES (-1)", "equality", false),
            ("UPDATE t SET email = 'e6' WHERE id = 7", "equality", true),
            ("COPY t FROM STDIN", "equality", true),
            ("COPY t FROM STDIN", "allow", false),
            ("COPY t (id) FROM STDIN", "equality", false),
            ("CREATE INDEX i ON t (email)", "equality", true),
            ("CREATE INDEX i ON t (email)", "allow", false),
            ("CREATE INDEX i ON t (id)", "equality", false),
            ("CLUSTER t USING i", "equality", true),
            ("ALTER TABLE t ALTER email SET DEFAULT 'e6'", "equality", true),
            ("CREATE TEMP TABLE k () INHERITS (t)", "equality", true),
            (
                "CREATE TEMP TABLE k AS SELECT email FROM customers UNION ALL SELECT 'e6'",
                "equality",
                true,
            ),
            (
                "CREATE TEMP TABLE k AS SELECT email FROM customers UNION ALL SELECT 'e6'",
                "allow",
                false,
            ),
            // A table of one's own, whatever its columns are called.
            (
                "CREATE TEMP TABLE own (id int, email text); INSERT INTO own VALUES (1, 'x'); COPY own FROM STDIN",
                "equality",
                false,
            ),
            ("INSERT INTO customers VALUES (1, 'x')", "equality", false),
        ] {
            let (asked, _) = asks(&format!("{kept}; {sql}"), predicates);
            assert_eq!(asked, needed, "{predicates}: {sql}");
        }
    }

    #[test]
    fn what_reads_tagged_data_is_told_from_what_is_about_its_table() {
        for (sql, expected) in [
            ("SELECT current_setting(email) FROM customers", true),
            ("SELECT id FROM customers WHERE email::regclass IS NULL", true),
            ("UPDATE customers SET id = 1 WHERE email = 'x'", true),
            ("INSERT INTO customers VALUES (1, 'x')", false),
            ("ALTER TABLE customers ADD COLUMN id int", false),
            ("SELECT id FROM customers", false),
        ] {
            assert_eq!(asks(sql, "allow").1, expected, "{sql}");
        }
    }
}
