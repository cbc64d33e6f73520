//! A token as it is sent: RFC 7515, compact serialisation. Nothing in it is trusted before its signature is.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::json;
use super::refusal::{Refusal, shown};

/// The longest token that is read, in bytes. A PostgreSQL password message may have 65,535.
pub(super) const MAX_TOKEN: usize = 16 * 1024;
/// The longest key id, in bytes.
pub(super) const MAX_KEY_ID: usize = 256;

/// A token taken apart.
pub(super) struct Jws<'a> {
    /// What the signature is over: header and claims as they were sent.
    pub(super) signed: &'a str,
    /// The signature, base64url.
    pub(super) signature: &'a str,
    /// What its header says.
    pub(super) header: Header,
    /// Its claims.
    pub(super) claims: Map<String, Value>,
}

/// The part of a header that means something here. Where it tells of keys (`jku`, `jwk`, `x5u`, `x5c`) it is not
/// listened to: keys come from the issuer's own document alone.
#[derive(Debug)]
pub(super) struct Header {
    /// `alg`.
    pub(super) algorithm: Algorithm,
    /// `kid`.
    pub(super) key_id: Option<String>,
}

impl<'a> Jws<'a> {
    /// Takes a token apart. Its form is looked at before anything is decoded: another secret costs nothing.
    pub(super) fn parse(text: &'a str) -> Result<Self, Refusal> {
        if text.len() > MAX_TOKEN {
            // `ey` is how every JSON object begins in base64url.
            return Err(if text.starts_with("ey") {
                Refusal::TooLong
            } else {
                Refusal::Form
            });
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Refusal::Form)?;
        let (header, claims) = signed.split_once('.').ok_or(Refusal::Form)?;
        let parts = [header, claims, signature];
        let base64url = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if parts
            .iter()
            .any(|part| part.is_empty() || !part.bytes().all(base64url))
        {
            return Err(Refusal::Form);
        }
        Ok(Self {
            signed,
            signature,
            header: Header::read(&decode(header, "header")?)?,
            claims: decode(claims, "claims")?,
        })
    }
}

fn decode(part: &str, what: &'static str) -> Result<Map<String, Value>, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Form)?;
    json::object(&bytes).ok_or(Refusal::Json(what))
}

impl Header {
    fn read(header: &Map<String, Value>) -> Result<Self, Refusal> {
        // RFC 7515, section 4.1.11: what is critical must be understood, and nothing that can be critical is.
        for name in ["crit", "b64", "enc", "zip"] {
            if header.contains_key(name) {
                return Err(Refusal::Header("it has `crit`, `b64`, `enc` or `zip`"));
            }
        }
        match header.get("typ") {
            None => {}
            Some(Value::String(typ)) if is_type(typ) => {}
            // RFC 8725, section 3.11: logout tokens, proofs and the like are no identities.
            Some(_) => return Err(Refusal::Header("its `typ` is neither `JWT` nor `at+jwt`")),
        }
        let algorithm = match header.get("alg") {
            Some(Value::String(name)) => {
                Algorithm::named(name).ok_or_else(|| Refusal::Algorithm(shown(name)))?
            }
            _ => return Err(Refusal::Header("it has no `alg`")),
        };
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) if !id.is_empty() && id.len() <= MAX_KEY_ID => Some(id.clone()),
            Some(_) => return Err(Refusal::Header("its `kid` is no text of 1 to 256 bytes")),
        };
        Ok(Self { algorithm, key_id })
    }
}

/// ID tokens and RFC 9068 access tokens; `application/` may be left out.
fn is_type(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2ln", encode(header), encode(claims))
    }

    fn refusal(text: &str) -> Refusal {
        match Jws::parse(text) {
            Ok(_) => panic!("taken: {text}"),
            Err(refusal) => refusal,
        }
    }

    #[test]
    fn a_token_is_three_parts() {
        let text = token(r#"{"alg":"ES256","kid":"k"}"#, r#"{"sub":"a"}"#);
        let jws = Jws::parse(&text).unwrap();
        assert_eq!(jws.header.algorithm, Algorithm::Es256);
        assert_eq!(jws.header.key_id.as_deref(), Some("k"));
        assert_eq!(format!("{}.{}", jws.signed, jws.signature), text);
        assert_eq!(jws.claims.get("sub"), Some(&Value::from("a")));
    }

    #[test]
    fn what_has_another_form_is_refused_unread() {
        let good = token(r#"{"alg":"ES256"}"#, "{}");
        let (signed, _) = good.rsplit_once('.').unwrap();
        for bad in [
            String::new(),
            "password".to_owned(),
            "..".to_owned(),
            signed.to_owned(),
            // Without a signature: the form of `alg` none.
            format!("{signed}."),
            format!("{good}.x"),
            // An encrypted one has five parts.
            format!("{good}.x.y"),
            format!("{good}="),
            format!(" {good}"),
            format!("{good}\n"),
            good.replace('.', "+."),
            "x".repeat(MAX_TOKEN + 1),
        ] {
            assert_eq!(refusal(&bad), Refusal::Form, "{bad}");
        }
    }

    #[test]
    fn base64_with_bits_that_say_nothing_is_refused() {
        // `e30` and `e31` decode to the same two bytes where nobody looks at the last bits.
        assert!(Jws::parse("eyJhbGciOiJFUzI1NiJ9.e30.c2ln").is_ok());
        assert_eq!(refusal("eyJhbGciOiJFUzI1NiJ9.e31.c2ln"), Refusal::Form);
    }

    #[test]
    fn a_token_over_the_size_limit_is_refused() {
        let claims = |n: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(n));
        assert!(Jws::parse(&token(r#"{"alg":"ES256"}"#, &claims(12_000))).is_ok());
        assert_eq!(
            refusal(&token(r#"{"alg":"ES256"}"#, &claims(13_000))),
            Refusal::TooLong
        );
    }

    #[test]
    fn claims_and_header_are_objects_without_repetition() {
        let header = r#"{"alg":"ES256"}"#;
        assert_eq!(refusal(&token(header, "[]")), Refusal::Json("claims"));
        assert_eq!(
            refusal(&token(header, r#"{"sub":"a","sub":"b"}"#)),
            Refusal::Json("claims")
        );
        assert_eq!(
            refusal(&token(r#"{"alg":"none","alg":"ES256"}"#, "{}")),
            Refusal::Json("header")
        );
    }

    #[test]
    fn none_and_symmetric_algorithms_have_no_name_here() {
        for name in [
            "none", "None", "NONE", "nOnE", "HS256", "HS384", "HS512", "es256", "ES256K", "",
        ] {
            let header = format!(r#"{{"alg":"{name}"}}"#);
            assert_eq!(
                refusal(&token(&header, "{}")),
                Refusal::Algorithm(name.to_owned())
            );
        }
        assert!(matches!(refusal(&token("{}", "{}")), Refusal::Header(_)));
        assert!(matches!(
            refusal(&token(r#"{"alg":["ES256"]}"#, "{}")),
            Refusal::Header(_)
        ));
    }

    #[test]
    fn what_the_header_demands_and_nobody_understands_is_refused() {
        for more in [
            r#""crit":["exp"]"#,
            r#""crit":[]"#,
            r#""b64":false"#,
            r#""zip":"DEF""#,
            r#""enc":"A128GCM""#,
        ] {
            let header = format!(r#"{{"alg":"ES256",{more}}}"#);
            assert!(
                matches!(refusal(&token(&header, "{}")), Refusal::Header(_)),
                "{more}"
            );
        }
    }

    #[test]
    fn tokens_for_other_purposes_are_refused_by_their_type() {
        for (typ, good) in [
            ("JWT", true),
            ("jwt", true),
            ("at+jwt", true),
            ("application/at+JWT", true),
            ("logout+jwt", false),
            ("dpop+jwt", false),
            ("secevent+jwt", false),
            ("", false),
        ] {
            let text = token(&format!(r#"{{"alg":"ES256","typ":"{typ}"}}"#), "{}");
            assert_eq!(Jws::parse(&text).is_ok(), good, "{typ}");
        }
        assert!(Jws::parse(&token(r#"{"alg":"ES256","typ":null}"#, "{}")).is_err());
    }

    #[test]
    fn key_ids_are_texts_of_bounded_length() {
        for (id, good) in [
            ("\"k\"".to_owned(), true),
            (format!("\"{}\"", "k".repeat(256)), true),
            (format!("\"{}\"", "k".repeat(257)), false),
            ("\"\"".to_owned(), false),
            ("1".to_owned(), false),
            ("null".to_owned(), false),
        ] {
            let text = token(&format!(r#"{{"alg":"ES256","kid":{id}}}"#), "{}");
            assert_eq!(Jws::parse(&text).is_ok(), good, "{id}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[a-zA-Z0-9_.-]{0,60}", any in ".{0,40}") {
            let _ = Jws::parse(&text);
            let _ = Jws::parse(&any);
            let _ = Jws::parse(&token(&any, &any));
        }
    }
}
