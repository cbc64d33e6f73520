//! `Parse`: a statement to prepare.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::wire::debug::Hidden;
use crate::wire::error::{EncodeError, Kind, ParseError};
use crate::wire::format::Oid;
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::frontend("Parse", b'P');

/// Prepares a statement under a name; the unnamed one is replaced by the next unnamed `Parse`.
///
/// PostgreSQL documentation, Message Formats, Parse (F).
#[derive(Clone, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The statement's name; empty for the unnamed statement.
    pub statement: &'a [u8],
    /// The query string in the client's encoding: one statement, or none.
    pub sql: &'a [u8],
    /// Types that the client states for the first parameters; 0 leaves one open. There may be fewer
    /// than parameters.
    pub parameter_types: Vec<Oid>,
}

impl<'a> Parse<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A field that is cut short, a count beyond the body, or bytes behind the last field.
    #[expect(
        clippy::self_named_constructors,
        reason = "every message has `parse`, and this one is called so"
    )]
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, statement) = take::cstr(input, "statement name")?;
            let (input, sql) = take::cstr(input, "statement")?;
            let (input, parameter_types) = take::list(input, "parameter type", 4, take::uint32)?;
            Ok((
                input,
                Self {
                    statement,
                    sql,
                    parameter_types,
                },
            ))
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// A NUL inside of a string, over 65,535 types, or a message too long for a frame.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| {
            put::cstr(out, self.statement, "statement name")?;
            put::cstr(out, self.sql, "statement")?;
            put::count(out, self.parameter_types.len(), "parameter type")?;
            for oid in &self.parameter_types {
                out.put_u32(*oid);
            }
            Ok(())
        })
    }
}

impl fmt::Debug for Parse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parse")
            .field("statement", &Hidden(self.statement))
            .field("sql", &Hidden(self.sql))
            .field("parameter_types", &self.parameter_types)
            .finish()
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[
    b"P\0\0\0\x17s1\0SELECT $1\0\0\x01\0\0\0\x17",
    b"P\0\0\0\x08\0\0\0\0",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused, tampered};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = Parse::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(body(golden), Parse::parse);
        }
    }

    #[test]
    fn fields() {
        let message = Parse::parse(body(GOLDENS[0])).expect("golden");
        assert_eq!((message.statement, message.sql), (&b"s1"[..], &b"SELECT $1"[..]));
        assert_eq!(message.parameter_types, [23]);
    }

    #[test]
    fn a_tampered_count_is_an_error() {
        assert!(
            Parse::parse(tampered(body(GOLDENS[0]), 14, 0)).is_err(),
            "too few"
        );
        let error = Parse::parse(tampered(body(GOLDENS[0]), 13, 0xff)).expect_err("too many");
        assert_eq!(
            error.to_string(),
            "malformed Parse: parameter type count exceeds message"
        );
    }
}
