//! Bytes into types and back, without state: what the SSH library leaves raw.

pub mod certificate;
pub mod kexinit;
pub mod scp;
pub mod sftp;
