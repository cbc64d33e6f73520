//! Static credentials, read from where they live each time they are needed.

use std::sync::Arc;

use async_trait::async_trait;

use crate::resource::{CredentialConfig, Resource, SecretSource};
use crate::secret::Secret;
use crate::services::{CredentialError, CredentialIssuer, Lease, LeaseRequest};

/// Largest file that holds a secret, in bytes.
pub const SECRET_FILE_BYTES: u64 = 64 * 1024;

impl SecretSource {
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

/// The issuer of `credential = { kind = "static", ... }`: a login that exists already.
#[derive(Debug, Default, Clone, Copy)]
pub struct StaticCredentials;

impl StaticCredentials {
    fn read(resource: &Resource) -> Result<Lease, CredentialError> {
        let CredentialConfig::Static { username, password } = &resource.credential;
        Ok(Lease {
            id: format!("static:{}", resource.name),
            username: username.clone(),
            password: password.as_ref().map(SecretSource::read).transpose()?,
            expires: None,
        })
    }
}

#[async_trait]
impl CredentialIssuer for StaticCredentials {
    async fn lease(&self, request: LeaseRequest<'_>) -> Result<Lease, CredentialError> {
        Self::read(request.resource)
    }

    async fn own(&self, resource: &Arc<Resource>) -> Result<Lease, CredentialError> {
        Self::read(resource)
    }

    async fn revoke(&self, _: &Arc<Resource>, _: &Lease) -> Result<(), CredentialError> {
        // A static login outlives its sessions.
        Ok(())
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
