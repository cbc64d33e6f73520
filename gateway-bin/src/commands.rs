//! The commands: each reads what it needs of the configuration, does one thing, and prints.

mod access;
mod approvals;
mod asking;
pub(crate) mod audit;
mod config;
mod connect;
mod demo;
mod leases;
mod login;
mod notify;
mod people;
mod policy;
mod replay;
mod secrets;
mod sessions;
#[cfg(feature = "ssh")]
mod ssh;
mod suggest;
pub(crate) mod tables;
mod token;
mod way;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;

use crate::cli::{Cli, Command, Global};
use crate::config::Raw;
use crate::serve::serve;
use crate::store::Place;

/// Runs a command.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let global = &cli.global;
    match cli.command {
        Command::Serve => serve(global).await,
        Command::Demo(demo) => demo::run(global, demo).await,
        Command::Config(command) => config::run(global, &command).await,
        Command::Token(command) => token::run(global, command).await,
        Command::Login(what) => login::login(what).await,
        Command::Logout => login::logout(),
        Command::Whoami { output } => people::whoami(global, output).await,
        Command::Resources { output } => people::resources(global, output).await,
        Command::Connect(what) => connect::run(global, what).await,
        Command::Access(command) => access::run(global, command).await,
        Command::Approvals(command) => approvals::run(global, command).await,
        Command::Sessions(command) => sessions::run(global, command).await,
        Command::Audit(command) => audit::run(global, command).await,
        Command::Leases(command) => leases::run(global, command).await,
        Command::Secrets(command) => secrets::run(global, command).await,
        #[cfg(feature = "ssh")]
        Command::Ssh(command) => ssh::run(global, command).await,
        Command::Notify(command) => notify::run(global, command).await,
        Command::Policy(command) => policy::run(global, command).await,
    }
}

/// The value of a variable that is no configuration; empty is as good as none.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The data directory, for what only the operator on the host may do.
fn operator_on(global: &Global) -> anyhow::Result<PathBuf> {
    operator(global)?.data_dir()
}

/// The data directory and the store, for the same.
fn operator_place(global: &Global) -> anyhow::Result<Place> {
    operator(global)?.place()
}

fn operator(global: &Global) -> anyhow::Result<Raw> {
    if variable("GATEWAY_TOKEN").is_some() {
        bail!(
            "GATEWAY_TOKEN is set, so this command would act as who the token says, and only the operator of the \
             gateway's host may do this. Unset it to act as the operator of this host"
        );
    }
    match Raw::read(global) {
        Err(error) if variable("GATEWAY_URL").is_some() => Err(error.context(
            "only the operator of the gateway's host may do this: run it where the gateway runs, with its configuration",
        )),
        raw => raw,
    }
}

/// Refuses a data directory that isn't there, where a command can only read.
fn must_exist(data_dir: &Path) -> anyhow::Result<()> {
    match std::fs::metadata(data_dir) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => bail!("`data_dir` is `{}`, which is no directory", data_dir.display()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
            "there is no data directory `{}`: no gateway has run with this configuration yet (`gateway serve` makes it)",
            data_dir.display()
        ),
        Err(error) => bail!(
            "the data directory `{}` cannot be read: {error}",
            data_dir.display()
        ),
    }
}
