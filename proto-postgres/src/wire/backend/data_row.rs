//! `DataRow`: one row.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::wire::debug::Hidden;
use crate::wire::error::{EncodeError, EncodeFault, Kind, ParseError};
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::backend("DataRow", b'D');

/// One row. Its values are checked once when it's parsed and found again by walking, so that a row
/// costs no allocation.
///
/// PostgreSQL documentation, Message Formats, DataRow (B).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DataRow<'a> {
    count: u16,
    values: &'a [u8],
}

impl<'a> DataRow<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A count or length beyond the body, or bytes behind the last value.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (values, count) = take::count(input, "column", 4)?;
            let mut input = values;
            for _ in 0..count {
                (input, _) = take::value(input, "column")?;
            }
            Ok((input, Self { count, values }))
        })
    }

    /// The number of columns.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there is no column.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The values from left to right; `None` is NULL.
    #[must_use]
    pub fn columns(&self) -> Columns<'a> {
        Columns {
            left: self.count,
            values: self.values,
        }
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// A row too long for a frame.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| {
            out.put_u16(self.count);
            out.put_slice(self.values);
            Ok(())
        })
    }

    /// Appends the whole frame of a row with these values; `None` is NULL. This is how a row is
    /// written again when some of its values were replaced.
    ///
    /// # Errors
    ///
    /// Over 65,535 values, or a row too long for a frame.
    pub fn encode_columns<'v>(
        columns: impl IntoIterator<Item = Option<&'v [u8]>>,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| {
            let at = out.len();
            let mut count = 0_u16;
            out.put_u16(count);
            for column in columns {
                count = count.checked_add(1).ok_or(EncodeFault::Count("column"))?;
                put::value(out, column, "column")?;
            }
            if let Some(place) = out.get_mut(at..).and_then(|bytes| bytes.first_chunk_mut::<2>()) {
                *place = count.to_be_bytes();
            }
            Ok(())
        })
    }
}

impl<'a> IntoIterator for DataRow<'a> {
    type Item = Option<&'a [u8]>;
    type IntoIter = Columns<'a>;

    fn into_iter(self) -> Columns<'a> {
        self.columns()
    }
}

impl fmt::Debug for DataRow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataRow")
            .field("count", &self.count)
            .field("values", &Hidden(self.values))
            .finish()
    }
}

/// Walks the values of a [`DataRow`].
#[derive(Clone)]
pub struct Columns<'a> {
    left: u16,
    values: &'a [u8],
}

impl<'a> Iterator for Columns<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // A row that was parsed has all of its values.
        let (rest, value) = take::value(self.values, "column").ok()?;
        self.values = rest;
        Some(value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::from(self.left);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Columns<'_> {}

impl fmt::Debug for Columns<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Columns")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[
    b"D\0\0\0\x16\0\x03\0\0\0\x01\x37\xff\xff\xff\xff\0\0\0\x03ann",
    b"D\0\0\0\x0a\0\x01\0\0\0\0",
    b"D\0\0\0\x06\0\0",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused, tampered};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = DataRow::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
            assert_eq!(
                encoded(|out| DataRow::encode_columns(message.columns(), out)),
                *golden
            );
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(body(golden), DataRow::parse);
        }
    }

    #[test]
    fn columns() {
        let row = DataRow::parse(body(GOLDENS[0])).expect("golden");
        assert_eq!(row.columns().len(), 3);
        assert_eq!(
            row.columns().collect::<Vec<_>>(),
            [Some(&b"7"[..]), None, Some(b"ann")]
        );
        assert!(!format!("{row:?}").contains("ann"));
    }

    #[test]
    fn tampered_counts_and_lengths_are_errors() {
        let refused = |at, byte| {
            DataRow::parse(tampered(body(GOLDENS[0]), at, byte))
                .expect_err("tampered")
                .to_string()
        };
        assert_eq!(
            refused(0, 0xff),
            "malformed DataRow: column count exceeds message"
        );
        assert_eq!(refused(1, 2), "malformed DataRow: bytes follow its end");
        assert_eq!(
            refused(2, 0x7f),
            "malformed DataRow: column length exceeds message"
        );
        assert_eq!(refused(2, 0xff), "malformed DataRow: column length is negative");
    }

    #[test]
    fn too_many_columns_do_not_wrap() {
        let mut out = BytesMut::new();
        assert!(DataRow::encode_columns(std::iter::repeat_n(None, 65_536), &mut out).is_err());
        assert!(out.is_empty());
        assert!(DataRow::encode_columns(std::iter::repeat_n(None, 65_535), &mut out).is_ok());
        assert_eq!(DataRow::parse(&out[5..]).expect("valid").len(), 65_535);
    }
}
