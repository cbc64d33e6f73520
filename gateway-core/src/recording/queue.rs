//! The way from a session to the writer of its recording: bounded, so that a slow disk slows what is recorded and nothing piles up.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{NotRecorded, Stream};

/// Bytes that wait for the writer.
const ROOM: u32 = 2 << 20;
/// What an item costs beside its bytes.
const COST: usize = 128;

/// What is to be recorded.
#[derive(Debug)]
pub enum Item {
    /// Bytes.
    Data(Stream, Bytes),
    /// The terminal has another size: columns and rows.
    Resize(u32, u32),
    /// Something that is no output.
    Mark(String),
    /// It ends.
    Finish {
        /// How, for people.
        end: String,
        /// The exit status.
        status: Option<u32>,
        /// Bytes that came in and were not recorded.
        counted: u64,
    },
}

impl Item {
    fn cost(&self) -> u32 {
        let bytes = match self {
            Self::Data(_, bytes) => bytes.len(),
            Self::Mark(text) => text.len(),
            Self::Finish { end, .. } => end.len(),
            Self::Resize(..) => 0,
        };
        u32::try_from(bytes.saturating_add(COST))
            .unwrap_or(ROOM)
            .min(ROOM)
    }
}

/// An item with the time at which it came. Its bytes count until this is dropped.
#[derive(Debug)]
pub struct Taken {
    /// When.
    pub at: Instant,
    /// What.
    pub item: Item,
    /// Told when the item is where it belongs.
    pub(super) done: Option<oneshot::Sender<()>>,
    _room: OwnedSemaphorePermit,
}

#[derive(Debug, Default)]
struct Failure {
    why: Mutex<Option<NotRecorded>>,
    told: CancellationToken,
}

/// The session's end.
#[derive(Debug)]
pub(super) struct Sender {
    items: mpsc::UnboundedSender<Taken>,
    room: Arc<Semaphore>,
    failure: Arc<Failure>,
}

/// The writer's end.
#[derive(Debug)]
pub struct Queue {
    items: mpsc::UnboundedReceiver<Taken>,
    failure: Arc<Failure>,
}

pub(super) fn bounded() -> (Sender, Queue) {
    let (sender, items) = mpsc::unbounded_channel();
    let failure = Arc::<Failure>::default();
    let room = usize::try_from(ROOM).unwrap_or(usize::MAX);
    let sender = Sender {
        items: sender,
        room: Arc::new(Semaphore::new(room)),
        failure: failure.clone(),
    };
    (sender, Queue { items, failure })
}

impl Sender {
    fn broken(&self) -> Option<NotRecorded> {
        self.failure.told.is_cancelled().then(|| self.failure.why())
    }

    async fn give(&self, item: Item, done: Option<oneshot::Sender<()>>) -> Result<(), NotRecorded> {
        if let Some(why) = self.broken() {
            return Err(why);
        }
        let wanted = item.cost();
        let room = match self.room.clone().try_acquire_many_owned(wanted) {
            Ok(room) => room,
            Err(_) => tokio::select! {
                room = self.room.clone().acquire_many_owned(wanted) => room.map_err(|_| self.failure.why())?,
                () = self.failure.told.cancelled() => return Err(self.failure.why()),
            },
        };
        let taken = Taken {
            at: Instant::now(),
            item,
            done,
            _room: room,
        };
        // What it failed of, where it did: there may have been room for this by its end.
        self.items.send(taken).map_err(|_| self.failure.why())
    }

    pub(super) async fn put(&self, item: Item) -> Result<(), NotRecorded> {
        self.give(item, None).await
    }

    pub(super) async fn finish(self, end: String, status: Option<u32>, counted: u64) {
        let (done, sealed) = oneshot::channel();
        let item = Item::Finish { end, status, counted };
        if self.give(item, Some(done)).await.is_ok() {
            let _ = sealed.await;
        }
    }

    pub(super) async fn failed(&self) -> NotRecorded {
        self.failure.told.cancelled().await;
        self.failure.why()
    }
}

impl Failure {
    fn why(&self) -> NotRecorded {
        let why = self.why.lock().clone();
        why.unwrap_or_else(|| NotRecorded("its writer is gone".to_owned()))
    }
}

impl Queue {
    /// The next item; `None`: the recording was dropped without an end. May be dropped and called again.
    pub async fn next(&mut self) -> Option<Taken> {
        self.items.recv().await
    }

    /// Tells the session that it must not go on.
    pub fn fail(&mut self, why: NotRecorded) {
        self.failure.why.lock().get_or_insert(why);
        self.failure.told.cancel();
        self.items.close();
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // A writer that is gone, by a panic too, records nothing.
        self.failure.told.cancel();
    }
}
