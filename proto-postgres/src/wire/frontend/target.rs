//! What `Describe` and `Close` are about.

use crate::wire::error::ParseFault;
use crate::wire::take::{self, Parsed};

/// What a [`Describe`](super::Describe) or [`Close`](super::Close) names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// A prepared statement, `S`.
    Statement,
    /// A portal, `P`.
    Portal,
}

impl Target {
    /// The byte on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Statement => b'S',
            Self::Portal => b'P',
        }
    }

    pub(crate) fn parse(input: &[u8]) -> Parsed<'_, Self> {
        let (input, code) = take::byte(input, "target")?;
        match code {
            b'S' => Ok((input, Self::Statement)),
            b'P' => Ok((input, Self::Portal)),
            _ => take::fault(ParseFault::Invalid("target")),
        }
    }
}
