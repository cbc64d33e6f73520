//! From the first record to the last.

use std::io;
use std::path::Path;

use super::super::super::record::{self, Head, Parsed};
use super::super::super::segments::{self, Line, Lines, SegmentPath};
use super::super::super::{Event, signed};
use super::signatures::Signatures;
use super::{
    Anchor, AnchorReport, DroppedReport, Known, Place, Point, VerifyFailure, VerifyReport, io_failure,
};

/// What was seen so far.
struct Walk<'a> {
    anchor: Option<&'a Anchor>,
    head: Head,
    /// The first record that is there, the hash that it names as the one before, and where it is: vouched for by what
    /// retention signed, where it is not number 1.
    start: Option<(Head, Place)>,
    signatures: Signatures,
    report: VerifyReport,
    /// The hash of the last record that retention names, where that is still there.
    dropped_hash: Option<String>,
}

pub(super) fn walk(dir: &Path, known: &Known) -> Result<VerifyReport, VerifyFailure> {
    let segments = segments::list(dir).map_err(io_failure(dir))?;
    let mut walk = Walk {
        anchor: known.anchor.as_ref(),
        head: Head::START,
        start: None,
        signatures: Signatures::default(),
        report: VerifyReport {
            records: 0,
            segments: 0,
            first: None,
            last: None,
            last_hash: record::hex(&Head::START.prev),
            in_progress: false,
            signed: None,
            unsigned_tail: 0,
            closed: false,
            dropped: None,
            anchor: None,
        },
        dropped_hash: None,
    };
    let dropped_last = if segments.first().is_some_and(|segment| segment.first > 1) {
        last_dropped(&segments)
    } else {
        None
    };
    for (index, segment) in segments.iter().enumerate() {
        let later = segments.get(index + 1..).unwrap_or_default();
        match walk.segment(segment, later, dropped_last) {
            // A segment that is begun may be withdrawn before anything in it counts.
            Err(VerifyFailure::Io { source, .. })
                if later.is_empty() && index > 0 && source.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    walk.finish(known)
}

/// The last record that retention says it dropped, wherever in the trail it says so.
fn last_dropped(segments: &[SegmentPath]) -> Option<u64> {
    // It stands at the beginning of a segment or behind one that was begun: looked for from the end.
    for segment in segments.iter().rev() {
        let mut lines = Lines::open(&segment.path).ok()?;
        let mut found = None;
        while let Ok(line) = lines.next() {
            match line {
                Line::End => break,
                Line::Whole
                    if memchr::memmem::find(lines.line(), br#""event":{"type":"dropped","#).is_some() =>
                {
                    let dropped = record::parse(lines.line()).ok().and_then(|parsed| {
                        match signed::read(parsed.record.event.get()) {
                            Some(Ok(signed::Signed::Dropped(dropped)))
                                if parsed.sound && record::is_signed(lines.line(), &dropped.key) =>
                            {
                                Some(dropped.last)
                            }
                            _ => None,
                        }
                    });
                    found = dropped.or(found);
                }
                _ => {}
            }
        }
        if found.is_some() {
            return found;
        }
    }
    None
}

impl Walk<'_> {
    fn segment(
        &mut self,
        segment: &SegmentPath,
        later: &[SegmentPath],
        dropped_last: Option<u64>,
    ) -> Result<(), VerifyFailure> {
        let mut lines = Lines::open(&segment.path).map_err(io_failure(&segment.path))?;
        self.report.segments += 1;
        loop {
            let line = lines.next().map_err(io_failure(&segment.path))?;
            let seq = self.head.next;
            let place = || Place {
                segment: segment.path.clone(),
                line: lines.number(),
            };
            let edited = |why: &str| VerifyFailure::Edited {
                seq,
                place: place(),
                why: format!("{why}{}", told(lines.line())),
            };
            match line {
                Line::End => return Ok(()),
                Line::Torn | Line::TooLong { ended: false } if later.is_empty() => {
                    self.report.in_progress = true;
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
            // Retention took away what was before; whether it did is checked once its record is reached.
            if self.start.is_none() && found > seq && dropped_last.is_some_and(|last| last >= found - 1) {
                self.head = Head {
                    next: found,
                    prev: parsed.prev,
                };
            }
            let seq = self.head.next;
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
            if parsed.prev != self.head.prev {
                return Err(VerifyFailure::Replaced { seq, place: place() });
            }
            if lines.number() == 1 && segment.first != seq {
                return Err(VerifyFailure::Renamed {
                    segment: segment.path.clone(),
                    seq,
                });
            }
            if self
                .anchor
                .is_some_and(|a| a.seq == seq && record::parse_hex(&a.hash) != Some(parsed.hash))
            {
                return Err(VerifyFailure::Rewritten { seq });
            }
            if self.start.is_none() {
                self.start = Some((self.head, place()));
            }
            if dropped_last == Some(seq) {
                self.dropped_hash = Some(record::hex(&parsed.hash));
            }
            let dropped = self
                .signatures
                .record(&parsed, lines.line(), segment.first, &place)?;
            if let Some(dropped) = dropped {
                self.report.dropped = Some(DroppedReport {
                    told_by: seq,
                    last: dropped,
                    left: 0,
                });
            }
            self.count(&parsed, seq);
        }
    }

    fn count(&mut self, parsed: &Parsed<'_>, seq: u64) {
        let point = Point {
            seq,
            at: parsed.record.at,
        };
        self.report.first.get_or_insert(point);
        self.report.last = Some(point);
        self.report.records += 1;
        self.head = Head {
            next: seq.saturating_add(1),
            prev: parsed.hash,
        };
    }

    fn finish(mut self, known: &Known) -> Result<VerifyReport, VerifyFailure> {
        self.report.last_hash = record::hex(&self.head.prev);
        let last = self.head.next.saturating_sub(1);
        if let Some((start, place)) = self.start.filter(|(start, _)| start.next > 1) {
            // The records before the first one are gone: a signed record must say so, with the hash that the first one
            // that is kept carries on from.
            let vouched = self.signatures.last_dropped().is_some_and(|dropped| {
                if dropped.last.saturating_add(1) == start.next {
                    dropped.last_hash == record::hex(&start.prev)
                } else {
                    dropped.last >= start.next && self.dropped_hash.as_ref() == Some(&dropped.last_hash)
                }
            });
            if !vouched {
                return Err(VerifyFailure::Removed {
                    first: 1,
                    last: start.next - 1,
                    place,
                });
            }
            if let Some(dropped) = &mut self.report.dropped {
                dropped.left = dropped.last.saturating_add(1).saturating_sub(start.next);
            }
        } else if let Some(dropped) = &mut self.report.dropped {
            dropped.left = dropped.last;
        }
        self.report.anchor = match &known.anchor {
            Some(anchor) if anchor.seq > last => {
                return Err(VerifyFailure::Shortened {
                    anchor: anchor.seq,
                    last,
                });
            }
            Some(anchor) if self.report.first.is_none_or(|first| anchor.seq < first.seq) => {
                Some(AnchorReport::Dropped)
            }
            Some(_) => Some(AnchorReport::Holds),
            None => None,
        };
        self.signatures.finish(&mut self.report, known)?;
        Ok(self.report)
    }
}

/// What a line that was touched still tells of what it was, for whoever looks for it elsewhere.
fn told(line: &[u8]) -> String {
    let event = record::parse_unproven(line)
        .ok()
        .and_then(|record| serde_json::from_str::<Event>(record.event.get()).ok());
    match event {
        Some(Event::Operation { session, ticket, .. }) => {
            format!("; it tells of operation {session}-{ticket}")
        }
        Some(Event::Outcome { session, ticket, .. }) => {
            format!("; it tells of the end of operation {session}-{ticket}")
        }
        Some(Event::SessionStarted { session, .. } | Event::SessionEnded { session, .. }) => {
            format!("; it tells of session {session}")
        }
        _ => String::new(),
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
