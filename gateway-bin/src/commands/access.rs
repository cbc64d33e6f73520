//! `gateway access`: access for a time, asked for as who a token says.

use std::process::ExitCode;

use anyhow::{Context, bail};
use gateway_control::approvals::{AccessRequest, GrantState, GrantView};
use gateway_identity::parse_duration;

use super::sessions::seconds;
use super::tables::{list as joined, or_dash, plain, print};
use super::way::{Way, person, way};
use crate::cli::{AccessCommand, Ask, Global, Output};
use crate::control::client::{Client, encoded};

/// Runs the command.
pub(super) async fn run(global: &Global, command: AccessCommand) -> anyhow::Result<ExitCode> {
    match command {
        AccessCommand::Request(ask) => request(global, ask).await?,
        AccessCommand::List { limit, output } => list(&client(global).await?, limit, output).await?,
        AccessCommand::Revoke { id, reason } => {
            let id = super::approvals::checked(&id)?;
            let mut target = format!("/api/v1/access/{id}");
            if let Some(reason) = reason {
                target.push_str(&format!("?reason={}", encoded(&reason)));
            }
            client(global).await?.delete(&target).await?;
            eprintln!("{id} is revoked");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A person where one is set, else the operator.
async fn client(global: &Global) -> anyhow::Result<Client> {
    if let Some(client) = person(global).await? {
        return Ok(client);
    }
    match way(global).await? {
        Way::Running(client) => Ok(client),
        Way::Data(_) => bail!("no gateway runs here, so no access is in force"),
    }
}

async fn request(global: &Global, ask: Ask) -> anyhow::Result<()> {
    let client = person(global).await?.context(
        "access is asked for by who a token says: set GATEWAY_TOKEN to a token of your own, or `gateway login --token`",
    )?;
    let lasting = parse_duration(&ask.lasting).context("--for")?;
    let request = AccessRequest {
        resource: ask.resource,
        seconds: lasting.as_secs(),
        reason: ask.reason,
        actions: ask.actions.into_iter().collect(),
        on: ask.on,
    };
    let asked: GrantView = client.post("/api/v1/access", &request).await?;
    println!("{}", asked.id);
    match asked.state {
        GrantState::Active => eprintln!("it is in force until {}", seconds(asked.expires)),
        _ => eprintln!(
            "it waits for the approval of {}, until {}: gateway approvals approve {}",
            joined(&asked.group),
            seconds(asked.expires),
            plain(&asked.id)
        ),
    }
    Ok(())
}

async fn list(client: &Client, limit: u32, output: Output) -> anyhow::Result<()> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let all: Vec<GrantView> = client.list("/api/v1/access", limit).await?;
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    let rows = all
        .into_iter()
        .map(|one| {
            vec![
                one.id,
                one.state.as_str().to_owned(),
                one.principal,
                or_dash(one.on_behalf_of),
                one.object,
                if one.actions.is_empty() {
                    "all of it".to_owned()
                } else {
                    joined(&one.actions)
                },
                one.template,
                joined(&one.group),
                seconds(one.expires),
                one.reason,
            ]
        })
        .collect();
    let head = [
        "id",
        "state",
        "principal",
        "on behalf of",
        "on",
        "actions",
        "policy",
        "group",
        "expires",
        "reason",
    ];
    print(&head, rows, "no access was asked for");
    Ok(())
}
