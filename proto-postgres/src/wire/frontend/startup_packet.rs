//! The first packet of a connection, which has no tag: its request code tells what it is.

use bytes::BytesMut;

use super::{CancelRequest, GssEncRequest, SslRequest, StartupMessage};
use crate::wire::error::{EncodeError, ParseError};
use crate::wire::frame::{CANCEL_REQUEST_CODE, GSSENC_REQUEST_CODE, SSL_REQUEST_CODE};

/// The first packet of a connection, and the next one after a refused or finished encryption request.
///
/// PostgreSQL documentation, Start-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartupPacket<'a> {
    /// Asks for TLS.
    SslRequest(SslRequest),
    /// Asks for GSSAPI encryption.
    GssEncRequest(GssEncRequest),
    /// Cancels what another session runs.
    CancelRequest(CancelRequest<'a>),
    /// Opens a session.
    StartupMessage(StartupMessage<'a>),
}

impl<'a> StartupPacket<'a> {
    /// Reads the body of a start-up packet: what follows the length.
    ///
    /// # Errors
    ///
    /// A body that isn't exactly what its request code says; an unknown code is a [`StartupMessage`] of
    /// an unknown version.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let code = body.first_chunk().map(|code| u32::from_be_bytes(*code));
        match code {
            Some(SSL_REQUEST_CODE) => SslRequest::parse(body).map(Self::SslRequest),
            Some(GSSENC_REQUEST_CODE) => GssEncRequest::parse(body).map(Self::GssEncRequest),
            Some(CANCEL_REQUEST_CODE) => CancelRequest::parse(body).map(Self::CancelRequest),
            _ => StartupMessage::parse(body).map(Self::StartupMessage),
        }
    }

    /// Appends the whole packet, length word included.
    ///
    /// # Errors
    ///
    /// As the message's own `encode`.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::SslRequest(message) => message.encode(out),
            Self::GssEncRequest(message) => message.encode(out),
            Self::CancelRequest(message) => message.encode(out),
            Self::StartupMessage(message) => message.encode(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_tells_what_it_is() {
        assert_eq!(
            StartupPacket::parse(b"\x04\xd2\x16\x2f"),
            Ok(StartupPacket::SslRequest(SslRequest))
        );
        assert_eq!(
            StartupPacket::parse(b"\x04\xd2\x16\x30"),
            Ok(StartupPacket::GssEncRequest(GssEncRequest))
        );
        assert!(matches!(
            StartupPacket::parse(b"\x04\xd2\x16\x2e\0\0\0\x01abcd"),
            Ok(StartupPacket::CancelRequest(CancelRequest {
                process_id: 1,
                key: b"abcd"
            }))
        ));
        assert!(matches!(
            StartupPacket::parse(b"\0\x03\0\0\0"),
            Ok(StartupPacket::StartupMessage(_))
        ));
        assert!(StartupPacket::parse(b"\x04\xd2\x16\x31").is_err());
        assert!(StartupPacket::parse(b"\0\0").is_err());
    }
}
