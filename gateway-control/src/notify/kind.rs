//! What can be told.

use std::fmt;

/// Something that receivers can be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An operation waits for approval.
    ApprovalOpened,
    /// People have approved or denied an operation.
    ApprovalDecided,
    /// Nobody decided in time, or what approved it does not count any more.
    ApprovalExpired,
    /// An approved operation was let through.
    ApprovalUsed,
    /// Somebody asks for access.
    AccessRequested,
    /// Access is in force.
    AccessGranted,
    /// A request for access was denied, or nobody decided it in time.
    AccessRefused,
    /// Access is over: its time has come, or somebody took it back.
    AccessEnded,
    /// An operator ended a session.
    SessionKilled,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::ApprovalOpened,
        Self::ApprovalDecided,
        Self::ApprovalExpired,
        Self::ApprovalUsed,
        Self::AccessRequested,
        Self::AccessGranted,
        Self::AccessRefused,
        Self::AccessEnded,
        Self::SessionKilled,
    ];

    /// The name that users write and receivers read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApprovalOpened => "approval.opened",
            Self::ApprovalDecided => "approval.decided",
            Self::ApprovalExpired => "approval.expired",
            Self::ApprovalUsed => "approval.used",
            Self::AccessRequested => "access.requested",
            Self::AccessGranted => "access.granted",
            Self::AccessRefused => "access.refused",
            Self::AccessEnded => "access.ended",
            Self::SessionKilled => "session.killed",
        }
    }

    /// The one of that name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
