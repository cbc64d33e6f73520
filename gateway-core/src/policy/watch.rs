//! Reloads policies when their files change.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{PolicyEngine, PolicyErrors, ReloadOutcome};

/// How long the directory must be quiet before it is read.
const QUIET: Duration = Duration::from_millis(300);
/// Longest wait for quiet.
const RESTLESS: Duration = Duration::from_secs(3);
/// How often the directory is looked at where no notice came (network file systems, a replaced directory).
const LOOK: Duration = Duration::from_secs(5);

/// What a callback is told after each attempt that found something to do.
pub type ReloadResult = Result<ReloadOutcome, PolicyErrors>;

/// A running watch; dropping it ends the watch.
#[derive(Debug)]
pub struct Watcher {
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Watches the directory of `engine` and reloads it after changes; `told` hears of every reload that changed
/// something or failed (once for each different failure). Must be called within a tokio runtime.
pub fn watch(engine: Arc<PolicyEngine>, told: impl Fn(ReloadResult) + Send + Sync + 'static) -> Watcher {
    Watcher {
        task: tokio::spawn(run(engine, told)),
    }
}

async fn run(engine: Arc<PolicyEngine>, told: impl Fn(ReloadResult) + Send + Sync + 'static) {
    // One pending notice says all that there is to say.
    let (sender, mut notices) = mpsc::channel(1);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the directory is an event too; to answer it by reading would never end.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            // A full channel holds a notice already.
            let _ = sender.try_send(());
        }
    });
    let _watcher = watcher
        .and_then(|mut watcher| {
            watcher.watch(engine.dir(), RecursiveMode::NonRecursive)?;
            Ok(watcher)
        })
        .inspect_err(|error| tracing::warn!(%error, "policy files are polled, not watched"));
    let mut seen = None;
    let mut failure: Option<PolicyErrors> = None;
    loop {
        let noticed = match timeout(LOOK, notices.recv()).await {
            Ok(Some(())) => {
                settle(&mut notices).await;
                true
            }
            // No watcher, no notices: the fingerprint alone tells.
            Ok(None) => {
                sleep(LOOK).await;
                false
            }
            Err(_) => false,
        };
        let engine = Arc::clone(&engine);
        let before = seen;
        // Files are read beside the runtime.
        let looked = tokio::task::spawn_blocking(move || {
            let now = fingerprint(engine.dir());
            let reload = (noticed || before != Some(now)).then(|| engine.reload());
            (now, reload)
        });
        let Ok((now, reload)) = looked.await else { continue };
        seen = Some(now);
        match reload {
            Some(Ok(outcome)) => {
                let recovered = failure.take().is_some();
                if outcome.changed || recovered {
                    told(Ok(outcome));
                }
            }
            Some(Err(errors)) if failure.as_ref() != Some(&errors) => {
                failure = Some(errors.clone());
                told(Err(errors));
            }
            Some(Err(_)) | None => {}
        }
    }
}

/// Waits until no notice came for a while.
async fn settle(notices: &mut mpsc::Receiver<()>) {
    let quiet = async { while let Ok(Some(())) = timeout(QUIET, notices.recv()).await {} };
    // Who never stops writing is read in between.
    let _ = timeout(RESTLESS, quiet).await;
}

/// Changes with the names, sizes and times of the files of a directory.
fn fingerprint(dir: &Path) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut files: Vec<(std::ffi::OsString, u64, Option<SystemTime>)> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| {
            // Symlinks are followed: their targets are what is read.
            let meta = std::fs::metadata(entry.path()).ok();
            let (size, time) = meta.map_or((0, None), |meta| (meta.len(), meta.modified().ok()));
            (entry.file_name(), size, time)
        })
        .collect();
    files.sort();
    let mut hasher = DefaultHasher::new();
    files.hash(&mut hasher);
    hasher.finish()
}
