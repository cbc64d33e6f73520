//! Writes a recording: takes items out of its queue, makes chunks of them, has each on disk, and tells the trail their hashes.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::cast::Encoder;
use super::chunk::{self, CHUNK, Chain, Cut, Index, SEALED, Seal, hex};
use super::queue::{Item, Queue};
use super::{Begin, NotRecorded, OnFailure, Stream};
use crate::audit::{AuditSink, Event};
use crate::sealing::Sealing;

/// A chunk is closed when it has so many bytes.
const BYTES: usize = 1 << 20;
/// And when it is so old.
const AGE: Duration = Duration::from_secs(1);
/// Hashes are told to the trail in batches of so many.
const HASHES: usize = 16;
/// Or of so much time.
const TOLD: Duration = Duration::from_secs(5);
/// Lines that wait for one watcher.
const WATCHER_LINES: usize = 1024;
/// Bytes that wait for one watcher.
const WATCHER_BYTES: usize = 1 << 20;
/// Watchers of one recording.
const WATCHERS: usize = 16;

/// Where chunks go: one file at a time.
pub(super) struct Disk {
    pub(super) file: File,
    /// Bytes of the file that are whole chunks.
    pub(super) good: u64,
    pub(super) chain: Chain,
    pub(super) sealing: Arc<Sealing>,
    /// Bytes in the second place, of all recordings, and the most of them; `None`: this is the first place.
    pub(super) spilled: Option<(Arc<AtomicU64>, u64)>,
}

impl Disk {
    /// Writes a chunk; it is on disk when this answers. Where it is not, the file is as it was, as far as it can be.
    pub(super) fn append(&mut self, at: u64, text: &[u8]) -> io::Result<Index> {
        let sealed;
        let payload = if self.sealing.is_on() {
            sealed = self
                .sealing
                .seal_line(&self.chain.place(), text)
                .map_err(|error| io::Error::other(error.to_string()))?;
            sealed.as_slice()
        } else {
            text
        };
        let mut chain = self.chain.clone();
        let index = chain.push(at, payload);
        let line = chunk::comment(CHUNK, &index);
        self.put(&[payload, &line])?;
        self.chain = chain;
        Ok(index)
    }

    fn put(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let bytes = parts.iter().map(|part| part.len()).sum::<usize>();
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if let Some((spilled, most)) = &self.spilled {
            let before = spilled.fetch_add(bytes, Ordering::AcqRel);
            if before.saturating_add(bytes) > *most {
                spilled.fetch_sub(bytes, Ordering::AcqRel);
                return Err(io::Error::other("the second place is full"));
            }
        }
        let written = parts
            .iter()
            .try_for_each(|part| self.file.write_all(part))
            .and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.good = self.good.saturating_add(bytes);
                Ok(())
            }
            Err(error) => {
                if let Some((spilled, _)) = &self.spilled {
                    spilled.fetch_sub(bytes, Ordering::AcqRel);
                }
                let _ = self.file.set_len(self.good);
                Err(error)
            }
        }
    }

    /// Writes the last line.
    pub(super) fn seal(&mut self, seal: &Seal) -> io::Result<()> {
        let line = chunk::comment(SEALED, seal);
        self.put(&[&line])
    }
}

/// Opens the second place for a recording whose first one failed.
pub(super) type Spill = Box<dyn FnOnce(&Disk) -> io::Result<Disk> + Send>;

/// What somebody who begins to watch gets.
pub(super) struct Watch {
    pub(super) lines: mpsc::Receiver<Arc<[u8]>>,
    pub(super) waiting: Arc<AtomicUsize>,
}

struct Watcher {
    lines: mpsc::Sender<Arc<[u8]>>,
    waiting: Arc<AtomicUsize>,
}

/// The writer of one recording.
pub(super) struct Writer {
    pub(super) begin: Begin,
    pub(super) queue: Queue,
    pub(super) watch: mpsc::Receiver<oneshot::Sender<Watch>>,
    pub(super) disk: Option<Disk>,
    pub(super) spill: Option<Spill>,
    pub(super) limit: u64,
    pub(super) audit: Arc<dyn AuditSink>,
    pub(super) now: fn() -> jiff::Timestamp,
    pub(super) encoder: Encoder,
    pub(super) state: State,
}

/// What changes while it writes.
#[derive(Default)]
pub(super) struct State {
    /// Lines of the chunk that is open.
    buffer: Vec<u8>,
    /// The time of its first line, and when it is closed.
    opened: Option<(u64, Instant)>,
    /// Bytes of lines so far.
    written: u64,
    /// Hashes that the trail does not have yet, from this chunk on.
    hashes: Vec<String>,
    first: u64,
    told: Option<Instant>,
    watchers: Vec<Watcher>,
    cut: Option<(Context, u64)>,
    failed: Option<String>,
}

/// What comes next.
enum Step {
    Item(super::queue::Taken),
    Gone,
    Watch(oneshot::Sender<Watch>),
    Due,
}

impl Writer {
    /// Its first chunk is there: the trail has to have it, too.
    pub(super) fn began(&mut self, index: Index) {
        self.state.written = index.bytes;
        self.state.hashes.push(index.hash);
    }

    /// Writes to the end.
    pub(super) async fn run(mut self) {
        let (end, done) = loop {
            let due = self.state.opened.map(|(_, due)| due);
            let step = tokio::select! {
                biased;
                () = until(due) => Step::Due,
                Some(who) = self.watch.recv() => Step::Watch(who),
                taken = self.queue.next() => taken.map_or(Step::Gone, Step::Item),
            };
            match step {
                Step::Due => self.flush().await,
                Step::Watch(who) => self.begin_watch(who).await,
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

    async fn take(&mut self, taken: super::queue::Taken) {
        if self.state.failed.is_some() {
            return;
        }
        if self.is_full(&taken.item) {
            return;
        }
        let start = self.state.buffer.len();
        self.open(taken.at);
        self.encoder.item(&mut self.state.buffer, taken.at, &taken.item);
        drop(taken);
        self.offer(start);
        if self.state.buffer.len() >= BYTES {
            self.flush().await;
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

    /// Gives lines to those who watch; who does not keep up loses the place.
    fn offer(&mut self, start: usize) {
        if self.state.watchers.is_empty() {
            return;
        }
        let lines: Arc<[u8]> = self.state.buffer.get(start..).unwrap_or_default().into();
        if lines.is_empty() {
            return;
        }
        self.state.watchers.retain(|watcher| {
            let waiting = watcher.waiting.fetch_add(lines.len(), Ordering::AcqRel);
            waiting.saturating_add(lines.len()) <= WATCHER_BYTES
                && watcher.lines.try_send(lines.clone()).is_ok()
        });
    }

    /// All that is there is on disk, for whoever begins to watch to read; the rest comes as it happens.
    async fn begin_watch(&mut self, who: oneshot::Sender<Watch>) {
        self.flush().await;
        if self.state.watchers.len() >= WATCHERS {
            return;
        }
        let (sender, lines) = mpsc::channel(WATCHER_LINES);
        let waiting = Arc::<AtomicUsize>::default();
        let watch = Watch {
            lines,
            waiting: waiting.clone(),
        };
        if who.send(watch).is_ok() {
            self.state.watchers.push(Watcher {
                lines: sender,
                waiting,
            });
        }
    }

    /// Closes the chunk that is open.
    async fn flush(&mut self) {
        let Some((at, _)) = self.state.opened.take() else {
            return;
        };
        let text = std::mem::take(&mut self.state.buffer);
        if text.is_empty() || self.state.failed.is_some() {
            return;
        }
        let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
        match self.append(at, text).await {
            Ok(index) => {
                self.state.written = self.state.written.saturating_add(bytes);
                self.state.hashes.push(index.hash);
                let due = self.state.told.get_or_insert_with(Instant::now).elapsed() >= TOLD;
                if due || self.state.hashes.len() >= HASHES {
                    self.tell();
                }
            }
            Err(why) => self.fail(why),
        }
    }

    /// Tells the trail the hashes of chunks.
    fn tell(&mut self) {
        if self.state.hashes.is_empty() {
            return;
        }
        let hashes = std::mem::take(&mut self.state.hashes);
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

    /// Has a chunk on disk: in the second place where the first one fails and the resource says so.
    async fn append(&mut self, at: u64, text: Vec<u8>) -> Result<Index, String> {
        let Some(mut disk) = self.disk.take() else {
            return Err("its file is gone".to_owned());
        };
        let broke = |error: tokio::task::JoinError| error.to_string();
        let work = tokio::task::spawn_blocking(move || {
            let index = disk.append(at, &text);
            (disk, text, index)
        });
        let (disk, mut text, index) = work.await.map_err(broke)?;
        let why = match index {
            Ok(index) => {
                self.disk = Some(disk);
                return Ok(index);
            }
            Err(error) => error.to_string(),
        };
        let Some(spill) = self.spill.take() else {
            self.disk = Some(disk);
            return Err(why);
        };
        self.failing(&why, OnFailure::Spill);
        let now = Instant::now();
        let told = format!("the first place of this recording failed ({why}); it goes on in the second one");
        self.encoder.mark(&mut text, now, &told);
        let work = tokio::task::spawn_blocking(move || {
            let spilled = spill(&disk).and_then(|mut second| Ok((second.append(at, &text)?, second)));
            (disk, spilled)
        });
        let (disk, spilled) = work.await.map_err(broke)?;
        match spilled {
            Ok((index, second)) => {
                self.disk = Some(second);
                Ok(index)
            }
            Err(error) => {
                self.disk = Some(disk);
                Err(format!("{why}; and in the second place: {error}"))
            }
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
            self.flush().await;
        }
        self.tell();
        let cut = self.state.cut.take().map(|(hash, bytes)| Cut {
            bytes,
            sha256: hex(hash.finish().as_ref()),
        });
        let Some(mut disk) = self.disk.take() else {
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
