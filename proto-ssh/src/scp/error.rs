//! Why a command ends.

use super::Peer;
use crate::wire::scp::Malformed;

/// The command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("scp: {peer} {fault}")]
pub struct Error {
    /// Who did it.
    pub peer: Peer,
    /// What it did.
    pub fault: Fault,
}

/// How the protocol was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A line or an answer that can't be read.
    #[error("sent what can't be read: {0}")]
    Malformed(Malformed),
    /// A sink answered what it was not sent.
    #[error("answered what was not sent")]
    Unsolicited,
    /// A source left a folder that it had not entered.
    #[error("left a folder that it did not enter")]
    Depth,
    /// Folders are too deep, or their path is too long.
    #[error("goes deeper than folders may go")]
    TooDeep,
    /// A source sent what the command did not name.
    #[error("sent another name than was asked for")]
    Name,
    /// The stream ended inside of something.
    #[error("ended inside a file or a line")]
    Truncated,
    /// Something follows the end.
    #[error("went on behind its end")]
    Over,
    /// An answer to a question that was never asked.
    #[error("answered a question that is not open")]
    NoSuchQuestion,
}
