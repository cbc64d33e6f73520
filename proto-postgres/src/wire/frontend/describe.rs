//! `Describe`: what a statement or portal returns.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::wire::debug::Hidden;
use crate::wire::error::{EncodeError, Kind, ParseError};
use crate::wire::frontend::Target;
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::frontend("Describe", b'D');

/// Asks for the parameters and columns of a prepared statement, or the columns of a portal.
///
/// PostgreSQL documentation, Message Formats, Describe (F).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Describe<'a> {
    /// Whether `name` names a statement or a portal.
    pub target: Target,
    /// Its name; empty for the unnamed one.
    pub name: &'a [u8],
}

impl<'a> Describe<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A target other than `S` and `P`, a name without its NUL, or bytes behind it.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, target) = Target::parse(input)?;
            let (input, name) = take::cstr(input, "name")?;
            Ok((input, Self { target, name }))
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// A NUL inside of a string, or a message too long for a frame.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| {
            out.put_u8(self.target.code());
            put::cstr(out, self.name, "name")
        })
    }
}

impl fmt::Debug for Describe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Describe")
            .field("target", &self.target)
            .field("name", &Hidden(self.name))
            .finish()
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[b"D\0\0\0\x08Ss1\0", b"D\0\0\0\x06P\0"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = Describe::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(body(golden), Describe::parse);
        }
    }

    #[test]
    fn fields() {
        let message = Describe::parse(body(GOLDENS[0])).expect("golden");
        assert_eq!(
            message,
            Describe {
                target: Target::Statement,
                name: b"s1"
            }
        );
    }

    #[test]
    fn another_target_is_an_error() {
        let error = Describe::parse(b"Xs1\0").expect_err("neither S nor P");
        assert_eq!(error.to_string(), "malformed Describe: target is invalid");
    }
}
