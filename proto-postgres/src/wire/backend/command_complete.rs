//! `CommandComplete`: a statement is done.

use std::fmt;

use bytes::BytesMut;

use crate::wire::error::{EncodeError, Kind, ParseError};
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::backend("CommandComplete", b'C');

/// One statement is done.
///
/// PostgreSQL documentation, Message Formats, CommandComplete (B).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CommandComplete<'a> {
    /// What was done, such as `SELECT 5` or `INSERT 0 1`.
    pub tag: &'a [u8],
}

impl<'a> CommandComplete<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A field that is cut short, or bytes behind the last one.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, tag) = take::cstr(input, "command tag")?;
            Ok((input, Self { tag }))
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// A NUL inside of a string, or a message too long for a frame.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| put::cstr(out, self.tag, "command tag"))
    }

    /// The number of rows that the tag tells: its last word, where that is a number.
    #[must_use]
    pub fn rows(&self) -> Option<u64> {
        let mut words = self.tag.rsplitn(2, |byte| *byte == b' ');
        let last = words.next().filter(|word| word.iter().all(u8::is_ascii_digit))?;
        words.next()?;
        std::str::from_utf8(last).ok()?.parse().ok()
    }
}

impl fmt::Debug for CommandComplete<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandComplete")
            .field("tag", &String::from_utf8_lossy(self.tag))
            .finish()
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[
    b"C\0\0\0\x0dSELECT 5\0",
    b"C\0\0\0\x10INSERT 0 12\0",
    b"C\0\0\0\x11CREATE TABLE\0",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = CommandComplete::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(body(golden), CommandComplete::parse);
        }
    }

    #[test]
    fn rows_are_the_last_word() {
        let rows = |tag: &'static [u8]| CommandComplete { tag }.rows();
        assert_eq!(rows(b"SELECT 5"), Some(5));
        assert_eq!(rows(b"INSERT 0 12"), Some(12));
        assert_eq!(rows(b"COPY 18446744073709551615"), Some(u64::MAX));
        for tag in [
            &b"CREATE TABLE"[..],
            b"",
            b" ",
            b"SELECT ",
            b"5",
            b"SELECT -1",
            b"SELECT +1",
            b"X 18446744073709551616",
        ] {
            assert_eq!(CommandComplete { tag }.rows(), None, "{tag:?}");
        }
    }
}
