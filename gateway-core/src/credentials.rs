//! Credentials for targets: the seam to their issuers, and static logins, read from where they live each time they are
//! needed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use crate::adapter::ConfigProblem;
use crate::resource::{Resource, SecretSource};

mod issuer;
mod keeper;
mod source;

pub use keeper::{KeptSecret, SecretKeeper, SecretKeepers};
pub use source::SECRET_BYTES;

pub use issuer::{
    CredentialError, CredentialIssuer, Issued, Issuers, Lease, LeaseRecord, LeaseRequest, LeaseState,
    LeaseStore, NoJournal, Slot,
};

/// The kind of [`StaticCredentials`].
pub const STATIC: &str = "static";

/// The issuer of `credential = { kind = "static", ... }`: a login that exists already.
#[derive(Debug, Default, Clone, Copy)]
pub struct StaticCredentials;

/// `{ kind = "static", username = ..., password = ... }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StaticLogin {
    username: String,
    #[serde(default)]
    password: Option<SecretSource>,
}

impl StaticCredentials {
    fn settings(resource: &Resource) -> Result<StaticLogin, ConfigProblem> {
        let wrong = |key: &str, what: &str| ConfigProblem(format!("credential.{key}: {what}"));
        let settings = &resource.credential.settings;
        if let Some(password) = settings.get("password")
            && SecretSource::deserialize(password).is_err()
        {
            return Err(wrong("password", SecretSource::FORM));
        }
        match resource.credential.username() {
            Some(username) if !username.is_empty() => {}
            _ => return Err(wrong("username", "is missing, empty or no text")),
        }
        if let Some(key) = settings
            .keys()
            .find(|key| !["username", "password"].contains(&key.as_str()))
        {
            return Err(wrong(
                key,
                "there is no such key; a static login has `username` and `password`",
            ));
        }
        let read = resource.credential.read();
        read.map_err(|_| {
            ConfigProblem("credential: must have `username` and, where one is asked for, `password`".into())
        })
    }

    async fn read(resource: &Resource) -> Result<Lease, CredentialError> {
        let login = Self::settings(resource).map_err(|e| CredentialError::Source(e.to_string()))?;
        let password = match &login.password {
            Some(source) => Some(source.fetch(&resource.credential.keepers).await?),
            None => None,
        };
        Ok(Lease {
            username: login.username,
            password,
            issued: None,
        })
    }
}

#[async_trait]
impl CredentialIssuer for StaticCredentials {
    fn kind(&self) -> &'static str {
        STATIC
    }

    fn check(&self, resource: &Resource) -> Result<(), ConfigProblem> {
        Self::settings(resource).map(drop)
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
