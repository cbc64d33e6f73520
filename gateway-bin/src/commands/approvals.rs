//! `gateway approvals`: as who a token says, here or at `GATEWAY_URL`; without one the operator on the host looks.

use std::process::ExitCode;

use anyhow::{Context, bail};
use gateway_control::approvals::ApprovalView;
use gateway_core::approval::{ApprovalState, Choice};
use gateway_core::secret::Secret;

use super::sessions::seconds;
use super::tables::{list as joined, or_dash, plain, print, print_fields};
use super::{must_exist, variable};
use crate::cli::{ApprovalsCommand, Decide, Global, Output};
use crate::config::{Config, Raw};
use crate::control::Said;
use crate::control::client::Client;
use crate::store::{OpenStore, Place};

/// Where the answer comes from.
enum Source {
    /// A gateway.
    Running(Client),
    /// The store of a gateway that does not run: to look at, not to decide.
    Store(Place),
}

/// Runs the command.
pub(super) async fn run(global: &Global, command: ApprovalsCommand) -> anyhow::Result<ExitCode> {
    let token = variable("GATEWAY_TOKEN").map(Secret::new);
    match command {
        ApprovalsCommand::List { limit, output } => list(source(global, token).await?, limit, output).await?,
        ApprovalsCommand::Show { id, output } => show(source(global, token).await?, id, output).await?,
        ApprovalsCommand::Approve(decision) => decide(global, token, decision, Choice::Approve).await?,
        ApprovalsCommand::Deny(decision) => decide(global, token, decision, Choice::Deny).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn source(global: &Global, token: Option<Secret>) -> anyhow::Result<Source> {
    if let (Some(url), Some(token)) = (variable("GATEWAY_URL"), token.clone()) {
        return Ok(Source::Running(Client::at(&url, token)?));
    }
    let place = match Raw::read(global) {
        Err(error) if variable("GATEWAY_URL").is_some() => {
            return Err(
                error.context("GATEWAY_URL is set and GATEWAY_TOKEN is not: set it, to act as who it says")
            );
        }
        raw => raw?.place()?,
    };
    match Client::find(Config::socket(&place.data_dir)).await? {
        Some(client) => Ok(Source::Running(client.with_token(token))),
        None if token.is_some() => bail!(
            "no gateway runs on the data directory `{}`, so nobody can tell who the token is",
            place.data_dir.display()
        ),
        None => {
            must_exist(&place.data_dir)?;
            Ok(Source::Store(place))
        }
    }
}

async fn list(source: Source, limit: u32, output: Output) -> anyhow::Result<()> {
    let approvals: Vec<ApprovalView> = match source {
        Source::Running(client) => client.get(&format!("/api/v1/approvals?limit={limit}")).await?,
        Source::Store(place) => {
            let store = OpenStore::open(&place).await?.approvals();
            let now = jiff::Timestamp::now();
            let found = store.approvals(limit.min(1000)).await?.into_iter();
            found
                .map(|mut one| {
                    one.state = one.state_at(now);
                    ApprovalView::from(one).brief()
                })
                .collect()
        }
    };
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&approvals)?);
        return Ok(());
    }
    let rows = approvals
        .into_iter()
        .map(|one| {
            vec![
                one.id,
                one.state.to_string(),
                one.principal,
                or_dash(one.on_behalf_of),
                one.resource,
                one.operation,
                joined(&one.group),
                seconds(one.created),
                seconds(one.expires),
                or_dash(one.reason),
            ]
        })
        .collect();
    let head = [
        "id",
        "state",
        "principal",
        "on behalf of",
        "resource",
        "operation",
        "group",
        "created",
        "expires",
        "reason",
    ];
    print(&head, rows, "there are no approvals");
    Ok(())
}

/// An id goes into the path of a request.
fn checked(id: &str) -> anyhow::Result<&str> {
    let good = id.strip_prefix("apr_").is_some_and(|rest| {
        !rest.is_empty() && rest.len() <= 60 && rest.bytes().all(|b| b.is_ascii_alphanumeric())
    });
    if !good {
        bail!(
            "`{}` is no approval's id; see `gateway approvals list`",
            plain(id)
        );
    }
    Ok(id)
}

async fn show(source: Source, id: String, output: Output) -> anyhow::Result<()> {
    let id = checked(&id)?;
    let approval: ApprovalView = match source {
        Source::Running(client) => client.get(&format!("/api/v1/approvals/{id}")).await?,
        Source::Store(place) => {
            let store = OpenStore::open(&place).await?.approvals();
            let found = store.approval(id).await?;
            let mut approval = found
                .with_context(|| format!("there is no approval `{id}`"))?
                .approval;
            approval.state = approval.state_at(jiff::Timestamp::now());
            approval.into()
        }
    };
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&approval)?);
        return Ok(());
    }
    let people = match approval.approvers {
        0 | 1 => joined(&approval.group),
        several => format!("{} ({several} people of each)", joined(&approval.group)),
    };
    print_fields(&[
        ("id", approval.id.clone()),
        ("state", approval.state.to_string()),
        ("principal", approval.principal.clone()),
        ("kind", approval.kind.clone()),
        ("on behalf of", or_dash(approval.on_behalf_of.clone())),
        ("reason", or_dash(approval.reason.clone())),
        ("resource", approval.resource.clone()),
        ("operation", approval.operation.clone()),
        ("group", people),
        ("rules", joined(&approval.rules)),
        ("session", approval.session.clone()),
        ("created", seconds(approval.created)),
        ("expires", seconds(approval.expires)),
        ("used by", or_dash(approval.used_by.clone())),
        ("note", or_dash(approval.note.clone())),
    ]);
    print_texts(&approval);
    if approval.state == ApprovalState::Open {
        eprintln!("decide: gateway approvals approve {id}, or deny {id}; each takes --reason");
    }
    Ok(())
}

/// What it would do, line by line; each line is marked, so that no text can pass for one of ours.
fn print_texts(approval: &ApprovalView) {
    for asked in &approval.asked {
        println!("tries  {}", plain(asked));
    }
    if let Some(statement) = &approval.statement {
        println!("statement");
        print_lines(statement);
    }
    for (place, value) in approval.parameters.iter().enumerate() {
        match value {
            Some(value) => println!("  ${}  {}", place.saturating_add(1), plain(value)),
            None => println!("  ${}  NULL", place.saturating_add(1)),
        }
    }
    for (name, text) in &approval.stands_for {
        println!("in that session `{}` stands for", plain(name));
        print_lines(text);
    }
    for decision in &approval.decisions {
        let word = match decision.decision {
            Choice::Approve => "approved",
            Choice::Deny => "denied",
        };
        let reason = decision
            .reason
            .as_deref()
            .map(|reason| format!(": {}", plain(reason)));
        println!(
            "{word} by {} at {}{}",
            plain(&decision.by),
            seconds(decision.at),
            reason.unwrap_or_default()
        );
    }
}

fn print_lines(text: &str) {
    for line in text.split('\n') {
        println!("  | {}", plain(line));
    }
}

async fn decide(
    global: &Global,
    token: Option<Secret>,
    decision: Decide,
    choice: Choice,
) -> anyhow::Result<()> {
    let id = checked(&decision.id)?;
    if token.is_none() {
        bail!("an approver is always who a token says: set GATEWAY_TOKEN to a token of your own");
    }
    let Source::Running(client) = source(global, token).await? else {
        bail!("no gateway runs, so nothing can be decided");
    };
    let word = match choice {
        Choice::Approve => "approve",
        Choice::Deny => "deny",
    };
    let said = Said {
        reason: decision.reason,
    };
    let decided: ApprovalView = client
        .post(&format!("/api/v1/approvals/{id}/{word}"), &said)
        .await?;
    match decided.state {
        ApprovalState::Open => eprintln!("{id} has your approval; it needs others, too"),
        state => eprintln!("{id} is {state}"),
    }
    Ok(())
}
