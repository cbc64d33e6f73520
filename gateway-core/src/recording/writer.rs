//! Writes a recording: takes items out of its queue, makes chunks of them, has each on disk, and tells the trail their hashes.
//!
//! While one chunk is sealed, hashed and written on a thread of its own, the next one is made. Chunks are synced together: within
//! [`AGE`] of what is in them, and before the trail has their hashes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::cast::{self, Encoder};
use super::chunk::{Cut, Index, Seal, hex};
use super::disk::{Disk, Spill};
use super::queue::{Item, Queue, Taken};
use super::watch::{Watchers, Watching};
use super::{Begin, NotRecorded, OnFailure, Stream};
use crate::audit::{AuditSink, Event};

/// A chunk is closed when it has so many bytes.
const BYTES: usize = 1 << 20;
/// And when it is so old; what is in it is on disk then.
const AGE: Duration = Duration::from_secs(1);
/// Hashes are told to the trail in batches of so many; and so many chunks are synced together at the most.
const HASHES: usize = 16;
/// Or of so much time.
const TOLD: Duration = Duration::from_secs(5);

/// The writer of one recording.
pub(super) struct Writer {
    pub(super) begin: Begin,
    pub(super) queue: Queue,
    pub(super) watch: mpsc::Receiver<oneshot::Sender<Watching>>,
    pub(super) place: Place,
    pub(super) spill: Option<Spill>,
    pub(super) limit: u64,
    pub(super) audit: Arc<dyn AuditSink>,
    pub(super) now: fn() -> jiff::Timestamp,
    pub(super) encoder: Encoder,
    pub(super) state: State,
}

/// The file, or who has it.
pub(super) enum Place {
    Here(Disk),
    /// A chunk is being written.
    Busy(JoinHandle<Written>),
    /// Its thread broke.
    Gone,
}

/// What became of a chunk.
pub(super) struct Written {
    disk: Disk,
    at: u64,
    text: Vec<u8>,
    sync: bool,
    index: io::Result<Option<Index>>,
}

/// What changes while it writes.
#[derive(Default)]
pub(super) struct State {
    /// Lines of the chunk that is open.
    buffer: Vec<u8>,
    /// The time of its first line, and when it is closed.
    opened: Option<(u64, Instant)>,
    /// When chunks that are written have to be synced.
    unsynced: Option<Instant>,
    /// Bytes of lines so far.
    written: u64,
    /// Hashes that the trail does not have yet, from this chunk on; as many of them as are synced.
    hashes: Vec<String>,
    synced: usize,
    first: u64,
    told: Option<Instant>,
    watchers: Watchers,
    cut: Option<(Context, u64)>,
    failed: Option<String>,
}

/// What comes next.
enum Step {
    Item(Taken),
    Gone,
    Watch(oneshot::Sender<Watching>),
    Due,
    Written(Result<Written, tokio::task::JoinError>),
}

impl Writer {
    /// Its first chunk is there, and synced: the trail has to have it, too.
    pub(super) fn began(&mut self, index: Index) {
        self.state.written = index.bytes;
        self.state.hashes.push(index.hash);
        self.state.synced = 1;
    }

    /// Writes to the end.
    pub(super) async fn run(mut self) {
        let (end, done) = loop {
            let opened = self.state.opened.map(|(_, due)| due);
            // What is being written may be synced with it.
            let idle = !matches!(self.place, Place::Busy(_));
            let unsynced = self.state.unsynced.filter(|_| idle);
            let due = opened.into_iter().chain(unsynced).min();
            let step = tokio::select! {
                biased;
                written = self.place.written() => Step::Written(written),
                () = until(due) => Step::Due,
                Some(who) = self.watch.recv() => Step::Watch(who),
                taken = self.queue.next() => taken.map_or(Step::Gone, Step::Item),
            };
            match step {
                Step::Written(written) => self.written(written).await,
                Step::Due => self.flush(true).await,
                Step::Watch(who) => {
                    // All that is there is in the file, for whoever begins to watch to read; the rest comes as it happens.
                    self.flush(true).await;
                    self.settle().await;
                    self.state.watchers.admit(who);
                }
                Step::Gone => break ("it was cut off: its session ended".to_owned(), None),
                Step::Item(mut taken) => {
                    let end = match &taken.item {
                        Item::Finish { end, .. } => Some(end.clone()),
                        _ => None,
                    };
                    let done = taken.done.take();
                    self.take(taken).await;
                    if let Some(end) = end {
                        break (end, done);
                    }
                }
            }
        };
        self.end(end).await;
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    async fn take(&mut self, taken: Taken) {
        if self.state.failed.is_some() || self.is_full(&taken.item) {
            return;
        }
        let start = self.state.buffer.len();
        self.open(taken.at);
        self.encoder.item(&mut self.state.buffer, taken.at, &taken.item);
        drop(taken);
        self.offer(start);
        if self.state.buffer.len() >= BYTES {
            self.flush(false).await;
        }
    }

    fn open(&mut self, at: Instant) {
        let micros = self.encoder.micros(at);
        self.state.opened.get_or_insert((micros, Instant::now() + AGE));
    }

    /// Whether the item is over the limit. What has a terminal must not go on then; of anything else the rest is counted.
    fn is_full(&mut self, item: &Item) -> bool {
        let Item::Data(stream, bytes) = item else {
            return false;
        };
        if let Some((hash, count)) = &mut self.state.cut {
            if matches!(stream, Stream::Output | Stream::Error) {
                hash.update(bytes);
                *count = count.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            }
            return true;
        }
        let waiting = u64::try_from(self.state.buffer.len()).unwrap_or(u64::MAX);
        if self.state.written.saturating_add(waiting) < self.limit {
            return false;
        }
        if self.begin.what.terminal.is_some() {
            self.fail(format!("it has reached its limit of {} bytes", self.limit));
            return true;
        }
        let mut hash = Context::new(&SHA256);
        hash.update(bytes);
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.state.cut = Some((hash, count));
        self.mark(&format!(
            "cut: the recording has reached its limit of {} bytes; what follows is counted and hashed",
            self.limit
        ));
        true
    }

    fn mark(&mut self, text: &str) {
        let (now, start) = (Instant::now(), self.state.buffer.len());
        self.open(now);
        self.encoder.mark(&mut self.state.buffer, now, text);
        self.offer(start);
    }

    /// Gives lines to those who watch.
    fn offer(&mut self, start: usize) {
        if !self.state.watchers.is_empty() {
            let lines = self.state.buffer.get(start..).unwrap_or_default();
            self.state.watchers.offer(lines);
        }
    }

    /// Closes the chunk that is open, once the one before it is written; with `sync`, all up to its end gets on disk.
    async fn flush(&mut self, sync: bool) {
        self.settle().await;
        let opened = self.state.opened.take();
        let text = std::mem::take(&mut self.state.buffer);
        if self.state.failed.is_some() {
            self.state.unsynced = None;
            return;
        }
        let many = self.state.hashes.len().saturating_add(1) >= HASHES;
        let sync = sync || many;
        if text.is_empty() && !(sync && self.state.unsynced.is_some()) {
            return;
        }
        let now = Instant::now();
        let due = opened.map_or(now + AGE, |(_, due)| due);
        self.state.unsynced.get_or_insert(due);
        let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.state.written = self.state.written.saturating_add(bytes);
        let at = opened.map_or_else(|| self.encoder.micros(now), |(at, _)| at);
        let Place::Here(mut disk) = std::mem::replace(&mut self.place, Place::Gone) else {
            self.fail("its file is gone".to_owned());
            return;
        };
        self.place = Place::Busy(tokio::task::spawn_blocking(move || {
            let index = match text.is_empty() {
                true => disk.sync().map(|()| None),
                false => disk.append(at, &text, sync).map(Some),
            };
            Written {
                disk,
                at,
                text,
                sync,
                index,
            }
        }));
    }

    /// Waits until no chunk is being written.
    async fn settle(&mut self) {
        if let Place::Busy(work) = &mut self.place {
            let written = work.await;
            self.written(written).await;
        }
    }

    /// A chunk is written, or goes to the second place where the first one failed and the resource says so.
    async fn written(&mut self, written: Result<Written, tokio::task::JoinError>) {
        self.place = Place::Gone;
        let Written {
            disk,
            at,
            text,
            sync,
            index,
        } = match written {
            Ok(written) => written,
            Err(error) => return self.fail(error.to_string()),
        };
        let why = match index {
            Ok(index) => {
                self.place = Place::Here(disk);
                return self.wrote(index, sync);
            }
            Err(error) => error.to_string(),
        };
        let Some(spill) = self.spill.take() else {
            self.place = Place::Here(disk);
            return self.fail(why);
        };
        self.failing(&why, OnFailure::Spill);
        let work = tokio::task::spawn_blocking(move || {
            let mut text = text;
            let told =
                format!("the first place of this recording failed ({why}); it goes on in the second one");
            cast::aside(&mut text, &told);
            let spilled = spill(&disk.chain);
            let spilled = spilled.and_then(|mut second| Ok((second.append(at, &text, true)?, second)));
            (disk, why, spilled)
        });
        match work.await {
            Ok((_, _, Ok((index, second)))) => {
                self.place = Place::Here(second);
                self.wrote(Some(index), true);
            }
            Ok((disk, why, Err(error))) => {
                self.place = Place::Here(disk);
                self.fail(format!("{why}; and in the second place: {error}"));
            }
            Err(error) => self.fail(error.to_string()),
        }
    }

    fn wrote(&mut self, index: Option<Index>, synced: bool) {
        self.state.hashes.extend(index.map(|index| index.hash));
        if synced {
            self.state.synced = self.state.hashes.len();
            self.state.unsynced = None;
        }
        let due = self.state.told.get_or_insert_with(Instant::now).elapsed() >= TOLD;
        if due || self.state.synced >= HASHES {
            self.tell();
        }
    }

    /// Tells the trail the hashes of chunks that are on disk.
    fn tell(&mut self) {
        let synced = std::mem::take(&mut self.state.synced).min(self.state.hashes.len());
        if synced == 0 {
            return;
        }
        let hashes: Vec<String> = self.state.hashes.drain(..synced).collect();
        let count = u64::try_from(hashes.len()).unwrap_or(u64::MAX);
        let event = Event::RecordingChunks {
            session: self.begin.session,
            recording: self.begin.number,
            first: self.state.first,
            hashes,
        };
        self.state.first = self.state.first.saturating_add(count);
        self.state.told = Some(Instant::now());
        if let Err(error) = self.audit.append((self.now)(), &event, false) {
            self.fail(error.to_string());
        }
    }

    fn failing(&self, why: &str, then: OnFailure) {
        tracing::error!(
            session = %self.begin.session, recording = self.begin.number, resource = self.begin.resource, why, ?then,
            "a recording fails"
        );
        metrics::counter!("gateway_recordings_failed_total").increment(1);
        let event = Event::RecordingFailed {
            session: self.begin.session,
            recording: self.begin.number,
            resource: self.begin.resource.clone(),
            why: why.to_owned(),
            then,
        };
        if let Err(error) = self.audit.append((self.now)(), &event, false) {
            tracing::error!(%error, "an audit event was lost");
        }
    }

    /// What is recorded must not go on.
    fn fail(&mut self, why: String) {
        if self.state.failed.is_some() {
            return;
        }
        self.failing(&why, OnFailure::Stop);
        self.queue.fail(NotRecorded(why.clone()));
        self.state.failed = Some(why);
        self.state.opened = None;
        self.state.unsynced = None;
    }

    async fn end(&mut self, end: String) {
        let now = Instant::now();
        if self.state.failed.is_none() {
            self.open(now);
            let start = self.state.buffer.len();
            self.encoder.end(&mut self.state.buffer, now);
            self.offer(start);
            if let Some((_, count)) = &self.state.cut {
                let text = format!("cut: {count} bytes more went through");
                self.mark(&text);
            }
            self.flush(true).await;
        }
        self.settle().await;
        self.tell();
        let cut = self.state.cut.take().map(|(hash, bytes)| Cut {
            bytes,
            sha256: hex(hash.finish().as_ref()),
        });
        let Place::Here(mut disk) = std::mem::replace(&mut self.place, Place::Gone) else {
            return;
        };
        let seal = Seal {
            chunks: disk.chain.next,
            bytes: disk.chain.bytes,
            hash: disk.chain.hash(),
            micros: self.encoder.micros(now),
            complete: self.state.failed.is_none(),
            end: match &self.state.failed {
                Some(why) => format!("the recorder failed: {why}"),
                None => end,
            },
            cut,
        };
        let told = sealed(&self.begin, &seal);
        let work = tokio::task::spawn_blocking(move || disk.seal(&seal));
        match work.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(session = %self.begin.session, %error, "a recording has no seal")
            }
            Err(error) => tracing::error!(session = %self.begin.session, %error, "a recording has no seal"),
        }
        let written = match self.audit.append((self.now)(), &told, true) {
            Ok(receipt) => receipt.settled().await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::error!(session = %self.begin.session, %error, "the seal of a recording is not in the trail");
        }
    }
}

impl Place {
    /// Answers once the chunk that is being written is; never, where none is. May be dropped and called again.
    async fn written(&mut self) -> Result<Written, tokio::task::JoinError> {
        match self {
            Self::Busy(work) => work.await,
            Self::Here(_) | Self::Gone => std::future::pending().await,
        }
    }
}

/// The event of a seal.
pub(super) fn sealed(begin: &Begin, seal: &Seal) -> Event {
    Event::RecordingSealed {
        session: begin.session,
        recording: begin.number,
        resource: begin.resource.clone(),
        seal: seal.clone(),
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
