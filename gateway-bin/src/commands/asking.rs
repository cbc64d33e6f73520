//! A gateway that asks targets and explains, and serves nobody: for commands.

use std::sync::Arc;

use async_trait::async_trait;
use gateway_core::audit::{AuditError, AuditSink, Event, Receipt};
use gateway_core::credentials::NoJournal;
use gateway_core::gateway::{Gateway, Parts};
use gateway_core::mask::MaskKey;
use gateway_core::policy::PolicyEngine;
use gateway_core::principal::Authenticated;
use gateway_core::secret::Secret;
use gateway_core::services::{
    AuthError, Authenticator, NobodyApproves, Provable, SessionFilter, Store, StoreError, TokenRecord,
};
use gateway_core::session::{SessionId, SessionRecord};
use jiff::Timestamp;

use crate::config::Config;
use crate::{adapters, own};

/// Such a gateway. It asks targets with the gateway's own login.
pub(super) fn gateway(config: &Config, engine: Arc<PolicyEngine>) -> anyhow::Result<Arc<Gateway>> {
    let own = own::resources(engine.clone(), Config::audit_dir(&config.data_dir), String::new);
    let parts = Parts {
        policy: engine,
        audit: Arc::new(Nobody),
        authenticator: Arc::new(Nobody),
        credentials: adapters::issuers(&config.registry, &config.outside),
        leases: Arc::new(NoJournal),
        approvals: Arc::new(NobodyApproves),
        store: Arc::new(Nobody),
        limits: config.limits.clone(),
        audit_options: config.audit.options(),
        tls_require: config.tls.require,
        mask_key: MaskKey::ephemeral()?,
        recorder: std::sync::Arc::new(gateway_core::recording::Unrecorded),
        now: Timestamp::now,
    };
    let gateway = Gateway::new(parts, config.resources.clone());
    for own in &own {
        gateway.answer(own);
    }
    Ok(gateway)
}

/// Stands where a gateway that only explains has nobody: it opens no session and keeps nothing.
struct Nobody;

impl Nobody {
    fn store() -> StoreError {
        StoreError::Database("there is no store here".to_owned())
    }
}

impl AuditSink for Nobody {
    fn append(&self, _: Timestamp, _: &Event, _: bool) -> Result<Receipt, AuditError> {
        Err(AuditError::Closed)
    }
}

#[async_trait]
impl Authenticator for Nobody {
    async fn authenticate(&self, _: &Secret) -> Result<Authenticated, AuthError> {
        Err(AuthError::Unknown)
    }

    async fn provable(&self, _: &str) -> Result<Option<Provable>, AuthError> {
        Ok(None)
    }

    async fn still_valid(&self, _: &str) -> Result<bool, AuthError> {
        Ok(false)
    }
}

#[async_trait]
impl Store for Nobody {
    async fn insert_token(&self, _: &TokenRecord) -> Result<(), StoreError> {
        Err(Self::store())
    }
    async fn token(&self, _: &str) -> Result<Option<TokenRecord>, StoreError> {
        Err(Self::store())
    }
    async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        Err(Self::store())
    }
    async fn revoke_token(&self, _: &str, _: Timestamp) -> Result<bool, StoreError> {
        Err(Self::store())
    }
    async fn put_session(&self, _: &SessionRecord) -> Result<(), StoreError> {
        Err(Self::store())
    }
    async fn session(&self, _: SessionId) -> Result<Option<SessionRecord>, StoreError> {
        Err(Self::store())
    }
    async fn sessions(&self, _: SessionFilter, _: u32) -> Result<Vec<SessionRecord>, StoreError> {
        Err(Self::store())
    }
    async fn close_orphans(&self, _: Timestamp, _: &str) -> Result<u64, StoreError> {
        Err(Self::store())
    }
}
