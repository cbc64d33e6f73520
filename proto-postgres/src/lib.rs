//! PostgreSQL's frontend/backend protocol, version 3, as an adapter of the gateway.
//!
//! ```text
//!            accept: TLS, start-up, token        target: TCP, TLS, login
//!                       │                              │
//! client ──▶ wire ──▶ session ──▶ inspect ──▶ policy ──▶ rewrite ──▶ target
//! client ◀──────────── session (what the server owes) ◀── wire ◀──── target
//! ```
//!
//! [`wire`] turns bytes into types and back and keeps no state; it is of use alone. [`login`] is the sans-IO
//! authentication towards the target. [`session`] is the sans-IO machine of one session: *parse* and the bookkeeping of
//! what the server owes; `inspect` says what a message tries, `rewrite` puts it or its refusal in its place.
//! [`PostgresAdapter`] is the thin part that owns sockets.
//!
//! What this crate does not do: it decides nothing, it does not understand SQL (that is `gateway-sql`), and it does not
//! speak the replication protocol, GSSAPI or COPY BOTH.

mod accept;
mod adapter;
mod admin;
pub mod analyzed;
mod authenticate;
mod cancel;
mod estimate;
mod inspect;
pub mod login;
pub mod mask;
mod meaning;
mod pool;
mod psql;
mod reached;
mod rewrite;
mod role;
pub mod session;
pub mod structure;
pub mod tags;
pub mod target;
pub mod wire;

pub use adapter::PostgresAdapter;
pub use estimate::Estimator;
pub use pool::PoolIssuer;
pub use rewrite::APPROVAL_PENDING;
pub use role::RoleIssuer;

/// The examples in the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
