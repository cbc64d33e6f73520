//! `gateway leases`: the credentials that sessions have at targets.

use std::process::ExitCode;

use gateway_core::credentials::LeaseRecord;

use super::sessions::seconds;
use super::tables::{or_dash, print};
use super::way::{Way, way};
use crate::cli::{Global, LeasesCommand, Output};
use crate::store::OpenStore;

/// Runs the command.
pub(super) async fn run(global: &Global, command: LeasesCommand) -> anyhow::Result<ExitCode> {
    let LeasesCommand::List { limit, output } = command;
    let leases: Vec<LeaseRecord> = match way(global).await? {
        Way::Running(client) => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            client.list("/api/v1/leases", limit).await?
        }
        Way::Data(place) => {
            OpenStore::open(&place)
                .await?
                .leases()
                .leases(limit.min(1000))
                .await?
        }
    };
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&leases)?);
        return Ok(ExitCode::SUCCESS);
    }
    let rows = leases
        .into_iter()
        .map(|one| {
            vec![
                one.id,
                one.state.as_str().to_owned(),
                one.kind,
                one.resource,
                or_dash(one.place),
                one.subject,
                one.session.to_string(),
                seconds(one.expires),
                one.attempts.to_string(),
                or_dash(one.error),
            ]
        })
        .collect();
    let head = [
        "id",
        "state",
        "kind",
        "resource",
        "place",
        "principal",
        "session",
        "expires",
        "attempts",
        "error",
    ];
    print(&head, rows, "no session has a credential of its own");
    Ok(ExitCode::SUCCESS)
}
