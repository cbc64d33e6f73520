//! The seam to whoever makes credentials, and what is remembered of each until it is taken back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{SecretKeepers, StaticCredentials};
use crate::adapter::ConfigProblem;
use crate::gateway::Gateway;
use crate::principal::Principal;
use crate::resource::Resource;
use crate::secret::Secret;
use crate::services::StoreError;
use crate::session::SessionId;

/// What is needed to lease a credential.
#[derive(Debug, Clone)]
pub struct LeaseRequest<'a> {
    /// The pipeline: an issuer asks it what policy permits.
    pub gateway: &'a Arc<Gateway>,
    /// What the lease is called; the issuer marks with it what it makes at the target.
    pub id: &'a str,
    /// The session that it is for.
    pub session: SessionId,
    /// Who will use it.
    pub principal: &'a Arc<Principal>,
    /// The target.
    pub resource: &'a Arc<Resource>,
    /// Where in the target (the database), where the protocol has such.
    pub place: Option<&'a str>,
    /// When it is to end by itself; `None`: it does not.
    pub expires: Option<Timestamp>,
}

/// What the gateway got for one session to log in to the target.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The login's name at the target.
    pub username: String,
    /// Its password.
    pub password: Option<Secret>,
    /// What its issuer must be told to take it back; `None`: the id of the lease is enough.
    pub issued: Option<Issued>,
}

/// A credential that its issuer, and not the gateway, has given a name and an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// What the issuer calls it. It is no secret, and is in the journal before the credential is used.
    pub handle: String,
    /// When it ends unless it is renewed.
    pub expires: Timestamp,
}

/// Makes credentials of one kind, and takes them back.
///
/// What [`Self::lease`] makes at a target must be found again by [`LeaseRecord::id`] alone: the record is in the journal
/// before the issuer is asked, and whatever happens then, [`Self::revoke`] is called with it until it says that nothing is
/// left. So it must not fail where there is nothing (any more), and must touch nothing that this lease did not make.
///
/// Where that can't be, because somebody else names what is made, the lease says so ([`Lease::issued`]), and the name is in
/// the record ([`LeaseRecord::handle`]) before the credential is used. What is made and never told must then end by itself.
#[async_trait]
pub trait CredentialIssuer: Send + Sync {
    /// The `kind` of `credential` that it serves.
    fn kind(&self) -> &'static str;

    /// The protocol whose targets it serves; `None`: any.
    fn protocol(&self) -> Option<&'static str> {
        None
    }

    /// Checks what a resource says of its credential. No secret is read, and nothing of what is given appears in the error: it
    /// may be a secret in a wrong place.
    fn check(&self, resource: &Resource) -> Result<(), ConfigProblem>;

    /// For how long a credential is good unless it is renewed. `None`: it is nobody's own, so that nothing is to be taken back.
    fn term(&self, resource: &Resource) -> Option<Duration>;

    /// What of a pool a lease is to have, as far as is known without asking anybody: it is claimed with the lease's first line in
    /// the journal, if it is free there. If not, the issuer claims another one itself.
    fn first_choice(&self, resource: &Arc<Resource>, id: &str) -> Option<Slot> {
        let _ = (resource, id);
        None
    }

    /// A credential for one session.
    async fn lease(&self, request: LeaseRequest<'_>) -> Result<Lease, CredentialError>;

    /// The gateway's own login to a resource, for reading its structure; never given to a session.
    async fn own(&self, resource: &Arc<Resource>) -> Result<Lease, CredentialError>;

    /// What keeps it from making credentials for a resource, or lessens what they may, one sentence each; for an operator who
    /// asks. Changes nothing. `place`: where in the target it is asked, where the protocol has such.
    async fn probe(
        &self,
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
        place: Option<&str>,
    ) -> Result<Vec<String>, CredentialError> {
        let _ = (gateway, place);
        self.own(resource).await.map(|_| Vec::new())
    }

    /// Lets a credential be good until `until`; returns until when it is good by now. That is earlier where the issuer gives
    /// no more; one that [has an end of its own](Issued) ends its session then.
    async fn renew(
        &self,
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
        lease: &LeaseRecord,
        until: Timestamp,
    ) -> Result<Timestamp, CredentialError> {
        let _ = (gateway, resource, lease);
        Ok(until)
    }

    /// Gives a credential the rights that policy permits by now. Called whenever other policies or grants are in force; where
    /// it fails the session is ended.
    async fn adjust(
        &self,
        gateway: &Arc<Gateway>,
        principal: &Arc<Principal>,
        resource: &Arc<Resource>,
        lease: &LeaseRecord,
    ) -> Result<(), CredentialError> {
        let _ = (gateway, principal, resource, lease);
        Ok(())
    }

    /// Takes a credential back; `Ok`: nothing of it is left.
    async fn revoke(
        &self,
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
        lease: &LeaseRecord,
    ) -> Result<(), CredentialError> {
        let _ = (gateway, resource, lease);
        Ok(())
    }

    /// Removes from a target what gateways of this installation have left there and the journal does not know. Returns
    /// the names of what was removed.
    async fn sweep(
        &self,
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
    ) -> Result<Vec<String>, CredentialError> {
        let _ = (gateway, resource);
        Ok(Vec::new())
    }
}

/// Why there is no credential. For operators; the client learns only that the target can't be reached.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CredentialError {
    /// The secret is not where the configuration says.
    #[error("{0}")]
    Source(String),
    /// The issuer refused or could not be asked.
    #[error("the credential issuer failed: {0}")]
    Issuer(String),
    /// The place in the target that was asked for is not there: who asked can mend that.
    #[error("there is no such place at the target: {0}")]
    Place(String),
    /// All of what it would give is given to others. The client is told so: it can come again.
    #[error("{0}")]
    Busy(String),
    /// The lease can't be written down, so that none is made.
    #[error("the lease is not in the journal: {0}")]
    Journal(#[from] StoreError),
}

/// The issuers of a build, by kind and protocol, and the keepers of secrets that they read from.
#[derive(Clone)]
pub struct Issuers {
    list: Vec<Arc<dyn CredentialIssuer>>,
    keepers: SecretKeepers,
}

impl Default for Issuers {
    /// Static logins alone.
    fn default() -> Self {
        Self::from([Arc::new(StaticCredentials) as Arc<dyn CredentialIssuer>])
    }
}

impl std::fmt::Debug for Issuers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.list.iter().map(|issuer| issuer.kind()))
            .finish()
    }
}

impl<I: IntoIterator<Item = Arc<dyn CredentialIssuer>>> From<I> for Issuers {
    fn from(issuers: I) -> Self {
        Self {
            list: issuers.into_iter().collect(),
            keepers: SecretKeepers::default(),
        }
    }
}

impl Issuers {
    /// These, and static logins.
    pub fn with(issuers: impl IntoIterator<Item = Arc<dyn CredentialIssuer>>) -> Self {
        let mut all = Self::default();
        all.list.extend(issuers);
        all
    }

    /// The same, with keepers of secrets.
    pub fn reading_from(self, keepers: SecretKeepers) -> Self {
        Self { keepers, ..self }
    }

    /// The keepers of secrets.
    pub fn keepers(&self) -> &SecretKeepers {
        &self.keepers
    }

    /// The issuer for a resource; the error says which kinds there are.
    pub fn of(&self, resource: &Resource) -> Result<&Arc<dyn CredentialIssuer>, ConfigProblem> {
        let serves = |issuer: &&Arc<dyn CredentialIssuer>| {
            issuer
                .protocol()
                .is_none_or(|protocol| protocol == resource.protocol)
        };
        let named = |issuer: &&Arc<dyn CredentialIssuer>| issuer.kind() == resource.credential.kind;
        let serving = || self.list.iter().filter(serves);
        // What a protocol makes itself goes before what is made for any.
        let own = serving().filter(named).find(|issuer| issuer.protocol().is_some());
        if let Some(issuer) = own.or_else(|| serving().find(named)) {
            return Ok(issuer);
        }
        let kinds: BTreeMap<_, ()> = serving().map(|issuer| (issuer.kind(), ())).collect();
        let kinds: Vec<String> = kinds.into_keys().map(|kind| format!("`{kind}`")).collect();
        Err(ConfigProblem(format!(
            "resource `{}`: credential.kind: there is no such kind for `{}` in this build; write {}",
            resource.name,
            resource.protocol,
            kinds.join(" or ")
        )))
    }
}

/// How far a lease is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseState {
    /// Its session has it, or is about to.
    Held,
    /// It is to be taken back.
    Returned,
}

impl LeaseState {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Returned => "returned",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Held, Self::Returned]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// A lease as the journal has it: from before it is made until nothing of it is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// Its id: 16 lower-case letters and digits.
    pub id: String,
    /// The issuer's kind.
    pub kind: String,
    /// The target.
    pub resource: String,
    /// Where in the target.
    pub place: Option<String>,
    /// The session that it is for.
    pub session: SessionId,
    /// Whose session that is.
    pub subject: String,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it ends by itself.
    pub expires: Timestamp,
    /// How far it is.
    pub state: LeaseState,
    /// How often it could not be taken back.
    pub attempts: u32,
    /// When taking it back is tried next.
    pub due: Timestamp,
    /// Why it could not be taken back when that was last tried.
    pub error: Option<String>,
    /// What its issuer calls it, where that is not the id; shown to nobody.
    #[serde(skip)]
    pub handle: Option<String>,
}

impl LeaseRecord {
    /// An id that no other lease has.
    pub fn new_id() -> String {
        let random = SessionId::generate().0.simple().to_string();
        random.chars().skip(16).collect()
    }
}

/// One of the things that a pool has, and that one lease at a time can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The pool. Names of things mean the same wherever its name is the same.
    pub pool: String,
    /// The thing in it.
    pub name: String,
}

/// The journal of leases.
#[async_trait]
pub trait LeaseStore: Send + Sync {
    /// What all gateways of this store are called at targets: made once, of random letters and digits.
    async fn installation(&self) -> Result<String, StoreError>;
    /// Writes a lease: a new one, or the newer state of one that is there.
    async fn put_lease(&self, lease: &LeaseRecord) -> Result<(), StoreError>;
    /// Writes a new lease that has one of the things of a pool. `false`: another lease has that; this one may be written then, or
    /// not.
    async fn put_lease_with(&self, lease: &LeaseRecord, slot: &Slot) -> Result<bool, StoreError> {
        self.put_lease(lease).await?;
        self.claim_slot(&lease.id, slot).await
    }
    /// Strikes one out, and with it what it has of a pool.
    async fn remove_lease(&self, id: &str) -> Result<(), StoreError>;
    /// Whether there is one of that id.
    async fn has_lease(&self, id: &str) -> Result<bool, StoreError>;
    /// Gives a lease that is held one of the things of a pool, in the place of what it had of pools until then. `false`: another
    /// lease has it, of whatever gateway.
    async fn claim_slot(&self, id: &str, slot: &Slot) -> Result<bool, StoreError>;
    /// What a lease has of a pool.
    async fn slot_of(&self, id: &str) -> Result<Option<Slot>, StoreError>;
    /// What leases have of a pool, by name.
    async fn slots(&self, pool: &str) -> Result<Vec<String>, StoreError>;
    /// At most `limit`: those that could not be taken back first, then the newest.
    async fn leases(&self, limit: u32) -> Result<Vec<LeaseRecord>, StoreError>;
    /// Takes at most `limit` that are to be taken back and are due, of this gateway and of those that are gone; nobody else is
    /// given them before `until`.
    async fn take_returned(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<LeaseRecord>, StoreError>;
    /// Lets those be taken back whose gateway is gone; `own`: this gateway's, too, of which none is in use. Returns how many.
    async fn return_orphans(&self, now: Timestamp, own: bool) -> Result<u64, StoreError>;
}

/// The journal of a gateway whose credentials need none; nothing can be leased that must be taken back.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoJournal;

#[async_trait]
impl LeaseStore for NoJournal {
    async fn installation(&self) -> Result<String, StoreError> {
        Err(none())
    }
    async fn put_lease(&self, _: &LeaseRecord) -> Result<(), StoreError> {
        Err(none())
    }
    async fn remove_lease(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }
    async fn has_lease(&self, _: &str) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn claim_slot(&self, _: &str, _: &Slot) -> Result<bool, StoreError> {
        Err(none())
    }
    async fn slot_of(&self, _: &str) -> Result<Option<Slot>, StoreError> {
        Err(none())
    }
    async fn slots(&self, _: &str) -> Result<Vec<String>, StoreError> {
        Err(none())
    }
    async fn leases(&self, _: u32) -> Result<Vec<LeaseRecord>, StoreError> {
        Ok(Vec::new())
    }
    async fn take_returned(
        &self,
        _: Timestamp,
        _: Timestamp,
        _: u32,
    ) -> Result<Vec<LeaseRecord>, StoreError> {
        Ok(Vec::new())
    }
    async fn return_orphans(&self, _: Timestamp, _: bool) -> Result<u64, StoreError> {
        Ok(0)
    }
}

fn none() -> StoreError {
    StoreError::Database("this gateway keeps no journal of leases".to_owned())
}
