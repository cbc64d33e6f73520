//! Signatures as [Standard Webhooks](https://www.standardwebhooks.com) has them: `v1,` and the HMAC-SHA256 of id, time and
//! body, joined by full stops, in base64.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_core::secret::Secret;

/// What secrets begin with.
const PREFIX: &str = "whsec_";
/// A key's shortest and longest length, in bytes.
const KEY: std::ops::RangeInclusive<usize> = 24..=64;

/// What a text that should be a webhook's secret lacks. Tells nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// It is of another form.
    #[error("must be `whsec_` and base64, such as `echo whsec_$(openssl rand -base64 32)` prints")]
    Form,
    /// It is too short or too long.
    #[error("must hold 24 to 64 bytes; `echo whsec_$(openssl rand -base64 32)` prints a good one")]
    Length,
}

/// Checks what is to be a webhook's secret.
///
/// # Errors
///
/// [`BadSecret`] says what it lacks.
pub fn check_secret(secret: &Secret) -> Result<(), BadSecret> {
    key(secret).map(drop)
}

fn key(secret: &Secret) -> Result<hmac::Key, BadSecret> {
    let text = secret.expose().strip_prefix(PREFIX).ok_or(BadSecret::Form)?;
    let bytes = zeroize::Zeroizing::new(STANDARD.decode(text).map_err(|_| BadSecret::Form)?);
    if !KEY.contains(&bytes.len()) {
        return Err(BadSecret::Length);
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

/// The value of `webhook-signature`: one signature for each secret.
pub(super) fn signature(
    secrets: &[Secret],
    id: &str,
    seconds: i64,
    body: &[u8],
) -> Result<String, BadSecret> {
    let mut all = Vec::with_capacity(secrets.len());
    for secret in secrets {
        let mut signed = hmac::Context::with_key(&key(secret)?);
        signed.update(format!("{id}.{seconds}.").as_bytes());
        signed.update(body);
        all.push(format!("v1,{}", STANDARD.encode(signed.sign())));
    }
    Ok(all.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_specification() {
        // The example of the specification's reference libraries.
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signed = signature(
            std::slice::from_ref(&secret),
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let two = signature(&[secret.clone(), secret], "a", 1, b"").unwrap();
        let (one, other) = two.split_once(' ').unwrap();
        assert_eq!(one, other);
    }

    #[test]
    fn a_secret_that_is_short_or_of_another_form_is_refused() {
        for (text, why) in [
            ("hunter2", BadSecret::Form),
            ("whsec_", BadSecret::Length),
            ("whsec_aGVsbG8=", BadSecret::Length),
            ("whsec_???", BadSecret::Form),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", BadSecret::Form),
        ] {
            assert_eq!(check_secret(&Secret::new(text)), Err(why), "{text}");
        }
        let long = format!("whsec_{}", STANDARD.encode([1_u8; 65]));
        assert_eq!(check_secret(&Secret::new(long)), Err(BadSecret::Length));
        check_secret(&Secret::new(format!("whsec_{}", STANDARD.encode([1_u8; 32])))).unwrap();
    }
}
