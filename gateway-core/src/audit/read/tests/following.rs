//! Reading on from a place, while the trail grows.

use super::*;
use crate::audit::Receipt;

fn event(n: u64) -> Event {
    Event::Operator {
        by: "op".into(),
        action: "did".into(),
        subject: format!("thing {n}"),
    }
}

fn read(follow: &mut Follow, upto: u64, most: usize) -> Vec<u64> {
    let mut seen = Vec::new();
    follow
        .read(upto, &mut |record| {
            seen.push(record.seq);
            assert!(record.event.contains(&format!("thing {}\"", record.seq)));
            Ok(seen.len() < most)
        })
        .unwrap();
    seen
}

#[test]
fn every_record_comes_once_and_in_order_while_the_trail_grows_over_segments() {
    let dir = tempfile::tempdir().unwrap();
    let options = AuditLogOptions {
        segment_bytes: 1150,
        ..AuditLogOptions::default()
    };
    let mut follow = Follow::after(dir.path(), 0);
    assert!(read(&mut follow, u64::MAX, 100).is_empty());
    let log = AuditLog::open(dir.path(), options).unwrap();
    let mut seen = Vec::new();
    for n in 1..=40 {
        match log.append(at(0), &event(n), true).unwrap() {
            Receipt::Pending(answer) => answer.blocking_recv().unwrap().unwrap(),
            Receipt::Taken => panic!("it was to be durable"),
        }
        assert_eq!(log.durable(), n);
        if n % 3 == 0 {
            seen.extend(read(&mut follow, log.durable(), 2));
        }
    }
    while seen.len() < 40 {
        seen.extend(read(&mut follow, log.durable(), 7));
    }
    assert_eq!(seen, (1..=40).collect::<Vec<_>>());
    assert!(read(&mut follow, log.durable(), 100).is_empty());
    for after in [0, 3, 4, 5, 39, 40, 77] {
        let mut follow = Follow::after(dir.path(), after);
        let expected: Vec<u64> = (after + 1..=38).collect();
        assert_eq!(read(&mut follow, 38, 100), expected, "after {after}");
        assert_eq!(follow.last(), after.max(38), "after {after}");
    }
}

#[test]
fn a_failing_taker_gets_the_same_record_again_and_a_broken_one_is_never_given_out() {
    let (dir, segments) = trail();
    let mut follow = Follow::after(dir.path(), 4);
    let failure = follow.read(12, &mut |record| {
        if record.seq == 6 {
            return Err(std::io::Error::other("full"));
        }
        Ok(true)
    });
    assert!(matches!(failure, Err(FollowError::Taker(_))));
    assert_eq!(read(&mut follow, 12, 1), [6]);
    edit(&segments[1], |lines| {
        lines[2] = lines[2].replace("thing 7", "thing 9")
    });
    let failure = follow.read(12, &mut |_| Ok(true)).unwrap_err();
    assert!(failure.to_string().contains("record 7"), "{failure}");
}
