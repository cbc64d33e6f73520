//! `Execute`: runs a portal.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::wire::debug::Hidden;
use crate::wire::error::{EncodeError, Kind, ParseError};
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::frontend("Execute", b'E');

/// Runs a portal, to its end or up to a number of rows.
///
/// PostgreSQL documentation, Message Formats, Execute (F).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Execute<'a> {
    /// The portal's name; empty for the unnamed portal.
    pub portal: &'a [u8],
    /// Rows to return at most; zero, or less, is no limit.
    pub max_rows: i32,
}

impl<'a> Execute<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A field that is cut short, or bytes behind the last one.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, portal) = take::cstr(input, "portal name")?;
            let (input, max_rows) = take::int32(input, "row limit")?;
            Ok((input, Self { portal, max_rows }))
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// A NUL inside of a string, or a message too long for a frame.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| {
            put::cstr(out, self.portal, "portal name")?;
            out.put_i32(self.max_rows);
            Ok(())
        })
    }
}

impl fmt::Debug for Execute<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execute")
            .field("portal", &Hidden(self.portal))
            .field("max_rows", &self.max_rows)
            .finish()
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[b"E\0\0\0\x0bp1\0\0\0\x002", b"E\0\0\0\x09\0\0\0\0\0"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = Execute::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(body(golden), Execute::parse);
        }
    }

    #[test]
    fn fields() {
        assert_eq!(
            Execute::parse(body(GOLDENS[0])),
            Ok(Execute {
                portal: b"p1",
                max_rows: 50
            })
        );
    }
}
