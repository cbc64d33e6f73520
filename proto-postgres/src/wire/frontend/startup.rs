//! `StartupMessage`: who, where, and how.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::wire::debug::Hidden;
use crate::wire::error::{EncodeError, EncodeFault, Kind, ParseError, ParseFault};
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::startup("StartupMessage");

/// A protocol version as sent: major number in the upper half, minor number in the lower.
///
/// PostgreSQL documentation, Start-up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion(pub u32);

impl ProtocolVersion {
    /// Version 3.0, which every server since 7.4 speaks.
    pub const V3_0: Self = Self(0x0003_0000);
    /// Version 3.2 of PostgreSQL 18, with longer cancel keys.
    pub const V3_2: Self = Self(0x0003_0002);

    /// The major number.
    #[must_use]
    pub fn major(self) -> u32 {
        self.0 >> 16
    }

    /// The minor number.
    #[must_use]
    pub fn minor(self) -> u32 {
        self.0 & 0xffff
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.minor())
    }
}

impl fmt::Debug for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The first message of a session: the protocol's version, and parameters as names and values.
///
/// PostgreSQL documentation, Message Formats, StartupMessage (F).
#[derive(Clone, PartialEq, Eq)]
pub struct StartupMessage<'a> {
    /// The protocol's version, of major number 3.
    pub version: ProtocolVersion,
    /// Names and values, in the order sent. Beside `user`, `database`, `options` and `replication`,
    /// names starting with `_pq_.` are protocol extensions, and others are run-time settings.
    pub parameters: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> StartupMessage<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A major version other than 3, a string that is cut short, or a terminator that isn't the last byte.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, code) = take::uint32(input, "protocol version")?;
            let version = ProtocolVersion(code);
            if version.major() != 3 {
                return take::fault(ParseFault::Invalid("protocol version"));
            }
            let (mut input, mut parameters) = (input, Vec::new());
            loop {
                let (rest, name) = take::cstr(input, "parameter name")?;
                if name.is_empty() {
                    return Ok((rest, Self { version, parameters }));
                }
                let (rest, value) = take::cstr(rest, "parameter value")?;
                parameters.push((name, value));
                input = rest;
            }
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// Another major version, an empty name, or a NUL inside of a string.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| {
            if self.version.major() != 3 {
                return Err(EncodeFault::Invalid("protocol version"));
            }
            out.put_u32(self.version.0);
            for (name, value) in &self.parameters {
                if name.is_empty() {
                    return Err(EncodeFault::Invalid("parameter name"));
                }
                put::cstr(out, name, "parameter name")?;
                put::cstr(out, value, "parameter value")?;
            }
            out.put_u8(0);
            Ok(())
        })
    }

    /// The value of a parameter; of several the last, which is the one the server uses.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.parameters
            .iter()
            .rev()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| *value)
    }
}

impl fmt::Debug for StartupMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartupMessage")
            .field("version", &self.version)
            .field("parameters", &Names(&self.parameters))
            .finish()
    }
}

/// Names of parameters print, values don't.
struct Names<'a>(&'a [(&'a [u8], &'a [u8])]);

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self
            .0
            .iter()
            .map(|(name, value)| (String::from_utf8_lossy(name), Hidden(value)));
        f.debug_map().entries(entries).finish()
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[
    b"\0\0\0 \0\x03\0\0user\0ann\0database\0shop\0\0",
    b"\0\0\0'\0\x03\0\x02user\0\xe4\0_pq_.x\0\0options\0-c a=b\0\0",
    b"\0\0\0\x09\0\x03\0\0\0",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{encoded, prefixes_refused, startup_body};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = StartupMessage::parse(startup_body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(startup_body(golden), StartupMessage::parse);
        }
    }

    #[test]
    fn fields() {
        let message = StartupMessage::parse(startup_body(GOLDENS[0])).expect("golden");
        assert_eq!((message.version.major(), message.version.minor()), (3, 0));
        assert_eq!(message.get(b"database"), Some(&b"shop"[..]));
        assert_eq!(message.get(b"options"), None);
    }

    #[test]
    fn of_two_values_the_later_counts_as_it_does_for_the_server() {
        let message = StartupMessage::parse(b"\0\x03\0\0user\0ann\0user\0bob\0\0").expect("valid");
        assert_eq!(message.get(b"user"), Some(&b"bob"[..]));
    }

    #[test]
    fn other_versions_and_layouts_are_errors() {
        assert!(StartupMessage::parse(b"\0\x02\0\0\0").is_err(), "protocol 2");
        assert!(
            StartupMessage::parse(b"\x04\xd2\x16\x2f\0").is_err(),
            "a request code"
        );
        assert!(
            StartupMessage::parse(b"\0\x03\0\0user\0ann\0\0\0").is_err(),
            "terminator isn't last"
        );
        assert!(
            StartupMessage::parse(b"\0\x03\0\0user\0\0").is_err(),
            "a name without a value"
        );
    }

    #[test]
    fn values_are_not_printed() {
        let text = format!(
            "{:?}",
            StartupMessage::parse(startup_body(GOLDENS[0])).expect("golden")
        );
        assert!(text.contains("database") && !text.contains("shop"), "{text}");
    }
}
