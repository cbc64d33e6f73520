//! The thread that writes: numbers, chains, writes, syncs, and keeps what is not durable.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::{AuditError, segments};
use super::chain::Chain;
use super::disk::{Disk, Segment};
use super::recover::{self, Opened};
use super::retain::Retention;
use super::{AuditLogOptions, GATHER, Queue, Shared};

/// How long after a failure it is tried again without anybody asking.
const RETRY: Duration = Duration::from_millis(250);
/// How long after a failure at the earliest, where somebody asks.
const RETRY_NUDGED: Duration = Duration::from_millis(10);
/// The most that is given to one write.
const WRITE_BYTES: usize = 4 * 1024 * 1024;
/// Room for what is not durable that is kept while there is nothing.
const KEPT_BYTES: usize = 16 * 1024 * 1024;

/// The segment that is appended to.
struct Current {
    file: Box<dyn Segment>,
    path: PathBuf,
    /// Number of its first record.
    first: u64,
    /// Length of the whole records that were written.
    len: u64,
    /// Length of what is known to be on disk.
    synced: u64,
}

pub(super) struct Writer {
    dir: PathBuf,
    disk: Box<dyn Disk>,
    options: AuditLogOptions,
    shared: Arc<Shared>,
    chain: Chain,
    retention: Retention,
    segment: Option<Current>,
    /// The segment may hold anything beyond `synced`; it is to be cut back there and left.
    damaged: bool,
    /// A segment that was made, but may not be in its directory durably: it has nothing, and is made anew.
    begun: Option<PathBuf>,
}

impl Writer {
    pub(super) fn new(
        dir: PathBuf,
        disk: Box<dyn Disk>,
        options: AuditLogOptions,
        opened: Opened,
        chain: Chain,
        retention: Retention,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        shared
            .durable
            .store(opened.head.next.saturating_sub(1), Ordering::Release);
        let segment = match opened.segment {
            Some(segment) => Some(Current {
                file: disk.open(&segment.path)?,
                path: segment.path,
                first: segment.first,
                len: segment.len,
                synced: segment.len,
            }),
            None => None,
        };
        Ok(Self {
            dir,
            disk,
            options,
            shared,
            chain,
            retention,
            segment,
            damaged: false,
            begun: None,
        })
    }

    /// Writes until the log is closed.
    pub(super) fn run(mut self) {
        // However this thread ends, nobody waits for it any more.
        let guard = Guard(Arc::clone(&self.shared));
        // What was said at the opening does not wait for an event.
        let mut flush_at = (!self.chain.tail.entries.is_empty()).then(Instant::now);
        let mut failed_at: Option<Instant> = None;
        let mut batch = Queue::default();
        loop {
            let closing = self.wait(&mut batch, flush_at, failed_at);
            let mut sync = closing || failed_at.is_some();
            sync |= batch.items.iter().any(|item| item.sync);
            self.chain.take(&mut batch);
            let now = Instant::now();
            sync |= flush_at.is_some_and(|due| due <= now);
            if closing {
                self.chain.stop();
            } else if failed_at.is_none() {
                self.chain.checkpoint_in_time(now);
            }
            let mut result = self.flush(sync);
            if result.is_ok() && !closing && self.retention.is_due(now) {
                result = self.retain(now);
            }
            match &result {
                Ok(()) => {
                    if failed_at.take().is_some() {
                        tracing::warn!("the audit trail can be written again");
                        self.shared.state.lock().broken = None;
                    }
                    flush_at = match (self.chain.tail.entries.is_empty(), flush_at) {
                        (true, _) => None,
                        (false, Some(due)) => Some(due),
                        (false, None) => Instant::now().checked_add(self.options.flush_interval),
                    };
                }
                Err(error) => {
                    self.fail(error, failed_at.is_none());
                    failed_at = Some(Instant::now());
                    flush_at = None;
                }
            }
            if closing {
                let ended = result.map_err(|error| AuditError::Write(error.to_string()));
                self.shared.state.lock().ended = Some(ended);
                break;
            }
        }
        drop(guard);
    }

    /// Sleeps until there is something to do, and puts what is queued in the place of the empty `batch`; whether the log
    /// is being closed.
    fn wait(&self, batch: &mut Queue, flush_at: Option<Instant>, failed_at: Option<Instant>) -> bool {
        let in_time = [flush_at, self.chain.checkpoint_due(), self.retention.due()];
        let in_time = in_time.into_iter().flatten().min();
        let mut state = self.shared.state.lock();
        let mut gather: Option<Instant> = None;
        state.busy_since = None;
        loop {
            let due = match failed_at {
                Some(failed) => failed.checked_add(if state.nudged { RETRY_NUDGED } else { RETRY }),
                None => in_time,
            };
            let now = Instant::now();
            let ready = state.closed || !state.queue.is_empty() || due.is_some_and(|due| due <= now);
            let gathers = !state.urgent
                && !state.closed
                && failed_at.is_none()
                && !state.queue.is_empty()
                && due.is_none_or(|due| due > now);
            if gathers {
                let until = *gather.get_or_insert(now + GATHER);
                if now < until {
                    self.shared.wake.wait_until(&mut state, until);
                    continue;
                }
            }
            if ready {
                state.nudged = false;
                state.urgent = false;
                state.busy_since = Some(now);
                std::mem::swap(&mut state.queue, batch);
                return state.closed;
            }
            match due {
                Some(due) => drop(self.shared.wake.wait_until(&mut state, due)),
                None => self.shared.wake.wait(&mut state),
            }
        }
    }

    /// Tells everybody that nothing can be written. What is queued was taken, so it is kept.
    fn fail(&mut self, error: &io::Error, first: bool) {
        metrics::counter!("audit_write_errors_total").increment(1);
        let why = error.to_string();
        if first {
            tracing::error!(error = %why, dir = %self.dir.display(), "the audit trail cannot be written");
        }
        let (mut queued, unwritten) = {
            let mut state = self.shared.state.lock();
            state.broken = Some(why.clone());
            (std::mem::take(&mut state.queue), state.unwritten)
        };
        show_unwritten(unwritten);
        self.chain.take(&mut queued);
        for entry in &mut self.chain.tail.entries {
            entry.waiter.answer(Err(AuditError::Write(why.clone())));
        }
    }

    /// Writes what is not written and, with `sync`, makes all of it durable.
    fn flush(&mut self, sync: bool) -> io::Result<()> {
        if self.damaged {
            self.repair()?;
        }
        while let Some(next) = self.chain.tail.entries.get(self.chain.tail.written) {
            let (begins, seq) = (next.begins, next.seq);
            let other = match &self.segment {
                None => true,
                Some(segment) => begins && segment.first != seq,
            };
            if other {
                self.rotate(seq)?;
                self.retention.soon();
            }
            self.write_some()?;
        }
        if sync { self.sync() } else { Ok(()) }
    }

    /// Writes as many whole records as fit in one write and in the segment; at least one.
    fn write_some(&mut self) -> io::Result<()> {
        let Some(segment) = &mut self.segment else {
            return Ok(());
        };
        let (mut records, mut bytes) = (0usize, 0usize);
        for entry in self.chain.tail.entries.iter().skip(self.chain.tail.written) {
            let more = bytes.saturating_add(entry.len);
            if records > 0 && (more > WRITE_BYTES || entry.begins) {
                break;
            }
            records += 1;
            bytes = more;
        }
        let from = self.chain.tail.written_bytes;
        let chunk = self
            .chain
            .tail
            .bytes
            .get(from..from.saturating_add(bytes))
            .unwrap_or_default();
        if let Err(error) = write_all(&mut *segment.file, chunk) {
            // Cut the half-written line off at once, so that whoever reads meanwhile sees whole records.
            self.damaged = segment.file.set_len(segment.len).is_err();
            return Err(error);
        }
        segment.len = segment.len.saturating_add(size(bytes));
        let from = self.chain.tail.written;
        for entry in self.chain.tail.entries.iter_mut().skip(from).take(records) {
            entry.waiter.written();
        }
        self.chain.tail.written += records;
        self.chain.tail.written_bytes += bytes;
        Ok(())
    }

    /// Makes durable what was written, and tells those who wait for it.
    fn sync(&mut self) -> io::Result<()> {
        let Some(segment) = &mut self.segment else {
            return Ok(());
        };
        if segment.len > segment.synced {
            if let Err(error) = segment.file.sync() {
                self.damaged = true;
                return Err(error);
            }
            segment.synced = segment.len;
        }
        let done = std::mem::take(&mut self.chain.tail.written);
        if done == 0 {
            return Ok(());
        }
        self.chain
            .tail
            .bytes
            .drain(..std::mem::take(&mut self.chain.tail.written_bytes).min(self.chain.tail.bytes.len()));
        // First the number: who is told that its event is durable finds it so.
        let last = done
            .checked_sub(1)
            .and_then(|last| self.chain.tail.entries.get(last));
        let last = last.map_or(0, |entry| entry.seq);
        self.shared.durable.fetch_max(last, Ordering::Release);
        let mut cost = 0usize;
        for mut entry in self
            .chain
            .tail
            .entries
            .drain(..done.min(self.chain.tail.entries.len()))
        {
            cost = cost.saturating_add(entry.cost);
            entry.waiter.answer(Ok(()));
        }
        let unwritten = {
            let mut state = self.shared.state.lock();
            state.unwritten = state.unwritten.saturating_sub(cost);
            state.unwritten
        };
        // One large burst does not hold its memory for ever.
        if self.chain.tail.bytes.is_empty() && self.chain.tail.bytes.capacity() > KEPT_BYTES {
            self.chain.tail.bytes = Vec::new();
        }
        metrics::counter!("audit_events_total").increment(size(done));
        metrics::histogram!("audit_batch_size").record(f64::from(u32::try_from(done).unwrap_or(u32::MAX)));
        show_unwritten(unwritten);
        Ok(())
    }

    /// Begins a segment with record `first`. The one before is durable by then, so that a crash can tear only
    /// the last one.
    fn rotate(&mut self, first: u64) -> io::Result<()> {
        self.sync()?;
        let path = self.dir.join(segments::name(first));
        if self.begun.as_ref() == Some(&path) {
            remove(&*self.disk, &path)?;
            self.begun = None;
        }
        let file = self.disk.create(&path)?;
        self.begun = Some(path.clone());
        self.disk.sync_dir(&self.dir)?;
        self.begun = None;
        self.segment = Some(Current {
            file,
            path,
            first,
            len: 0,
            synced: 0,
        });
        Ok(())
    }

    /// Leaves a segment whose end can't be trusted: cut back to what is known to be on disk, or gone where that is
    /// nothing. All records since are written again, to a new segment.
    fn repair(&mut self) -> io::Result<()> {
        let Some(segment) = &self.segment else {
            self.damaged = false;
            return Ok(());
        };
        if segment.synced == 0 {
            remove(&*self.disk, &segment.path)?;
            self.disk.sync_dir(&self.dir)?;
        } else {
            let mut file = self.disk.open(&segment.path)?;
            file.set_len(segment.synced)?;
            file.sync()?;
        }
        self.segment = None;
        self.damaged = false;
        self.chain.restart();
        Ok(())
    }

    /// Takes away the oldest segments that need not be kept; first the trail says so.
    fn retain(&mut self, now: Instant) -> io::Result<()> {
        let Some(key) = self.chain.key() else {
            return Ok(());
        };
        let current = self.segment.as_ref().map_or(0, |segment| segment.first);
        let found = self.retention.find(&self.dir, current, key, now);
        let plan = match found {
            Ok(Some(plan)) => plan,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, "the oldest segments of the audit trail could not be looked at");
                return Ok(());
            }
        };
        let (last, records, bytes) = (plan.dropped.last, plan.dropped.records, plan.dropped.bytes);
        self.chain.dropped(plan.dropped);
        self.flush(true)?;
        for path in plan.paths {
            let torn = recover::torn_parts(&path);
            for path in std::iter::once(path).chain(torn) {
                if let Err(error) = remove(&*self.disk, &path) {
                    tracing::warn!(%error, path = %path.display(), "an old segment could not be removed");
                    return Ok(());
                }
            }
        }
        metrics::counter!("audit_dropped_records_total").increment(records);
        tracing::info!(
            last,
            records,
            bytes,
            "the oldest records of the audit trail were dropped"
        );
        self.disk.sync_dir(&self.dir)
    }
}

/// Ends the log when the writer ends, in whatever way: dropped waiters learn that it is closed.
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.closed = true;
        state.queue.clear();
    }
}

/// Removes a segment; one that is gone is no error.
fn remove(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn write_all(file: &mut dyn Segment, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn show_unwritten(bytes: usize) {
    metrics::gauge!("audit_unwritten_bytes").set(f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)));
}

/// A length in memory as a length in a file.
pub(super) fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
