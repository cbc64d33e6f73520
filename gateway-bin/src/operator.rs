//! What an operator does, through the control plane of a running gateway or on its data directory alike: first the
//! audit trail, then the deed.

use async_trait::async_trait;
use gateway_core::adapter::ProtocolAdapter;
use gateway_core::audit::{AuditError, AuditSink, Event};
use gateway_core::gateway::Gateway;
use gateway_core::principal::PrincipalKind;
use gateway_core::services::{Store, StoreError, TokenRecord};
use gateway_identity::{CreateToken, TokenError, parse_duration};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::certify;

/// Who the operator on the host is in the audit trail.
pub(crate) const OPERATOR: &str = "operator";

/// Where an operator's deeds are written down before they are done.
#[async_trait]
pub(crate) trait Trail: Send + Sync {
    /// Returns once the event is on disk.
    async fn write(&self, event: &Event) -> Result<(), AuditError>;
}

#[async_trait]
impl Trail for Gateway {
    async fn write(&self, event: &Event) -> Result<(), AuditError> {
        self.record(event).await
    }
}

/// The trail of a data directory on which no gateway runs.
pub(crate) struct OwnTrail<S>(pub(crate) S);

#[async_trait]
impl<S: AuditSink> Trail for OwnTrail<S> {
    async fn write(&self, event: &Event) -> Result<(), AuditError> {
        self.0.append(Timestamp::now(), event, true)?.settled().await
    }
}

/// Why a deed was not done.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// What was asked for is wrong.
    Wrong(String),
    /// There is no such thing.
    Absent(String),
    /// The trail or the store can't be written.
    Unavailable(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Wrong(text) | Self::Absent(text) | Self::Unavailable(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<AuditError> for Refusal {
    fn from(error: AuditError) -> Self {
        Self::Unavailable(format!("{error}; nothing was done"))
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        Self::Wrong(error.to_string())
    }
}

/// Asks for a token.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    /// Whose.
    pub(crate) subject: String,
    /// What that is.
    pub(crate) kind: PrincipalKind,
    /// The groups it is in.
    #[serde(default)]
    pub(crate) groups: Vec<String>,
    /// For whom it acts.
    #[serde(default)]
    pub(crate) on_behalf_of: Option<String>,
    /// How long it lives, such as `1h`.
    pub(crate) ttl: String,
    /// The only resources it is good for.
    #[serde(default)]
    pub(crate) resources: Vec<String>,
    /// The public key that proves it, in the place of a secret.
    #[serde(default)]
    pub(crate) public_key: Option<String>,
}

impl NewToken {
    /// As the tokens' own crate takes it.
    pub(crate) fn create(self, ttl: std::time::Duration) -> CreateToken {
        CreateToken {
            subject: self.subject,
            kind: self.kind,
            groups: self.groups,
            on_behalf_of: self.on_behalf_of,
            ttl,
            resources: self.resources,
        }
    }
}

/// A token that was made; the one time that it is shown. It has no `Debug`.
#[derive(Serialize, Deserialize)]
pub(crate) struct MadeToken {
    /// Its public id.
    pub(crate) id: String,
    /// The token; none where a key proves it.
    pub(crate) token: Option<String>,
    /// The fingerprint of that key.
    #[serde(default)]
    pub(crate) fingerprint: Option<String>,
    /// When it ends.
    pub(crate) expires: Timestamp,
}

/// A token in a list: nothing that proves anything.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ListedToken {
    /// Its public id.
    pub(crate) id: String,
    /// `active`, `expired` or `revoked`.
    pub(crate) state: String,
    /// Whose.
    pub(crate) subject: String,
    /// What that is.
    pub(crate) kind: PrincipalKind,
    /// The groups it is in.
    pub(crate) groups: Vec<String>,
    /// For whom it acts.
    pub(crate) on_behalf_of: Option<String>,
    /// The only resources it is good for; none: all.
    pub(crate) resources: Vec<String>,
    /// When it was made.
    pub(crate) created: Timestamp,
    /// When it ends.
    pub(crate) expires: Timestamp,
    /// When it was revoked.
    pub(crate) revoked: Option<Timestamp>,
    /// What proves it: `secret`, `key` or `certificate`.
    #[serde(default)]
    pub(crate) proof: String,
    /// The fingerprint of its key.
    #[serde(default)]
    pub(crate) fingerprint: Option<String>,
    /// The token by which it was got; it ends with that one.
    #[serde(default)]
    pub(crate) parent: Option<String>,
}

impl ListedToken {
    fn new(record: TokenRecord, now: Timestamp) -> Self {
        let state = if record.revoked.is_some() {
            "revoked"
        } else if record.expires <= now {
            "expired"
        } else {
            "active"
        };
        let proof = match &record.key {
            None => "secret",
            Some(key) if key.certified => "certificate",
            Some(_) => "key",
        };
        let (fingerprint, parent) = match record.key {
            Some(key) => (Some(key.fingerprint), key.parent),
            None => (None, None),
        };
        Self {
            proof: proof.to_owned(),
            fingerprint,
            parent,
            id: record.id,
            state: state.to_owned(),
            subject: record.principal.subject,
            kind: record.principal.kind,
            groups: record.principal.groups.into_iter().collect(),
            on_behalf_of: record.principal.on_behalf_of,
            resources: record.resources.into_iter().flatten().collect(),
            created: record.created,
            expires: record.expires,
            revoked: record.revoked,
        }
    }
}

/// Makes a token, that `adapter`'s clients prove by their key where the request has one.
pub(crate) async fn create_token(
    store: &dyn Store,
    trail: Option<&dyn Trail>,
    adapter: Option<&dyn ProtocolAdapter>,
    new: NewToken,
) -> Result<MadeToken, Refusal> {
    let ttl = parse_duration(&new.ttl).map_err(|e| Refusal::Wrong(format!("the life of the token: {e}")))?;
    let key = match (&new.public_key, adapter) {
        (None, _) => None,
        (Some(key), Some(adapter)) => Some(certify::registered(store, adapter, key).await?),
        (Some(_), None) => return Err(no_keys()),
    };
    let now = Timestamp::now();
    let fingerprint = key.as_ref().map(|key| key.fingerprint.clone());
    let (record, secret) = match key {
        None => {
            let (record, secret) = new.create(ttl).build(now)?;
            (record, Some(secret))
        }
        Some(key) => (new.create(ttl).build_for_key(key, now)?, None),
    };
    let mut subject = format!("{} of {}", record.id, record.principal.subject);
    if let Some(fingerprint) = &fingerprint {
        subject = format!("{subject} for the key {fingerprint}");
    }
    note(trail, OPERATOR, "token create", subject).await?;
    store.insert_token(&record).await?;
    Ok(MadeToken {
        token: secret.map(|secret| secret.expose().to_owned()),
        fingerprint,
        id: record.id,
        expires: record.expires,
    })
}

/// Where no adapter reads keys.
pub(crate) fn no_keys() -> Refusal {
    Refusal::Wrong("this build has no adapter for SSH, so no key can prove anybody here".to_owned())
}

/// Lists tokens, newest first.
pub(crate) async fn tokens(store: &dyn Store) -> Result<Vec<ListedToken>, Refusal> {
    let now = Timestamp::now();
    let records = store.tokens().await?;
    Ok(records
        .into_iter()
        .map(|record| ListedToken::new(record, now))
        .collect())
}

/// Revokes a token.
pub(crate) async fn revoke_token(
    store: &dyn Store,
    trail: Option<&dyn Trail>,
    id: &str,
) -> Result<(), Refusal> {
    let shown: String = id.chars().take(64).flat_map(char::escape_debug).collect();
    let subject = match store.token(id).await {
        Ok(None) => return Err(Refusal::Absent(format!("there is no token `{shown}`"))),
        Ok(Some(record)) if record.revoked.is_some() => {
            return Err(Refusal::Absent(format!("the token `{shown}` was revoked before")));
        }
        Ok(Some(record)) => format!("{} of {}", record.id, record.principal.subject),
        // What somebody changed, or no key opens, is the first to be revoked.
        Err(StoreError::Corrupt(_)) => format!("{shown}, whose row can't be read"),
        Err(error) => return Err(error.into()),
    };
    note(trail, OPERATOR, "token revoke", subject).await?;
    if store.revoke_token(id, Timestamp::now()).await? {
        Ok(())
    } else {
        Err(Refusal::Absent(format!("the token `{shown}` was revoked before")))
    }
}

/// Writes down what somebody is about to do.
pub(crate) async fn note(
    trail: Option<&dyn Trail>,
    by: &str,
    action: &str,
    subject: String,
) -> Result<(), AuditError> {
    tracing::info!(by, action, subject, "operator");
    match trail {
        Some(trail) => {
            trail
                .write(&Event::Operator {
                    by: by.to_owned(),
                    action: action.to_owned(),
                    subject,
                })
                .await
        }
        None => Ok(()),
    }
}
