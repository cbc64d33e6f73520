//! `credential = { kind = "iam", ... }`.

use std::net::IpAddr;

use gateway_core::adapter::ConfigProblem;
use gateway_core::resource::Resource;
use serde_json::Value;

/// The keys of `credential`, and the host that a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) username: String,
    pub(super) region: String,
    pub(super) profile: Option<String>,
    pub(super) role_arn: Option<String>,
    /// `host:port`, as AWS knows it.
    pub(super) host: String,
}

const KEYS: [&str; 5] = ["username", "region", "profile", "role_arn", "host"];
/// Longest text, in bytes.
const LONGEST: usize = 512;

impl Settings {
    /// Reads them. An error names the key and tells nothing of its value: it may be a secret in a wrong place.
    pub(super) fn of(resource: &Resource) -> Result<Self, ConfigProblem> {
        let table = &resource.credential.settings;
        let wrong = |key: &str, what: &str| ConfigProblem(format!("credential.{key}: {what}"));
        if let Some(other) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let keys: Vec<String> = KEYS.iter().map(|key| format!("`{key}`")).collect();
            return Err(wrong(
                other,
                &format!("there is no such key; there are {}", keys.join(", ")),
            ));
        }
        let text = |key: &str, good: fn(&str) -> bool, what: &str| match table.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() <= LONGEST && good(text) => Ok(Some(text.clone())),
            Some(_) => Err(wrong(key, what)),
        };
        let printable = |text: &str| !text.is_empty() && !text.contains(char::is_control);
        let username = text("username", printable, "must be the database's user")?;
        let region = text("region", is_region, "must be a region, such as \"eu-west-1\"")?;
        let host = text("host", is_host, "must be host:port, as AWS names the database")?;
        let host = match host {
            Some(host) => host,
            None if is_host(&resource.address) => resource.address.clone(),
            None => return Err(wrong("host", "is needed, since `address` is no host:port")),
        };
        // The token is a password that the database is told as it is.
        let clear = resource.settings.get("tls").and_then(Value::as_str) == Some("disable");
        if clear && !is_loopback(&resource.address) {
            return Err(wrong(
                "kind",
                "a token would go over the network in clear: take `tls = \"disable\"` out, or write `verify-full`",
            ));
        }
        Ok(Self {
            username: username.ok_or_else(|| wrong("username", "is missing"))?,
            region: region.ok_or_else(|| {
                wrong(
                    "region",
                    "is missing; write the database's, such as \"eu-west-1\"",
                )
            })?,
            profile: text("profile", printable, "must be the name of a profile")?,
            role_arn: text(
                "role_arn",
                is_role,
                "must be the ARN of a role, `arn:aws:iam::...:role/...`",
            )?,
            host,
        })
    }
}

fn is_region(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.len() <= 32 && text.bytes().all(good)
}

fn is_role(text: &str) -> bool {
    text.starts_with("arn:") && text.contains(":role/") && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Host and port, of which a URL can be made.
fn is_host(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match v6 {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(name),
    };
    host && port.parse::<u16>().is_ok_and(|port| port != 0)
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(address: &str, tls: Option<&str>, mut credential: Value) -> Result<Settings, String> {
        credential["kind"] = json!("iam");
        let mut resource =
            json!({ "name": "db", "protocol": "postgres", "address": address, "credential": credential });
        if let Some(tls) = tls {
            resource["tls"] = json!(tls);
        }
        let resource: Resource = serde_json::from_value(resource).unwrap();
        Settings::of(&resource).map_err(|e| e.to_string())
    }

    #[test]
    fn a_token_goes_in_clear_to_this_host_alone() {
        let good = json!({ "username": "app", "region": "eu-west-1" });
        for (address, tls, taken) in [
            ("db.rds.example:5432", None, true),
            ("db.rds.example:5432", Some("verify-full"), true),
            ("db.rds.example:5432", Some("disable"), false),
            ("10.0.0.1:5432", Some("disable"), false),
            ("127.0.0.1:5432", Some("disable"), true),
            ("[::1]:5432", Some("disable"), true),
            ("localhost:5432", Some("disable"), true),
        ] {
            let read = read(address, tls, good.clone());
            assert_eq!(read.is_ok(), taken, "{address} {read:?}");
        }
        let tunnel = read(
            "127.0.0.1:15432",
            None,
            json!({ "username": "app", "region": "eu-west-1", "host": "db.example:5432" }),
        );
        assert_eq!(tunnel.unwrap().host, "db.example:5432");
    }

    #[test]
    fn an_error_names_the_key_and_tells_nothing_of_its_value() {
        for (credential, key) in [
            (json!({ "region": "eu-west-1" }), "credential.username:"),
            (json!({ "username": "app" }), "credential.region:"),
            (
                json!({ "username": "app", "region": "zeppelin/../x" }),
                "credential.region:",
            ),
            (
                json!({ "username": "app", "region": "eu-west-1", "role_arn": "zeppelin" }),
                "credential.role_arn:",
            ),
            (
                json!({ "username": "app", "region": "eu-west-1", "profile": 7 }),
                "credential.profile:",
            ),
            (
                json!({ "username": "app", "region": "eu-west-1", "host": "zeppelin" }),
                "credential.host:",
            ),
            (
                json!({ "username": "app", "region": "eu-west-1", "host": "zeppelin/x:1" }),
                "credential.host:",
            ),
            (
                json!({ "username": "app", "region": "eu-west-1", "password": "zeppelin" }),
                "credential.password:",
            ),
        ] {
            let error = read("db.example:5432", None, credential).unwrap_err();
            assert!(
                error.starts_with(key) && !error.contains("zeppelin"),
                "{key} {error}"
            );
        }
    }
}
