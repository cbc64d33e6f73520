//! `SaslInitialResponse`: a mechanism chosen, and its first message.

use std::fmt;

use bytes::BytesMut;

use crate::wire::error::{EncodeError, Kind, ParseError};
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::frontend("SASLInitialResponse", b'p');

/// The SASL mechanism that the client chose, and its first message. `SASLInitialResponse` in the
/// documentation.
///
/// PostgreSQL documentation, Message Formats, SASLInitialResponse (F).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SaslInitialResponse<'a> {
    /// The mechanism's name.
    pub mechanism: &'a [u8],
    /// The mechanism's first message; `None` where it has none.
    pub response: Option<&'a [u8]>,
}

impl<'a> SaslInitialResponse<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A field that is cut short, or bytes behind the last one.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, mechanism) = take::cstr(input, "mechanism")?;
            let (input, response) = take::value(input, "initial response")?;
            Ok((input, Self { mechanism, response }))
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// A NUL inside of a string, or a message too long for a frame.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| {
            put::cstr(out, self.mechanism, "mechanism")?;
            put::value(out, self.response, "initial response")
        })
    }
}

impl fmt::Debug for SaslInitialResponse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslInitialResponse")
            .field("mechanism", &String::from_utf8_lossy(self.mechanism))
            .finish_non_exhaustive()
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[
    b"p\0\0\0\x1fSCRAM-SHA-256\0\0\0\0\x09n,,n=,r=a",
    b"p\0\0\0\x0aX\0\xff\xff\xff\xff",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused, tampered};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = SaslInitialResponse::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(body(golden), SaslInitialResponse::parse);
        }
    }

    #[test]
    fn fields() {
        let message = SaslInitialResponse::parse(body(GOLDENS[0])).expect("golden");
        assert_eq!(message.mechanism, b"SCRAM-SHA-256");
        assert_eq!(message.response, Some(&b"n,,n=,r=a"[..]));
        assert!(!format!("{message:?}").contains("r=a"));
    }

    #[test]
    fn tampered_lengths_are_errors() {
        let refused = |at, byte| SaslInitialResponse::parse(tampered(body(GOLDENS[0]), at, byte)).is_err();
        assert!(refused(14, 0x7f) && refused(14, 0xff) && refused(17, 8) && refused(17, 10));
    }
}
