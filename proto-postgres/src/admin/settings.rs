//! What the settings of credentials have in common that are made with an admin login. An error names the key and tells nothing of
//! its value: it may be a secret in a wrong place.

use std::time::Duration;

use gateway_core::adapter::ConfigProblem;
use gateway_core::credentials::{CredentialError, Lease, SecretKeepers};
use gateway_core::limits::duration;
use gateway_core::resource::{CredentialConfig, SecretSource};
use serde::Deserialize;
use serde_json::{Map, Value};

/// For how long a credential is good unless it is renewed, where nothing else is said.
pub(crate) const TTL: Duration = Duration::from_secs(15 * 60);
/// Shortest and longest `ttl`.
const TTLS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));

/// `ttl`.
pub(crate) fn ttl(settings: &Map<String, Value>) -> Result<Duration, ConfigProblem> {
    let wrong = || {
        wrong(
            "credential.ttl",
            "must be a duration from 1m to 24h, like \"15m\"",
        )
    };
    time(settings, "ttl", TTLS).map_or(Err(wrong()), |ttl| Ok(ttl.unwrap_or(TTL)))
}

/// A duration, `None` where there is none; an error where it is no duration, or not between these.
pub(crate) fn time(
    settings: &Map<String, Value>,
    key: &str,
    (least, most): (Duration, Duration),
) -> Result<Option<Duration>, ()> {
    let Some(value) = settings.get(key) else {
        return Ok(None);
    };
    let time = value.as_str().and_then(|text| duration::parse(text).ok());
    time.filter(|time| (least..=most).contains(time))
        .map(Some)
        .ok_or(())
}

/// The login that changes roles, and reads the structure.
#[derive(Debug, Clone)]
pub(crate) struct AdminLogin {
    pub(crate) username: String,
    password: Option<SecretSource>,
    keepers: SecretKeepers,
}

impl AdminLogin {
    /// Reads `admin`. Returned beside it is the whole of what stands there, which may have `more` keys.
    pub(crate) fn of<'a>(
        credential: &'a CredentialConfig,
        more: &[&str],
    ) -> Result<(Self, &'a Map<String, Value>), ConfigProblem> {
        let admin = credential.settings.get("admin").and_then(Value::as_object).ok_or_else(|| {
            wrong(
                "credential.admin",
                "must be `{ username = \"...\", password = ... }`: the login that makes and changes the roles",
            )
        })?;
        only(
            admin,
            "credential.admin",
            &[&["username", "password"], more].concat(),
        )?;
        let username = admin.get("username").and_then(Value::as_str);
        let username = username
            .filter(|name| !name.is_empty())
            .ok_or_else(|| wrong("credential.admin.username", "is missing, empty or no text"))?;
        let password = admin.get("password").map(SecretSource::deserialize).transpose();
        let login = Self {
            username: username.to_owned(),
            password: password.map_err(|_| wrong("credential.admin.password", SecretSource::FORM))?,
            keepers: credential.keepers.clone(),
        };
        Ok((login, admin))
    }

    /// It, its password read from where it lives.
    pub(crate) async fn login(&self) -> Result<Lease, CredentialError> {
        let password = match &self.password {
            Some(source) => Some(source.fetch(&self.keepers).await?),
            None => None,
        };
        Ok(Lease {
            username: self.username.clone(),
            password,
            issued: None,
        })
    }
}

/// What is wrong with a key.
pub(crate) fn wrong(key: &str, what: &str) -> ConfigProblem {
    ConfigProblem(format!("{key}: {what}"))
}

/// There are no other keys.
pub(crate) fn only(table: &Map<String, Value>, of: &str, keys: &[&str]) -> Result<(), ConfigProblem> {
    match table.keys().find(|key| !keys.contains(&key.as_str())) {
        None => Ok(()),
        Some(other) => {
            let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
            Err(wrong(
                &format!("{of}.{other}"),
                &format!("there is no such key; there are {}", keys.join(", ")),
            ))
        }
    }
}
