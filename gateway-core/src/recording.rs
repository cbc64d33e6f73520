//! Recordings: what a session's screen or stream was, kept so that it can be replayed, and so that it shows who touched it.
//!
//! ```text
//!   adapter ── write, resize, mark ──▶ bounded queue ──▶ writer ── chunks ──▶ file (synced) ──▶ hashes ──▶ audit trail
//!                                                           └──────────────▶ those who watch, as long as they keep up
//! ```
//!
//! [`SessionRecorder::start`] answers once the recording is durable and its start is in the trail; nothing of what is recorded may
//! flow before. What can't be recorded ends its session, or is spilled to a second place, as the resource says: it never goes on in
//! silence ([`Recording::failed`]). The format is in [`chunk`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::audit::Event;
use crate::gateway::Gateway;
use crate::resource::Resource;
use crate::session::SessionId;

pub mod archive;
pub mod cast;
mod check;
pub mod chunk;
mod directory;
mod disk;
mod echo;
pub mod plain;
mod queue;
mod read;
mod watch;
mod writer;

pub use check::{Checked, Faulty};
pub use directory::{Directory, DirectoryOptions, Listed, Live, keys};
pub use queue::{Item, Queue, Taken};
pub use read::{Fault, Reading, Verified};
pub use watch::Watching;

/// Recordings of one session at the most; what would need another one does not run.
const MOST: u32 = 100_000;
/// Longest title, in bytes.
const TITLE: usize = 4096;

/// What is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An interactive shell, or whatever has a terminal.
    Shell,
    /// A program without a terminal.
    Exec,
    /// A transfer of files.
    Files,
}

impl Kind {
    /// The word of the trail and of headers.
    pub fn word(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Exec => "exec",
            Self::Files => "files",
        }
    }
}

/// A terminal as it is at the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Columns.
    pub cols: u32,
    /// Rows.
    pub rows: u32,
    /// `TERM`.
    pub name: String,
}

/// Something that is to be recorded.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Its place in the session, as the protocol counts.
    pub channel: String,
    /// What it is.
    pub kind: Kind,
    /// What it is to people: the command, or the word for a shell.
    pub title: String,
    /// Its terminal, where it has one.
    pub terminal: Option<Terminal>,
}

/// What becomes of a session whose recording fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The session ends.
    #[default]
    Stop,
    /// It goes on in the second place, and the recording says so; where that fails too, the session ends.
    Spill,
}

/// `recording = { .. }` of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Where the recorder fails.
    pub on_failure: OnFailure,
    /// Whether shells, and all that has a terminal, are recorded.
    pub shell: bool,
    /// Whether programs without one, and the operations of transfers, are.
    pub exec: bool,
    /// Whether the contents of transfers are; absent: as `[recording] files` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<bool>,
    /// Whether what is typed is, as far as the target shows it; absent: as `[recording] input` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<bool>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            on_failure: OnFailure::default(),
            shell: true,
            exec: true,
            files: None,
            input: None,
        }
    }
}

impl Rules {
    /// Whether this is recorded at all.
    pub fn records(&self, kind: Kind) -> bool {
        match kind {
            Kind::Shell => self.shell,
            Kind::Exec => self.exec,
            Kind::Files => self.exec || self.files == Some(true),
        }
    }
}

/// Where bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The target's output, or its screen.
    Output,
    /// Its second output, which is kept apart.
    Error,
    /// What is typed into a terminal: shown as far as the target shows it.
    Input,
    /// Contents of files on their way to the client.
    ToClient,
    /// And on their way to the target.
    ToTarget,
}

/// Why something can't be recorded, and so must not go on.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the recorder failed: {0}")]
pub struct NotRecorded(pub String);

/// What a [`Recorder`] is asked to keep.
#[derive(Debug, Clone)]
pub struct Begin {
    /// Whose.
    pub session: SessionId,
    /// Its number in the session, from 1.
    pub number: u32,
    /// The resource.
    pub resource: String,
    /// What it is.
    pub what: Recorded,
    /// What the resource says of recordings.
    pub rules: Rules,
}

/// Keeps recordings. [`Directory`] is the usual one.
pub trait Recorder: Send + Sync {
    /// Begins a recording; its beginning is durable when this answers.
    fn start(&self, begin: Begin) -> BoxFuture<'static, Result<Recording, NotRecorded>>;
}

/// Records nothing, and so does whoever composes a gateway with it: for gateways none of whose adapters record.
#[derive(Debug, Default, Clone, Copy)]
pub struct Unrecorded;

impl Recorder for Unrecorded {
    fn start(&self, _: Begin) -> BoxFuture<'static, Result<Recording, NotRecorded>> {
        Box::pin(std::future::ready(Ok(Recording::off())))
    }
}

/// Starts the recordings of one session.
pub struct SessionRecorder {
    gateway: Arc<Gateway>,
    session: SessionId,
    resource: Arc<Resource>,
    numbers: AtomicU32,
}

impl std::fmt::Debug for SessionRecorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionRecorder")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl SessionRecorder {
    pub(crate) fn new(gateway: Arc<Gateway>, session: SessionId, resource: Arc<Resource>) -> Self {
        Self {
            gateway,
            session,
            resource,
            numbers: AtomicU32::new(1),
        }
    }

    /// Begins a recording. When this answers, it is durable and its start is in the trail; where the resource says that this is
    /// not recorded, the answer is a recording that keeps nothing.
    ///
    /// # Errors
    ///
    /// It can't be recorded: it must not begin.
    pub async fn start(&self, mut what: Recorded) -> Result<Recording, NotRecorded> {
        let rules = self.resource.recording.clone().unwrap_or_default();
        if !rules.records(what.kind) {
            return Ok(Recording::off());
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        if number > MOST {
            return Err(NotRecorded(format!("a session has at most {MOST} recordings")));
        }
        crate::operation::truncate(&mut what.title, TITLE);
        let (kind, title, channel) = (what.kind, what.title.clone(), what.channel.clone());
        let begin = Begin {
            session: self.session,
            number,
            resource: self.resource.name.clone(),
            what,
            rules,
        };
        let recording = self.gateway.recorder().start(begin).await?;
        if recording.is_on() {
            let started = Event::RecordingStarted {
                session: self.session,
                recording: number,
                kind: kind.word().to_owned(),
                title,
                channel,
                resource: self.resource.name.clone(),
            };
            let written = self.gateway.record(&started).await;
            written.map_err(|error| NotRecorded(error.to_string()))?;
        }
        Ok(recording)
    }
}

/// A recording that runs. Dropped, it ends as what was cut off.
#[derive(Debug)]
pub struct Recording {
    queue: Option<queue::Sender>,
    /// What is typed is wanted.
    input: bool,
    /// Contents of files are wanted.
    contents: bool,
    /// Bytes that came in and are only counted.
    counted: AtomicU64,
}

impl Recording {
    /// One that keeps nothing.
    pub fn off() -> Self {
        Self {
            queue: None,
            input: false,
            contents: false,
            counted: AtomicU64::new(0),
        }
    }

    /// One whose items come out of the queue; `input` and `contents`: whether what is typed, and contents of files, are wanted.
    pub fn queued(input: bool, contents: bool) -> (Self, Queue) {
        let (sender, queue) = queue::bounded();
        let recording = Self {
            queue: Some(sender),
            input,
            contents,
            counted: AtomicU64::new(0),
        };
        (recording, queue)
    }

    /// Whether anything is kept.
    pub fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Whether contents of files are to be given to it.
    pub fn wants_contents(&self) -> bool {
        self.contents
    }

    async fn put(&self, item: Item) -> Result<(), NotRecorded> {
        match &self.queue {
            Some(queue) => queue.put(item).await,
            None => Ok(()),
        }
    }

    /// Takes bytes, as soon as there is room for them. They may go on once this has answered.
    ///
    /// # Errors
    ///
    /// They are not recorded, and must not go on.
    pub async fn write(&self, stream: Stream, bytes: &Bytes) -> Result<(), NotRecorded> {
        let wanted = match stream {
            Stream::Input => self.input,
            Stream::ToClient | Stream::ToTarget => self.contents,
            Stream::Output | Stream::Error => true,
        };
        if !wanted || bytes.is_empty() {
            self.counted
                .fetch_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
            return Ok(());
        }
        self.put(Item::Data(stream, bytes.clone())).await
    }

    /// The terminal has another size.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub async fn resize(&self, cols: u32, rows: u32) -> Result<(), NotRecorded> {
        self.put(Item::Resize(cols, rows)).await
    }

    /// Something happened that is no output.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub async fn mark(&self, mut text: String) -> Result<(), NotRecorded> {
        crate::operation::truncate(&mut text, TITLE);
        self.put(Item::Mark(text)).await
    }

    /// It ends; answers once it is sealed, and its seal is in the trail. `status`: the exit status, where there was one.
    pub async fn finish(self, end: String, status: Option<u32>) {
        let counted = self.counted.load(Ordering::Relaxed);
        if let Some(queue) = self.queue {
            queue.finish(end, status, counted).await;
        }
    }

    /// Answers once it has failed: what it records must not go on. Never, where nothing is recorded.
    pub async fn failed(&self) -> NotRecorded {
        match &self.queue {
            Some(queue) => queue.failed().await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests;
