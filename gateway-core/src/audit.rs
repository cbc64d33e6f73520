//! The audit trail: typed events, chained by hash, durable before an operation is forwarded.
//!
//! The events and the [`AuditSink`] are here; [`log`] writes them to append-only segment files, [`read`] verifies
//! and searches these. The format of a record, with the exact bytes that its hash covers, is in [`log`].

mod decided;
mod key;
pub mod log;
pub mod read;
mod record;
mod segments;
mod signed;

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::operation::Operation;
use crate::principal::Principal;
use crate::recording::OnFailure;
use crate::recording::chunk::Seal;
use crate::session::SessionId;
pub use key::{AuditPublicKey, SigningKey};

pub use decided::{Decided, OperationEvent};

/// `[audit] mode`: when an event must be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditMode {
    /// Before the operation is forwarded.
    Durable,
    /// Soon: within the flush interval.
    Batched,
}

/// A bound parameter as the audit trail keeps it: text, `\x` and hex digits, or null.
pub type Parameter = Option<String>;

/// One thing that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The gateway started, with this configuration's policy version.
    Started {
        /// Version of the binary.
        version: String,
        /// Policies in force.
        policy: String,
    },
    /// The gateway stopped in order.
    Stopped {},
    /// Policies or configuration were reloaded, or a reload was refused.
    Reloaded {
        /// Policies in force afterwards.
        policy: String,
        /// Why the new ones were refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A login that did not lead to a session.
    LoginRefused {
        /// From where.
        peer: SocketAddr,
        /// The adapter.
        protocol: String,
        /// The user name as sent, cut at 256 bytes.
        user: String,
        /// The resource that was named.
        resource: String,
        /// Who it was, where that much was proven.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        principal: Option<Arc<Principal>>,
        /// Why; for operators, not what the client was told.
        reason: String,
        /// What the client was told instead; the log has it, too.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        correlation: String,
    },
    /// A session began.
    SessionStarted {
        /// Its id.
        session: SessionId,
        /// Who.
        principal: Arc<Principal>,
        /// Id of the token or certificate that proved it.
        credential: String,
        /// To what.
        resource: String,
        /// The adapter.
        protocol: String,
        /// Database or target login.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
        /// From where.
        peer: SocketAddr,
        /// The policies that permitted `connect`.
        rules: Vec<String>,
    },
    /// A session got a login at the target that is its own.
    CredentialLeased {
        /// The session.
        session: SessionId,
        /// The lease's id.
        lease: String,
        /// The issuer's kind.
        kind: String,
        /// The login's name, as the target's own log has it.
        login: String,
        /// When it ends by itself unless it is renewed.
        expires: Timestamp,
    },
    /// Nothing is left of a session's own login.
    CredentialRevoked {
        /// The session.
        session: SessionId,
        /// The lease's id.
        lease: String,
    },
    /// An operation was decided; written before it is forwarded.
    Operation {
        /// The session.
        session: SessionId,
        /// Number within the session.
        ticket: u64,
        /// Who.
        principal: Arc<Principal>,
        /// On what.
        resource: String,
        /// In one line.
        operation: String,
        /// What was asked of policy.
        asked: Vec<Operation>,
        /// The full text; normalised where `literals = false`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        statement: Option<String>,
        /// Bound parameters; absent where `literals = false`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        parameters: Vec<Parameter>,
        /// `allow`, `deny` or `hold`.
        verdict: String,
        /// The determining policies; empty on a default deny or where nothing was asked.
        rules: Vec<String>,
        /// Why it was refused, as the client was told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
        /// Tags whose data was masked in the answer.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        masked: Vec<String>,
        /// The policy version that decided.
        policy: String,
    },
    /// An operation ended.
    Outcome {
        /// The session.
        session: SessionId,
        /// The operation's number.
        ticket: u64,
        /// Rows sent to the client or changed.
        rows: u64,
        /// Bytes sent to the client; of a file of its own, and of a forward, those in both directions.
        bytes: u64,
        /// From its decision to its end, in microseconds.
        micros: u64,
        /// The target's error code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A client asked to cancel what runs in a session.
    Cancel {
        /// The session whose operation it was; `None`: no session has that key.
        session: Option<SessionId>,
        /// From where.
        peer: SocketAddr,
    },
    /// A session ended.
    SessionEnded {
        /// The session.
        session: SessionId,
        /// Why.
        reason: String,
        /// The operator who ended it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Operations decided.
        operations: u64,
        /// Of these, refused.
        refused: u64,
        /// Rows returned.
        rows: u64,
        /// Bytes sent to the client.
        bytes: u64,
    },
    /// Something of a session is recorded from here on.
    RecordingStarted {
        /// The session.
        session: SessionId,
        /// The recording's number in the session.
        recording: u32,
        /// What is recorded: `shell`, `exec`, `files`.
        kind: String,
        /// What it is to people.
        title: String,
        /// Its place in the session.
        channel: String,
        /// The resource.
        resource: String,
    },
    /// Chunks of a recording are on disk.
    RecordingChunks {
        /// The session.
        session: SessionId,
        /// The recording's number in the session.
        recording: u32,
        /// The number of the first of them.
        first: u64,
        /// Their hashes.
        hashes: Vec<String>,
    },
    /// A recording could not be written.
    RecordingFailed {
        /// The session.
        session: SessionId,
        /// The recording's number in the session.
        recording: u32,
        /// The resource.
        resource: String,
        /// Why.
        why: String,
        /// What became of the session.
        then: OnFailure,
    },
    /// A recording has ended.
    RecordingSealed {
        /// The session.
        session: SessionId,
        /// The recording's number in the session.
        recording: u32,
        /// The resource.
        resource: String,
        /// How it stands.
        seal: Seal,
    },
    /// A file of a recording is in the archive, and was read back from there.
    RecordingArchived {
        /// The session.
        session: SessionId,
        /// The recording's number in the session.
        recording: u32,
        /// The object's name.
        object: String,
        /// Its size.
        bytes: u64,
        /// Its SHA-256, in hex.
        sha256: String,
    },
    /// The recordings of a session are removed.
    RecordingsRemoved {
        /// The session.
        session: SessionId,
        /// Why.
        why: String,
    },
    /// An approval was opened, decided, used up, given back, or is over.
    Approval {
        /// Its id.
        id: String,
        /// What happened: `opened`, `attached`, `approve` (a vote that is not enough yet), `approved`, `denied`, `expired`,
        /// `used`, `released`.
        what: String,
        /// Who did it: the requester, an approver; the gateway itself where there is nobody.
        by: String,
        /// Who asked.
        principal: String,
        /// For whom.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on_behalf_of: Option<String>,
        /// On what.
        resource: String,
        /// What, in one line.
        operation: String,
        /// Digest of all that it binds.
        digest: String,
        /// The groups that must approve.
        groups: Vec<String>,
        /// Who has approved it so far.
        approved_by: Vec<String>,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The session and number of the operation that opened, joined or used it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        correlation: Option<String>,
    },
    /// An operator did something: made or revoked a token, ended a session.
    Operator {
        /// Who; `operator` on the host.
        by: String,
        /// What, such as `token create`.
        action: String,
        /// On what.
        subject: String,
    },
    /// The log signed all that stands before this record. Made by the log alone.
    Checkpoint(Checkpoint),
    /// The key that signs from here on. Signed by the one before it; the first one by itself. Made by the log alone.
    SigningKey {
        /// The key.
        key: AuditPublicKey,
        /// The one before it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        previous: Option<AuditPublicKey>,
        /// The next signed record follows after at most so many others.
        next_within: u64,
    },
    /// Retention takes the oldest segments away; signed, and written before it does. Made by the log alone.
    Dropped(Dropped),
}

/// What a checkpoint tells. The chain's head that it covers is its record's `prev`, the time its `at`. In the trail the
/// last field is `signature`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Why it was made.
    pub reason: CheckpointReason,
    /// Number of the first record of the segment in which it stands.
    pub segment: u64,
    /// Records since the last signed one.
    pub records: u64,
    /// The next signed record follows after at most so many others.
    pub next_within: u64,
    /// The key that signs.
    pub key: AuditPublicKey,
}

/// Why a checkpoint was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointReason {
    /// So many records had come.
    Count,
    /// So much time had passed.
    Time,
    /// The segment ends.
    SegmentEnd,
    /// The trail was closed in order.
    Stop,
    /// The trail was opened again after it had not been closed in order.
    Recovery,
}

/// Which records retention takes away: all from the first one ever up to `last`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// The first one that was still there.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// Hash of the last one, in hex.
    pub last_hash: String,
    /// How many are taken away now.
    pub records: u64,
    /// How many segment files they are.
    pub segments: u64,
    /// How large these are.
    pub bytes: u64,
    /// Why: `age` or `size`.
    pub why: String,
    /// The key that signs.
    pub key: AuditPublicKey,
}

/// An event on its way to disk.
#[derive(Debug)]
pub enum Receipt {
    /// Taken, to be on disk within the flush interval.
    Taken,
    /// On disk once this answers; a closed channel means it is not.
    Pending(tokio::sync::oneshot::Receiver<Result<(), AuditError>>),
}

impl Receipt {
    /// Waits until the event is on disk, where that was asked for.
    pub async fn settled(self) -> Result<(), AuditError> {
        match self {
            Self::Taken => Ok(()),
            Self::Pending(answer) => answer.await.unwrap_or(Err(AuditError::Closed)),
        }
    }
}

/// Why an event is not in the trail. The operation that it tells of must then not be forwarded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuditError {
    /// The disk refused.
    #[error("the audit trail cannot be written: {0}")]
    Write(String),
    /// The writer has stopped.
    #[error("the audit trail is closed")]
    Closed,
    /// The event could not be encoded.
    #[error("an audit event could not be encoded: {0}")]
    Encode(String),
}

/// Where audit events go.
pub trait AuditSink: Send + Sync {
    /// Appends one event. With `durable`, the receipt settles once it is on disk (group commit); without, at
    /// once, but the call fails while the trail cannot be written. Bounded: where too much is unwritten, also a
    /// batched event gives a pending receipt.
    fn append(&self, at: Timestamp, event: &Event, durable: bool) -> Result<Receipt, AuditError>;

    /// Appends the event of an operation that runs; the same as appending [`OperationEvent::event`], which is what it
    /// does where a sink has nothing faster.
    fn append_operation(
        &self,
        at: Timestamp,
        operation: &OperationEvent<'_>,
        durable: bool,
    ) -> Result<Receipt, AuditError> {
        self.append(at, &operation.event(), durable)
    }
}
