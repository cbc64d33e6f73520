//! A signed log on a disk that fails.

use super::*;
use crate::audit::read::{AnchorReport, Known, verify_known};

fn signed(root: &Path, options: AuditLogOptions) -> (AuditLog, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    faults.space.store(u64::MAX, Ordering::SeqCst);
    let parts = AuditLogParts {
        key: Some(root.join("audit.key")),
        ..AuditLogParts::default()
    };
    let disk = Box::new(FaultyDisk(Arc::clone(&faults)));
    let log = AuditLog::open_on(&root.join("audit"), options, parts, false, disk).unwrap();
    (log, faults)
}

fn often() -> AuditLogOptions {
    AuditLogOptions {
        checkpoint_records: 3,
        ..AuditLogOptions::default()
    }
}

/// The subjects of all events that callers appended.
fn subjects(dir: &Path) -> Vec<String> {
    let mut out = Vec::new();
    crate::audit::read::export(dir, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    text.lines()
        .filter_map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            value["event"]["subject"].as_str().map(str::to_owned)
        })
        .collect()
}

#[test]
fn after_a_failed_sync_records_are_signed_anew_for_the_segment_in_which_they_stand() {
    for synced_before in [0u64, 1, 2, 5] {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("audit");
        let (log, faults) = signed(root.path(), often());
        (0..synced_before).for_each(|n| durable(&log, n).unwrap());
        faults.sync.store(true, Ordering::SeqCst);
        let taken = (10..20)
            .map(|n| log.append(at(), &event(n), false))
            .filter(Result::is_ok)
            .count();
        std::thread::sleep(Duration::from_millis(400));
        assert!(log.check().is_err());
        faults.sync.store(false, Ordering::SeqCst);
        until_it_works(&log, 99);
        log.close().unwrap();
        assert!(taken > 0);
        let report = report(&dir);
        assert_eq!(
            (report.closed, report.unsigned_tail),
            (true, 0),
            "{synced_before}"
        );
        let seen = subjects(&dir);
        assert_eq!(seen.len(), taken + 1 + usize::try_from(synced_before).unwrap());
        assert_eq!(seen.last().unwrap(), "event 99");
    }
}

#[test]
fn a_full_disk_leaves_a_signed_trail_whole_and_the_check_sees_it_and_its_end() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("audit");
    let (log, faults) = signed(root.path(), often());
    durable(&log, 1).unwrap();
    log.check().unwrap();
    let known = report(&dir);
    for space in [0, 100, 400, 700] {
        faults.space.store(space, Ordering::SeqCst);
        while durable(&log, 2).is_ok() {}
        assert!(matches!(log.check(), Err(AuditError::Write(why)) if why.contains("space")));
        assert!(!report(&dir).in_progress);
        faults.space.store(u64::MAX, Ordering::SeqCst);
        let start = Instant::now();
        // Nobody appends: to be asked is enough.
        while log.check().is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "never recovers");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let before = log.durable();
    (0..10).for_each(|_| log.check().unwrap());
    assert_eq!(log.durable(), before, "to be asked leaves nothing in the trail");
    log.close().unwrap();
    let known = Known {
        anchor: Some(crate::audit::read::Anchor {
            seq: known.last.unwrap().seq,
            hash: known.last_hash,
        }),
        key: log.key(),
    };
    let report = verify_known(&dir, &known).unwrap();
    assert_eq!((report.closed, report.anchor), (true, Some(AnchorReport::Holds)));
}

#[test]
fn a_checkpoint_that_could_not_be_written_at_the_stop_shows_as_an_open_end() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("audit");
    let (log, faults) = signed(root.path(), AuditLogOptions::default());
    durable(&log, 1).unwrap();
    faults.space.store(0, Ordering::SeqCst);
    assert!(matches!(log.close(), Err(AuditError::Write(_))));
    assert!(!report(&dir).closed);
    drop(log);
    let (log, _faults) = signed(root.path(), AuditLogOptions::default());
    log.close().unwrap();
    let report = report(&dir);
    assert_eq!((report.closed, report.signed.unwrap().recoveries), (true, 1));
}
