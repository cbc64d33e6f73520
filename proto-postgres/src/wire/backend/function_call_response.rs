//! `FunctionCallResponse`: what a fast-path call returned.

use std::fmt;

use bytes::BytesMut;

use crate::wire::debug::Hidden;
use crate::wire::error::{EncodeError, Kind, ParseError};
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::backend("FunctionCallResponse", b'V');

/// The result of a `FunctionCall`.
///
/// PostgreSQL documentation, Message Formats, FunctionCallResponse (B).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FunctionCallResponse<'a> {
    /// The value; `None` is NULL.
    pub value: Option<&'a [u8]>,
}

impl<'a> FunctionCallResponse<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A length beyond the body, or bytes behind the value.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, value) = take::value(input, "result")?;
            Ok((input, Self { value }))
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// A value too long for a frame.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| put::value(out, self.value, "result"))
    }
}

impl fmt::Debug for FunctionCallResponse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionCallResponse")
            .field("value", &self.value.map(Hidden))
            .finish()
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[b"V\0\0\0\x0a\0\0\0\x02ok", b"V\0\0\0\x08\xff\xff\xff\xff"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused, tampered};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = FunctionCallResponse::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(body(golden), FunctionCallResponse::parse);
        }
    }

    #[test]
    fn tampered_lengths_are_errors() {
        assert_eq!(
            FunctionCallResponse::parse(body(GOLDENS[0]))
                .expect("golden")
                .value,
            Some(&b"ok"[..])
        );
        let refused = |at, byte| FunctionCallResponse::parse(tampered(body(GOLDENS[0]), at, byte)).is_err();
        assert!(refused(0, 0x7f) && refused(0, 0xff) && refused(3, 1) && refused(3, 3));
    }
}
