//! Logins that the gateway's own user CA certifies, for each connection anew.
//!
//! The lease says who logs in where, and until when; the certificate itself is made where the connection is, since it tells
//! what that connection may: see [`crate::authority`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gateway_core::adapter::ConfigProblem;
use gateway_core::credentials::{CredentialError, CredentialIssuer, Lease, LeaseRequest};
use gateway_core::limits::duration;
use gateway_core::resource::{CredentialConfig, Resource};
use serde_json::Value;

use crate::adapter::PROTOCOL;
use crate::login::is_login;

/// The `kind` of `credential`.
pub(crate) const CERTIFICATE: &str = "certificate";
/// The setting that names the logins.
const PRINCIPALS: &str = "principals";
/// Most logins, and most addresses.
const MOST: usize = 64;
/// How long a certificate is valid where nothing else is said, and the shortest and longest that may be said.
const TTL: Duration = Duration::from_secs(5 * 60);
const TTLS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));

/// `credential = { kind = "certificate", ... }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certified {
    /// The logins for which certificates are made; at least one.
    pub(crate) principals: Vec<String>,
    /// For how long a certificate is valid.
    pub(crate) ttl: Duration,
    /// `source-address`: addresses and networks, parted by commas.
    pub(crate) source_address: Option<String>,
    /// Whether a command's certificate is good for that command alone.
    pub(crate) force_command: bool,
}

impl Certified {
    /// Reads and checks the settings; `None` where the credential is of another kind.
    pub(crate) fn of(credential: &CredentialConfig) -> Option<Result<Self, ConfigProblem>> {
        (credential.kind == CERTIFICATE).then(|| Self::read(credential))
    }

    fn read(credential: &CredentialConfig) -> Result<Self, ConfigProblem> {
        let wrong = |key: &str, what: &str| ConfigProblem(format!("credential.{key}: {what}"));
        let settings = &credential.settings;
        let known = [PRINCIPALS, "ttl", "source_address", "force_command"];
        if let Some(key) = settings.keys().find(|key| !known.contains(&key.as_str())) {
            let what = "there is no such key; a certificate has `principals`, `ttl`, `source_address` and `force_command`";
            return Err(wrong(key, what));
        }
        let principals = settings.get(PRINCIPALS).and_then(texts).unwrap_or_default();
        if principals.is_empty() || principals.len() > MOST || !principals.iter().all(|name| is_login(name)) {
            let what = format!("must be a list of 1 to {MOST} logins at the target, like [\"deploy\"]");
            return Err(wrong(PRINCIPALS, &what));
        }
        let ttl = match settings.get("ttl") {
            None => TTL,
            Some(value) => value
                .as_str()
                .and_then(|text| duration::parse(text).ok())
                .filter(|ttl| (TTLS.0..=TTLS.1).contains(ttl))
                .ok_or_else(|| wrong("ttl", "must be a duration from 1m to 24h, like \"5m\""))?,
        };
        let source_address = match settings.get("source_address") {
            None => None,
            Some(value) => texts(value)
                .filter(|list| (1..=MOST).contains(&list.len()) && list.iter().all(|text| is_network(text)))
                .map(|list| Some(list.join(",")))
                .ok_or_else(|| {
                    let what = "must be a list of addresses and networks from which the gateway comes, like [\"10.0.0.0/8\"], \
                                without bits behind the prefix";
                    wrong("source_address", what)
                })?,
        };
        let force_command = match settings.get("force_command") {
            None => false,
            Some(Value::Bool(forced)) => *forced,
            Some(_) => return Err(wrong("force_command", "must be true or false")),
        };
        Ok(Self {
            principals,
            ttl,
            source_address,
            force_command,
        })
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    let list = value.as_array()?.iter();
    list.map(|text| text.as_str().map(str::to_owned)).collect()
}

/// As sshd wants it: an address, or a network whose bits behind the prefix are zero.
fn is_network(text: &str) -> bool {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let Some(prefix) = prefix else { return true };
    let plain = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let Some(prefix) = prefix.parse::<u32>().ok().filter(|_| plain) else {
        return false;
    };
    // What is shifted out whole has no bits left.
    match address {
        IpAddr::V4(v4) => prefix <= 32 && u32::from(v4).checked_shl(prefix).unwrap_or(0) == 0,
        IpAddr::V6(v6) => prefix <= 128 && u128::from(v6).checked_shl(prefix).unwrap_or(0) == 0,
    }
}

/// The login that a client gets who asks for none: the credential's only one, or its first.
pub(crate) fn own_login(credential: &CredentialConfig) -> Option<&str> {
    match credential.kind == CERTIFICATE {
        true => credential.settings.get(PRINCIPALS)?.as_array()?.first()?.as_str(),
        false => credential.username(),
    }
}

/// Every login that a client may ask for without being refused because of the credential; one alone where that has one.
pub(crate) fn logins(credential: &CredentialConfig) -> Vec<&str> {
    let principals = credential
        .settings
        .get(PRINCIPALS)
        .filter(|_| credential.kind == CERTIFICATE);
    match principals.and_then(serde_json::Value::as_array) {
        Some(principals) => principals.iter().filter_map(serde_json::Value::as_str).collect(),
        None => credential.username().into_iter().collect(),
    }
}

/// Whether certificates are made for this login; true where the credential is none.
pub(crate) fn serves(credential: &CredentialConfig, login: &str) -> bool {
    match Certified::of(credential) {
        None => true,
        Some(certified) => certified.is_ok_and(|it| it.principals.iter().any(|name| name == login)),
    }
}

/// The issuer of `credential = { kind = "certificate", principals = [...], ttl = "5m" }`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CertificateLogin;

impl CertificateLogin {
    fn read(resource: &Resource) -> Result<Certified, CredentialError> {
        match Certified::of(&resource.credential) {
            Some(certified) => certified.map_err(|e| CredentialError::Source(e.to_string())),
            None => Err(CredentialError::Source("is no certificate".to_owned())),
        }
    }

    fn lease(login: &str) -> Lease {
        Lease {
            username: login.to_owned(),
            password: None,
            issued: None,
        }
    }
}

#[async_trait]
impl CredentialIssuer for CertificateLogin {
    fn kind(&self) -> &'static str {
        CERTIFICATE
    }

    fn protocol(&self) -> Option<&'static str> {
        Some(PROTOCOL)
    }

    fn check(&self, resource: &Resource) -> Result<(), ConfigProblem> {
        Certified::read(&resource.credential).map(drop)
    }

    // There is nothing to take back: each certificate ends by itself, and no key of one is kept.
    fn term(&self, resource: &Resource) -> Option<Duration> {
        Some(Self::read(resource).map_or(TTL, |certified| certified.ttl))
    }

    async fn lease(&self, request: LeaseRequest<'_>) -> Result<Lease, CredentialError> {
        let certified = Self::read(request.resource)?;
        let own = own_login(&request.resource.credential);
        let login = request.place.or(own).unwrap_or_default();
        if !certified.principals.iter().any(|name| name == login) {
            let why = format!("`{login}` is not among the credential's `principals`");
            return Err(CredentialError::Place(why));
        }
        Ok(Self::lease(login))
    }

    async fn own(&self, resource: &Arc<Resource>) -> Result<Lease, CredentialError> {
        Self::read(resource)?;
        Ok(Self::lease(own_login(&resource.credential).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::resource;
    use serde_json::json;

    fn credential(settings: Value) -> CredentialConfig {
        let Value::Object(settings) = settings else {
            panic!("a table")
        };
        let mut credential = resource(json!({})).credential;
        (credential.kind, credential.settings) = (CERTIFICATE.to_owned(), settings);
        credential
    }

    #[test]
    fn settings_that_are_not_understood_whole_are_refused() {
        let least = credential(json!({ "principals": ["deploy", "ops"] }));
        let read = Certified::of(&least).unwrap().unwrap();
        assert_eq!(
            (read.ttl, read.force_command, read.source_address),
            (TTL, false, None)
        );
        assert_eq!(own_login(&least), Some("deploy"));
        assert_eq!(logins(&least), ["deploy", "ops"]);
        assert_eq!(logins(&resource(json!({})).credential), ["deploy"]);
        assert!(serves(&least, "ops") && !serves(&least, "root"));
        for bad in [
            json!({}),
            json!({ "principals": [] }),
            json!({ "principals": "deploy" }),
            json!({ "principals": ["a b"] }),
            json!({ "principals": [1] }),
            json!({ "principals": ["deploy"], "ttl": "59s" }),
            json!({ "principals": ["deploy"], "ttl": "25h" }),
            json!({ "principals": ["deploy"], "ttl": 300 }),
            json!({ "principals": ["deploy"], "source_address": "10.0.0.0/8" }),
            json!({ "principals": ["deploy"], "source_address": [] }),
            json!({ "principals": ["deploy"], "force_command": "true" }),
            json!({ "principals": ["deploy"], "username": "deploy" }),
        ] {
            assert!(Certified::of(&credential(bad.clone())).unwrap().is_err(), "{bad}");
            assert!(!serves(&credential(bad), "root"));
        }
    }

    #[test]
    fn a_network_is_one_that_sshd_takes() {
        for good in [
            "10.0.0.0/8",
            "10.1.2.3",
            "10.1.2.3/32",
            "0.0.0.0/0",
            "::1",
            "fd00::/8",
            "::/0",
            "::1/128",
        ] {
            assert!(is_network(good), "{good}");
        }
        for bad in [
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/8,::/0",
            "fd00::1/8",
            "::/129",
            "gw",
            "!::1",
            "",
        ] {
            assert!(!is_network(bad), "{bad}");
        }
    }
}
