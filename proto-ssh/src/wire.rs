//! Bytes into types and back, without state: what the SSH library leaves raw.

pub mod certificate;
pub mod scp;
pub mod sftp;
