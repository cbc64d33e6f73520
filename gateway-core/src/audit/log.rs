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

mod disk;
mod recover;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::record::MAX_RECORD;
use super::{AuditError, AuditSink, Event, OperationEvent, Receipt};
use disk::{Disk, RealDisk};
pub use recover::Recovered;
use writer::Writer;

/// What a record's line has around its event, at most; counted with it.
const OVERHEAD: usize = 256;
/// How long batched events wait for others before they are written.
const GATHER: Duration = Duration::from_millis(5);
/// How many times `max_unwritten_bytes` may wait before appends are refused, however patient their callers.
const HARD_LIMIT: usize = 8;

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditLogOptions {
    /// A segment that has grown to this size is followed by a new one; 64 MiB. A record is never split.
    pub segment_bytes: u64,
    /// How long a batched event may wait for the disk; 50 ms.
    pub flush_interval: Duration,
    /// Above this many bytes that are not on disk, also batched events give a pending receipt; 8 MiB.
    pub max_unwritten_bytes: usize,
}

impl Default for AuditLogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            flush_interval: Duration::from_millis(50),
            max_unwritten_bytes: 8 * 1024 * 1024,
        }
    }
}

/// Why a trail can't be opened for writing.
#[derive(Debug, thiserror::Error)]
pub enum AuditOpenError {
    /// The file system refused.
    #[error("the audit trail at `{}` cannot be opened: {source}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
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
}

/// An event on its way to the writer.
#[derive(Debug)]
struct Item {
    at: Timestamp,
    event: Vec<u8>,
    waiter: Option<oneshot::Sender<Result<(), AuditError>>>,
}

impl Item {
    /// What it counts towards the bound.
    fn cost(&self) -> usize {
        self.event.len().saturating_add(OVERHEAD)
    }
}

/// What callers and the writer share.
#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Item>,
    /// Bytes of events that are not durable: queued, or in the writer's hands.
    unwritten: usize,
    /// Why nothing can be written now.
    broken: Option<String>,
    /// Something was appended while broken: try again soon.
    nudged: bool,
    /// Somebody waits for what is queued.
    urgent: bool,
    /// No more appends; the writer ends once it has written all.
    closed: bool,
    /// What the last flush said.
    ended: Option<Result<(), AuditError>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

/// An audit trail that is open for writing. Closes, with all it was given on disk, when dropped.
#[derive(Debug)]
pub struct AuditLog {
    shared: Arc<Shared>,
    max_unwritten: usize,
    recovered: Option<Recovered>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Held as long as the log is; the kernel gives it up with the process.
    _lock: File,
}

impl AuditLog {
    /// Opens the trail in `dir`, which is made if it isn't there, for writing. After a crash, a half-written last
    /// record is moved to a file beside its segment. Blocks on the disk; reads the last segment once.
    pub fn open(dir: impl AsRef<Path>, options: AuditLogOptions) -> Result<Self, AuditOpenError> {
        Self::open_on(dir.as_ref(), options, Box::new(RealDisk))
    }

    fn open_on(dir: &Path, options: AuditLogOptions, disk: Box<dyn Disk>) -> Result<Self, AuditOpenError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| AuditOpenError::Io { path, source }
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
            Err(TryLockError::Error(source)) => return Err(io(&lock_path)(source)),
        }
        let opened = recover::recover(dir)?;
        let shared = Arc::new(Shared::default());
        let recovered = opened.recovered.clone();
        let writer =
            Writer::new(dir.to_owned(), disk, options, opened, Arc::clone(&shared)).map_err(io(dir))?;
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run())
            .map_err(io(dir))?;
        Ok(Self {
            shared,
            max_unwritten: options.max_unwritten_bytes,
            recovered,
            thread: Mutex::new(Some(thread)),
            _lock: lock,
        })
    }

    /// What was cut off when the trail was opened.
    pub fn recovered(&self) -> Option<&Recovered> {
        self.recovered.as_ref()
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
        self.queue(at, super::decided::encode(event)?, durable)
    }

    fn append_operation(
        &self,
        at: Timestamp,
        operation: &OperationEvent<'_>,
        durable: bool,
    ) -> Result<Receipt, AuditError> {
        self.queue(at, operation.encode()?, durable)
    }
}

impl AuditLog {
    /// Gives an encoded event to the writer.
    fn queue(&self, at: Timestamp, event: Vec<u8>, durable: bool) -> Result<Receipt, AuditError> {
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
        if state.unwritten > self.max_unwritten.saturating_mul(HARD_LIMIT) {
            return Err(AuditError::Write(format!(
                "{} bytes wait to be written",
                state.unwritten
            )));
        }
        let mut item = Item {
            at,
            event,
            waiter: None,
        };
        let unwritten = state.unwritten.saturating_add(item.cost());
        let receipt = if durable || unwritten > self.max_unwritten {
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
        state.queue.push_back(item);
        drop(state);
        // A batched event waits for others: only the first of them wakes the writer.
        if urgent || first {
            self.shared.wake.notify_one();
        }
        Ok(receipt)
    }
}
