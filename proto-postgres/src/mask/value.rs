//! How a mask looks in a value of a PostgreSQL type, in text and in binary format. Where a mask has no meaning for a type
//! the value becomes NULL, which every type has.

use std::cell::Cell;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use gateway_core::detect::Detectors;
use gateway_core::mask::token::Tokens;
use gateway_core::mask::{MaskKey, REDACTED, json};
use gateway_core::resource::Mask;

use super::array::{binary_array, text_elements};
use super::plan::ColumnPlan;
use super::reveal::Shape;
use super::row::Mismatch;

use crate::wire::{Format, numeric};

/// Types by what a mask can do with them (OIDs of `pg_type.dat`, which never change). A domain is described as its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Text, in both formats the characters themselves.
    Text,
    /// An array of such.
    TextArray {
        /// The element's type.
        element: u32,
    },
    Json,
    Jsonb,
    Uuid,
    Numeric,
    Int2,
    Int4,
    Int8,
    Date,
    Timestamp,
    /// With `+00` behind it in text.
    TimestampTz,
    Bytea,
    Xml,
    /// Numbers, truth values, times: what has no text in it.
    Plain,
    /// Anything else.
    Other,
}

impl Class {
    /// Whether values can have texts in them.
    fn has_text(self) -> bool {
        matches!(
            self,
            Self::Text
                | Self::TextArray { .. }
                | Self::Json
                | Self::Jsonb
                | Self::Xml
                | Self::Numeric
                | Self::Int8
                | Self::Other
        )
    }
}

fn class(oid: u32) -> Class {
    match oid {
        // text, varchar, bpchar, name, unknown
        25 | 1043 | 1042 | 19 | 705 => Class::Text,
        1009 => Class::TextArray { element: 25 },
        1015 => Class::TextArray { element: 1043 },
        1014 => Class::TextArray { element: 1042 },
        114 => Class::Json,
        3802 => Class::Jsonb,
        2950 => Class::Uuid,
        1700 => Class::Numeric,
        21 => Class::Int2,
        23 => Class::Int4,
        20 => Class::Int8,
        1082 => Class::Date,
        1114 => Class::Timestamp,
        1184 => Class::TimestampTz,
        17 => Class::Bytea,
        142 => Class::Xml,
        // bool, oid, xid, cid, float4, float8, time, interval, timetz
        16 | 26 | 28 | 29 | 700 | 701 | 1083 | 1186 | 1266 => Class::Plain,
        _ => Class::Other,
    }
}

/// One column of a result, ready to be masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnMask {
    /// See [`ColumnPlan::whole`].
    mask: Option<Mask>,
    /// See [`ColumnPlan::tokens`].
    tokens: Option<Arc<Tokens>>,
    /// See [`ColumnPlan::made`].
    made: bool,
    /// See [`ColumnPlan::parts`].
    parts: Arc<[json::Part]>,
    /// What is looked for in values that are not masked whole.
    detect: Option<Arc<Detectors>>,
    class: Class,
    binary: bool,
    /// Whether dates in text are `YYYY-MM-DD`.
    iso: bool,
}

impl ColumnMask {
    /// The mask of a column of this type in this format, if it needs one. `iso`: the session writes dates in ISO style.
    pub fn new(
        plan: Option<&ColumnPlan>,
        detect: Option<&Arc<Detectors>>,
        type_oid: u32,
        format: Format,
        iso: bool,
    ) -> Option<Self> {
        let class = class(type_oid);
        let mask = plan.and_then(|plan| plan.whole);
        let detect = detect.filter(|_| mask.is_none() && class.has_text()).cloned();
        if plan.is_none() && detect.is_none() {
            return None;
        }
        Some(Self {
            mask,
            tokens: plan
                .and_then(|plan| plan.tokens.clone())
                .filter(|_| mask == Some(Mask::Token)),
            made: plan.is_some_and(|plan| plan.made),
            parts: plan.map(|plan| plan.parts.clone()).unwrap_or_default(),
            detect,
            class,
            binary: format != Format::TEXT,
            iso,
        })
    }

    /// The same of a type that is known by its name alone; one that is not is any other.
    pub fn of_named_type(
        plan: Option<&ColumnPlan>,
        detect: Option<&Arc<Detectors>>,
        name: &str,
        format: Format,
        iso: bool,
    ) -> Option<Self> {
        let oid = match name.strip_prefix("pg_catalog.").unwrap_or_default() {
            "text" | "varchar" | "bpchar" => 25,
            "name" => 19,
            "_text" => 1009,
            "_varchar" => 1015,
            "json" => 114,
            "jsonb" => 3802,
            "uuid" => 2950,
            "numeric" => 1700,
            "int2" => 21,
            "int4" => 23,
            "int8" => 20,
            "date" => 1082,
            "timestamp" => 1114,
            "timestamptz" => 1184,
            "bytea" => 17,
            _ => 0,
        };
        Self::new(plan, detect, oid, format, iso)
    }

    /// Appends what becomes of a value, or of NULL. `false`: NULL, and nothing was appended.
    pub fn apply(&self, value: Option<&[u8]>, key: &MaskKey, out: &mut BytesMut) -> bool {
        match (value, self.mask) {
            (Some(value), Some(mask)) => self.value(mask, value, key, out),
            (Some(value), None) => self.inside(value, key, out),
            // What is made of values is the same for all, and so must be the mask of it.
            (None, Some(mask)) => self.made && self.value(mask, b"", key, out),
            (None, None) => false,
        }
    }

    /// Masks parts of a value, and what is found in it. What can't be rewritten becomes NULL.
    fn inside(&self, value: &[u8], key: &MaskKey, out: &mut BytesMut) -> bool {
        let start = out.len();
        let done = match self.class {
            Class::Json | Class::Jsonb => {
                let text = if self.binary && self.class == Class::Jsonb {
                    out.put_u8(1);
                    value.strip_prefix(&[1])
                } else {
                    Some(value)
                };
                text.is_some_and(|text| {
                    json::rewrite(text, &self.parts, self.detect.as_deref(), key, out).is_ok()
                })
            }
            // `->>` gives a text, which is JSON where it is no plain string; in JSON what is looked for may be escaped.
            Class::Text => {
                let detect = self.detect.as_deref();
                let first = value.iter().find(|byte| !byte.is_ascii_whitespace());
                let escapes = detect.is_some() && value.windows(2).any(|two| two == b"\\u");
                let looked = matches!(first, Some(b'{' | b'[')) && (escapes || !self.parts.is_empty());
                if looked && json::rewrite(value, &self.parts, detect, key, out).is_ok() {
                    return true;
                }
                out.truncate(start);
                if looked && !self.parts.is_empty() {
                    // A string that only begins so has no members.
                    out.extend_from_slice(REDACTED.as_bytes());
                    return true;
                }
                detected(detect, value, key, out)
            }
            _ if !self.parts.is_empty() => false,
            Class::TextArray { element } => {
                let any = Cell::new(false);
                let one = |item: &[u8], out: &mut BytesMut| {
                    let found = self
                        .detect
                        .as_ref()
                        .is_some_and(|detect| detect.rewrite(item, key, out));
                    any.set(any.get() || found);
                    if !found {
                        out.extend_from_slice(item);
                    }
                    true
                };
                let read = if self.binary {
                    binary_array(element, value, out, one)
                } else {
                    text_elements(value, out, one).is_some()
                };
                // Nothing found: as it was written.
                let plain =
                    !any.get() && (read || !self.detect.as_ref().is_some_and(|detect| detect.finds(value)));
                if plain {
                    out.truncate(start);
                    out.extend_from_slice(value);
                }
                plain || read
            }
            // Composites, ranges, XML and the like: in text format they are texts with values in them; in binary the
            // lengths of what is in there would no longer be right.
            _ => {
                let detect = self.detect.as_deref();
                let number = match (self.class, value.first_chunk::<8>()) {
                    (Class::Int8, Some(bytes)) if self.binary => Some(i64::from_be_bytes(*bytes).to_string()),
                    (Class::Numeric, _) if self.binary => numeric::to_text(value),
                    _ => None,
                };
                let text = number.as_ref().map_or(value, |number| number.as_bytes());
                let finds = detect.is_some_and(|detect| detect.finds(text));
                let whole = self.class == Class::Xml || !finds;
                if whole {
                    detected(detect, value, key, out);
                }
                whole
            }
        };
        if !done {
            out.truncate(start);
        }
        done
    }

    fn value(&self, mask: Mask, value: &[u8], key: &MaskKey, out: &mut BytesMut) -> bool {
        if let Some(tokens) = &self.tokens {
            return self.token(tokens, value, key, out);
        }
        match (self.class, mask) {
            (_, Mask::Null) => false,
            (Class::Text, mask) => mask.text(value, key, out),
            // An array that was made tells by its length what it was made of.
            (Class::TextArray { .. }, _) if self.made => false,
            (Class::TextArray { element }, _) => {
                let start = out.len();
                let one = |item: &[u8], out: &mut BytesMut| mask.text(item, key, out);
                let masked = if self.binary {
                    binary_array(element, value, out, one)
                } else {
                    text_elements(value, out, one).is_some()
                };
                out.truncate(if masked { out.len() } else { start });
                masked
            }
            (Class::Json | Class::Jsonb, Mask::Redact | Mask::Partial | Mask::Token) => {
                self.json(mask, value, key, out);
                true
            }
            (class, Mask::Hash) => self.hash(class, value, key, out),
            (Class::Date | Class::Timestamp | Class::TimestampTz, Mask::Year) => self.year(value, out),
            _ => false,
        }
    }

    /// JSON that is masked whole: a string is masked as one, a number becomes a token or a string, and of what has parts
    /// nothing is left.
    fn json(&self, mask: Mask, value: &[u8], key: &MaskKey, out: &mut BytesMut) {
        let text = if self.binary && self.class == Class::Jsonb {
            out.put_u8(1);
            value.strip_prefix(&[1]).unwrap_or_default()
        } else {
            value
        };
        let start = out.len();
        let whole = json::Part {
            path: Vec::new(),
            mask,
            tokens: self.tokens.clone(),
        };
        let plain = self.made || mask == Mask::Redact;
        if plain || json::rewrite(text, &[whole], None, key, out).is_err() {
            out.truncate(start);
            out.put_u8(b'"');
            out.extend_from_slice(REDACTED.as_bytes());
            out.put_u8(b'"');
        }
    }

    /// A token of the same type.
    fn token(&self, tokens: &Tokens, value: &[u8], key: &MaskKey, out: &mut BytesMut) -> bool {
        let start = out.len();
        let text = |item: &[u8], out: &mut BytesMut| {
            tokens.text(item, out);
            true
        };
        let done = match self.class {
            Class::Text => text(value, out),
            Class::TextArray { element } if self.binary => binary_array(element, value, out, text),
            Class::TextArray { .. } => text_elements(value, out, text).is_some(),
            Class::Json | Class::Jsonb => {
                self.json(Mask::Token, value, key, out);
                true
            }
            Class::Int4 | Class::Int8 | Class::Numeric | Class::Uuid => {
                let shape = match self.class {
                    Class::Int4 => Shape::Integer(i64::from(i32::MAX)),
                    Class::Int8 => Shape::Integer(i64::MAX),
                    Class::Uuid => Shape::Uuid,
                    _ => Shape::Decimal,
                };
                shape.hide(tokens, value, self.binary, out)
            }
            _ => false,
        };
        if !done {
            out.truncate(start);
        }
        done
    }

    /// A keyed digest in the form of the type.
    fn hash(&self, class: Class, value: &[u8], key: &MaskKey, out: &mut BytesMut) -> bool {
        let digest = key.digest(value);
        let number = digest.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes));
        match class {
            Class::Json | Class::Jsonb => {
                if self.binary && class == Class::Jsonb {
                    out.put_u8(1);
                }
                out.put_u8(b'"');
                Mask::Hash.text(value, key, out);
                out.put_u8(b'"');
            }
            Class::Uuid if self.binary => out.extend_from_slice(digest.get(..16).unwrap_or_default()),
            Class::Uuid => {
                for (at, byte) in digest.iter().take(16).enumerate() {
                    if matches!(at, 4 | 6 | 8 | 10) {
                        out.put_u8(b'-');
                    }
                    put_display(out, format_args!("{byte:02x}"));
                }
            }
            Class::Bytea if self.binary => out.extend_from_slice(&digest),
            Class::Bytea => {
                out.extend_from_slice(b"\\x");
                for byte in digest {
                    put_display(out, format_args!("{byte:02x}"));
                }
            }
            Class::Int2 => self.number(number & 0x7fff, 2, out),
            Class::Int4 => self.number(number & 0x7fff_ffff, 4, out),
            Class::Int8 => self.number(number & i64::MAX, 8, out),
            _ => return false,
        }
        true
    }

    fn number(&self, number: i64, bytes: usize, out: &mut BytesMut) {
        if self.binary {
            let whole = number.to_be_bytes();
            out.extend_from_slice(whole.get(8_usize.saturating_sub(bytes)..).unwrap_or_default());
        } else {
            put_display(out, format_args!("{number}"));
        }
    }

    /// The first day of the year. Infinity, years before Christ and styles other than ISO become NULL.
    fn year(&self, value: &[u8], out: &mut BytesMut) -> bool {
        if self.binary {
            return self.binary_year(value, out);
        }
        let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let year = value.get(..digits).unwrap_or_default();
        let follows = value.get(digits) == Some(&b'-');
        if !self.iso || digits < 4 || !follows || value.ends_with(b"BC") {
            return false;
        }
        out.extend_from_slice(year);
        out.extend_from_slice(b"-01-01");
        match self.class {
            Class::Timestamp => out.extend_from_slice(b" 00:00:00"),
            Class::TimestampTz => out.extend_from_slice(b" 00:00:00+00"),
            _ => {}
        }
        true
    }

    /// Days, or microseconds, since 2000-01-01.
    fn binary_year(&self, value: &[u8], out: &mut BytesMut) -> bool {
        const DAY: i64 = 86_400_000_000;
        let epoch = jiff::civil::date(2000, 1, 1);
        let days = match (self.class, value.len()) {
            (Class::Date, 4) => value
                .first_chunk()
                .map(|bytes| i64::from(i32::from_be_bytes(*bytes))),
            (_, 8) => value
                .first_chunk()
                .map(|bytes| i64::from_be_bytes(*bytes).div_euclid(DAY)),
            _ => None,
        };
        let first = days
            .and_then(|days| epoch.checked_add(jiff::Span::new().try_days(days).ok()?).ok())
            .filter(|date| date.year() > 0)
            .and_then(|date| jiff::civil::Date::new(date.year(), 1, 1).ok())
            .and_then(|first| (first - epoch).total((jiff::Unit::Day, epoch)).ok());
        // Whole days, far within what a float holds exactly.
        #[allow(
            clippy::cast_possible_truncation,
            reason = "at most 3.7 million days either way"
        )]
        let Some(days) = first.map(|days| days as i64) else {
            return false;
        };
        match self.class {
            Class::Date => match i32::try_from(days) {
                Ok(days) => out.put_i32(days),
                Err(_) => return false,
            },
            _ => out.put_i64(days.saturating_mul(DAY)),
        }
        true
    }
}

/// Appends a text, with what is found in it masked.
fn detected(detect: Option<&Detectors>, text: &[u8], key: &MaskKey, out: &mut BytesMut) -> bool {
    if !detect.is_some_and(|detect| detect.rewrite(text, key, out)) {
        out.extend_from_slice(text);
    }
    true
}

fn put_display(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    use std::fmt::Write as _;
    // Writing into a buffer in memory does not fail.
    let _ = out.write_fmt(text);
}

/// Appends a value with its length before it, masked where it has a mask.
pub(crate) fn put(
    mask: Option<&ColumnMask>,
    value: Option<&[u8]>,
    key: &MaskKey,
    out: &mut BytesMut,
) -> Result<(), Mismatch> {
    let at = out.len();
    // NULL, unless a value follows.
    out.put_i32(-1);
    let there = match (mask, value) {
        (None, None) => false,
        (None, Some(value)) => {
            out.extend_from_slice(value);
            true
        }
        (Some(mask), value) => mask.apply(value, key, out),
    };
    if there && !patch(out, at) {
        return Err(Mismatch);
    }
    Ok(())
}

/// Writes the length of what was appended behind `at`, where four bytes stand for it.
pub(super) fn patch(out: &mut BytesMut, at: usize) -> bool {
    let len = out.len().saturating_sub(at).saturating_sub(4);
    let Ok(len) = i32::try_from(len) else { return false };
    match out.get_mut(at..).and_then(|bytes| bytes.first_chunk_mut::<4>()) {
        Some(place) => {
            *place = len.to_be_bytes();
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests;
