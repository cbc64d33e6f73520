//! What signatures show, and what is shown only against something from outside.

use std::time::Duration;

use super::*;
use crate::audit::log::{AuditLogParts, AuditOpenError, Retain};
use crate::audit::record::{self, Head};
use crate::audit::{AuditError, AuditPublicKey, Checkpoint, CheckpointReason, SigningKey};
use crate::sealing::Sealing;

/// A trail that is signed often.
pub(super) struct Signed {
    _root: tempfile::TempDir,
    pub(super) dir: PathBuf,
    pub(super) key: PathBuf,
    pub(super) options: AuditLogOptions,
}

impl Signed {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self {
            dir: root.path().join("audit"),
            key: root.path().join("audit.key"),
            _root: root,
            options: AuditLogOptions {
                segment_bytes: 4000,
                checkpoint_records: 4,
                checkpoint_interval: Duration::from_secs(3600),
                ..AuditLogOptions::default()
            },
        }
    }

    fn parts(&self) -> AuditLogParts {
        AuditLogParts {
            key: Some(self.key.clone()),
            ..AuditLogParts::default()
        }
    }

    fn open(&self) -> AuditLog {
        AuditLog::open_with(&self.dir, self.options, self.parts()).unwrap_or_else(|e| panic!("{e}"))
    }

    pub(super) fn write(&self, events: std::ops::Range<u64>) -> &Self {
        let log = self.open();
        for n in events {
            log.append(Timestamp::now(), &event(n), false).unwrap();
        }
        if self.options.retain != Retain::default() {
            // Looked at by the writer in its own time.
            std::thread::sleep(Duration::from_millis(150));
        }
        log.close().unwrap();
        self
    }

    pub(super) fn segments(&self) -> Vec<PathBuf> {
        segments::list(&self.dir)
            .unwrap()
            .into_iter()
            .map(|s| s.path)
            .collect()
    }

    pub(super) fn verify(&self) -> Result<VerifyReport, VerifyFailure> {
        verify(&self.dir)
    }

    pub(super) fn public(&self) -> AuditPublicKey {
        SigningKey::read(&self.key, &Sealing::default())
            .unwrap()
            .unwrap()
            .public()
    }

    fn lines(&self) -> Vec<String> {
        let mut out = Vec::new();
        export(&self.dir, &mut out).unwrap();
        String::from_utf8(out)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Writes all lines anew: each is changed by `change`, then chained, and signed by `key` where it was signed.
    fn forge(&self, key: &SigningKey, change: impl Fn(u64, &str) -> String) {
        let lines = self.lines();
        let mut head = Head::START;
        for segment in segments::list(&self.dir).unwrap() {
            let mut out = Vec::new();
            let count = std::fs::read_to_string(&segment.path).unwrap().lines().count();
            let from = usize::try_from(segment.first - 1).unwrap();
            for line in &lines[from..from + count] {
                let parsed = record::parse(line.as_bytes()).unwrap();
                let event = change(parsed.record.seq, parsed.record.event.get());
                match event.split_once(",\"signature\":") {
                    Some((open, _)) => {
                        record::write_signed(
                            &mut out,
                            &mut head,
                            parsed.record.at,
                            format!("{open}}}").as_bytes(),
                            key,
                        );
                    }
                    None => record::write(&mut out, &mut head, parsed.record.at, event.as_bytes()),
                }
            }
            std::fs::write(&segment.path, out).unwrap();
        }
    }
}

pub(super) fn event(n: u64) -> Event {
    Event::Operator {
        by: "op".into(),
        action: "did".into(),
        subject: format!("thing {n}"),
    }
}

fn other_key(dir: &Path) -> SigningKey {
    SigningKey::create(&dir.join("other.key"), &Sealing::default()).unwrap()
}

fn anchor(report: &VerifyReport) -> Anchor {
    Anchor {
        seq: report.last.unwrap().seq,
        hash: report.last_hash.clone(),
    }
}

#[test]
fn a_signed_trail_tells_its_key_and_ends_every_segment_and_every_run_with_a_signature() {
    let trail = Signed::new();
    trail.write(0..23).write(23..30);
    let report = trail.verify().unwrap();
    let signed = report.signed.clone().unwrap();
    assert_eq!(
        (signed.key, signed.keys.as_slice()),
        (trail.public(), &[trail.public()][..])
    );
    assert_eq!(
        (signed.first.seq, signed.last, signed.recoveries),
        (1, report.last.unwrap(), 0)
    );
    assert_eq!((report.unsigned_tail, report.closed), (0, true));
    assert!(report.segments > 3);
    for segment in trail.segments() {
        let text = std::fs::read_to_string(&segment).unwrap();
        assert!(
            text.lines().last().unwrap().contains("\"signature\":\""),
            "{}",
            segment.display()
        );
        assert!(text.len() <= 4000);
    }
    // Nothing was said: nothing is added.
    trail.write(0..0);
    assert_eq!(trail.verify().unwrap(), report);
    let known = Known {
        anchor: Some(anchor(&report)),
        key: Some(trail.public()),
    };
    let report = verify_known(&trail.dir, &known).unwrap();
    assert_eq!(report.signed.unwrap().trusted, Some(true));
    assert_eq!(report.anchor, Some(AnchorReport::Holds));
}

#[test]
fn a_checkpoint_has_exactly_the_documented_bytes() {
    let trail = Signed::new();
    trail.write(0..1);
    let lines = trail.lines();
    let line = lines.last().unwrap();
    let event = format!(
        "\"event\":{{\"type\":\"checkpoint\",\"reason\":\"stop\",\"segment\":1,\"records\":1,\"next_within\":4,\"key\":\"{}\",\"signature\":\"",
        trail.public()
    );
    assert!(line.contains(&event), "{line}");
    // As the documentation checks it by hand: what is signed is all but the last 219 bytes.
    let (covered, rest) = line.split_at(line.len() - 219);
    assert!(rest.starts_with(",\"signature\":\""));
    let digits = rest.get(14..142).unwrap();
    let signature: Vec<u8> = (0..64)
        .map(|i| u8::from_str_radix(digits.get(2 * i..2 * i + 2).unwrap(), 16).unwrap())
        .collect();
    assert!(trail.public().signed(covered.as_bytes(), &signature));
}

#[test]
fn every_flipped_byte_of_a_signed_trail_is_found() {
    let trail = Signed::new();
    trail.write(0..5);
    let path = &trail.segments()[0];
    let whole = std::fs::read(path).unwrap();
    // But for the last line's end: a record that is still being written looks like that.
    for place in 0..whole.len() - 1 {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        std::fs::write(path, &bytes).unwrap();
        assert!(trail.verify().is_err(), "{place}");
    }
}

#[test]
fn a_record_that_is_edited_and_chained_anew_breaks_the_next_signature() {
    let trail = Signed::new();
    trail.write(0..20);
    let foreign = other_key(&trail.dir);
    // By whoever can write the files and has not the key: signatures are carried over.
    let lines = trail.lines();
    let mut head = Head::START;
    let mut out = Vec::new();
    for line in &lines {
        let parsed = record::parse(line.as_bytes()).unwrap();
        let event = parsed.record.event.get().replace("thing 2\"", "thing 7\"");
        record::write(&mut out, &mut head, parsed.record.at, event.as_bytes());
    }
    for segment in trail.segments().iter().skip(1) {
        std::fs::remove_file(segment).unwrap();
    }
    std::fs::write(&trail.segments()[0], out).unwrap();
    let failure = trail.verify().unwrap_err();
    assert!(
        matches!(failure, VerifyFailure::Forged { seq: 6, .. }),
        "{failure}"
    );
    drop(foreign);
}

#[test]
fn what_is_signed_anew_with_another_key_is_foreign_or_not_the_key_that_is_known() {
    // Behind what the real key signed: foreign.
    let trail = Signed::new();
    trail.write(0..6);
    let first = trail.segments();
    let real = trail.public();
    let foreign = other_key(&trail.dir);
    trail.forge(&foreign, |seq, event| {
        let other = foreign.public().to_string();
        if seq > 6 {
            event.replace(&real.to_string(), &other)
        } else {
            event.to_owned()
        }
    });
    // Also the first ones lost their true signatures, which shows first.
    assert!(matches!(
        trail.verify(),
        Err(VerifyFailure::Forged { seq: 1, .. })
    ));
    assert_eq!(first, trail.segments());

    // Everything, consistently: only the key that is known outside shows it.
    let trail = Signed::new();
    trail.write(0..20);
    let real = trail.public();
    let foreign = other_key(&trail.dir);
    let before = trail.verify().unwrap();
    trail.forge(&foreign, |_, event| {
        event
            .replace(&real.to_string(), &foreign.public().to_string())
            .replace("thing 3\"", "thing 9\"")
    });
    let report = trail.verify().unwrap();
    assert_eq!(report.signed.unwrap().key, foreign.public());
    let known = Known {
        anchor: None,
        key: Some(real),
    };
    let failure = verify_known(&trail.dir, &known).unwrap_err();
    assert!(
        matches!(failure, VerifyFailure::OtherKey { key, .. } if key == real),
        "{failure}"
    );
    let failure = verify_anchored(&trail.dir, &anchor(&before)).unwrap_err();
    assert!(matches!(failure, VerifyFailure::Rewritten { .. }), "{failure}");
}

#[test]
fn to_name_the_known_key_as_the_next_one_proves_nothing() {
    let trail = Signed::new();
    trail.write(0..3);
    let real = trail.public();
    let foreign = other_key(&trail.dir);
    let mut head = Head::START;
    let mut out = Vec::new();
    for (key, previous) in [(foreign.public(), None), (real, Some(foreign.public()))] {
        let event = Event::SigningKey {
            key,
            previous,
            next_within: 1000,
        };
        record::write_signed(
            &mut out,
            &mut head,
            at(0),
            &serde_json::to_vec(&event).unwrap(),
            &foreign,
        );
    }
    std::fs::write(&trail.segments()[0], out).unwrap();
    let known = Known {
        anchor: None,
        key: Some(real),
    };
    assert!(matches!(
        verify_known(&trail.dir, &known),
        Err(VerifyFailure::OtherKey { .. })
    ));
}

#[test]
fn signatures_that_are_taken_out_or_stop_coming_are_missed() {
    let trail = Signed::new();
    trail.write(0..20);
    // All signed records taken out, and the rest chained anew: an unsigned trail, which a known key shows.
    let mut head = Head::START;
    let (mut out, mut tail) = (Vec::new(), Vec::new());
    for line in trail.lines() {
        let parsed = record::parse(line.as_bytes()).unwrap();
        if !line.contains("\"signature\"") {
            record::write(
                &mut out,
                &mut head,
                parsed.record.at,
                parsed.record.event.get().as_bytes(),
            );
        }
    }
    let known = Known {
        anchor: None,
        key: Some(trail.public()),
    };
    let lines = trail.lines();
    for segment in trail.segments().iter().skip(1) {
        std::fs::remove_file(segment).unwrap();
    }
    let segment = trail.segments()[0].clone();
    std::fs::write(&segment, out).unwrap();
    let report = trail.verify().unwrap();
    assert_eq!(
        (report.signed, report.closed, report.unsigned_tail),
        (None, false, 20)
    );
    assert!(verify_known(&trail.dir, &known).is_err());

    // The gateway does not take it for an old trail either, and signs nothing of it.
    let error = AuditLog::open_with(&trail.dir, trail.options, trail.parts()).unwrap_err();
    assert!(matches!(error, AuditOpenError::Unsigned { .. }), "{error}");

    // Cut behind a checkpoint and made up from there on: more than was promised is too much.
    let first = &lines[0];
    tail.extend_from_slice(first.as_bytes());
    tail.push(b'\n');
    let mut head = Head {
        next: 2,
        prev: record::parse(first.as_bytes()).unwrap().hash,
    };
    for n in 0..5 {
        record::write(&mut tail, &mut head, at(n), br#"{"type":"stopped"}"#);
    }
    std::fs::write(&segment, &tail).unwrap();
    let failure = trail.verify().unwrap_err();
    assert!(
        matches!(
            failure,
            VerifyFailure::MissingSignature {
                seq: 6,
                records: 5,
                within: 4,
                ..
            }
        ),
        "{failure}"
    );
}

#[test]
fn a_segment_that_is_taken_out_swapped_or_put_elsewhere_is_found() {
    let trail = Signed::new();
    trail.write(0..40);
    let segments = trail.segments();
    let parts: Vec<Vec<u8>> = segments.iter().map(|s| std::fs::read(s).unwrap()).collect();
    std::fs::remove_file(&segments[0]).unwrap();
    let failure = trail.verify().unwrap_err();
    assert!(
        matches!(failure, VerifyFailure::Removed { first: 1, .. }),
        "{failure}"
    );
    std::fs::write(&segments[0], &parts[1]).unwrap();
    std::fs::write(&segments[1], &parts[0]).unwrap();
    assert!(matches!(
        trail.verify(),
        Err(VerifyFailure::Reordered { seq: 1, .. })
    ));
    // Two segments made one.
    std::fs::write(&segments[0], [parts[0].as_slice(), parts[1].as_slice()].concat()).unwrap();
    std::fs::remove_file(&segments[1]).unwrap();
    let failure = trail.verify().unwrap_err();
    assert!(
        failure.to_string().contains("was written to the segment"),
        "{failure}"
    );
}

#[test]
fn the_end_that_is_cut_off_shows_against_an_anchor_and_an_unclean_end_is_told() {
    let trail = Signed::new();
    trail.write(0..6);
    let before = trail.verify().unwrap();
    edit(trail.segments().last().unwrap(), |lines| drop(lines.pop()));
    let report = trail.verify().unwrap();
    assert_eq!((report.closed, report.unsigned_tail), (false, 2));
    assert!(matches!(
        verify_anchored(&trail.dir, &anchor(&before)),
        Err(VerifyFailure::Shortened { .. })
    ));
    // The gateway goes on, and says that the end was not in order.
    trail.write(0..1);
    let report = trail.verify().unwrap();
    assert_eq!((report.closed, report.signed.unwrap().recoveries), (true, 1));
}

#[test]
fn a_key_that_was_replaced_on_disk_or_lost_is_noticed_at_the_start() {
    let trail = Signed::new();
    trail.write(0..3);
    let signed_by = trail.public();
    let aside = trail.key.with_extension("aside");
    std::fs::rename(&trail.key, &aside).unwrap();
    for made in [false, true] {
        if made {
            SigningKey::create(&trail.key, &Sealing::default()).unwrap();
        }
        let error = AuditLog::open_with(&trail.dir, trail.options, trail.parts()).unwrap_err();
        assert!(
            matches!(&error, AuditOpenError::ForeignKey { signed, .. } if *signed == signed_by),
            "{error}"
        );
        assert_eq!(
            trail.key.exists(),
            made,
            "no key is made for a trail that has one"
        );
    }
    std::fs::rename(&aside, &trail.key).unwrap();
    trail.write(3..4);
    assert!(trail.verify().is_ok());
}

#[test]
fn a_key_that_is_replaced_in_order_is_signed_for_by_the_one_before() {
    let trail = Signed::new();
    trail.write(0..3);
    let old = trail.public();
    let new = AuditLog::replace_key(&trail.dir, &trail.key, Arc::default()).unwrap();
    assert_eq!((trail.public(), old == new), (new, false));
    trail.write(3..9);
    let report = trail.verify().unwrap();
    assert_eq!(report.signed.unwrap().keys, [old, new]);
    for key in [old, new] {
        let known = Known {
            anchor: None,
            key: Some(key),
        };
        verify_known(&trail.dir, &known).unwrap();
    }
    // A replacement that was cut short: before its record, and behind it.
    let next = PathBuf::from(format!("{}.next", trail.key.display()));
    SigningKey::create(&next, &Sealing::default()).unwrap();
    trail.write(9..10);
    assert!(!next.exists() && trail.public() == new);
    let newest = AuditLog::replace_key(&trail.dir, &trail.key, Arc::default()).unwrap();
    std::fs::rename(&trail.key, &next).unwrap();
    trail.write(10..11);
    assert!(!next.exists() && trail.public() == newest);
    assert!(trail.verify().is_ok());
}

#[test]
fn an_old_trail_without_signatures_verifies_and_is_signed_from_the_next_start_on() {
    let trail = Signed::new();
    let log = AuditLog::open(&trail.dir, trail.options).unwrap();
    for n in 0..30 {
        log.append(Timestamp::now(), &event(n), false).unwrap();
    }
    drop(log);
    let report = trail.verify().unwrap();
    assert_eq!((report.records, report.signed, report.dropped), (30, None, None));
    trail.write(30..32);
    let report = trail.verify().unwrap();
    assert_eq!(report.signed.unwrap().first.seq, 31);
    // What was there before is held from there on.
    edit(&trail.segments()[0], |lines| {
        let covered = lines[1]
            .get(..lines[1].len() - 75)
            .unwrap()
            .replace("thing 1", "thing 9");
        lines[1] = format!("{covered}{}", lines[1].get(lines[1].len() - 75..).unwrap());
    });
    assert!(matches!(
        trail.verify(),
        Err(VerifyFailure::Edited { seq: 2, .. })
    ));
}

#[test]
fn nobody_but_the_log_makes_signed_records_and_a_smaller_promise_is_kept() {
    let mut trail = Signed::new();
    let log = trail.open();
    let forged = Event::Checkpoint(Checkpoint {
        reason: CheckpointReason::Stop,
        segment: 1,
        records: 0,
        next_within: 9,
        key: log.key().unwrap(),
    });
    assert!(matches!(
        log.append(Timestamp::now(), &forged, false),
        Err(AuditError::Encode(_))
    ));
    drop(log);
    trail.options.checkpoint_records = 100;
    trail.write(0..50);
    trail.options.checkpoint_records = 2;
    trail.write(50..60);
    assert!(trail.verify().unwrap().closed);
}

#[test]
fn time_brings_a_checkpoint_too() {
    let mut trail = Signed::new();
    trail.options.checkpoint_interval = Duration::from_millis(50);
    let log = trail.open();
    log.append(Timestamp::now(), &event(1), false).unwrap();
    std::thread::sleep(Duration::from_millis(400));
    let report = trail.verify().unwrap();
    assert_eq!(
        (report.records, report.unsigned_tail, report.closed),
        (3, 0, false)
    );
    log.append(Timestamp::now(), &event(2), false).unwrap();
    log.close().unwrap();
    assert!(
        trail
            .lines()
            .iter()
            .any(|line| line.contains("\"reason\":\"time\""))
    );
}

#[test]
fn a_segment_that_is_old_is_followed_by_a_new_one() {
    let trail = Signed::new();
    let log = trail.open();
    log.append(Timestamp::now(), &event(1), false).unwrap();
    log.append(Timestamp::now(), &event(2), false).unwrap();
    // The key's record began the segment just now; the events' clock is the one that counts.
    let later = Timestamp::now() + Duration::from_secs(25 * 3600);
    log.append(later, &event(3), false).unwrap();
    log.close().unwrap();
    assert_eq!(trail.segments().len(), 2);
    assert!(trail.verify().unwrap().closed);
}
