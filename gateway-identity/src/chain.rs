//! One authenticator of several: which one is asked is told by the form of the secret alone.

use async_trait::async_trait;
use gateway_core::principal::Authenticated;
use gateway_core::secret::Secret;
use gateway_core::services::{AuthError, Authenticator, Provable};

use crate::oidc::{self, OidcAuthenticator};
use crate::tokens::{Token, TokenAuthenticator};

/// Gateway tokens and OIDC tokens. A secret is tried by one of them at most, and a refusal is final.
#[derive(Debug)]
pub struct Authenticators {
    tokens: TokenAuthenticator,
    oidc: std::sync::Arc<OidcAuthenticator>,
}

impl Authenticators {
    /// Asks `tokens` for what has the form of a gateway token, else `oidc`.
    pub fn new(tokens: TokenAuthenticator, oidc: std::sync::Arc<OidcAuthenticator>) -> Self {
        Self { tokens, oidc }
    }
}

#[async_trait]
impl Authenticator for Authenticators {
    async fn authenticate(&self, secret: &Secret) -> Result<Authenticated, AuthError> {
        if Token::parse(secret).is_some() {
            self.tokens.authenticate(secret).await
        } else {
            self.oidc.authenticate(secret).await
        }
    }

    /// Gateway tokens alone have a verifier: whoever has an OIDC token sends it.
    async fn provable(&self, name: &str) -> Result<Option<Provable>, AuthError> {
        self.tokens.provable(name).await
    }

    /// Keys prove gateway tokens alone.
    async fn knows_key(&self, fingerprint: &str) -> Result<bool, AuthError> {
        self.tokens.knows_key(fingerprint).await
    }

    async fn key_holder(
        &self,
        fingerprint: &str,
        certificate: Option<&str>,
    ) -> Result<Authenticated, AuthError> {
        self.tokens.key_holder(fingerprint, certificate).await
    }

    async fn still_valid(&self, credential_id: &str) -> Result<bool, AuthError> {
        if credential_id.starts_with(oidc::ID_PREFIX) {
            self.oidc.still_valid(credential_id).await
        } else {
            self.tokens.still_valid(credential_id).await
        }
    }
}
