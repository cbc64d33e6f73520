//! `CopyData`: a piece of a COPY stream, from the server.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::wire::debug::Hidden;
use crate::wire::error::{EncodeError, Kind, ParseError};
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::backend("CopyData", b'd');

/// A piece of a COPY stream. Pieces that the server sends are rows; those of a client may be cut
/// anywhere. In a replication stream it holds replication messages.
///
/// PostgreSQL documentation, Message Formats, CopyData (F & B).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CopyData<'a> {
    /// The data.
    pub data: &'a [u8],
}

impl<'a> CopyData<'a> {
    /// Reads a body: all of it is data.
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
    /// Data too long for a frame.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| {
            out.put_slice(self.data);
            Ok(())
        })
    }
}

impl fmt::Debug for CopyData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyData")
            .field("data", &Hidden(self.data))
            .finish()
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[b"d\0\0\0\x0a1\tann\n", b"d\0\0\0\x04"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = CopyData::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
        assert_eq!(
            CopyData::parse(body(GOLDENS[0])).expect("golden").data,
            b"1\tann\n"
        );
    }

    #[test]
    fn data_is_not_printed() {
        assert_eq!(
            format!("{:?}", CopyData { data: b"secret" }),
            "CopyData { data: <6 bytes> }"
        );
    }
}
