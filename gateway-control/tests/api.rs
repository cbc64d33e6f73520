//! The API on a real pipeline, store, trail and policies: every route, who may use it, and who may not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "api/census.rs"]
mod census;
#[path = "api/manners.rs"]
mod manners;
#[path = "api/streams.rs"]
mod streams;
#[path = "api/world.rs"]
mod world;
