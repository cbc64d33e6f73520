//! Static logins at SSH targets: a password or a private key, read from where it lives each time it is needed. Certificates
//! of the gateway's own are in [`certificate`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gateway_core::adapter::ConfigProblem;
use gateway_core::credentials::{CredentialError, CredentialIssuer, Lease, LeaseRequest};
use gateway_core::resource::{Resource, SecretSource};
use serde::Deserialize;

use crate::adapter::PROTOCOL;
use crate::target::PRIVATE_KEY;

mod certificate;

pub(crate) use certificate::{CERTIFICATE, CertificateLogin, Certified, logins, own_login, serves};

/// The issuer of `credential = { kind = "static", username = ..., private_key = ... }`, or with `password`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StaticLogin;

impl StaticLogin {
    fn source(resource: &Resource) -> Result<(String, SecretSource), ConfigProblem> {
        let wrong = |key: &str, what: &str| ConfigProblem(format!("credential.{key}: {what}"));
        let settings = &resource.credential.settings;
        let Some(username) = resource.credential.username().filter(|name| !name.is_empty()) else {
            return Err(wrong("username", "is missing, empty or no text"));
        };
        let known = ["username", "password", PRIVATE_KEY];
        if let Some(key) = settings.keys().find(|key| !known.contains(&key.as_str())) {
            let what = "there is no such key; a static login has `username`, and `private_key` or `password`";
            return Err(wrong(key, what));
        }
        let (key, value) = match (settings.get(PRIVATE_KEY), settings.get("password")) {
            (Some(value), None) => (PRIVATE_KEY, value),
            (None, Some(value)) => ("password", value),
            _ => return Err(wrong(PRIVATE_KEY, "either this or `password`")),
        };
        let source = SecretSource::deserialize(value).map_err(|_| wrong(key, SecretSource::FORM))?;
        Ok((username.to_owned(), source))
    }

    async fn read(resource: &Resource) -> Result<Lease, CredentialError> {
        let (username, source) =
            Self::source(resource).map_err(|e| CredentialError::Source(e.to_string()))?;
        let secret = source.fetch(&resource.credential.keepers).await?;
        Ok(Lease {
            username,
            // What it is the resource says: see `Proof::of`.
            password: Some(secret),
            issued: None,
        })
    }
}

#[async_trait]
impl CredentialIssuer for StaticLogin {
    fn kind(&self) -> &'static str {
        gateway_core::credentials::STATIC
    }

    fn protocol(&self) -> Option<&'static str> {
        Some(PROTOCOL)
    }

    fn check(&self, resource: &Resource) -> Result<(), ConfigProblem> {
        Self::source(resource).map(drop)
    }

    fn term(&self, _: &Resource) -> Option<Duration> {
        // A static login outlives its sessions.
        None
    }

    async fn lease(&self, request: LeaseRequest<'_>) -> Result<Lease, CredentialError> {
        Self::read(request.resource).await
    }

    async fn own(&self, resource: &Arc<Resource>) -> Result<Lease, CredentialError> {
        Self::read(resource).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::resource;
    use serde_json::json;

    #[test]
    fn a_static_login_has_one_secret_and_the_configuration_none() {
        let mut resource = resource(json!({}));
        let mut check = |settings: serde_json::Value| {
            let serde_json::Value::Object(settings) = settings else {
                panic!("a table")
            };
            resource.credential.settings = settings;
            StaticLogin.check(&resource)
        };
        assert!(check(json!({ "username": "deploy", "private_key": { "file": "/k" } })).is_ok());
        assert!(check(json!({ "username": "deploy", "password": { "env": "P" } })).is_ok());
        for bad in [
            json!({ "username": "deploy" }),
            json!({ "username": "", "password": { "env": "P" } }),
            json!({ "username": "d", "password": { "env": "P" }, "private_key": { "file": "/k" } }),
            json!({ "username": "d", "private_key": "-----BEGIN zeppelin" }),
            json!({ "username": "d", "password": { "env": "P" }, "passphrase": "zeppelin" }),
        ] {
            let told = check(bad.clone()).unwrap_err().to_string();
            assert!(!told.contains("zeppelin"), "{told}");
        }
    }
}
