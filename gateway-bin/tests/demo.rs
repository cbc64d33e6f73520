//! `gateway demo` as a whole: it plays its story, and nothing of it is left however it ends.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are tests, too; clippy knows it of `#[test]` functions only"
)]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Whether the demo can run here.
fn installed() -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let found = versions
        .into_iter()
        .flatten()
        .flatten()
        .any(|version| version.path().join("bin/initdb").exists());
    if !found {
        eprintln!("skipped: PostgreSQL is not installed");
    }
    found
}

/// A directory for temporary files that the user `postgres` may pass through, where root runs this.
fn temporary() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    dir
}

/// The demo, in an environment that speaks of other servers and gateways.
fn demo(temporary: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command
        .arg("demo")
        .env("TMPDIR", temporary)
        .env("PGHOST", "nowhere.invalid")
        .env("GATEWAY_TOKEN", "another")
        .env("GATEWAY_LISTEN__CONTROL", "nonsense");
    command
}

/// Starts the demo and reads until it has printed this.
fn started(mut command: Command, reached: &str) -> (Child, BufReader<ChildStdout>, String) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut seen = String::new();
    while !seen.contains(reached) {
        assert_ne!(
            output.read_line(&mut seen).unwrap(),
            0,
            "no `{reached}` in: {seen}"
        );
    }
    (child, output, seen)
}

/// What is in the directory, and the programs that were started with a path in it.
fn left(dir: &Path) -> (Vec<PathBuf>, Vec<String>) {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let programs = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(dir.to_str().unwrap()).then_some(line)
    });
    (files.collect(), programs.collect())
}

#[test]
fn the_script_plays_and_leaves_nothing() {
    if !installed() {
        return;
    }
    let dir = temporary();
    let output = demo(dir.path()).arg("--script").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    for part in [
        "define public.orders",
        "still here",
        "unmask pii.email",
        "olivia logs in with an OIDC token",
        "write-unbounded public.products",
        "approval_pending",
        "an approver is another person",
        "12 | refunded",
        "canceling statement",
        "are whole",
        "steps went as they should",
    ] {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
    assert_eq!(left(dir.path()), (vec![], vec![]));
}

#[test]
fn a_signal_ends_it_in_order_at_any_time() {
    if !installed() {
        return;
    }
    // The arguments, what it has printed when the signal comes, the signal, and its exit status.
    let cases: [(&[&str], &str, &str, i32); 3] = [
        (&[], "Ctrl-C stops everything", "TERM", 0),
        (&["--script"], "1. alice", "TERM", 1),
        (&["--script"], "Starting", "INT", 1),
    ];
    for (arguments, reached, signal, code) in cases {
        let dir = temporary();
        let mut command = demo(dir.path());
        command.args(arguments);
        let (mut child, mut output, mut seen) = started(command, reached);
        let kill = format!("kill -s {signal} {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        output.read_to_string(&mut seen).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{arguments:?}: {seen}");
        assert_eq!(left(dir.path()), (vec![], vec![]), "{arguments:?}");
    }
}

#[test]
fn its_programs_die_with_a_demo_that_is_killed() {
    if !installed() {
        return;
    }
    let dir = temporary();
    let (mut child, _output, _) = started(demo(dir.path()), "Ctrl-C stops everything");
    assert!(
        left(dir.path()).1.len() >= 2,
        "this test sees the demo's programs"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let begin = Instant::now();
    while !left(dir.path()).1.is_empty() {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "{:?}",
            left(dir.path())
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_is_kept_is_whole_and_not_written_over() {
    if !installed() {
        return;
    }
    let dir = temporary();
    let kept = dir.path().join("kept");
    let output = demo(dir.path())
        .args(["--script", "--keep"])
        .arg(&kept)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(kept.join("policies/analysts.cedar").exists());
    let verify = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .args(["audit", "verify", "--config"])
        .arg(kept.join("gateway.toml"))
        .output()
        .unwrap();
    assert!(verify.status.success(), "{verify:?}");
    let again = demo(dir.path()).arg("--keep").arg(&kept).output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&again.stderr).contains("is not empty"),
        "{again:?}"
    );
}
