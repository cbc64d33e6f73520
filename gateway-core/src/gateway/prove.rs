//! Logins that prove a secret instead of sending it.

use super::{Attempt, Gateway, LoginRefusal};
use crate::principal::Authenticated;
use crate::secret::Secret;
use crate::services::{AuthError, Provable};

/// A proof that is asked for. Who it would be stays hidden until [`Gateway::proven`] has heard that it was right.
#[derive(Debug)]
pub struct Challenge(Provable);

impl Challenge {
    /// What the proof is checked with: a SCRAM-SHA-256 verifier ([`Provable::verifier`]).
    pub fn verifier(&self) -> &Secret {
        &self.0.verifier
    }
}

impl Gateway {
    /// What a client must prove that gives `name` as its name; `None`: its secret is asked for.
    pub async fn challenge(&self, attempt: &Attempt, name: &str) -> Result<Option<Challenge>, LoginRefusal> {
        match self.parts.authenticator.provable(name).await {
            Ok(provable) => Ok(provable.map(Challenge)),
            Err(error) => Err(self.not_authenticated(attempt, &error)),
        }
    }

    /// Who it is, by a proof that was `right` or not. A refusal is in the audit trail; the client is told nothing of
    /// why.
    pub fn proven(
        &self,
        attempt: &Attempt,
        challenge: Challenge,
        right: bool,
    ) -> Result<Authenticated, LoginRefusal> {
        match challenge.0.who {
            Ok(who) if right => Ok(who),
            // Only who has the secret learns what became of it, and so does the trail.
            Err(error) if right || matches!(error, AuthError::Unknown) => {
                Err(self.not_authenticated(attempt, &error))
            }
            _ => {
                self.refuse_login(attempt, None, "the proof of the token is wrong");
                Err(LoginRefusal::Refused)
            }
        }
    }

    /// Whether a client may be asked to prove that it has the public key of that fingerprint.
    pub async fn knows_key(&self, fingerprint: &str) -> bool {
        match self.parts.authenticator.knows_key(fingerprint).await {
            Ok(known) => known,
            Err(error) => {
                tracing::warn!(%error, "a public key could not be looked up");
                false
            }
        }
    }

    /// Whose a key is that the client has proven to have, with what a certificate of the gateway's own names that was verified.
    /// A refusal is in the audit trail; the client is told nothing of why. `None`: the key is known by its certificates alone, and none was
    /// shown; nothing of this is in the trail, since OpenSSH's client tries the key by itself before it shows its certificate.
    pub async fn key_holder(
        &self,
        attempt: &Attempt,
        fingerprint: &str,
        certificate: Option<&str>,
    ) -> Result<Option<Authenticated>, LoginRefusal> {
        let shown = self
            .parts
            .authenticator
            .key_holder(fingerprint, certificate)
            .await;
        match shown {
            Ok(who) => Ok(Some(who)),
            Err(AuthError::NeedsCertificate) => Ok(None),
            Err(error @ AuthError::Unavailable(_)) => Err(self.not_authenticated(attempt, &error)),
            Err(error) => {
                let what = if certificate.is_some() {
                    "certificate for key"
                } else {
                    "key"
                };
                self.refuse_login(attempt, None, &format!("{what} {fingerprint}: {error}"));
                Err(LoginRefusal::Refused)
            }
        }
    }
}
