//! `SaslResponse`: the next message of a SASL mechanism.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::wire::debug::Hidden;
use crate::wire::error::{EncodeError, Kind, ParseError};
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::frontend("SASLResponse", b'p');

/// The next message of the SASL mechanism in use. `SASLResponse` in the documentation; GSSAPI's
/// `GSSResponse` has the same shape.
///
/// PostgreSQL documentation, Message Formats, SASLResponse (F).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SaslResponse<'a> {
    /// The mechanism's message, which doesn't print.
    pub data: &'a [u8],
}

impl<'a> SaslResponse<'a> {
    /// Reads a body: all of it is the mechanism's message.
    ///
    /// # Errors
    ///
    /// None; the signature is that of every message.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let data = take::exact(KIND, body, take::rest)?;
        Ok(Self { data })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// A message too long for a frame.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| {
            out.put_slice(self.data);
            Ok(())
        })
    }
}

impl fmt::Debug for SaslResponse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslResponse")
            .field("data", &Hidden(self.data))
            .finish()
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[b"p\0\0\0\x0bc=biws,"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = SaslResponse::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
        assert_eq!(
            SaslResponse::parse(body(GOLDENS[0])).expect("golden").data,
            b"c=biws,"
        );
    }

    #[test]
    fn a_response_is_not_printed() {
        assert_eq!(
            format!("{:?}", SaslResponse { data: b"secret" }),
            "SaslResponse { data: <6 bytes> }"
        );
    }
}
