//! SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677) in the form that PostgreSQL keeps.

use std::num::NonZeroU32;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::{hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// PostgreSQL's default. The secret is random, so that more would only cost the gateway.
const ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4095);

/// `SCRAM-SHA-256$4096:<salt>$<StoredKey>:<ServerKey>`, the last three in base64. The password must be ASCII: it is
/// not normalised.
pub(super) fn verifier(password: &str, salt: &[u8; 16]) -> String {
    let mut salted = Zeroizing::new([0u8; 32]);
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        ITERATIONS,
        salt,
        password.as_bytes(),
        salted.as_mut_slice(),
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, salted.as_slice());
    let client_key = hmac::sign(&key, b"Client Key");
    let stored_key = digest(&SHA256, client_key.as_ref());
    let server_key = hmac::sign(&key, b"Server Key");
    text(salt, stored_key.as_ref(), server_key.as_ref())
}

pub(super) fn text(salt: &[u8; 16], stored_key: &[u8], server_key: &[u8]) -> String {
    format!(
        "SCRAM-SHA-256${ITERATIONS}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored_key),
        STANDARD.encode(server_key)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The password and salt of the exchange in RFC 7677, section 3; the keys are those that its proofs follow from.
    #[test]
    fn a_verifier_is_that_of_rfc_7677() {
        let salt: [u8; 16] = STANDARD
            .decode("W22ZaJ0SNY7soEsUEjb6gQ==")
            .unwrap()
            .try_into()
            .unwrap();
        let verifier = verifier("pencil", &salt);
        assert_eq!(
            verifier,
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
        // The server's signature over the exchange of the RFC.
        let auth = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
                    r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
                    c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let server_key = STANDARD.decode(verifier.rsplit(':').next().unwrap()).unwrap();
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &server_key), auth.as_bytes());
        assert_eq!(
            STANDARD.encode(signature),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
    }
}
