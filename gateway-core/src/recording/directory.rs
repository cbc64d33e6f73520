//! Recordings in a directory.
//!
//! ```text
//!   <dir>/2026-11-27/<session>/1.cast     the first recording of a session that began on that day
//!   <dir>/open/<session>.1                it is not sealed yet; what is left of these after a crash is sealed by the next start
//! ```
//!
//! The second place (`spill_dir`) looks the same, and has the rest of recordings whose first place failed.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::cast::{self, Encoder};
use super::chunk::{self, Chain, Index, Next, Seal};
use super::writer::{self, Disk, Spill, State, Watch, Writer};
use super::{Begin, Kind, NotRecorded, OnFailure, Recorder, Recording};
use crate::audit::{AuditSink, Event};
use crate::sealing::Sealing;
use crate::session::SessionId;

/// Where names of recordings stand that are not sealed yet.
const OPEN: &str = "open";
/// How often it is looked whether the last one is sealed.
const LOOK: Duration = Duration::from_millis(20);
/// For a writer to let somebody watch.
const ANSWER: Duration = Duration::from_secs(5);

/// Where and how.
#[derive(Debug, Clone)]
pub struct DirectoryOptions {
    /// The first place.
    pub dir: PathBuf,
    /// The second place, for resources that spill.
    pub spill_dir: Option<PathBuf>,
    /// The most bytes in the second place.
    pub spill_bytes: u64,
    /// The most bytes of one recording.
    pub limit: u64,
    /// Whether what is typed into terminals is recorded, where a resource says nothing.
    pub input: bool,
    /// Whether contents of transfers are, where a resource says nothing.
    pub files: bool,
    /// For how long recordings are kept; `None`: for ever.
    pub retain: Option<Duration>,
}

struct Running {
    begin: Begin,
    started: Timestamp,
    watch: mpsc::Sender<oneshot::Sender<Watch>>,
}

/// The recorder of a gateway.
pub struct Directory {
    pub(super) options: DirectoryOptions,
    pub(super) sealing: Arc<Sealing>,
    audit: Arc<dyn AuditSink>,
    now: fn() -> Timestamp,
    running: Arc<Mutex<BTreeMap<(SessionId, u32), Running>>>,
    spilled: Arc<AtomicU64>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// A recording as lists show it. Nothing of this is proven.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listed {
    /// Its number in the session.
    pub recording: u32,
    /// What it is, where it runs or can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// What it is to people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// Whether it goes on.
    pub running: bool,
    /// Its end; none: it goes on, or was cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
    /// Why it can't be looked into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A recording that runs, to be watched.
#[derive(Debug, Clone)]
pub struct Live {
    /// Its number in the session.
    pub recording: u32,
    /// What it is.
    pub kind: Kind,
}

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

/// The folder of a session's recordings.
pub(super) fn folder(dir: &Path, session: SessionId) -> PathBuf {
    dir.join(day(session)).join(session.to_string())
}

/// On which day a session began, by its id.
fn day(session: SessionId) -> String {
    let began = session.0.get_timestamp().and_then(|time| {
        let (seconds, _) = time.to_unix();
        Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
    });
    began.map_or_else(
        || "undated".to_owned(),
        |began| began.strftime("%Y-%m-%d").to_string(),
    )
}

pub(super) fn file(dir: &Path, session: SessionId, number: u32) -> PathBuf {
    folder(dir, session).join(format!("{number}.cast"))
}

fn marker(dir: &Path, session: SessionId, number: u32) -> PathBuf {
    dir.join(OPEN).join(format!("{session}.{number}"))
}

fn make(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// A new file for a recording, and its marker.
fn create(dir: &Path, session: SessionId, number: u32) -> io::Result<File> {
    let path = file(dir, session, number);
    let folder = folder(dir, session);
    make(&folder)?;
    make(&dir.join(OPEN))?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(marker(dir, session, number))?;
    let file = options.open(&path)?;
    File::open(&folder)?.sync_all()?;
    Ok(file)
}

/// All bytes of the files below a folder.
fn size(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

impl Directory {
    /// Recordings below `options.dir`, which is made where it isn't there.
    ///
    /// # Errors
    ///
    /// It can't be made.
    pub fn open(
        options: DirectoryOptions,
        sealing: Arc<Sealing>,
        audit: Arc<dyn AuditSink>,
        now: fn() -> Timestamp,
    ) -> io::Result<Arc<Self>> {
        make(&options.dir)?;
        let spilled = options.spill_dir.as_deref().map_or(0, size);
        Ok(Arc::new(Self {
            options,
            sealing,
            audit,
            now,
            running: Arc::default(),
            spilled: Arc::new(AtomicU64::new(spilled)),
        }))
    }

    fn places(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.options.dir.as_path()).chain(self.options.spill_dir.as_deref())
    }

    async fn begin(
        options: DirectoryOptions,
        parts: (Arc<Sealing>, Arc<dyn AuditSink>, Arc<AtomicU64>),
        now: fn() -> Timestamp,
        running: Arc<Mutex<BTreeMap<(SessionId, u32), Running>>>,
        begin: Begin,
    ) -> Result<Recording, NotRecorded> {
        let (sealing, audit, spilled) = parts;
        let (session, number) = (begin.session, begin.number);
        let (begun, started) = (Instant::now(), now());
        let header = cast::header(&begin, started.as_second());
        let spills = begin.rules.on_failure == OnFailure::Spill;
        let second = options.spill_dir.clone().filter(|_| spills);
        let spill: Option<Spill> = second.map(|dir| -> Spill {
            let most = options.spill_bytes;
            let sealing = sealing.clone();
            Box::new(move |first: &Disk| {
                Ok(Disk {
                    file: create(&dir, session, number)?,
                    good: 0,
                    chain: first.chain.clone(),
                    sealing,
                    spilled: Some((spilled, most)),
                })
            })
        });
        let dir = options.dir.clone();
        let made = tokio::task::spawn_blocking(move || {
            let chain = Chain::new(session, number);
            let first = create(&dir, session, number).and_then(|file| {
                let mut disk = Disk {
                    file,
                    good: 0,
                    chain: chain.clone(),
                    sealing: sealing.clone(),
                    spilled: None,
                };
                let index = disk.append(0, &header)?;
                Ok((disk, index))
            });
            match (first, spill) {
                (Ok((disk, index)), spill) => Ok((disk, index, spill, None)),
                (Err(error), None) => Err(error.to_string()),
                (Err(error), Some(spill)) => {
                    // What was begun there is nothing.
                    let _ = std::fs::remove_file(marker(&dir, session, number));
                    let _ = std::fs::remove_file(self::file(&dir, session, number));
                    let none = Disk {
                        file: File::open("/dev/null").map_err(|e| e.to_string())?,
                        good: 0,
                        chain,
                        sealing,
                        spilled: None,
                    };
                    let begun = spill(&none).and_then(|mut disk| {
                        let index = disk.append(0, &header)?;
                        Ok((disk, index))
                    });
                    match begun {
                        Ok((disk, index)) => Ok((disk, index, None, Some(error.to_string()))),
                        Err(second) => Err(format!("{error}; and in the second place: {second}")),
                    }
                }
            }
        });
        let made = made.await.map_err(|error| NotRecorded(error.to_string()))?;
        let (disk, index, spill, failed) = made.map_err(NotRecorded)?;
        let terminal = begin.what.terminal.is_some();
        let input = terminal && begin.rules.input.unwrap_or(options.input);
        let contents = begin.what.kind == Kind::Files && begin.rules.files.unwrap_or(options.files);
        let (recording, queue) = Recording::queued(input, contents);
        let (watch, watched) = mpsc::channel(4);
        let mut writer = Writer {
            begin: begin.clone(),
            queue,
            watch: watched,
            disk: Some(disk),
            spill,
            limit: options.limit,
            audit,
            now,
            encoder: Encoder::new(begun),
            state: State::default(),
        };
        writer.began(index);
        running.lock().insert(
            (session, number),
            Running {
                begin,
                started,
                watch,
            },
        );
        let entered = Entered {
            running,
            key: (session, number),
        };
        if let Some(why) = failed {
            let why = format!("the first place of this recording failed ({why}); it is in the second one");
            recording.mark(why).await?;
        }
        tokio::spawn(async move {
            writer.run().await;
            for dir in std::iter::once(&options.dir).chain(&options.spill_dir) {
                let _ = std::fs::remove_file(marker(dir, session, number));
            }
            drop(entered);
        });
        Ok(recording)
    }

    /// Waits until no recording runs any more; how many still do after that time.
    pub async fn settle(&self, within: Duration) -> usize {
        let over = async {
            while !self.running.lock().is_empty() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let _ = tokio::time::timeout(within, over).await;
        self.running.lock().len()
    }

    /// Seals what a crash has left open, at its last whole chunk; how many these were. What can't be sealed is told in the log, and
    /// tried again by the next start.
    ///
    /// # Errors
    ///
    /// The trail can't be written.
    pub async fn recover(self: &Arc<Self>) -> Result<u64, crate::audit::AuditError> {
        let this = self.clone();
        let work = tokio::task::spawn_blocking(move || this.cut_off());
        let found = work.await.unwrap_or_default();
        let mut count = 0;
        for (begin, seal, marker) in found {
            let event = writer::sealed(&begin, &seal);
            self.audit.append((self.now)(), &event, true)?.settled().await?;
            let _ = std::fs::remove_file(marker);
            count += 1;
        }
        Ok(count)
    }

    fn cut_off(&self) -> Vec<(Begin, Seal, PathBuf)> {
        let mut found = Vec::new();
        for place in self.places() {
            let Ok(entries) = std::fs::read_dir(place.join(OPEN)) else {
                continue;
            };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let Some((session, number)) = name.to_str().and_then(|name| {
                    let (session, number) = name.split_once('.')?;
                    Some((session.parse().ok()?, number.parse().ok()?))
                }) else {
                    continue;
                };
                if self.running.lock().contains_key(&(session, number)) {
                    continue;
                }
                // What went on in the second place is sealed there.
                let second = self
                    .options
                    .spill_dir
                    .as_deref()
                    .filter(|second| *second != place);
                if second.is_some_and(|second| file(second, session, number).exists()) {
                    let _ = std::fs::remove_file(entry.path());
                    continue;
                }
                match self.seal_cut(place, session, number) {
                    Ok((begin, seal)) => found.push((begin, seal, entry.path())),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        let _ = std::fs::remove_file(entry.path());
                    }
                    Err(error) => {
                        tracing::error!(%session, recording = number, %error, "a recording that was cut off can't be sealed");
                    }
                }
            }
        }
        found
    }

    /// Seals one at its last whole chunk.
    fn seal_cut(&self, place: &Path, session: SessionId, number: u32) -> io::Result<(Begin, Seal)> {
        let path = file(place, session, number);
        let mut reader = BufReader::new(File::open(&path)?);
        let mut chain = Chain::new(session, number);
        if Some(place) == self.options.spill_dir.as_deref() {
            // It goes on where the first place ended.
            if let Ok(first) = File::open(file(&self.options.dir, session, number)) {
                follow(&mut BufReader::new(first), &mut chain)?;
            }
        }
        let (good, micros, sealed) = follow(&mut reader, &mut chain)?;
        let begin = Begin {
            session,
            number,
            resource: self.resource_of(session, number),
            what: super::Recorded {
                channel: String::new(),
                kind: Kind::Exec,
                title: String::new(),
                terminal: None,
            },
            rules: super::Rules::default(),
        };
        if let Some(seal) = sealed {
            return Ok((begin, seal));
        }
        let seal = Seal {
            chunks: chain.next,
            bytes: chain.bytes,
            hash: chain.hash(),
            micros,
            complete: false,
            end: "the gateway stopped while it was recorded; it ends with the last whole chunk".to_owned(),
            cut: None,
        };
        let file = OpenOptions::new().write(true).open(&path)?;
        file.set_len(good)?;
        let mut file = OpenOptions::new().append(true).open(&path)?;
        io::Write::write_all(&mut file, &chunk::comment(chunk::SEALED, &seal))?;
        file.sync_all()?;
        Ok((begin, seal))
    }

    fn resource_of(&self, session: SessionId, number: u32) -> String {
        let header = self.reading(session, number, None).header();
        let resource = header.and_then(|header| {
            let resource = header.pointer("/gateway/resource")?.as_str()?;
            Some(resource.to_owned())
        });
        resource.unwrap_or_default()
    }

    /// The recordings of a session, in their order.
    pub fn list(&self, session: SessionId) -> Vec<Listed> {
        let mut numbers = std::collections::BTreeSet::new();
        for place in self.places() {
            let Ok(entries) = std::fs::read_dir(folder(place, session)) else {
                continue;
            };
            numbers.extend(entries.flatten().filter_map(|entry| {
                let name = entry.file_name();
                name.to_str()?.strip_suffix(".cast")?.parse::<u32>().ok()
            }));
        }
        numbers
            .into_iter()
            .map(|number| self.listed(session, number))
            .collect()
    }

    fn listed(&self, session: SessionId, number: u32) -> Listed {
        if let Some(running) = self.running.lock().get(&(session, number)) {
            return Listed {
                recording: number,
                kind: Some(running.begin.what.kind),
                title: Some(running.begin.what.title.clone()),
                started: Some(running.started),
                running: true,
                seal: None,
                error: None,
            };
        }
        let mut reading = self.reading(session, number, None);
        let header = reading.header();
        let text = |path: &str| header.as_ref()?.pointer(path)?.as_str().map(str::to_owned);
        let kind = header.as_ref().and_then(|header| header.pointer("/gateway/kind"));
        let started = header
            .as_ref()
            .and_then(|header| header.get("timestamp")?.as_i64());
        Listed {
            recording: number,
            kind: kind.and_then(|kind| serde_json::from_value(kind.clone()).ok()),
            title: text("/title"),
            started: started.and_then(|seconds| Timestamp::from_second(seconds).ok()),
            running: false,
            seal: reading.seal(),
            error: header.is_none().then(|| reading.why()),
        }
    }

    /// Those of a session that run.
    pub fn live(&self, session: SessionId) -> Vec<Live> {
        let running = self.running.lock();
        running
            .range((session, 0)..=(session, u32::MAX))
            .map(|((_, number), running)| Live {
                recording: *number,
                kind: running.begin.what.kind,
            })
            .collect()
    }

    /// Begins to watch one that runs: all up to now is in the file when this answers. `None`: it does not run, or too many watch.
    pub async fn watch(&self, session: SessionId, number: u32) -> Option<Watching> {
        let writer = self.running.lock().get(&(session, number))?.watch.clone();
        let (who, answer) = oneshot::channel();
        let ask = async {
            writer.send(who).await.ok()?;
            answer.await.ok()
        };
        let watch = tokio::time::timeout(ANSWER, ask).await.ok()??;
        Some(Watching {
            lines: watch.lines,
            waiting: watch.waiting,
        })
    }

    /// Removes recordings that are older than they are kept, by the day on which their sessions began; the trail is told first.
    ///
    /// # Errors
    ///
    /// The trail can't be written.
    pub async fn retain(self: &Arc<Self>) -> Result<u64, crate::audit::AuditError> {
        let Some(retain) = self.options.retain else {
            return Ok(0);
        };
        let Some(oldest) = jiff::SignedDuration::try_from(retain)
            .ok()
            .and_then(|age| (self.now)().checked_sub(age).ok())
        else {
            return Ok(0);
        };
        let oldest = oldest.strftime("%Y-%m-%d").to_string();
        let mut removed = 0;
        for place in self.places() {
            let days = std::fs::read_dir(place).map(|entries| entries.flatten().collect::<Vec<_>>());
            for day in days.unwrap_or_default() {
                let name = day.file_name();
                let Some(name) = name.to_str().filter(|name| is_day(name) && *name < &*oldest) else {
                    continue;
                };
                removed += self.drop_day(&day.path(), name).await?;
            }
        }
        Ok(removed)
    }

    async fn drop_day(&self, path: &Path, name: &str) -> Result<u64, crate::audit::AuditError> {
        let sessions = std::fs::read_dir(path).map(|entries| entries.flatten().collect::<Vec<_>>());
        let mut removed = 0;
        for entry in sessions.unwrap_or_default() {
            let id = entry.file_name();
            let Some(session) = id.to_str().and_then(|id| id.parse::<SessionId>().ok()) else {
                continue;
            };
            if !self.live(session).is_empty() {
                continue;
            }
            let event = Event::RecordingsRemoved {
                session,
                why: format!("they are of {name}, and older than `recording.retain`"),
            };
            self.audit.append((self.now)(), &event, true)?.settled().await?;
            let spills = self.options.spill_dir.as_deref();
            if spills.is_some_and(|dir| entry.path().starts_with(dir)) {
                let bytes = size(&entry.path());
                self.spilled.fetch_sub(bytes, Ordering::AcqRel);
            }
            match std::fs::remove_dir_all(entry.path()) {
                Ok(()) => removed += 1,
                Err(error) => tracing::error!(%session, %error, "recordings can't be removed"),
            }
        }
        let _ = std::fs::remove_dir(path);
        Ok(removed)
    }

    /// Under how many keys how many recordings are: each counts once, `None` for those that are not sealed with any.
    pub fn keys(&self) -> BTreeMap<Option<String>, u64> {
        keys(self.places())
    }
}

/// As [`Directory::keys`] has it, of these places.
pub fn keys<'a>(places: impl Iterator<Item = &'a Path>) -> BTreeMap<Option<String>, u64> {
    let mut found = BTreeMap::new();
    for place in places {
        for day in std::fs::read_dir(place).into_iter().flatten().flatten() {
            if !day.file_name().to_str().is_some_and(is_day) {
                continue;
            }
            for session in std::fs::read_dir(day.path()).into_iter().flatten().flatten() {
                for file in std::fs::read_dir(session.path()).into_iter().flatten().flatten() {
                    *found.entry(key_of(&file.path())).or_default() += 1;
                }
            }
        }
    }
    found
}

fn key_of(path: &Path) -> Option<String> {
    let mut begin = [0; 32];
    let read = File::open(path)
        .and_then(|mut file| io::Read::read(&mut file, &mut begin))
        .ok()?;
    let text = std::str::from_utf8(begin.get(..read)?).ok()?;
    let (key, _) = text.strip_prefix(crate::sealing::PREFIX)?.split_once(':')?;
    Some(key.to_owned())
}

fn is_day(name: &str) -> bool {
    name == "undated" || (name.len() == 10 && name.bytes().all(|b| b.is_ascii_digit() || b == b'-'))
}

/// Follows the chunks of a file as far as they are whole: where the last one ends, its time, and the seal.
fn follow(reader: &mut BufReader<File>, chain: &mut Chain) -> io::Result<(u64, u64, Option<Seal>)> {
    let (mut good, mut micros) = (0_u64, 0);
    loop {
        match chunk::next(reader)? {
            Next::Chunk(index, payload) => {
                let mut next = chain.clone();
                let computed: Index = next.push(index.at, &payload);
                if computed != index {
                    return Ok((good, micros, None));
                }
                *chain = next;
                micros = index.at;
                let line = chunk::comment(chunk::CHUNK, &index);
                let bytes = payload.len().saturating_add(line.len());
                good = good.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
            }
            Next::Sealed(seal) => return Ok((good, micros, Some(seal))),
            Next::End | Next::Strange => return Ok((good, micros, None)),
        }
    }
}

struct Entered {
    running: Arc<Mutex<BTreeMap<(SessionId, u32), Running>>>,
    key: (SessionId, u32),
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.running.lock().remove(&self.key);
    }
}

impl Recorder for Directory {
    fn start(&self, begin: Begin) -> BoxFuture<'static, Result<Recording, NotRecorded>> {
        let parts = (self.sealing.clone(), self.audit.clone(), self.spilled.clone());
        Box::pin(Self::begin(
            self.options.clone(),
            parts,
            self.now,
            self.running.clone(),
            begin,
        ))
    }
}
