//! What a PostgreSQL statement does: its operations, the columns it reads and writes, what each column of its result may
//! carry, and whether the effect of a write is bounded.
//!
//! ```text
//! text ──libpg_query──▶ statements ──scopes, Catalog, SessionState──▶ Analysis { operations, reads, outputs, effects }
//! ```
//!
//! The grammar is the server's own (`pg_query`). Names are resolved as the server resolves them: through the session's
//! effective search path, temporary relations first. Whatever is not understood becomes [`Action::Unknown`], never
//! nothing: a statement without operations is one that `connect` alone permits.
//!
//! This crate decides nothing, keeps no state between calls, opens no connection, and knows no policy. It depends on
//! nothing else of the workspace.
//!
//! # What does this statement read, write and return?
//!
//! The catalog is a value: made by hand as here, or read from the document that the server gives for [`catalog_query`]
//! ([`Catalog::from_json`]).
//!
//! ```
//! use gateway_sql::{Catalog, ColumnId, SessionState, analyze};
//! use std::collections::BTreeSet;
//!
//! let mut builder = Catalog::builder();
//! builder.table("public", "customers", &["id", "email", "region"]);
//! builder.table("public", "orders", &["id", "customer_id", "contact", "status"]);
//! builder.view("public", "mails", "SELECT c.id, lower(c.email) AS mail FROM public.customers c");
//! let catalog = builder.build();
//!
//! let analysis = analyze(
//!     "WITH north AS (SELECT m.id, m.mail AS x FROM mails m JOIN customers c USING (id) WHERE c.region = 'north')
//!      UPDATE orders o SET contact = n.x, status = 'sent' FROM north n WHERE o.customer_id = n.id
//!      RETURNING o.id, 'to ' || n.x AS address, count(*) OVER () AS n",
//!     &catalog,
//!     &SessionState::default(),
//! );
//! let [statement] = analysis.statements.as_slice() else { panic!("one statement") };
//! let texts = |ids: &BTreeSet<ColumnId>| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
//!
//! // What it reads, in any place: the view's columns, and the columns beneath them.
//! assert_eq!(texts(&statement.reads), [
//!     "public.customers.email", "public.customers.id", "public.customers.region",
//!     "public.mails.id", "public.mails.mail", "public.orders.customer_id", "public.orders.id",
//! ]);
//! // What it writes, and what values get there.
//! let written: Vec<(String, Vec<String>)> =
//!     statement.assignments.iter().map(|a| (a.target.to_string(), texts(&a.carries))).collect();
//! assert_eq!(written, [
//!     ("public.orders.contact".into(), vec!["public.customers.email".into(), "public.mails.mail".into()]),
//!     ("public.orders.status".into(), vec![]),
//! ]);
//! // What it returns: which columns' values each column of the result may carry, and whether as they are.
//! let returned: Vec<(&str, Vec<String>, bool)> = statement
//!     .outputs
//!     .iter()
//!     .map(|o| (o.name.as_deref().unwrap_or("?"), texts(&o.carries), o.as_is))
//!     .collect();
//! assert_eq!(returned, [
//!     ("id", vec!["public.orders.id".into()], true),
//!     ("address", vec!["public.customers.email".into(), "public.mails.mail".into()], false),
//!     ("n", vec![], true), // a count declassifies
//! ]);
//! // What a policy would be asked.
//! assert_eq!(analysis.operations().next().map(ToString::to_string).as_deref(), Some("write public.orders"));
//! ```
//!
//! # Whether a write is bounded
//!
//! ```
//! # let mut builder = gateway_sql::Catalog::builder();
//! # builder.table("public", "orders", &["id", "status"]);
//! # let catalog = builder.build();
//! # let session = gateway_sql::SessionState::default();
//! let asked = |sql| {
//!     let analysis = gateway_sql::analyze(sql, &catalog, &session);
//!     analysis.operations().map(ToString::to_string).collect::<Vec<_>>()
//! };
//! assert_eq!(asked("UPDATE orders SET status = 'sent' WHERE id = 7"), ["write public.orders", "read public.orders.id"]);
//! assert_eq!(asked("UPDATE orders SET status = 'sent' WHERE true"), ["write-unbounded public.orders"]);
//! ```

mod analysis;
mod analyze;
mod catalog;
mod column_set;
mod functions;
mod nesting;
mod protected;
mod session;
mod shape;

pub use analysis::{
    Action, Analysis, Assignment, Change, ColumnId, ColumnName, CopyForm, Effect, Given, JsonStep, Matched,
    Object, OpaqueFunction, Operation, OutputColumn, RowChange, StatementAnalysis, StatementKind,
};
pub use analyze::{
    analyze, function_analysis, function_operations, normalise, parameter_uses, replace_literals, split_path,
};
pub use catalog::{
    ActingKey, Cast, Catalog, CatalogBuilder, CatalogError, Column, Function, KeyAction, Operator, Outdated,
    OutdatedObjects, QualifiedName, Relation, RelationKind, Stamps, UserType, catalog_query, stamps_query,
};
pub use column_set::ColumnSet;
pub use functions::is_harmless_builtin;
pub use session::{Cursor, Meant, PreparedStatement, SessionState, TempPast, TempRelation};
pub use shape::shape;

/// What SQL adds to the vocabulary of policies, as a Cedar schema: entity types, actions and their contexts. All SQL
/// adapters give this same part.
pub const VOCABULARY: &str = include_str!("sql.cedarschema");

/// The examples in the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
