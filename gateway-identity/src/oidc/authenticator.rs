//! Verifying the tokens of issuers.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use gateway_core::principal::Authenticated;
use gateway_core::secret::Secret;
use gateway_core::services::{AuthError, Authenticator, Provable};
use gateway_core::tls::{ClientTls, TargetTls, TlsError};
use jiff::Timestamp;
use serde_json::Value;

use super::claims;
use super::jws::Jws;
use super::keys::KeySource;
use super::refusal::{Refusal, shown};
use super::settings::OidcSettings;
use super::url::Address;

/// What the ids of these proofs begin with; no gateway token's id does.
pub(crate) const ID_PREFIX: &str = "oidc/";
/// Bytes of a digest in an id.
const ID_BYTES: usize = 8;

type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Why issuers can't be trusted as they are configured.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// A setting is wrong.
    #[error("identity.oidc `{name}`: `{key}` {what}")]
    Setting {
        /// The issuer's name.
        name: String,
        /// Its key.
        key: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The certificates to check it with can't be read.
    #[error("identity.oidc `{name}`: {error}")]
    Tls {
        /// The issuer's name.
        name: String,
        /// What is wrong.
        error: TlsError,
    },
}

/// Issuers that were checked and can be put in force.
pub struct CheckedIssuers(Vec<(OidcSettings, Address, Option<Arc<ClientTls>>)>);

impl CheckedIssuers {
    /// Checks settings, and reads the certificates that they name.
    pub fn new(all: Vec<OidcSettings>) -> Result<Self, OidcError> {
        if let Some((index, key, what)) = OidcSettings::clashes(&all).into_iter().next() {
            let name = all.get(index).map(|one| one.name.clone()).unwrap_or_default();
            return Err(OidcError::Setting { name, key, what });
        }
        let check = |one: OidcSettings| {
            let name = one.name.clone();
            if let Some((key, what)) = one.problems().into_iter().next() {
                return Err(OidcError::Setting { name, key, what });
            }
            let address = Address::issuer(&one.issuer).map_err(|what| OidcError::Setting {
                name: name.clone(),
                key: "issuer",
                what: what.to_owned(),
            })?;
            let tls = match address.secure {
                true => match ClientTls::new(TargetTls {
                    ca: one.ca.as_deref(),
                    ..TargetTls::default()
                }) {
                    Ok(tls) => Some(Arc::new(tls)),
                    Err(error) => return Err(OidcError::Tls { name, error }),
                },
                false => None,
            };
            Ok((one, address, tls))
        };
        all.into_iter().map(check).collect::<Result<_, _>>().map(Self)
    }

    /// The names of those whose keys come over plain HTTP.
    pub fn plain(&self) -> impl Iterator<Item = &str> {
        let plain = self.0.iter().filter(|(_, address, _)| !address.secure);
        plain.map(|(settings, _, _)| settings.name.as_str())
    }
}

impl fmt::Debug for CheckedIssuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(settings, _, _)| settings))
            .finish()
    }
}

/// An issuer in force.
struct Issuer {
    settings: OidcSettings,
    /// What its proofs' ids begin with: its name and a digest of its URL.
    prefix: String,
    keys: Arc<KeySource>,
}

/// Verifies OIDC tokens: ID tokens and RFC 9068 access tokens of the issuers that are trusted.
///
/// Signatures are checked at each login and nothing is remembered, so nothing has to be forgotten when a key or an issuer
/// is withdrawn.
pub struct OidcAuthenticator {
    clock: Clock,
    issuers: ArcSwap<Vec<Issuer>>,
}

impl fmt::Debug for OidcAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self
            .issuers
            .load()
            .iter()
            .map(|one| one.settings.name.clone())
            .collect();
        f.debug_struct("OidcAuthenticator")
            .field("issuers", &names)
            .finish_non_exhaustive()
    }
}

impl OidcAuthenticator {
    /// Trusts nobody yet; takes the time that `clock` tells.
    pub fn new(clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        // Signatures are aws-lc's to check, also where another crate of the process turns another library on.
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        Self {
            clock: Arc::new(clock),
            issuers: ArcSwap::default(),
        }
    }

    /// Trusts these from now on, and no others. Issuers that stay keep the keys that are known of them. Needs a tokio
    /// runtime.
    pub fn trust(&self, issuers: CheckedIssuers) {
        let old = self.issuers.load_full();
        let new = issuers.0.into_iter().map(|(settings, address, tls)| {
            let kept = old.iter().find(|one| one.keys.serves(&settings, tls.as_ref()));
            let keys = match kept {
                Some(kept) => kept.keys.clone(),
                None => Arc::new(KeySource::start(&settings, address, tls)),
            };
            let issuer = hex(digest(&SHA256, settings.issuer.as_bytes()).as_ref());
            Issuer {
                prefix: format!("{ID_PREFIX}{}/{issuer}/", settings.name),
                settings,
                keys,
            }
        });
        self.issuers.store(Arc::new(new.collect()));
    }

    /// Verifies a token; unlike [`Authenticator::authenticate`] it says exactly what is wrong.
    pub async fn verify(&self, token: &Secret) -> Result<Authenticated, Refusal> {
        let text = token.expose();
        let jws = Jws::parse(text)?;
        let issuers = self.issuers.load_full();
        let issuer = match jws.claims.get("iss") {
            Some(Value::String(url)) => issuers
                .iter()
                .find(|one| one.settings.issuer == *url)
                .ok_or_else(|| Refusal::Issuer(shown(url)))?,
            Some(_) => return Err(Refusal::claim("iss", "is no text")),
            None => return Err(Refusal::claim("iss", "is absent")),
        };
        let algorithm = jws.header.algorithm;
        if !issuer.settings.algorithms.contains(&algorithm) {
            return Err(Refusal::Algorithm(algorithm.as_str().to_owned()));
        }
        let key = issuer.keys.find(jws.header.key_id.as_deref(), algorithm).await?;
        if !key.verifies(jws.signature, jws.signed, algorithm) {
            return Err(Refusal::Signature);
        }
        let (principal, expires) = claims::principal(&issuer.settings, &jws.claims, (self.clock)())?;
        // Of what is signed, not of the signature: of one ECDSA signature anybody can make a second one.
        let id = hex(digest(&SHA256, jws.signed.as_bytes()).as_ref());
        Ok(Authenticated {
            principal: Arc::new(principal),
            credential_id: format!("{}{id}", issuer.prefix),
            expires: Some(expires),
            resources: None,
        })
    }
}

#[async_trait]
impl Authenticator for OidcAuthenticator {
    async fn authenticate(&self, secret: &Secret) -> Result<Authenticated, AuthError> {
        Ok(self.verify(secret).await?)
    }

    /// An OIDC token has no name under which a verifier is kept: it is sent.
    async fn provable(&self, _: &str) -> Result<Option<Provable>, AuthError> {
        Ok(None)
    }

    /// Whether the issuer is still trusted, under the same name and URL. The end of the token itself is
    /// [`Authenticated::expires`].
    async fn still_valid(&self, credential_id: &str) -> Result<bool, AuthError> {
        let issuers = self.issuers.load();
        Ok(issuers.iter().any(|one| credential_id.starts_with(&one.prefix)))
    }
}

/// The first bytes of a digest.
fn hex(digest: &[u8]) -> String {
    digest
        .iter()
        .take(ID_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
