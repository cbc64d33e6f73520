//! `gateway sessions`.

use std::process::ExitCode;

use anyhow::{Context, bail};
use gateway_core::services::SessionFilter;
use gateway_core::session::{SessionId, SessionRecord};

use super::tables::{or_dash, plain, print, print_fields};
use super::{must_exist, operator_place};
use crate::cli::{Global, Output, SessionsCommand};
use crate::config::Config;
use crate::control::client::Client;
use crate::store::{OpenStore, Place, StoreKind};

/// Runs the command.
pub(super) async fn run(global: &Global, command: SessionsCommand) -> anyhow::Result<ExitCode> {
    let place = operator_place(global)?;
    must_exist(&place.data_dir)?;
    let running = Client::find(Config::socket(&place.data_dir)).await?;
    match command {
        SessionsCommand::List { live, limit, output } => {
            let filter = if live {
                SessionFilter::Live
            } else {
                SessionFilter::Recent
            };
            list(&place, running, filter, limit, output).await?;
        }
        SessionsCommand::Show { id, output } => show(&place, running, parse(&id)?, output).await?,
        SessionsCommand::Kill { id } => {
            let id = parse(&id)?;
            let Some(client) = running else {
                bail!(
                    "no gateway runs on the data directory `{}`: end a session where one runs",
                    place.data_dir.display()
                );
            };
            client.delete(&format!("/api/v1/sessions/{id}")).await?;
            eprintln!("session {id} is told to end");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn parse(id: &str) -> anyhow::Result<SessionId> {
    id.parse()
        .with_context(|| format!("`{}` is no session's id; see `gateway sessions list`", plain(id)))
}

async fn list(
    place: &Place,
    running: Option<Client>,
    filter: SessionFilter,
    limit: u32,
    output: Output,
) -> anyhow::Result<()> {
    let sessions: Vec<SessionRecord> = match running {
        Some(client) => {
            let word = match filter {
                SessionFilter::Live => "live",
                SessionFilter::Recent => "recent",
            };
            client
                .get(&format!("/api/v1/sessions?filter={word}&limit={limit}"))
                .await?
        }
        // What has no end in the store of one gateway was cut; the next start says so there.
        None if filter == SessionFilter::Live && matches!(place.store, StoreKind::Sqlite) => Vec::new(),
        None => {
            OpenStore::open(place)
                .await?
                .records()
                .sessions(filter, limit)
                .await?
        }
    };
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&sessions)?);
        return Ok(());
    }
    let shared = sessions.iter().any(|session| session.node.is_some());
    let rows = sessions
        .into_iter()
        .map(|session| {
            let mut row = vec![
                session.id.to_string(),
                session.principal.subject,
                session.resource,
                session.protocol,
                seconds(session.started),
                session.ended.map_or_else(|| "running".to_owned(), seconds),
                session.operations.to_string(),
                session.refused.to_string(),
                session.rows.to_string(),
                or_dash(session.reason),
            ];
            if shared {
                row.push(or_dash(session.node));
            }
            row
        })
        .collect();
    let mut head = vec![
        "id",
        "principal",
        "resource",
        "protocol",
        "started",
        "ended",
        "operations",
        "refused",
        "rows",
        "reason",
    ];
    if shared {
        head.push("gateway");
    }
    print(&head, rows, "there are no sessions");
    Ok(())
}

async fn show(place: &Place, running: Option<Client>, id: SessionId, output: Output) -> anyhow::Result<()> {
    let session: SessionRecord = match running {
        Some(client) => client.get(&format!("/api/v1/sessions/{id}")).await?,
        None => match OpenStore::open(place).await?.records().session(id).await? {
            Some(session) => session,
            None => bail!("there is no session `{id}`"),
        },
    };
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&session)?);
        return Ok(());
    }
    let groups: Vec<String> = session.principal.groups.into_iter().collect();
    print_fields(&[
        ("id", session.id.to_string()),
        ("principal", session.principal.subject),
        ("kind", session.principal.kind.to_string()),
        ("groups", super::tables::list(&groups)),
        ("on behalf of", or_dash(session.principal.on_behalf_of)),
        ("resource", session.resource),
        ("protocol", session.protocol),
        ("detail", or_dash(session.detail)),
        ("peer", session.peer.to_string()),
        ("started", session.started.to_string()),
        ("ended", or_dash(session.ended)),
        ("reason", or_dash(session.reason)),
        ("gateway", or_dash(session.node)),
        ("operations", session.operations.to_string()),
        ("refused", session.refused.to_string()),
        ("rows", session.rows.to_string()),
        ("bytes", session.bytes.to_string()),
    ]);
    eprintln!("what it did: gateway audit search --session {id}");
    Ok(())
}

/// A time without fractions.
pub(super) fn seconds(at: jiff::Timestamp) -> String {
    format!("{at:.0}")
}
