//! Taking sealed recordings to the archive, in the background.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::{ArchiveError, Archiving, Marker};
use crate::audit::Event;
use crate::recording::chunk::{Chain, hex};
use crate::recording::directory::{Directory, place, recover::follow};
use crate::session::SessionId;

/// Recordings that are on their way at a time.
const AT_ONCE: usize = 2;
/// Names of recordings that wait; more are found on disk when these are through.
const WAITING: usize = 65_536;
/// The first pause behind a failure, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// How often it is looked which files are to go, at the most and at the least.
const SWEEP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// A file that is to go to the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waits {
    session: SessionId,
    number: u32,
    second: bool,
    /// It may be there already.
    found: bool,
}

impl Waits {
    fn key(&self) -> (SessionId, u32, bool) {
        (self.session, self.number, self.second)
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waits>,
    /// There are more on disk.
    more: bool,
}

/// What waits for the archive.
#[derive(Debug, Default)]
pub(in crate::recording) struct Uploads {
    queue: Mutex<Queue>,
    woken: Notify,
}

impl Uploads {
    fn push(&self, one: Waits) {
        let mut queue = self.queue.lock();
        if queue.waiting.len() >= WAITING {
            queue.more = true;
        } else {
            queue.waiting.push_back(one);
        }
    }

    fn gauge(&self) {
        let waiting = u32::try_from(self.queue.lock().waiting.len()).unwrap_or(u32::MAX);
        metrics::gauge!("gateway_recordings_archive_waiting").set(f64::from(waiting));
    }
}

/// Why one did not get there.
#[derive(Debug, thiserror::Error)]
enum NotArchived {
    /// The archive, or this disk: it is tried again.
    #[error("{0}")]
    Later(String),
    /// The file itself: it stays where it is.
    #[error("{0}")]
    Never(String),
}

impl From<ArchiveError> for NotArchived {
    fn from(error: ArchiveError) -> Self {
        Self::Later(error.to_string())
    }
}

impl From<io::Error> for NotArchived {
    fn from(error: io::Error) -> Self {
        Self::Later(error.to_string())
    }
}

/// A file as it was read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Whole {
    bytes: u64,
    sha256: String,
}

/// Its size and hash. Blocking.
fn whole(path: &Path) -> io::Result<Whole> {
    let mut file = File::open(path)?;
    let mut hash = Context::new(&SHA256);
    let (mut bytes, mut piece) = (0_u64, vec![0; 256 * 1024]);
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        hash.update(piece.get(..read).unwrap_or_default());
        bytes = bytes.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
    }
    Ok(Whole {
        bytes,
        sha256: hex(hash.finish().as_ref()),
    })
}

impl Directory {
    /// The name of a recording's object.
    pub(in crate::recording) fn object(&self, place: &Path, session: SessionId, number: u32) -> String {
        let end = if self.is_second(place) {
            ".spilled.cast"
        } else {
            ".cast"
        };
        format!("{}/{session}/{number}{end}", place::day(session))
    }

    fn place(&self, second: bool) -> &Path {
        match (&self.options.spill_dir, second) {
            (Some(dir), true) => dir,
            _ => &self.options.dir,
        }
    }

    /// A recording is sealed: it can go to the archive.
    pub(in crate::recording) fn is_over(&self, session: SessionId, number: u32) {
        if self.archiving.is_none() {
            return;
        }
        for place in self.places() {
            if place::file(place, session, number).exists() {
                self.uploads.push(Waits {
                    session,
                    number,
                    second: self.is_second(place),
                    found: false,
                });
            }
        }
        self.uploads.woken.notify_one();
    }

    /// Takes recordings to the archive as they are sealed, and removes files here once they may go; does not return where there is an
    /// archive. What is on its way when this is dropped is found again by the next start.
    pub async fn archive(self: Arc<Self>) {
        let Some(archiving) = self.archiving.clone() else {
            return;
        };
        let every = (archiving.keep_local / 4).clamp(SWEEP.0, SWEEP.1);
        let (mut failures, mut swept) = (0_u32, None::<tokio::time::Instant>);
        self.clone().find().await;
        loop {
            let more = std::mem::take(&mut self.uploads.queue.lock().more);
            if more {
                self.clone().find().await;
            }
            let why = self.clone().round(&archiving).await;
            self.uploads.gauge();
            failures = self.told(failures, why);
            if swept.is_none_or(|at| at.elapsed() >= every) {
                self.clone().sweep(&archiving).await;
                swept = Some(tokio::time::Instant::now());
            }
            if failures > 0 {
                let pause = PAUSE.0.saturating_mul(1 << failures.min(9).saturating_sub(1));
                tokio::time::sleep(pause.min(PAUSE.1)).await;
            } else {
                let _ = tokio::time::timeout(every, self.uploads.woken.notified()).await;
            }
        }
    }

    /// Says once that the archive takes nothing, and once that it does again; failures in a row.
    fn told(&self, failures: u32, why: Option<String>) -> u32 {
        let waiting = self.uploads.queue.lock().waiting.len();
        match why {
            Some(why) if failures == 0 => {
                tracing::warn!(
                    waiting,
                    why,
                    "the archive does not take recordings; they stay on this disk, and it is tried again"
                );
                1
            }
            Some(why) => {
                tracing::debug!(waiting, why, failures, "the archive still takes nothing");
                failures.saturating_add(1)
            }
            None if failures > 0 => {
                tracing::info!("the archive takes recordings again");
                0
            }
            None => 0,
        }
    }

    /// Finds what is sealed and not in the archive.
    async fn find(self: Arc<Self>) {
        let found = tokio::task::spawn_blocking(move || {
            let waiting: BTreeSet<_> = {
                let queue = self.uploads.queue.lock();
                queue.waiting.iter().map(Waits::key).collect()
            };
            for place in self.places() {
                for (day, _) in place::days(place) {
                    for (folder, session) in place::sessions(&day) {
                        for (number, has) in place::numbers(&folder) {
                            if !has.file || has.archived || self.is_open(session, number) {
                                continue;
                            }
                            let one = Waits {
                                session,
                                number,
                                second: self.is_second(place),
                                found: true,
                            };
                            if !waiting.contains(&one.key()) {
                                self.uploads.push(one);
                            }
                        }
                    }
                }
            }
        });
        if let Err(error) = found.await {
            tracing::error!(%error, "recordings for the archive can't be looked for");
        }
    }

    /// Takes what waits, until something fails; why it did.
    async fn round(self: Arc<Self>, archiving: &Archiving) -> Option<String> {
        let mut running = JoinSet::new();
        let mut failed = None;
        loop {
            while running.len() < AT_ONCE && failed.is_none() {
                let Some(one) = self.uploads.queue.lock().waiting.pop_front() else {
                    break;
                };
                let (this, archiving) = (self.clone(), archiving.clone());
                running.spawn(async move {
                    let done = this.take(&archiving, &one).await;
                    (one, done)
                });
            }
            let Some(done) = running.join_next().await else {
                return failed;
            };
            let (mut one, done) = match done {
                Ok(done) => done,
                Err(error) => {
                    failed = Some(error.to_string());
                    continue;
                }
            };
            match done {
                Ok(()) => metrics::counter!("gateway_recordings_archived_total").increment(1),
                Err(NotArchived::Never(why)) => {
                    metrics::counter!("gateway_recordings_archive_failed_total").increment(1);
                    tracing::error!(session = %one.session, recording = one.number, why, "a recording does not go to the archive");
                }
                Err(NotArchived::Later(why)) => {
                    metrics::counter!("gateway_recordings_archive_failed_total").increment(1);
                    one.found = true;
                    self.uploads.push(one);
                    failed = Some(why);
                }
            }
        }
    }

    /// Takes one there, reads it back, and says so: in the trail, then beside it.
    async fn take(&self, archiving: &Archiving, one: &Waits) -> Result<(), NotArchived> {
        let place = self.place(one.second).to_owned();
        let (session, number) = (one.session, one.number);
        let path = place::file(&place, session, number);
        if !path.exists() {
            // Retention was faster.
            return Ok(());
        }
        let file = path.clone();
        let second = one.second;
        let whole = blocking(move || {
            if !second {
                sound(&file, session, number)?;
            }
            Ok(whole(&file)?)
        })
        .await?;
        let object = self.object(&place, session, number);
        let archive = &archiving.archive;
        let there = one.found
            && archive.size(&object).await? == Some(whole.bytes)
            && self.read_back(archiving, &object).await? == whole;
        if !there {
            archive.put(&object, &path).await?;
            if self.read_back(archiving, &object).await? != whole {
                return Err(NotArchived::Later(format!(
                    "object `{object}` is not what was put there when it is read back"
                )));
            }
        }
        let event = Event::RecordingArchived {
            session,
            recording: number,
            object: object.clone(),
            bytes: whole.bytes,
            sha256: whole.sha256.clone(),
        };
        let receipt = self.audit.append((self.now)(), &event, true);
        let written = match receipt {
            Ok(receipt) => receipt.settled().await,
            Err(error) => Err(error),
        };
        written.map_err(|error| NotArchived::Later(error.to_string()))?;
        let marker = Marker {
            object: object.clone(),
            bytes: whole.bytes,
            sha256: whole.sha256,
            at: (self.now)(),
        };
        let to = place::archived(&place, session, number);
        let from = path.clone();
        let marked = blocking(move || Ok(marker.write(&to, &from)?)).await;
        if !path.exists() {
            // Retention came in between: nothing of it is to be left.
            archive.remove(&object).await?;
            return Ok(());
        }
        marked?;
        if archiving.keep_local.is_zero() {
            self.drop_local(&place, &path);
        }
        Ok(())
    }

    async fn read_back(&self, archiving: &Archiving, object: &str) -> Result<Whole, NotArchived> {
        let mut stream = archiving.archive.get(object).await?;
        let mut hash = Context::new(&SHA256);
        let mut bytes = 0_u64;
        while let Some(piece) = stream.next().await {
            let piece = piece?;
            hash.update(&piece);
            bytes = bytes.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        }
        Ok(Whole {
            bytes,
            sha256: hex(hash.finish().as_ref()),
        })
    }

    fn drop_local(&self, place: &Path, path: &Path) {
        let bytes = std::fs::metadata(path).map_or(0, |meta| meta.len());
        match std::fs::remove_file(path) {
            Ok(()) if self.is_second(place) => {
                self.spilled.fetch_sub(bytes, Ordering::AcqRel);
            }
            Ok(()) => {}
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "a recording that is in the archive can't be removed here");
            }
        }
    }

    /// Removes files whose time here is over, if the archive still says that it has them.
    async fn sweep(self: Arc<Self>, archiving: &Archiving) {
        let (this, keep) = (self.clone(), archiving.keep_local);
        let due = blocking(move || Ok(this.due(keep))).await;
        for (place, path, beside, marker) in due.unwrap_or_default() {
            match archiving.archive.size(&marker.object).await {
                Ok(Some(bytes)) if bytes == marker.bytes => self.drop_local(&place, &path),
                Ok(_) => {
                    tracing::warn!(
                        object = marker.object,
                        "the archive no longer has this recording as it was put there; it is put there again"
                    );
                    let _ = std::fs::remove_file(&beside);
                    self.uploads.queue.lock().more = true;
                }
                // It will be asked again.
                Err(error) => {
                    tracing::debug!(%error, "the archive can't be asked whether it has a recording");
                    return;
                }
            }
        }
    }

    fn due(&self, keep: Duration) -> Vec<(PathBuf, PathBuf, PathBuf, Marker)> {
        let mut due = Vec::new();
        let keep = jiff::SignedDuration::try_from(keep).unwrap_or(jiff::SignedDuration::MAX);
        let Ok(before) = (self.now)().checked_sub(keep) else {
            return due;
        };
        for place in self.places() {
            for (day, _) in place::days(place) {
                for (folder, session) in place::sessions(&day) {
                    for (number, has) in place::numbers(&folder) {
                        if !has.file || !has.archived {
                            continue;
                        }
                        let beside = place::archived(place, session, number);
                        if let Ok(Some(marker)) = Marker::read(&beside)
                            && marker.at <= before
                        {
                            due.push((
                                place.to_owned(),
                                place::file(place, session, number),
                                beside,
                                marker,
                            ));
                        }
                    }
                }
            }
        }
        due
    }
}

/// Whether the chunks of a file are whole, up to its end. Blocking.
fn sound(path: &Path, session: SessionId, number: u32) -> Result<(), NotArchived> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut chain = Chain::new(session, number);
    let (_, _, seal) = follow(&mut reader, &mut chain)?;
    match seal {
        Some(seal) if seal.hash == chain.hash() && seal.chunks == chain.next => Ok(()),
        Some(_) => Err(NotArchived::Never(
            "its end is not that of its chunks; `gateway audit verify` tells more".to_owned(),
        )),
        // What goes on in the second place has no seal here.
        None if chain.next > 0 && reader.fill_is_empty()? => Ok(()),
        None => Err(NotArchived::Never(format!(
            "chunk {} is not what was recorded; `gateway audit verify` tells more",
            chain.next
        ))),
    }
}

/// Whether nothing is left.
trait Rest {
    fn fill_is_empty(&mut self) -> io::Result<bool>;
}

impl<R: io::Read> Rest for BufReader<R> {
    fn fill_is_empty(&mut self) -> io::Result<bool> {
        Ok(io::BufRead::fill_buf(self)?.is_empty())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NotArchived> + Send + 'static,
) -> Result<T, NotArchived> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(NotArchived::Later(error.to_string())))
}
