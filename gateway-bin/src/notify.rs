//! What receivers are told: read from the audit trail while the gateway runs, behind a cursor of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use gateway_control::notify::{Happened, Notifier};
use gateway_core::audit::read::Follow;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::export::cursor::Cursor;
use crate::trail::WatchedLog;

/// How often it is looked whether there is something new.
const LOOK: Duration = Duration::from_millis(250);
/// The first pause after a failure; each further one is twice as long.
const BACKOFF: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(30);
/// The most records that are looked at between two cursors.
const RECORDS: u32 = 20_000;
/// The most that are told between two cursors.
const TOLD: usize = 200;

/// What reads the trail for a notifier.
pub(crate) struct Feed {
    notifier: Notifier,
    log: Arc<WatchedLog>,
    dir: PathBuf,
    cursor: PathBuf,
}

/// What one look at the trail gave.
struct Batch {
    happened: Vec<Happened>,
    /// Number and hash of the last record that was looked at.
    last: Option<(u64, String)>,
}

impl Feed {
    /// Reads the trail of `config` from `log` for `notifier`.
    pub(crate) fn new(config: &Config, notifier: Notifier, log: &Arc<WatchedLog>) -> Self {
        Self {
            notifier,
            log: log.clone(),
            dir: Config::audit_dir(&config.data_dir),
            cursor: config.data_dir.join("notify").join("trail.cursor"),
        }
    }

    /// Starts to read and to deliver; both end with the set. Without a receiver nothing is read.
    pub(crate) fn start(self, tasks: &mut JoinSet<()>, any: bool) {
        if any {
            tasks.spawn(self.notifier.clone().run());
            tasks.spawn(self.run());
        }
    }

    /// Never ends by itself; whatever fails is tried again, from the last record that the outbox has.
    async fn run(self) {
        let (mut pause, mut failing) = (BACKOFF, false);
        loop {
            let Err(error) = self.carry_on(&mut pause, &mut failing).await;
            // Told once, not with every try.
            if !std::mem::replace(&mut failing, true) {
                tracing::error!("nobody is told of what happens: {error:#}; it is tried again");
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(LONGEST);
        }
    }

    async fn carry_on(
        &self,
        pause: &mut Duration,
        failing: &mut bool,
    ) -> anyhow::Result<std::convert::Infallible> {
        let mut last = self.begin().await?;
        let mut follow = Follow::after(&self.dir, last);
        loop {
            let upto = self.log.durable();
            if last >= upto {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            let batch;
            (follow, batch) = tokio::task::spawn_blocking(move || {
                let batch = read(&mut follow, upto);
                (follow, batch)
            })
            .await?;
            let batch = batch?;
            let Some((seq, hash)) = batch.last else {
                anyhow::bail!(
                    "record {} is not in the audit trail: run `gateway audit verify`",
                    last.saturating_add(1)
                );
            };
            self.notifier.take(&batch.happened).await?;
            self.keep(Cursor::new(seq, hash)).await?;
            last = seq;
            *pause = BACKOFF;
            if std::mem::take(failing) {
                tracing::info!("receivers are told of what happens again");
            }
        }
    }

    /// Behind which record it goes on. Without a cursor, or with one of another trail, from the end on: what happened before
    /// anybody was to be told of it is not told.
    async fn begin(&self) -> anyhow::Result<u64> {
        let (dir, path, durable) = (self.dir.clone(), self.cursor.clone(), self.log.durable());
        let found = tokio::task::spawn_blocking(move || begin(&dir, &path, durable)).await??;
        match found {
            Begin::Behind(seq) => Ok(seq),
            Begin::At(cursor) => {
                let seq = cursor.seq;
                self.keep(cursor).await?;
                Ok(seq)
            }
        }
    }

    async fn keep(&self, cursor: Cursor) -> anyhow::Result<()> {
        let path = self.cursor.clone();
        tokio::task::spawn_blocking(move || cursor.write(&path))
            .await?
            .context("its cursor cannot be written")
    }
}

enum Begin {
    /// Its cursor says so.
    Behind(u64),
    /// Here, from now on.
    At(Cursor),
}

fn begin(dir: &Path, path: &Path, durable: u64) -> anyhow::Result<Begin> {
    let cursor = Cursor::read(path).with_context(|| format!("its cursor `{}`", path.display()))?;
    if let Some(cursor) = cursor.filter(|cursor| cursor.seq <= durable) {
        if cursor.seq == 0 {
            return Ok(Begin::Behind(0));
        }
        match hash_of(dir, cursor.seq)? {
            (Some(hash), _) if hash == cursor.hash => return Ok(Begin::Behind(cursor.seq)),
            // Retention has dropped it since.
            (None, true) => return Ok(Begin::Behind(cursor.seq)),
            _ => tracing::warn!(
                cursor = %path.display(), seq = cursor.seq,
                "the cursor is of another audit trail: what happens from now on is told"
            ),
        }
    }
    let (hash, _) = hash_of(dir, durable)?;
    Ok(Begin::At(Cursor::new(durable, hash.unwrap_or_default())))
}

/// The hash of a record, and whether retention has dropped what stood there.
fn hash_of(dir: &Path, seq: u64) -> anyhow::Result<(Option<String>, bool)> {
    let mut found = None;
    let mut follow = Follow::after(dir, seq.saturating_sub(1));
    follow.read(seq, &mut |record| {
        found = Some((record.seq, record.hash.to_owned()));
        Ok(false)
    })?;
    let hash = found.filter(|(at, _)| *at == seq).map(|(_, hash)| hash);
    Ok((hash, follow.skipped() > 0))
}

/// The next records. Blocks on the disk.
fn read(follow: &mut Follow, upto: u64) -> anyhow::Result<Batch> {
    let mut batch = Batch {
        happened: Vec::new(),
        last: None,
    };
    let mut records = 0_u32;
    follow.read(upto, &mut |record| {
        records = records.saturating_add(1);
        batch
            .happened
            .extend(Happened::read(record.hash, record.at, record.event));
        let more = records < RECORDS && batch.happened.len() < TOLD;
        if !more || record.seq == upto {
            batch.last = Some((record.seq, record.hash.to_owned()));
        }
        Ok(more)
    })?;
    Ok(batch)
}
