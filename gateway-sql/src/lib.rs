//! What a PostgreSQL statement does: its operations, the columns it reads and writes, and whether the effect of a
//! write is bounded.
//!
//! ```text
//! text ──libpg_query──▶ statements ──scopes, Catalog, SessionState──▶ Analysis { operations, reads, effects }
//! ```
//!
//! The grammar is the server's own (`pg_query`). Names are resolved as the server resolves them: through the session's
//! effective search path, temporary relations first. Whatever is not understood becomes [`Action::Unknown`], never
//! nothing: a statement without operations is one that `connect` alone permits.
//!
//! This crate decides nothing, keeps no state between calls, opens no connection, and knows no policy. It depends on
//! nothing else of the workspace.
//!
//! ```
//! use gateway_sql::{Catalog, SessionState, analyze};
//!
//! let mut builder = Catalog::builder();
//! builder.table("public", "orders", &["id", "customer_id", "status"]);
//! let catalog = builder.build();
//! let analysis = analyze("UPDATE orders SET status = 'sent' WHERE id = 7", &catalog, &SessionState::default());
//! let asked: Vec<String> = analysis.operations().map(ToString::to_string).collect();
//! assert_eq!(asked, ["write public.orders", "read public.orders.id"]);
//!
//! let analysis = analyze("UPDATE orders SET status = 'sent' WHERE true", &catalog, &SessionState::default());
//! let asked: Vec<String> = analysis.operations().map(ToString::to_string).collect();
//! assert_eq!(asked, ["write-unbounded public.orders"]);
//! ```

mod analysis;
mod analyze;
mod catalog;
mod functions;
mod nesting;
mod protected;
mod session;
mod shape;

pub use analysis::{
    Action, Analysis, Assignment, ColumnId, CopyForm, Effect, Given, JsonStep, Matched, Object,
    OpaqueFunction, Operation, OutputColumn, StatementAnalysis, StatementKind,
};
pub use analyze::{analyze, function_analysis, function_operations, normalise, replace_literals};
pub use catalog::{
    Cast, Catalog, CatalogBuilder, CatalogError, Column, Function, Operator, Outdated, OutdatedObjects,
    QualifiedName, Relation, RelationKind, Stamps, UserType, catalog_query, stamps_query,
};
pub use functions::is_harmless_builtin;
pub use session::{Cursor, PreparedStatement, SessionState, TempPast, TempRelation};
pub use shape::shape;

/// What SQL adds to the vocabulary of policies, as a Cedar schema: entity types, actions and their contexts. All SQL
/// adapters give this same part.
pub const VOCABULARY: &str = include_str!("sql.cedarschema");

/// The examples in the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
