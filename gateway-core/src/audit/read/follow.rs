//! Reading the trail record by record from a place on, while it grows.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::super::record;
use super::super::segments::{self, Line, Lines};

/// A record as it stands in the trail.
#[derive(Debug, Clone, Copy)]
pub struct TrailRecord<'a> {
    /// Its number.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// Its event, as JSON.
    pub event: &'a str,
    /// Hash of the record before it, in hex.
    pub prev: &'a str,
    /// Its hash, in hex.
    pub hash: &'a str,
    /// The whole line, without its end.
    pub line: &'a [u8],
}

/// Why a trail can't be followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// It can't be read.
    #[error("the audit trail at `{}` cannot be read: {source}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A record is not there, or not what it was.
    #[error("record {seq} of the audit trail is broken (`{}`): run `gateway audit verify`", segment.display())]
    Broken {
        /// Its number.
        seq: u64,
        /// The segment.
        segment: PathBuf,
    },
    /// Whoever takes the records failed.
    #[error("{0}")]
    Taker(io::Error),
}

/// A place in a trail from which it is read on. Keeps no file open; a record is checked against its hash before it is
/// given out.
#[derive(Debug)]
pub struct Follow {
    dir: PathBuf,
    /// Number of the next record.
    next: u64,
    /// The segment in which it is looked for, and where in it.
    place: Option<(PathBuf, u64)>,
    /// Records before the first one that retention has kept.
    skipped: u64,
}

impl Follow {
    /// Behind record `seq`; 0: from the first one on.
    pub fn after(dir: &Path, seq: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            next: seq.saturating_add(1),
            place: None,
            skipped: 0,
        }
    }

    /// Number of the record that was given out last.
    pub fn last(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// How many records were asked for that retention had dropped.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Gives out what follows up to record `upto`, as long as `take` answers that it wants more; returns how many. Stops
    /// before a record that is still being written.
    pub fn read(
        &mut self,
        upto: u64,
        take: &mut dyn FnMut(TrailRecord<'_>) -> io::Result<bool>,
    ) -> Result<u64, FollowError> {
        let mut given = 0u64;
        while self.next <= upto {
            let Some((path, offset)) = self.locate()? else {
                break;
            };
            if !self.segment(&path, offset, upto, &mut given, take)? {
                break;
            }
            // The segment is at its end: the next one goes on, if there is one.
            let following = self.dir.join(segments::name(self.next));
            if following == path || !following.exists() {
                break;
            }
            self.place = Some((following, 0));
        }
        Ok(given)
    }

    /// Where the next record is, or will be.
    fn locate(&mut self) -> Result<Option<(PathBuf, u64)>, FollowError> {
        if let Some(place) = &self.place
            && place.0.exists()
        {
            return Ok(self.place.clone());
        }
        let segments = segments::list(&self.dir).map_err(io_error(&self.dir))?;
        let Some(first) = segments.first() else {
            return Ok(None);
        };
        if first.first > self.next {
            self.skipped = self.skipped.saturating_add(first.first - self.next);
            self.next = first.first;
        }
        let segment = segments.iter().rev().find(|segment| segment.first <= self.next);
        self.place = segment.map(|segment| (segment.path.clone(), 0));
        Ok(self.place.clone())
    }

    /// Reads on in one segment; whether its end was reached.
    fn segment(
        &mut self,
        path: &Path,
        offset: u64,
        upto: u64,
        given: &mut u64,
        take: &mut dyn FnMut(TrailRecord<'_>) -> io::Result<bool>,
    ) -> Result<bool, FollowError> {
        let mut lines = match Lines::open_at(path, offset) {
            Ok(lines) => lines,
            // Dropped meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.place = None;
                return Ok(true);
            }
            Err(error) => return Err(io_error(path)(error)),
        };
        loop {
            let line = lines.next().map_err(io_error(path))?;
            self.place = Some((path.to_owned(), lines.start()));
            match line {
                Line::End => return Ok(true),
                // Being written, or torn by a crash: a later segment tells.
                Line::Torn | Line::TooLong { ended: false } => return Ok(true),
                Line::TooLong { ended: true } | Line::Whole => {}
            }
            let parsed = match record::parse(lines.line()) {
                Ok(parsed) if parsed.sound && parsed.record.seq <= self.next => parsed,
                _ => {
                    return Err(FollowError::Broken {
                        seq: self.next,
                        segment: path.to_owned(),
                    });
                }
            };
            let record = parsed.record;
            if record.seq == self.next {
                if record.seq > upto {
                    return Ok(false);
                }
                let more = take(TrailRecord {
                    seq: record.seq,
                    at: record.at,
                    event: record.event.get(),
                    prev: record.prev,
                    hash: record.hash,
                    line: lines.line(),
                })
                .map_err(FollowError::Taker)?;
                self.next = self.next.saturating_add(1);
                *given = given.saturating_add(1);
                self.place = Some((path.to_owned(), lines.end()));
                if !more {
                    return Ok(false);
                }
            }
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> FollowError {
    let path = path.to_owned();
    move |source| FollowError::Io { path, source }
}
