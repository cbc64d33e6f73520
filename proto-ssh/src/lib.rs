//! SSH as an adapter of the gateway.
//!
//! [`command`] says what a command line does. It decides nothing: it turns bytes into what policy is asked about, and
//! into the bytes that are sent on in place of the client's.
//!
//! [`sftp`] and [`scp`] are the sans-IO machines of file transfers. [`wire`] reads and writes what the SSH library leaves raw.

pub mod command;
pub mod scp;
pub mod sftp;
pub mod wire;
