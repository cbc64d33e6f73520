//! Credentials for targets: the seam to their issuers, and static logins, read from where they live each time they are
//! needed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use crate::adapter::ConfigProblem;
use crate::resource::{Resource, SecretSource};
use crate::secret::Secret;

mod issuer;

pub use issuer::{
    CredentialError, CredentialIssuer, Issuers, Lease, LeaseRecord, LeaseRequest, LeaseState, LeaseStore,
    NoJournal,
};

/// Largest file that holds a secret, in bytes.
pub const SECRET_FILE_BYTES: u64 = 64 * 1024;

impl SecretSource {
    /// What one must look like, for errors.
    pub const FORM: &'static str =
        "must be `{ env = \"NAME\" }` or `{ file = \"path\" }`: the configuration holds no secrets";

    /// Reads the secret. Errors name the place, never what is in it.
    pub fn read(&self) -> Result<Secret, CredentialError> {
        match self {
            Self::Env(name) => match std::env::var(name) {
                Ok(text) if !text.is_empty() => Ok(Secret::new(text)),
                Ok(_) => Err(CredentialError::Source(format!(
                    "the environment variable `{name}` is empty"
                ))),
                Err(_) => Err(CredentialError::Source(format!(
                    "the environment variable `{name}` is not set, or is no UTF-8"
                ))),
            },
            Self::File(path) => {
                let wrong = |why: String| CredentialError::Source(format!("`{}` {why}", path.display()));
                let size = std::fs::metadata(path)
                    .map_err(|e| wrong(format!("cannot be read: {e}")))?
                    .len();
                if size > SECRET_FILE_BYTES {
                    return Err(wrong(format!("is larger than {SECRET_FILE_BYTES} bytes")));
                }
                let mut text =
                    std::fs::read_to_string(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
                if text.ends_with('\n') {
                    text.pop();
                    if text.ends_with('\r') {
                        text.pop();
                    }
                }
                if text.is_empty() {
                    Err(wrong("is empty".to_owned()))
                } else {
                    Ok(Secret::new(text))
                }
            }
        }
    }
}

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

    fn read(resource: &Resource) -> Result<Lease, CredentialError> {
        let login = Self::settings(resource).map_err(|e| CredentialError::Source(e.to_string()))?;
        Ok(Lease {
            username: login.username,
            password: login.password.as_ref().map(SecretSource::read).transpose()?,
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
        Self::read(request.resource)
    }

    async fn own(&self, resource: &Arc<Resource>) -> Result<Lease, CredentialError> {
        Self::read(resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_loses_one_line_end_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "zeppelin \n\n").unwrap();
        assert_eq!(
            SecretSource::File(path.clone()).read().unwrap().expose(),
            "zeppelin \n"
        );
        std::fs::write(&path, "").unwrap();
        let error = SecretSource::File(path).read().unwrap_err().to_string();
        assert!(error.ends_with("is empty"), "{error}");
    }

    #[test]
    fn a_missing_variable_is_named() {
        let error = SecretSource::Env("GW_NO_SUCH_VARIABLE".into())
            .read()
            .unwrap_err()
            .to_string();
        assert!(error.contains("GW_NO_SUCH_VARIABLE"), "{error}");
    }
}
