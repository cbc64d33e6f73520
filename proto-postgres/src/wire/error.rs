//! What can be wrong with bytes, and whose fault it is.

use std::fmt;

/// Who sent the bytes, and so whose fault it is when they are malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// The client, which speaks the frontend's part.
    Client,
    /// The target, which speaks the backend's part.
    Upstream,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Upstream => "target",
        })
    }
}

/// A frame's header can't be accepted. The stream can't be continued behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is smaller than what it must count.
    #[error("frame length {length} is below the minimum of {minimum}")]
    TooShort {
        /// The length as sent.
        length: u32,
        /// The smallest length that this kind of frame can have.
        minimum: u32,
    },
    /// The frame is larger than its reader accepts.
    #[error("frame of {length} bytes exceeds the limit of {limit}")]
    TooLong {
        /// Size of the frame in bytes; for a start-up packet, without the length word.
        length: usize,
        /// The reader's limit in bytes.
        limit: usize,
    },
}

/// A body isn't what the protocol says this message is.
///
/// Prints as `malformed Bind: parameter count exceeds message`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {message}: {what}")]
pub struct ParseError {
    /// The message's name in the protocol's documentation.
    pub message: &'static str,
    /// Who sent it.
    pub peer: Peer,
    /// What is wrong with it.
    pub what: ParseFault,
}

/// What is wrong with a body; the text names the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseFault {
    /// The body ends inside of this field.
    Truncated(&'static str),
    /// The field is a string without its NUL.
    Unterminated(&'static str),
    /// More items are announced than the body can hold.
    Count(&'static str),
    /// The value is said to be longer than the body.
    Length(&'static str),
    /// A length below zero that isn't the -1 of NULL.
    Negative(&'static str),
    /// A value that the field can't have.
    Invalid(&'static str),
    /// Bytes behind the message's end.
    Trailing,
}

impl fmt::Display for ParseFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated(field) => write!(f, "message ends inside {field}"),
            Self::Unterminated(field) => write!(f, "{field} has no terminator"),
            Self::Count(field) => write!(f, "{field} count exceeds message"),
            Self::Length(field) => write!(f, "{field} length exceeds message"),
            Self::Negative(field) => write!(f, "{field} length is negative"),
            Self::Invalid(field) => write!(f, "{field} is invalid"),
            Self::Trailing => f.write_str("bytes follow its end"),
        }
    }
}

/// A message can't be put on the wire as it is. Nothing of it was written.
///
/// Prints as `cannot encode Query: statement contains a NUL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot encode {message}: {what}")]
pub struct EncodeError {
    /// The message's name in the protocol's documentation.
    pub message: &'static str,
    /// What is wrong with it.
    pub what: EncodeFault,
}

/// Why a message can't be encoded; the text names the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodeFault {
    /// A NUL inside of a string would end it early.
    Nul(&'static str),
    /// More items than the count can say.
    Count(&'static str),
    /// Longer than the length word can say.
    Length(&'static str),
    /// A value that the field can't have.
    Invalid(&'static str),
}

impl fmt::Display for EncodeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nul(field) => write!(f, "{field} contains a NUL"),
            Self::Count(field) => write!(f, "too many of {field}"),
            Self::Length(field) => write!(f, "{field} is too long"),
            Self::Invalid(field) => write!(f, "{field} is invalid"),
        }
    }
}

/// What a message is called, who sends it, and its tag.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) peer: Peer,
    /// `None` for start-up packets.
    pub(crate) tag: Option<u8>,
}

impl Kind {
    pub(crate) const fn frontend(name: &'static str, tag: u8) -> Self {
        Self {
            name,
            peer: Peer::Client,
            tag: Some(tag),
        }
    }

    pub(crate) const fn backend(name: &'static str, tag: u8) -> Self {
        Self {
            name,
            peer: Peer::Upstream,
            tag: Some(tag),
        }
    }

    pub(crate) const fn startup(name: &'static str) -> Self {
        Self {
            name,
            peer: Peer::Client,
            tag: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_message_and_field() {
        let error = ParseError {
            message: "Bind",
            peer: Peer::Client,
            what: ParseFault::Count("parameter"),
        };
        assert_eq!(
            error.to_string(),
            "malformed Bind: parameter count exceeds message"
        );
        let error = EncodeError {
            message: "Query",
            what: EncodeFault::Nul("statement"),
        };
        assert_eq!(error.to_string(), "cannot encode Query: statement contains a NUL");
    }
}
