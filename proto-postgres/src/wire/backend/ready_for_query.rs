//! `ReadyForQuery`: the server waits for the next query.

use bytes::{BufMut, BytesMut};

use crate::wire::error::{EncodeError, Kind, ParseError, ParseFault};
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::backend("ReadyForQuery", b'Z');

/// Whether a transaction is open.
///
/// PostgreSQL documentation, Message Formats, ReadyForQuery (B).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionStatus {
    /// No transaction, `I`.
    Idle,
    /// In a transaction, `T`.
    InTransaction,
    /// In a transaction that has failed, `E`: everything is refused until it is rolled back.
    Failed,
}

/// The server is ready for a new query cycle.
///
/// PostgreSQL documentation, Message Formats, ReadyForQuery (B).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyForQuery {
    /// Whether a transaction is open.
    pub status: TransactionStatus,
}

impl ReadyForQuery {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// An unknown status, or a body that isn't one byte.
    pub fn parse(body: &[u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, code) = take::byte(input, "transaction status")?;
            let status = match code {
                b'I' => TransactionStatus::Idle,
                b'T' => TransactionStatus::InTransaction,
                b'E' => TransactionStatus::Failed,
                _ => return take::fault(ParseFault::Invalid("transaction status")),
            };
            Ok((input, Self { status }))
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// None; the signature is that of every message.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| {
            out.put_u8(match self.status {
                TransactionStatus::Idle => b'I',
                TransactionStatus::InTransaction => b'T',
                TransactionStatus::Failed => b'E',
            });
            Ok(())
        })
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[b"Z\0\0\0\x05I", b"Z\0\0\0\x05T", b"Z\0\0\0\x05E"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = ReadyForQuery::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(body(golden), ReadyForQuery::parse);
        }
    }

    #[test]
    fn another_status_is_an_error() {
        assert_eq!(
            ReadyForQuery::parse(body(GOLDENS[1])),
            Ok(ReadyForQuery {
                status: TransactionStatus::InTransaction
            })
        );
        assert!(ReadyForQuery::parse(b"X").is_err());
    }
}
