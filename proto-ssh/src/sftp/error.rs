//! Why a session ends.

use std::fmt;

use crate::wire::sftp::Malformed;

/// Whose fault something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Who asks.
    Client,
    /// The server of the target.
    Target,
    /// The code around the machine.
    Gateway,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Target => "target",
            Self::Gateway => "gateway",
        })
    }
}

/// The session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sftp: {peer} {fault}")]
pub struct Error {
    /// Who did it.
    pub peer: Peer,
    /// What it did.
    pub fault: Fault,
}

/// How the protocol was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A packet that can't be read.
    #[error("sent a malformed packet: {0}")]
    Malformed(Malformed),
    /// The first packet is of another type, or comes twice.
    #[error("sent INIT or VERSION out of place, or something before it")]
    Start,
    /// Another version.
    #[error("speaks version {0}, not 3")]
    Version(u32),
    /// An answer that nobody asked for.
    #[error("answered what was not asked")]
    Unsolicited,
    /// An answer of a type that its request can't have.
    #[error("answered with a packet of the wrong type")]
    WrongType,
    /// Not the one name that was asked for, or a name in a listing that is no name.
    #[error("answered with wrong names")]
    Names,
    /// More data than was asked for.
    #[error("answered with more data than was asked for")]
    Data,
    /// A handle that is already open.
    #[error("gave a handle that is already open")]
    HandleTwice,
    /// The stream ended inside a packet.
    #[error("ended inside a packet")]
    Truncated,
    /// A packet that would be too long to send on.
    #[error("makes a packet that is too long to send on")]
    TooLong,
    /// An answer to a question that is not open.
    #[error("answered a question that is not open")]
    NoSuchQuestion,
}
