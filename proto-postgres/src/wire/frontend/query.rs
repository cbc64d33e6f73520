//! `Query`: a simple query.

use std::fmt;

use bytes::BytesMut;

use crate::wire::debug::Hidden;
use crate::wire::error::{EncodeError, Kind, ParseError};
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::frontend("Query", b'Q');

/// A simple query: one query string, which may hold several statements, or none.
///
/// PostgreSQL documentation, Message Formats, Query (F).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    /// The query string in the client's encoding, without its NUL.
    pub sql: &'a [u8],
}

impl<'a> Query<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A field that is cut short, or bytes behind the last one.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, sql) = take::cstr(input, "statement")?;
            Ok((input, Self { sql }))
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// A NUL inside of a string, or a message too long for a frame.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| put::cstr(out, self.sql, "statement"))
    }
}

impl fmt::Debug for Query<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query").field("sql", &Hidden(self.sql)).finish()
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[b"Q\0\0\0\x0dSELECT 1\0", b"Q\0\0\0\x05\0"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = Query::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(body(golden), Query::parse);
        }
    }

    #[test]
    fn nothing_hides_behind_the_nul() {
        let error = Query::parse(b"SELECT 1\0; DROP TABLE t\0").expect_err("two strings");
        assert_eq!(error.to_string(), "malformed Query: bytes follow its end");
        assert!(Query { sql: b"SELECT\0 1" }.encode(&mut BytesMut::new()).is_err());
    }

    #[test]
    fn sql_is_not_printed() {
        assert_eq!(
            format!("{:?}", Query { sql: b"SELECT 1" }),
            "Query { sql: <8 bytes> }"
        );
    }
}
