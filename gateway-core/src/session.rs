//! Ids and records of sessions.

use std::fmt;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::principal::Principal;

/// Names one session; time-ordered (UUID version 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub uuid::Uuid);

impl SessionId {
    /// A fresh id.
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7())
    }

    /// Twelve characters that tell sessions apart in logs and in `application_name`: the random tail.
    pub fn short(&self) -> String {
        let text = self.0.simple().to_string();
        text.get(20..).unwrap_or_default().to_owned()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for SessionId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// What is known of one session, running or ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// Who opened it.
    pub principal: Principal,
    /// To what.
    pub resource: String,
    /// The adapter.
    pub protocol: String,
    /// The target login or database that was asked for, where the protocol has one.
    pub detail: Option<String>,
    /// From where.
    pub peer: SocketAddr,
    /// Since when.
    pub started: Timestamp,
    /// Until when; `None` while it runs.
    pub ended: Option<Timestamp>,
    /// Why it ended, in one word or sentence.
    pub reason: Option<String>,
    /// Operations decided.
    pub operations: u64,
    /// Of these, refused.
    pub refused: u64,
    /// Rows returned to the client.
    pub rows: u64,
    /// Bytes sent to the client.
    pub bytes: u64,
    /// The gateway on which it runs, where several share a store; the store knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}
