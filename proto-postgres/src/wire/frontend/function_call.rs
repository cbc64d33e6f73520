//! `FunctionCall`: the fast-path call of a function.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::wire::error::{EncodeError, EncodeFault, Kind, ParseError, ParseFault};
use crate::wire::format::{Format, Oid};
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::frontend("FunctionCall", b'F');

/// Calls one function by its object id, without SQL. It runs the function like a statement would, so it
/// is an operation of its own to whoever decides.
///
/// PostgreSQL documentation, Message Formats, FunctionCall (F).
#[derive(Clone, PartialEq, Eq)]
pub struct FunctionCall<'a> {
    /// The function's object id.
    pub function: Oid,
    /// Formats of the arguments: none (all are text), one for all, or one each; see [`Format::of`].
    pub argument_formats: Vec<Format>,
    /// The arguments; `None` is NULL.
    pub arguments: Vec<Option<&'a [u8]>>,
    /// Format of the result.
    pub result_format: Format,
}

impl<'a> FunctionCall<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A field that is cut short, a count or length beyond the body, a number of argument formats that
    /// the server refuses too, or bytes behind the last field.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, function) = take::uint32(input, "function")?;
            let (input, argument_formats) = take::list(input, "argument format", 2, take::format)?;
            let (input, arguments) = take::list(input, "argument", 4, take::value)?;
            if argument_formats.len() > 1 && argument_formats.len() != arguments.len() {
                return take::fault(ParseFault::Invalid("number of argument formats"));
            }
            let (input, result_format) = take::format(input, "result format")?;
            Ok((
                input,
                Self {
                    function,
                    argument_formats,
                    arguments,
                    result_format,
                },
            ))
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// Over 65,535 arguments, or a message too long for a frame.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| {
            out.put_u32(self.function);
            if self.argument_formats.len() > 1 && self.argument_formats.len() != self.arguments.len() {
                return Err(EncodeFault::Invalid("number of argument formats"));
            }
            put::formats(out, &self.argument_formats, "argument format")?;
            put::count(out, self.arguments.len(), "argument")?;
            for argument in &self.arguments {
                put::value(out, *argument, "argument")?;
            }
            out.put_i16(self.result_format.0);
            Ok(())
        })
    }
}

impl fmt::Debug for FunctionCall<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionCall")
            .field("function", &self.function)
            .field("argument_formats", &self.argument_formats)
            .field("arguments", &self.arguments.len())
            .field("result_format", &self.result_format)
            .finish()
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[
    b"F\0\0\0\x1a\0\0\x06>\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x01",
    b"F\0\0\0\x0e\0\0\0\x01\0\0\0\0\0\0",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused, tampered};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = FunctionCall::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(body(golden), FunctionCall::parse);
        }
    }

    #[test]
    fn fields() {
        let message = FunctionCall::parse(body(GOLDENS[0])).expect("golden");
        assert_eq!(message.function, 1598);
        assert_eq!(message.arguments, [Some(&b"ab"[..]), None]);
        assert_eq!(message.result_format, Format::BINARY);
    }

    #[test]
    fn tampered_counts_and_lengths_are_errors() {
        let refused = |at, byte| {
            FunctionCall::parse(tampered(body(GOLDENS[0]), at, byte))
                .expect_err("tampered")
                .to_string()
        };
        assert_eq!(
            refused(4, 0x7f),
            "malformed FunctionCall: argument format count exceeds message"
        );
        assert_eq!(
            refused(8, 0x7f),
            "malformed FunctionCall: argument count exceeds message"
        );
        assert_eq!(
            refused(10, 0x7f),
            "malformed FunctionCall: argument length exceeds message"
        );
        assert_eq!(
            refused(10, 0x80),
            "malformed FunctionCall: argument length is negative"
        );
    }
}
