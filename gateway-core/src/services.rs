//! The narrow traits that outer rooms implement: policy, identity, credentials, approvals, store.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::operation::Operations;
use crate::principal::{Authenticated, Principal};
use crate::resource::Resource;
use crate::secret::Secret;
use crate::session::{SessionId, SessionRecord};
use crate::verdict::{Decision, Denial, Hold, Verdict};

/// Decides operations. Synchronous: a decision never waits.
pub trait Policy: Send + Sync {
    /// The verdict on all `operations` of one message: the strictest wins, an empty list is allowed.
    fn decide(
        &self,
        principal: &Arc<Principal>,
        resource: &Arc<Resource>,
        operations: &Arc<Operations>,
    ) -> Verdict;

    /// Names the set of policies in force (a digest); changes with every reload that changed anything.
    fn version(&self) -> Arc<str>;

    /// Whether a verdict holds for as long as [`Self::version`] stays the same, so that a session need not ask again for
    /// the same operations. Without a word to the contrary each message is asked anew.
    fn holds_for_its_version(&self) -> bool {
        false
    }
}

/// Tells who holds a secret.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// Verifies a secret (a gateway token, an OIDC token) as it was sent.
    async fn authenticate(&self, secret: &Secret) -> Result<Authenticated, AuthError>;

    /// What a client must prove that it knows which gives `name` as its name and does not send the secret. `None`: a
    /// name of this form names no secret, so that the secret itself is asked for.
    ///
    /// Neither the answer nor the time that it takes may tell which names are known: of the right form all have a
    /// verifier, the same one each time they are asked for.
    async fn provable(&self, name: &str) -> Result<Option<Provable>, AuthError>;

    /// Whether what proved an identity still holds; asked from time to time while a session runs, so that a
    /// revoked token ends it. An `Err` says that the store could not be asked.
    async fn still_valid(&self, credential_id: &str) -> Result<bool, AuthError>;
}

/// A secret that a client proves to know without sending it, and whose it is.
#[derive(Debug, Clone)]
pub struct Provable {
    /// A SCRAM-SHA-256 verifier as PostgreSQL writes it: `SCRAM-SHA-256$4096:<salt>$<StoredKey>:<ServerKey>`.
    pub verifier: Secret,
    /// Who it is, once proven; or why that leads nowhere. Where the secret is unknown nothing matches the verifier.
    pub who: Result<Authenticated, AuthError>,
}

/// Why a secret proves nothing. The client is told none of this.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthError {
    /// No such secret is known.
    #[error("the token is unknown")]
    Unknown,
    /// It has ended.
    #[error("the token has expired")]
    Expired,
    /// It was withdrawn.
    #[error("the token was revoked")]
    Revoked,
    /// It is not of a form that anyone issues.
    #[error("the secret has no known form")]
    Form,
    /// It has a known form and is refused for what it says.
    #[error("the token is refused: {0}")]
    Rejected(String),
    /// Whoever knows could not be asked.
    #[error("identity cannot be verified now: {0}")]
    Unavailable(String),
}

/// What is needed to lease a credential.
#[derive(Debug)]
pub struct LeaseRequest<'a> {
    /// The session that it is for.
    pub session: SessionId,
    /// Who will use it.
    pub principal: &'a Arc<Principal>,
    /// The target.
    pub resource: &'a Arc<Resource>,
}

/// What the gateway got for one session to log in to the target.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Names it towards its issuer.
    pub id: String,
    /// The login's name at the target.
    pub username: String,
    /// Its password.
    pub password: Option<Secret>,
    /// When it ends by itself.
    pub expires: Option<Timestamp>,
}

/// Gets credentials for sessions, and gives them back.
#[async_trait]
pub trait CredentialIssuer: Send + Sync {
    /// A credential for one session.
    async fn lease(&self, request: LeaseRequest<'_>) -> Result<Lease, CredentialError>;

    /// The gateway's own login to a resource, for reading its structure; never given to a session.
    async fn own(&self, resource: &Arc<Resource>) -> Result<Lease, CredentialError>;

    /// Ends a lease.
    async fn revoke(&self, resource: &Arc<Resource>, lease: &Lease) -> Result<(), CredentialError>;
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
}

/// An operation that policy holds.
#[derive(Debug, Clone)]
pub struct Held {
    /// What policy demands.
    pub hold: Hold,
    /// The session.
    pub session: SessionId,
    /// Who asks.
    pub principal: Arc<Principal>,
    /// On what.
    pub resource: Arc<Resource>,
    /// What was asked of policy.
    pub operations: Arc<Operations>,
    /// Digest of all that an approval binds: operations, text and bound parameters.
    pub digest: [u8; 32],
    /// The exact text, for the approver.
    pub statement: Option<Arc<str>>,
    /// The policy version that held it.
    pub policy: Arc<str>,
    /// Correlates with the audit trail.
    pub correlation: String,
}

/// An approval on its way.
pub struct Waiting {
    /// What the client is told at once.
    pub notice: Decision,
    /// The answer, perhaps much later: allowed to run once, or refused with what the client is told.
    pub answer: BoxFuture<'static, Result<(), Decision>>,
}

/// Where held operations wait for a person.
pub trait Approvals: Send + Sync {
    /// Opens an approval, or joins the open one for the same digest; a denial where nobody can approve.
    fn open(&self, held: Held) -> Result<Waiting, Denial>;
}

/// The approvals of a gateway on which nobody can approve: every hold is a denial that says so.
#[derive(Debug, Default, Clone, Copy)]
pub struct NobodyApproves;

impl Approvals for NobodyApproves {
    fn open(&self, held: Held) -> Result<Waiting, Denial> {
        let groups: Vec<&str> = held.hold.groups.iter().map(String::as_str).collect();
        Err(Denial {
            code: crate::verdict::Code::Denied,
            rule: held.hold.rules.first().cloned(),
            operation: held.hold.operation,
            hint: format!(
                "this needs the approval of {}, and nobody can approve on this gateway",
                groups.join(" and ")
            ),
        })
    }
}

/// A gateway token as it is kept: never the token itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its public id.
    pub id: String,
    /// SHA-256 of the secret part, hex.
    pub hash: String,
    /// A SCRAM-SHA-256 verifier of the whole token, as PostgreSQL writes it (`SCRAM-SHA-256$4096:salt$...`).
    pub scram: String,
    /// Whose it is.
    pub principal: Principal,
    /// The only resources it is good for.
    pub resources: Option<std::collections::BTreeSet<String>>,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
}

/// Which sessions to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionFilter {
    /// Those that run.
    Live,
    /// The newest, running or not.
    Recent,
}

/// Keeps what must outlive the process.
#[async_trait]
pub trait Store: Send + Sync {
    /// Keeps a new token.
    async fn insert_token(&self, token: &TokenRecord) -> Result<(), StoreError>;
    /// The token of that id, also if it has ended.
    async fn token(&self, id: &str) -> Result<Option<TokenRecord>, StoreError>;
    /// All tokens, newest first.
    async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError>;
    /// Revokes a token; `false` if there is none of that id or it was revoked before.
    async fn revoke_token(&self, id: &str, at: Timestamp) -> Result<bool, StoreError>;
    /// Writes a session: a new one, or the newer state of one that is there.
    async fn put_session(&self, session: &SessionRecord) -> Result<(), StoreError>;
    /// One session.
    async fn session(&self, id: SessionId) -> Result<Option<SessionRecord>, StoreError>;
    /// At most `limit` sessions, newest first.
    async fn sessions(&self, filter: SessionFilter, limit: u32) -> Result<Vec<SessionRecord>, StoreError>;
    /// Marks every session without an end as ended at `at` (they were cut by a crash); returns how many.
    async fn close_orphans(&self, at: Timestamp, reason: &str) -> Result<u64, StoreError>;
}

/// Why the store could not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database refused or is gone.
    #[error("the store failed: {0}")]
    Database(String),
    /// What is stored cannot be read.
    #[error("the store holds what can't be read: {0}")]
    Corrupt(String),
}
