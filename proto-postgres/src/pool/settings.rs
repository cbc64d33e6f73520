//! `credential = { kind = "pool", ... }`.

use std::collections::BTreeSet;
use std::time::Duration;

use gateway_core::adapter::ConfigProblem;
use gateway_core::resource::Resource;
use serde_json::Value;

use crate::admin::quote::identifier;
use crate::admin::settings::{AdminLogin, only, time, ttl, wrong};
use crate::target::split_address;

/// How long a login waits for a role that is free, where nothing else is said.
const WAIT: Duration = Duration::from_secs(5);
/// Shortest and longest `wait`.
const WAITS: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(60));
/// Roles of one pool.
const MAX_ROLES: usize = 256;

/// The keys of `credential`.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// For how long a role's password is good unless it is renewed.
    pub(crate) ttl: Duration,
    /// How long a login waits for a role that is free.
    pub(crate) wait: Duration,
    /// The roles.
    pub(crate) roles: Vec<String>,
    /// The login that changes them.
    pub(crate) admin: AdminLogin,
    /// Where they are changed, if not at the target.
    pub(crate) primary: Option<String>,
}

impl Settings {
    /// Reads them. An error names the key and tells nothing of its value: it may be a secret in a wrong place.
    pub(crate) fn of(resource: &Resource) -> Result<Self, ConfigProblem> {
        let settings = &resource.credential.settings;
        only(settings, "credential", &["ttl", "roles", "wait", "admin"])?;
        let (admin, of_admin) = AdminLogin::of(&resource.credential, &["address"])?;
        let primary = match of_admin.get("address") {
            None => None,
            Some(value) => {
                let address = value.as_str().filter(|address| split_address(address).is_some());
                let address =
                    address.ok_or_else(|| wrong("credential.admin.address", "must be \"host:port\""))?;
                Some(address.to_owned()).filter(|address| *address != resource.address)
            }
        };
        let wait = time(settings, "wait", WAITS)
            .map_err(|()| wrong("credential.wait", "must be a duration of at most 1m, like \"5s\""))?;
        Ok(Self {
            ttl: ttl(settings)?,
            wait: wait.unwrap_or(WAIT),
            roles: roles(settings.get("roles"), &admin.username)?,
            admin,
            primary,
        })
    }
}

fn roles(value: Option<&Value>, admin: &str) -> Result<Vec<String>, ConfigProblem> {
    let problem = |what: &str| wrong("credential.roles", what);
    let form = "must be a list of the names of 1 to 256 roles, like [\"app_1\", \"app_2\"]";
    let list = value.and_then(Value::as_array).ok_or_else(|| problem(form))?;
    if list.is_empty() || list.len() > MAX_ROLES {
        return Err(problem(form));
    }
    let mut seen = BTreeSet::new();
    for name in list {
        let name = name.as_str().ok_or_else(|| problem(form))?;
        let reserved = name.starts_with("pg_") || matches!(name, "public" | "none");
        if reserved || name.chars().any(char::is_control) || identifier(name).is_err() {
            return Err(problem(
                "one is no name of a role: 1 to 63 bytes, not public, none or pg_..., no control characters",
            ));
        }
        if name == admin {
            return Err(problem(
                "the admin login is among them; sessions need roles of their own",
            ));
        }
        if !seen.insert(name) {
            return Err(problem("one stands there twice"));
        }
    }
    Ok(seen.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(mut credential: Value) -> Result<Settings, String> {
        credential["kind"] = json!("pool");
        let resource: Resource = serde_json::from_value(json!({
            "name": "db", "protocol": "postgres", "address": "127.0.0.1:1", "credential": credential,
        }))
        .unwrap();
        Settings::of(&resource).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let settings = read(json!({ "roles": ["b", "a"], "admin": { "username": "gateway" } })).unwrap();
        assert_eq!(settings.ttl, Duration::from_secs(900));
        assert_eq!((settings.wait, settings.primary), (WAIT, None));
        assert_eq!(settings.roles, ["a", "b"]);
        let settings = read(json!({ "roles": ["a"], "wait": "0s", "ttl": "1h",
            "admin": { "username": "gateway", "address": "primary:5432" } }))
        .unwrap();
        assert_eq!(
            (settings.wait, settings.primary.as_deref()),
            (Duration::ZERO, Some("primary:5432"))
        );
        // The target itself.
        let settings =
            read(json!({ "roles": ["a"], "admin": { "username": "g", "address": "127.0.0.1:1" } }));
        assert_eq!(settings.unwrap().primary, None);
    }

    #[test]
    fn an_error_names_the_key_and_tells_nothing_of_its_value() {
        let admin = json!({ "username": "gateway" });
        let many: Vec<String> = (0..257).map(|n| format!("zeppelin{n}")).collect();
        let of = |roles: Value| json!({ "admin": admin, "roles": roles });
        for (credential, key) in [
            (json!({ "admin": admin }), "credential.roles:"),
            (of(json!("zeppelin")), "credential.roles:"),
            (of(json!([])), "credential.roles:"),
            (of(json!(many)), "credential.roles:"),
            (of(json!(["zeppelin", 7])), "credential.roles:"),
            (of(json!(["zeppelin", "zeppelin"])), "credential.roles:"),
            (of(json!(["pg_zeppelin"])), "credential.roles:"),
            (of(json!(["zeppelin\n"])), "credential.roles:"),
            (of(json!(["public"])), "credential.roles:"),
            (of(json!([""])), "credential.roles:"),
            (of(json!(["zeppelin".repeat(8)])), "credential.roles:"),
            (of(json!(["gateway"])), "credential.roles: the admin login"),
            (json!({ "roles": ["a"] }), "credential.admin:"),
            (
                json!({ "roles": ["a"], "admin": { "username": "g", "address": "zeppelin" } }),
                "credential.admin.address:",
            ),
            (
                json!({ "roles": ["a"], "admin": admin, "wait": "zeppelin" }),
                "credential.wait:",
            ),
            (
                json!({ "roles": ["a"], "admin": admin, "wait": "61s" }),
                "credential.wait:",
            ),
            (
                json!({ "roles": ["a"], "admin": admin, "ttl": "59s" }),
                "credential.ttl:",
            ),
            (
                json!({ "roles": ["a"], "admin": admin, "password": "zeppelin" }),
                "credential.password:",
            ),
            (
                json!({ "roles": ["a"], "admin": admin, "owned": "keep" }),
                "credential.owned:",
            ),
        ] {
            let error = read(credential).unwrap_err();
            assert!(error.starts_with(key), "{error}");
            assert!(!error.contains("zeppelin"), "{error}");
        }
    }
}
