//! The audit log: append-only segment files, written by one thread with group commit.
//!
//! # Format
//!
//! A trail is a directory of segments `audit-<number of the first record, 20 digits>.jsonl`. A segment is a
//! sequence of lines, each one record, each ended by `\n`:
//!
//! ```text
//! {"seq":N,"at":"TIME","prev":"PREV","event":{...},"hash":"HASH"}
//! ```
//!
//! - `seq` counts from 1, over all segments, without a gap. `at` is RFC 3339 in UTC. There is no white space
//!   between the tokens outside of `event`.
//! - `PREV` is the `hash` of the record before, also over the border of segments; 64 zeros in record 1.
//! - `HASH` is SHA-256, as 64 lower-case hex digits, **of the line's own bytes from the first `{` up to, and not
//!   including, the `,"hash":"` at its end**. The hash so covers number, time, previous hash and event exactly as
//!   they are written; nothing has to be normalised. What follows the covered bytes is always 75 bytes long, plus
//!   the line end.
//!
//! So a third party needs no more than this to check a record:
//!
//! ```sh
//! line=$(sed -n 7p audit-00000000000000000001.jsonl)
//! printf %s "${line::-75}" | sha256sum     # bash; equals the 64 digits in "hash"
//! ```
//!
//! The chain shows every change, removal and reordering of what precedes its last record. That the *end* is still
//! there only shows against something outside: keep the report of [`super::read::verify`] and give its last
//! number and hash to [`super::read::verify_anchored`] later.
//!
//! # Durability
//!
//! Callers encode their event and queue it; the writer numbers, chains and writes what is queued in one write and,
//! where a durable one is among it, one `fdatasync`, which all that arrived meanwhile share. When a write fails,
//! the half-written line is cut off and [`AuditLog::append`](AuditSink::append) fails for every event until a retry
//! succeeds (every 250 ms and when something is appended). When a sync fails, nothing that was written since the
//! last good one is trusted: the segment is cut back to what is known to be on disk, and the records are written
//! again, to a new segment. Records that were taken are kept in memory until they are durable, in order. A receipt that
//! settled with an error therefore says that the event was not on disk *then*; its record may follow.

mod chain;
mod disk;
mod exported;
mod recover;
mod retain;
mod signer;
#[cfg(test)]
mod tests;
mod writer;

use std::cell::RefCell;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::key::{self, AuditPublicKey};
use super::record::MAX_RECORD;
use super::{AuditError, AuditSink, Event, OperationEvent, Receipt};
use crate::sealing::Sealing;
use chain::Chain;
use disk::{Disk, RealDisk};
pub use exported::Exported;
pub use recover::Recovered;
use retain::Retention;
use writer::Writer;

/// Room for events that a queue keeps while it is empty, and that a thread keeps to encode them in.
const KEPT_BYTES: usize = 4 * 1024 * 1024;
const KEPT_SCRATCH: usize = 64 * 1024;
/// What a record's line has around its event, at most; counted with it.
const OVERHEAD: usize = 256;
/// How long batched events wait for others before they are written.
const GATHER: Duration = Duration::from_millis(5);
/// How many times `max_unwritten_bytes` may wait before appends are refused, however patient their callers.
const HARD_LIMIT: usize = 8;
/// After this long without an answer the disk counts as hung.
const HUNG: Duration = Duration::from_secs(10);

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditLogOptions {
    /// A segment that has grown to this size is followed by a new one; 64 MiB. A record is never split.
    pub segment_bytes: u64,
    /// How long a batched event may wait for the disk; 50 ms.
    pub flush_interval: Duration,
    /// Above this many bytes that are not on disk, also batched events give a pending receipt; 8 MiB.
    pub max_unwritten_bytes: usize,
    /// A batched event gives a pending receipt, too, which settles once its record was handed to the kernel: no kill of the
    /// process loses it then. `false`: it is taken once it is queued, and a kill in the same moment loses it.
    pub write_first: bool,
    /// A segment whose first record is this old is followed by a new one; `None`: only its size counts; one day.
    pub segment_age: Option<Duration>,
    /// A signed trail gets a checkpoint after so many records at the latest; 1000.
    pub checkpoint_records: u64,
    /// And after this long, where there are records that no checkpoint covers; 60 s.
    pub checkpoint_interval: Duration,
    /// What is kept; all.
    pub retain: Retain,
}

/// Which records are kept. Only whole segments are dropped, the oldest first, never the one that is written, and only from
/// a signed trail, so that [`super::read::verify`] can tell this from tampering.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retain {
    /// A segment is dropped once all of its records are older; `None`: no age is too old.
    pub age: Option<Duration>,
    /// The oldest ones are dropped while all segments together have more bytes; `None`: no trail is too large.
    pub bytes: Option<u64>,
}

/// What a trail may be opened with.
#[derive(Debug, Clone, Default)]
pub struct AuditLogParts {
    /// File of the key that signs (PKCS#8, PEM), made where there is none and nothing is signed yet; `None`: the trail is
    /// not signed. It must not be in the trail's directory, which is copied to whoever verifies.
    pub key: Option<PathBuf>,
    /// What must not be dropped yet.
    pub exported: Option<Arc<Exported>>,
    /// With what the key's file is sealed.
    pub sealing: Arc<Sealing>,
}

impl Default for AuditLogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            flush_interval: Duration::from_millis(50),
            max_unwritten_bytes: 8 * 1024 * 1024,
            write_first: false,
            segment_age: Some(Duration::from_secs(24 * 3600)),
            checkpoint_records: 1000,
            checkpoint_interval: Duration::from_secs(60),
            retain: Retain::default(),
        }
    }
}

/// Why a trail can't be opened for writing.
#[derive(Debug, thiserror::Error)]
pub enum AuditOpenError {
    /// The file system refused.
    #[error("the audit trail cannot be opened: {}", crate::sealing::about(path, error))]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What it said.
        error: std::io::Error,
    },
    /// Another process writes it.
    #[error("the audit trail in `{}` is written by another gateway; only one may run on a data directory", dir.display())]
    Locked {
        /// The trail.
        dir: PathBuf,
    },
    /// It was changed, or the disk lost something in its middle.
    #[error(
        "record {seq} of the audit trail is broken (`{}`, line {line}): {why}; nothing was changed: run \
         `gateway audit verify`, keep the directory as evidence, and start with an empty one", segment.display()
    )]
    Broken {
        /// The segment.
        segment: PathBuf,
        /// The line in it, from 1; 0 where no single line is meant.
        line: u64,
        /// The record's number.
        seq: u64,
        /// What is wrong.
        why: String,
    },
    /// There is a key, but nothing in the trail is signed.
    #[error(
        "the audit trail in `{}` has records and no signature, though the key `{}` was made to sign it: were its signatures \
         taken out? Run `gateway audit verify --anchor`. If this is the first start of a version that signs, and the one          before was cut short, remove the key; else move the trail's directory away, keep it, and start with an empty one",
        dir.display(), path.display()
    )]
    Unsigned {
        /// The trail.
        dir: PathBuf,
        /// The key file.
        path: PathBuf,
    },
    /// The key file is not the one that signs the trail.
    #[error(
        "the key in `{}` is {found}, but the trail is signed by {signed}: put that key back (from a backup); to change keys \
         use `gateway audit key --replace`. Where the key is lost, move the trail's directory away and start with \
         an empty one", path.display()
    )]
    ForeignKey {
        /// The key file.
        path: PathBuf,
        /// What is in it.
        found: String,
        /// What the trail's last signed record names.
        signed: AuditPublicKey,
    },
}

/// An event on its way to the writer. Its JSON stands in [`Queue::bytes`].
#[derive(Debug)]
struct Item {
    at: Timestamp,
    /// Length of its JSON.
    len: usize,
    waiter: Option<oneshot::Sender<Result<(), AuditError>>>,
    /// The waiter waits for the disk, not only for the kernel.
    sync: bool,
}

impl Item {
    /// What it counts towards the bound.
    fn cost(&self) -> usize {
        self.len.saturating_add(OVERHEAD)
    }
}

/// Events on their way to the writer. Callers fill one while the writer empties another, and both keep their room: an
/// event that is queued costs no allocation, nor one that another thread has to give back.
#[derive(Debug, Default)]
struct Queue {
    items: Vec<Item>,
    /// The events' JSON, one behind the other.
    bytes: Vec<u8>,
}

impl Queue {
    fn push(&mut self, item: Item, event: &[u8]) {
        self.items.push(item);
        self.bytes.extend_from_slice(event);
    }

    fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Empties it. What one large burst took is not kept for ever.
    fn clear(&mut self) {
        self.items.clear();
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_BYTES {
            *self = Self::default();
        }
    }
}

/// What callers and the writer share.
#[derive(Debug, Default)]
struct State {
    queue: Queue,
    /// Bytes of events that are not durable: queued, or in the writer's hands.
    unwritten: usize,
    /// Why nothing can be written now.
    broken: Option<String>,
    /// Something was appended while broken: try again soon.
    nudged: bool,
    /// Somebody waits for what is queued.
    urgent: bool,
    /// Since when the writer is at work.
    busy_since: Option<Instant>,
    /// No more appends; the writer ends once it has written all.
    closed: bool,
    /// What the last flush said.
    ended: Option<Result<(), AuditError>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// The last record that is on disk for certain.
    durable: AtomicU64,
}

/// An audit trail that is open for writing. Closes, with all it was given on disk, when dropped.
#[derive(Debug)]
pub struct AuditLog {
    shared: Arc<Shared>,
    max_unwritten: usize,
    write_first: bool,
    recovered: Option<Recovered>,
    key: Option<AuditPublicKey>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Held as long as the log is; the kernel gives it up with the process.
    _lock: File,
}

impl AuditLog {
    /// Opens the trail in `dir`, which is made if it isn't there, for writing. After a crash, a half-written last
    /// record is moved to a file beside its segment. Blocks on the disk; reads the last segment once.
    pub fn open(dir: impl AsRef<Path>, options: AuditLogOptions) -> Result<Self, AuditOpenError> {
        Self::open_with(dir, options, AuditLogParts::default())
    }

    /// Does as [`AuditLog::open`], for a trail that is signed or exported.
    pub fn open_with(
        dir: impl AsRef<Path>,
        options: AuditLogOptions,
        parts: AuditLogParts,
    ) -> Result<Self, AuditOpenError> {
        Self::open_on(dir.as_ref(), options, parts, false, Box::new(RealDisk))
    }

    /// Replaces the key that signs the trail in `dir`, which nobody may write meanwhile: a new one is made, the old one
    /// signs for it, and it takes the old one's file. Returns the new one's public half.
    pub fn replace_key(
        dir: impl AsRef<Path>,
        path: &Path,
        sealing: Arc<Sealing>,
    ) -> Result<AuditPublicKey, AuditOpenError> {
        let io = |error| AuditOpenError::Io {
            path: path.to_owned(),
            error,
        };
        let parts = AuditLogParts {
            key: Some(path.to_owned()),
            exported: None,
            sealing,
        };
        let log = Self::open_on(
            dir.as_ref(),
            AuditLogOptions::default(),
            parts,
            true,
            Box::new(RealDisk),
        )?;
        log.close().map_err(|error| io(std::io::Error::other(error)))?;
        key::promote(path).map_err(io)?;
        log.key
            .ok_or_else(|| io(std::io::Error::other("the trail is not signed")))
    }

    fn open_on(
        dir: &Path,
        options: AuditLogOptions,
        parts: AuditLogParts,
        replace: bool,
        disk: Box<dyn Disk>,
    ) -> Result<Self, AuditOpenError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |error| AuditOpenError::Io { path, error }
        };
        make_dir(dir).map_err(io(dir))?;
        let lock_path = dir.join("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(AuditOpenError::Locked { dir: dir.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(io(&lock_path)(error)),
        }
        let opened = recover::recover(dir, parts.key.is_some())?;
        let signer = parts
            .key
            .map(|path| signer::signer(dir, &path, &opened, &parts.sealing, replace))
            .transpose()?;
        let shared = Arc::new(Shared::default());
        let recovered = opened.recovered.clone();
        let chain = Chain::new(&options, &opened, signer);
        let key = chain.key();
        let retention = Retention::new(options.retain, parts.exported);
        let writer = Writer::new(
            dir.to_owned(),
            disk,
            options,
            opened,
            chain,
            retention,
            Arc::clone(&shared),
        )
        .map_err(io(dir))?;
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run())
            .map_err(io(dir))?;
        Ok(Self {
            shared,
            max_unwritten: options.max_unwritten_bytes,
            write_first: options.write_first,
            recovered,
            key,
            thread: Mutex::new(Some(thread)),
            _lock: lock,
        })
    }

    /// What was cut off when the trail was opened.
    pub fn recovered(&self) -> Option<&Recovered> {
        self.recovered.as_ref()
    }

    /// The key that signs the trail.
    pub fn key(&self) -> Option<AuditPublicKey> {
        self.key
    }

    /// Number of the last record that is on disk for certain; 0 where there is none.
    pub fn durable(&self) -> u64 {
        self.shared.durable.load(Ordering::Acquire)
    }

    /// Whether events can be written now, as far as is known; leaves nothing in the trail. Where they can't, the writer
    /// is made to try again soon.
    pub fn check(&self) -> Result<(), AuditError> {
        let mut state = self.shared.state.lock();
        if state.closed {
            return Err(AuditError::Closed);
        }
        if let Some(why) = state.broken.clone() {
            state.nudged = true;
            drop(state);
            self.shared.wake.notify_one();
            return Err(AuditError::Write(why));
        }
        if let Some(since) = state.busy_since.filter(|since| since.elapsed() > HUNG) {
            return Err(AuditError::Write(format!(
                "the disk has not answered for {} s",
                since.elapsed().as_secs()
            )));
        }
        self.room(&state)
    }

    /// Refuses where too much waits to be written.
    fn room(&self, state: &State) -> Result<(), AuditError> {
        if state.unwritten > self.max_unwritten.saturating_mul(HARD_LIMIT) {
            return Err(AuditError::Write(format!(
                "{} bytes wait to be written",
                state.unwritten
            )));
        }
        Ok(())
    }

    /// Takes no more events, writes all that were taken, and tells whether they are on disk. Blocks on the disk.
    pub fn close(&self) -> Result<(), AuditError> {
        self.shared.state.lock().closed = true;
        self.shared.wake.notify_all();
        // Whoever comes second waits here for the first.
        let mut thread = self.thread.lock();
        if let Some(thread) = thread.take() {
            // A panic of the writer leaves `ended` without an answer.
            let _ = thread.join();
        }
        self.shared
            .state
            .lock()
            .ended
            .clone()
            .unwrap_or(Err(AuditError::Closed))
    }
}

/// Makes a directory and what leads to it, durably.
fn make_dir(dir: &Path) -> std::io::Result<()> {
    let missing: Vec<&Path> = dir
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .collect();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for path in missing {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the audit trail could not be written to its end");
        }
    }
}

impl AuditSink for AuditLog {
    fn append(&self, at: Timestamp, event: &Event, durable: bool) -> Result<Receipt, AuditError> {
        if let Event::Checkpoint(_) | Event::SigningKey { .. } | Event::Dropped(_) = event {
            return Err(AuditError::Encode("the log makes such events itself".to_owned()));
        }
        self.encoded(at, durable, |out| super::decided::encode(event, out))
    }

    fn append_operation(
        &self,
        at: Timestamp,
        operation: &OperationEvent<'_>,
        durable: bool,
    ) -> Result<Receipt, AuditError> {
        self.encoded(at, durable, |out| operation.encode(out))
    }
}

thread_local! {
    /// Where this thread encodes events, before anybody has to wait for it.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl AuditLog {
    /// Encodes an event and gives it to the writer.
    fn encoded(
        &self,
        at: Timestamp,
        durable: bool,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), AuditError>,
    ) -> Result<Receipt, AuditError> {
        // Taken out: an event may have something in it that writes to the trail while it is encoded.
        let mut event = SCRATCH.take();
        event.clear();
        let receipt = encode(&mut event).and_then(|()| self.queue(at, &event, durable));
        if event.capacity() <= KEPT_SCRATCH {
            SCRATCH.set(event);
        }
        receipt
    }

    /// Gives an encoded event to the writer.
    fn queue(&self, at: Timestamp, event: &[u8], durable: bool) -> Result<Receipt, AuditError> {
        if event.len().saturating_add(OVERHEAD) > MAX_RECORD {
            return Err(AuditError::Encode(format!(
                "it has {} bytes, the limit is {MAX_RECORD}",
                event.len()
            )));
        }
        let mut state = self.shared.state.lock();
        if state.closed {
            return Err(AuditError::Closed);
        }
        if let Some(why) = state.broken.clone() {
            state.nudged = true;
            drop(state);
            self.shared.wake.notify_one();
            return Err(AuditError::Write(why));
        }
        self.room(&state)?;
        let mut item = Item {
            at,
            len: event.len(),
            waiter: None,
            sync: false,
        };
        let unwritten = state.unwritten.saturating_add(item.cost());
        item.sync = durable || unwritten > self.max_unwritten;
        let receipt = if item.sync || self.write_first {
            let (sender, receiver) = oneshot::channel();
            item.waiter = Some(sender);
            Receipt::Pending(receiver)
        } else {
            Receipt::Taken
        };
        state.unwritten = unwritten;
        let urgent = item.waiter.is_some();
        let first = state.queue.is_empty();
        state.urgent |= urgent;
        state.queue.push(item, event);
        drop(state);
        // A batched event waits for others: only the first of them wakes the writer.
        if urgent || first {
            self.shared.wake.notify_one();
        }
        Ok(receipt)
    }
}
