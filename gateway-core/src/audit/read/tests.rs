//! Tampering is found and named; searching joins operations with their outcomes.

mod following;
mod retaining;
mod signed;
mod tampering;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::*;
use crate::audit::log::{AuditLog, AuditLogOptions};
use crate::audit::{AuditSink, Event};
use crate::principal::{Principal, PrincipalKind};
use crate::session::SessionId;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn write(dir: &Path, events: &[Event], segment_bytes: u64) {
    let log = AuditLog::open(
        dir,
        AuditLogOptions {
            segment_bytes,
            ..AuditLogOptions::default()
        },
    )
    .unwrap();
    for (second, event) in (0..).zip(events) {
        log.append(at(second), event, false).unwrap();
    }
    log.close().unwrap();
}

/// A trail of 12 records in three or more segments.
fn trail() -> (tempfile::TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    let events: Vec<Event> = (1..=12)
        .map(|n| Event::Operator {
            by: "op".into(),
            action: "did".into(),
            subject: format!("thing {n}"),
        })
        .collect();
    write(dir.path(), &events, 1150);
    let segments: Vec<PathBuf> = segments::list(dir.path())
        .unwrap()
        .into_iter()
        .map(|s| s.path)
        .collect();
    assert_eq!(segments.len(), 3);
    (dir, segments)
}

fn edit(path: &Path, change: impl Fn(&mut Vec<String>)) {
    let mut lines: Vec<String> = std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    change(&mut lines);
    std::fs::write(path, lines.iter().map(|l| format!("{l}\n")).collect::<String>()).unwrap();
}

#[test]
fn a_whole_trail_is_reported_and_an_empty_one_too() {
    let (dir, segments) = trail();
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.records, report.segments), (12, 3));
    assert_eq!(report.first, Some(Point { seq: 1, at: at(0) }));
    assert_eq!(report.last, Some(Point { seq: 12, at: at(11) }));
    let last = std::fs::read_to_string(&segments[2]).unwrap();
    assert!(last.ends_with(&format!("\"hash\":\"{}\"}}\n", report.last_hash)));

    let empty = tempfile::tempdir().unwrap();
    let report = verify(empty.path()).unwrap();
    assert_eq!(
        (report.records, report.first, report.last_hash),
        (0, None, "0".repeat(64))
    );
    assert!(matches!(
        verify(&empty.path().join("none")),
        Err(VerifyFailure::Io { .. })
    ));
}

#[test]
fn an_edited_byte_in_any_field_is_found_and_named() {
    for (from, to) in [
        ("{\"seq\":6,", "{\"seq\":7,"),
        ("\"at\":\"2", "\"at\":\"3"),
        ("\"prev\":\"", "\"prev\":\"0"),
        ("\"event\":", "\"event\": "),
        ("thing 6", "thing 9"),
        ("\"hash\":\"", "\"hash\":\"0"),
        ("\"by\"", "\"bz\""),
    ] {
        let (dir, segments) = trail();
        edit(&segments[1], |lines| lines[1] = lines[1].replace(from, to));
        let failure = verify(dir.path()).unwrap_err();
        assert!(
            failure.to_string().starts_with("record 6 was changed"),
            "{from}: {failure}"
        );
        assert!(matches!(failure, VerifyFailure::Edited { seq: 6, place, .. } if place.line == 2));
    }
}

#[test]
fn every_flipped_byte_is_found() {
    let (dir, segments) = trail();
    let whole = std::fs::read(&segments[1]).unwrap();
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        std::fs::write(&segments[1], &bytes).unwrap();
        assert!(verify(dir.path()).is_err(), "{place}");
    }
}

#[test]
fn removed_lines_and_segments_are_found_and_named() {
    type Change = fn(&[PathBuf]);
    let cases: [(Change, u64, u64); 5] = [
        (|s| edit(&s[0], |l| drop(l.remove(0))), 1, 1),
        (|s| edit(&s[1], |l| drop(l.remove(1))), 6, 6),
        (|s| edit(&s[1], |l| drop(l.drain(1..3))), 6, 7),
        (|s| std::fs::remove_file(&s[1]).unwrap(), 5, 8),
        (|s| std::fs::remove_file(&s[0]).unwrap(), 1, 4),
    ];
    for (change, from, to) in cases {
        let (dir, segments) = trail();
        change(&segments);
        let failure = verify(dir.path()).unwrap_err();
        assert!(
            failure
                .to_string()
                .contains(&format!("records {from} to {to} were removed")),
            "{failure}"
        );
        assert!(matches!(failure, VerifyFailure::Removed { first, last, .. } if (first, last) == (from, to)));
    }
}

#[test]
fn a_segment_cut_in_the_middle_is_found() {
    let (dir, segments) = trail();
    let whole = std::fs::read(&segments[1]).unwrap();
    for end in [whole.len() - 1, whole.len() - 30, whole.len() / 2 + 13] {
        std::fs::write(&segments[1], &whole[..end]).unwrap();
        let failure = verify(dir.path()).unwrap_err();
        assert!(matches!(failure, VerifyFailure::Edited { .. }), "{failure}");
    }
    std::fs::write(&segments[1], "").unwrap();
    assert!(matches!(
        verify(dir.path()),
        Err(VerifyFailure::Removed {
            first: 5,
            last: 8,
            ..
        })
    ));
}

#[test]
fn swapped_repeated_and_renamed_parts_are_found_and_named() {
    let (dir, segments) = trail();
    edit(&segments[1], |lines| lines.swap(1, 2));
    let failure = verify(dir.path()).unwrap_err();
    assert!(
        matches!(&failure, VerifyFailure::Reordered { seq: 6, found: 7, .. }),
        "{failure}"
    );
    edit(&segments[1], |lines| lines.swap(1, 2));
    assert!(verify(dir.path()).is_ok());

    edit(&segments[1], |lines| lines.insert(2, lines[0].clone()));
    assert!(matches!(
        verify(dir.path()),
        Err(VerifyFailure::Repeated { seq: 7, found: 5, .. })
    ));
    edit(&segments[1], |lines| drop(lines.remove(2)));

    let parts = [
        std::fs::read(&segments[0]).unwrap(),
        std::fs::read(&segments[1]).unwrap(),
    ];
    std::fs::write(&segments[0], &parts[1]).unwrap();
    std::fs::write(&segments[1], &parts[0]).unwrap();
    assert!(matches!(
        verify(dir.path()),
        Err(VerifyFailure::Reordered { seq: 1, found: 5, .. })
    ));
    std::fs::write(&segments[0], &parts[0]).unwrap();
    std::fs::write(&segments[1], &parts[1]).unwrap();

    std::fs::rename(&segments[2], dir.path().join(segments::name(10))).unwrap();
    assert!(matches!(
        verify(dir.path()),
        Err(VerifyFailure::Renamed { seq: 9, .. })
    ));
}

#[test]
fn a_record_made_anew_with_a_right_hash_breaks_the_chain_behind_it() {
    let (dir, segments) = trail();
    edit(&segments[1], |lines| {
        let covered = lines[1]
            .get(..lines[1].len() - 75)
            .unwrap()
            .replace("thing 6", "thing 9");
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, covered.as_bytes());
        let hex: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        lines[1] = format!("{covered},\"hash\":\"{hex}\"}}");
    });
    let failure = verify(dir.path()).unwrap_err();
    assert!(
        failure.to_string().starts_with("record 6 was replaced"),
        "{failure}"
    );
}

#[test]
fn an_anchor_shows_a_shortened_or_rewritten_trail() {
    let (dir, segments) = trail();
    let report = verify(dir.path()).unwrap();
    let anchor = Anchor {
        seq: report.last.unwrap().seq,
        hash: report.last_hash.clone(),
    };
    let held = VerifyReport {
        anchor: Some(AnchorReport::Holds),
        ..report.clone()
    };
    assert_eq!(verify_anchored(dir.path(), &anchor).unwrap(), held);
    let other = Anchor {
        seq: 5,
        hash: report.last_hash,
    };
    assert!(matches!(
        verify_anchored(dir.path(), &other),
        Err(VerifyFailure::Rewritten { seq: 5 })
    ));
    edit(&segments[2], |lines| drop(lines.pop()));
    assert_eq!(verify(dir.path()).unwrap().records, 11);
    let failure = verify_anchored(dir.path(), &anchor).unwrap_err();
    assert!(
        matches!(failure, VerifyFailure::Shortened { anchor: 12, last: 11 }),
        "{failure}"
    );
}

#[test]
fn a_record_that_is_being_written_is_no_failure() {
    let (dir, segments) = trail();
    let whole = std::fs::read(&segments[2]).unwrap();
    for end in [whole.len() - 1, whole.len() - 100] {
        std::fs::write(&segments[2], &whole[..end]).unwrap();
        let report = verify(dir.path()).unwrap();
        assert_eq!((report.records, report.in_progress), (11, true));
    }
}

#[test]
fn verifying_works_while_a_gateway_writes() {
    let dir = tempfile::tempdir().unwrap();
    let options = AuditLogOptions {
        segment_bytes: 50_000,
        ..AuditLogOptions::default()
    };
    let log = AuditLog::open(dir.path(), options).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..3000 {
                let event = Event::Reloaded {
                    policy: format!("p{n}"),
                    error: None,
                };
                log.append(at(n), &event, false).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        let mut before = 0;
        while !done.load(std::sync::atomic::Ordering::SeqCst) {
            let records = verify(dir.path()).unwrap_or_else(|e| panic!("{e}")).records;
            assert!(records >= before);
            before = records;
            search(dir.path(), &Query::default()).unwrap();
        }
    });
    log.close().unwrap();
    assert_eq!(verify(dir.path()).unwrap().records, 3000);
}

fn session_events(session: SessionId, subject: &str, for_whom: Option<&str>, resource: &str) -> Vec<Event> {
    let mut principal = Principal::new(subject, PrincipalKind::Agent);
    principal.on_behalf_of = for_whom.map(str::to_owned);
    let principal = Arc::new(principal);
    let operation = |ticket, text: &str, verdict: &str| Event::Operation {
        session,
        ticket,
        principal: Arc::clone(&principal),
        resource: resource.to_owned(),
        operation: format!("read {text}"),
        asked: vec![],
        statement: Some(format!("SELECT * FROM {text}")),
        parameters: vec![Some("Zeppelin".into()), None],
        verdict: verdict.to_owned(),
        rules: vec!["r1".into()],
        hint: None,
        masked: vec![],
        policy: "v1".into(),
    };
    let outcome = |ticket, rows, error: Option<&str>| Event::Outcome {
        session,
        ticket,
        rows,
        bytes: rows * 10,
        micros: 77,
        error: error.map(str::to_owned),
    };
    vec![
        Event::SessionStarted {
            session,
            principal: Arc::clone(&principal),
            credential: "tok1".into(),
            resource: resource.to_owned(),
            protocol: "postgres".into(),
            detail: None,
            peer: "127.0.0.1:5".parse().unwrap(),
            rules: vec![],
        },
        operation(1, "orders", "allow"),
        operation(2, "cards", "deny"),
        operation(3, "items", "allow"),
        outcome(3, 30, Some("57014")),
        outcome(1, 10, None),
        Event::Cancel {
            session: Some(session),
            peer: "127.0.0.1:6".parse().unwrap(),
        },
        Event::SessionEnded {
            session,
            reason: "bye".into(),
            by: None,
            operations: 3,
            refused: 1,
            rows: 40,
            bytes: 400,
        },
    ]
}

#[test]
fn search_joins_filters_and_keeps_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (SessionId::generate(), SessionId::generate());
    let mut events = vec![Event::Started {
        version: "1".into(),
        policy: "v1".into(),
    }];
    events.extend(session_events(a, "alice", None, "orders-db"));
    events.extend(session_events(b, "bot", Some("alice"), "other-db"));
    write(dir.path(), &events, 700);
    let find = |query: Query| {
        let found = search(dir.path(), &query).unwrap();
        assert_eq!(found.unreadable, 0);
        found.rows
    };
    let seqs = |query: Query| find(query).iter().map(|row| row.seq).collect::<Vec<_>>();
    let some = |text: &str| Some(text.to_owned());

    let all = find(Query::default());
    assert_eq!(all.len(), 13);
    assert!(all.windows(2).all(|w| w[0].seq < w[1].seq));

    let rows = find(Query {
        session: Some(a),
        kind: some("operation"),
        ..Query::default()
    });
    let told: Vec<_> = rows
        .iter()
        .map(|r| (r.ticket, r.rows, r.bytes, r.micros, r.error.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            (Some(1), Some(10), Some(100), Some(77), None),
            (Some(2), None, None, None, None),
            (Some(3), Some(30), Some(300), Some(77), Some("57014")),
        ]
    );
    assert_eq!(
        seqs(Query {
            resource: some("orders-db"),
            ..Query::default()
        }),
        [2, 3, 4, 5, 8, 9]
    );
    assert_eq!(
        seqs(Query {
            principal: some("alice"),
            ..Query::default()
        })
        .len(),
        12
    );
    assert_eq!(
        seqs(Query {
            principal: some("bot"),
            ..Query::default()
        }),
        [10, 11, 12, 13, 16, 17]
    );
    assert_eq!(
        seqs(Query {
            verdict: some("deny"),
            ..Query::default()
        }),
        [4, 12]
    );
    assert_eq!(
        seqs(Query {
            text: some("zEPPelin"),
            verdict: some("allow"),
            ..Query::default()
        })
        .len(),
        4
    );
    assert_eq!(
        seqs(Query {
            text: some("from cards"),
            ..Query::default()
        }),
        [4, 12]
    );
    assert_eq!(
        seqs(Query {
            since: Some(at(8)),
            until: Some(at(9)),
            ..Query::default()
        }),
        [9, 10]
    );

    let newest = find(Query {
        kind: some("operation"),
        limit: Some(3),
        ..Query::default()
    });
    assert_eq!(
        newest.iter().map(|r| (r.seq, r.rows)).collect::<Vec<_>>(),
        [(11, Some(10)), (12, None), (13, Some(30))]
    );
    assert!(
        find(Query {
            limit: Some(0),
            ..Query::default()
        })
        .is_empty()
    );
}

#[test]
fn search_counts_what_it_cannot_read_and_export_copies_whole_lines() {
    let (dir, segments) = trail();
    edit(&segments[1], |lines| lines[1] = "garbage".to_owned());
    let found = search(dir.path(), &Query::default()).unwrap();
    assert_eq!((found.rows.len(), found.unreadable), (11, 1));
    let mut out = Vec::new();
    assert_eq!(export(dir.path(), &mut out).unwrap(), 12);
    let files: Vec<u8> = segments.iter().flat_map(|s| std::fs::read(s).unwrap()).collect();
    assert_eq!(out, files);
}

#[test]
fn search_with_gives_the_newest_of_what_is_kept_as_it_was_cut() {
    let (dir, _) = trail();
    let query = Query {
        limit: Some(2),
        ..Query::default()
    };
    let mut seen = 0;
    let found = search_with(dir.path(), &query, &mut |row| {
        seen += 1;
        let left = row.detail.as_deref() == Some("did thing 12");
        if let Some(detail) = &mut row.detail {
            *detail = detail.replace("did thing ", "");
        }
        !left
    })
    .unwrap();
    let details: Vec<_> = found
        .rows
        .iter()
        .filter_map(|row| row.detail.as_deref())
        .collect();
    assert_eq!(details, ["10", "11"]);
    assert!(seen >= 12);
}
