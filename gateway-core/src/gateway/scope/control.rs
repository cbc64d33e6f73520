//! What others see of a running session, and how they end it.

use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::machine::End;

/// Counts of one session, shared with whoever lists sessions.
#[derive(Debug, Default)]
pub struct Counters {
    /// Operations decided.
    pub operations: AtomicU64,
    /// Of these, refused.
    pub refused: AtomicU64,
    /// Rows returned.
    pub rows: AtomicU64,
    /// Bytes sent to the client.
    pub bytes: AtomicU64,
}

/// How a session is told to end.
#[derive(Debug, Default)]
pub struct Control {
    /// Cancelled when the session must end; the reason is then set.
    pub stop: CancellationToken,
    /// Cancelled when the gateway drains: the session may end as soon as it is quiet.
    pub drain: CancellationToken,
    reason: Mutex<Option<End>>,
    /// Told when the client gives up waiting for people, while it waits.
    waiting: Mutex<Option<oneshot::Sender<()>>>,
}

impl Control {
    /// Ends the session.
    pub fn end(&self, why: End) {
        self.reason.lock().get_or_insert(why);
        self.stop.cancel();
    }

    /// Why it was told to end.
    pub fn reason(&self) -> End {
        self.reason
            .lock()
            .clone()
            .unwrap_or_else(|| End::Killed(Box::default()))
    }

    /// The client gives up waiting for people; `false`: it does not wait for any.
    pub fn give_up(&self) -> bool {
        let waiting = self.waiting.lock().take();
        waiting.is_some_and(|waiting| waiting.send(()).is_ok())
    }

    /// Answers once the client has given up.
    pub(super) fn waits(&self) -> oneshot::Receiver<()> {
        let (give_up, given_up) = oneshot::channel();
        *self.waiting.lock() = Some(give_up);
        given_up
    }
}
