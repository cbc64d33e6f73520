//! Signature Version 4, by `aws-sigv4`.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningInstructions, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use gateway_core::secret::Secret;
use jiff::Timestamp;

use super::keys::Keys;
use crate::http::encoded;

/// How long a token is good; RDS takes no longer ones.
const EXPIRES: Duration = Duration::from_secs(900);

/// What is signed.
pub(super) struct ToSign<'a> {
    pub(super) method: &'a str,
    pub(super) url: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: SignableBody<'a>,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    /// For how long a presigned URL is good; `None`: the signature is in headers.
    pub(super) expires: Option<Duration>,
}

/// The time as the library has it.
fn clock(at: Timestamp) -> Result<SystemTime, String> {
    let since = u64::try_from(at.as_second()).map_err(|_| "the clock is before 1970".to_owned())?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(since))
}

/// What must be added to a request.
pub(super) fn signed(keys: &Keys, what: &ToSign<'_>, at: Timestamp) -> Result<SigningInstructions, String> {
    let unsigned = |error: &dyn std::fmt::Display| format!("the request can't be signed: {error}");
    let token = keys.token.as_ref().map(|token| token.expose().to_owned());
    let identity = Credentials::new(&keys.id, keys.secret.expose(), token, None, "gateway").into();
    let mut settings = SigningSettings::default();
    if what.expires.is_some() {
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = what.expires;
    }
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(what.region)
        .name(what.service)
        .time(clock(at)?)
        .settings(settings)
        .build()
        .map_err(|e| unsigned(&e))?;
    let headers = what.headers.iter().copied();
    let request =
        SignableRequest::new(what.method, what.url, headers, what.body.clone()).map_err(|e| unsigned(&e))?;
    let (instructions, _) = sign(request, &parameters.into())
        .map_err(|e| unsigned(&e))?
        .into_parts();
    Ok(instructions)
}

/// A presigned URL.
fn presigned(keys: &Keys, what: &ToSign<'_>, at: Timestamp) -> Result<String, String> {
    let instructions = signed(keys, what, at)?;
    let mut url = what.url.to_owned();
    for (name, value) in instructions.params() {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(name);
        url.push('=');
        url.push_str(&encoded(value));
    }
    Ok(url)
}

/// A token for `username` at `host`, which has the port.
pub(super) fn token(
    keys: &Keys,
    region: &str,
    host: &str,
    username: &str,
    at: Timestamp,
) -> Result<Secret, String> {
    let url = format!("https://{host}/?Action=connect&DBUser={}", encoded(username));
    let what = ToSign {
        method: "GET",
        url: &url,
        headers: &[],
        body: SignableBody::empty(),
        region,
        service: "rds-db",
        expires: Some(EXPIRES),
    };
    let url = presigned(keys, &what, at)?;
    let token = url.strip_prefix("https://").unwrap_or(&url);
    Ok(Secret::new(token))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn keys(id: &str, secret: &str, token: Option<&str>) -> Keys {
        Keys {
            id: id.to_owned(),
            secret: Secret::new(secret),
            token: token.map(Secret::new),
            expires: None,
            source: "a test",
        }
    }

    fn parts(url: &str) -> BTreeSet<&str> {
        url.split(['?', '&']).collect()
    }

    /// As AWS's own library for Python signs it (botocore, `tests/unit/test_signers.py`).
    #[test]
    fn a_token_is_the_one_that_the_vendors_own_library_makes() {
        let token = token(
            &keys("akid", "skid", None),
            "us-east-1",
            "prod-instance.us-east-1.rds.amazonaws.com:3306",
            "someusername",
            "2016-11-07T17:39:33Z".parse().unwrap(),
        )
        .unwrap();
        let expected = "prod-instance.us-east-1.rds.amazonaws.com:3306/?Action=connect&DBUser=someusername\
                        &X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20161107T173933Z&X-Amz-SignedHeaders=host\
                        &X-Amz-Expires=900&X-Amz-Credential=akid%2F20161107%2Fus-east-1%2Frds-db%2Faws4_request\
                        &X-Amz-Signature=d1138cdbc0ca63eec012ec0fc6c2267e03642168f5884a7795320d4c18374c61";
        assert_eq!(parts(token.expose()), parts(expected));
    }

    /// The example of the documentation (Amazon S3 API Reference, "Authenticating Requests: Using Query Parameters").
    #[test]
    fn a_presigned_url_is_the_one_of_the_documentation() {
        let keys = keys(
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            None,
        );
        let what = ToSign {
            method: "GET",
            url: "https://examplebucket.s3.amazonaws.com/test.txt",
            headers: &[],
            body: SignableBody::UnsignedPayload,
            region: "us-east-1",
            service: "s3",
            expires: Some(Duration::from_secs(86_400)),
        };
        let url = presigned(&keys, &what, "2013-05-24T00:00:00Z".parse().unwrap()).unwrap();
        let expected = "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
                        &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
                        &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
                        &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
        assert_eq!(parts(&url), parts(expected));
    }

    /// `get-vanilla` and `get-vanilla-query-order-key-case` of the published test suite of Signature Version 4.
    #[test]
    fn a_signature_in_headers_is_the_one_of_the_published_suite() {
        for (url, signature) in [
            (
                "https://example.amazonaws.com/",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "https://example.amazonaws.com/?Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
        ] {
            let keys = keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None);
            let what = ToSign {
                method: "GET",
                url,
                headers: &[("host", "example.amazonaws.com")],
                body: SignableBody::empty(),
                region: "us-east-1",
                service: "service",
                expires: None,
            };
            let signed = signed(&keys, &what, "2015-08-30T12:36:00Z".parse().unwrap()).unwrap();
            let authorization = signed
                .headers()
                .find(|(name, _)| *name == "authorization")
                .unwrap()
                .1;
            assert_eq!(
                authorization,
                format!(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                     SignedHeaders=host;x-amz-date, Signature={signature}"
                )
            );
        }
    }

    #[test]
    fn a_name_or_a_session_token_stays_one_parameter() {
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        let token = token(
            &keys("akid", "skid", Some("a+b/c==&x=1")),
            "eu-west-1",
            "h.example:5432",
            "jane&DBUser=root",
            at,
        )
        .unwrap();
        let token = token.expose();
        assert!(token.contains("&DBUser=jane%26DBUser%3Droot&"), "{token}");
        assert!(
            token.contains("&X-Amz-Security-Token=a%2Bb%2Fc%3D%3D%26x%3D1"),
            "{token}"
        );
    }
}
