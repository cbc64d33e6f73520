//! Export while the gateway runs: from the trail's files, never in the way of what is written to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use gateway_core::audit::log::Exported;
use gateway_core::audit::read::Follow;
use jiff::Timestamp;
use tokio::task::JoinSet;

use super::cursor::Cursor;
use super::sink::Sink;
use super::{Batches, Record, cursors};
use crate::config::Config;
use crate::trail::WatchedLog;

/// How often it is looked whether there is something new.
const LOOK: Duration = Duration::from_millis(250);
/// The first pause after a failure; each further one is twice as long.
const BACKOFF: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(30);

/// The continuous exports of a configuration, before they run.
pub(crate) struct Exports {
    dir: PathBuf,
    cursors: PathBuf,
    sinks: Vec<(String, Sink)>,
    exported: Arc<Exported>,
}

impl Exports {
    /// Those of `config`.
    pub(crate) fn new(config: &Config) -> Self {
        let sinks: Vec<(String, Sink)> = config
            .audit
            .exports()
            .iter()
            .filter_map(|export| Some((export.name().to_owned(), export.sink().ok()?)))
            .collect();
        Self {
            dir: Config::audit_dir(&config.data_dir),
            cursors: cursors(&config.data_dir),
            exported: Arc::new(Exported::new(sinks.len())),
            sinks,
        }
    }

    /// What retention must not drop yet; `None` where nothing is exported.
    pub(crate) fn exported(&self) -> Option<Arc<Exported>> {
        (!self.sinks.is_empty()).then(|| Arc::clone(&self.exported))
    }

    /// Starts them; they end with the set.
    pub(crate) fn start(self, tasks: &mut JoinSet<()>, log: &Arc<WatchedLog>) {
        for (index, (name, sink)) in self.sinks.into_iter().enumerate() {
            let export = Export {
                index,
                dir: self.dir.clone(),
                cursor: Cursor::path(&self.cursors, &name),
                name,
                sink,
                log: Arc::clone(log),
                exported: Arc::clone(&self.exported),
                failing: false,
            };
            tasks.spawn(export.run());
        }
    }
}

struct Export {
    index: usize,
    name: String,
    dir: PathBuf,
    cursor: PathBuf,
    sink: Sink,
    log: Arc<WatchedLog>,
    exported: Arc<Exported>,
    failing: bool,
}

impl Export {
    /// Never ends by itself; whatever fails is tried again, from the last record that the sink has taken.
    async fn run(mut self) {
        let mut pause = BACKOFF;
        loop {
            // Every failure starts from the cursor on disk: at least once, without a gap.
            match self.carry_on(&mut pause).await {
                Ok(never) => match never {},
                Err(error) => self.failed(&error),
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(LONGEST);
        }
    }

    async fn carry_on(&mut self, pause: &mut Duration) -> anyhow::Result<std::convert::Infallible> {
        let (dir, path) = (self.dir.clone(), self.cursor.clone());
        let (format, upto) = (self.sink.format(), self.log.durable());
        let after = tokio::task::spawn_blocking(move || start(&dir, &path, upto)).await??;
        self.exported.taken(self.index, after);
        let mut batches = Batches::after(&self.dir, after, format);
        let mut last = after;
        loop {
            let upto = self.log.durable();
            self.show_lag(upto.saturating_sub(last), None);
            if last >= upto {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            let (batch, read);
            (batches, read) = tokio::task::spawn_blocking(move || {
                let batch = batches.next(upto);
                (batches, batch)
            })
            .await?;
            batch = read?;
            let (Some(first), Some(end)) = (batch.first(), batch.last()) else {
                // On disk, it was said; not there, then.
                anyhow::bail!(
                    "record {} is not in the audit trail: run `gateway audit verify`",
                    last.saturating_add(1)
                );
            };
            self.show_lag(upto.saturating_sub(last), Some(first));
            self.sink.send(&batch).await?;
            let cursor = Cursor::new(end.seq, end.hash.clone());
            let path = self.cursor.clone();
            tokio::task::spawn_blocking(move || cursor.write(&path))
                .await?
                .context("its cursor cannot be written")?;
            last = end.seq;
            self.exported.taken(self.index, last);
            metrics::counter!("audit_export_records_total", "sink" => self.name.clone())
                .increment(u64::try_from(batch.len()).unwrap_or_default());
            *pause = BACKOFF;
            self.works();
        }
    }

    fn works(&mut self) {
        metrics::gauge!("audit_export_up", "sink" => self.name.clone()).set(1.0);
        if std::mem::take(&mut self.failing) {
            tracing::info!(sink = self.name, "the audit trail is exported again");
        }
    }

    fn failed(&mut self, error: &anyhow::Error) {
        metrics::counter!("audit_export_failures_total", "sink" => self.name.clone()).increment(1);
        metrics::gauge!("audit_export_up", "sink" => self.name.clone()).set(0.0);
        // Told once, not with every try.
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(
                sink = self.name,
                "the audit trail is not exported: {error:#}; it is tried again"
            );
        }
    }

    fn show_lag(&self, records: u64, oldest: Option<&Record>) {
        let records = f64::from(u32::try_from(records).unwrap_or(u32::MAX));
        metrics::gauge!("audit_export_lag_records", "sink" => self.name.clone()).set(records);
        let seconds = oldest.map_or(0.0, |record| {
            Timestamp::now().duration_since(record.at).as_secs_f64()
        });
        metrics::gauge!("audit_export_lag_seconds", "sink" => self.name.clone()).set(seconds.max(0.0));
    }
}

/// Behind which record an export goes on. A cursor that fits no record belongs to another trail: all is exported then.
fn start(dir: &Path, path: &Path, durable: u64) -> anyhow::Result<u64> {
    let cursor = Cursor::read(path).with_context(|| format!("its cursor `{}`", path.display()))?;
    let Some(cursor) = cursor.filter(|cursor| cursor.seq > 0) else {
        return Ok(0);
    };
    let mut found = None;
    let mut follow = Follow::after(dir, cursor.seq.saturating_sub(1));
    follow.read(durable.min(cursor.seq), &mut |record| {
        found = Some((record.seq, record.hash.to_owned()));
        Ok(false)
    })?;
    match found {
        Some((seq, hash)) if seq == cursor.seq && hash == cursor.hash => Ok(cursor.seq),
        // Retention has dropped it since.
        None if follow.skipped() > 0 && cursor.seq <= durable => Ok(cursor.seq),
        _ => {
            tracing::warn!(
                cursor = %path.display(), seq = cursor.seq,
                "the cursor is of another audit trail: this one is exported from its first record on"
            );
            Ok(0)
        }
    }
}
