//! Keys to sign with, from where AWS's own tools take them, in their order: the environment, a profile, a web identity, the
//! instance's metadata. (Their documentation: "AWS SDKs and Tools Reference Guide", standardized credential providers.)

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use gateway_core::secret::Secret;
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use jiff::Timestamp;
use serde::Deserialize;

use super::profile::{self, Profile};
use super::settings::Settings;
use super::sts;
use crate::http::{Answer, Ask, Place, secret_header};

const TOKEN_TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const METADATA: &str = "http://169.254.169.254";
/// The metadata service answers at once, where there is one.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Longest text that is a key or a token, in bytes.
const LONGEST: usize = 16 * 1024;

/// Keys.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: Secret,
    pub(super) token: Option<Secret>,
    pub(super) expires: Option<Timestamp>,
    /// Where they are from, for operators.
    pub(super) source: &'static str,
}

impl Keys {
    /// Keys, if they look like such.
    pub(super) fn of(
        id: Option<String>,
        secret: Option<String>,
        token: Option<String>,
        expires: Option<Timestamp>,
        source: &'static str,
    ) -> Option<Self> {
        let good = |text: &String| {
            !text.is_empty() && text.len() <= LONGEST && text.bytes().all(|b| b.is_ascii_graphic())
        };
        Some(Self {
            id: id.filter(good)?,
            secret: Secret::new(secret.filter(good)?),
            token: match token.filter(|token| !token.is_empty()) {
                Some(token) if good(&token) => Some(Secret::new(token)),
                Some(_) => return None,
                None => None,
            },
            expires,
            source,
        })
    }
}

/// The value of an environment variable.
type Variable = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// Where keys may be.
pub(super) struct Sources {
    variable: Box<Variable>,
}

impl Sources {
    /// Where this process finds them.
    pub(super) fn of_the_process() -> Self {
        Self {
            variable: Box::new(|name| std::env::var_os(name)),
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        (self.variable)(name)
            .and_then(|value| value.into_string().ok())
            .filter(|text| !text.is_empty())
    }

    fn path(&self, name: &str, beside_home: &str) -> Option<PathBuf> {
        match (self.variable)(name).filter(|path| !path.is_empty()) {
            Some(path) => Some(path.into()),
            None => (self.variable)("HOME").map(|home| PathBuf::from(home).join(beside_home)),
        }
    }

    /// The keys that a resource is to be reached with; an `Err` is for operators and has none of them.
    pub(super) async fn keys(&self, settings: &Settings, now: Timestamp) -> Result<Keys, String> {
        let own = self.own(settings).await?;
        match &settings.role_arn {
            None => Ok(own),
            Some(role) => sts::assume(self, &own, role, &settings.region, now).await,
        }
    }

    /// Those that this host has.
    async fn own(&self, settings: &Settings) -> Result<Keys, String> {
        let named = settings.profile.clone();
        if named.is_none() {
            let id = self.text("AWS_ACCESS_KEY_ID");
            let secret = self.text("AWS_SECRET_ACCESS_KEY");
            if id.is_some() || secret.is_some() {
                let keys = Keys::of(
                    id,
                    secret,
                    self.text("AWS_SESSION_TOKEN"),
                    None,
                    "the environment",
                );
                return keys
                    .ok_or_else(|| "`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` are no keys".to_owned());
            }
        }
        let chosen = named.clone().or_else(|| self.text("AWS_PROFILE"));
        let files = [
            self.path("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
            self.path("AWS_CONFIG_FILE", ".aws/config"),
        ];
        let name = chosen.clone().unwrap_or_else(|| "default".to_owned());
        match profile::read(&name, files)? {
            Profile::Keys(keys) => return Ok(keys),
            Profile::WebIdentity { role, token_file } => {
                return sts::with_web_identity(self, &role, &token_file, &settings.region).await;
            }
            Profile::Absent if chosen.is_some() => {
                return Err("the profile that is named is in neither of AWS's files".to_owned());
            }
            Profile::Absent => {}
        }
        if let (Some(file), Some(role)) = (
            self.text("AWS_WEB_IDENTITY_TOKEN_FILE"),
            self.text("AWS_ROLE_ARN"),
        ) {
            return sts::with_web_identity(self, &role, &PathBuf::from(file), &settings.region).await;
        }
        let disabled = self.text("AWS_EC2_METADATA_DISABLED");
        if disabled.is_some_and(|word| word.eq_ignore_ascii_case("true")) {
            return Err("there are no keys in the environment, in a profile or by a web identity".to_owned());
        }
        self.of_the_instance().await
    }

    /// Those of the instance's role, by version 2 of the metadata service.
    async fn of_the_instance(&self) -> Result<Keys, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Found {
            code: Option<String>,
            access_key_id: Option<String>,
            secret_access_key: Option<String>,
            token: Option<String>,
            expiration: Option<Timestamp>,
        }
        const PATH: &str = "/latest/meta-data/iam/security-credentials/";
        let address = self.text("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        let place = Place::metadata(address.as_deref().unwrap_or(METADATA))
            .map_err(|e| format!("`AWS_EC2_METADATA_SERVICE_ENDPOINT`: {e}"))?;
        let nowhere = |why: &str| {
            format!(
                "there are no keys in the environment, in a profile or by a web identity, and the instance's metadata gives none: {why}"
            )
        };
        let ask =
            async |method: Method, path: &str, header: (HeaderName, HeaderValue)| -> Result<Answer, String> {
                let ask = Ask {
                    method,
                    path: path.to_owned(),
                    headers: vec![header],
                    body: None,
                    within: AT_ONCE,
                };
                let answer = place.ask(ask).await.map_err(|e| nowhere(&e.to_string()))?;
                match answer.is_success() {
                    true => Ok(answer),
                    false => Err(nowhere(&format!("it answers {}", answer.status))),
                }
            };
        let strange = || nowhere("its answer can't be read");
        let ttl = (TOKEN_TTL, HeaderValue::from_static("300"));
        let answer = ask(Method::PUT, "/latest/api/token", ttl).await?;
        let token = std::str::from_utf8(&answer.body)
            .ok()
            .and_then(|text| secret_header(text.trim()));
        let token = token.filter(|token| !token.is_empty()).ok_or_else(strange)?;
        let answer = ask(Method::GET, PATH, (TOKEN, token.clone())).await?;
        let good =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'=' | b',' | b'.' | b'@' | b'-' | b'_');
        let role = std::str::from_utf8(&answer.body)
            .ok()
            .and_then(|text| text.lines().next());
        let role = role
            .map(str::trim)
            .filter(|role| (1..=128).contains(&role.len()) && role.bytes().all(good))
            .ok_or_else(|| nowhere("the instance has no role"))?;
        let answer = ask(Method::GET, &format!("{PATH}{role}"), (TOKEN, token)).await?;
        let found: Found = serde_json::from_slice(&answer.body).map_err(|_| strange())?;
        if found.code.is_some_and(|code| code != "Success") {
            return Err(nowhere("it has no keys for the instance's role now"));
        }
        let expires = found.expiration.ok_or_else(strange)?;
        Keys::of(
            found.access_key_id,
            found.secret_access_key,
            found.token,
            Some(expires),
            "the instance's metadata",
        )
        .ok_or_else(strange)
    }
}

#[cfg(test)]
impl Sources {
    /// An environment of a test's own.
    pub(super) fn with(variables: &[(&str, &str)]) -> Self {
        let all: std::collections::HashMap<String, OsString> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), OsString::from(value)))
            .collect();
        Self {
            variable: Box::new(move |name| all.get(name).cloned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(profile: Option<&str>) -> Settings {
        Settings {
            username: "app".to_owned(),
            region: "eu-west-1".to_owned(),
            profile: profile.map(str::to_owned),
            role_arn: None,
            host: "db.example:5432".to_owned(),
        }
    }

    #[tokio::test]
    async fn the_environment_comes_first_and_a_named_profile_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("credentials");
        std::fs::write(&file, "[default]\naws_access_key_id = D\naws_secret_access_key = d\n[app]\naws_access_key_id = P\naws_secret_access_key = p\n").unwrap();
        let file = file.to_str().unwrap();
        let config = dir.path().join("none");
        let base = [
            ("AWS_SHARED_CREDENTIALS_FILE", file),
            ("AWS_CONFIG_FILE", config.to_str().unwrap()),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        let env = [
            ("AWS_ACCESS_KEY_ID", "E"),
            ("AWS_SECRET_ACCESS_KEY", "e"),
            ("AWS_SESSION_TOKEN", "t"),
        ];
        let all: Vec<_> = base.iter().chain(&env).copied().collect();
        let own = async |variables: &[(&str, &str)], profile: Option<&str>| {
            Sources::with(variables)
                .own(&settings(profile))
                .await
                .map(|keys| (keys.id, keys.source))
        };
        assert_eq!(
            own(&all, None).await.unwrap(),
            ("E".to_owned(), "the environment")
        );
        assert_eq!(own(&all, Some("app")).await.unwrap().0, "P");
        assert_eq!(own(&base, None).await.unwrap().0, "D");
        let chosen: Vec<_> = base.iter().copied().chain([("AWS_PROFILE", "app")]).collect();
        assert_eq!(own(&chosen, None).await.unwrap().0, "P");
        assert!(own(&all, Some("nobody")).await.unwrap_err().contains("neither"));
        let half: Vec<_> = base.iter().copied().chain([("AWS_ACCESS_KEY_ID", "E")]).collect();
        assert!(own(&half, None).await.unwrap_err().contains("are no keys"));
        assert!(
            own(&base[1..], None)
                .await
                .unwrap_err()
                .contains("there are no keys")
        );
    }
}
