//! `credential = { kind = "role", ... }`.

use std::time::Duration;

use gateway_core::adapter::ConfigProblem;
use gateway_core::resource::Resource;
use serde_json::Value;

use crate::admin::settings::{AdminLogin, only, ttl, wrong};

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
    /// The login that makes the roles.
    pub(crate) admin: AdminLogin,
}

impl Settings {
    /// Reads them. An error names the key and tells nothing of its value: it may be a secret in a wrong place.
    pub(crate) fn of(resource: &Resource) -> Result<Self, ConfigProblem> {
        let settings = &resource.credential.settings;
        only(settings, "credential", &["ttl", "owned", "admin"])?;
        let owned = match settings.get("owned").map(Value::as_str) {
            None | Some(Some("keep")) => Owned::Keep,
            Some(Some("drop")) => Owned::Drop,
            Some(_) => return Err(wrong("credential.owned", "must be \"keep\" or \"drop\"")),
        };
        let (admin, _) = AdminLogin::of(&resource.credential, &[])?;
        Ok(Self {
            ttl: ttl(settings)?,
            owned,
            admin,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admin::settings::TTL;

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
                .admin
                .login()
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
