//! What retention takes away, and that the rest still proves itself.

use std::time::Duration;

use super::signed::{Signed, event};
use super::*;
use crate::audit::log::{AuditLogParts, Exported, Retain};

#[test]
fn retention_drops_the_oldest_segments_says_so_and_the_rest_verifies() {
    let mut trail = Signed::new();
    trail.write(0..60);
    let before = trail.verify().unwrap();
    let early = Anchor {
        seq: 2,
        hash: "0".repeat(64),
    };
    trail.options.retain = Retain {
        age: None,
        bytes: Some(12_000),
    };
    trail.write(60..70);
    let report = trail.verify().unwrap();
    let dropped = report.dropped.clone().unwrap();
    assert_eq!((dropped.last + 1, dropped.left), (report.first.unwrap().seq, 0));
    assert!(
        report.segments < before.segments && report.segments >= 2,
        "{report:?}"
    );
    let known = Known {
        anchor: Some(early),
        key: Some(trail.public()),
    };
    assert_eq!(
        verify_known(&trail.dir, &known).unwrap().anchor,
        Some(AnchorReport::Dropped)
    );
    // It goes on, and what it said of the first ones is dropped, too.
    for turn in 0..8 {
        trail.write(0..20);
        let report = trail.verify().unwrap_or_else(|e| panic!("{turn}: {e}"));
        assert!(report.dropped.unwrap().last > dropped.last);
    }
    // A segment more than was said.
    std::fs::remove_file(&trail.segments()[0]).unwrap();
    assert!(matches!(
        trail.verify(),
        Err(VerifyFailure::Removed { first: 1, .. })
    ));
}

#[test]
fn a_removal_that_was_cut_short_is_no_tampering_but_what_is_left_must_fit() {
    let mut trail = Signed::new();
    trail.write(0..60);
    let kept: Vec<(PathBuf, Vec<u8>)> = trail
        .segments()
        .into_iter()
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    let torn = PathBuf::from(format!("{}.torn-1", kept[0].0.display()));
    std::fs::write(&torn, "half").unwrap();
    trail.options.retain.bytes = Some(9_000);
    trail.write(60..61);
    let dropped = trail.verify().unwrap().dropped.unwrap();
    assert!(kept.iter().filter(|(path, _)| !path.exists()).count() >= 2);
    assert!(!torn.exists(), "what was torn off goes with its segment");
    // All but the first one are still there, as after a crash.
    let mut last_back = None;
    for (path, bytes) in kept.iter().skip(1).filter(|(path, _)| !path.exists()) {
        std::fs::write(path, bytes).unwrap();
        last_back = Some(path);
    }
    let report = trail.verify().unwrap();
    assert!(report.dropped.unwrap().left > 0);
    edit(last_back.unwrap(), |lines| {
        let line = lines[0].replace("thing", "think");
        lines[0] = line;
    });
    assert!(trail.verify().is_err());
    assert_eq!(dropped.left, 0);
}

#[test]
fn age_drops_what_is_old_and_nothing_that_was_not_exported() {
    let mut trail = Signed::new();
    trail.write(0..60);
    trail.options.retain.age = Some(Duration::from_millis(1));
    std::thread::sleep(Duration::from_millis(20));
    let exported = Arc::new(Exported::new(2));
    let parts = AuditLogParts {
        key: Some(trail.key.clone()),
        exported: Some(Arc::clone(&exported)),
        ..AuditLogParts::default()
    };
    let with = |taken: [u64; 2]| {
        exported.taken(0, taken[0]);
        exported.taken(1, taken[1]);
        let log = AuditLog::open_with(&trail.dir, trail.options, parts.clone()).unwrap();
        log.append(Timestamp::now(), &event(1), false).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        log.close().unwrap();
        trail.verify().unwrap().first.unwrap().seq
    };
    assert_eq!(with([1_000, 0]), 1);
    let after = with([1_000, 30]);
    assert!(after > 1 && after <= 31, "{after}");
    assert!(with([1_000, 1_000]) > 31);
}
