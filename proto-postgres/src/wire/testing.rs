//! What every message's tests need.

use std::fmt::Debug;

use bytes::BytesMut;

use super::error::ParseError;
use super::frame;

/// The body of a golden frame.
pub(crate) fn body(golden: &'static [u8]) -> &'static [u8] {
    let (frame, rest) = frame::split(golden, usize::MAX)
        .expect("valid header")
        .expect("complete");
    assert!(rest.is_empty(), "bytes behind the golden frame");
    frame.body
}

/// The body of a golden start-up packet.
pub(crate) fn startup_body(golden: &'static [u8]) -> &'static [u8] {
    let (packet, rest) = frame::split_startup(golden)
        .expect("valid header")
        .expect("complete");
    assert!(rest.is_empty(), "bytes behind the golden packet");
    packet.body
}

/// Every strict prefix of `body` must be refused.
pub(crate) fn prefixes_refused<T: Debug>(
    body: &'static [u8],
    parse: impl Fn(&'static [u8]) -> Result<T, ParseError>,
) {
    prefixes_refused_below(body, body.len(), parse);
}

/// Every prefix shorter than `minimum` must be refused; for messages which end in bytes of any
/// length, where a longer prefix is another valid message.
pub(crate) fn prefixes_refused_below<T: Debug>(
    body: &'static [u8],
    minimum: usize,
    parse: impl Fn(&'static [u8]) -> Result<T, ParseError>,
) {
    for end in 0..minimum {
        if let Ok(message) = parse(&body[..end]) {
            panic!("prefix of {end} bytes was accepted: {message:?}");
        }
    }
    assert!(parse(body).is_ok(), "the whole body was refused");
}

/// What `encode` appends.
pub(crate) fn encoded<E: Debug>(encode: impl FnOnce(&mut BytesMut) -> Result<(), E>) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode(&mut out).expect("encodes");
    out.to_vec()
}

/// `body` with the byte at `at` replaced.
pub(crate) fn tampered(body: &[u8], at: usize, byte: u8) -> &'static [u8] {
    let mut body = body.to_vec();
    body[at] = byte;
    body.leak()
}
