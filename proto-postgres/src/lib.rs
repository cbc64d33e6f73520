//! PostgreSQL's frontend/backend protocol, version 3.
//!
//! ```text
//!  client bytes --> wire::frame --> wire::frontend::Message      (who speaks: the client)
//!  target bytes --> wire::frame --> wire::backend::Message       (who speaks: the target)
//!                                        `--> login::TargetLogin --> bytes towards the target
//! ```
//!
//! [`wire`] turns bytes into types and back and keeps no state. [`login`] is the sans-IO
//! authentication towards the target. Nothing here opens a socket or reads a clock.

pub mod login;
pub mod wire;
