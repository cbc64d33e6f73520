//! The log against crashes, faults of the disk, and many callers.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

mod crash;
mod signing;

use super::disk::{Disk, RealDisk, Segment};
use super::*;
use crate::audit::read::{VerifyReport, verify};

/// What the disk shall do wrong.
#[derive(Debug, Default)]
struct Faults {
    /// So many bytes may still be written, then writes are short and fail with ENOSPC; `u64::MAX`: no end.
    space: AtomicU64,
    /// Syncs fail, and what they were to make durable is overwritten with zeros, as lost pages read.
    sync: AtomicBool,
    /// Cutting a segment fails.
    set_len: AtomicBool,
    /// The directory can't be synced.
    sync_dir: AtomicBool,
    /// A sync takes so long.
    slow_ms: AtomicU64,
    syncs: AtomicU64,
}

#[derive(Debug)]
struct FaultyDisk(Arc<Faults>);

struct FaultySegment {
    file: Box<dyn Segment>,
    path: PathBuf,
    faults: Arc<Faults>,
    synced: u64,
}

impl FaultyDisk {
    fn wrap(&self, file: Box<dyn Segment>, path: &Path) -> Box<dyn Segment> {
        let synced = std::fs::metadata(path).unwrap().len();
        Box::new(FaultySegment {
            file,
            path: path.to_owned(),
            faults: Arc::clone(&self.0),
            synced,
        })
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Segment>> {
        RealDisk.create(path).map(|file| self.wrap(file, path))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn Segment>> {
        RealDisk.open(path).map(|file| self.wrap(file, path))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.0.sync_dir.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(5));
        }
        RealDisk.sync_dir(dir)
    }
}

impl Segment for FaultySegment {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let space = self.faults.space.load(Ordering::SeqCst);
        if space == u64::MAX {
            return self.file.write(&bytes[..bytes.len().min(1000)]);
        }
        let n = bytes.len().min(usize::try_from(space).unwrap());
        if n == 0 {
            return Err(io::Error::from_raw_os_error(28));
        }
        let n = self.file.write(&bytes[..n])?;
        self.faults
            .space
            .fetch_sub(u64::try_from(n).unwrap(), Ordering::SeqCst);
        Ok(n)
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        if self.faults.set_len.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.synced = self.synced.min(len);
        self.file.set_len(len)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.faults.syncs.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(self.faults.slow_ms.load(Ordering::SeqCst)));
        if self.faults.sync.load(Ordering::SeqCst) {
            use std::os::unix::fs::FileExt;
            let file = OpenOptions::new().write(true).open(&self.path).unwrap();
            let lost = file.metadata().unwrap().len() - self.synced;
            file.write_all_at(&vec![0; usize::try_from(lost).unwrap()], self.synced)
                .unwrap();
            return Err(io::Error::from_raw_os_error(5));
        }
        self.file.sync()?;
        self.synced = std::fs::metadata(&self.path)?.len();
        Ok(())
    }
}

fn faulty(dir: &Path, options: AuditLogOptions) -> (AuditLog, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    faults.space.store(u64::MAX, Ordering::SeqCst);
    let log = AuditLog::open_on(
        dir,
        options,
        AuditLogParts::default(),
        false,
        Box::new(FaultyDisk(Arc::clone(&faults))),
    )
    .unwrap();
    (log, faults)
}

fn event(n: u64) -> Event {
    Event::Operator {
        by: "test".into(),
        action: "count".into(),
        subject: format!("event {n}"),
    }
}

fn at() -> Timestamp {
    "2026-03-01T10:00:00Z".parse().unwrap()
}

fn settle(receipt: Result<Receipt, AuditError>) -> Result<(), AuditError> {
    match receipt? {
        Receipt::Taken => Ok(()),
        Receipt::Pending(answer) => answer.blocking_recv().unwrap_or(Err(AuditError::Closed)),
    }
}

fn durable(log: &AuditLog, n: u64) -> Result<(), AuditError> {
    settle(log.append(at(), &event(n), true))
}

/// Appends until it works; how long that took.
fn until_it_works(log: &AuditLog, n: u64) -> Duration {
    let start = Instant::now();
    while durable(log, n).is_err() {
        assert!(start.elapsed() < Duration::from_secs(10), "never recovers");
        std::thread::sleep(Duration::from_millis(5));
    }
    start.elapsed()
}

fn subjects(dir: &Path) -> Vec<String> {
    let mut out = Vec::new();
    crate::audit::read::export(dir, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    text.lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            value["event"]["subject"].as_str().unwrap().to_owned()
        })
        .collect()
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    crate::audit::segments::list(dir)
        .unwrap()
        .into_iter()
        .map(|s| s.path)
        .collect()
}

fn report(dir: &Path) -> VerifyReport {
    verify(dir).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn events_are_there_in_order_after_reopening_and_over_segments() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("deep/audit");
    let options = AuditLogOptions {
        segment_bytes: 2000,
        ..AuditLogOptions::default()
    };
    for round in 0..3 {
        let log = AuditLog::open(&dir, options).unwrap();
        assert_eq!(log.recovered(), None);
        for n in 0..20 {
            settle(log.append(at(), &event(round * 20 + n), n % 3 == 0)).unwrap();
        }
        log.close().unwrap();
        assert!(matches!(
            log.append(at(), &event(0), false),
            Err(AuditError::Closed)
        ));
    }
    assert_eq!(
        subjects(&dir),
        (0..60).map(|n| format!("event {n}")).collect::<Vec<_>>()
    );
    let report = report(&dir);
    assert_eq!(
        (
            report.records,
            report.first.unwrap().seq,
            report.last.unwrap().seq
        ),
        (60, 1, 60)
    );
    assert!(report.segments > 5 && !report.in_progress, "{report:?}");
    for file in segment_files(&dir) {
        let meta = std::fs::metadata(&file).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        assert!(meta.len() <= 2000);
    }
    assert_eq!(
        std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777,
        0o700
    );
}

#[test]
fn only_one_gateway_writes_a_trail() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(dir.path(), AuditLogOptions::default()).unwrap();
    let error = AuditLog::open(dir.path(), AuditLogOptions::default()).unwrap_err();
    assert!(matches!(error, AuditOpenError::Locked { .. }));
    assert!(error.to_string().contains("another gateway"), "{error}");
    drop(log);
    AuditLog::open(dir.path(), AuditLogOptions::default()).unwrap();
}

#[test]
fn a_batched_event_is_on_disk_within_the_flush_interval() {
    let dir = tempfile::tempdir().unwrap();
    let (log, faults) = faulty(dir.path(), AuditLogOptions::default());
    assert!(matches!(log.append(at(), &event(1), false), Ok(Receipt::Taken)));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(log.shared.state.lock().unwritten, 0);
    assert_eq!(faults.syncs.load(Ordering::SeqCst), 1);
    assert_eq!(report(dir.path()).records, 1);
}

#[test]
fn a_batched_event_that_is_written_first_is_readable_before_it_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let options = AuditLogOptions {
        write_first: true,
        flush_interval: Duration::from_secs(5),
        ..AuditLogOptions::default()
    };
    let (log, faults) = faulty(dir.path(), options);
    for n in 1..=20 {
        let receipt = log.append(at(), &event(n), false);
        assert!(matches!(receipt, Ok(Receipt::Pending(_))));
        settle(receipt).unwrap();
        assert_eq!(report(dir.path()).records, n);
    }
    assert_eq!(faults.syncs.load(Ordering::SeqCst), 0);
    faults.space.store(0, Ordering::SeqCst);
    assert!(matches!(
        settle(log.append(at(), &event(21), false)),
        Err(AuditError::Write(_))
    ));
}

#[test]
fn a_torn_end_is_moved_aside_and_the_trail_goes_on() {
    let whole = {
        let dir = tempfile::tempdir().unwrap();
        let log = AuditLog::open(dir.path(), AuditLogOptions::default()).unwrap();
        (1..=3).for_each(|n| durable(&log, n).unwrap());
        drop(log);
        std::fs::read(&segment_files(dir.path())[0]).unwrap()
    };
    let second_end = 1 + whole
        .windows(1)
        .enumerate()
        .filter(|(_, w)| w[0] == b'\n')
        .nth(1)
        .unwrap()
        .0;
    let mut torn: Vec<Vec<u8>> = (second_end + 1..whole.len())
        .step_by(7)
        .map(|n| whole[..n].to_vec())
        .collect();
    torn.push([&whole[..second_end], &[0; 5000]].concat());
    torn.push(
        [
            &whole[..second_end],
            b"\0\0\0\n\0\0\n",
            &whole[second_end..second_end + 40],
        ]
        .concat(),
    );
    for bytes in torn {
        let dir = tempfile::tempdir().unwrap();
        let segment = dir.path().join(crate::audit::segments::name(1));
        std::fs::write(&segment, &bytes).unwrap();
        assert!(bytes[second_end..].contains(&b'\n') || report(dir.path()).records == 2);
        let log = AuditLog::open(dir.path(), AuditLogOptions::default()).unwrap();
        let recovered = log.recovered().unwrap().clone();
        assert_eq!((recovered.last_seq, &recovered.segment), (2, &segment));
        assert!(recovered.kept_in.to_str().unwrap().ends_with(".jsonl.torn-1"));
        assert_eq!(std::fs::read(&recovered.kept_in).unwrap(), bytes[second_end..]);
        durable(&log, 9).unwrap();
        drop(log);
        assert_eq!(subjects(dir.path()), ["event 1", "event 2", "event 9"]);
        assert_eq!(report(dir.path()).records, 3);
    }
}

#[test]
fn a_segment_of_which_nothing_is_whole_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let options = AuditLogOptions {
        segment_bytes: 1,
        ..AuditLogOptions::default()
    };
    let log = AuditLog::open(dir.path(), options).unwrap();
    (1..=3).for_each(|n| durable(&log, n).unwrap());
    drop(log);
    for torn in [&b"{\"seq\":3,"[..], b""] {
        std::fs::write(&segment_files(dir.path())[2], torn).unwrap();
        let log = AuditLog::open(dir.path(), options).unwrap();
        assert_eq!(log.recovered().is_some(), !torn.is_empty());
        durable(&log, 3).unwrap();
        drop(log);
        assert_eq!(report(dir.path()).records, 3);
    }
    std::fs::write(&segment_files(dir.path())[1], b"").unwrap();
    std::fs::write(&segment_files(dir.path())[2], b"").unwrap();
    let error = AuditLog::open(dir.path(), options).unwrap_err();
    assert!(matches!(error, AuditOpenError::Broken { seq: 2, .. }), "{error}");
}

#[test]
fn a_record_broken_in_the_middle_or_edited_at_the_end_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(dir.path(), AuditLogOptions::default()).unwrap();
    (1..=5).for_each(|n| durable(&log, n).unwrap());
    drop(log);
    let segment = &segment_files(dir.path())[0];
    let whole = std::fs::read_to_string(segment).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    for (broken, seq) in [
        (whole.replace("event 3", "event 8"), 3),
        (whole.replace("event 5", "event 8"), 5),
        (whole.replace(lines[2], "garbage"), 3),
        (whole.replace(&format!("{}\n", lines[2]), ""), 3),
        (whole.replace(lines[3], lines[3].get(..50).unwrap()), 4),
        (format!("{whole}{}\n", lines[1]), 6),
    ] {
        std::fs::write(segment, &broken).unwrap();
        let error = AuditLog::open(dir.path(), AuditLogOptions::default()).unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, AuditOpenError::Broken { seq: s, .. } if s == seq),
            "{text}"
        );
        assert!(
            text.contains("gateway audit verify") && text.contains(&format!("record {seq} ")),
            "{text}"
        );
        assert_eq!(std::fs::read_to_string(segment).unwrap(), broken);
    }
}

#[test]
fn a_full_disk_fails_every_append_and_recovers_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (log, faults) = faulty(dir.path(), AuditLogOptions::default());
    durable(&log, 1).unwrap();
    faults.space.store(100, Ordering::SeqCst);
    assert!(matches!(durable(&log, 2), Err(AuditError::Write(why)) if why.contains("space")));
    assert!(matches!(
        log.append(at(), &event(0), false),
        Err(AuditError::Write(_))
    ));
    assert!(matches!(
        log.append(at(), &event(0), true),
        Err(AuditError::Write(_))
    ));
    // The half-written line is gone again, so a reader sees a whole trail.
    let during = report(dir.path());
    assert_eq!((during.records, during.in_progress), (1, false));
    faults.space.store(u64::MAX, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(400));
    // Without anybody asking: what was taken is there.
    assert_eq!(subjects(dir.path()), ["event 1", "event 2"]);
    durable(&log, 3).unwrap();
    // With somebody asking: sooner than by itself, but for a machine that stalls.
    let mut times = (0..5).map(|_| {
        faults.space.store(0, Ordering::SeqCst);
        durable(&log, 4).unwrap_err();
        faults.space.store(u64::MAX, Ordering::SeqCst);
        until_it_works(&log, 5)
    });
    assert!(times.any(|time| time < Duration::from_millis(150)));
    drop(log);
    assert_eq!(
        subjects(dir.path()),
        ["event 1", "event 2", "event 3", "event 4", "event 5"]
    );
    assert_eq!(
        (report(dir.path()).records, segment_files(dir.path()).len()),
        (5, 1)
    );
}

/// On a file system of about a megabyte: `mount -t tmpfs -o size=1m none /mnt/small`.
#[test]
#[ignore = "needs a small file system, named by AUDIT_TEST_SMALL_DIR"]
fn a_disk_that_is_really_full_fails_every_append_and_recovers() {
    let Some(small) = std::env::var_os("AUDIT_TEST_SMALL_DIR").map(PathBuf::from) else {
        return;
    };
    let (filler, dir) = (small.join("filler"), small.join("audit"));
    std::fs::write(&filler, vec![0; 300_000]).unwrap();
    let options = AuditLogOptions {
        segment_bytes: 100_000,
        ..AuditLogOptions::default()
    };
    let log = AuditLog::open(&dir, options).unwrap();
    let mut acked = 0;
    while durable(&log, acked).is_ok() {
        acked += 1;
    }
    assert!(matches!(
        log.append(at(), &event(0), false),
        Err(AuditError::Write(_))
    ));
    assert_eq!(report(&dir).records, acked);
    std::fs::remove_file(filler).unwrap();
    until_it_works(&log, acked + 1);
    drop(log);
    let expected: Vec<String> = (0..=acked + 1).map(|n| format!("event {n}")).collect();
    assert_eq!(subjects(&dir), expected);
    println!("{acked} records before the disk was full; {:?}", report(&dir));
}

#[test]
fn a_line_that_cannot_be_cut_off_is_left_with_its_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (log, faults) = faulty(dir.path(), AuditLogOptions::default());
    durable(&log, 1).unwrap();
    faults.set_len.store(true, Ordering::SeqCst);
    faults.space.store(100, Ordering::SeqCst);
    durable(&log, 2).unwrap_err();
    assert!(report(dir.path()).in_progress);
    faults.space.store(u64::MAX, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(300));
    durable(&log, 0).unwrap_err();
    faults.set_len.store(false, Ordering::SeqCst);
    until_it_works(&log, 3);
    drop(log);
    assert_eq!(subjects(dir.path()), ["event 1", "event 2", "event 3"]);
    assert_eq!(
        (report(dir.path()).records, segment_files(dir.path()).len()),
        (3, 2)
    );
}

#[test]
fn after_a_failed_sync_the_page_cache_is_not_trusted() {
    for synced_before in [0u64, 1] {
        let dir = tempfile::tempdir().unwrap();
        let (log, faults) = faulty(dir.path(), AuditLogOptions::default());
        (0..synced_before).for_each(|n| durable(&log, n).unwrap());
        let taken: Vec<_> = {
            faults.sync.store(true, Ordering::SeqCst);
            (10..20)
                .map(|n| log.append(at(), &event(n), false))
                .filter(Result::is_ok)
                .collect()
        };
        std::thread::sleep(Duration::from_millis(700));
        assert!(matches!(
            log.append(at(), &event(0), false),
            Err(AuditError::Write(_))
        ));
        faults.sync.store(false, Ordering::SeqCst);
        until_it_works(&log, 99);
        drop(log);
        assert!(!taken.is_empty());
        let seen = subjects(dir.path());
        assert_eq!(u64::try_from(seen.len()).unwrap(), report(dir.path()).records);
        assert_eq!(
            seen.len(),
            taken.len() + 1 + usize::try_from(synced_before).unwrap()
        );
        assert_eq!(seen.last().unwrap(), "event 99");
        assert_eq!(
            segment_files(dir.path()).len(),
            1 + usize::try_from(synced_before).unwrap()
        );
        // And the next start is an ordinary one.
        let log = AuditLog::open(dir.path(), AuditLogOptions::default()).unwrap();
        assert_eq!(log.recovered(), None);
    }
}

#[test]
fn a_segment_that_cannot_be_begun_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let options = AuditLogOptions {
        segment_bytes: 1,
        ..AuditLogOptions::default()
    };
    let (log, faults) = faulty(dir.path(), options);
    durable(&log, 1).unwrap();
    faults.sync_dir.store(true, Ordering::SeqCst);
    durable(&log, 2).unwrap_err();
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(report(dir.path()).records, 1);
    faults.sync_dir.store(false, Ordering::SeqCst);
    until_it_works(&log, 3);
    drop(log);
    assert_eq!(subjects(dir.path()), ["event 1", "event 2", "event 3"]);
    assert_eq!(segment_files(dir.path()).len(), 3);
}

#[test]
fn closing_while_the_disk_is_full_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (log, faults) = faulty(dir.path(), AuditLogOptions::default());
    faults.space.store(0, Ordering::SeqCst);
    durable(&log, 1).unwrap_err();
    assert!(matches!(log.close(), Err(AuditError::Write(_))));
    assert!(matches!(
        log.append(at(), &event(0), false),
        Err(AuditError::Closed)
    ));
}

#[test]
fn too_much_unwritten_makes_batched_events_wait_and_then_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let options = AuditLogOptions {
        max_unwritten_bytes: 10_000,
        ..AuditLogOptions::default()
    };
    let (log, faults) = faulty(dir.path(), options);
    faults.slow_ms.store(300, Ordering::SeqCst);
    let mut receipts = Vec::new();
    let refused = loop {
        match log.append(at(), &event(1), false) {
            Ok(receipt) => receipts.push(receipt),
            Err(error) => break error,
        }
    };
    assert!(refused.to_string().contains("wait to be written"), "{refused}");
    let taken = receipts.iter().filter(|r| matches!(r, Receipt::Taken)).count();
    assert!((20..60).contains(&taken), "{taken}");
    assert!(receipts.len() > 150);
    faults.slow_ms.store(0, Ordering::SeqCst);
    for receipt in receipts {
        settle(Ok(receipt)).unwrap();
    }
    durable(&log, 2).unwrap();
}

#[test]
fn an_event_larger_than_any_line_is_refused_and_a_large_one_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(dir.path(), AuditLogOptions::default()).unwrap();
    let large = |bytes| Event::Operator {
        by: String::new(),
        action: "x".repeat(bytes),
        subject: "s".into(),
    };
    assert!(matches!(
        log.append(at(), &large(MAX_RECORD), true),
        Err(AuditError::Encode(_))
    ));
    settle(log.append(at(), &large(20 << 20), true)).unwrap();
    durable(&log, 2).unwrap();
    assert_eq!(report(dir.path()).records, 2);
}

#[test]
fn many_durable_appends_share_a_sync() {
    const THREADS: u64 = 200;
    const EACH: u64 = 20;
    let dir = tempfile::tempdir().unwrap();
    let (log, faults) = faulty(dir.path(), AuditLogOptions::default());
    faults.slow_ms.store(1, Ordering::SeqCst);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..EACH).for_each(|n| durable(&log, n).unwrap()));
        }
    });
    let (elapsed, syncs) = (start.elapsed(), faults.syncs.load(Ordering::SeqCst));
    println!("{} durable appends, {syncs} syncs, {elapsed:?}", THREADS * EACH);
    assert!(syncs * 10 < THREADS * EACH, "{syncs} syncs");
    drop(log);
    assert_eq!(report(dir.path()).records, THREADS * EACH);
}

#[test]
fn throughput() {
    const EVENTS: u32 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(dir.path(), AuditLogOptions::default()).unwrap();
    let start = Instant::now();
    for n in 0..EVENTS {
        settle(log.append(at(), &event(n.into()), false)).unwrap();
    }
    log.close().unwrap();
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{EVENTS} batched events in {seconds:.3} s: {:.0}/s",
        f64::from(EVENTS) / seconds
    );
    let start = Instant::now();
    assert_eq!(report(dir.path()).records, u64::from(EVENTS));
    println!("verified in {:?}", start.elapsed());
}
