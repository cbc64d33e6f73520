//! `CopyFail`: the client gives up its COPY.

use std::fmt;

use bytes::BytesMut;

use crate::wire::debug::Hidden;
use crate::wire::error::{EncodeError, Kind, ParseError};
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::frontend("CopyFail", b'f');

/// The client breaks off its COPY; the server answers an error with this text in it.
///
/// PostgreSQL documentation, Message Formats, CopyFail (F).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CopyFail<'a> {
    /// Why, in the client's words.
    pub message: &'a [u8],
}

impl<'a> CopyFail<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A field that is cut short, or bytes behind the last one.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, message) = take::cstr(input, "message")?;
            Ok((input, Self { message }))
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// A NUL inside of a string, or a message too long for a frame.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| put::cstr(out, self.message, "message"))
    }
}

impl fmt::Debug for CopyFail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyFail")
            .field("message", &Hidden(self.message))
            .finish()
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[b"f\0\0\0\x0cno more\0"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = CopyFail::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(body(golden), CopyFail::parse);
        }
    }

    #[test]
    fn fields() {
        assert_eq!(
            CopyFail::parse(body(GOLDENS[0])),
            Ok(CopyFail { message: b"no more" })
        );
    }
}
