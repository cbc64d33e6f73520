//! What a `[[vault]]` says.

use std::path::PathBuf;

use gateway_core::resource::SecretSource;
use serde::Serialize;

/// One `[[vault]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VaultSettings {
    /// What the configuration calls it.
    pub name: String,
    /// Where it is: `https://`, or `http://` on this host.
    pub address: String,
    /// PEM file of the CAs that are trusted; without it the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The namespace of all requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// How the gateway logs in.
    pub auth: Auth,
}

/// How the gateway logs in at a Vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "method", rename_all = "lowercase")]
pub enum Auth {
    /// `auth/approle/login`.
    AppRole {
        /// Where the method is mounted.
        mount: String,
        /// The role's id.
        role_id: String,
        /// Where the secret id is; `None`: the role asks for none.
        #[serde(skip_serializing_if = "Option::is_none")]
        secret_id: Option<SecretSource>,
    },
    /// A token that somebody else keeps alive, such as Vault's agent.
    Token {
        /// Where it is; read again at each use.
        token: SecretSource,
    },
    /// `auth/kubernetes/login`.
    Kubernetes {
        /// Where the method is mounted.
        mount: String,
        /// The role.
        role: String,
        /// Where the service account's token is; read again at each login.
        jwt: SecretSource,
    },
    /// `auth/jwt/login`.
    Jwt {
        /// Where the method is mounted.
        mount: String,
        /// The role.
        role: String,
        /// Where the token is; read again at each login.
        jwt: SecretSource,
    },
}

impl Auth {
    /// Its name in the configuration.
    pub fn method(&self) -> &'static str {
        match self {
            Self::AppRole { .. } => "approle",
            Self::Token { .. } => "token",
            Self::Kubernetes { .. } => "kubernetes",
            Self::Jwt { .. } => "jwt",
        }
    }

    /// Where its secret is.
    pub fn secret(&self) -> Option<&SecretSource> {
        match self {
            Self::AppRole { secret_id, .. } => secret_id.as_ref(),
            Self::Token { token } => Some(token),
            Self::Kubernetes { jwt, .. } | Self::Jwt { jwt, .. } => Some(jwt),
        }
    }
}

impl VaultSettings {
    /// Whether a text can be where something is mounted: parts of letters, digits, `_`, `-` and `.`, with `/` between.
    pub fn is_mount(text: &str) -> bool {
        text.len() <= 512 && text.split('/').all(Self::is_role)
    }

    /// Whether a text can name a role.
    pub fn is_role(text: &str) -> bool {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        !matches!(text, "" | "." | "..") && text.len() <= 256 && text.bytes().all(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_or_a_role_leads_nowhere_else() {
        for good in ["database", "team/db-1", "a.b_c"] {
            assert!(VaultSettings::is_mount(good), "{good}");
        }
        for bad in [
            "", "/", "a//b", "/a", "a/", "..", "a/../sys", "a/.", "a b", "a?b", "a%2e", "ü",
        ] {
            assert!(!VaultSettings::is_mount(bad), "{bad}");
            assert!(!VaultSettings::is_role(bad), "{bad}");
        }
        assert!(!VaultSettings::is_role("a/b"));
    }
}
