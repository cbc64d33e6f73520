//! The proof that a trail is whole.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use super::super::AuditPublicKey;

mod signatures;
mod walk;

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
    /// How the trail is signed; `None`: not at all, as those of versions without signatures.
    pub signed: Option<SignedReport>,
    /// Records without a signed one behind them: only the chain, or an anchor, speaks for them.
    pub unsigned_tail: u64,
    /// The last record closed the trail in order. `false`: a gateway writes it, or did not end in order.
    pub closed: bool,
    /// What retention took away, by the last record that tells of it.
    pub dropped: Option<DroppedReport>,
    /// What became of the anchor; `None` where none was given.
    pub anchor: Option<AnchorReport>,
}

/// How a trail is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignedReport {
    /// The key of the last signed record.
    pub key: AuditPublicKey,
    /// The keys that signed, in order, as far as they are still told of.
    pub keys: Vec<AuditPublicKey>,
    /// Signed records.
    pub records: u64,
    /// The first one; those before it are held by the chain alone, up to it.
    pub first: Point,
    /// The last one: all before it is proven by its key.
    pub last: Point,
    /// How often the trail was opened after an end that was not in order.
    pub recoveries: u64,
    /// The key that was asked for is among them; `None` where none was. Without, somebody who rewrites all of it with a
    /// key of their own is not noticed.
    pub trusted: Option<bool>,
}

/// What retention took away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DroppedReport {
    /// Number of the record that tells of it.
    pub told_by: u64,
    /// All records up to this one were dropped.
    pub last: u64,
    /// How many of them are still there: their removal was cut short, or is under way.
    pub left: u64,
}

/// What became of an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AnchorReport {
    /// The record is there and has that hash.
    Holds,
    /// The record was dropped by retention, which a signed record tells.
    Dropped,
}

/// What is known of a trail from outside of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// A record.
    pub anchor: Option<Anchor>,
    /// A key that signs or has signed it.
    pub key: Option<AuditPublicKey>,
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
    /// A signed record whose signature does not fit, or that tells what is not so.
    #[error("record {seq} was forged ({place}): {why}")]
    Forged {
        /// Its number.
        seq: u64,
        /// Where it is.
        place: Place,
        /// How it shows.
        why: String,
    },
    /// A signed record of a key for which the one before did not sign.
    #[error("record {seq} is signed by a foreign key ({place}): {found}; {}", match expected {
        Some(expected) => format!("the key in force is {expected}"),
        None => "nothing is signed before it".to_owned(),
    })]
    Foreign {
        /// Its number.
        seq: u64,
        /// Where it is.
        place: Place,
        /// The key that it names.
        found: AuditPublicKey,
        /// The one in force.
        expected: Option<AuditPublicKey>,
    },
    /// Signatures end although more were promised.
    #[error(
        "signatures are missing: record {seq} ({place}) is number {records} after the last signed one, which promised the next after {within} at most"
    )]
    MissingSignature {
        /// The first record that has one too few before it.
        seq: u64,
        /// Where it is.
        place: Place,
        /// Records since the last signed one.
        records: u64,
        /// What that promised.
        within: u64,
    },
    /// The key that was asked for signed nothing.
    #[error("the trail is not signed by the key {key}: {}", if keys.is_empty() {
        "it has no signature at all".to_owned()
    } else {
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        format!("it is signed by {}", keys.join(", "))
    })]
    OtherKey {
        /// The key that was asked for.
        key: AuditPublicKey,
        /// Those that signed.
        keys: Vec<AuditPublicKey>,
    },
    /// The record that the anchor names has another hash.
    #[error("the trail was rewritten: record {seq} does not have the hash that was known")]
    Rewritten {
        /// The anchor's record.
        seq: u64,
    },
}

/// How often a trail is looked at again from the start because retention removed a segment meanwhile.
const AGAIN: u32 = 5;

/// Checks every record of the trail in `dir`: that its bytes are those its hash was made of, that it carries on
/// from the one before it, that none is missing from the first on, or from the first that retention kept, and that all
/// signatures fit and come as was promised. Names the first thing that is wrong. What this can't show is that the end was
/// cut off between two records, or that everything was made anew with another key; [`verify_known`] does.
pub fn verify(dir: &Path) -> Result<VerifyReport, VerifyFailure> {
    verify_known(dir, &Known::default())
}

/// Does as [`verify`], and checks that the record which `anchor` names is there and has that hash.
pub fn verify_anchored(dir: &Path, anchor: &Anchor) -> Result<VerifyReport, VerifyFailure> {
    let anchor = Some(anchor.clone());
    verify_known(dir, &Known { anchor, key: None })
}

/// Does as [`verify`], and holds the trail against what is known of it from outside.
pub fn verify_known(dir: &Path, known: &Known) -> Result<VerifyReport, VerifyFailure> {
    let mut turn = 0;
    loop {
        match walk::walk(dir, known) {
            Err(VerifyFailure::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound && turn < AGAIN && dir.is_dir() =>
            {
                turn += 1;
            }
            other => return other,
        }
    }
}

fn io_failure(path: &Path) -> impl FnOnce(io::Error) -> VerifyFailure {
    let path = path.to_owned();
    move |source| VerifyFailure::Io { path, source }
}
