//! `NotificationResponse`: somebody has notified.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::wire::debug::Hidden;
use crate::wire::error::{EncodeError, Kind, ParseError};
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::backend("NotificationResponse", b'A');

/// A notification on a channel that the session listens to. It can come at any time.
///
/// PostgreSQL documentation, Message Formats, NotificationResponse (B).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NotificationResponse<'a> {
    /// Process id of the session that notified.
    pub process_id: i32,
    /// The channel's name.
    pub channel: &'a [u8],
    /// What came with it.
    pub payload: &'a [u8],
}

impl<'a> NotificationResponse<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A field that is cut short, or bytes behind the last one.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, process_id) = take::int32(input, "process id")?;
            let (input, channel) = take::cstr(input, "channel")?;
            let (input, payload) = take::cstr(input, "payload")?;
            Ok((
                input,
                Self {
                    process_id,
                    channel,
                    payload,
                },
            ))
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// A NUL inside of a string, or a message too long for a frame.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| {
            out.put_i32(self.process_id);
            put::cstr(out, self.channel, "channel")?;
            put::cstr(out, self.payload, "payload")
        })
    }
}

impl fmt::Debug for NotificationResponse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotificationResponse")
            .field("process_id", &self.process_id)
            .field("channel", &Hidden(self.channel))
            .field("payload", &Hidden(self.payload))
            .finish()
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[b"A\0\0\0\x12\0\0\x12gjobs\0id 7\0"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = NotificationResponse::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in GOLDENS {
            prefixes_refused(body(golden), NotificationResponse::parse);
        }
    }

    #[test]
    fn fields() {
        let expected = NotificationResponse {
            process_id: 4711,
            channel: b"jobs",
            payload: b"id 7",
        };
        assert_eq!(NotificationResponse::parse(body(GOLDENS[0])), Ok(expected));
    }
}
