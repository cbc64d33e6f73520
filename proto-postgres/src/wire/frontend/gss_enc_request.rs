//! `GssEncRequest`: may we speak GSSAPI encryption?

use bytes::{BufMut, BytesMut};

use crate::wire::error::{EncodeError, Kind, ParseError, ParseFault};
use crate::wire::frame::GSSENC_REQUEST_CODE;
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::startup("GSSENCRequest");

/// Asks for GSSAPI encryption before anything else. The server answers one byte, `G` or `N`.
/// `GSSENCRequest` in the documentation.
///
/// PostgreSQL documentation, Message Formats, GSSENCRequest (F).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GssEncRequest;

impl GssEncRequest {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// Another request code, or bytes behind it.
    pub fn parse(body: &[u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| match take::uint32(input, "request code")? {
            (input, GSSENC_REQUEST_CODE) => Ok((input, Self)),
            _ => take::fault(ParseFault::Invalid("request code")),
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// None; the signature is that of every message.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| {
            out.put_u32(GSSENC_REQUEST_CODE);
            Ok(())
        })
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[b"\0\0\0\x08\x04\xd2\x160"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{encoded, prefixes_refused, startup_body};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = GssEncRequest::parse(startup_body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(startup_body(golden), GssEncRequest::parse);
        }
    }

    #[test]
    fn another_code_is_an_error() {
        assert!(GssEncRequest::parse(b"\0\x03\0\0").is_err());
    }
}
