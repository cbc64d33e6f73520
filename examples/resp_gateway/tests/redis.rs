//! The gateway between a real client, `redis-cli`, and a real server. Where Redis is not installed (`scripts/setup.sh test`
//! installs it), these tests say so and pass.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use gateway_testkit::{free_port, wait_for_port};

const PASSWORD: &str = "the-targets-own-password";
const TOKEN: &str = "alices-token";

const POLICY: &str = r#"
@id("users-connect")
permit (principal in Group::"users", action in [Action::"connect", Action::"transaction"], resource == Resource::"cache");

@id("users-read")
permit (principal in Group::"users", action == Action::"key-read", resource in Resource::"cache")
unless { context.key like "secret:*" };

@id("users-write-sessions")
permit (principal in Group::"users", action == Action::"key-write", resource in Resource::"cache")
when { context.key like "session:*" };

@id("short-lists") @rows("3")
permit (principal in Group::"users", action == Action::"key-read", resource == Key::"cache/session:list");
"#;

struct World {
    _dir: tempfile::TempDir,
    server: Child,
    gateway: Child,
    target: u16,
    port: u16,
}

impl Drop for World {
    fn drop(&mut self) {
        for child in [&mut self.gateway, &mut self.server] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn installed() -> bool {
    let have = |tool: &str| {
        Command::new(tool)
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_ok()
    };
    let both = have("redis-server") && have("redis-cli");
    if !both {
        eprintln!("skipped: redis-server and redis-cli are not installed");
    }
    both
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

impl World {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let target = free_port();
        let mut server = Command::new("redis-server")
            .args([
                "--bind",
                "127.0.0.1",
                "--port",
                &target.to_string(),
                "--save",
                "",
                "--requirepass",
                PASSWORD,
            ])
            .args(["--dir", dir.path().to_str().unwrap()])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        assert!(wait_for_port(target, Duration::from_secs(20), || server
            .try_wait()
            .unwrap()
            .is_none()));
        let policies = dir.path().join("policies");
        std::fs::create_dir(&policies).unwrap();
        write(&policies.join("users.cedar"), POLICY);
        let mut gateway = Command::new(env!("CARGO_BIN_EXE_resp-gateway"))
            .args(["127.0.0.1:0", &format!("127.0.0.1:{target}")])
            .arg(dir.path().join("data"))
            .arg(policies)
            .env("RESP_TOKEN", TOKEN)
            .env("RESP_TARGET_PASSWORD", PASSWORD)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(gateway.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let port = line.trim().rsplit(':').next().unwrap().parse().unwrap();
        Self {
            _dir: dir,
            server,
            gateway,
            target,
            port,
        }
    }

    fn run(&self, port: u16, login: &[&str], more: &[&str], input: &str) -> String {
        // Some commands put redis-cli into a mode in which it waits for ever.
        let mut child = Command::new("timeout")
            .args(["20", "redis-cli"])
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "--no-auth-warning"])
            .args(login)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let Output { stdout, stderr, .. } = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned()
    }

    /// Through the gateway.
    fn cli(&self, more: &[&str], input: &str) -> String {
        self.run(
            self.port,
            &["--user", "alice@cache", "--pass", TOKEN],
            more,
            input,
        )
    }

    /// Straight at the server.
    fn direct(&self, input: &str) -> String {
        self.run(self.target, &["-a", PASSWORD], &[], input)
    }
}

#[test]
fn a_client_reads_and_writes_what_policy_permits_and_no_more() {
    if !installed() {
        return;
    }
    let world = World::start();
    world.direct("SET secret:1 hidden\nSET open:1 shown\n");
    let seen = world.cli(
        &[],
        "GET open:1\nSET session:1 mine\nGET session:1\nGET secret:1\nSET open:1 x\nMGET open:1 secret:1\n",
    );
    let lines: Vec<&str> = seen.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines[..3], ["shown", "OK", "mine"], "{seen}");
    assert!(
        lines[3..]
            .iter()
            .all(|line| line.starts_with("NOPERM ") && line.contains("\"code\":\"denied\"")),
        "{seen}"
    );
    assert_eq!(lines.len(), 6, "{seen}");
    assert!(!seen.contains("hidden"), "{seen}");
    assert_eq!(world.direct("GET open:1\n").trim(), "shown");
}

#[test]
fn what_is_not_understood_or_not_permitted_never_reaches_the_server() {
    if !installed() {
        return;
    }
    let world = World::start();
    world.direct("SET secret:1 hidden\nSET open:1 shown\n");
    for command in [
        "EVAL \"return redis.call('GET','secret:1')\" 0",
        "CONFIG GET requirepass",
        "CONFIG SET requirepass x",
        "ACL LIST",
        "FLUSHALL",
        "KEYS *",
        "SORT secret:1",
        "DUMP secret:1",
        "OBJECT ENCODING secret:1",
        "CLIENT KILL TYPE normal",
        "MONITOR",
        "SUBSCRIBE c",
        "SWAPDB 0 1",
        "SELECT 1",
        "RENAME secret:1 session:x",
        "SET session:x 1 GET\nGET secret:1",
        "DEBUG SLEEP 0",
        "SHUTDOWN NOSAVE",
        "AUTH default the-targets-own-password",
        "NOSUCHCOMMAND",
    ] {
        let seen = world.cli(&[], &format!("{command}\n"));
        assert!(seen.contains("NOPERM"), "{command}: {seen}");
        assert!(
            !seen.contains("hidden") && !seen.contains(PASSWORD),
            "{command}: {seen}"
        );
    }
    assert_eq!(
        world.direct("GET secret:1\nDBSIZE\n").split_whitespace().last(),
        Some("3"),
        "secret:1, open:1, session:x"
    );
}

#[test]
fn resp3_transactions_and_limits_work_with_a_real_client() {
    if !installed() {
        return;
    }
    let world = World::start();
    let seen = world.cli(
        &["-3"],
        "HSET session:h a 1 b 2\nHGETALL session:h\nMULTI\nINCR session:n\nINCR session:n\nEXEC\n",
    );
    assert!(
        seen.contains("a") && seen.lines().filter(|line| line.contains("QUEUED")).count() == 2,
        "{seen}"
    );
    let seen = world.cli(
        &[],
        "MULTI\nSET session:t 1\nSET open:t 1\nEXEC\nEXISTS session:t\n",
    );
    assert!(seen.contains("EXECABORT"), "{seen}");
    assert_eq!(seen.split_whitespace().last(), Some("0"), "{seen}");
    // The rule with @rows and the one without both match: the lowest limit wins.
    let seen = world.cli(&[], "RPUSH session:list 1 2 3\nLRANGE session:list 0 -1\nRPUSH session:list 4\nLRANGE session:list 0 -1\nPING\n");
    assert!(seen.contains("budget_exhausted"), "{seen}");
    assert!(seen.trim_end().ends_with("PONG"), "{seen}");
}

#[test]
fn a_large_value_streams_and_a_pipeline_keeps_its_order() {
    if !installed() {
        return;
    }
    let world = World::start();
    let large = "v".repeat(3 << 20);
    let seen = world.cli(&["-x", "SET", "session:large"], &large);
    assert_eq!(seen.trim(), "OK");
    assert_eq!(world.cli(&["GET", "session:large"], "").trim().len(), large.len());
    let mut input = String::new();
    for n in 0..500 {
        input.push_str(&format!("SET session:{n} {n}\nGET session:{n}\nGET secret:{n}\n"));
    }
    let seen = world.cli(&[], &input);
    let lines: Vec<&str> = seen.lines().filter(|line| !line.is_empty()).collect();
    for n in 0..500 {
        assert_eq!(lines[3 * n + 1], n.to_string());
        assert!(lines[3 * n + 2].starts_with("NOPERM"), "{}", lines[3 * n + 2]);
    }
}

#[test]
fn a_login_needs_the_token_and_tells_nothing() {
    if !installed() {
        return;
    }
    let world = World::start();
    for login in [
        &["--user", "alice@cache", "--pass", "wrong"][..],
        &["--user", "alice@other", "--pass", TOKEN],
        &["-a", PASSWORD],
        &[],
    ] {
        let seen = world.run(world.port, login, &[], "GET open:1\n");
        assert!(
            seen.contains("WRONGPASS") || seen.contains("NOAUTH") || seen.contains("closed"),
            "{login:?}: {seen}"
        );
        assert!(!seen.contains("shown"));
    }
    // What is no RESP ends its own connection, and nobody else's.
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"*1\r\n$999999999\r\n",
        b"\0\0\0\0\r\n",
        b"*1000000\r\n",
    ] {
        let mut tcp = TcpStream::connect(("127.0.0.1", world.port)).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        tcp.write_all(bytes).unwrap();
        let mut rest = Vec::new();
        // Closed, be it with a reset.
        let _ = tcp.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{bytes:?}");
    }
    assert_eq!(world.cli(&["PING"], "").trim(), "PONG");
}
