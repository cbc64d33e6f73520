//! Recordings in a directory.
//!
//! ```text
//!   <dir>/2026-11-27/<session>/1.cast       the first recording of a session that began on that day
//!   <dir>/2026-11-27/<session>/1.archived   it is in the archive, too: its first chunk, where it is, and its seal
//!   <dir>/open/<session>.1                  it is not sealed yet; what is left of these after a crash is sealed by the next start
//! ```
//!
//! The second place (`spill_dir`) looks the same, and has the rest of recordings whose first place failed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::archive::{Archiving, Uploads};
use super::watch::Watching;
use super::{Begin, NotRecorded, Recorder, Recording};
use crate::audit::AuditSink;
use crate::sealing::Sealing;
use crate::session::SessionId;

mod begin;
mod list;
pub(super) mod place;
pub(super) mod recover;
mod retain;

pub use list::{Listed, Live};
pub(super) use place::file;
pub use place::keys;

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
    watch: mpsc::Sender<oneshot::Sender<Watching>>,
}

/// The recorder of a gateway.
pub struct Directory {
    pub(super) options: DirectoryOptions,
    pub(super) sealing: Arc<Sealing>,
    pub(super) audit: Arc<dyn AuditSink>,
    pub(super) now: fn() -> Timestamp,
    running: Mutex<BTreeMap<(SessionId, u32), Running>>,
    pub(super) spilled: Arc<AtomicU64>,
    pub(super) archiving: Option<Archiving>,
    pub(super) uploads: Uploads,
    this: Weak<Self>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
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
        archiving: Option<Archiving>,
        now: fn() -> Timestamp,
    ) -> io::Result<Arc<Self>> {
        place::make(&options.dir)?;
        Ok(Self::of(options, sealing, audit, archiving, now))
    }

    /// To look at recordings alone: nothing is made, and nothing told to a trail.
    pub fn look(
        options: DirectoryOptions,
        sealing: Arc<Sealing>,
        archiving: Option<Archiving>,
        now: fn() -> Timestamp,
    ) -> Arc<Self> {
        let nobody = crate::embed::Told(|_, _: &_| Ok(()));
        Self::of(options, sealing, Arc::new(nobody), archiving, now)
    }

    fn of(
        options: DirectoryOptions,
        sealing: Arc<Sealing>,
        audit: Arc<dyn AuditSink>,
        archiving: Option<Archiving>,
        now: fn() -> Timestamp,
    ) -> Arc<Self> {
        let spilled = options.spill_dir.as_deref().map_or(0, place::size);
        Arc::new_cyclic(|this| Self {
            options,
            sealing,
            audit,
            now,
            running: Mutex::default(),
            spilled: Arc::new(AtomicU64::new(spilled)),
            archiving,
            uploads: Uploads::default(),
            this: this.clone(),
        })
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.options.dir.as_path()).chain(self.options.spill_dir.as_deref())
    }

    /// Whether this is the second place.
    pub(super) fn is_second(&self, place: &Path) -> bool {
        self.options.spill_dir.as_deref() == Some(place)
    }

    /// Whether it is recorded now, or was not sealed yet.
    pub(super) fn is_open(&self, session: SessionId, number: u32) -> bool {
        self.running.lock().contains_key(&(session, number))
            || self
                .places()
                .any(|dir| place::marker(dir, session, number).exists())
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

    /// Begins to watch one that runs: all up to now is in the file when this answers. `None`: it does not run, or too many watch.
    pub async fn watch(&self, session: SessionId, number: u32) -> Option<Watching> {
        let writer = self.running.lock().get(&(session, number))?.watch.clone();
        let (who, answer) = oneshot::channel();
        let ask = async {
            writer.send(who).await.ok()?;
            answer.await.ok()
        };
        tokio::time::timeout(ANSWER, ask).await.ok()?
    }

    /// Under how many keys how many recordings are: each counts once, `None` for those that are not sealed with any.
    pub fn keys(&self) -> BTreeMap<Option<String>, u64> {
        keys(self.places())
    }
}

impl Recorder for Directory {
    fn start(&self, begin: Begin) -> BoxFuture<'static, Result<Recording, NotRecorded>> {
        let Some(this) = self.this.upgrade() else {
            let gone = NotRecorded("the recorder is gone".to_owned());
            return Box::pin(std::future::ready(Err(gone)));
        };
        Box::pin(this.begin(begin))
    }
}
