//! The session machine between a scripted client and a small model of the server, without sockets.

pub mod bodies;
pub mod driver;
pub mod message;
pub mod play;
pub mod server;
pub mod turns;
