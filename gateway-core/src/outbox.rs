//! Messages on their way to receivers outside, kept until they are delivered.
//!
//! ```text
//!   put ──▶ waiting ──claim──▶ waiting, due when the lease ends ──delivered──▶ gone
//!              ▲                        │
//!              ├────── again, later ────┤
//!              └──retry── dead ◀────────┘ tried often enough
//! ```
//!
//! Several gateways may share an outbox: who claims a message names the revision that it read, so one of two wins, and a
//! message whose claimer died is due again when its lease is over. So each is delivered at least once, under one id.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::services::StoreError;

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutboxState {
    /// It is to be delivered.
    Waiting,
    /// It was tried often enough; only a person sends it again.
    Dead,
}

impl OutboxState {
    /// The word that users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Dead => "dead",
        }
    }

    /// The state of that word.
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "waiting" => Some(Self::Waiting),
            "dead" => Some(Self::Dead),
            _ => None,
        }
    }
}

/// A message to one receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxMessage {
    /// Its id, the same however often it is sent.
    pub id: String,
    /// The receiver's name in the configuration.
    pub receiver: String,
    /// What it tells, such as `approval.opened`.
    pub kind: String,
    /// What is sent.
    pub body: String,
    /// Where it stands.
    pub state: OutboxState,
    /// When what it tells happened.
    pub created: Timestamp,
    /// When it is to be sent; of one that is claimed, when others may claim it.
    pub due: Timestamp,
    /// How often it was claimed.
    pub attempts: u32,
    /// Why it was not delivered the last time.
    pub error: Option<String>,
}

/// A message together with the number of times that it was changed: who changes it names the number that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptMessage {
    /// The message.
    pub message: OutboxMessage,
    /// How often it was changed.
    pub revision: i64,
}

/// Keeps messages until they are delivered.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Keeps a message, unless it is there already. Of its receiver at most `most` are kept: the dead go first, then the
    /// oldest; gives how many went.
    async fn put_message(&self, message: &OutboxMessage, most: u32) -> Result<u64, StoreError>;
    /// At most `limit` of a receiver that wait and are due, oldest first.
    async fn due_messages(
        &self,
        receiver: &str,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<KeptMessage>, StoreError>;
    /// Puts state, due, attempts and error of `next` in the place of what was read with that revision; `false`: somebody was
    /// faster, or it is gone.
    async fn swap_message(&self, revision: i64, next: &OutboxMessage) -> Result<bool, StoreError>;
    /// Takes a message away that was read with that revision; `false`: somebody was faster, or it is gone.
    async fn remove_message(&self, id: &str, revision: i64) -> Result<bool, StoreError>;
    /// One of them.
    async fn message(&self, id: &str) -> Result<Option<KeptMessage>, StoreError>;
    /// At most `limit`, the dead first, then the newest.
    async fn messages(&self, limit: u32) -> Result<Vec<OutboxMessage>, StoreError>;
}
