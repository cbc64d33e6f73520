//! From a text to what it does.
//!
//! `message` walks the statements of a text; `statement` and `define` tell their kinds apart; `query`, `from`, `dml`
//! and `expr` walk what reads and writes; `constants` reads the values of literals; `scope` finds what a name stands
//! for; `calls` and `settings` judge what may do harm; `limit` judges conditions; `own_values` sees what is put among
//! hidden values; `normalise` takes the literals out of a text.

mod as_is;
mod calls;
mod constants;
mod copy;
mod define;
mod dml;
mod expr;
mod from;
mod json_path;
mod limit;
mod matched;
mod message;
mod names;
mod normalise;
mod own_values;
mod query;
mod relation;
mod scope;
mod settings;
mod statement;
mod summary;
mod tables;
mod walker;

pub use normalise::{normalise, parameter_uses, replace_literals};
pub(crate) use relation::Brought;
pub use settings::split_path;
pub(crate) use summary::clip;

use crate::analysis::{Analysis, Operation, StatementAnalysis, StatementKind};
use crate::catalog::Catalog;
use crate::session::SessionState;

/// What the statements of one message do, in order, each seeing what the earlier ones define. Never fails: a text that
/// is not understood is one statement that asks `unknown`.
///
/// The text is read as the server reads it, with the session's `standard_conforming_strings`. Texts over 16 MiB or
/// nested deeper than some thousand levels are not given to the parser at all.
pub fn analyze(sql: &str, catalog: &Catalog, session: &SessionState) -> Analysis {
    message::analyze_text(sql, catalog, session, 0)
}

/// What calling one function by name does, for the FunctionCall message. Every such call asks `call` at least.
pub fn function_analysis(
    schema: &str,
    name: &str,
    catalog: &Catalog,
    session: &SessionState,
) -> StatementAnalysis {
    let working = message::Working::of(session);
    let mut walker = walker::Walker::new(catalog, &working, StatementKind::Call);
    walker.call_by_name(schema, name);
    walker.ask_function(crate::Action::Call, schema, name);
    walker.finish()
}

/// The operations of [`function_analysis`].
pub fn function_operations(
    schema: &str,
    name: &str,
    catalog: &Catalog,
    session: &SessionState,
) -> Vec<Operation> {
    function_analysis(schema, name, catalog, session).operations
}
