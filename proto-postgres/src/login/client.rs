//! A client proves that it knows a secret: the server's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, sans-IO.
//!
//! RFC 5802, RFC 7677; PostgreSQL documentation, SCRAM-SHA-256 Authentication. The client names the mechanism and sends
//! its first message ([`ScramServer::start`]), then its proof ([`ScramFinal::finish`]). Nobody learns from either
//! whether the verifier belongs to a secret that exists.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::MAX_ITERATIONS;

/// SCRAM-SHA-256 without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// SCRAM-SHA-256 that is bound to the TLS connection.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Fewest iterations of a verifier: RFC 7677, section 4.
const MIN_ITERATIONS: u64 = 4096;
/// Longest nonce of a client. Clients send 24 characters.
const MAX_NONCE: usize = 256;
/// What a client that binds says it binds to: `tls-server-end-point` (RFC 5929) is all that PostgreSQL knows.
const BOUND: &str = "p=tls-server-end-point";

/// Why a client's proof is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScramFault {
    /// A message that is none of SCRAM's.
    #[error("client sent a malformed SCRAM message: {0}")]
    Malformed(&'static str),
    /// A mechanism that was not offered.
    #[error("client chose a SASL mechanism that was not offered")]
    Mechanism,
    /// It says that no channel binding was offered, and it was: somebody has changed the offer on its way.
    #[error("client did not see that channel binding was offered: a man in the middle?")]
    OfferChanged,
    /// It is bound to another TLS connection: somebody is in the middle.
    #[error("client's channel binding is that of another connection: a man in the middle?")]
    OtherChannel,
    /// The proof is wrong: another secret, or one that does not exist.
    #[error("the proof of the token is wrong")]
    Wrong,
    /// The kept verifier can't be read.
    #[error("the kept SCRAM verifier can't be read")]
    Verifier,
}

/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
struct Verifier {
    iterations: u64,
    salt: String,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

impl Verifier {
    fn parse(text: &str) -> Option<Self> {
        let (head, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let key = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
        let iterations = iterations.parse().ok()?;
        STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?;
        (MIN_ITERATIONS..=MAX_ITERATIONS)
            .contains(&iterations)
            .then_some(Self {
                iterations,
                salt: salt.to_owned(),
                stored_key: key(stored_key)?,
                server_key: key(server_key)?,
            })
    }
}

/// The server's side, before the client's first message.
pub struct ScramServer {
    verifier: Verifier,
    /// `tls-server-end-point` of the connection, where there is one.
    end_point: Option<Vec<u8>>,
    nonce: String,
}

impl fmt::Debug for ScramServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramServer")
            .field("bound", &self.end_point.is_some())
            .finish_non_exhaustive()
    }
}

impl ScramServer {
    /// With a verifier as PostgreSQL writes it, the connection's `tls-server-end-point` where there is one, and random
    /// bytes for the nonce.
    ///
    /// # Errors
    ///
    /// [`ScramFault::Verifier`].
    pub fn new(verifier: &str, end_point: Option<Vec<u8>>, random: &[u8; 18]) -> Result<Self, ScramFault> {
        Ok(Self {
            verifier: Verifier::parse(verifier).ok_or(ScramFault::Verifier)?,
            end_point,
            nonce: STANDARD.encode(random),
        })
    }

    /// The mechanisms to offer, the best one first.
    #[must_use]
    pub fn mechanisms(&self) -> &'static [&'static str] {
        if self.end_point.is_some() {
            &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256]
        } else {
            &[SCRAM_SHA_256]
        }
    }

    /// Takes the mechanism and `client-first-message`; gives `server-first-message`.
    ///
    /// # Errors
    ///
    /// [`ScramFault::Mechanism`], [`ScramFault::Malformed`], [`ScramFault::OfferChanged`].
    pub fn start(self, mechanism: &[u8], message: &[u8]) -> Result<(ScramFinal, String), ScramFault> {
        let malformed = ScramFault::Malformed;
        if !self.mechanisms().iter().any(|name| name.as_bytes() == mechanism) {
            return Err(ScramFault::Mechanism);
        }
        let plus = mechanism == SCRAM_SHA_256_PLUS.as_bytes();
        let message = std::str::from_utf8(message).map_err(|_| malformed("it is no UTF-8"))?;
        // gs2-header: what it says of channel binding, and whom else it wants to be.
        let mut parts = message.splitn(3, ',');
        let (Some(flag), Some(other), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed("it has no GS2 header"));
        };
        match (flag, plus) {
            ("n", false) | (BOUND, true) => {}
            ("y", false) if self.end_point.is_none() => {}
            ("y", false) => return Err(ScramFault::OfferChanged),
            ("n" | "y", true) => return Err(malformed("its mechanism binds, and its header does not")),
            _ => {
                return Err(malformed(
                    "its channel binding is unknown, or not of its mechanism",
                ));
            }
        }
        if !other.is_empty() {
            return Err(malformed("an authorization identity is not supported"));
        }
        // The name is that of the start-up message; this one is ignored, as PostgreSQL does. `m=`, which a server
        // that does not know it must refuse, would stand here.
        let (name, rest) = bare.split_once(',').ok_or(malformed("it has no nonce"))?;
        if !name.starts_with("n=") {
            return Err(malformed("it does not begin with a name"));
        }
        let nonce = rest.split(',').next().unwrap_or_default();
        let nonce = nonce.strip_prefix("r=").ok_or(malformed("it has no nonce"))?;
        let printable = |byte: u8| matches!(byte, 0x21..=0x7e) && byte != b',';
        if nonce.is_empty() || nonce.len() > MAX_NONCE || !nonce.bytes().all(printable) {
            return Err(malformed("its nonce is none"));
        }
        let nonce = format!("{nonce}{}", self.nonce);
        let server_first = format!(
            "r={nonce},s={},i={}",
            self.verifier.salt, self.verifier.iterations
        );
        let mut binding = format!("{flag},,").into_bytes();
        if plus {
            binding.extend(self.end_point.iter().flatten());
        }
        let last = ScramFinal {
            stored_key: self.verifier.stored_key,
            server_key: self.verifier.server_key,
            start: format!("{bare},{server_first},"),
            binding: STANDARD.encode(binding),
            nonce,
        };
        Ok((last, server_first))
    }
}

/// The server's side, before the client's proof.
pub struct ScramFinal {
    stored_key: [u8; 32],
    server_key: [u8; 32],
    /// The `AuthMessage` up to `client-final-message-without-proof`.
    start: String,
    /// What `c=` must be.
    binding: String,
    nonce: String,
}

impl fmt::Debug for ScramFinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramFinal").finish_non_exhaustive()
    }
}

impl ScramFinal {
    /// Takes `client-final-message`; gives `server-final-message` where the proof is right.
    ///
    /// # Errors
    ///
    /// [`ScramFault::Malformed`], [`ScramFault::OtherChannel`], [`ScramFault::Wrong`].
    pub fn finish(self, message: &[u8]) -> Result<String, ScramFault> {
        let malformed = ScramFault::Malformed;
        let message = std::str::from_utf8(message).map_err(|_| malformed("it is no UTF-8"))?;
        let (unproved, proof) = message.rsplit_once(",p=").ok_or(malformed("it has no proof"))?;
        let mut attributes = unproved.split(',');
        let binding = attributes.next().and_then(|text| text.strip_prefix("c="));
        let nonce = attributes.next().and_then(|text| text.strip_prefix("r="));
        let (Some(binding), Some(nonce)) = (binding, nonce) else {
            return Err(malformed("it has no channel binding and nonce"));
        };
        if nonce != self.nonce {
            return Err(malformed("its nonce is not the one that was agreed upon"));
        }
        let proof: [u8; 32] = STANDARD
            .decode(proof)
            .ok()
            .and_then(|proof| proof.try_into().ok())
            .ok_or(malformed("its proof has not 32 bytes"))?;
        if binding != self.binding {
            return Err(ScramFault::OtherChannel);
        }
        let text = format!("{}{unproved}", self.start);
        let sign = |key: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
        let signature = sign(&self.stored_key);
        let mut client_key = proof;
        for (byte, with) in client_key.iter_mut().zip(signature.as_ref()) {
            *byte ^= with;
        }
        let right = digest(&SHA256, &client_key).as_ref().ct_eq(&self.stored_key);
        // Signed in either case, so that the time does not tell.
        let server_final = format!("v={}", STANDARD.encode(sign(&self.server_key)));
        if bool::from(right) {
            Ok(server_final)
        } else {
            Err(ScramFault::Wrong)
        }
    }
}

#[cfg(test)]
mod tests {
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
    use postgres_protocol::password::scram_sha_256;

    use super::*;

    const SECRET: &[u8] = b"gwt_Alexanderso1_secret";

    fn server(end_point: Option<&[u8]>) -> ScramServer {
        ScramServer::new(&scram_sha_256(SECRET), end_point.map(<[u8]>::to_vec), &[7; 18]).unwrap()
    }

    /// A whole exchange with the client's side of another implementation.
    fn exchange(
        server: ScramServer,
        mechanism: &str,
        binding: ChannelBinding,
        secret: &[u8],
    ) -> Result<(), ScramFault> {
        let mut client = ScramSha256::new(secret, binding);
        let (last, first) = server.start(mechanism.as_bytes(), client.message())?;
        client.update(first.as_bytes()).unwrap();
        let end = last.finish(client.message())?;
        client.finish(end.as_bytes()).unwrap();
        Ok(())
    }

    #[test]
    fn a_client_that_knows_the_secret_is_let_in_and_sees_that_we_know_it_too() {
        let none = || ChannelBinding::unsupported();
        assert_eq!(exchange(server(None), SCRAM_SHA_256, none(), SECRET), Ok(()));
        assert_eq!(
            exchange(server(Some(b"hash")), SCRAM_SHA_256, none(), SECRET),
            Ok(())
        );
        let bound = ChannelBinding::tls_server_end_point(b"hash".to_vec());
        assert_eq!(
            exchange(server(Some(b"hash")), SCRAM_SHA_256_PLUS, bound, SECRET),
            Ok(())
        );
        let unrequested = ChannelBinding::unrequested();
        assert_eq!(exchange(server(None), SCRAM_SHA_256, unrequested, SECRET), Ok(()));
    }

    #[test]
    fn a_wrong_secret_is_refused() {
        let none = ChannelBinding::unsupported();
        assert_eq!(
            exchange(server(None), SCRAM_SHA_256, none, b"other"),
            Err(ScramFault::Wrong)
        );
    }

    #[test]
    fn a_connection_that_somebody_is_in_the_middle_of_is_refused() {
        // His certificate is another one.
        let bound = ChannelBinding::tls_server_end_point(b"his".to_vec());
        assert_eq!(
            exchange(server(Some(b"ours")), SCRAM_SHA_256_PLUS, bound, SECRET),
            Err(ScramFault::OtherChannel)
        );
        // He has taken -PLUS out of our offer.
        assert_eq!(
            exchange(
                server(Some(b"ours")),
                SCRAM_SHA_256,
                ChannelBinding::unrequested(),
                SECRET
            ),
            Err(ScramFault::OfferChanged)
        );
    }

    #[test]
    fn only_what_was_offered_can_be_chosen() {
        assert_eq!(server(None).mechanisms(), ["SCRAM-SHA-256"]);
        assert_eq!(
            server(Some(b"x")).mechanisms(),
            ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]
        );
        for mechanism in [
            &b"SCRAM-SHA-256-PLUS"[..],
            b"SCRAM-SHA-1",
            b"",
            b"OAUTHBEARER",
            b"scram-sha-256",
        ] {
            let got = server(None).start(mechanism, b"n,,n=,r=abc").map(|_| ());
            assert_eq!(got, Err(ScramFault::Mechanism));
        }
    }

    #[test]
    fn first_messages_of_another_form_are_refused() {
        let long = format!("n,,n=,r={}", "a".repeat(MAX_NONCE + 1));
        for bad in [
            "",
            "n,,",
            "n,n=,r=abc",
            "n,,r=abc",
            "n,,n=",
            "n,,n=,r=",
            "n,,n=,r=a b",
            "n,,n=,r=a\u{7f}",
            "n,,n=,r=é",
            "n,,n=,x=abc,r=abc",
            "n,,m=ext,n=,r=abc",
            "n,a=root,n=,r=abc",
            "p=tls-unique,,n=,r=abc",
            "p=tls-server-end-point,,n=,r=abc",
            "x,,n=,r=abc",
            "nn,,n=,r=abc",
            &long,
        ] {
            let got = server(None).start(b"SCRAM-SHA-256", bad.as_bytes()).map(|_| ());
            assert!(matches!(got, Err(ScramFault::Malformed(_))), "{bad}: {got:?}");
        }
        for bad in ["n,,n=,r=abc", "y,,n=,r=abc", "p=tls-unique,,n=,r=abc"] {
            let got = server(Some(b"x"))
                .start(b"SCRAM-SHA-256-PLUS", bad.as_bytes())
                .map(|_| ());
            assert!(matches!(got, Err(ScramFault::Malformed(_))), "{bad}: {got:?}");
        }
        assert!(server(None).start(b"SCRAM-SHA-256", b"n,,n=\xff,r=abc").is_err());
        assert!(
            server(None)
                .start(b"SCRAM-SHA-256", b"n,,n=somebody,r=abc,x=ext")
                .is_ok()
        );
    }

    #[test]
    fn final_messages_of_another_form_are_refused() {
        let proof = STANDARD.encode([0; 32]);
        let (_, first) = server(None).start(b"SCRAM-SHA-256", b"n,,n=,r=abc").unwrap();
        let nonce = first.split(',').next().unwrap().to_owned();
        let finish = |message: String| {
            let (last, _) = server(None).start(b"SCRAM-SHA-256", b"n,,n=,r=abc").unwrap();
            last.finish(message.as_bytes()).map(|_| ())
        };
        assert_eq!(
            finish(format!("c=biws,{nonce},p={proof}")),
            Err(ScramFault::Wrong)
        );
        assert_eq!(
            finish(format!("c=eSws,{nonce},p={proof}")),
            Err(ScramFault::OtherChannel)
        );
        for bad in [
            String::new(),
            format!("c=biws,{nonce}"),
            format!("c=biws,{nonce},p="),
            format!("c=biws,{nonce},p={}", STANDARD.encode([0; 31])),
            format!("c=biws,{nonce},p={proof}x"),
            format!("c=biws,{nonce}x,p={proof}"),
            format!("c=biws,r=abc,p={proof}"),
            format!("{nonce},c=biws,p={proof}"),
            format!("p={proof}"),
        ] {
            assert!(
                matches!(finish(bad.clone()), Err(ScramFault::Malformed(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_proof_is_good_once() {
        let mut client = ScramSha256::new(SECRET, ChannelBinding::unsupported());
        let first_message = client.message().to_vec();
        let (last, first) = server(None).start(b"SCRAM-SHA-256", &first_message).unwrap();
        client.update(first.as_bytes()).unwrap();
        let proof = client.message().to_vec();
        assert!(last.finish(&proof).is_ok());
        // Played again to a server with another nonce.
        let other = ScramServer::new(&scram_sha_256(SECRET), None, &[8; 18]).unwrap();
        let (last, _) = other.start(b"SCRAM-SHA-256", &first_message).unwrap();
        assert!(matches!(last.finish(&proof), Err(ScramFault::Malformed(_))));
    }

    #[test]
    fn verifiers_of_another_form_are_refused() {
        let good = scram_sha_256(SECRET);
        assert!(Verifier::parse(&good).is_some());
        for bad in [
            String::new(),
            "md5abc".to_owned(),
            good.replace("4096", "4095"),
            good.replace("4096", "100001"),
            good.replace("SCRAM-SHA-256", "SCRAM-SHA-1"),
            good.replace(':', ";"),
            format!("{good}A"),
            good.trim_end_matches('=').to_owned(),
            "SCRAM-SHA-256$4096:$x:y".to_owned(),
        ] {
            assert!(Verifier::parse(&bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn nothing_prints_a_key() {
        let server = server(Some(b"hash"));
        let key = STANDARD.encode(server.verifier.stored_key);
        let text = format!("{server:?}");
        let (last, _) = server
            .start(b"SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,n=,r=abc")
            .unwrap();
        assert_eq!(text, "ScramServer { bound: true, .. }");
        assert!(!format!("{last:?}").contains(&key));
    }

    proptest::proptest! {
        #[test]
        fn no_message_of_a_client_panics_or_is_let_in(
            first in "[nyp=a-z,-]{0,12}(,,n=[a-z]{0,3},r=[ -~]{0,6})?",
            end in "(c=[A-Za-z=]{0,6},r=)?[ -~]{0,40}(,p=[A-Za-z0-9+/=]{0,44})?",
            plus in proptest::bool::ANY,
        ) {
            let mechanism = if plus { SCRAM_SHA_256_PLUS } else { SCRAM_SHA_256 };
            if let Ok((last, _)) = server(Some(b"hash")).start(mechanism.as_bytes(), first.as_bytes()) {
                assert!(last.finish(end.as_bytes()).is_err());
            }
        }
    }
}
