//! Those who look on while a recording is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot};

/// Lines that wait for one watcher.
const WATCHER_LINES: usize = 1024;
/// Bytes that wait for one watcher.
const WATCHER_BYTES: usize = 1 << 20;
/// Watchers of one recording.
const WATCHERS: usize = 16;

/// Somebody who watches: what there is so far can be read from the file, and this gives what comes after.
#[derive(Debug)]
pub struct Watching {
    lines: mpsc::Receiver<Arc<[u8]>>,
    waiting: Arc<AtomicUsize>,
}

impl Watching {
    /// The next lines; `None`: it is over, or the watcher did not keep up (which a recording that still runs tells).
    pub async fn next(&mut self) -> Option<Arc<[u8]>> {
        let lines = self.lines.recv().await?;
        self.waiting.fetch_sub(lines.len(), Ordering::AcqRel);
        Some(lines)
    }
}

struct Watcher {
    lines: mpsc::Sender<Arc<[u8]>>,
    waiting: Arc<AtomicUsize>,
}

/// All of one recording.
#[derive(Default)]
pub(super) struct Watchers(Vec<Watcher>);

impl Watchers {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives lines to each; who does not keep up loses the place.
    pub(super) fn offer(&mut self, lines: &[u8]) {
        if self.0.is_empty() || lines.is_empty() {
            return;
        }
        let lines: Arc<[u8]> = lines.into();
        self.0.retain(|watcher| {
            let waiting = watcher.waiting.fetch_add(lines.len(), Ordering::AcqRel);
            waiting.saturating_add(lines.len()) <= WATCHER_BYTES
                && watcher.lines.try_send(lines.clone()).is_ok()
        });
    }

    /// One more, who is told so; not, where there is no room.
    pub(super) fn admit(&mut self, who: oneshot::Sender<Watching>) {
        if self.0.len() >= WATCHERS {
            return;
        }
        let (sender, lines) = mpsc::channel(WATCHER_LINES);
        let waiting = Arc::<AtomicUsize>::default();
        let watching = Watching {
            lines,
            waiting: waiting.clone(),
        };
        if who.send(watching).is_ok() {
            self.0.push(Watcher {
                lines: sender,
                waiting,
            });
        }
    }
}
