//! `gateway policy`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use gateway_control::api::ExplainRequest;
use gateway_control::approvals::put_in_force;
use gateway_core::gateway::Gateway;
use gateway_core::meaning::{Meaning, ResultColumn};
use gateway_core::operation::{Operation, Operations};
use gateway_core::own::GATEWAY;
use gateway_core::policy::{MOST_GRANTS, PolicyEngine, run_tests};
use gateway_core::principal::Principal;
use gateway_core::resource::Resource;
use jiff::Timestamp;
use serde_json::Value;

use super::asking;
use super::audit::text;
use super::tables::{or_dash, plain, print};
use super::variable;
use super::way::{Way, way};
use crate::assemble;
use crate::cli::{Explain, Global, Output, PolicyCommand};
use crate::config::Config;
use crate::control::client::Client;
use crate::store::{OpenStore, StoreKind};

/// Runs the command.
pub(super) async fn run(global: &Global, command: PolicyCommand) -> anyhow::Result<ExitCode> {
    match command {
        PolicyCommand::Check => check(&Config::load(global)?),
        PolicyCommand::Test { file, offline } => test(Config::load(global)?, &file, offline).await,
        // On the host from its files, also those that are not in force yet; elsewhere the gateway is asked.
        PolicyCommand::Explain(what) if global.config.exists() && variable("GATEWAY_TOKEN").is_none() => {
            explain(Config::load(global)?, what).await
        }
        PolicyCommand::Suggest(what) => {
            let global = global.clone();
            tokio::task::spawn_blocking(move || super::suggest::run(&global, what)).await?
        }
        PolicyCommand::Explain(what) => match way(global).await? {
            Way::Running(client) => ask(&client, what).await,
            Way::Data(_) => explain(Config::load(global)?, what).await,
        },
    }
}

/// The explanation of a gateway elsewhere.
async fn ask(client: &Client, what: Explain) -> anyhow::Result<ExitCode> {
    let asked = ExplainRequest {
        subject: what.subject,
        kind: Some(what.kind),
        groups: what.groups,
        on_behalf_of: what.on_behalf_of,
        resource: what.resource,
        place: what.database,
        statement: what.statement,
        offline: what.offline,
    };
    let told: Value = client.post("/api/v1/policy/explain", &asked).await?;
    if what.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&told)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", plain(text(&told, "verdict").unwrap_or("-")));
    if let Some(place) = text(&told, "place") {
        println!("in `{}`", plain(place));
    }
    for doubt in told.get("doubts").and_then(Value::as_array).into_iter().flatten() {
        println!("careful: {}", plain(doubt.as_str().unwrap_or("-")));
    }
    let operations = told.get("operations").and_then(Value::as_array);
    let rows = operations.into_iter().flatten().map(|operation| {
        let policies = operation.get("policies").and_then(Value::as_array);
        let policies: Vec<String> = policies
            .into_iter()
            .flatten()
            .filter_map(|policy| text(policy, "id").map(str::to_owned))
            .collect();
        let missing = operation.pointer("/missing/message").and_then(Value::as_str);
        let why: Vec<&str> = text(operation, "because").into_iter().chain(missing).collect();
        vec![
            or_dash(text(operation, "verdict")),
            or_dash(text(operation, "action")),
            or_dash(text(operation, "object")),
            super::tables::list(&policies),
            or_dash(Some(why.join("; ").as_str()).filter(|why| !why.is_empty())),
        ]
    });
    let head = ["verdict", "action", "object", "policies", "why"];
    print(&head, rows.collect(), "it asks for nothing");
    let results = told.get("results").cloned().unwrap_or_default();
    for column in serde_json::from_value::<Vec<ResultColumn>>(results).unwrap_or_default() {
        println!("{}: {}", column.statement, plain(&column.to_string()));
    }
    Ok(ExitCode::SUCCESS)
}

fn check(config: &Config) -> anyhow::Result<ExitCode> {
    // Warnings are in the log, on standard error.
    let engine = assemble::policies(config)?;
    println!(
        "ok: {} policies in `{}` (version {})",
        engine.policies(),
        engine.dir().display(),
        engine.status().version
    );
    Ok(ExitCode::SUCCESS)
}

async fn test(config: Config, file: &Path, offline: bool) -> anyhow::Result<ExitCode> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("`{}` cannot be read", file.display()))?;
    let engine = assemble::policies(&config)?;
    let asker = Asker::new(config, engine.clone(), offline)?;
    let runtime = tokio::runtime::Handle::current();
    let shown = file.display().to_string();
    let report = tokio::task::spawn_blocking(move || {
        let statements = |resource: &str, statement: &str, place: Option<&str>| {
            runtime
                .block_on(asker.meaning(resource, Some(statement), place))
                .map(|(_, meaning)| meaning)
                .map_err(|error| format!("{error:#}"))
        };
        run_tests(&text, &engine, &asker.resources(), &statements)
    })
    .await?
    .with_context(|| format!("`{shown}`"))?;
    println!("{report}");
    Ok(if report.passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn explain(config: Config, what: Explain) -> anyhow::Result<ExitCode> {
    let engine = assemble::policies(&config)?;
    if let Err(error) = granted(&config, &engine).await {
        eprintln!("grants of access are left out: {error}");
    }
    let asker = Asker::new(config, engine.clone(), what.offline)?;
    let (resource, meaning) = asker
        .meaning(
            &what.resource,
            what.statement.as_deref(),
            what.database.as_deref(),
        )
        .await?;
    let mut principal = Principal::new(what.subject, what.kind);
    principal.groups = what.groups.into_iter().collect();
    principal.on_behalf_of = what.on_behalf_of;
    let explanation = engine.explain(&Arc::new(principal), &resource, &meaning.operations);
    let explanation = explanation.with_meaning(&meaning);
    match what.output {
        Output::Table => println!("{explanation}"),
        Output::Json => println!("{}", serde_json::to_string_pretty(&explanation)?),
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts the grants into force that the gateway's store has, where there is one.
async fn granted(config: &Config, engine: &PolicyEngine) -> anyhow::Result<()> {
    let place = config.place();
    if matches!(place.store, StoreKind::Sqlite) && !Config::store(&place.data_dir).exists() {
        return Ok(());
    }
    let store = OpenStore::open(&place).await?.approvals();
    let most = u32::try_from(MOST_GRANTS).unwrap_or(u32::MAX);
    put_in_force(engine, store.granted_approvals(Timestamp::now(), most).await?);
    Ok(())
}

/// Asks adapters what statements mean.
struct Asker {
    config: Config,
    gateway: Arc<Gateway>,
    offline: bool,
}

impl Asker {
    fn new(config: Config, engine: Arc<PolicyEngine>, offline: bool) -> anyhow::Result<Self> {
        let gateway = asking::gateway(&config, engine)?;
        Ok(Self {
            config,
            gateway,
            offline,
        })
    }

    /// The resources that a policy can be asked about.
    fn resources(&self) -> BTreeMap<String, Arc<Resource>> {
        let mut all = BTreeMap::clone(&self.gateway.resources());
        all.extend(self.gateway.resource(GATEWAY).map(|own| (own.name.clone(), own)));
        all
    }

    /// What a statement asks; without one, what a login does.
    async fn meaning(
        &self,
        resource: &str,
        statement: Option<&str>,
        place: Option<&str>,
    ) -> anyhow::Result<(Arc<Resource>, Meaning)> {
        let Some(found) = self.gateway.resource(resource) else {
            let names: Vec<String> = self.resources().into_keys().collect();
            bail!(
                "there is no resource `{}`; there are: {}",
                plain(resource),
                super::tables::list(&names)
            );
        };
        let meaning = match statement {
            None => {
                let summary = format!("connect {}", found.name);
                let adapter = self.config.registry.adapter(&found.protocol);
                let asked = adapter.map(|adapter| adapter.connects(&found, place));
                let mut asked = asked.unwrap_or_else(|_| vec![Operation::connect(&found.name)]);
                asked.truncate(1);
                Arc::new(Operations::new(asked, summary)).into()
            }
            Some(statement) => match self.gateway.own_resource(&found.name) {
                Some(own) => own.operations(statement)?.into(),
                None => {
                    let adapter = self.config.registry.adapter(&found.protocol)?;
                    adapter
                        .meaning(&self.gateway, &found, statement, place, self.offline)
                        .await?
                }
            },
        };
        Ok((found, meaning))
    }
}
