//! The gateway's [`Store`](gateway_core::services::Store), [`Outbox`](gateway_core::outbox::Outbox) and
//! [`ApprovalStore`](gateway_core::services::ApprovalStore): tokens, sessions and approvals.
//!
//! ```text
//!   row.rs        records <-> rows
//!   store.rs      every statement, once            (SqlStore)
//!   database.rs   the narrow door to a database    (Database)
//!   sqlite.rs     a file, of one gateway           postgres.rs   a server, shared by several
//! ```
//!
//! [`SqliteStore`] needs nothing to be installed; several processes may have it open at once, so `gateway token create`
//! works while `gateway serve` runs. [`PostgresStore`] is shared by several gateways: each is a node with a heartbeat,
//! and what one changes wakes the others.

mod database;
mod postgres;
mod row;
mod sqlite;
mod store;

pub use database::{Columns, Database, Failure, Topic, Value};
pub use postgres::{DEAD, NotJoined, PostgresServer, PostgresStore, StoreUrl, Told, UnusableUrl};
pub use sqlite::{SqliteFile, SqliteStore};
pub use store::SqlStore;
pub use store::sealed::{ResealedColumn, SealedCount};

/// The same for both databases: a table of one is a table of the other.
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();

/// The examples in the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
