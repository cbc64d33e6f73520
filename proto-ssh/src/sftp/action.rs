//! What goes in and out beside bytes.

use super::Event;
pub use crate::contents::Looked;

/// What the machine has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Whether REALPATH and `expand-path` are answered: where any SFTP may be permitted to the principal.
    pub realpath: bool,
}

/// Whether a path would be read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// `sftp-read`
    Read,
    /// `sftp-write`
    Write,
}

/// The number of a question, for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub(crate) u64);

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// For [`Sftp::handle_answer`](super::Sftp::handle_answer).
    pub id: AskId,
    /// What is asked.
    pub what: What,
    /// The resolved path: absolute, without `.`, `..` and empty components; bytes, as the target has them.
    pub path: Vec<u8>,
    /// The request: `OPEN`, `RENAME`, `hardlink@openssh.com`.
    pub operation: &'static str,
    /// Both paths, where the request has two: `/a to /b`.
    pub both: Option<String>,
    /// What else it says, for people: ` write truncate mode=0644`.
    pub detail: String,
    /// All that it would do, byte by byte: what an approval of it is bound to.
    pub exact: Vec<u8>,
}

impl Ask {
    /// The request as people read it: `SETSTAT /srv/app/x mode=4777`.
    pub fn statement(&self) -> String {
        let path = String::from_utf8_lossy(&self.path);
        let paths = self.both.as_deref().unwrap_or(&path);
        format!("{} {paths}{}", self.operation, self.detail)
    }
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The request goes on once all its questions are answered so.
    Allow,
    /// The same, and of a file that is read no piece goes on in which this is found.
    AllowLooked(Looked),
    /// The client gets `SSH_FX_PERMISSION_DENIED`.
    Deny {
        /// What the client is told, cut at 1024 bytes.
        text: String,
    },
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send one packet to the target.
    ToTarget(Vec<u8>),
    /// Send one packet to the client.
    ToClient(Vec<u8>),
    /// Decide, and call [`Sftp::handle_answer`](super::Sftp::handle_answer).
    Ask(Ask),
    /// Write it down.
    Event(Event),
}
