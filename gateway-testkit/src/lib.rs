//! Real servers and clients for tests: nothing here is linked into the gateway.
//!
//! ```text
//!   RawClient ──▶ ChunkingRelay ──▶ GatewayProcess ──▶ Forwarder ──▶ PostgresServer
//!   (bytes)       (split packets)   (the binary)       (plain TCP)   (a private cluster)
//! ```
//!
//! Each piece has its own ports and its own temporary directory, stops when it is dropped (also by a panic), and
//! can be used alone. What a piece needs on the machine is named in its documentation; `scripts/setup.sh` brings
//! it. Failures panic with what went wrong: in a test there is nobody else to tell.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a broken fixture must fail its test, loudly; this crate is never in a product"
)]

mod forwarder;
mod gateway;
mod ports;
mod postgres;
mod raw;
mod relay;
mod web;

pub use forwarder::{Forwarder, forward};
pub use gateway::{GatewayOptions, GatewayProcess, Identity};
pub use ports::{free_port, wait_for_port};
pub use postgres::{AuthMethod, PostgresOptions, PostgresServer, ServerCertificate};
pub use raw::{Frame, RawClient};
pub use relay::{ChunkingRelay, DelayingRelay};
pub use web::{Answer, WebServer};
