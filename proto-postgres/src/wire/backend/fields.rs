//! The fields of `ErrorResponse` and `NoticeResponse`.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::wire::debug::Hidden;
use crate::wire::error::EncodeFault;
use crate::wire::put;
use crate::wire::take::{self, Parsed};

/// Type codes of fields.
///
/// PostgreSQL documentation, Error and Notice Message Fields.
pub mod field {
    /// Severity, maybe translated.
    pub const SEVERITY: u8 = b'S';
    /// Severity, never translated.
    pub const SEVERITY_NONLOCALIZED: u8 = b'V';
    /// The SQLSTATE code.
    pub const CODE: u8 = b'C';
    /// The message in one line.
    pub const MESSAGE: u8 = b'M';
    /// More about it; may hold data of the target.
    pub const DETAIL: u8 = b'D';
    /// What to do about it.
    pub const HINT: u8 = b'H';
}

/// Fields up to the zero byte that ends their list.
pub(crate) fn parse(mut input: &[u8]) -> Parsed<'_, Vec<(u8, &[u8])>> {
    let mut fields = Vec::new();
    loop {
        let (rest, code) = take::byte(input, "field code")?;
        if code == 0 {
            return Ok((rest, fields));
        }
        let (rest, text) = take::cstr(rest, "field text")?;
        fields.push((code, text));
        input = rest;
    }
}

pub(crate) fn put(out: &mut BytesMut, fields: &[(u8, &[u8])]) -> Result<(), EncodeFault> {
    for (code, text) in fields {
        if *code == 0 {
            return Err(EncodeFault::Invalid("field code"));
        }
        out.put_u8(*code);
        put::cstr(out, text, "field text")?;
    }
    out.put_u8(0);
    Ok(())
}

pub(crate) fn get<'a>(fields: &[(u8, &'a [u8])], code: u8) -> Option<&'a [u8]> {
    fields
        .iter()
        .find(|(known, _)| *known == code)
        .map(|(_, text)| *text)
}

/// Severity and SQLSTATE print; texts, which may quote data, don't.
pub(crate) struct Shown<'a>(pub(crate) &'a [(u8, &'a [u8])]);

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (code, text) in self.0 {
            map.key(&char::from(*code));
            match *code {
                field::SEVERITY_NONLOCALIZED | field::CODE => map.value(&String::from_utf8_lossy(text)),
                _ => map.value(&Hidden(text)),
            };
        }
        map.finish()
    }
}
