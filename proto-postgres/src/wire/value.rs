//! Values in the binary format as people read them.

use std::fmt::Write as _;

use fallible_iterator::FallibleIterator;
use jiff::Span;
use jiff::civil::{Date, DateTime, Time};
use postgres_protocol::types;

use super::numeric;
use crate::session::text::ClientEncoding;

/// Most elements of an array that are written out.
const ELEMENTS: usize = 64;

/// The text of a binary value, much as the server would write it in ISO style. `None`: the type is not one of those that are
/// known here, or the bytes are no value of it. `oid` is of `pg_type.dat`, where numbers never change.
///
/// Formats: the `*_send` functions of PostgreSQL's types.
pub(crate) fn text_of(oid: u32, value: &[u8], encoding: ClientEncoding) -> Option<String> {
    Some(match oid {
        // bool
        16 => types::bool_from_sql(value).ok()?.to_string(),
        21 => types::int2_from_sql(value).ok()?.to_string(),
        23 => types::int4_from_sql(value).ok()?.to_string(),
        20 => types::int8_from_sql(value).ok()?.to_string(),
        26 => types::oid_from_sql(value).ok()?.to_string(),
        700 => float(
            types::float4_from_sql(value).ok()?.into(),
            &types::float4_from_sql(value).ok()?,
        ),
        701 => float(
            types::float8_from_sql(value).ok()?,
            &types::float8_from_sql(value).ok()?,
        ),
        1700 => numeric::to_text(value)?,
        // unknown, text, varchar, bpchar, name, json
        705 | 25 | 1043 | 1042 | 19 | 114 => characters(value, encoding)?,
        // xml may say itself how it is encoded.
        142 if value.is_ascii() => characters(value, encoding)?,
        // jsonb, of version 1
        3802 => characters(value.strip_prefix(&[1])?, encoding)?,
        2950 => uuid(types::uuid_from_sql(value).ok()?),
        1082 => match types::date_from_sql(value).ok()? {
            i32::MAX => "infinity".to_owned(),
            i32::MIN => "-infinity".to_owned(),
            days => date(EPOCH.checked_add(Span::new().try_days(days).ok()?).ok()?),
        },
        1083 => time(types::time_from_sql(value).ok()?)?,
        1114 => timestamp(types::timestamp_from_sql(value).ok()?, "")?,
        1184 => timestamp(types::timestamp_from_sql(value).ok()?, "+00")?,
        // Arrays of these.
        1000 | 1005 | 1007 | 1016 | 1028 | 1021 | 1022 | 1231 | 1009 | 1015 | 1014 | 1003 | 199 | 3807
        | 2951 | 1182 | 1183 | 1115 | 1185 => array(value, encoding)?,
        _ => return None,
    })
}

/// No text of the server's has a NUL in it.
fn characters(value: &[u8], encoding: ClientEncoding) -> Option<String> {
    let text = encoding.decode(value)?;
    (!text.contains('\0')).then(|| text.into_owned())
}

/// Day 0 of dates and timestamps.
const EPOCH: Date = Date::constant(2000, 1, 1);

/// Written out, or with an exponent where it would be long.
fn float(size: f64, value: &(impl std::fmt::Display + std::fmt::LowerExp)) -> String {
    if size == 0.0 || !size.is_finite() || (1e-5..1e15).contains(&size.abs()) {
        value.to_string()
    } else {
        format!("{value:e}")
    }
}

fn uuid(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing into a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn time(micros: i64) -> Option<String> {
    // The server knows 24:00:00.
    let time = Time::midnight()
        .checked_add(Span::new().try_microseconds(micros).ok()?)
        .ok()?;
    Some(time.to_string())
}

fn timestamp(micros: i64, zone: &str) -> Option<String> {
    match micros {
        i64::MAX => return Some("infinity".to_owned()),
        i64::MIN => return Some("-infinity".to_owned()),
        _ => {}
    }
    let epoch = DateTime::from_parts(EPOCH, Time::midnight());
    let at = epoch
        .checked_add(Span::new().try_microseconds(micros).ok()?)
        .ok()?;
    let date = date(at.date());
    Some(match date.strip_suffix(" BC") {
        Some(date) => format!("{date} {}{zone} BC", at.time()),
        None => format!("{date} {}{zone}", at.time()),
    })
}

/// Before the year 1 came the year 1 BC, not 0.
fn date(date: Date) -> String {
    if date.year() > 0 {
        return date.to_string();
    }
    format!("{:04}-{:02}-{:02} BC", 1 - date.year(), date.month(), date.day())
}

/// `{1,2,NULL}`; of one dimension that begins at 1.
fn array(value: &[u8], encoding: ClientEncoding) -> Option<String> {
    let array = types::array_from_sql(value).ok()?;
    let mut dimensions = array.dimensions();
    let Some(dimension) = dimensions.next().ok()? else {
        return Some("{}".to_owned());
    };
    let length = usize::try_from(dimension.len).ok()?;
    if dimension.lower_bound != 1 || dimensions.next().ok()?.is_some() || length > ELEMENTS {
        return None;
    }
    let mut text = String::from("{");
    let mut elements = array.values();
    let mut first = true;
    while let Some(element) = elements.next().ok()? {
        if !std::mem::take(&mut first) {
            text.push(',');
        }
        match element {
            None => text.push_str("NULL"),
            Some(element) => push_element(&mut text, &text_of(array.element_type(), element, encoding)?),
        }
    }
    text.push('}');
    Some(text)
}

/// An element, in quotes where the server would put it in some (PostgreSQL documentation, Array Input and Output Syntax).
fn push_element(text: &mut String, element: &str) {
    let plain = !element.is_empty()
        && !element.eq_ignore_ascii_case("null")
        && !element.contains(|c: char| matches!(c, '{' | '}' | ',' | '"' | '\\') || c.is_whitespace());
    if plain {
        text.push_str(element);
        return;
    }
    text.push('"');
    for c in element.chars() {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    #[test]
    fn values_read_as_the_server_writes_them() {
        for (oid, bytes, text) in [
            (16, "01", "true"),
            (21, "ffff", "-1"),
            (23, "0000002a", "42"),
            (20, "000000000000002a", "42"),
            (701, "3ff8000000000000", "1.5"),
            (701, "7e37e43c8800759c", "1e300"),
            (1082, "fff4dbf7", "0001-12-30 BC"),
            (1700, "0002 0000 0000 0002 0001 1388", "1.50"),
            (25, "c3a9", "é"),
            (3802, "01 7b7d", "{}"),
            (
                2950,
                "00112233445566778899aabbccddeeff",
                "00112233-4455-6677-8899-aabbccddeeff",
            ),
            (1082, "00000000", "2000-01-01"),
            (1082, "ffffffff", "1999-12-31"),
            (1082, "7fffffff", "infinity"),
            (1114, "00000000000f4240", "2000-01-01 00:00:01"),
            (1184, "fffffffffffffffe", "1999-12-31 23:59:59.999998+00"),
            (
                1007,
                "00000001 00000001 00000017 00000002 00000001 00000004 00000007 ffffffff",
                "{7,NULL}",
            ),
            (
                1009,
                "00000001 00000000 00000019 00000002 00000001 00000003 612c22 00000000",
                r#"{"a,\"",""}"#,
            ),
            (1007, "00000000 00000000 00000017", "{}"),
        ] {
            assert_eq!(
                text_of(oid, &hex(bytes), ClientEncoding::Utf8).as_deref(),
                Some(text),
                "{oid} {bytes}"
            );
        }
    }

    #[test]
    fn what_is_no_value_of_its_type_is_not_read() {
        for (oid, bytes) in [
            (23, "00"),
            (23, "000000000000"),
            (25, "ff"),
            (25, "00000007"),
            (3802, "02 7b7d"),
            // Farther than any calendar goes.
            (1082, "7ffffff0"),
            (1083, "7ffffffffffffff0"),
            (1114, "7ffffffffffffff0"),
            (17, "00"),
            (99_999, "00000001"),
            (1007, "00000001 00000000 00000017 7fffffff 00000001"),
            // Two dimensions, and a lower bound of 0.
            (
                1007,
                "00000002 00000000 00000017 00000001 00000001 00000001 00000001 00000004 00000007",
            ),
            (
                1007,
                "00000001 00000000 00000017 00000001 00000000 00000004 00000007",
            ),
        ] {
            assert_eq!(
                text_of(oid, &hex(bytes), ClientEncoding::Utf8),
                None,
                "{oid} {bytes}"
            );
        }
    }
}
