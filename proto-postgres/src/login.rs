//! Logins, sans-IO, on both sides. PostgreSQL documentation, Start-up and SASL Authentication.
//!
//! Towards clients: [`ScramServer`] asks a client for a proof of a secret that is kept as a verifier, [`bearer`] reads
//! the token that a client sends as OAUTHBEARER. (A clear password needs no machine.)
//!
//! Towards the target the gateway proves who it is: the client's side of the authentication.
//!
//! The caller owns the connection. It hands every
//! [`Authentication`](crate::wire::backend::Authentication) of the target to [`TargetLogin::handle`] and
//! does what the [`Reply`] says, until [`Reply::Done`]. An `ErrorResponse` of the target, which is how a
//! wrong password shows, is the caller's to see.
//!
//! The target isn't trusted. It's believed only once its SCRAM signature was checked; it can't make us
//! send a password in clear, or its MD5, unless [`Options`] allow that; it can't keep us busy with an
//! iteration count beyond [`MAX_ITERATIONS`]. Errors hold no text of the target and no secret.

pub mod bearer;
mod client;
mod error;
mod scram;
mod target;

pub use client::{SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramFault, ScramFinal, ScramServer};
pub use error::{Blame, LoginError};
pub use scram::MAX_ITERATIONS;
pub use target::{ChannelBinding, Options, Reply, TargetLogin};
