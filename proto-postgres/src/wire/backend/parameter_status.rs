//! `ParameterStatus`: a setting that clients follow.

use std::fmt;

use bytes::BytesMut;

use crate::wire::debug::Hidden;
use crate::wire::error::{EncodeError, Kind, ParseError};
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::backend("ParameterStatus", b'S');

/// The value of a setting that clients follow, such as `client_encoding`; at the start and when it changes.
///
/// PostgreSQL documentation, Message Formats, ParameterStatus (B).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ParameterStatus<'a> {
    /// The setting's name.
    pub name: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

impl<'a> ParameterStatus<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A field that is cut short, or bytes behind the last one.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, name) = take::cstr(input, "name")?;
            let (input, value) = take::cstr(input, "value")?;
            Ok((input, Self { name, value }))
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// A NUL inside of a string, or a message too long for a frame.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| {
            put::cstr(out, self.name, "name")?;
            put::cstr(out, self.value, "value")
        })
    }
}

impl fmt::Debug for ParameterStatus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParameterStatus")
            .field("name", &String::from_utf8_lossy(self.name))
            .field("value", &Hidden(self.value))
            .finish()
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[b"S\0\0\0\x19client_encoding\0UTF8\0"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = ParameterStatus::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(body(golden), ParameterStatus::parse);
        }
    }

    #[test]
    fn fields() {
        let expected = ParameterStatus {
            name: b"client_encoding",
            value: b"UTF8",
        };
        assert_eq!(ParameterStatus::parse(body(GOLDENS[0])), Ok(expected));
    }
}
