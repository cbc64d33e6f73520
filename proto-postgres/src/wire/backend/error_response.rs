//! `ErrorResponse`: what went wrong.

use std::fmt;

use bytes::BytesMut;

use crate::wire::backend::fields;
use crate::wire::error::{EncodeError, Kind, ParseError};
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::backend("ErrorResponse", b'E');

/// What went wrong, as fields of a type code and a text.
///
/// PostgreSQL documentation, Message Formats, ErrorResponse (B).
#[derive(Clone, PartialEq, Eq)]
pub struct ErrorResponse<'a> {
    /// Type codes and texts, in the order sent; see [`field`](super::field) for the codes.
    pub fields: Vec<(u8, &'a [u8])>,
}

impl<'a> ErrorResponse<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A field without its NUL, no terminator, or bytes behind it.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, fields) = fields::parse(input)?;
            Ok((input, Self { fields }))
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// A field code of zero, a NUL inside of a text, or a message too long for a frame.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| fields::put(out, &self.fields))
    }

    /// The text of the first field with this code.
    #[must_use]
    pub fn get(&self, code: u8) -> Option<&'a [u8]> {
        fields::get(&self.fields, code)
    }
}

impl fmt::Debug for ErrorResponse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorResponse")
            .field("fields", &fields::Shown(&self.fields))
            .finish()
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[
    b"E\0\0\0-SERROR\0VERROR\0C42501\0Mpermission denied\0\0",
    b"E\0\0\0\x05\0",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = ErrorResponse::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(body(golden), ErrorResponse::parse);
        }
    }

    #[test]
    fn fields_are_found_by_code() {
        let message = ErrorResponse::parse(body(GOLDENS[0])).expect("golden");
        assert_eq!(message.get(b'C'), Some(&b"42501"[..]));
        assert_eq!(message.get(b'D'), None);
    }

    #[test]
    fn texts_are_not_printed() {
        let text = format!("{:?}", ErrorResponse::parse(body(GOLDENS[0])).expect("golden"));
        assert!(text.contains("42501") && !text.contains("permission"), "{text}");
    }
}
