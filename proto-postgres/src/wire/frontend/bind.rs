//! `Bind`: values for a statement's parameters.

use std::fmt;

use bytes::BytesMut;

use crate::wire::debug::Hidden;
use crate::wire::error::{EncodeError, EncodeFault, Kind, ParseError, ParseFault};
use crate::wire::format::Format;
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::frontend("Bind", b'B');

/// Makes a portal of a prepared statement and values for its parameters.
///
/// PostgreSQL documentation, Message Formats, Bind (F).
#[derive(Clone, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The portal's name; empty for the unnamed portal.
    pub portal: &'a [u8],
    /// The statement's name; empty for the unnamed statement.
    pub statement: &'a [u8],
    /// Formats of the values: none (all are text), one for all, or one each; see [`Format::of`].
    pub parameter_formats: Vec<Format>,
    /// The values; `None` is NULL.
    pub parameters: Vec<Option<&'a [u8]>>,
    /// Formats of the result's columns: none (all are text), one for all, or one each.
    pub result_formats: Vec<Format>,
}

impl<'a> Bind<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A field that is cut short, a count or length beyond the body, a number of parameter formats that
    /// the server refuses too, or bytes behind the last field.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, portal) = take::cstr(input, "portal name")?;
            let (input, statement) = take::cstr(input, "statement name")?;
            let (input, parameter_formats) = take::list(input, "parameter format", 2, take::format)?;
            let (input, parameters) = take::list(input, "parameter", 4, take::value)?;
            if parameter_formats.len() > 1 && parameter_formats.len() != parameters.len() {
                return take::fault(ParseFault::Invalid("number of parameter formats"));
            }
            let (input, result_formats) = take::list(input, "result format", 2, take::format)?;
            Ok((
                input,
                Self {
                    portal,
                    statement,
                    parameter_formats,
                    parameters,
                    result_formats,
                },
            ))
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// A NUL inside of a name, over 65,535 values, or a message too long for a frame.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| {
            put::cstr(out, self.portal, "portal name")?;
            put::cstr(out, self.statement, "statement name")?;
            if self.parameter_formats.len() > 1 && self.parameter_formats.len() != self.parameters.len() {
                return Err(EncodeFault::Invalid("number of parameter formats"));
            }
            put::formats(out, &self.parameter_formats, "parameter format")?;
            put::count(out, self.parameters.len(), "parameter")?;
            for parameter in &self.parameters {
                put::value(out, *parameter, "parameter")?;
            }
            put::formats(out, &self.result_formats, "result format")
        })
    }
}

impl fmt::Debug for Bind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bind")
            .field("portal", &Hidden(self.portal))
            .field("statement", &Hidden(self.statement))
            .field("parameter_formats", &self.parameter_formats)
            .field("parameters", &self.parameters.len())
            .field("result_formats", &self.result_formats)
            .finish()
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[
    b"B\0\0\0\"p1\0s1\0\0\x01\0\x01\0\x02\0\0\0\x04\0\0\0\x07\xff\xff\xff\xff\0\x02\0\0\0\x01",
    b"B\0\0\0\x0c\0\0\0\0\0\0\0\0",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused, tampered};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = Bind::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(body(golden), Bind::parse);
        }
    }

    #[test]
    fn fields() {
        let message = Bind::parse(body(GOLDENS[0])).expect("golden");
        assert_eq!((message.portal, message.statement), (&b"p1"[..], &b"s1"[..]));
        assert_eq!(message.parameters, [Some(&b"\0\0\0\x07"[..]), None]);
        assert_eq!(message.parameter_formats, [Format::BINARY]);
        assert_eq!(message.result_formats, [Format::TEXT, Format::BINARY]);
    }

    #[test]
    fn tampered_counts_and_lengths_are_errors() {
        let refused = |at, byte| {
            Bind::parse(tampered(body(GOLDENS[0]), at, byte))
                .expect_err("tampered")
                .to_string()
        };
        assert_eq!(
            refused(10, 0x7f),
            "malformed Bind: parameter count exceeds message"
        );
        assert_eq!(
            refused(12, 0x7f),
            "malformed Bind: parameter length exceeds message"
        );
        assert_eq!(refused(12, 0xff), "malformed Bind: parameter length is negative");
        assert_eq!(refused(25, 1), "malformed Bind: bytes follow its end");
    }

    #[test]
    fn two_formats_for_one_parameter_are_an_error() {
        let body = b"\0\0\0\x02\0\0\0\0\0\x01\xff\xff\xff\xff\0\0";
        let error = Bind::parse(body).expect_err("the server refuses it too");
        assert_eq!(
            error.to_string(),
            "malformed Bind: number of parameter formats is invalid"
        );
    }

    #[test]
    fn sixty_five_thousand_parameters_are_not_negative() {
        let message = Bind {
            portal: b"",
            statement: b"",
            parameter_formats: vec![],
            parameters: vec![None; 65_535],
            result_formats: vec![],
        };
        let mut out = BytesMut::new();
        message.encode(&mut out).expect("fits");
        assert_eq!(Bind::parse(&out[5..]), Ok(message.clone()));
        let more = Bind {
            parameters: vec![None; 65_536],
            ..message
        };
        assert!(more.encode(&mut out).is_err());
    }

    #[test]
    fn values_are_not_printed() {
        let text = format!("{:?}", Bind::parse(body(GOLDENS[0])).expect("golden"));
        assert!(text.contains("parameters: 2"), "{text}");
    }
}
