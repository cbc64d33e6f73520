//! Where one message ends and the next begins: the header, read by hand before anything is parsed.
//!
//! PostgreSQL documentation, Messaging Overview and Message Formats: a tag of one byte,
//! then a length of four bytes which counts itself but not the tag. Only the first packet of a client
//! has no tag.

use super::error::FrameError;

/// Bytes of a tagged frame before its body: tag and length.
pub const HEADER_LEN: usize = 5;

/// Bytes of a start-up packet before its body: the length alone.
pub const STARTUP_HEADER_LEN: usize = 4;

/// Largest start-up packet, not counting the length word: `MAX_STARTUP_PACKET_LENGTH` of the server's
/// `pqcomm.h`.
pub const MAX_STARTUP_PACKET_LENGTH: usize = 10_000;

/// Largest body of messages which are naturally short: `PQ_SMALL_MESSAGE_LIMIT` of the server's
/// `libpq.h`. A good limit for `header` before authentication.
pub const SMALL_MESSAGE_LIMIT: usize = 10_000;

/// Largest password, SASL or GSS message: `PG_MAX_AUTH_TOKEN_LENGTH` of the server's `auth.h`.
pub const MAX_AUTH_TOKEN_LENGTH: usize = 65_535;

/// Request code of [`CancelRequest`](super::frontend::CancelRequest): 1234 and 5678.
pub const CANCEL_REQUEST_CODE: u32 = 80_877_102;

/// Request code of [`SslRequest`](super::frontend::SslRequest): 1234 and 5679.
pub const SSL_REQUEST_CODE: u32 = 80_877_103;

/// Request code of [`GssEncRequest`](super::frontend::GssEncRequest): 1234 and 5680.
pub const GSSENC_REQUEST_CODE: u32 = 80_877_104;

/// Smallest secret key for cancelling: that of protocol 3.0.
pub const MIN_CANCEL_KEY_LEN: usize = 4;

/// Largest secret key for cancelling since protocol 3.2.
pub const MAX_CANCEL_KEY_LEN: usize = 256;

/// The start of a tagged frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The message's type.
    pub tag: u8,
    /// Bytes of the whole frame: tag, length and body.
    pub len: usize,
}

/// One complete tagged frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The message's type.
    pub tag: u8,
    /// What follows the length.
    pub body: &'a [u8],
    /// All of it, as received: what is forwarded when nothing was rewritten.
    pub whole: &'a [u8],
}

impl std::fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame")
            .field("tag", &char::from(self.tag))
            .field("body", &super::debug::Hidden(self.body))
            .finish_non_exhaustive()
    }
}

/// One complete start-up packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StartupFrame<'a> {
    /// What follows the length.
    pub body: &'a [u8],
    /// All of it, as received.
    pub whole: &'a [u8],
}

impl std::fmt::Debug for StartupFrame<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StartupFrame")
            .field("body", &super::debug::Hidden(self.body))
            .finish_non_exhaustive()
    }
}

/// Reads the header at the start of `input`; `None` while fewer than [`HEADER_LEN`] bytes are there.
///
/// `max` limits the whole frame in bytes, its tag included. It's checked as soon as the header is
/// there, so that nobody waits for, or makes room for, a frame that will be refused.
///
/// # Errors
///
/// A length below 4, or a frame above `max`.
pub fn header(input: &[u8], max: usize) -> Result<Option<Header>, FrameError> {
    let Some(([tag, length @ ..], _)) = input.split_first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length);
    if length < 4 {
        return Err(FrameError::TooShort { length, minimum: 4 });
    }
    let len = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(1);
    if len > max {
        return Err(FrameError::TooLong {
            length: len,
            limit: max,
        });
    }
    Ok(Some(Header { tag: *tag, len }))
}

/// Splits the first frame off `input`; `None` while it isn't complete.
///
/// # Errors
///
/// As [`header`].
pub fn split(input: &[u8], max: usize) -> Result<Option<(Frame<'_>, &[u8])>, FrameError> {
    let Some(header) = header(input, max)? else {
        return Ok(None);
    };
    let Some((whole, rest)) = input.split_at_checked(header.len) else {
        return Ok(None);
    };
    let body = whole.get(HEADER_LEN..).unwrap_or_default();
    Ok(Some((
        Frame {
            tag: header.tag,
            body,
            whole,
        },
        rest,
    )))
}

/// Reads the length of the start-up packet at the start of `input`: bytes of the whole packet, length
/// word included. `None` while fewer than [`STARTUP_HEADER_LEN`] bytes are there.
///
/// PostgreSQL documentation, Start-up; the limits are the server's.
///
/// # Errors
///
/// A packet which can't hold a request code, or one above [`MAX_STARTUP_PACKET_LENGTH`].
pub fn startup_header(input: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some((length, _)) = input.split_first_chunk::<STARTUP_HEADER_LEN>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length);
    if length < 8 {
        return Err(FrameError::TooShort { length, minimum: 8 });
    }
    let len = usize::try_from(length).unwrap_or(usize::MAX);
    let body = len.saturating_sub(STARTUP_HEADER_LEN);
    if body > MAX_STARTUP_PACKET_LENGTH {
        return Err(FrameError::TooLong {
            length: body,
            limit: MAX_STARTUP_PACKET_LENGTH,
        });
    }
    Ok(Some(len))
}

/// Splits the start-up packet off `input`, and gives what follows. `None` while it isn't complete.
///
/// What follows an [`SslRequest`](super::frontend::SslRequest) in the same read must be refused by the
/// caller: it was sent before the handshake (CVE-2021-3935).
///
/// # Errors
///
/// As [`startup_header`].
pub fn split_startup(input: &[u8]) -> Result<Option<(StartupFrame<'_>, &[u8])>, FrameError> {
    let Some(len) = startup_header(input)? else {
        return Ok(None);
    };
    let Some((whole, rest)) = input.split_at_checked(len) else {
        return Ok(None);
    };
    let body = whole.get(STARTUP_HEADER_LEN..).unwrap_or_default();
    Ok(Some((StartupFrame { body, whole }, rest)))
}

/// The key of a cancel request has 4 to 256 bytes.
pub(crate) fn cancel_key_fits(key: &[u8]) -> bool {
    (MIN_CANCEL_KEY_LEN..=MAX_CANCEL_KEY_LEN).contains(&key.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_counts_the_whole_frame() {
        assert_eq!(
            header(b"Q\0\0\0\x06a\0", 100),
            Ok(Some(Header { tag: b'Q', len: 7 }))
        );
        assert_eq!(header(b"S\0\0\0\x04", 5), Ok(Some(Header { tag: b'S', len: 5 })));
    }

    #[test]
    fn every_strict_prefix_waits() {
        let whole = b"Q\0\0\0\x06a\0";
        for end in 0..whole.len() {
            assert_eq!(split(&whole[..end], 100), Ok(None), "prefix of {end} bytes");
        }
        let (frame, rest) = split(whole, 100).expect("valid").expect("complete");
        assert_eq!(
            (frame.tag, frame.body, frame.whole, rest.len()),
            (b'Q', &b"a\0"[..], &whole[..], 0)
        );
    }

    #[test]
    fn lengths_are_bounded_before_the_body_arrives() {
        for length in 0..4 {
            assert!(header(&[b'Q', 0, 0, 0, length], 100).is_err(), "length {length}");
        }
        assert_eq!(
            header(b"Q\0\0\0\x64", 100),
            Err(FrameError::TooLong {
                length: 101,
                limit: 100
            })
        );
        assert_eq!(
            header(b"Q\0\0\0\x63", 100),
            Ok(Some(Header { tag: b'Q', len: 100 }))
        );
        assert!(header(b"Q\xff\xff\xff\xff", 1 << 20).is_err());
    }

    #[test]
    fn startup_packets_are_bounded_as_the_server_bounds_them() {
        assert_eq!(startup_header(b"\0\0\0"), Ok(None));
        assert_eq!(
            startup_header(b"\0\0\0\x07"),
            Err(FrameError::TooShort {
                length: 7,
                minimum: 8
            })
        );
        assert_eq!(startup_header(&10_004_u32.to_be_bytes()), Ok(Some(10_004)));
        assert_eq!(
            startup_header(&10_005_u32.to_be_bytes()),
            Err(FrameError::TooLong {
                length: 10_001,
                limit: 10_000
            })
        );
        // An HTTP request or a TLS hello isn't waited for.
        assert!(startup_header(b"GET / HTTP/1.1").is_err());
        assert!(startup_header(b"\x16\x03\x01\x02\x00").is_err());
    }

    #[test]
    fn bytes_behind_a_startup_packet_stay_visible() {
        let (packet, rest) = split_startup(b"\0\0\0\x08\x04\xd2\x16\x2fmore")
            .expect("valid")
            .expect("complete");
        assert_eq!((packet.body, rest), (&b"\x04\xd2\x16\x2f"[..], &b"more"[..]));
    }
}
