//! `BackendKeyData`: what a cancel request must know.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::wire::error::{EncodeError, EncodeFault, Kind, ParseError, ParseFault};
use crate::wire::frame::cancel_key_fits;
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::backend("BackendKeyData", b'K');

/// Process id and secret key, with which a client can later cancel what this session runs.
///
/// PostgreSQL documentation, Message Formats, BackendKeyData (B).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BackendKeyData<'a> {
    /// The session's process id.
    pub process_id: i32,
    /// The session's secret key, which doesn't print: 4 bytes, or up to 256 since protocol 3.2.
    pub key: &'a [u8],
}

impl<'a> BackendKeyData<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A key of fewer than 4 or more than 256 bytes.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, process_id) = take::int32(input, "process id")?;
            let (input, key) = take::rest(input)?;
            if !cancel_key_fits(key) {
                return take::fault(ParseFault::Invalid("length of the secret key"));
            }
            Ok((input, Self { process_id, key }))
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// A key of fewer than 4 or more than 256 bytes.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| {
            if !cancel_key_fits(self.key) {
                return Err(EncodeFault::Invalid("length of the secret key"));
            }
            out.put_i32(self.process_id);
            out.put_slice(self.key);
            Ok(())
        })
    }
}

impl fmt::Debug for BackendKeyData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendKeyData")
            .field("process_id", &self.process_id)
            .finish_non_exhaustive()
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[
    b"K\0\0\0\x0c\0\0\x12g\x01\x02\x03\x04",
    b"K\0\0\0(\0\0\0\x010123456789abcdef0123456789abcdef",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused, prefixes_refused_below};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = BackendKeyData::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        prefixes_refused(body(GOLDENS[0]), BackendKeyData::parse);
        prefixes_refused_below(body(GOLDENS[1]), 8, BackendKeyData::parse);
    }

    #[test]
    fn keys_have_4_to_256_bytes() {
        let sized = |len| {
            BackendKeyData {
                process_id: 1,
                key: &[7; 300][..len],
            }
            .encode(&mut BytesMut::new())
        };
        assert!(sized(3).is_err() && sized(4).is_ok() && sized(256).is_ok() && sized(257).is_err());
        assert!(BackendKeyData::parse(&[0; 261]).is_err());
    }

    #[test]
    fn a_key_is_not_printed() {
        let message = BackendKeyData::parse(body(GOLDENS[1])).expect("golden");
        assert!(!format!("{message:?}").contains("48"), "{message:?}");
    }
}
