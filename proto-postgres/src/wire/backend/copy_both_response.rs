//! `CopyBothResponse`: copy data both ways.

use bytes::{BufMut, BytesMut};

use crate::wire::error::{EncodeError, Kind, ParseError};
use crate::wire::format::Format;
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::backend("CopyBothResponse", b'W');

/// Copy data goes both ways; only replication uses it.
///
/// PostgreSQL documentation, Message Formats, CopyBothResponse (B).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyBothResponse {
    /// 0 where rows are text, 1 where they are binary.
    pub format: u8,
    /// Formats of the columns.
    pub columns: Vec<Format>,
}

impl CopyBothResponse {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A count beyond the body, or bytes behind the last column.
    pub fn parse(body: &[u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, format) = take::byte(input, "format")?;
            let (input, columns) = take::list(input, "column", 2, take::format)?;
            Ok((input, Self { format, columns }))
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// Over 65,535 columns.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| {
            out.put_u8(self.format);
            put::formats(out, &self.columns, "column")
        })
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[b"W\0\0\0\x0b\0\0\x02\0\0\0\0", b"W\0\0\0\x07\x01\0\0"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused, tampered};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = CopyBothResponse::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(body(golden), CopyBothResponse::parse);
        }
    }

    #[test]
    fn tampered_counts_are_errors() {
        assert_eq!(
            CopyBothResponse::parse(body(GOLDENS[0])).expect("golden").columns,
            [Format::TEXT; 2]
        );
        let refused = |at, byte| CopyBothResponse::parse(tampered(body(GOLDENS[0]), at, byte)).is_err();
        assert!(refused(1, 0xff) && refused(2, 1) && refused(2, 3));
    }
}
