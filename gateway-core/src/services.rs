//! The narrow traits that outer rooms implement: policy, identity, credentials, approvals, store.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::approval::Approval;
use crate::audit::Parameter;
use crate::machine::{Estimate, Kill};
use crate::operation::{EntityRef, Operations};
use crate::principal::{Authenticated, Principal};
use crate::resource::Resource;
use crate::secret::Secret;
use crate::session::{SessionId, SessionRecord};
use crate::verdict::{Code, Decision, Denial, Hold, Verdict};

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

    /// Another number whenever what is decided may be another: with every reload, and as grants begin and end, which
    /// changes no version.
    fn generation(&self) -> u64 {
        0
    }

    /// Whether [`Self::version`] and [`Self::generation`] are these now. Asked for each message.
    fn is_at(&self, version: &Arc<str>, generation: u64) -> bool {
        // The generation first: one that is older than the version only says no.
        if self.generation() != generation {
            return false;
        }
        let now = self.version();
        Arc::ptr_eq(&now, version) || now == *version
    }

    /// Whether a verdict holds for as long as [`Self::version`] and [`Self::generation`] stay the same, so that a session
    /// need not ask again for the same operations. Without a word to the contrary each message is asked anew.
    fn holds_for_its_version(&self) -> bool {
        false
    }

    /// The objects of a resource that rules name, each with what to call the rule: for who can tell whether they exist.
    fn named(&self, resource: &str) -> Vec<(EntityRef, String)> {
        let _ = resource;
        Vec::new()
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

    /// Whether a public key of that fingerprint ([`TokenKey::fingerprint`]) is known, so that it is worth asking a client for a
    /// proof that it has it. That it is known proves nothing.
    async fn knows_key(&self, fingerprint: &str) -> Result<bool, AuthError> {
        let _ = fingerprint;
        Ok(false)
    }

    /// Whose a key is that a client has proven to have. `certificate`: what the certificate of the gateway's own names that was
    /// shown with it, and verified; a key that is known by its certificates alone is nobody's without one.
    async fn key_holder(
        &self,
        fingerprint: &str,
        certificate: Option<&str>,
    ) -> Result<Authenticated, AuthError> {
        let _ = (fingerprint, certificate);
        Err(AuthError::Unknown)
    }

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
    /// A key that is known by its certificates alone was shown by itself, as clients do before they show the certificate.
    #[error("its key proves nothing without its certificate")]
    NeedsCertificate,
    /// Whoever knows could not be asked.
    #[error("identity cannot be verified now: {0}")]
    Unavailable(String),
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
    /// Digest of all that an approval binds: who, for whom, on what, operations, text, bound parameters, policy.
    pub digest: [u8; 32],
    /// The exact text, for the approver.
    pub statement: Option<Arc<str>>,
    /// Bound parameters, for the approver.
    pub parameters: Vec<Parameter>,
    /// Names in the text that stand for something in that session, with what they stand for.
    pub stands_for: Vec<(String, String)>,
    /// How many rows it would touch, where the target can be asked.
    pub estimate: Option<Estimate>,
    /// Why, as the client said when it logged in.
    pub reason: Option<Arc<str>>,
    /// The policy version that held it.
    pub policy: Arc<str>,
    /// Correlates with the audit trail: the session's id and the operation's number.
    pub correlation: String,
}

/// What became of an operation that is held.
pub enum Opened {
    /// People have approved exactly this already: it may be claimed under this id.
    Approved(String),
    /// People must decide first.
    Waiting(Waiting),
}

/// An approval on its way.
pub struct Waiting {
    /// What the client is told at once.
    pub notice: Decision,
    /// What comes of it, perhaps much later.
    pub answer: BoxFuture<'static, Answer>,
}

/// What came of waiting.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Something has changed: it was approved, or other policies hold now. Whoever waits looks at the message anew and
    /// asks again; nothing may run on the strength of this.
    Again,
    /// It was refused, or its time is over; what the client is told.
    Refused(Decision),
}

/// Where held operations wait for people.
pub trait Approvals: Send + Sync {
    /// Opens an approval, or joins the open or approved one for the same digest; a denial where nobody can approve.
    fn open(&self, held: Held) -> BoxFuture<'static, Result<Opened, Denial>>;

    /// Uses up the approval of that id for the operation `held`. `Ok(true)`: the operation may run, once, and this is in
    /// the audit trail. `Ok(false)`: somebody else has used it, or it counts no more; ask anew. Where the answer is not
    /// taken, because its future was dropped, the approval is given back.
    fn claim(&self, id: String, held: Held) -> BoxFuture<'static, Result<bool, Denial>>;
}

/// The approvals of a gateway on which nobody can approve: every hold is a denial that says so.
#[derive(Debug, Default, Clone, Copy)]
pub struct NobodyApproves;

impl Approvals for NobodyApproves {
    fn open(&self, held: Held) -> BoxFuture<'static, Result<Opened, Denial>> {
        let groups: Vec<&str> = held.hold.groups.iter().map(String::as_str).collect();
        let denial = Denial {
            code: Code::Denied,
            rule: held.hold.rules.first().cloned(),
            hint: format!(
                "this needs the approval of {}, and nobody can approve on this gateway",
                groups.join(" and ")
            ),
            operation: held.hold.operation,
        };
        Box::pin(std::future::ready(Err(denial)))
    }

    fn claim(&self, _: String, _: Held) -> BoxFuture<'static, Result<bool, Denial>> {
        Box::pin(std::future::ready(Ok(false)))
    }
}

/// How many approvals may be live.
#[derive(Debug, Clone, Copy)]
pub struct ApprovalRoom {
    /// Of one subject.
    pub principal: u32,
    /// Of all.
    pub all: u32,
}

/// What became of an approval that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is kept.
    New,
    /// A live one has its digest.
    Exists,
    /// There is no room for it.
    Full,
}

/// An approval together with the number of times that it was changed: who changes it names the number that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptApproval {
    /// The approval.
    pub approval: Approval,
    /// How often it was changed.
    pub revision: i64,
}

/// Keeps approvals. Of two who change one at the same time, one wins.
#[async_trait]
pub trait ApprovalStore: Send + Sync {
    /// Keeps a new one, unless a live one has its digest or there are too many.
    async fn insert_approval(&self, approval: &Approval, room: ApprovalRoom) -> Result<Inserted, StoreError>;
    /// The one of that id.
    async fn approval(&self, id: &str) -> Result<Option<KeptApproval>, StoreError>;
    /// The live one of that digest.
    async fn live_approval(&self, digest: &str) -> Result<Option<KeptApproval>, StoreError>;
    /// Puts `next` in the place of what was read with that revision; `false`: somebody was faster.
    async fn swap_approval(&self, revision: i64, next: &Approval) -> Result<bool, StoreError>;
    /// At most `limit`, those that are open first, then the newest.
    async fn approvals(&self, limit: u32) -> Result<Vec<Approval>, StoreError>;
    /// Ids of those that are open.
    async fn open_approvals(&self) -> Result<Vec<String>, StoreError>;
    /// At most `limit` requests for access that are approved and not over, oldest first.
    async fn granted_approvals(&self, now: Timestamp, limit: u32) -> Result<Vec<Approval>, StoreError>;
    /// At most `limit` live ones whose deadline has passed.
    async fn overdue_approvals(&self, now: Timestamp, limit: u32) -> Result<Vec<KeptApproval>, StoreError>;
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
    /// The key that proves it, where that is no secret: nobody knows one then.
    #[serde(default)]
    pub key: Option<TokenKey>,
}

/// A public key that proves a token in the place of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenKey {
    /// SHA-256 of the public key as its tools print it: `SHA256:` and base64.
    pub fingerprint: String,
    /// Whether the key alone proves nothing: the certificate that names the token's id must be shown with it.
    pub certified: bool,
    /// The token by which it was got: with that one this one ends.
    pub parent: Option<String>,
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
    /// Tokens that a key of that fingerprint proves, ended ones too: those that need no certificate first, of these the ones that
    /// are not revoked, then by their end. A store may know none.
    async fn key_tokens(&self, fingerprint: &str) -> Result<Vec<TokenRecord>, StoreError> {
        let _ = fingerprint;
        Ok(Vec::new())
    }
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
    /// At a start: marks this gateway's sessions without an end as ended at `at` (they were cut by a crash), and those of
    /// no gateway; returns how many. Where several gateways share the store, those of the others go on.
    async fn close_orphans(&self, at: Timestamp, reason: &str) -> Result<u64, StoreError>;
    /// Asks the other gateway on which a session runs to end it; `false`: it runs on none. A store of one gateway alone
    /// need not know others.
    async fn end_elsewhere(&self, id: SessionId, kill: &Kill) -> Result<bool, StoreError> {
        let _ = (id, kill);
        Ok(false)
    }
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
