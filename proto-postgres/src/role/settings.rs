//! `credential = { kind = "role", ... }`.

use std::time::Duration;

use gateway_core::adapter::ConfigProblem;
use gateway_core::credentials::{CredentialError, Lease, SecretKeepers};
use gateway_core::limits::duration;
use gateway_core::resource::{Resource, SecretSource};
use serde::Deserialize;
use serde_json::{Map, Value};

/// For how long a role is good unless it is renewed, where nothing else is said.
const TTL: Duration = Duration::from_secs(15 * 60);
/// Shortest and longest `ttl`.
const TTLS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));

/// What becomes of objects that a session has made and left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owned {
    /// They belong to the admin login from then on.
    Keep,
    /// They are dropped.
    Drop,
}

/// The keys of `credential`.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// For how long a role is good unless it is renewed.
    pub(crate) ttl: Duration,
    /// What becomes of what sessions have made.
    pub(crate) owned: Owned,
    username: String,
    password: Option<SecretSource>,
    keepers: SecretKeepers,
}

impl Settings {
    /// Reads them. An error names the key and tells nothing of its value: it may be a secret in a wrong place.
    pub(crate) fn of(resource: &Resource) -> Result<Self, ConfigProblem> {
        let settings = &resource.credential.settings;
        only(settings, "credential", &["ttl", "owned", "admin"])?;
        let ttl = match settings.get("ttl") {
            None => TTL,
            Some(value) => value
                .as_str()
                .and_then(|text| duration::parse(text).ok())
                .filter(|ttl| (TTLS.0..=TTLS.1).contains(ttl))
                .ok_or_else(|| {
                    wrong(
                        "credential.ttl",
                        "must be a duration from 1m to 24h, like \"15m\"",
                    )
                })?,
        };
        let owned = match settings.get("owned").map(Value::as_str) {
            None | Some(Some("keep")) => Owned::Keep,
            Some(Some("drop")) => Owned::Drop,
            Some(_) => return Err(wrong("credential.owned", "must be \"keep\" or \"drop\"")),
        };
        let admin = settings.get("admin").and_then(Value::as_object).ok_or_else(|| {
            wrong(
                "credential.admin",
                "must be `{ username = \"...\", password = ... }`: the login that makes the roles",
            )
        })?;
        only(admin, "credential.admin", &["username", "password"])?;
        let username = admin.get("username").and_then(Value::as_str);
        let username = username
            .filter(|name| !name.is_empty())
            .ok_or_else(|| wrong("credential.admin.username", "is missing, empty or no text"))?;
        let password = admin.get("password").map(SecretSource::deserialize).transpose();
        Ok(Self {
            ttl,
            owned,
            username: username.to_owned(),
            password: password.map_err(|_| wrong("credential.admin.password", SecretSource::FORM))?,
            keepers: resource.credential.keepers.clone(),
        })
    }

    /// The admin login, its password read from where it lives.
    pub(crate) async fn admin(&self) -> Result<Lease, CredentialError> {
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

fn wrong(key: &str, what: &str) -> ConfigProblem {
    ConfigProblem(format!("{key}: {what}"))
}

fn only(table: &Map<String, Value>, of: &str, keys: &[&str]) -> Result<(), ConfigProblem> {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(mut credential: Value) -> Result<Settings, String> {
        credential["kind"] = json!("role");
        let resource: Resource = serde_json::from_value(json!({
            "name": "db", "protocol": "postgres", "address": "127.0.0.1:1", "credential": credential,
        }))
        .unwrap();
        Settings::of(&resource).map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn what_is_not_said_has_a_default() {
        let settings = read(json!({ "admin": { "username": "gateway" } })).unwrap();
        assert_eq!((settings.ttl, settings.owned), (TTL, Owned::Keep));
        let settings = read(json!({ "ttl": "1h", "owned": "drop", "admin": {
            "username": "gateway", "password": { "env": "GW_NO_SUCH_VARIABLE" } } }))
        .unwrap();
        assert_eq!(
            (settings.ttl, settings.owned),
            (Duration::from_secs(3600), Owned::Drop)
        );
        assert!(
            settings
                .admin()
                .await
                .unwrap_err()
                .to_string()
                .contains("GW_NO_SUCH_VARIABLE")
        );
    }

    #[test]
    fn an_error_names_the_key_and_tells_nothing_of_its_value() {
        let admin = json!({ "username": "gateway" });
        for (credential, key) in [
            (json!({}), "credential.admin:"),
            (json!({ "admin": "zeppelin" }), "credential.admin:"),
            (
                json!({ "admin": { "password": "zeppelin", "username": "g" } }),
                "credential.admin.password:",
            ),
            (
                json!({ "admin": { "password": { "env": "A", "zeppelin": "x" }, "username": "g" } }),
                "credential.admin.password:",
            ),
            (
                json!({ "admin": { "username": 7 } }),
                "credential.admin.username:",
            ),
            (
                json!({ "admin": { "username": "g", "role": "zeppelin" } }),
                "credential.admin.role:",
            ),
            (json!({ "admin": admin, "ttl": "zeppelin" }), "credential.ttl:"),
            (json!({ "admin": admin, "ttl": "59s" }), "credential.ttl:"),
            (json!({ "admin": admin, "ttl": "25h" }), "credential.ttl:"),
            (
                json!({ "admin": admin, "owned": "zeppelin" }),
                "credential.owned:",
            ),
            (
                json!({ "admin": admin, "password": "zeppelin" }),
                "credential.password:",
            ),
        ] {
            let error = read(credential).unwrap_err();
            assert!(error.starts_with(key), "{error}");
            assert!(!error.contains("zeppelin"), "{error}");
        }
    }
}
