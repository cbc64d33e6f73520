//! AWS's Security Token Service: keys of a role, for a token or for other keys.

use std::path::Path;

use aws_sigv4::http_request::SignableBody;
use gateway_core::resource::SecretSource;
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::keys::{Keys, Sources};
use super::sign::{ToSign, signed};
use crate::http::{Ask, PATIENCE, Place, encoded};

const FORM: &str = "application/x-www-form-urlencoded";
/// What sessions are called in AWS's own trail.
const SESSION: &str = "gateway";

/// Where the service is: in the database's region.
fn address(sources: &Sources, region: &str) -> String {
    sources.text("AWS_ENDPOINT_URL_STS").unwrap_or_else(|| {
        let domain = if region.starts_with("cn-") {
            "amazonaws.com.cn"
        } else {
            "amazonaws.com"
        };
        format!("https://sts.{region}.{domain}")
    })
}

fn body(action: &str, role: &str, more: &[(&str, &str)]) -> Zeroizing<String> {
    let mut body = Zeroizing::new(format!(
        "Action={action}&Version=2011-06-15&RoleSessionName={SESSION}&RoleArn={}",
        encoded(role)
    ));
    for (name, value) in more {
        body.push_str(&format!("&{name}={}", encoded(value)));
    }
    body
}

/// Keys of a role for the token in a file, which is read again each time.
pub(super) async fn with_web_identity(
    sources: &Sources,
    role: &str,
    file: &Path,
    region: &str,
) -> Result<Keys, String> {
    let token = SecretSource::File(file.to_owned()).read();
    let token = token.map_err(|e| format!("the web identity: {e}"))?;
    let body = body(
        "AssumeRoleWithWebIdentity",
        role,
        &[("WebIdentityToken", token.expose())],
    );
    ask(&address(sources, region), body, Vec::new(), "a web identity").await
}

/// Keys of a role for other keys.
pub(super) async fn assume(
    sources: &Sources,
    own: &Keys,
    role: &str,
    region: &str,
    now: Timestamp,
) -> Result<Keys, String> {
    let address = address(sources, region);
    let body = body("AssumeRole", role, &[]);
    let url = format!("{}/", address.trim_end_matches('/'));
    let what = ToSign {
        method: "POST",
        url: &url,
        headers: &[("content-type", FORM)],
        body: SignableBody::Bytes(body.as_bytes()),
        region,
        service: "sts",
        expires: None,
    };
    let instructions = signed(own, &what, now)?;
    let mut headers = Vec::new();
    for (name, value) in instructions.headers() {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_str(value);
        let (Ok(name), Ok(mut value)) = (name, value) else {
            return Err("the request can't be signed".to_owned());
        };
        value.set_sensitive(true);
        headers.push((name, value));
    }
    ask(&address, body, headers, "a role").await
}

async fn ask(
    address: &str,
    body: Zeroizing<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
    source: &'static str,
) -> Result<Keys, String> {
    let place = Place::new(address, None).map_err(|e| format!("`AWS_ENDPOINT_URL_STS`: {e}"))?;
    let ask = Ask {
        method: Method::POST,
        path: "/".to_owned(),
        headers,
        body: Some((Zeroizing::new(body.as_bytes().to_vec()), FORM)),
        within: PATIENCE,
    };
    let answer = place.ask(ask).await.map_err(|e| e.to_string())?;
    let text = std::str::from_utf8(&answer.body).unwrap_or_default();
    if !answer.is_success() {
        // A word such as `AccessDenied`; the sentence behind it may repeat what was sent.
        let code = within(text, "Code").unwrap_or_default();
        let plain = code.bytes().all(|b| b.is_ascii_alphanumeric()) && code.len() <= 64;
        let code = if plain { code.as_str() } else { "" };
        return Err(format!(
            "the Security Token Service answers {} {code}",
            answer.status
        ));
    }
    keys(text, source).ok_or_else(|| "the answer of the Security Token Service can't be read".to_owned())
}

fn keys(text: &str, source: &'static str) -> Option<Keys> {
    let found = within(text, "Credentials")?;
    let expires: Timestamp = within(&found, "Expiration")?.parse().ok()?;
    Keys::of(
        within(&found, "AccessKeyId"),
        within(&found, "SecretAccessKey"),
        within(&found, "SessionToken"),
        Some(expires),
        source,
    )
}

/// What stands in the first element of a name. Keys and tokens have no character that XML writes otherwise.
fn within(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inside, _) = rest.split_once(&format!("</{name}>"))?;
    Some(inside.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_the_services_answer_and_from_no_other() {
        let answer = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
            <AssumedRoleUser><Arn>a</Arn></AssumedRoleUser><Credentials><AccessKeyId>ASIA1</AccessKeyId>\
            <SecretAccessKey>s/k</SecretAccessKey><SessionToken>\n  t+k==\n</SessionToken>\
            <Expiration>2026-01-01T01:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";
        let found = keys(answer, "a role").unwrap();
        assert_eq!((found.id.as_str(), found.secret.expose()), ("ASIA1", "s/k"));
        assert_eq!(found.token.unwrap().expose(), "t+k==");
        assert_eq!(found.expires.unwrap().to_string(), "2026-01-01T01:00:00Z");
        for bad in [
            String::new(),
            answer.replace("ASIA1", "a b"),
            answer.replace("<Expiration>", "<Expires>"),
            answer.replace("s/k", "s&amp;k <"),
            answer.replace("Credentials>", "Creds>"),
        ] {
            assert!(keys(&bad, "a role").is_none(), "{bad}");
        }
    }

    #[test]
    fn what_is_sent_stays_one_parameter_each() {
        let body = body(
            "AssumeRole",
            "arn:aws:iam::1:role/a&Action=x",
            &[("WebIdentityToken", "a+b&c=d")],
        );
        assert!(body.ends_with(
            "&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fa%26Action%3Dx&WebIdentityToken=a%2Bb%26c%3Dd"
        ));
        let none = Sources::with(&[]);
        assert_eq!(address(&none, "eu-west-1"), "https://sts.eu-west-1.amazonaws.com");
        assert_eq!(
            address(&none, "cn-north-1"),
            "https://sts.cn-north-1.amazonaws.com.cn"
        );
    }
}
