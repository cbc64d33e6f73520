//! PostgreSQL's frontend/backend protocol, version 3.
//!
//! ```text
//!  client bytes --> wire::frame --> wire::frontend::Message      (who speaks: the client)
//!  target bytes --> wire::frame --> wire::backend::Message       (who speaks: the target)
//! ```
//!
//! [`wire`] turns bytes into types and back and keeps no state. Nothing here opens a socket or reads a
//! clock.

pub mod wire;
