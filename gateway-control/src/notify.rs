//! Telling receivers outside what waits for people, and what became of it.
//!
//! ```text
//!   audit trail ──read on──▶ Notifier::take ──▶ outbox (store) ──claim──▶ receiver
//!                                                  ▲                        │
//!                                                  └── later, or dead ◀─────┘ no 2xx
//! ```
//!
//! What is told is read from the audit trail, so nothing of it is in the way of a session, and what a crash interrupts is
//! read again. The outbox is a table of the store: several gateways share it, and each message is claimed by one of them, for
//! a time. A receiver gets each message at least once, under an id that stays.

mod address;
mod deliver;
mod kind;
mod post;
mod receiver;
mod sign;
mod slack;
mod tell;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gateway_core::outbox::{Outbox, OutboxMessage, OutboxState};
use gateway_core::services::{ApprovalStore, Store, StoreError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

pub use kind::Kind;
pub use post::{BadPlace, Place};
pub use receiver::{Channel, Include, Receiver};
pub use sign::{BadSecret, check_secret};
pub(crate) use slack::NotTaken;
pub use slack::{Slack, SlackParts, slack_api};
pub use tell::Happened;
use tell::News;

/// What happened longer ago is not told any more.
pub const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);
/// Messages that wait or are dead, of one receiver, where the configuration says nothing.
pub const KEPT: u32 = 10_000;

/// What telling is made of.
pub struct Parts {
    /// Keeps what is not delivered.
    pub outbox: Arc<dyn Outbox>,
    /// Knows approvals.
    pub approvals: Arc<dyn ApprovalStore>,
    /// Knows sessions.
    pub sessions: Arc<dyn Store>,
    /// Who is told.
    pub receivers: Vec<Receiver>,
    /// What links begin with; empty: there are none.
    pub url: String,
    /// Messages that are kept of one receiver.
    pub kept: u32,
    /// The clock.
    pub now: fn() -> Timestamp,
}

/// Tells receivers. Cheap to clone.
#[derive(Clone)]
pub struct Notifier(Arc<Inner>);

struct Inner {
    parts: Parts,
    /// Receivers that want no more messages (410), in the order of `parts.receivers`.
    gone: Vec<AtomicBool>,
    /// Something was put into the outbox.
    bell: Notify,
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.0.parts.receivers.iter().map(|one| &one.name);
        f.debug_list().entries(names).finish()
    }
}

/// A message as the API shows it. What it says is not shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageView {
    /// Its id, which the receiver sees as `webhook-id`.
    pub id: String,
    /// `waiting` or `dead`.
    pub state: OutboxState,
    /// Whose it is.
    pub receiver: String,
    /// What it tells, such as `approval.opened`.
    pub event: String,
    /// When that happened.
    pub created: Timestamp,
    /// When it is sent the next time; of a dead one, when it was given up.
    pub due: Timestamp,
    /// How often it was sent.
    pub attempts: u32,
    /// Why it did not arrive the last time.
    #[serde(default)]
    pub error: Option<String>,
}

impl From<OutboxMessage> for MessageView {
    fn from(message: OutboxMessage) -> Self {
        Self {
            id: message.id,
            state: message.state,
            receiver: message.receiver,
            event: message.kind,
            created: message.created,
            due: message.due,
            attempts: message.attempts,
            error: message.error,
        }
    }
}

impl Notifier {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            gone: parts.receivers.iter().map(|_| AtomicBool::new(false)).collect(),
            parts,
            bell: Notify::new(),
        }))
    }

    /// Takes what happened; when this returns it is in the outbox, and need not be read again.
    ///
    /// # Errors
    ///
    /// The store can't be asked: it is to be tried again, with the same.
    pub async fn take(&self, all: &[Happened]) -> Result<(), StoreError> {
        let inner = &self.0;
        let parts = &inner.parts;
        for happened in all {
            if parts.receivers.is_empty() {
                return Ok(());
            }
            let news = News::of(happened, &*parts.approvals, &*parts.sessions, &parts.url).await?;
            let Some(news) = news else { continue };
            let wanted = parts.receivers.iter().zip(&inner.gone);
            for (receiver, gone) in wanted.filter(|(receiver, _)| receiver.events.contains(&news.kind)) {
                inner.keep(receiver, gone, happened, &news).await?;
            }
        }
        Ok(())
    }

    /// At most `limit` messages that are not delivered: the dead first, then the newest.
    ///
    /// # Errors
    ///
    /// The store can't be asked.
    pub async fn list(&self, limit: u32) -> Result<Vec<MessageView>, StoreError> {
        let found = self.0.parts.outbox.messages(limit).await?;
        Ok(found.into_iter().map(MessageView::from).collect())
    }

    /// Has a message sent anew, at once, with all its attempts before it; `None`: there is none of that id.
    ///
    /// # Errors
    ///
    /// The store can't be asked.
    pub async fn retry(&self, id: &str) -> Result<Option<MessageView>, StoreError> {
        const TRIES: usize = 8;
        for _ in 0..TRIES {
            let Some(kept) = self.0.parts.outbox.message(id).await? else {
                return Ok(None);
            };
            let next = OutboxMessage {
                state: OutboxState::Waiting,
                due: (self.0.parts.now)(),
                attempts: 0,
                ..kept.message
            };
            if self.0.parts.outbox.swap_message(kept.revision, &next).await? {
                self.0.bell.notify_waiters();
                return Ok(Some(next.into()));
            }
        }
        Err(StoreError::Database(format!(
            "`{id}` changes all the time; try again"
        )))
    }
}

impl Inner {
    /// Puts one message for one receiver into the outbox.
    async fn keep(
        &self,
        receiver: &Receiver,
        gone: &AtomicBool,
        happened: &Happened,
        news: &News,
    ) -> Result<(), StoreError> {
        let now = (self.parts.now)();
        let name = &receiver.name;
        if gone.load(Ordering::Acquire) || now.duration_since(happened.at).unsigned_abs() > FORGOTTEN {
            dropped(name, 1);
            return Ok(());
        }
        let body = match news.document(receiver.include) {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(receiver = name, %error, "a message could not be written");
                dropped(name, 1);
                return Ok(());
            }
        };
        let message = OutboxMessage {
            id: message_id(&happened.hash, name),
            receiver: name.clone(),
            kind: news.kind.to_string(),
            body,
            state: OutboxState::Waiting,
            created: happened.at,
            due: now,
            attempts: 0,
            error: None,
        };
        let went = self.parts.outbox.put_message(&message, self.parts.kept).await?;
        if went > 0 {
            tracing::error!(
                receiver = name,
                messages = went,
                "more messages wait for this receiver than are kept: the oldest were dropped"
            );
            dropped(name, went);
        }
        self.bell.notify_waiters();
        Ok(())
    }
}

fn dropped(receiver: &str, messages: u64) {
    metrics::counter!("notify_dropped_total", "receiver" => receiver.to_owned()).increment(messages);
}

/// The same for the same record and receiver, whoever reads it and how often.
fn message_id(hash: &str, receiver: &str) -> String {
    let digest = Sha256::digest(format!("{hash}\0{receiver}"));
    let digits: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("msg_{digits}")
}
