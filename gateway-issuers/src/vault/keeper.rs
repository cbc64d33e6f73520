//! Secrets of KV version 2.

use async_trait::async_trait;
use gateway_core::adapter::ConfigProblem;
use gateway_core::credentials::{CredentialError, KeptSecret, SECRET_BYTES, SecretKeeper};
use gateway_core::secret::Secret;

use super::client::VaultError;
use super::reply::{Reply, Version};
use super::{VAULT, Vaults};
use crate::http::encoded;

/// Longest path and longest key, in bytes.
const LONGEST: usize = 1024;

/// Reads `{ vault = "name", path = "mount/path", key = "..." }`.
#[derive(Debug, Clone)]
pub struct VaultKeeper {
    vaults: Vaults,
}

impl VaultKeeper {
    /// A keeper for these.
    pub fn new(vaults: Vaults) -> Self {
        Self { vaults }
    }
}

/// Where the API has a secret: the first part of a path is the mount.
fn place(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').collect();
    let (mount, rest) = parts.split_first()?;
    let good = |part: &&str| !matches!(*part, "" | "." | "..") && !part.contains(char::is_control);
    if rest.is_empty() || path.len() > LONGEST || !parts.iter().all(good) {
        return None;
    }
    let rest: Vec<String> = rest.iter().map(|part| encoded(part)).collect();
    Some(format!("{}/data/{}", encoded(mount), rest.join("/")))
}

#[async_trait]
impl SecretKeeper for VaultKeeper {
    fn kind(&self) -> &'static str {
        VAULT
    }

    fn check(&self, kept: &KeptSecret) -> Result<(), ConfigProblem> {
        self.vaults
            .get(&kept.name)
            .map_err(|problem| ConfigProblem(format!("vault: {problem}")))?;
        if place(&kept.path).is_none() {
            return Err(ConfigProblem(
                "path: must be the mount of a KV version 2 and a path in it, such as \"secret/orders\""
                    .into(),
            ));
        }
        match kept.key.len() > LONGEST {
            true => Err(ConfigProblem("key: is too long".into())),
            false => Ok(()),
        }
    }

    async fn fetch(&self, kept: &KeptSecret) -> Result<Secret, CredentialError> {
        const DOING: &str = "reading a secret";
        self.check(kept)
            .map_err(|problem| CredentialError::Source(problem.to_string()))?;
        let wrong = |why: &str| CredentialError::Source(format!("{kept}: {why}"));
        let vault = self
            .vaults
            .get(&kept.name)
            .map_err(|problem| wrong(&problem.to_string()))?;
        let path = place(&kept.path).ok_or_else(|| wrong("its path can't be used"))?;
        let answer = vault.get(DOING, &path).await.map_err(|error| match &error {
            VaultError::Refused { status: 404, .. } => wrong(
                "there is no such secret, or its newest version is deleted; is the mount a KV version 2?",
            ),
            error => wrong(&error.to_string()),
        })?;
        let version = Reply::read(&answer.body).and_then(|reply| reply.data::<Version<'_>>());
        let data = version
            .and_then(|version| version.data)
            .ok_or_else(|| wrong("what is there is no secret of a KV version 2"))?;
        let value = data
            .get(&kept.key)
            .ok_or_else(|| wrong("the secret has no such key"))?;
        let text = serde_json::from_str::<String>(value.get()).map_err(|_| wrong("the value is no text"))?;
        match text.len() {
            0 => Err(wrong("the value is empty")),
            size if u64::try_from(size).is_ok_and(|size| size <= SECRET_BYTES) => Ok(Secret::new(text)),
            _ => Err(wrong("the value has more than 65536 bytes")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_into_its_mount_and_nowhere_else() {
        assert_eq!(place("secret/orders").as_deref(), Some("secret/data/orders"));
        assert_eq!(
            place("kv/team a/x?y=1").as_deref(),
            Some("kv/data/team%20a/x%3Fy%3D1")
        );
        for bad in [
            "",
            "secret",
            "secret/",
            "/secret/a",
            "secret//a",
            "secret/../sys/x",
            "secret/.",
            "secret/a\n",
        ] {
            assert_eq!(place(bad), None, "{bad}");
        }
        assert_eq!(place(&format!("secret/{}", "a".repeat(LONGEST))), None);
    }
}
