//! The audit trail, elsewhere: once (`gateway audit export`) and continuously (`[[audit.export]]`).

pub(crate) mod config;
mod continuous;
pub(crate) mod cursor;
mod otlp;
pub(crate) mod sink;
mod syslog;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use gateway_core::audit::read::{AuditRow, Follow, FollowError};
use jiff::Timestamp;

pub(crate) use continuous::Exports;

/// The most records in one batch.
pub(crate) const BATCH_RECORDS: usize = 500;
/// The most bytes in one batch; one record may be larger.
pub(crate) const BATCH_BYTES: usize = 1 << 20;
/// What is kept of one record in formats that have no room for all of it: syslog.
const SYSLOG_BYTES: usize = 64 * 1024;
/// And OTLP.
const OTLP_BYTES: usize = 256 * 1024;
/// The longest value of an attribute or parameter, in bytes.
const VALUE_BYTES: usize = 1024;

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// As they are in the trail, one JSON object a line
    Jsonl,
    /// OpenTelemetry logs, OTLP/HTTP with JSON
    Otlp,
    /// RFC 5424 messages
    Syslog,
}

/// A record on its way.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) seq: u64,
    pub(crate) at: Timestamp,
    pub(crate) hash: String,
    pub(crate) line: String,
    /// What it tells, field by field; `None` for events that this version does not know.
    pub(crate) row: Option<AuditRow>,
}

/// Reads batches of records, in order.
pub(crate) struct Batches {
    follow: Follow,
    rows: bool,
}

impl Batches {
    /// Behind record `after` of the trail in `dir`.
    pub(crate) fn after(dir: &Path, after: u64, format: Format) -> Self {
        Self {
            follow: Follow::after(dir, after),
            rows: format != Format::Jsonl,
        }
    }

    /// The next records up to number `upto`; none at the end. Blocks on the disk.
    pub(crate) fn next(&mut self, upto: u64) -> Result<Vec<Record>, FollowError> {
        let (mut batch, mut bytes) = (Vec::new(), 0usize);
        let rows = self.rows;
        self.follow.read(upto, &mut |record| {
            bytes = bytes.saturating_add(record.line.len());
            batch.push(Record {
                seq: record.seq,
                at: record.at,
                hash: record.hash.to_owned(),
                line: String::from_utf8_lossy(record.line).into_owned(),
                row: if rows { AuditRow::of(&record) } else { None },
            });
            Ok(batch.len() < BATCH_RECORDS && bytes < BATCH_BYTES)
        })?;
        Ok(batch)
    }

    /// How many records were asked for that retention had dropped.
    pub(crate) fn skipped(&self) -> u64 {
        self.follow.skipped()
    }
}

/// The texts of a row that help to filter; empty ones are left out.
fn fields(row: &AuditRow) -> Vec<(&'static str, String)> {
    let text = |value: Option<&String>| value.map(|text| cut(text, VALUE_BYTES).to_owned());
    let rules = (!row.rules.is_empty()).then(|| row.rules.join(","));
    [
        ("kind", Some(row.kind.to_owned())),
        ("session", row.session.map(|id| id.to_string())),
        ("ticket", row.ticket.map(|ticket| ticket.to_string())),
        ("principal", text(row.principal.as_ref())),
        ("on_behalf_of", text(row.on_behalf_of.as_ref())),
        ("resource", text(row.resource.as_ref())),
        ("peer", text(row.peer.as_ref())),
        ("verdict", text(row.verdict.as_ref())),
        ("rules", text(rules.as_ref())),
        ("operation", text(row.operation.as_ref())),
        ("error", text(row.error.as_ref())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)))
    .collect()
}

/// At most the first `most` bytes of `text`, whole characters only.
fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// The machine's name, for whoever collects from many.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// Where the cursors of continuous exports are.
pub(crate) fn cursors(data_dir: &Path) -> PathBuf {
    data_dir.join("export")
}
