//! From the outbox to receivers: claimed, sent, and settled.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use gateway_core::outbox::{KeptMessage, OutboxMessage, OutboxState};
use gateway_core::services::StoreError;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::post::PATIENCE;
use super::receiver::{Receiver, Sent};
use super::{Inner, Notifier};

/// After which pauses a message is sent again; then it is dead.
const PAUSES: [Duration; 6] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
    Duration::from_secs(3600),
    Duration::from_secs(6 * 3600),
];
/// A pause is longer by up to this part of it: receivers that come back are not met by all at once.
const JITTER: u32 = 4;
/// The longest pause that a receiver may ask for.
const LONGEST: Duration = Duration::from_secs(6 * 3600);
/// For how long a message is claimed: an attempt, and what is written before and after it.
const LEASE: Duration = PATIENCE.saturating_mul(2);
/// How often it is looked for messages that are due, or that other gateways left behind.
const LOOK: Duration = Duration::from_secs(1);
/// Messages to one receiver at the same time.
const AT_ONCE: u32 = 4;
/// Longest text of an error that is kept.
const ERROR: usize = 500;

impl Notifier {
    /// Delivers what is in the outbox. Never ends.
    pub async fn run(self) {
        let inner = &*self.0;
        join_all((0..inner.parts.receivers.len()).map(|number| inner.serve(number))).await;
        // Without receivers there is nothing to do.
        std::future::pending::<()>().await;
    }

    /// One look at the outbox of each receiver, for tests.
    #[cfg(test)]
    pub(super) async fn look(&self) -> Result<usize, StoreError> {
        let mut sent = 0;
        for number in 0..self.0.parts.receivers.len() {
            sent += self.0.look(number).await?;
        }
        Ok(sent)
    }
}

impl Inner {
    async fn serve(&self, number: usize) {
        let mut failing = false;
        loop {
            let rung = self.bell.notified();
            match self.look(number).await {
                // There may be more.
                Ok(sent) if sent > 0 => {
                    failing = false;
                    continue;
                }
                Ok(_) => failing = false,
                // Told once, not with every look.
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    tracing::warn!(%error, "the outbox could not be looked at; it is tried again");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = rung => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Sends what is due to one receiver; how many messages that were.
    async fn look(&self, number: usize) -> Result<usize, StoreError> {
        let (Some(receiver), Some(gone)) = (self.parts.receivers.get(number), self.gone.get(number)) else {
            return Ok(0);
        };
        if gone.load(Ordering::Acquire) {
            return Ok(0);
        }
        let due = self
            .parts
            .outbox
            .due_messages(&receiver.name, (self.parts.now)(), AT_ONCE)
            .await?;
        let sent = due
            .into_iter()
            .map(|kept| self.claim_and_send(receiver, gone, kept));
        let mut count = 0;
        for done in join_all(sent).await {
            count += usize::from(done?);
        }
        Ok(count)
    }

    /// Whether this gateway was the one that sent it.
    async fn claim_and_send(
        &self,
        receiver: &Receiver,
        gone: &std::sync::atomic::AtomicBool,
        kept: KeptMessage,
    ) -> Result<bool, StoreError> {
        let outbox = &self.parts.outbox;
        let now = (self.parts.now)();
        // An attempt counts before it is made: a message that brings a gateway down is not sent for ever.
        let claimed = OutboxMessage {
            due: later(now, LEASE),
            attempts: kept.message.attempts.saturating_add(1),
            ..kept.message
        };
        if !outbox.swap_message(kept.revision, &claimed).await? {
            return Ok(false);
        }
        let revision = kept.revision.saturating_add(1);
        let sent = receiver.send(&claimed, now).await;
        let name = &receiver.name;
        match sent {
            Sent::Delivered => {
                metrics::counter!("notify_delivered_total", "receiver" => name.clone()).increment(1);
                outbox.remove_message(&claimed.id, revision).await?;
            }
            Sent::Gone => {
                if !gone.swap(true, Ordering::AcqRel) {
                    tracing::error!(
                        receiver = name,
                        "the receiver answers 410: it is told nothing more until this gateway starts again"
                    );
                }
                let next = self.failed(receiver, claimed, "it answers 410, and wants no more", None, true);
                outbox.swap_message(revision, &next).await?;
            }
            Sent::Failed(why, retry_after) => {
                let next = self.failed(receiver, claimed, &why, retry_after, false);
                outbox.swap_message(revision, &next).await?;
            }
        }
        Ok(true)
    }

    /// What is kept of a message that did not arrive.
    fn failed(
        &self,
        receiver: &Receiver,
        message: OutboxMessage,
        why: &str,
        retry_after: Option<Duration>,
        last: bool,
    ) -> OutboxMessage {
        let name = &receiver.name;
        metrics::counter!("notify_failed_total", "receiver" => name.clone()).increment(1);
        let now = (self.parts.now)();
        let mut error = why.to_owned();
        gateway_core::operation::truncate(&mut error, ERROR);
        let pause = pause(&message.id, message.attempts).filter(|_| !last);
        let (state, due) = match pause {
            Some(pause) => {
                let asked = retry_after.unwrap_or_default().min(LONGEST);
                (OutboxState::Waiting, later(now, pause.max(asked)))
            }
            None => {
                metrics::counter!("notify_dead_total", "receiver" => name.clone()).increment(1);
                tracing::error!(
                    receiver = name,
                    id = message.id,
                    event = message.kind,
                    error,
                    "a message is given up; `gateway notify retry` sends it again"
                );
                (OutboxState::Dead, now)
            }
        };
        if state == OutboxState::Waiting {
            tracing::warn!(
                receiver = name,
                id = message.id,
                attempts = message.attempts,
                error,
                "a message did not arrive; it is sent again"
            );
        }
        OutboxMessage {
            state,
            due,
            error: Some(error),
            ..message
        }
    }
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    now.checked_add(by).unwrap_or(now)
}

/// How long to wait behind so many attempts; `None`: they were enough. The jitter is of the message, not of chance.
fn pause(id: &str, attempts: u32) -> Option<Duration> {
    let place = usize::try_from(attempts.saturating_sub(1)).ok()?;
    let pause = *PAUSES.get(place)?;
    let digest = Sha256::digest(format!("{id}\0{attempts}"));
    let part = digest.first().copied().unwrap_or_default();
    let more = pause.saturating_mul(u32::from(part)) / (JITTER * 255);
    Some(pause.saturating_add(more))
}

#[cfg(test)]
mod schedule {
    use super::*;

    #[test]
    fn pauses_grow_and_end_and_differ_from_message_to_message() {
        for (attempt, base) in PAUSES.iter().enumerate() {
            let attempts = u32::try_from(attempt).unwrap() + 1;
            let all: std::collections::BTreeSet<Duration> = (0..50)
                .map(|n| pause(&format!("msg_{n}"), attempts).unwrap())
                .collect();
            assert!(all.first().unwrap() >= base && *all.last().unwrap() <= *base * 5 / 4);
            assert!(all.len() > 20, "{attempts}: {}", all.len());
        }
        assert_eq!(pause("msg_1", 7), None);
    }
}
