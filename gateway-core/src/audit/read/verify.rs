//! The proof that a trail is whole.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use super::super::record::{self, Head};
use super::super::segments::{self, Line, Lines, SegmentPath};

/// Where a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The segment.
    pub segment: PathBuf,
    /// The line's number in it, from 1.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`, line {}", self.segment.display(), self.line)
    }
}

/// One record's number and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Point {
    /// Its number.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
}

/// A trail that is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Whole records.
    pub records: u64,
    /// Segment files.
    pub segments: u64,
    /// The oldest record.
    pub first: Option<Point>,
    /// The newest one.
    pub last: Option<Point>,
    /// The newest one's hash, in hex; zeros where there is none. Kept elsewhere, it makes an [`Anchor`].
    pub last_hash: String,
    /// The last segment ends in a record that is not whole: one is being written, or a crash tore it.
    pub in_progress: bool,
}

/// A record's number and hash, kept outside of the trail: proves that the trail was not shortened or rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The number.
    pub seq: u64,
    /// The hash, in hex.
    pub hash: String,
}

/// The first thing that is wrong with a trail.
#[derive(Debug, thiserror::Error)]
pub enum VerifyFailure {
    /// It could not be read.
    #[error("the audit trail at `{}` cannot be read: {source}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The record is not what was written.
    #[error("record {seq} was changed ({place}): {why}")]
    Edited {
        /// The record's number, counted from those before it.
        seq: u64,
        /// Where it is.
        place: Place,
        /// How it shows.
        why: String,
    },
    /// Records are missing.
    #[error("records {first} to {last} were removed (before {place})")]
    Removed {
        /// The first missing one.
        first: u64,
        /// The last missing one.
        last: u64,
        /// Where they would have ended.
        place: Place,
    },
    /// Records stand in another order.
    #[error("record {seq} was moved: record {found} stands in its place ({place}), it is at {moved_to}")]
    Reordered {
        /// The record that was to follow.
        seq: u64,
        /// The one that does.
        found: u64,
        /// Where that is.
        place: Place,
        /// Where the one that was to follow is.
        moved_to: Place,
    },
    /// A record stands twice, or behind its place.
    #[error("record {found} stands again where record {seq} should be ({place})")]
    Repeated {
        /// The record that was to follow.
        seq: u64,
        /// The one that does.
        found: u64,
        /// Where that is.
        place: Place,
    },
    /// A record carries on from another one than stands before it.
    #[error("record {} was replaced: record {seq} ({place}) does not carry on from it", seq.saturating_sub(1))]
    Replaced {
        /// The record behind it.
        seq: u64,
        /// Where that is.
        place: Place,
    },
    /// A segment's name promises another record.
    #[error("segment `{}` was renamed: it begins with record {seq}", segment.display())]
    Renamed {
        /// The segment.
        segment: PathBuf,
        /// Its first record.
        seq: u64,
    },
    /// The trail ends before the anchor.
    #[error("the end of the trail was removed: record {anchor} was known, the last one is {last}")]
    Shortened {
        /// The anchor's record.
        anchor: u64,
        /// The last record that is there.
        last: u64,
    },
    /// The record that the anchor names has another hash.
    #[error("the trail was rewritten: record {seq} does not have the hash that was known")]
    Rewritten {
        /// The anchor's record.
        seq: u64,
    },
}

/// Checks every record of the trail in `dir`: that its bytes are those its hash was made of, that it carries on
/// from the one before it, that none is missing from the first on. Names the first thing that is wrong. What the
/// chain can't show is that the end was cut off between two records; [`verify_anchored`] does.
pub fn verify(dir: &Path) -> Result<VerifyReport, VerifyFailure> {
    walk(dir, None)
}

/// Does as [`verify`], and checks that the record which `anchor` names is there and has that hash.
pub fn verify_anchored(dir: &Path, anchor: &Anchor) -> Result<VerifyReport, VerifyFailure> {
    walk(dir, Some(anchor))
}

fn io_failure(path: &Path) -> impl FnOnce(io::Error) -> VerifyFailure {
    let path = path.to_owned();
    move |source| VerifyFailure::Io { path, source }
}

fn walk(dir: &Path, anchor: Option<&Anchor>) -> Result<VerifyReport, VerifyFailure> {
    let segments = segments::list(dir).map_err(io_failure(dir))?;
    let mut report = VerifyReport {
        records: 0,
        segments: 0,
        first: None,
        last: None,
        last_hash: record::hex(&Head::START.prev),
        in_progress: false,
    };
    let mut head = Head::START;
    for (index, segment) in segments.iter().enumerate() {
        let later = segments.get(index + 1..).unwrap_or_default();
        match segment_records(segment, later, anchor, &mut head, &mut report) {
            // A segment that is begun may be withdrawn before anything in it counts.
            Err(VerifyFailure::Io { source, .. })
                if later.is_empty() && source.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    report.last_hash = record::hex(&head.prev);
    let last = head.next.saturating_sub(1);
    match anchor {
        Some(anchor) if anchor.seq > last => Err(VerifyFailure::Shortened {
            anchor: anchor.seq,
            last,
        }),
        _ => Ok(report),
    }
}

fn segment_records(
    segment: &SegmentPath,
    later: &[SegmentPath],
    anchor: Option<&Anchor>,
    head: &mut Head,
    report: &mut VerifyReport,
) -> Result<(), VerifyFailure> {
    let mut lines = Lines::open(&segment.path).map_err(io_failure(&segment.path))?;
    report.segments += 1;
    loop {
        let line = lines.next().map_err(io_failure(&segment.path))?;
        let seq = head.next;
        let place = || Place {
            segment: segment.path.clone(),
            line: lines.number(),
        };
        let edited = |why: &str| VerifyFailure::Edited {
            seq,
            place: place(),
            why: why.to_owned(),
        };
        match line {
            Line::End => return Ok(()),
            Line::Torn | Line::TooLong { ended: false } if later.is_empty() => {
                report.in_progress = true;
                return Ok(());
            }
            Line::Torn => return Err(edited("its line has no end, though a later segment follows")),
            Line::TooLong { .. } => return Err(edited("its line is longer than any record")),
            Line::Whole => {}
        }
        let parsed = match record::parse(lines.line()) {
            Ok(parsed) if parsed.sound => parsed,
            Ok(_) => return Err(edited("its hash does not match its bytes")),
            Err(why) => return Err(edited(&format!("it is no record: {why}"))),
        };
        let found = parsed.record.seq;
        if found > seq {
            let place = place();
            return Err(match find(seq, lines, segment, later) {
                Some(moved_to) => VerifyFailure::Reordered {
                    seq,
                    found,
                    place,
                    moved_to,
                },
                None => VerifyFailure::Removed {
                    first: seq,
                    last: found - 1,
                    place,
                },
            });
        }
        if found < seq {
            return Err(VerifyFailure::Repeated {
                seq,
                found,
                place: place(),
            });
        }
        if parsed.prev != head.prev {
            return Err(VerifyFailure::Replaced { seq, place: place() });
        }
        if lines.number() == 1 && segment.first != seq {
            return Err(VerifyFailure::Renamed {
                segment: segment.path.clone(),
                seq,
            });
        }
        if anchor.is_some_and(|a| a.seq == seq && record::parse_hex(&a.hash) != Some(parsed.hash)) {
            return Err(VerifyFailure::Rewritten { seq });
        }
        let point = Point {
            seq,
            at: parsed.record.at,
        };
        report.first.get_or_insert(point);
        report.last = Some(point);
        report.records += 1;
        *head = Head {
            next: seq.saturating_add(1),
            prev: parsed.hash,
        };
    }
}

/// Looks for record `seq` in what follows.
fn find(
    seq: u64,
    mut lines: Lines<io::BufReader<std::fs::File>>,
    segment: &SegmentPath,
    later: &[SegmentPath],
) -> Option<Place> {
    let mut segment = segment;
    let mut later = later.iter();
    loop {
        match lines.next().ok()? {
            Line::End => {
                segment = later.next()?;
                lines = Lines::open(&segment.path).ok()?;
            }
            Line::Whole if record::parse(lines.line()).is_ok_and(|p| p.sound && p.record.seq == seq) => {
                return Some(Place {
                    segment: segment.path.clone(),
                    line: lines.number(),
                });
            }
            _ => {}
        }
    }
}
