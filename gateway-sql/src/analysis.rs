//! The answer: operations, reads and effects of each statement of one message.

mod column;
mod operation;

use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::{HashMap, HashSet};

use crate::catalog::QualifiedName;
use crate::column_set::ColumnSet;
use crate::session::{Cursor, TempRelation};

pub use self::column::{ColumnId, ColumnName, JsonStep};
pub(crate) use self::operation::push_name;
pub use self::operation::{Action, Object, Operation};

/// One column of a statement's result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputColumn {
    /// Its name, where the text tells it.
    pub name: Option<String>,
    /// Every column whose value it may carry, base columns of views, parents and partitions included.
    pub carries: ColumnSet,
    /// Whether its values are those of base columns as they stand there, not something made of them; or it carries none.
    pub as_is: bool,
    /// Whether some of its values may come from elsewhere than others (another arm of a UNION, a default).
    pub mixed: bool,
    /// Its type as `schema.name`, where it is the value of a column; else empty.
    pub type_name: String,
}

/// Something that the client gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// A literal.
    Literal {
        /// Byte offset in the text.
        start: usize,
        /// Its value.
        value: String,
        /// Whether it is written as a number.
        number: bool,
    },
    /// A parameter.
    Parameter {
        /// Its number, from 1.
        number: u16,
        /// Byte offset of this use of it in the text.
        start: usize,
    },
}

impl Given {
    /// Where it stands in the text.
    fn start(&self) -> usize {
        match self {
            Given::Literal { start, .. } | Given::Parameter { start, .. } => *start,
        }
    }
}

/// Something that the client gives and that meets values of columns: it is compared with them for equality, or written
/// among them. A parameter may be an array of such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    /// What is given.
    pub value: Given,
    /// The type that it is cast to, without schema; `None`: it stands there as it is.
    pub cast: Option<String>,
    /// The columns.
    pub columns: ColumnSet,
}

/// A function that is called and whose body is not understood.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpaqueFunction {
    /// The function.
    pub name: QualifiedName,
    /// Whether what it returns is in the lineage, as [`ColumnId::of_function`]. It is not where a view, an operator, a cast
    /// or the like calls it.
    pub traced: bool,
}

/// How the rows of COPY TO STDOUT travel (PostgreSQL documentation, COPY, File Formats).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyForm {
    /// One line a row, values escaped by backslashes.
    Text {
        /// Between values.
        delimiter: u8,
        /// What stands for NULL.
        null: String,
        /// Whether the first line has the names.
        header: bool,
    },
    /// Comma-separated values.
    Csv {
        /// Between values.
        delimiter: u8,
        /// What stands for NULL, where it is not quoted.
        null: String,
        /// Whether the first line has the names.
        header: bool,
        /// Around values.
        quote: u8,
        /// Before a quote inside of a value.
        escape: u8,
    },
    /// Binary.
    Binary,
}

/// A column that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The column.
    pub target: ColumnId,
    /// Every column whose value it may get.
    pub carries: ColumnSet,
    /// Whether it gets these values as they are; see [`OutputColumn::as_is`].
    pub as_is: bool,
}

/// What becomes of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowChange {
    /// There are new ones.
    Insert,
    /// Columns of them get other values.
    Update,
    /// They go.
    Delete,
    /// All of them go, without a row being looked at (TRUNCATE).
    Truncate,
}

/// What becomes of rows of one table. Of a view: of it, and of the tables that it stands on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The table's schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What becomes of them.
    pub rows: RowChange,
}

/// What kind of statement it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatementKind {
    /// SELECT, VALUES, TABLE.
    Select,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// MERGE.
    Merge,
    /// COPY ... FROM STDIN: the client sends rows.
    CopyIn,
    /// COPY ... TO STDOUT: the server sends rows.
    CopyOut,
    /// COPY from or to a file or a program of the server.
    CopyFile,
    /// BEGIN, START TRANSACTION.
    Begin,
    /// COMMIT, END.
    Commit,
    /// ROLLBACK, ABORT.
    Rollback,
    /// SAVEPOINT.
    Savepoint,
    /// RELEASE.
    Release,
    /// ROLLBACK TO.
    RollbackTo,
    /// PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED.
    TwoPhase,
    /// SET, RESET.
    Set,
    /// SHOW.
    Show,
    /// EXPLAIN.
    Explain,
    /// PREPARE.
    Prepare,
    /// EXECUTE.
    Execute,
    /// DEALLOCATE.
    Deallocate,
    /// DECLARE.
    Declare,
    /// FETCH, MOVE.
    Fetch,
    /// CLOSE.
    Close,
    /// DISCARD.
    Discard,
    /// LISTEN, UNLISTEN, NOTIFY.
    Listen,
    /// CALL.
    Call,
    /// DO.
    Do,
    /// TRUNCATE.
    Truncate,
    /// CREATE TABLE AS, SELECT INTO, CREATE MATERIALIZED VIEW.
    CreateTableAs,
    /// CREATE VIEW of a permanent view, that is not materialized: it gives what it is made of when it is read.
    View,
    /// All else that is known: DDL, privileges, maintenance.
    Utility,
    /// Not understood.
    Unknown,
}

/// What a statement changes in the session, for whoever keeps its [`crate::SessionState`]. An effect happens only if
/// the server runs the statement without an error, and unwinds with its transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// PREPARE name AS sql. The text is the inner statement's own.
    Prepare {
        /// The statement's name.
        name: String,
        /// The text after AS.
        sql: Arc<str>,
        /// See [`crate::PreparedStatement::types`].
        types: Arc<[String]>,
        /// [`StatementAnalysis::names`] of it.
        names: u64,
    },
    /// EXECUTE has the server plan a prepared statement, under a path that it was not planned under yet.
    Planned {
        /// Its name.
        name: String,
        /// The path ([`Meant::path`](crate::Meant::path)).
        path: u64,
        /// [`StatementAnalysis::names`] of it.
        names: u64,
    },
    /// DEALLOCATE one, or all.
    Deallocate(Option<String>),
    /// DECLARE name CURSOR.
    DeclareCursor {
        /// The cursor's name.
        name: String,
        /// What fetching from it asks and carries.
        cursor: Cursor,
    },
    /// CLOSE one, or all.
    CloseCursor(Option<String>),
    /// SET search_path to these, as given (`$user` not yet replaced); `None`: to what is not in the text (RESET,
    /// DEFAULT). With LOCAL, [`Effect::SessionSettingsChanged`] follows: it ends with the transaction.
    SetSearchPath(Option<Vec<String>>),
    /// Anything that may change how names resolve: read the search path and user from the server again.
    SessionSettingsChanged,
    /// A temporary relation was made.
    TempCreated {
        /// Its name.
        name: String,
        /// Its structure and what it carries.
        relation: TempRelation,
    },
    /// Rows that carry these columns were written into a temporary relation.
    TempWritten {
        /// Its name.
        name: String,
        /// What the rows may carry.
        carries: ColumnSet,
    },
    /// Temporary relations were made, changed or dropped: read them from the server again.
    TempChanged,
    /// DDL: the catalog is stale.
    CatalogChanged,
    /// A transaction begins.
    Begin,
    /// A transaction commits.
    Commit,
    /// A transaction rolls back.
    Rollback,
    /// ROLLBACK TO a savepoint.
    RollbackTo(String),
    /// A savepoint.
    Savepoint(String),
    /// DISCARD ALL.
    DiscardAll,
    /// The client will send COPY data.
    CopyIn,
    /// The server will send COPY data.
    CopyOut,
    /// standard_conforming_strings is set.
    StandardConformingStrings(bool),
    /// client_encoding is set to this, as the text says it.
    ClientEncoding(String),
}

/// What one statement does.
#[derive(Clone, Debug)]
pub struct StatementAnalysis {
    /// What it asks, without doubles, in the order met; writes first. Empty: free.
    pub operations: Vec<Operation>,
    /// Its gist, at most 200 characters, e.g. `write public.orders`.
    pub summary: String,
    /// Every column that is read, base columns of views included, and the same column of parents and descendants: for
    /// looking up tags. Wider than the `read` operations.
    pub reads: ColumnSet,
    /// Columns of the result and what each may carry. Empty where there is no result, or an open one. What an opaque call
    /// returns is not in here.
    pub outputs: Vec<OutputColumn>,
    /// There is a result whose columns can't be told (a `*` over unknown columns): each may carry all of `reads`.
    pub open_result: bool,
    /// It names a prepared statement or a cursor: what it does is another thing in another session.
    pub of_session: bool,
    /// How the rows of COPY TO STDOUT travel; `None` for other statements, and where an option is not understood.
    pub copy_form: Option<CopyForm>,
    /// Columns whose values steer the statement otherwise than as output: ranges, patterns, order, min and max,
    /// expressions in conditions, arguments of what may fail, give rows or tell others.
    pub compared: ColumnSet,
    /// Columns of which no more is used than whether they are NULL, how many there are, and which whole values are equal.
    pub tested: ColumnSet,
    /// Literals and parameters that meet columns' values. What a literal's value is holds for this text alone, whatever
    /// [`StatementAnalysis::literals_matter`] says.
    pub matched: Vec<Matched>,
    /// It can show the texts of the session's statements (`current_query()`, `pg_prepared_statements`, `pg_cursors`).
    pub shows_texts: bool,
    /// Columns that are written, with what the value written may carry.
    pub assignments: Vec<Assignment>,
    /// What becomes of rows of the tables that it writes, whatever part of it does this.
    pub changes: BTreeSet<Change>,
    /// What it changes in the session.
    pub effects: Vec<Effect>,
    /// Its kind.
    pub kind: StatementKind,
    /// A name was not found: refresh the catalog once and analyse again.
    pub unresolved: bool,
    /// What was not found, for people: `table public.nothing`, `column emial`. The first few.
    pub missing: Vec<String>,
    /// Stands for what the names without a schema in it were found to be. A server that has planned the text keeps to what
    /// they were then.
    pub names: u64,
    /// It runs code that is not understood and has no name (DO, a language's inline block, an unreadable object).
    pub opaque_call: bool,
    /// Functions that it calls whose bodies are not understood.
    pub opaque_functions: BTreeSet<OpaqueFunction>,
    /// No policy lifts this: the statement would show what is never shown.
    pub forbidden: Option<String>,
    /// The parser refused the text, with its message.
    pub syntax_error: Option<String>,
    /// Whether all this may be otherwise for a text with other literals: the value of one was looked at, or the
    /// statement is of a kind whose literals say what it does. See [`shape`](crate::shape).
    pub literals_matter: bool,
    /// Byte offset of the statement in the text.
    pub location: usize,
    /// Its length in bytes.
    pub len: usize,
}

impl StatementAnalysis {
    pub(crate) fn new(kind: StatementKind) -> Self {
        StatementAnalysis {
            operations: Vec::new(),
            summary: String::new(),
            reads: ColumnSet::new(),
            outputs: Vec::new(),
            open_result: false,
            of_session: false,
            copy_form: None,
            compared: ColumnSet::new(),
            tested: ColumnSet::new(),
            matched: Vec::new(),
            shows_texts: false,
            assignments: Vec::new(),
            changes: BTreeSet::new(),
            effects: Vec::new(),
            kind,
            unresolved: false,
            missing: Vec::new(),
            names: 0,
            opaque_call: false,
            opaque_functions: BTreeSet::new(),
            forbidden: None,
            syntax_error: None,
            literals_matter: true,
            location: 0,
            len: 0,
        }
    }

    pub(crate) fn unknown(why: &str, len: usize) -> Self {
        let mut statement = StatementAnalysis::new(StatementKind::Unknown);
        statement.operations.push(Operation {
            action: Action::Unknown,
            object: Object::Resource,
        });
        statement.summary = crate::analyze::clip(&format!("unknown: {why}"));
        statement.len = len;
        statement
    }

    /// A name was not found.
    pub(crate) fn miss(&mut self, what: String) {
        const MOST: usize = 4;
        self.unresolved = true;
        if self.missing.len() < MOST && !self.missing.contains(&what) {
            self.missing.push(what);
        }
    }

    /// Adds what the statement does where names are read another way.
    pub(crate) fn merge(&mut self, other: &StatementAnalysis) {
        let known: HashSet<Operation> = self.operations.iter().cloned().collect();
        let news = other.operations.iter();
        self.operations
            .extend(news.filter(|operation| !known.contains(operation)).cloned());
        self.operations
            .sort_by_key(|operation| operation.action == Action::Read);
        self.reads.add(&other.reads);
        self.compared.add(&other.compared);
        self.tested.add(&other.tested);
        self.assignments.extend(other.assignments.iter().cloned());
        self.changes.extend(other.changes.iter().cloned());
        self.shows_texts |= other.shows_texts;
        let mut known: HashMap<usize, Vec<Matched>> = HashMap::default();
        for matched in &self.matched {
            known
                .entry(matched.value.start())
                .or_default()
                .push(matched.clone());
        }
        for matched in &other.matched {
            let there = known.get(&matched.value.start());
            if !there.is_some_and(|there| there.contains(matched)) {
                self.matched.push(matched.clone());
            }
        }
        if self.outputs.len() == other.outputs.len() {
            for (own, output) in self.outputs.iter_mut().zip(&other.outputs) {
                own.carries.add(&output.carries);
                own.as_is &= output.as_is;
                own.mixed |= output.mixed;
            }
        } else {
            self.outputs.clear();
            self.open_result = true;
        }
        self.open_result |= other.open_result;
        self.of_session |= other.of_session;
        if self.copy_form != other.copy_form {
            self.copy_form = None;
        }
        for effect in &other.effects {
            if !self.effects.contains(effect) {
                self.effects.push(effect.clone());
            }
        }
        self.unresolved |= other.unresolved;
        let unresolved = self.unresolved;
        for missing in &other.missing {
            self.miss(missing.clone());
        }
        self.unresolved = unresolved;
        self.literals_matter |= other.literals_matter;
        self.opaque_call |= other.opaque_call;
        self.opaque_functions
            .extend(other.opaque_functions.iter().cloned());
        if self.forbidden.is_none() {
            self.forbidden.clone_from(&other.forbidden);
        }
    }

    /// Whether it is of a kind whose literals are nothing but values: it reads and writes rows, and changes nothing of
    /// the session.
    pub(crate) fn is_of_any_values(&self) -> bool {
        use StatementKind as Kind;
        matches!(
            self.kind,
            Kind::Select | Kind::Insert | Kind::Update | Kind::Delete
        ) && self.effects.is_empty()
            && self.forbidden.is_none()
            && self.syntax_error.is_none()
            && !self.unresolved
            && !self.opaque_call
            && self.opaque_functions.is_empty()
    }

    /// True if `connect` alone permits it.
    pub fn is_free(&self) -> bool {
        self.operations.is_empty() && self.forbidden.is_none()
    }
}

/// What the statements of one message do, in order.
#[derive(Clone, Debug, Default)]
pub struct Analysis {
    /// One for each statement; none if the text holds none.
    pub statements: Vec<StatementAnalysis>,
}

impl Analysis {
    /// Whether it is the analysis of every text of the same [`shape`](crate::shape).
    pub fn is_of_shape(&self) -> bool {
        matches!(self.statements.as_slice(), [statement] if !statement.literals_matter)
    }

    /// All operations of all statements, in order.
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.statements.iter().flat_map(|statement| &statement.operations)
    }

    /// True if a fresh catalog may give another answer.
    pub fn unresolved(&self) -> bool {
        self.statements.iter().any(|statement| statement.unresolved)
    }
}
