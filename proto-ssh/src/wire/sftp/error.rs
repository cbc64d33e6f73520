//! What is wrong with a packet.

/// Why a packet can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The length of the packet is 0 or over the limit.
    #[error("packet length is 0 or over 262144 bytes")]
    Length,
    /// A field goes beyond the end of the packet.
    #[error("packet ends inside a field")]
    Short,
    /// Something follows the last field.
    #[error("packet goes on behind its last field")]
    Trailing,
    /// A handle is longer than 256 bytes.
    #[error("handle is longer than 256 bytes")]
    Handle,
    /// Attributes have a flag that version 3 does not have.
    #[error("attributes have an unknown flag")]
    Flags,
}
