//! A key of Vault's transit engine, with which a key of ours is wrapped: it is kept by us, and readable only by asking Vault.
//!
//! Source: the published HTTP API (`/v1/<mount>/encrypt/<key>`, `decrypt`, `rewrap`).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_core::adapter::ConfigProblem;
use gateway_core::credentials::CredentialError;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::Vaults;
use super::client::VaultError;
use super::reply::Reply;
use crate::http::encoded;

/// Longest wrapped key, in bytes.
pub const WRAPPED: usize = 4096;

/// `{ vault = "name", transit = "mount/key" }`.
#[derive(Debug, Clone)]
pub struct Transit {
    vaults: Vaults,
    vault: String,
    mount: String,
    key: String,
}

#[derive(Deserialize)]
struct Wrapped {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Plain<'a> {
    // Borrowed of the answer, which is wiped: base64 has nothing that JSON would write otherwise but `/`, which it need not.
    plaintext: Cow<'a, str>,
}

impl Transit {
    /// The key at `path` of that `[[vault]]`.
    ///
    /// # Errors
    ///
    /// There is no such `[[vault]]`, or the path is none.
    pub fn new(vaults: Vaults, vault: &str, path: &str) -> Result<Self, ConfigProblem> {
        vaults.get(vault)?;
        let good = |part: &str| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        match path.split_once('/') {
            Some((mount, key)) if good(mount) && good(key) && path.len() <= 256 => Ok(Self {
                vaults,
                vault: vault.to_owned(),
                mount: mount.to_owned(),
                key: key.to_owned(),
            }),
            _ => Err(ConfigProblem(
                "must be the mount of a transit engine and the name of a key in it, such as \"transit/gateway\"".into(),
            )),
        }
    }

    /// The key of ours as it may be kept.
    ///
    /// # Errors
    ///
    /// Vault does not wrap it; the error says why.
    pub async fn wrap(&self, key: &[u8; 32]) -> Result<String, CredentialError> {
        const DOING: &str = "wrapping a key";
        let plain = STANDARD.encode(key);
        let body = json!({ "plaintext": plain });
        let answer = self.ask(DOING, "encrypt", body).await?;
        let read = Reply::read(&answer).and_then(|reply| reply.data::<Wrapped>());
        self.checked(DOING, read.map(|wrapped| wrapped.ciphertext))
    }

    /// What was wrapped.
    ///
    /// # Errors
    ///
    /// Vault does not unwrap it, or it was no key.
    pub async fn unwrap(&self, wrapped: &str) -> Result<Zeroizing<[u8; 32]>, CredentialError> {
        const DOING: &str = "unwrapping a key";
        let answer = self
            .ask(DOING, "decrypt", json!({ "ciphertext": wrapped }))
            .await?;
        let read = Reply::read(&answer).and_then(|reply| reply.data::<Plain<'_>>());
        let bytes = read.and_then(|plain| STANDARD.decode(plain.plaintext.as_bytes()).ok());
        let bytes = bytes.map(Zeroizing::new);
        let key = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
        key.map(Zeroizing::new).ok_or_else(|| self.malformed(DOING))
    }

    /// The same key, wrapped with the newest version of Vault's.
    ///
    /// # Errors
    ///
    /// Vault does not rewrap it.
    pub async fn rewrap(&self, wrapped: &str) -> Result<String, CredentialError> {
        const DOING: &str = "wrapping a key anew";
        let answer = self
            .ask(DOING, "rewrap", json!({ "ciphertext": wrapped }))
            .await?;
        let read = Reply::read(&answer).and_then(|reply| reply.data::<Wrapped>());
        self.checked(DOING, read.map(|wrapped| wrapped.ciphertext))
    }

    async fn ask(
        &self,
        doing: &'static str,
        verb: &str,
        body: serde_json::Value,
    ) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
        let vault = self
            .vaults
            .get(&self.vault)
            .map_err(|problem| CredentialError::Source(format!("vault: {problem}")))?;
        let path = format!("{}/{verb}/{}", encoded(&self.mount), encoded(&self.key));
        let answer = vault.post(doing, &path, &body).await;
        let answer = answer.map_err(|error| vault.failed(&error))?;
        Ok(answer.body)
    }

    fn checked(&self, doing: &'static str, wrapped: Option<String>) -> Result<String, CredentialError> {
        wrapped
            .filter(|text| {
                text.starts_with("vault:")
                    && text.len() <= WRAPPED
                    && text.bytes().all(|byte| byte.is_ascii_graphic())
            })
            .ok_or_else(|| self.malformed(doing))
    }

    fn malformed(&self, doing: &'static str) -> CredentialError {
        let error = VaultError::Malformed(doing);
        CredentialError::Issuer(format!("vault `{}`: {error}", self.vault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::{Auth, VaultSettings};
    use gateway_core::resource::SecretSource;

    #[test]
    fn a_path_is_a_mount_and_a_key() {
        let vaults = Vaults::new(vec![VaultSettings {
            name: "corp".into(),
            address: "http://127.0.0.1:8200".into(),
            ca: None,
            namespace: None,
            auth: Auth::Token {
                token: SecretSource::Env("X".into()),
            },
        }])
        .unwrap();
        let of = |vault: &str, path: &str| Transit::new(vaults.clone(), vault, path);
        of("corp", "transit/gateway").unwrap();
        of("other", "transit/gateway").unwrap_err();
        for bad in [
            "",
            "transit",
            "transit/",
            "/gateway",
            "transit/a/b",
            "transit/..",
            "transit/a b",
        ] {
            of("corp", bad).unwrap_err();
        }
    }
}
