//! OAUTHBEARER: a client sends a bearer token as SASL has it (RFC 7628; PostgreSQL documentation, OAUTHBEARER
//! Authentication).

use std::fmt::Write as _;

use gateway_core::secret::Secret;

/// The mechanism's name.
pub const OAUTHBEARER: &str = "OAUTHBEARER";
/// What parts the pairs of a message, and all that a client answers to an error (sections 3.1 and 3.2.3).
pub const SEPARATOR: u8 = 0x01;

/// A first message that is none of OAUTHBEARER's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("client sent a malformed OAUTHBEARER message: {0}")]
pub struct BearerFault(&'static str);

/// The token of a first message; `None` where the client has none yet and asks where it gets one, which libpq does
/// before it asks its user to sign in.
///
/// # Errors
///
/// Whatever is not `n,,`, the pairs with exactly one `auth`, and no byte behind them.
pub fn parse(message: &[u8]) -> Result<Option<Secret>, BearerFault> {
    let message = std::str::from_utf8(message).map_err(|_| BearerFault("it is no UTF-8"))?;
    // `y`: the client could bind the channel and thinks that we cannot, which is so for this mechanism.
    let pairs = message
        .strip_prefix("n,")
        .or_else(|| message.strip_prefix("y,"))
        .ok_or(BearerFault("it has no GS2 header, or one that binds the channel"))?;
    let pairs = pairs
        .strip_prefix(",\x01")
        .ok_or(BearerFault("an authorization identity is not supported"))?;
    // Each pair ends with a separator, and so does their list.
    let pairs = pairs
        .strip_suffix("\x01\x01")
        .ok_or(BearerFault("its pairs do not end as they must"))?;
    let mut auth = None;
    for pair in pairs.split('\x01') {
        let (key, value) = pair.split_once('=').ok_or(BearerFault("a pair has no value"))?;
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Err(BearerFault("a key is none"));
        }
        if !value
            .bytes()
            .all(|b| matches!(b, 0x20..=0x7e | b'\t' | b'\r' | b'\n'))
        {
            return Err(BearerFault("a value has characters that it must not have"));
        }
        if key == "auth" && auth.replace(value).is_some() {
            return Err(BearerFault("it has two tokens"));
        }
    }
    let auth = auth.ok_or(BearerFault("it has no `auth`"))?;
    if auth.is_empty() {
        return Ok(None);
    }
    let (scheme, token) = auth
        .split_once(' ')
        .ok_or(BearerFault("its token has no scheme"))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(BearerFault("its scheme is not Bearer"));
    }
    let token = token.trim_start_matches(' ');
    // RFC 6750, section 2.1: b64token.
    let body = token.trim_end_matches('=');
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b);
    if body.is_empty() || !body.bytes().all(allowed) {
        return Err(BearerFault("its token has characters that no token has"));
    }
    Ok(Some(Secret::new(token)))
}

/// The answer to a token that is not taken, or to none (section 3.2.2): where and for what a client gets one.
#[must_use]
pub fn failure(issuer: Option<&str>, scope: Option<&str>) -> String {
    let mut answer = "{\"status\":\"invalid_token\"".to_owned();
    if let Some(issuer) = issuer {
        let document = format!(
            "{}/.well-known/openid-configuration",
            issuer.trim_end_matches('/')
        );
        let _ = write!(
            answer,
            ",\"openid-configuration\":{}",
            serde_json::Value::from(document)
        );
    }
    if let Some(scope) = scope {
        let _ = write!(answer, ",\"scope\":{}", serde_json::Value::from(scope));
    }
    answer.push('}');
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(message: &str) -> Result<Option<String>, BearerFault> {
        Ok(parse(message.as_bytes())?.map(|secret| secret.expose().to_owned()))
    }

    #[test]
    fn the_token_is_found() {
        for message in [
            "n,,\x01auth=Bearer abc.DEF-1_~+/==\x01\x01",
            "y,,\x01auth=bearer abc.DEF-1_~+/==\x01\x01",
            "n,,\x01host=gw\x01port=6432\x01auth=BEARER  abc.DEF-1_~+/==\x01\x01",
            "n,,\x01auth=Bearer abc.DEF-1_~+/==\x01host=gw\x01\x01",
        ] {
            assert_eq!(
                token(message),
                Ok(Some("abc.DEF-1_~+/==".to_owned())),
                "{message:?}"
            );
        }
        assert_eq!(token("n,,\x01auth=\x01\x01"), Ok(None));
    }

    #[test]
    fn every_strict_prefix_and_what_has_another_form_is_refused() {
        let good = "n,,\x01auth=Bearer abc\x01host=gw\x01\x01";
        for end in 0..good.len() {
            assert!(token(good.get(..end).unwrap()).is_err(), "{end}");
        }
        for bad in [
            "p=tls-server-end-point,,\x01auth=Bearer abc\x01\x01",
            "n,a=root,\x01auth=Bearer abc\x01\x01",
            "n,,auth=Bearer abc\x01\x01",
            "n,,\x01auth=Bearer abc\x01\x01x",
            "n,,\x01auth=Bearer abc\x01\x01\x01",
            "n,,\x01auth=Bearer abc\x01auth=Bearer def\x01\x01",
            "n,,\x01auth=Bearer\x01\x01",
            "n,,\x01auth=Bearer \x01\x01",
            "n,,\x01auth=Basic abc\x01\x01",
            "n,,\x01auth=Bearer a b\x01\x01",
            "n,,\x01auth=Bearer a=b\x01\x01",
            "n,,\x01auth=Bearer a\u{e9}\x01\x01",
            "n,,\x01au-th=x\x01auth=Bearer abc\x01\x01",
            "n,,\x01=x\x01auth=Bearer abc\x01\x01",
            "n,,\x01host=gw\x01\x01",
            "n,,\x01\x01",
        ] {
            assert!(token(bad).is_err(), "{bad:?}");
        }
        assert!(parse(b"n,,\x01auth=Bearer \xff\x01\x01").is_err());
    }

    #[test]
    fn a_fault_does_not_print_the_token() {
        let fault = token("n,,\x01auth=Bearer ab\u{e9}zeppelin\x01\x01").unwrap_err();
        assert!(!fault.to_string().contains("zeppelin"));
    }

    #[test]
    fn the_failure_says_where_to_get_a_token() {
        assert_eq!(failure(None, None), r#"{"status":"invalid_token"}"#);
        assert_eq!(
            failure(Some("https://idp.example/"), Some("openid \"x\"")),
            r#"{"status":"invalid_token","openid-configuration":"https://idp.example/.well-known/openid-configuration","scope":"openid \"x\""}"#
        );
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_found_is_a_token(message in "[ny],,?\\x01?(auth=Bearer [ -~\\x01]{0,20}|[ -~\\x01]{0,20})\\x01{0,3}") {
            if let Ok(Some(token)) = parse(message.as_bytes()) {
                assert!(message.contains(token.expose()) && token.expose().bytes().all(|b| b > b' ' && b < 0x7f));
            }
        }
    }
}
