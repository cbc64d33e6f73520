//! A gateway that is killed while it writes.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

/// Not a test: what [`a_killed_writer_leaves_a_trail_that_verifies`] starts and kills.
#[test]
#[ignore = "started by another test"]
fn child_that_appends() {
    let Some(dir) = std::env::var_os("AUDIT_TEST_DIR") else {
        return;
    };
    let options = AuditLogOptions {
        segment_bytes: 20_000,
        ..AuditLogOptions::default()
    };
    let log = AuditLog::open(dir, options).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let log = &log;
            scope.spawn(move || {
                for n in 0u64.. {
                    log.append(at(), &event(n), false).unwrap();
                    durable(log, n).unwrap();
                    // One line, one write: acknowledged.
                    println!("acked {thread} {n}");
                }
            });
        }
    });
}

#[test]
fn a_killed_writer_leaves_a_trail_that_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let (mut least, mut acked) = (0u64, 0u64);
    for round in 0..6u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "audit::log::tests::crash::child_that_appends",
                "--ignored",
                "--nocapture",
            ])
            .env("AUDIT_TEST_DIR", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let mut here = lines
            .by_ref()
            .filter(|l| l.contains("acked"))
            .take(50 + 37 * usize::try_from(round).unwrap());
        least += u64::try_from(here.by_ref().count()).unwrap();
        child.kill().unwrap();
        acked = acked.max(least) + u64::try_from(lines.filter(|l| l.contains("acked")).count()).unwrap();
        least = acked;
        child.wait().unwrap();
        // Two events for each that was acknowledged.
        assert!(report(dir.path()).records >= 2 * acked);
        let log = AuditLog::open(dir.path(), AuditLogOptions::default()).unwrap();
        durable(&log, round).unwrap();
        drop(log);
        let report = report(dir.path());
        assert!(report.records >= 2 * acked && !report.in_progress, "{report:?}");
    }
    assert!(acked > 800, "the child did not write");
    println!("{acked} acknowledged appends survived six kills");
}
