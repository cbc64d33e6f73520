//! Recordings kept elsewhere, for good: object storage, or whatever an [`Archive`] is.
//!
//! ```text
//!   sealed ─▶ put ─▶ got back whole, its hash the file's ─▶ in the trail ─▶ `<number>.archived` ─▶ after `keep_local`: the file goes
//! ```
//!
//! What has no `.archived` beside it is not in the archive; a start finds it again. Nothing here is removed before it was read back.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

mod marker;
mod upload;

pub(super) use marker::Marker;
pub(super) use upload::Uploads;

/// Pieces of an object that wait for whoever reads it.
const AHEAD: usize = 4;
/// For an answer on whether there is an object.
const ANSWER: Duration = Duration::from_secs(30);

/// Why the archive did not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// There is no such object.
    #[error("there is no object `{0}` in the archive")]
    Absent(String),
    /// It could not be reached, or refused.
    #[error("the archive: {0}")]
    Failed(String),
}

/// Keeps whole files under names. Names have slashes in them, and nothing that is odd in a path.
#[async_trait::async_trait]
pub trait Archive: Send + Sync {
    /// Puts a file there under this name, whole or not at all; what was there before is replaced.
    async fn put(&self, object: &str, file: &Path) -> Result<(), ArchiveError>;

    /// Its size; `None`: there is no such object.
    async fn size(&self, object: &str) -> Result<Option<u64>, ArchiveError>;

    /// Its bytes, in pieces of bounded size. A stream that ends without an error was whole.
    async fn get(
        &self,
        object: &str,
    ) -> Result<BoxStream<'static, Result<Bytes, ArchiveError>>, ArchiveError>;

    /// Removes it; that there is none is no error.
    async fn remove(&self, object: &str) -> Result<(), ArchiveError>;
}

/// What a directory needs to use an archive.
#[derive(Clone)]
pub struct Archiving {
    /// Where to.
    pub archive: Arc<dyn Archive>,
    /// How long the file here stays once the archive has it.
    pub keep_local: Duration,
}

/// An object as a file that is read. Blocking: nothing of it may be called where a runtime's tasks run.
struct Fetched {
    pieces: mpsc::Receiver<Result<Bytes, ArchiveError>>,
    now: Bytes,
}

impl Read for Fetched {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() {
            match self.pieces.blocking_recv() {
                Some(Ok(piece)) => self.now = piece,
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Ok(0),
            }
        }
        let take = to.len().min(self.now.len());
        let (Some(from), Some(to)) = (self.now.get(..take), to.get_mut(..take)) else {
            return Ok(0);
        };
        to.copy_from_slice(from);
        self.now.advance(take);
        Ok(take)
    }
}

/// Begins to read an object; what is wrong with it comes with the first bytes.
pub(super) fn fetch(runtime: &Handle, archive: Arc<dyn Archive>, object: String) -> Box<dyn BufRead + Send> {
    let (sender, pieces) = mpsc::channel(AHEAD);
    runtime.spawn(async move {
        let mut stream = match archive.get(&object).await {
            Ok(stream) => stream,
            Err(error) => {
                let _ = sender.send(Err(error)).await;
                return;
            }
        };
        while let Some(piece) = stream.next().await {
            let failed = piece.is_err();
            if sender.send(piece).await.is_err() || failed {
                return;
            }
        }
    });
    let fetched = Fetched {
        pieces,
        now: Bytes::new(),
    };
    Box::new(BufReader::with_capacity(64 * 1024, fetched))
}

/// Whether there is an object. Blocking, as above.
pub(super) fn exists(runtime: &Handle, archive: Arc<dyn Archive>, object: String) -> bool {
    let (sender, answer) = std::sync::mpsc::sync_channel(1);
    runtime.spawn(async move {
        let size = archive.size(&object).await;
        let _ = sender.send(matches!(size, Ok(Some(_))));
    });
    answer.recv_timeout(ANSWER).unwrap_or(false)
}

#[cfg(test)]
mod tests;
