//! Passwords of roles, and what the server is told of one: it can check it and does not know it, nor can its log.

use std::num::NonZeroU32;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::{hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gateway_core::credentials::CredentialError;
use gateway_core::secret::Secret;
use zeroize::Zeroizing;

/// Iterations make guessing a password slow. 256 random bits are not guessed at all, so that one is as good as any number,
/// and a session's start is not made slow instead.
const ITERATIONS: NonZeroU32 = NonZeroU32::MIN;

/// A new password, and its SCRAM-SHA-256 verifier as PostgreSQL writes it.
pub(crate) fn password() -> Result<(Secret, String), CredentialError> {
    let (mut bytes, mut salt) = (Zeroizing::new([0_u8; 32]), [0_u8; 16]);
    let random = SystemRandom::new();
    random
        .fill(bytes.as_mut_slice())
        .and_then(|()| random.fill(&mut salt))
        .map_err(|_| CredentialError::Issuer("no random bytes can be had".to_owned()))?;
    let password = Secret::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()));
    let verifier = verifier(password.expose(), &salt);
    Ok((password, verifier))
}

/// RFC 5802, section 3. The password is ASCII, so that SASLprep leaves it as it is.
fn verifier(password: &str, salt: &[u8]) -> String {
    let mut salted = Zeroizing::new([0_u8; 32]);
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
    format!(
        "SCRAM-SHA-256${ITERATIONS}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored_key),
        STANDARD.encode(server_key)
    )
}

#[cfg(test)]
mod tests {
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

    use super::*;

    /// The client of another hand is satisfied by what a server answers that has the verifier.
    #[test]
    fn a_client_that_knows_the_password_agrees_with_the_verifier() {
        let (password, verifier) = password().unwrap();
        let rest = verifier.strip_prefix("SCRAM-SHA-256$1:").unwrap();
        let (salt, keys) = rest.split_once('$').unwrap();
        let (stored_key, server_key) = keys.split_once(':').unwrap();
        let server_key = STANDARD.decode(server_key).unwrap();
        let mut client = ScramSha256::new(password.expose().as_bytes(), ChannelBinding::unsupported());
        let first = String::from_utf8(client.message().to_vec()).unwrap();
        let bare = first.split_once("n,,").unwrap().1.to_owned();
        let nonce = bare.split_once("r=").unwrap().1;
        let answer = format!("r={nonce}more,s={salt},i=1");
        client.update(answer.as_bytes()).unwrap();
        let last = String::from_utf8(client.message().to_vec()).unwrap();
        let (without_proof, proof) = last.rsplit_once(",p=").unwrap();
        let message = format!("{bare},{answer},{without_proof}");
        let sign = |key: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message.as_bytes());
        let signature = sign(&STANDARD.decode(stored_key).unwrap());
        let proof = STANDARD.decode(proof).unwrap();
        let client_key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        assert_eq!(STANDARD.encode(digest(&SHA256, &client_key)), stored_key);
        let signed = format!("v={}", STANDARD.encode(sign(&server_key)));
        client.finish(signed.as_bytes()).unwrap();
        assert!(!verifier.contains(password.expose()));
    }
}
