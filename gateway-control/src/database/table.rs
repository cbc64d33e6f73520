//! Rows and their two formats on the wire (PostgreSQL, "Formats and Format Codes").

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use gateway_core::operation::truncate;
use jiff::Timestamp;
use pgwire::api::Type;
use pgwire::api::portal::Format;
use pgwire::api::results::{FieldFormat, FieldInfo};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::data::DataRow;

/// Longest text in a cell, in bytes; a longer one is cut. The trail itself has the whole.
pub(super) const TEXT_BYTES: usize = 4096;
/// 2000-01-01, from which PostgreSQL counts, in microseconds after 1970.
const EPOCH: i64 = 946_684_800_000_000;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Int,
    Time,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
}

impl Column {
    pub(super) fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
        }
    }
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    Text(String),
    Int(i64),
    Time(Timestamp),
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        let mut text = text.into();
        truncate(&mut text, TEXT_BYTES);
        // A zero byte ends texts at most clients.
        Self::Text(text.replace('\0', "\u{FFFD}"))
    }

    pub(super) fn option(text: Option<impl Into<String>>) -> Self {
        text.map_or(Self::Null, Self::text)
    }

    pub(super) fn count(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// A row of values.
pub(super) type Row = Vec<Cell>;

/// Columns as `pgwire` describes them. A format code that the client left out is text.
pub(super) fn fields(columns: &[Column], format: Option<&Format>) -> Vec<FieldInfo> {
    columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let (kind, size) = match column.kind {
                Kind::Text => (Type::TEXT, -1),
                Kind::Int => (Type::INT8, 8),
                Kind::Time => (Type::TIMESTAMPTZ, 8),
            };
            let format = format.map_or(FieldFormat::Text, |format| format_of(format, index));
            FieldInfo::new(column.name.clone(), None, None, kind, format).with_type_size(size)
        })
        .collect()
}

/// The format of one column or parameter; `Format::format_for` would panic where there are too few codes.
pub(super) fn format_of(format: &Format, index: usize) -> FieldFormat {
    match format {
        Format::UnifiedText => FieldFormat::Text,
        Format::UnifiedBinary => FieldFormat::Binary,
        Format::Individual(codes) => codes
            .get(index)
            .map_or(FieldFormat::Text, |code| FieldFormat::from(*code)),
    }
}

/// A row on the wire.
pub(super) fn encode(row: &Row, fields: &Arc<Vec<FieldInfo>>) -> PgWireResult<DataRow> {
    let mut out = BytesMut::new();
    for (cell, field) in row.iter().zip(fields.iter()) {
        let binary = field.format() == FieldFormat::Binary;
        match cell {
            Cell::Null => out.put_i32(-1),
            Cell::Text(text) => put(&mut out, text.as_bytes())?,
            Cell::Int(number) if binary => put(&mut out, &number.to_be_bytes())?,
            Cell::Int(number) => put(&mut out, number.to_string().as_bytes())?,
            Cell::Time(at) if binary => {
                let micros = at.as_microsecond().saturating_sub(EPOCH);
                put(&mut out, &micros.to_be_bytes())?;
            }
            Cell::Time(at) => put(&mut out, time(*at).as_bytes())?,
        }
    }
    let count = i16::try_from(fields.len()).map_err(too_large)?;
    Ok(DataRow::new(out, count))
}

fn put(out: &mut BytesMut, value: &[u8]) -> PgWireResult<()> {
    out.put_i32(i32::try_from(value.len()).map_err(too_large)?);
    out.extend_from_slice(value);
    Ok(())
}

fn too_large(error: std::num::TryFromIntError) -> PgWireError {
    PgWireError::ApiError(Box::new(error))
}

/// As PostgreSQL writes a `timestamptz` in `TimeZone = UTC`.
fn time(at: Timestamp) -> String {
    let micros = Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
    micros.to_string().replace('T', " ").replace('Z', "+00")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_of_every_type() {
        let columns = [
            Column::new("a", Kind::Int),
            Column::new("b", Kind::Time),
            Column::new("c", Kind::Text),
        ];
        let at: Timestamp = "2000-01-01T00:00:01.5Z".parse().unwrap();
        let row = vec![Cell::Int(7), Cell::Time(at), Cell::Null];
        let text = Arc::new(fields(&columns, None));
        let data = encode(&row, &text).unwrap();
        assert_eq!(
            &data.data[..],
            b"\0\0\0\x017\0\0\0\x182000-01-01 00:00:01.5+00\xff\xff\xff\xff"
        );
        // Two codes for three columns: the third is text, and nothing panics.
        let mixed = Arc::new(fields(&columns, Some(&Format::Individual(vec![1, 1]))));
        let data = encode(&row, &mixed).unwrap();
        assert_eq!(
            &data.data[..],
            b"\0\0\0\x08\0\0\0\0\0\0\0\x07\0\0\0\x08\0\0\0\0\0\x16\xe3\x60\xff\xff\xff\xff"
        );
    }

    #[test]
    fn a_cell_is_bounded_and_has_no_zero_byte() {
        assert_eq!(Cell::text("x".repeat(9000)), Cell::Text("x".repeat(TEXT_BYTES)));
        assert_eq!(Cell::text("a\0b"), Cell::Text("a\u{FFFD}b".to_owned()));
    }
}
