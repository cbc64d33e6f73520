//! `PasswordMessage`: a password, or its MD5.

use std::fmt;

use bytes::BytesMut;

use crate::wire::error::{EncodeError, Kind, ParseError};
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::frontend("PasswordMessage", b'p');

/// A password in clear or hashed with MD5, as the server asked. It shares its tag with
/// [`SaslInitialResponse`](super::SaslInitialResponse) and [`SaslResponse`](super::SaslResponse); what was
/// asked tells them apart.
///
/// PostgreSQL documentation, Message Formats, PasswordMessage (F).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PasswordMessage<'a> {
    /// The password, which doesn't print.
    pub password: &'a [u8],
}

impl<'a> PasswordMessage<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A field that is cut short, or bytes behind the last one.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, password) = take::cstr(input, "password")?;
            Ok((input, Self { password }))
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// A NUL inside of a string, or a message too long for a frame.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| put::cstr(out, self.password, "password"))
    }
}

impl fmt::Debug for PasswordMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordMessage").finish_non_exhaustive()
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[b"p\0\0\0\x0chunter2\0"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = PasswordMessage::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(body(golden), PasswordMessage::parse);
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let message = PasswordMessage::parse(body(GOLDENS[0])).expect("golden");
        assert_eq!(message.password, b"hunter2");
        assert!(!format!("{message:?}").contains("hunter2"));
    }
}
