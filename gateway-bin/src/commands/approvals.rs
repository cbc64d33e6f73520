//! `gateway approvals`: who decides is who a token says, or the stored login; without one the operator on the host looks.

use std::process::ExitCode;

use anyhow::{Context, bail};
use gateway_control::api::Said;
use gateway_control::approvals::ApprovalView;
use gateway_core::approval::{ApprovalState, Choice};
use gateway_core::verdict::Hold;

use super::sessions::seconds;
use super::tables::{list as joined, or_dash, plain, print, print_fields};
use super::way::{Way, person, way};
use crate::cli::{ApprovalsCommand, Decide, Global, Output};
use crate::store::OpenStore;

/// Runs the command.
pub(super) async fn run(global: &Global, command: ApprovalsCommand) -> anyhow::Result<ExitCode> {
    match command {
        ApprovalsCommand::List { limit, output } => list(way(global).await?, limit, output).await?,
        ApprovalsCommand::Show { id, output } => show(way(global).await?, id, output).await?,
        ApprovalsCommand::Approve(decision) => decide(global, decision, Choice::Approve).await?,
        ApprovalsCommand::Deny(decision) => decide(global, decision, Choice::Deny).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(way: Way, limit: u32, output: Output) -> anyhow::Result<()> {
    let approvals: Vec<ApprovalView> = match way {
        Way::Running(client) => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            client.list("/api/v1/approvals", limit).await?
        }
        Way::Data(place) => {
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
pub(super) fn checked(id: &str) -> anyhow::Result<&str> {
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

async fn show(way: Way, id: String, output: Output) -> anyhow::Result<()> {
    let id = checked(&id)?;
    let approval: ApprovalView = match way {
        Way::Running(client) => client.get(&format!("/api/v1/approvals/{id}")).await?,
        Way::Data(place) => {
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
        (
            "rows",
            or_dash(
                approval
                    .estimate
                    .map(|rows| format!("about {rows}, as the target guesses")),
            ),
        ),
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

/// One thing that it tries, or that comes back masked.
fn asked_line(asked: &str) -> String {
    match asked.split_once(' ') {
        Some((Hold::MASKED, tag)) => format!(
            "masked  {}: the requester is shown it masked; approving does not change that",
            plain(tag)
        ),
        _ => format!("tries  {}", plain(asked)),
    }
}

/// What it would do, line by line; each line is marked, so that no text can pass for one of ours.
fn print_texts(approval: &ApprovalView) {
    for asked in &approval.asked {
        println!("{}", asked_line(asked));
    }
    if let Some(statement) = &approval.statement {
        println!("statement");
        print_lines(statement);
    }
    for (place, value) in approval.parameters.iter().enumerate() {
        match value {
            Some(value) => println!("  ${}  {}", place.saturating_add(1), plain(&quoted(value))),
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

/// In quotes, with what is in it spelt so that it can be nothing else: NULL is not `"NULL"`.
fn quoted(value: &str) -> String {
    // Strings always encode.
    serde_json::to_string(value).unwrap_or_default()
}

fn print_lines(text: &str) {
    for line in text.split('\n') {
        println!("  | {}", plain(line));
    }
}

async fn decide(global: &Global, decision: Decide, choice: Choice) -> anyhow::Result<()> {
    let id = checked(&decision.id)?;
    let client = person(global).await?.context(
        "an approver is always who a token says: set GATEWAY_TOKEN to a token of your own, or `gateway login --token`",
    )?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_masked_is_not_told_as_something_that_is_tried() {
        assert_eq!(asked_line("exec Resource web-1"), "tries  exec Resource web-1");
        let masked = asked_line("mask Tag pii.found");
        assert!(
            masked.starts_with("masked  Tag pii.found: ") && !masked.contains("tries"),
            "{masked}"
        );
        // Only the first word counts: names of objects can be chosen by clients.
        assert!(asked_line("sftp-read Path web-1/x mask Tag pii").starts_with("tries  sftp-read "));
    }
}
