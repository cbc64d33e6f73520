//! `credential.kind = "iam"`: tokens for databases of AWS RDS and Aurora, in place of a password.
//!
//! Such a token is a presigned URL (Signature Version 4) that asks for `connect` to one host and port as one user, good for 15
//! minutes. The database has the identity service look at it. Nothing is made at the target, so nothing is to be taken back.

mod keys;
mod profile;
mod settings;
mod sign;
mod sts;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gateway_core::adapter::ConfigProblem;
use gateway_core::credentials::{CredentialError, CredentialIssuer, Lease, LeaseRequest};
use gateway_core::gateway::Gateway;
use gateway_core::resource::Resource;
use jiff::Timestamp;
use tokio::sync::Mutex;

use keys::{Keys, Sources};
use settings::Settings;

/// The kind.
pub const IAM: &str = "iam";

/// Keys that are remembered at the same time.
const MOST: usize = 100;
/// Keys that end within this time are not begun with: a token is worth no more than the keys that signed it.
const FRESH: Duration = Duration::from_secs(5 * 60);

/// Whose keys: profile, role and region.
type Whose = (Option<String>, Option<String>, String);

/// Signs tokens.
pub struct IamIssuer {
    now: fn() -> Timestamp,
    sources: Sources,
    known: Mutex<HashMap<Whose, Arc<Keys>>>,
}

impl std::fmt::Debug for IamIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IamIssuer").finish_non_exhaustive()
    }
}

impl IamIssuer {
    /// An issuer with this clock, which takes its keys from where AWS's own tools do.
    pub fn new(now: fn() -> Timestamp) -> Self {
        Self {
            now,
            sources: Sources::of_the_process(),
            known: Mutex::default(),
        }
    }

    /// Keys to sign with. Those with an end are remembered until shortly before it; others are read again each time.
    async fn keys(&self, settings: &Settings) -> Result<Arc<Keys>, CredentialError> {
        let whose = (
            settings.profile.clone(),
            settings.role_arn.clone(),
            settings.region.clone(),
        );
        // Whoever comes meanwhile waits, and finds them.
        let mut known = self.known.lock().await;
        let now = (self.now)();
        let good = |keys: &Keys| {
            let end = keys.expires.map(|end| end.duration_since(now));
            end.is_some_and(|left| left.unsigned_abs() > FRESH && left.is_positive())
        };
        if let Some(keys) = known.get(&whose).filter(|keys| good(keys)) {
            return Ok(keys.clone());
        }
        let found = self.sources.keys(settings, now).await;
        let keys = Arc::new(found.map_err(|why| CredentialError::Issuer(format!("AWS: {why}")))?);
        if known.len() >= MOST {
            known.clear();
        }
        if keys.expires.is_some() {
            known.insert(whose, keys.clone());
        }
        Ok(keys)
    }

    async fn token(&self, resource: &Resource) -> Result<(Lease, &'static str), CredentialError> {
        let settings = Settings::of(resource).map_err(|e| CredentialError::Source(e.to_string()))?;
        let keys = self.keys(&settings).await?;
        let token = sign::token(
            &keys,
            &settings.region,
            &settings.host,
            &settings.username,
            (self.now)(),
        );
        let password = token.map_err(CredentialError::Issuer)?;
        let lease = Lease {
            username: settings.username,
            password: Some(password),
            issued: None,
        };
        Ok((lease, keys.source))
    }
}

#[async_trait]
impl CredentialIssuer for IamIssuer {
    fn kind(&self) -> &'static str {
        IAM
    }

    fn check(&self, resource: &Resource) -> Result<(), ConfigProblem> {
        Settings::of(resource).map(drop)
    }

    fn term(&self, _: &Resource) -> Option<Duration> {
        // A token is looked at when a session logs in; there is nothing to renew, and nothing to take back.
        None
    }

    async fn lease(&self, request: LeaseRequest<'_>) -> Result<Lease, CredentialError> {
        Ok(self.token(request.resource).await?.0)
    }

    async fn own(&self, resource: &Arc<Resource>) -> Result<Lease, CredentialError> {
        Ok(self.token(resource).await?.0)
    }

    async fn probe(
        &self,
        _: &Arc<Gateway>,
        resource: &Arc<Resource>,
        _: Option<&str>,
    ) -> Result<Vec<String>, CredentialError> {
        let (lease, source) = self.token(resource).await?;
        Ok(vec![format!(
            "a token for `{}`, signed with keys from {source}, is taken",
            lease.username
        )])
    }
}
