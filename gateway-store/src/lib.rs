//! The gateway's [`Store`](gateway_core::services::Store) on SQLite: tokens and sessions, in one file, with nothing
//! to install.
//!
//! Several processes may have the store open at once, so `gateway token create` works while `gateway serve` runs.

mod row;
mod sqlite;

pub use sqlite::SqliteStore;
