//! `NegotiateProtocolVersion`: the server offers less than was asked.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::wire::error::{EncodeError, EncodeFault, Kind, ParseError};
use crate::wire::frontend::ProtocolVersion;
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::backend("NegotiateProtocolVersion", b'v');

/// The server doesn't speak the minor version, or doesn't know options, that the client asked for; the
/// session goes on with less if the client agrees.
///
/// PostgreSQL documentation, Message Formats, NegotiateProtocolVersion (B).
#[derive(Clone, PartialEq, Eq)]
pub struct NegotiateProtocolVersion<'a> {
    /// The newest version that the server speaks. Servers send the whole version, major number
    /// included.
    pub version: ProtocolVersion,
    /// The names of `_pq_.` options that the server doesn't know.
    pub unrecognized: Vec<&'a [u8]>,
}

impl<'a> NegotiateProtocolVersion<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A count beyond the body, a name without its NUL, or bytes behind the last one.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, version) = take::uint32(input, "protocol version")?;
            let (input, unrecognized) = take::long_list(input, "option", 1, take::cstr)?;
            Ok((
                input,
                Self {
                    version: ProtocolVersion(version),
                    unrecognized,
                },
            ))
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// A NUL inside of a string, or a message too long for a frame.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| {
            out.put_u32(self.version.0);
            out.put_u32(u32::try_from(self.unrecognized.len()).map_err(|_| EncodeFault::Count("option"))?);
            for name in &self.unrecognized {
                put::cstr(out, name, "option")?;
            }
            Ok(())
        })
    }
}

impl fmt::Debug for NegotiateProtocolVersion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NegotiateProtocolVersion")
            .field("version", &self.version)
            .field("unrecognized", &self.unrecognized.len())
            .finish()
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[
    b"v\0\0\0\x1a\0\x03\0\0\0\0\0\x02_pq_.a\0_pq_.b\0",
    b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused, tampered};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = NegotiateProtocolVersion::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(body(golden), NegotiateProtocolVersion::parse);
        }
    }

    #[test]
    fn tampered_counts_are_errors() {
        let message = NegotiateProtocolVersion::parse(body(GOLDENS[0])).expect("golden");
        assert_eq!(message.unrecognized, [&b"_pq_.a"[..], b"_pq_.b"]);
        let refused =
            |at, byte| NegotiateProtocolVersion::parse(tampered(body(GOLDENS[0]), at, byte)).is_err();
        assert!(refused(4, 0xff) && refused(4, 0x7f) && refused(7, 1) && refused(7, 3));
    }
}
