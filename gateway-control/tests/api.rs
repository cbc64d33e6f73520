//! The API and the console on a real pipeline, store, trail and policies: every route, who may use it, and who may not.

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
#[cfg(feature = "console")]
#[path = "console/pages.rs"]
mod pages;
#[path = "api/recordings.rs"]
mod recordings;
#[cfg(feature = "console")]
#[path = "console/safety.rs"]
mod safety;
#[path = "api/streams.rs"]
mod streams;
#[cfg(feature = "console")]
#[path = "console/visitor.rs"]
mod visitor;
#[path = "api/world.rs"]
mod world;
