//! `RowDescription`: the columns of the rows to come.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::wire::debug::Hidden;
use crate::wire::error::{EncodeError, Kind, ParseError};
use crate::wire::format::{Format, Oid};
use crate::wire::take::Parsed;
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::backend("RowDescription", b'T');

/// One column of a [`RowDescription`].
///
/// PostgreSQL documentation, Message Formats, RowDescription (B).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FieldDescription<'a> {
    /// The column's name as the query calls it.
    pub name: &'a [u8],
    /// The table it comes from, or 0.
    pub table: Oid,
    /// Its number in that table, from 1, or 0; negative for a system column.
    pub column: i16,
    /// The type of its values.
    pub type_oid: Oid,
    /// The type's size in bytes; negative for sizes that vary.
    pub type_size: i16,
    /// The type's modifier; its meaning is the type's own.
    pub type_modifier: i32,
    /// How values are represented. In the answer to `Describe` of a statement it isn't known yet, and
    /// text.
    pub format: Format,
}

impl fmt::Debug for FieldDescription<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FieldDescription")
            .field("name", &Hidden(self.name))
            .field("table", &self.table)
            .field("column", &self.column)
            .field("type_oid", &self.type_oid)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl<'a> FieldDescription<'a> {
    /// Bytes of a column with an empty name.
    const MIN_LEN: usize = 19;

    fn read(input: &'a [u8], _: &'static str) -> Parsed<'a, Self> {
        let (input, name) = take::cstr(input, "column name")?;
        let (input, table) = take::uint32(input, "table")?;
        let (input, column) = take::int16(input, "column number")?;
        let (input, type_oid) = take::uint32(input, "type")?;
        let (input, type_size) = take::int16(input, "type size")?;
        let (input, type_modifier) = take::int32(input, "type modifier")?;
        let (input, format) = take::format(input, "format")?;
        Ok((
            input,
            Self {
                name,
                table,
                column,
                type_oid,
                type_size,
                type_modifier,
                format,
            },
        ))
    }
}

/// The columns of the rows that follow.
///
/// PostgreSQL documentation, Message Formats, RowDescription (B).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowDescription<'a> {
    /// The columns, from left to right.
    pub fields: Vec<FieldDescription<'a>>,
}

impl<'a> RowDescription<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A column that is cut short, a count beyond the body, or bytes behind the last column.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, fields) =
                take::list(input, "column", FieldDescription::MIN_LEN, FieldDescription::read)?;
            Ok((input, Self { fields }))
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// A NUL inside of a name, over 65,535 columns, or a message too long for a frame.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| {
            put::count(out, self.fields.len(), "column")?;
            for field in &self.fields {
                put::cstr(out, field.name, "column name")?;
                out.put_u32(field.table);
                out.put_i16(field.column);
                out.put_u32(field.type_oid);
                out.put_i16(field.type_size);
                out.put_i32(field.type_modifier);
                out.put_i16(field.format.0);
            }
            Ok(())
        })
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[b"T\0\0\x006\0\x02id\0\0\0@\0\0\x01\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0?column?\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\x01", b"T\0\0\0\x06\0\0"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused, tampered};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = RowDescription::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(body(golden), RowDescription::parse);
        }
    }

    #[test]
    fn fields() {
        let message = RowDescription::parse(body(GOLDENS[0])).expect("golden");
        let [id, computed] = &message.fields[..] else {
            panic!("two columns")
        };
        assert_eq!(
            (id.name, id.table, id.column, id.type_oid),
            (&b"id"[..], 16384, 1, 23)
        );
        assert_eq!(
            (computed.table, computed.type_size, computed.format),
            (0, -1, Format::BINARY)
        );
    }

    #[test]
    fn tampered_counts_are_errors() {
        let refused = |at, byte| RowDescription::parse(tampered(body(GOLDENS[0]), at, byte)).is_err();
        assert!(refused(0, 0xff) && refused(1, 1) && refused(1, 3) && refused(1, 0));
    }
}
