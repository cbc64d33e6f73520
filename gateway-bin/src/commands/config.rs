//! `gateway config`.

use std::process::ExitCode;
use std::time::Duration;

use gateway_core::tls::ServerTls;

use super::asking;
use super::tables::plain;
use crate::assemble;
use crate::cli::{ConfigCommand, ConfigOutput, Global};
use crate::config::Config;

/// How long one target may take to be tried.
const PROBE: Duration = Duration::from_secs(60);

/// Runs the command.
pub(super) async fn run(global: &Global, command: &ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Check { probe: false } => check(&Config::load(global)?),
        ConfigCommand::Check { probe: true } => {
            let config = Config::load(global)?;
            let checked = check(&config)?;
            let probed = probe(&config).await?;
            Ok(if checked == ExitCode::SUCCESS {
                probed
            } else {
                checked
            })
        }
        ConfigCommand::Show { output } => show(&Config::load(global)?, *output),
    }
}

fn show(config: &Config, output: ConfigOutput) -> anyhow::Result<ExitCode> {
    match output {
        ConfigOutput::Toml => print!("{}", config.to_toml()?),
        ConfigOutput::Json => println!("{:#}", config.tree()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Reaches every target, all at the same time, and says in order what came of it.
async fn probe(config: &Config) -> anyhow::Result<ExitCode> {
    let gateway = asking::gateway(config, assemble::policies(config)?)?;
    let asked = config.resources.values().map(|resource| {
        let (gateway, resource) = (gateway.clone(), resource.clone());
        let adapter = config.registry.adapter(&resource.protocol).cloned();
        tokio::spawn(async move {
            let adapter = adapter.map_err(|problem| problem.to_string())?;
            let probed = tokio::time::timeout(PROBE, adapter.probe(&gateway, &resource)).await;
            match probed {
                Ok(probed) => probed.map_err(|problem| problem.to_string()),
                Err(_) => Err(format!("no answer within {} s", PROBE.as_secs())),
            }
        })
    });
    let asked: Vec<_> = asked.collect();
    let mut code = probe_keys(config).await;
    for (name, asked) in config.resources.keys().zip(asked) {
        match asked.await? {
            Ok(found) => eprintln!("probe: `{name}`: ok: {}", plain(&found.join("; "))),
            Err(problem) => {
                eprintln!("probe: `{name}`: FAILED: {}", plain(&problem));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// Reads the keys as a start would, unless that would make one.
async fn probe_keys(config: &Config) -> ExitCode {
    if config.secrets.is_empty() {
        return ExitCode::SUCCESS;
    }
    if config.secrets.makes_one(&config.data_dir) {
        eprintln!("probe: `secrets.keys`: the first key is made at the first start; not tried");
        return ExitCode::SUCCESS;
    }
    match tokio::time::timeout(PROBE, config.place().sealing()).await {
        Ok(Ok(sealing)) => {
            let active = sealing.active().unwrap_or_default();
            eprintln!("probe: `secrets.keys`: ok: what is kept is sealed with the key {active}");
            ExitCode::SUCCESS
        }
        Ok(Err(problem)) => {
            eprintln!(
                "probe: `secrets.keys`: FAILED: {}",
                plain(&format!("{problem:#}"))
            );
            ExitCode::FAILURE
        }
        Err(_) => {
            eprintln!(
                "probe: `secrets.keys`: FAILED: no answer within {} s",
                PROBE.as_secs()
            );
            ExitCode::FAILURE
        }
    }
}

fn check(config: &Config) -> anyhow::Result<ExitCode> {
    let policies = assemble::policies(config);
    let tls = match (&config.tls.cert, &config.tls.key) {
        // Opening it would make the private CA; it is made when the gateway first runs.
        (None, None) => Ok(()),
        _ => ServerTls::open(config.tls.clone(), &config.data_dir).map(drop),
    };
    let mut wrong = false;
    // Issuers are not asked: they may be out of reach from here, or not up yet.
    if let Err(error) = assemble::issuers(config) {
        eprintln!("gateway: {error:#}");
        wrong = true;
    }
    if let Err(error) = config.notify.receivers() {
        eprintln!("gateway: {error:#}");
        wrong = true;
    }
    if let Err(error) = &tls {
        eprintln!("gateway: [tls]: {error}");
        wrong = true;
    }
    for fault in config.secrets.faults() {
        eprintln!("gateway: {fault}");
        wrong = true;
    }
    for warning in warnings(config) {
        eprintln!("warning: {warning}");
    }
    match &policies {
        // Their own warnings are in the log.
        Ok(engine) if engine.policies() == 0 => eprintln!(
            "warning: there is no policy in `{}`: nothing is permitted",
            config.policy_dir.display()
        ),
        Ok(_) => {}
        Err(error) => {
            eprintln!("gateway: {error:#}");
            wrong = true;
        }
    }
    if wrong {
        return Ok(ExitCode::FAILURE);
    }
    show(config, ConfigOutput::Toml)?;
    if let Ok(engine) = policies {
        eprintln!(
            "ok: {} resources, {} policies (version {})",
            config.resources.len(),
            engine.policies(),
            engine.status().version
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// What is legal but probably not meant, or may be otherwise where the gateway will run.
fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.resources.is_empty() {
        warnings.push("there is no `[[resource]]`: nothing can be reached".to_owned());
    }
    warnings.extend(config.notify.warnings());
    for resource in config.resources.values() {
        for (key, source) in resource.credential.secrets() {
            if let Err(error) = source.read() {
                warnings.push(format!("the {key} of `{}`: {error}", resource.name));
            }
        }
        if !config.listen.adapters.contains_key(&resource.protocol) {
            warnings.push(format!(
                "`{}` cannot be reached: there is no `listen.{}`",
                resource.name, resource.protocol
            ));
        }
    }
    warnings
}
