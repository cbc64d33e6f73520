//! `ParameterDescription`: the parameters of a statement.

use bytes::{BufMut, BytesMut};

use crate::wire::error::{EncodeError, Kind, ParseError};
use crate::wire::format::Oid;
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::backend("ParameterDescription", b't');

/// The types of a prepared statement's parameters, in answer to `Describe`.
///
/// PostgreSQL documentation, Message Formats, ParameterDescription (B).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterDescription {
    /// Types, from `$1` on.
    pub types: Vec<Oid>,
}

impl ParameterDescription {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A count beyond the body, or bytes behind the last type.
    pub fn parse(body: &[u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, types) = take::list(input, "parameter", 4, take::uint32)?;
            Ok((input, Self { types }))
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// Over 65,535 types.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| {
            put::count(out, self.types.len(), "parameter")?;
            for oid in &self.types {
                out.put_u32(*oid);
            }
            Ok(())
        })
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[b"t\0\0\0\x0e\0\x02\0\0\0\x17\0\0\0\x19", b"t\0\0\0\x06\0\0"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused, tampered};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = ParameterDescription::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(body(golden), ParameterDescription::parse);
        }
    }

    #[test]
    fn tampered_counts_are_errors() {
        assert_eq!(
            ParameterDescription::parse(body(GOLDENS[0]))
                .expect("golden")
                .types,
            [23, 25]
        );
        let refused = |at, byte| ParameterDescription::parse(tampered(body(GOLDENS[0]), at, byte)).is_err();
        assert!(refused(0, 0xff) && refused(1, 1) && refused(1, 3));
    }
}
