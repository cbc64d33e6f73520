//! `CancelRequest`: stop what that session runs.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::wire::error::{EncodeError, EncodeFault, Kind, ParseError, ParseFault};
use crate::wire::frame::{CANCEL_REQUEST_CODE, cancel_key_fits};
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::startup("CancelRequest");

/// Asks, on a connection of its own, that the server cancels what another session runs. It is never
/// answered.
///
/// PostgreSQL documentation, Message Formats, CancelRequest (F).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CancelRequest<'a> {
    /// The session's process id, as [`BackendKeyData`](crate::wire::backend::BackendKeyData) gave it.
    pub process_id: i32,
    /// The session's secret key, which doesn't print: 4 bytes, or up to 256 since protocol 3.2.
    pub key: &'a [u8],
}

impl<'a> CancelRequest<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// Another request code, or a key of fewer than 4 or more than 256 bytes.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, code) = take::uint32(input, "request code")?;
            if code != CANCEL_REQUEST_CODE {
                return take::fault(ParseFault::Invalid("request code"));
            }
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
            out.put_u32(CANCEL_REQUEST_CODE);
            out.put_i32(self.process_id);
            out.put_slice(self.key);
            Ok(())
        })
    }
}

impl fmt::Debug for CancelRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelRequest")
            .field("process_id", &self.process_id)
            .finish_non_exhaustive()
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[
    b"\0\0\0\x10\x04\xd2\x16.\0\0\x12g\x01\x02\x03\x04",
    b"\0\0\0,\x04\xd2\x16.\xff\xff\xff\xfe0123456789abcdef0123456789abcdef",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{encoded, prefixes_refused, prefixes_refused_below, startup_body};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = CancelRequest::parse(startup_body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        prefixes_refused(startup_body(GOLDENS[0]), CancelRequest::parse);
        prefixes_refused_below(startup_body(GOLDENS[1]), 12, CancelRequest::parse);
    }

    #[test]
    fn keys_have_4_to_256_bytes() {
        let sized = |len| {
            CancelRequest {
                process_id: 1,
                key: &[7; 300][..len],
            }
            .encode(&mut BytesMut::new())
        };
        assert!(sized(3).is_err() && sized(4).is_ok() && sized(256).is_ok() && sized(257).is_err());
        assert!(CancelRequest::parse(&[startup_body(GOLDENS[0]), &[0; 253]].concat()).is_err());
    }

    #[test]
    fn a_key_is_not_printed() {
        let message = CancelRequest::parse(startup_body(GOLDENS[1])).expect("golden");
        assert!(!format!("{message:?}").contains("48"), "{message:?}");
    }
}
