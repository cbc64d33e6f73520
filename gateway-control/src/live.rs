//! What happens, as it happens: the audit trail's events to those who watch a session or wait for approvals.
//!
//! ```text
//!   pipeline, approvals ──▶ Tapped ──▶ the trail
//!                             │ accepted
//!                             └──▶ Live ──▶ bounded queues, one a watcher; who does not keep up is cut off
//! ```
//!
//! Nobody who watches slows a session: an event is offered, never waited for. Without watchers an event costs one load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use gateway_core::audit::read::AuditRow;
use gateway_core::audit::{AuditError, AuditSink, Event, OperationEvent, Receipt};
use gateway_core::operation::truncate;
use gateway_core::session::SessionId;
use jiff::Timestamp;
use parking_lot::RwLock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Watchers at the same time.
const WATCHERS: usize = 64;
/// Of these, of one subject.
const WATCHERS_OF_ONE: usize = 8;
/// Events that wait for one watcher.
const QUEUE: usize = 256;
/// Bytes of texts that wait for one watcher.
const QUEUE_BYTES: usize = 1 << 20;
/// Longest text of an event, in bytes; the trail has all of it.
const TEXT: usize = 16 * 1024;
/// Parameters of an event; the trail has all of them.
const PARAMETERS: usize = 64;

/// What one watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    /// All that happens in a session.
    Session(SessionId),
    /// What becomes of approvals.
    Approvals,
}

impl Topic {
    /// What the event is about.
    fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Operation { session, .. }
            | Event::Outcome { session, .. }
            | Event::SessionEnded { session, .. }
            | Event::Cancel {
                session: Some(session),
                ..
            } => Some(Self::Session(*session)),
            Event::Approval { .. } => Some(Self::Approvals),
            _ => None,
        }
    }
}

/// What a watcher gets.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// Of a session. Texts may be cut.
    Row(Box<AuditRow>),
    /// Of an approval: its id, and what happened.
    Approval { id: String, what: String },
}

impl News {
    fn of(at: Timestamp, event: Event) -> Self {
        if let Event::Approval { id, what, .. } = event {
            return Self::Approval { id, what };
        }
        let mut row = AuditRow::of_event(at, event);
        row.parameters.truncate(PARAMETERS);
        let texts = [&mut row.statement, &mut row.operation, &mut row.detail];
        for text in texts.into_iter().chain(row.parameters.iter_mut()).flatten() {
            truncate(text, TEXT);
        }
        Self::Row(Box::new(row))
    }

    fn size(&self) -> usize {
        match self {
            Self::Row(row) => [&row.statement, &row.operation, &row.detail]
                .into_iter()
                .chain(&row.parameters)
                .flatten()
                .map(String::len)
                .sum(),
            Self::Approval { id, what } => id.len().saturating_add(what.len()),
        }
    }
}

struct Watcher {
    number: u64,
    topic: Topic,
    subject: String,
    queue: mpsc::Sender<News>,
    waiting: Arc<AtomicUsize>,
    behind: Arc<AtomicBool>,
}

/// The watchers.
#[derive(Default)]
pub struct Live {
    watchers: RwLock<Vec<Watcher>>,
    /// How many there are.
    count: AtomicUsize,
    numbers: std::sync::atomic::AtomicU64,
    closed: CancellationToken,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live")
            .field("watchers", &self.count.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

impl Live {
    /// All that watch are told to end: the gateway stops.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// Begins to watch; `None`: there are too many, or the gateway stops.
    pub(crate) fn watch(self: &Arc<Self>, topic: Topic, subject: &str) -> Option<Watching> {
        let mut watchers = self.watchers.write();
        let own = watchers.iter().filter(|one| one.subject == subject).count();
        if watchers.len() >= WATCHERS || own >= WATCHERS_OF_ONE || self.closed.is_cancelled() {
            return None;
        }
        let (queue, news) = mpsc::channel(QUEUE);
        let (waiting, behind) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        watchers.push(Watcher {
            number,
            topic,
            subject: subject.to_owned(),
            queue,
            waiting: waiting.clone(),
            behind: behind.clone(),
        });
        self.count.store(watchers.len(), Ordering::Release);
        Some(Watching {
            live: self.clone(),
            number,
            news,
            waiting,
            behind,
        })
    }

    fn leave(&self, number: u64) {
        let mut watchers = self.watchers.write();
        watchers.retain(|one| one.number != number);
        self.count.store(watchers.len(), Ordering::Release);
    }

    /// Whether anybody watches this.
    fn watched(&self, topic: Topic) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.watchers.read().iter().any(|one| one.topic == topic)
    }

    fn publish(&self, at: Timestamp, topic: Topic, event: Event) {
        let news = News::of(at, event);
        let size = news.size();
        let mut slow = Vec::new();
        for watcher in self.watchers.read().iter().filter(|one| one.topic == topic) {
            let waiting = watcher.waiting.fetch_add(size, Ordering::AcqRel);
            if waiting.saturating_add(size) > QUEUE_BYTES || watcher.queue.try_send(news.clone()).is_err() {
                watcher.behind.store(true, Ordering::Release);
                slow.push(watcher.number);
            }
        }
        // Their queues end with what is in them.
        for number in slow {
            self.leave(number);
        }
    }
}

/// Somebody who watches; leaves when dropped.
#[derive(Debug)]
pub(crate) struct Watching {
    live: Arc<Live>,
    number: u64,
    news: mpsc::Receiver<News>,
    waiting: Arc<AtomicUsize>,
    behind: Arc<AtomicBool>,
}

/// Why there is no more news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// The watcher did not keep up.
    Behind,
    /// The gateway stops.
    Closed,
}

impl Watching {
    /// The next news. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Result<News, Over> {
        let news = tokio::select! {
            biased;
            () = self.live.closed.cancelled() => return Err(Over::Closed),
            news = self.news.recv() => news,
        };
        match news {
            Some(news) => {
                self.waiting.fetch_sub(news.size(), Ordering::AcqRel);
                Ok(news)
            }
            None if self.behind.load(Ordering::Acquire) => Err(Over::Behind),
            None => Err(Over::Closed),
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.live.leave(self.number);
    }
}

/// A trail whose events are also told to those who watch, once it has taken them.
pub struct Tapped {
    trail: Arc<dyn AuditSink>,
    live: Arc<Live>,
}

impl std::fmt::Debug for Tapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tapped").field(&self.live).finish()
    }
}

impl Tapped {
    /// Taps `trail`.
    pub fn new(trail: Arc<dyn AuditSink>, live: Arc<Live>) -> Self {
        Self { trail, live }
    }
}

impl AuditSink for Tapped {
    fn append(&self, at: Timestamp, event: &Event, durable: bool) -> Result<Receipt, AuditError> {
        let receipt = self.trail.append(at, event, durable)?;
        if let Some(topic) = Topic::of(event).filter(|topic| self.live.watched(*topic)) {
            self.live.publish(at, topic, event.clone());
        }
        Ok(receipt)
    }

    fn append_operation(
        &self,
        at: Timestamp,
        operation: &OperationEvent<'_>,
        durable: bool,
    ) -> Result<Receipt, AuditError> {
        let receipt = self.trail.append_operation(at, operation, durable)?;
        let topic = Topic::Session(operation.session);
        if self.live.watched(topic) {
            self.live.publish(at, topic, operation.event());
        }
        Ok(receipt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_core::embed::Told;

    fn outcome(session: SessionId, ticket: u64, error: Option<String>) -> Event {
        Event::Outcome {
            session,
            ticket,
            rows: 1,
            bytes: 2,
            micros: 3,
            error,
        }
    }

    fn tapped() -> (Arc<Live>, Tapped) {
        let live = Arc::<Live>::default();
        let trail = Arc::new(Told(|_, _: &Event| Ok(())));
        (live.clone(), Tapped::new(trail, live))
    }

    #[tokio::test]
    async fn one_sees_the_session_that_one_watches_and_no_other() {
        let (live, trail) = tapped();
        let (mine, other) = (SessionId::generate(), SessionId::generate());
        let mut watching = live.watch(Topic::Session(mine), "ann").unwrap();
        for (session, ticket) in [(other, 1), (mine, 2)] {
            trail
                .append(Timestamp::now(), &outcome(session, ticket, None), false)
                .unwrap();
        }
        let Ok(News::Row(row)) = watching.next().await else {
            panic!("no row");
        };
        assert_eq!((row.session, row.ticket), (Some(mine), Some(2)));
        live.close();
        assert_eq!(watching.next().await.unwrap_err(), Over::Closed);
        assert!(live.watch(Topic::Approvals, "ann").is_none());
    }

    #[tokio::test]
    async fn who_does_not_keep_up_is_cut_off_and_told() {
        let (live, trail) = tapped();
        let session = SessionId::generate();
        let mut watching = live.watch(Topic::Session(session), "ann").unwrap();
        for ticket in 0..1000 {
            trail
                .append(Timestamp::now(), &outcome(session, ticket, None), false)
                .unwrap();
        }
        let mut got = 0;
        while watching.next().await.is_ok() {
            got += 1;
        }
        assert_eq!(got, QUEUE);
        assert_eq!(watching.next().await.unwrap_err(), Over::Behind);
        assert!(!live.watched(Topic::Session(session)));
    }

    #[tokio::test]
    async fn large_texts_are_cut_and_their_sum_is_bounded() {
        let (live, trail) = tapped();
        let session = SessionId::generate();
        let mut watching = live.watch(Topic::Session(session), "ann").unwrap();
        let ended = Event::SessionEnded {
            session,
            reason: "x".repeat(1 << 20),
            by: None,
            operations: 0,
            refused: 0,
            rows: 0,
            bytes: 0,
        };
        for _ in 0..QUEUE {
            trail.append(Timestamp::now(), &ended, false).unwrap();
        }
        let mut bytes = 0;
        while let Ok(news) = watching.next().await {
            assert!(news.size() <= TEXT);
            bytes += news.size();
        }
        assert!(bytes <= QUEUE_BYTES, "{bytes}");
    }

    #[test]
    fn watchers_are_bounded_for_one_and_for_all_and_leave_when_dropped() {
        let live = Arc::<Live>::default();
        let mut all = Vec::new();
        for n in 0..WATCHERS_OF_ONE {
            all.push(live.watch(Topic::Approvals, "ann").unwrap());
            assert_eq!(live.watchers.read().len(), n + 1);
        }
        assert!(live.watch(Topic::Approvals, "ann").is_none());
        for n in WATCHERS_OF_ONE..WATCHERS {
            all.push(live.watch(Topic::Approvals, &n.to_string()).unwrap());
        }
        assert!(live.watch(Topic::Approvals, "bob").is_none());
        drop(all);
        assert!(!live.watched(Topic::Approvals));
        assert!(live.watch(Topic::Approvals, "ann").is_some());
    }
}
