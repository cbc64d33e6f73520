//! One gateway with its own directory and ports.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gateway_testkit::free_port;

/// A policy that any build takes.
pub(crate) const POLICY: &str = r#"@id("team-connects")
permit (principal in Group::"team", action == Action::"connect", resource == Resource::"orders-db");
"#;

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    /// Asserts success; gives standard output.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// Asserts that it was refused; gives standard error.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert_eq!(self.code, 1, "{self:?}");
        self.err
    }
}

/// A directory with a configuration and policies.
pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) control: u16,
}

impl Rig {
    /// A minimal configuration, followed by `more`.
    pub(crate) fn new(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let control = free_port();
        std::fs::create_dir(dir.path().join("policies")).unwrap();
        let rig = Self { dir, control };
        rig.policy("base", POLICY);
        rig.configure(&format!("[listen]\ncontrol = \"127.0.0.1:{control}\"\n{more}"));
        rig
    }

    /// Writes the whole configuration.
    pub(crate) fn configure(&self, text: &str) {
        std::fs::write(self.path("gateway.toml"), text).unwrap();
    }

    /// Writes a file of policies.
    pub(crate) fn policy(&self, name: &str, text: &str) {
        std::fs::write(self.path(&format!("policies/{name}.cedar")), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GATEWAY_") {
                command.env_remove(name);
            }
        }
        command.args(args).arg("--config").arg(self.path("gateway.toml"));
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Answer {
        self.run_with(args, &[])
    }

    /// The same, with environment variables.
    pub(crate) fn run_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Answer {
        let done = self
            .command(args)
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        Answer {
            code: done.status.code().unwrap_or(-1),
            out: String::from_utf8(done.stdout).unwrap(),
            err: String::from_utf8(done.stderr).unwrap(),
        }
    }

    /// Starts the gateway and waits until it is ready.
    pub(crate) fn serve(&self) -> Running<'_> {
        let log = std::fs::File::create(self.path("log")).unwrap();
        let child = self
            .command(&["serve"])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut running = Running { rig: self, child };
        let until = Instant::now() + Duration::from_secs(30);
        while running.get("/readyz").is_none_or(|(status, _)| status != 200) {
            assert!(running.child.try_wait().unwrap().is_none(), "{}", self.log());
            assert!(Instant::now() < until, "not ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        running
    }

    /// What the gateway has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The audit trail's events, as JSON.
    pub(crate) fn trail(&self) -> String {
        self.run(&["audit", "search", "--output", "json"]).ok()
    }
}

/// A gateway that runs; killed when dropped.
pub(crate) struct Running<'a> {
    rig: &'a Rig,
    child: Child,
}

impl Running<'_> {
    /// One request in clear HTTP; `None` where nobody listens.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.rig.control)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let status = text.split(' ').nth(1)?.parse().ok()?;
        let body = text.split_once("\r\n\r\n")?.1.to_owned();
        Some((status, body))
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().unwrap();
        assert!(sent.success());
    }

    /// Sends SIGTERM; gives the exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        self.ended()
    }

    /// Waits for the end.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "it does not end: {}", self.rig.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until `true`.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, mut until: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !until() {
            assert!(Instant::now() < end, "{what} did not happen: {}", self.rig.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
