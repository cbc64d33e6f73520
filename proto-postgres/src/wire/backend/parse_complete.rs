//! `ParseComplete`: `Parse` is done.

use bytes::BytesMut;

use crate::wire::error::{EncodeError, Kind, ParseError};
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::backend("ParseComplete", b'1');

/// Answers `Parse`.
///
/// PostgreSQL documentation, Message Formats, ParseComplete (B).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseComplete;

impl ParseComplete {
    /// Reads a body, which has nothing in it.
    ///
    /// # Errors
    ///
    /// A body that isn't empty.
    pub fn parse(body: &[u8]) -> Result<Self, ParseError> {
        take::empty(KIND, body).map(|()| Self)
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// None; the signature is that of every message.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::empty(KIND, out)
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[b"1\0\0\0\x04"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded};

    #[test]
    fn round_trip() {
        let message = ParseComplete::parse(body(GOLDENS[0])).expect("golden");
        assert_eq!(encoded(|out| message.encode(out)), GOLDENS[0]);
    }

    #[test]
    fn a_body_is_refused() {
        assert!(ParseComplete::parse(b"\0").is_err());
    }
}
