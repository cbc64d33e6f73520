//! Whole frames of every message, to seed fuzz corpora and to test all messages alike.

use super::error::Peer;
use super::{backend, frontend};

/// How a golden frame is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Tag, length, body.
    Tagged,
    /// Length and body: the first packet of a connection.
    Startup,
}

/// One whole frame that parses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Golden {
    /// Who sends it.
    pub peer: Peer,
    /// How it's framed.
    pub framing: Framing,
    /// The message's name in the protocol's documentation.
    pub message: &'static str,
    /// The frame, header included.
    pub bytes: &'static [u8],
}

/// Whole frames, at least one of every message.
#[must_use]
pub fn goldens() -> Vec<Golden> {
    let all = [
        (frontend::bind::KIND, frontend::bind::GOLDENS),
        (frontend::close::KIND, frontend::close::GOLDENS),
        (frontend::copy_data::KIND, frontend::copy_data::GOLDENS),
        (frontend::copy_done::KIND, frontend::copy_done::GOLDENS),
        (frontend::copy_fail::KIND, frontend::copy_fail::GOLDENS),
        (frontend::describe::KIND, frontend::describe::GOLDENS),
        (frontend::execute::KIND, frontend::execute::GOLDENS),
        (frontend::flush::KIND, frontend::flush::GOLDENS),
        (frontend::function_call::KIND, frontend::function_call::GOLDENS),
        (frontend::parse::KIND, frontend::parse::GOLDENS),
        (frontend::query::KIND, frontend::query::GOLDENS),
        (frontend::sync::KIND, frontend::sync::GOLDENS),
        (frontend::terminate::KIND, frontend::terminate::GOLDENS),
        (frontend::cancel_request::KIND, frontend::cancel_request::GOLDENS),
        (
            frontend::gss_enc_request::KIND,
            frontend::gss_enc_request::GOLDENS,
        ),
        (frontend::password::KIND, frontend::password::GOLDENS),
        (
            frontend::sasl_initial_response::KIND,
            frontend::sasl_initial_response::GOLDENS,
        ),
        (frontend::sasl_response::KIND, frontend::sasl_response::GOLDENS),
        (frontend::ssl_request::KIND, frontend::ssl_request::GOLDENS),
        (frontend::startup::KIND, frontend::startup::GOLDENS),
        (backend::authentication::KIND, backend::authentication::GOLDENS),
        (
            backend::backend_key_data::KIND,
            backend::backend_key_data::GOLDENS,
        ),
        (backend::bind_complete::KIND, backend::bind_complete::GOLDENS),
        (backend::close_complete::KIND, backend::close_complete::GOLDENS),
        (
            backend::command_complete::KIND,
            backend::command_complete::GOLDENS,
        ),
        (
            backend::copy_both_response::KIND,
            backend::copy_both_response::GOLDENS,
        ),
        (backend::copy_data::KIND, backend::copy_data::GOLDENS),
        (backend::copy_done::KIND, backend::copy_done::GOLDENS),
        (
            backend::copy_in_response::KIND,
            backend::copy_in_response::GOLDENS,
        ),
        (
            backend::copy_out_response::KIND,
            backend::copy_out_response::GOLDENS,
        ),
        (backend::data_row::KIND, backend::data_row::GOLDENS),
        (
            backend::empty_query_response::KIND,
            backend::empty_query_response::GOLDENS,
        ),
        (backend::error_response::KIND, backend::error_response::GOLDENS),
        (
            backend::function_call_response::KIND,
            backend::function_call_response::GOLDENS,
        ),
        (
            backend::negotiate_protocol_version::KIND,
            backend::negotiate_protocol_version::GOLDENS,
        ),
        (backend::no_data::KIND, backend::no_data::GOLDENS),
        (backend::notice_response::KIND, backend::notice_response::GOLDENS),
        (
            backend::notification_response::KIND,
            backend::notification_response::GOLDENS,
        ),
        (
            backend::parameter_description::KIND,
            backend::parameter_description::GOLDENS,
        ),
        (
            backend::parameter_status::KIND,
            backend::parameter_status::GOLDENS,
        ),
        (backend::parse_complete::KIND, backend::parse_complete::GOLDENS),
        (
            backend::portal_suspended::KIND,
            backend::portal_suspended::GOLDENS,
        ),
        (backend::ready_for_query::KIND, backend::ready_for_query::GOLDENS),
        (backend::row_description::KIND, backend::row_description::GOLDENS),
    ];
    all.iter()
        .flat_map(|(kind, frames)| {
            frames.iter().map(|bytes| Golden {
                peer: kind.peer,
                framing: if kind.tag.is_some() {
                    Framing::Tagged
                } else {
                    Framing::Startup
                },
                message: kind.name,
                bytes,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::wire::error::{EncodeError, ParseError};
    use crate::wire::frame;

    /// Parses one frame's body and encodes it again.
    fn again(golden: &Golden, tag: u8, body: &[u8]) -> Result<Result<BytesMut, EncodeError>, ParseError> {
        let mut out = BytesMut::new();
        let encoded = match (golden.peer, golden.framing) {
            (_, Framing::Startup) => frontend::StartupPacket::parse(body)?.encode(&mut out),
            (Peer::Client, _) => frontend::Message::parse(tag, body)?.encode(&mut out),
            (Peer::Upstream, _) => backend::Message::parse(tag, body)?.encode(&mut out),
        };
        Ok(encoded.map(|()| out))
    }

    /// The tag and where the body begins.
    fn parts(golden: &Golden) -> (u8, usize) {
        match golden.framing {
            Framing::Tagged => (golden.bytes[0], frame::HEADER_LEN),
            Framing::Startup => (0, frame::STARTUP_HEADER_LEN),
        }
    }

    #[test]
    fn every_golden_survives_the_enums() {
        for golden in goldens() {
            let (tag, at) = parts(&golden);
            let out = again(&golden, tag, &golden.bytes[at..])
                .expect("golden")
                .expect("encodes");
            assert_eq!(out, golden.bytes, "{golden:?}");
        }
    }

    #[test]
    fn names_and_tags_are_those_of_the_message() {
        for golden in goldens()
            .iter()
            .filter(|golden| golden.framing == Framing::Tagged)
        {
            let (tag, at) = parts(golden);
            let body = &golden.bytes[at..];
            let (name, parsed) = match golden.peer {
                Peer::Client => frontend::Message::parse(tag, body).map(|it| (it.name(), it.tag())),
                Peer::Upstream => backend::Message::parse(tag, body).map(|it| (it.name(), it.tag())),
            }
            .expect("golden");
            assert_eq!(parsed, tag);
            assert!(
                name == golden.message || name == "Credential",
                "{name} is not {golden:?}"
            );
        }
    }

    /// No change of one byte panics, and whatever still parses means the very bytes it came from.
    #[test]
    fn tampered_bodies_are_errors_or_round_trip() {
        for golden in goldens() {
            let (tag, at) = parts(&golden);
            let mut bytes = golden.bytes.to_vec();
            for place in at..bytes.len() {
                let original = bytes[place];
                for byte in 0..=u8::MAX {
                    bytes[place] = byte;
                    if let Ok(out) = again(&golden, tag, &bytes[at..]) {
                        assert_eq!(out.expect("what parses encodes"), bytes, "{golden:?}");
                    }
                }
                bytes[place] = original;
            }
        }
    }

    /// Every body against every tag, cut at every place: an error or the very same bytes.
    #[test]
    fn bodies_of_other_messages_are_errors_or_round_trip() {
        for golden in goldens() {
            let (_, at) = parts(&golden);
            for body in (at..=golden.bytes.len()).map(|end| &golden.bytes[at..end]) {
                for tag in 0..=u8::MAX {
                    if let Ok(out) = again(&golden, tag, body) {
                        let out = out.expect("what parses encodes");
                        assert_eq!(&out[at..], body, "tag {tag} {golden:?}");
                    }
                }
            }
        }
    }
}
