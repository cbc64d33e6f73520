//! Parts for embedding: a closure as policy, one secret as identity, a store that forgets.
//!
//! A [`Gateway`](crate::gateway::Gateway) is made of traits. Who embeds an adapter has some of them already (how people are
//! known, where events go) and needs something simple in the place of the others.
//!
//! ```
//! use std::sync::Arc;
//!
//! use gateway_core::embed::PolicyFn;
//! use gateway_core::services::Policy;
//! use gateway_core::verdict::{Denial, Verdict};
//!
//! // Reading is permitted to all; the same rule is asked for every protocol.
//! let policy = PolicyFn::new("reading", |_, _, operations| {
//!     match operations.list().iter().find(|o| !["connect", "read"].contains(&o.action.as_str())) {
//!         None => Verdict::free(),
//!         Some(other) => Verdict::Deny(Denial::new(operations.summary(), format!("no `{}` here", other.action))),
//!     }
//! });
//! assert_eq!(&*policy.version(), "reading");
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::audit::{AuditError, AuditSink, Event, Receipt};
use crate::operation::Operations;
use crate::principal::{Authenticated, Principal};
use crate::resource::Resource;
use crate::secret::Secret;
use crate::services::{
    AuthError, Authenticator, Policy, Provable, SessionFilter, Store, StoreError, TokenRecord,
};
use crate::session::{SessionId, SessionRecord};
use crate::verdict::Verdict;

type Rule = dyn Fn(&Principal, &Resource, &Operations) -> Verdict + Send + Sync;

/// A closure as policy. It is asked for every message, `connect` included, and must answer at once.
pub struct PolicyFn {
    version: Arc<str>,
    rule: Box<Rule>,
}

impl std::fmt::Debug for PolicyFn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyFn")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl PolicyFn {
    /// Takes the closure; `version` names it in the trail.
    pub fn new(
        version: &str,
        rule: impl Fn(&Principal, &Resource, &Operations) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        Self {
            version: Arc::from(version),
            rule: Box::new(rule),
        }
    }
}

impl Policy for PolicyFn {
    fn decide(
        &self,
        principal: &Arc<Principal>,
        resource: &Arc<Resource>,
        operations: &Arc<Operations>,
    ) -> Verdict {
        (self.rule)(principal, resource, operations)
    }

    fn version(&self) -> Arc<str> {
        self.version.clone()
    }
}

type Known = dyn Fn(&Secret) -> Option<Principal> + Send + Sync;

/// A closure as identity: it says who holds a secret, or that nobody does. It must compare in constant time where secrets
/// can be guessed at.
pub struct Everyone(Box<Known>);

impl std::fmt::Debug for Everyone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Everyone")
    }
}

impl Everyone {
    /// Takes the closure.
    pub fn known_by(known: impl Fn(&Secret) -> Option<Principal> + Send + Sync + 'static) -> Self {
        Self(Box::new(known))
    }
}

#[async_trait]
impl Authenticator for Everyone {
    async fn authenticate(&self, secret: &Secret) -> Result<Authenticated, AuthError> {
        let principal = (self.0)(secret).ok_or(AuthError::Unknown)?;
        Ok(Authenticated {
            credential_id: format!("embedder:{}", principal.subject),
            principal: Arc::new(principal),
            expires: None,
            resources: None,
        })
    }

    async fn provable(&self, _: &str) -> Result<Option<Provable>, AuthError> {
        // A closure knows a secret when it sees it, and keeps no verifiers.
        Ok(None)
    }

    async fn still_valid(&self, _: &str) -> Result<bool, AuthError> {
        // Nothing here ends what the embedder has once accepted; it ends sessions by their id.
        Ok(true)
    }
}

/// A closure as audit trail: each event as it happens, before the operation that it tells of is forwarded. An error keeps
/// that operation from running.
pub struct Told<F>(
    /// The closure; it must not block for long.
    pub F,
);

impl<F> std::fmt::Debug for Told<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Told")
    }
}

impl<F> AuditSink for Told<F>
where
    F: Fn(Timestamp, &Event) -> Result<(), AuditError> + Send + Sync,
{
    fn append(&self, at: Timestamp, event: &Event, _: bool) -> Result<Receipt, AuditError> {
        (self.0)(at, event).map(|()| Receipt::Taken)
    }
}

/// A store that keeps nothing: sessions are listed while they run, and there are no tokens.
#[derive(Debug, Default, Clone, Copy)]
pub struct Forgets;

#[async_trait]
impl Store for Forgets {
    async fn insert_token(&self, _: &TokenRecord) -> Result<(), StoreError> {
        Err(StoreError::Database("this gateway keeps no tokens".to_owned()))
    }
    async fn token(&self, _: &str) -> Result<Option<TokenRecord>, StoreError> {
        Ok(None)
    }
    async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        Ok(Vec::new())
    }
    async fn revoke_token(&self, _: &str, _: Timestamp) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn put_session(&self, _: &SessionRecord) -> Result<(), StoreError> {
        Ok(())
    }
    async fn session(&self, _: SessionId) -> Result<Option<SessionRecord>, StoreError> {
        Ok(None)
    }
    async fn sessions(&self, _: SessionFilter, _: u32) -> Result<Vec<SessionRecord>, StoreError> {
        Ok(Vec::new())
    }
    async fn close_orphans(&self, _: Timestamp, _: &str) -> Result<u64, StoreError> {
        Ok(0)
    }
}
