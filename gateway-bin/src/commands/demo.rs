//! `gateway demo`: the gateway in front of a private PostgreSQL and a private SSH host, to try by hand, or played by itself.
//!
//! ```text
//!   stage (a directory) ── postgres (initdb, sample data) ── issuer ── host (sshd) ── gateway (`serve` of this binary, tokens)
//!                                                                             ├── guide: what to type, until Ctrl-C
//!                                                                             └── story: `--script`, each outcome checked
//! ```
//!
//! Everything ends here: the programs and the directory are gone however the demo ends. Only where it is killed (SIGKILL)
//! its directory stays; the programs die with it even then.

mod gateway;
mod guide;
mod host;
mod issuer;
mod postgres;
mod process;
mod stage;
mod story;

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::adapters;
use crate::cli::{Demo, Global};
use gateway::Gateway;
use host::Host;
use issuer::Issuer;
use postgres::{Installed, Server};
use stage::Stage;
use story::Story;

/// Runs the command.
pub(super) async fn run(global: &Global, demo: Demo) -> anyhow::Result<ExitCode> {
    if global.data_dir.is_some() {
        bail!(
            "the demo has a data directory of its own; use `--keep DIR` to have everything in a place of yours"
        );
    }
    let have: Vec<&str> = adapters::compiled()
        .iter()
        .map(|adapter| adapter.protocol())
        .collect();
    if !have.contains(&"postgres") {
        bail!("{}", adapters::absent("postgres", &have).unwrap_or_default());
    }
    let installed = Installed::find()?;
    let mut signals = Signals::new().context("signals cannot be caught")?;
    let mut stage = Stage::new(demo.keep.as_deref())?;
    let dir = stage.dir.clone();
    let outcome = tokio::select! {
        biased;
        () = signals.stop() => if demo.script { Err(anyhow::anyhow!("a signal ended the demo")) } else { Ok(()) },
        outcome = perform(&mut stage, &installed, global, demo.script) => outcome,
    };
    if outcome.is_ok() && !demo.script {
        // Standard output may be what ended it.
        let _ = say("\nStopping.");
    }
    let cleared = stage.clear().await;
    if demo.keep.is_some() {
        eprintln!("kept: {}", dir.display());
    }
    outcome.and(cleared).map(|()| ExitCode::SUCCESS)
}

/// Sets everything up, then plays the story, or waits for as long as both servers live.
async fn perform(
    stage: &mut Stage,
    installed: &Installed,
    global: &Global,
    script: bool,
) -> anyhow::Result<()> {
    say(format!(
        "Starting a private PostgreSQL {} and the gateway in {} ...",
        installed.version,
        stage.dir.display()
    ))?;
    let server = Server::start(installed, &stage.dir.join("postgres"), &mut stage.postgres).await?;
    let issuer = Issuer::start().await?;
    let host = Host::make(&stage.dir.join("host")).await?;
    let gateway = Gateway::start(stage, &server, host.as_ref(), issuer.as_ref(), global.log_format).await?;
    if let Some(host) = &host {
        let ca = gateway.command(&["ssh", "ca"]).await?;
        host.start(&ca.text, &mut stage.sshd).await?;
        host.introduce(&gateway).await?;
    }
    let alice = gateway.person("alice", "analysts", None).await?;
    let wanda = gateway.person("wanda", "writers", Some("leads")).await?;
    let dora = gateway.person("dora", "leads", None).await?;
    let scout = match &host {
        Some(_) => Some(gateway.agent("scout", "agents", &alice, host::RESOURCE).await?),
        None => None,
    };
    if script {
        let story = Story {
            installed,
            server: &server,
            gateway: &gateway,
            alice: &alice,
            wanda: &wanda,
            dora: &dora,
            host: host.as_ref(),
            scout: scout.as_ref(),
            olivia: issuer.as_ref().map(Issuer::person).transpose()?,
            steps: 0,
        };
        return story.play().await;
    }
    guide::print(
        stage,
        installed,
        &gateway,
        [&alice, &wanda, &dora],
        host.as_ref().zip(scout.as_ref()),
        issuer.as_ref(),
    )?;
    say("Ctrl-C stops everything.")?;
    let (Some(server), Some(serve)) = (&mut stage.postgres, &mut stage.gateway) else {
        bail!("nothing runs");
    };
    let (name, log, status) = tokio::select! {
        status = server.wait() => ("PostgreSQL", postgres::LOG, status?),
        status = serve.wait() => ("the gateway", gateway::LOG, status?),
    };
    bail!(
        "{name} ended ({status}):\n{}",
        process::tail(&stage.dir.join(log))
    );
}

/// Prints a line; unlike `println!` it fails in order where nobody reads any more.
fn say(text: impl Display) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .context("standard output cannot be written")
}

/// The signals that end the demo.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn stop(&mut self) {
        let Self([interrupt, terminate, hangup]) = self;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
