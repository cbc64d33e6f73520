//! `NoData`: no row will come.

use bytes::BytesMut;

use crate::wire::error::{EncodeError, Kind, ParseError};
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::backend("NoData", b'n');

/// Answers `Describe` of something that returns no rows.
///
/// PostgreSQL documentation, Message Formats, NoData (B).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoData;

impl NoData {
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
pub(crate) const GOLDENS: &[&[u8]] = &[b"n\0\0\0\x04"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded};

    #[test]
    fn round_trip() {
        let message = NoData::parse(body(GOLDENS[0])).expect("golden");
        assert_eq!(encoded(|out| message.encode(out)), GOLDENS[0]);
    }

    #[test]
    fn a_body_is_refused() {
        assert!(NoData::parse(b"\0").is_err());
    }
}
