//! The gateway's [`Store`](gateway_core::services::Store) on SQLite: tokens, sessions and approvals, in one file, with nothing
//! to install.
//!
//! Several processes may have the store open at once, so `gateway token create` works while `gateway serve` runs.

mod row;
mod sqlite;

pub use sqlite::SqliteStore;

/// The examples in the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
