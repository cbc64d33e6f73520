//! Whether the signed records are signed by whom they must be, and as often as was promised.

use super::super::super::record::{self, Parsed};
use super::super::super::signed::{self, Signed};
use super::super::super::{AuditPublicKey, CheckpointReason, Dropped};
use super::{Known, Place, Point, SignedReport, VerifyFailure, VerifyReport};

/// The most keys that a report names.
const MAX_KEYS: usize = 1000;

/// What the signed records told so far.
#[derive(Default)]
pub(super) struct Signatures {
    key: Option<AuditPublicKey>,
    keys: Vec<AuditPublicKey>,
    first: Option<Point>,
    last: Option<Point>,
    records: u64,
    recoveries: u64,
    /// Records since the last signed one, or since the first that is there.
    unsigned: u64,
    /// What the last checkpoint promised.
    within: Option<u64>,
    closed: bool,
    dropped: Option<Dropped>,
}

impl Signatures {
    /// What retention told last.
    pub(super) fn last_dropped(&self) -> Option<&Dropped> {
        self.dropped.as_ref()
    }

    /// The next record, which is sound. Returns the last record that it says was dropped.
    pub(super) fn record(
        &mut self,
        parsed: &Parsed<'_>,
        line: &[u8],
        segment: u64,
        place: &dyn Fn() -> Place,
    ) -> Result<Option<u64>, VerifyFailure> {
        let seq = parsed.record.seq;
        let Some(read) = signed::read(parsed.record.event.get()) else {
            self.unsigned = self.unsigned.saturating_add(1);
            self.closed = false;
            return match self.within {
                Some(within) if self.unsigned > within => Err(VerifyFailure::MissingSignature {
                    seq,
                    place: place(),
                    records: self.unsigned,
                    within,
                }),
                _ => Ok(None),
            };
        };
        let forged = |why: String| VerifyFailure::Forged {
            seq,
            place: place(),
            why,
        };
        let own = read.map_err(|why| forged(format!("it is no signed record: {why}")))?;
        let signer = own.signer();
        let is_first_key = matches!(&own, Signed::Key { previous: None, .. });
        // The first key of all speaks for itself; behind retention it is the first one that is still told of.
        if self.key.is_some_and(|key| key != signer) || (is_first_key && self.key.is_some()) {
            return Err(VerifyFailure::Foreign {
                seq,
                place: place(),
                found: own.key(),
                expected: self.key,
            });
        }
        if !record::is_signed(line, &signer) {
            return Err(forged("its signature is not that of the key it names".to_owned()));
        }
        // Only who signs counts: to name a key proves nothing.
        self.note_key(signer);
        self.key = Some(own.key());
        let point = Point {
            seq,
            at: parsed.record.at,
        };
        let is_first = self.first.is_none();
        self.first.get_or_insert(point);
        self.last = Some(point);
        self.records += 1;
        self.closed = own.is_stop();
        let mut dropped_last = None;
        match own {
            Signed::Checkpoint(checkpoint) => {
                if checkpoint.segment != segment {
                    let why = format!(
                        "it was written to the segment that begins with record {}",
                        checkpoint.segment
                    );
                    return Err(forged(why));
                }
                // The first one that is there may count records that retention took away.
                if !is_first && checkpoint.records != self.unsigned {
                    let why = format!(
                        "it covers {} records, {} are there",
                        checkpoint.records, self.unsigned
                    );
                    return Err(forged(why));
                }
                self.recoveries += u64::from(checkpoint.reason == CheckpointReason::Recovery);
                self.within = Some(checkpoint.next_within);
            }
            Signed::Key { next_within, .. } => self.within = Some(next_within),
            Signed::Dropped(dropped) => {
                if dropped.last >= seq {
                    return Err(forged(format!(
                        "it says that record {} was dropped before",
                        dropped.last
                    )));
                }
                dropped_last = Some(dropped.last);
                self.dropped = Some(dropped);
            }
        }
        self.unsigned = 0;
        Ok(dropped_last)
    }

    fn note_key(&mut self, key: AuditPublicKey) {
        if self.keys.last() != Some(&key) && self.keys.len() < MAX_KEYS {
            self.keys.push(key);
        }
    }

    /// At the trail's end.
    pub(super) fn finish(self, report: &mut VerifyReport, known: &Known) -> Result<(), VerifyFailure> {
        let trusted = known.key.map(|key| self.keys.contains(&key));
        if let (Some(key), Some(false)) = (known.key, trusted) {
            return Err(VerifyFailure::OtherKey { key, keys: self.keys });
        }
        report.unsigned_tail = self.unsigned;
        report.closed = self.closed;
        if let (Some(key), Some(first), Some(last)) = (self.key, self.first, self.last) {
            report.signed = Some(SignedReport {
                key,
                keys: self.keys,
                records: self.records,
                first,
                last,
                recoveries: self.recoveries,
                trusted,
            });
        }
        Ok(())
    }
}
