//! The gateway as a program: command line, configuration, and the composition of the adapters. `main.rs` runs it; what
//! else is public here is for tests and fuzzing.
//!
//! ```text
//!   cli ──▶ commands/* ──▶ config ──▶ assemble ──▶ serve ──▶ control (health, metrics, operator)
//!                 │                     adapters      └────▶ reload
//!                 └──▶ control/client, or operator on the data directory
//! ```

#[macro_use]
mod out;

mod adapters;
mod assemble;
mod certify;
mod cli;
mod commands;
pub mod config;
mod control;
mod export;
mod measured;
mod node;
mod notify;
mod operator;
mod own;
mod reload;
mod resealing;
mod serve;
mod store;
mod systemd;
mod trail;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command, LogFormat};

/// How long tasks may take once the command is done.
const LAST_TASKS: Duration = Duration::from_millis(500);

/// Does what the command line says.
#[must_use]
pub fn run() -> ExitCode {
    if let Some(secret) = asked_for() {
        println!("{}", secret.as_str());
        return ExitCode::SUCCESS;
    }
    // clap ends the process with 2 on wrong usage, with 0 after help.
    let cli = Cli::parse();
    if let Err(error) = log(&cli) {
        eprintln!("gateway: {error:#}");
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("gateway: the runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = match runtime.block_on(commands::run(cli)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("gateway: {error:#}");
            ExitCode::FAILURE
        }
    };
    runtime.shutdown_timeout(LAST_TASKS);
    code
}

/// The secret for a native client that asks for it by running a program: `gateway connect` names this one, and leaves the secret
/// in the environment, where argument lists don't show it. The client's question is the only argument.
fn asked_for() -> Option<zeroize::Zeroizing<String>> {
    let asks = std::env::args_os().len() == 2 && std::env::var_os("SSH_ASKPASS").is_some();
    let secret = asks.then(|| std::env::var("GATEWAY_ASKPASS").ok())?;
    secret.map(zeroize::Zeroizing::new)
}

/// Log lines go to standard error: what a command answers is alone on standard output.
fn log(cli: &Cli) -> anyhow::Result<()> {
    let default = if matches!(cli.command, Command::Serve) {
        "info"
    } else {
        "warn"
    };
    let filter = match std::env::var("GATEWAY_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text)
            .map_err(|error| anyhow::anyhow!("GATEWAY_LOG: `{text}` is no filter: {error}"))?,
        _ => EnvFilter::new(default),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match cli.global.log_format {
        LogFormat::Human => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}
