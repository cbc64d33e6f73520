//! A private PostgreSQL for a test, and psql.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub(crate) fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    versions
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("bin"))
        .find(|bin| bin.join("initdb").exists())
}

pub(crate) struct Server {
    bin: PathBuf,
    dir: tempfile::TempDir,
    as_postgres: bool,
}

impl Server {
    fn command(&self, program: &str) -> Command {
        let path = self.bin.join(program);
        if !self.as_postgres {
            return Command::new(path);
        }
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(path);
        command
    }

    pub(crate) fn start(bin: PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let as_postgres = Command::new("id")
            .arg("-u")
            .output()
            .is_ok_and(|out| out.stdout.starts_with(b"0\n"));
        let server = Server {
            bin,
            dir,
            as_postgres,
        };
        if as_postgres {
            assert!(
                Command::new("chown")
                    .arg("postgres")
                    .arg(server.path())
                    .status()
                    .unwrap()
                    .success()
            );
        }
        let data = server.path().join("data");
        let made = server
            .command("initdb")
            .args(["-A", "trust", "-U", "postgres", "-N", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let options = format!(
            "-c listen_addresses='' -c fsync=off -k {}",
            server.path().display()
        );
        let started = server
            .command("pg_ctl")
            .arg("-D")
            .arg(&data)
            .args(["-w", "-o", &options, "-l"])
            .arg(server.path().join("log"))
            .arg("start")
            .status()
            .unwrap();
        assert!(started.success());
        server
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn run(&self, setting: &str, sql: &str, stop: bool) -> String {
        let mut psql = self.command("psql");
        psql.args(["-X", "-q", "-A", "-t", "-U", "postgres", "-h"])
            .arg(self.path());
        psql.args([
            "-v",
            if stop {
                "ON_ERROR_STOP=1"
            } else {
                "ON_ERROR_STOP=0"
            },
            "-c",
            setting,
            "-c",
            sql,
        ]);
        let out = psql.output().unwrap();
        assert!(
            out.status.success() || !stop,
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.path().join("data");
        let _ = self
            .command("pg_ctl")
            .arg("-D")
            .arg(data)
            .args(["-m", "immediate", "stop"])
            .output();
    }
}

/// One session that stays open.
pub(crate) struct Session {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Server {
    pub(crate) fn session(&self) -> Session {
        let mut psql = self.command("psql");
        psql.args(["-X", "-q", "-A", "-t", "-U", "postgres", "-h"])
            .arg(self.path());
        let mut child = psql
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Session {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }
}

impl Session {
    /// Whether the statement was done; within a transaction one that fails is undone by itself.
    pub(crate) fn try_run(&mut self, sql: &str) -> bool {
        let answer = self.run(&format!("\\set ON_ERROR_ROLLBACK on\n{sql};\n\\echo :ERROR\n"));
        answer.ends_with("false\n")
    }

    /// What psql prints for it; errors are not printed.
    pub(crate) fn run(&mut self, sql: &str) -> String {
        writeln!(self.input, "{sql};\n\\echo (end of it)").unwrap();
        self.input.flush().unwrap();
        let mut answer = String::new();
        loop {
            let mut line = String::new();
            assert!(
                self.output.read_line(&mut line).unwrap() > 0,
                "psql ended at {sql}"
            );
            if line == "(end of it)\n" {
                return answer;
            }
            answer.push_str(&line);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
