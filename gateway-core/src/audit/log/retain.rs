//! Which segments need not be kept any more.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::super::key::AuditPublicKey;
use super::super::segments::{self, Line, Lines, SegmentPath};
use super::super::{Dropped, record};
use super::{Exported, Retain};

/// How often it is looked, beside each time that a segment is begun.
const EVERY: Duration = Duration::from_secs(3600);
/// How soon it is looked again where only a part was done.
const SOON: Duration = Duration::from_secs(1);
/// The most segments that are dropped at once: their removal is in the writer's way.
const AT_ONCE: usize = 16;

/// Keeps what must be kept.
pub(super) struct Retention {
    retain: Retain,
    exported: Option<Arc<Exported>>,
    due: Option<Instant>,
}

/// What is to be dropped.
pub(super) struct Plan {
    pub(super) dropped: Dropped,
    pub(super) paths: Vec<PathBuf>,
}

impl Retention {
    pub(super) fn new(retain: Retain, exported: Option<Arc<Exported>>) -> Self {
        let any = retain.age.is_some() || retain.bytes.is_some();
        Self {
            retain,
            exported,
            due: any.then(Instant::now),
        }
    }

    /// When it is to be looked again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// A segment was begun: look now.
    pub(super) fn soon(&mut self) {
        self.due = self.due.map(|due| due.min(Instant::now()));
    }

    /// The oldest segments that need not be kept, `current` and later ones not among them.
    pub(super) fn find(
        &mut self,
        dir: &Path,
        current: u64,
        key: AuditPublicKey,
        now: Instant,
    ) -> io::Result<Option<Plan>> {
        self.due = now.checked_add(EVERY);
        let segments: Vec<SegmentPath> = segments::list(dir)?
            .into_iter()
            .filter(|segment| segment.first <= current)
            .collect();
        let mut sizes = Vec::with_capacity(segments.len());
        for segment in &segments {
            sizes.push(std::fs::metadata(&segment.path)?.len());
        }
        let mut total: u64 = sizes.iter().fold(0, |sum, size| sum.saturating_add(*size));
        let oldest_kept = self
            .retain
            .age
            .and_then(|age| Timestamp::now().checked_sub(age).ok());
        let exported = self.exported.as_ref().map_or(u64::MAX, |exported| exported.all());
        let mut plan: Option<Plan> = None;
        for ((segment, size), next) in segments.iter().zip(sizes).zip(segments.iter().skip(1)) {
            let last = next.first.saturating_sub(1);
            let by_size = self.retain.bytes.is_some_and(|most| total > most);
            if last > exported || !(by_size || oldest_kept.is_some()) {
                break;
            }
            // What does not read as it must is evidence: it stays, and all behind it.
            let Some((at, prev)) = first_record(next)? else {
                break;
            };
            if !by_size && oldest_kept.is_none_or(|oldest| at > oldest) {
                break;
            }
            total = total.saturating_sub(size);
            let plan = plan.get_or_insert_with(|| Plan {
                dropped: Dropped {
                    first: segment.first,
                    last,
                    last_hash: String::new(),
                    records: 0,
                    segments: 0,
                    bytes: 0,
                    why: if by_size { "size" } else { "age" }.to_owned(),
                    key,
                },
                paths: Vec::new(),
            });
            plan.dropped.last = last;
            plan.dropped.last_hash = prev;
            plan.dropped.segments = plan.dropped.segments.saturating_add(1);
            plan.dropped.bytes = plan.dropped.bytes.saturating_add(size);
            plan.paths.push(segment.path.clone());
            if plan.paths.len() >= AT_ONCE {
                self.due = now.checked_add(SOON);
                break;
            }
        }
        if let Some(Plan { dropped, .. }) = &mut plan {
            dropped.records = dropped.last.saturating_sub(dropped.first).saturating_add(1);
        }
        Ok(plan)
    }
}

/// Time and previous hash of a segment's first record, where that is sound.
fn first_record(segment: &SegmentPath) -> io::Result<Option<(Timestamp, String)>> {
    let mut lines = Lines::open(&segment.path)?;
    if lines.next()? != Line::Whole {
        return Ok(None);
    }
    Ok(match record::parse(lines.line()) {
        Ok(parsed) if parsed.sound && parsed.record.seq == segment.first => {
            Some((parsed.record.at, record::hex(&parsed.prev)))
        }
        _ => None,
    })
}
