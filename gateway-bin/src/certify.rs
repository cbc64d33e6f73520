//! Tokens that a client's key proves: keys that are registered, and certificates for keys.

use std::collections::BTreeSet;
use std::time::Duration;

use gateway_control::api::{CertificateRequest, CertificateView, NotCertified, resources_of};
use gateway_core::adapter::{Certified, ProtocolAdapter};
use gateway_core::principal::Authenticated;
use gateway_core::services::{Store, TokenKey, TokenRecord};
use gateway_identity::{CreateToken, parse_duration};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::operator::{NewToken, OPERATOR, Refusal, Trail, note};

/// For how long a certificate is valid before now: the clock of another gateway may be behind.
const BEHIND: SignedDuration = SignedDuration::from_mins(1);
/// How long the sessions of a certificate last at most whose owner's token has no end.
const DAY: Duration = Duration::from_secs(86_400);
/// The longest that one may log in with a certificate.
pub(crate) const LONGEST: Duration = DAY;

/// Asks for a certificate as the operator.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewCertificate {
    /// Whose, for how long, for what.
    pub(crate) token: NewToken,
    /// The protocol whose clients have it.
    pub(crate) protocol: String,
}

/// The public key that a new token is proven by.
pub(crate) async fn registered(
    store: &dyn Store,
    adapter: &dyn ProtocolAdapter,
    public_key: &str,
) -> Result<TokenKey, Refusal> {
    let fingerprint = adapter
        .fingerprint(public_key)
        .map_err(|e| Refusal::Wrong(e.to_string()))?;
    let now = Timestamp::now();
    let known = store.key_tokens(&fingerprint).await?;
    let live = known.iter().find(|record| {
        let alone = record.key.as_ref().is_some_and(|key| !key.certified);
        alone && record.revoked.is_none() && now < record.expires
    });
    if let Some(record) = live {
        return Err(Refusal::Wrong(format!(
            "the key {fingerprint} is registered as `{}` of {}; revoke that first (`gateway token revoke {}`)",
            record.id, record.principal.subject, record.id
        )));
    }
    Ok(TokenKey {
        fingerprint,
        certified: false,
        parent: None,
    })
}

/// Certifies a key for whom the operator names.
pub(crate) async fn as_operator(
    store: &dyn Store,
    trail: Option<&dyn Trail>,
    adapter: &dyn ProtocolAdapter,
    new: NewToken,
) -> Result<CertificateView, Refusal> {
    let public_key = new.public_key.clone().unwrap_or_default();
    let ttl =
        parse_duration(&new.ttl).map_err(|e| Refusal::Wrong(format!("the life of the certificate: {e}")))?;
    if ttl > LONGEST {
        let why = "a certificate lives for at most 24h; register a key that is to live longer (`gateway token create --ssh-key`)";
        return Err(Refusal::Wrong(why.to_owned()));
    }
    let now = Timestamp::now();
    let key = certified(adapter, &public_key, None)?;
    let record = new.create(ttl).build_for_key(key, now)?;
    let until = record.expires;
    issue(store, trail, adapter, OPERATOR, &record, &public_key, until).await
}

/// Certifies a key as who a token says.
pub(crate) async fn as_person(
    store: &dyn Store,
    trail: &dyn Trail,
    adapter: &dyn ProtocolAdapter,
    who: &Authenticated,
    request: &CertificateRequest,
    seconds: u32,
) -> Result<CertificateView, Refusal> {
    let now = Timestamp::now();
    let left = match who.expires {
        Some(expires) => expires.duration_since(now).unsigned_abs(),
        None => DAY,
    };
    let key = certified(adapter, &request.public_key, Some(who.credential_id.clone()))?;
    let principal = &who.principal;
    let create = CreateToken {
        subject: principal.subject.clone(),
        kind: principal.kind,
        groups: principal.groups.iter().cloned().collect(),
        on_behalf_of: principal.on_behalf_of.clone(),
        ttl: left.min(gateway_identity::tokens::MAX_TTL),
        resources: resources_of(who, request),
    };
    let mut record = create.build_for_key(key, now)?;
    record.principal.claims.clone_from(&principal.claims);
    // A token that is good for nothing certifies nothing more.
    record.resources = record
        .resources
        .or_else(|| who.resources.as_ref().map(|_| BTreeSet::new()));
    let asked = now
        .checked_add(Duration::from_secs(seconds.into()))
        .map_err(|e| Refusal::Wrong(e.to_string()))?;
    let until = asked.min(record.expires);
    issue(
        store,
        Some(trail),
        adapter,
        &principal.subject,
        &record,
        &request.public_key,
        until,
    )
    .await
}

fn certified(
    adapter: &dyn ProtocolAdapter,
    public_key: &str,
    parent: Option<String>,
) -> Result<TokenKey, Refusal> {
    let fingerprint = adapter
        .fingerprint(public_key)
        .map_err(|e| Refusal::Wrong(e.to_string()))?;
    Ok(TokenKey {
        fingerprint,
        certified: true,
        parent,
    })
}

async fn issue(
    store: &dyn Store,
    trail: Option<&dyn Trail>,
    adapter: &dyn ProtocolAdapter,
    by: &str,
    record: &TokenRecord,
    public_key: &str,
    until: Timestamp,
) -> Result<CertificateView, Refusal> {
    let from = record.created.saturating_sub(BEHIND).unwrap_or(record.created);
    let certificate = adapter
        .certify(&Certified {
            public_key,
            id: &record.id,
            subject: &record.principal.subject,
            from,
            until,
        })
        .map_err(|e| Refusal::Unavailable(e.to_string()))?;
    let fingerprint = record
        .key
        .as_ref()
        .map(|key| key.fingerprint.clone())
        .unwrap_or_default();
    let subject = format!(
        "{} of {} for the key {fingerprint}, until {until}",
        record.id, record.principal.subject
    );
    note(trail, by, "certificate", subject).await?;
    store.insert_token(record).await?;
    Ok(CertificateView {
        id: record.id.clone(),
        certificate,
        fingerprint,
        until,
        expires: record.expires,
    })
}

impl From<Refusal> for NotCertified {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Wrong(why) | Refusal::Absent(why) => Self::Wrong(why),
            Refusal::Unavailable(why) => Self::Unavailable(why),
        }
    }
}
