//! Other programs: started in a clean environment, ended with the demo.

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// How long a program that was killed may take to be gone.
const KILLED: Duration = Duration::from_secs(2);
/// How much of a log an error shows, in lines.
const TAIL: usize = 15;

/// A program that the demo waits for or ends: the user's settings, certificates and passwords for PostgreSQL's tools
/// and for another gateway don't reach it, nor does the Ctrl-C that is meant for the demo.
pub(super) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let of_gateway = text.starts_with("GATEWAY_") && !text.starts_with("GATEWAY_LOG");
        if text.starts_with("PG") || of_gateway {
            command.env_remove(&name);
        }
    }
    command
        .env("LC_ALL", "C")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// The arguments for `setpriv` with which a program gets this signal when the demo dies, however it dies.
pub(super) fn dies_with_demo(signal: &str) -> [&str; 2] {
    ["--pdeathsig", signal]
}

/// What a program did: its code, and both outputs in the order in which they were written.
pub(super) struct Outcome {
    pub(super) status: ExitStatus,
    pub(super) text: String,
}

/// A program that runs, with both outputs in one pipe.
pub(super) struct Run {
    pub(super) child: Child,
    output: tokio::task::JoinHandle<std::io::Result<Vec<u8>>>,
    name: String,
}

impl Run {
    pub(super) fn start(mut command: Command) -> anyhow::Result<Self> {
        let name = shown(command.as_std().get_program());
        let (mut reader, writer) = std::io::pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let child = command
            .spawn()
            .with_context(|| format!("`{name}` cannot be started"))?;
        // The write ends that are ours: only the program may hold the pipe open.
        drop(command);
        let output = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes)
        });
        Ok(Self { child, output, name })
    }

    pub(super) async fn finish(mut self, within: Duration) -> anyhow::Result<Outcome> {
        let done = async {
            let status = self.child.wait().await?;
            let bytes = (&mut self.output).await??;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            anyhow::Ok(Outcome { status, text })
        };
        match tokio::time::timeout(within, done).await {
            Ok(outcome) => outcome,
            Err(_) => bail!("`{}` did not end within {} s", self.name, within.as_secs()),
        }
    }
}

/// Runs a program to its end.
pub(super) async fn run(mut command: Command, input: &str, within: Duration) -> anyhow::Result<Outcome> {
    command.stdin(Stdio::piped());
    let mut run = Run::start(command)?;
    if let Some(mut stdin) = run.child.stdin.take() {
        // One that ends before it has read all says so itself.
        let _ = tokio::time::timeout(within, stdin.write_all(input.as_bytes())).await;
    }
    run.finish(within).await
}

/// Runs a program that must succeed.
pub(super) async fn must(command: Command, input: &str, within: Duration) -> anyhow::Result<String> {
    let name = shown(command.as_std().get_program());
    let outcome = run(command, input, within).await?;
    if outcome.status.success() {
        return Ok(outcome.text);
    }
    bail!(
        "`{name}` failed ({}):\n{}",
        outcome.status,
        outcome.text.trim_end()
    );
}

/// Sends a signal, such as `INT`. The standard library has none but KILL, and the shell is everywhere.
pub(super) async fn signal(child: &Child, name: &str) -> anyhow::Result<()> {
    if let Some(id) = child.id() {
        let mut kill = command("sh");
        kill.args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &id.to_string()]);
        must(kill, "", KILLED).await?;
    }
    Ok(())
}

/// Ends a program: told first, killed when its time is over.
pub(super) async fn end(mut child: Child, name: &str, patience: Duration) {
    if signal(&child, name).await.is_ok() && tokio::time::timeout(patience, child.wait()).await.is_ok() {
        return;
    }
    let _ = tokio::time::timeout(KILLED, child.kill()).await;
}

/// The last lines of a log.
pub(super) fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(TAIL);
    let mut shown: Vec<&str> = lines.into_iter().skip(skipped).collect();
    if shown.is_empty() {
        shown.push("(its log is empty)");
    }
    shown.join("\n")
}

fn shown(program: &OsStr) -> String {
    let path = Path::new(program);
    path.file_name().unwrap_or(program).to_string_lossy().into_owned()
}
