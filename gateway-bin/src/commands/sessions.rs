//! `gateway sessions`.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::{Context, bail};
use gateway_core::audit::read::{Query, search};
use gateway_core::services::SessionFilter;
use gateway_core::session::{SessionId, SessionRecord};
use serde::Serialize;
use serde_json::Value;

use super::audit::{text, what};
use super::replay;
use super::tables::{or_dash, plain, print, print_fields};
use super::way::{Way, way};
use crate::cli::{Global, Output, SessionsCommand};
use crate::config::Config;
use crate::control::client::{Client, Told, encoded};
use crate::store::{OpenStore, StoreKind};

/// Events of a transcript.
const TRANSCRIPT: usize = 1000;

/// Runs the command.
pub(super) async fn run(global: &Global, command: SessionsCommand) -> anyhow::Result<ExitCode> {
    let way = way(global).await?;
    match command {
        SessionsCommand::List { live, limit, output } => {
            let filter = if live {
                SessionFilter::Live
            } else {
                SessionFilter::Recent
            };
            list(way, filter, limit, output).await?;
        }
        SessionsCommand::Show { id, output } => show(way, parse(&id)?, output).await?,
        SessionsCommand::Replay { id, how } => return replay::run(way, parse(&id)?, how).await,
        SessionsCommand::Watch {
            id,
            recording,
            events,
            output,
        } => {
            let (client, id) = (running(way)?, parse(&id)?);
            let screen = match recording {
                Some(number) => Some(number),
                None if events || output == Output::Json || !std::io::stdout().is_terminal() => None,
                // Who may not see it may see what is decided all the same.
                None => replay::running(&client, id).await.unwrap_or_default(),
            };
            return match screen {
                Some(number) => replay::watch(&client, id, number).await,
                None => watch(&client, id, output).await,
            };
        }
        SessionsCommand::Kill { id, reason } => {
            let id = parse(&id)?;
            let mut target = format!("/api/v1/sessions/{id}");
            if let Some(reason) = reason {
                target.push_str(&format!("?reason={}", encoded(&reason)));
            }
            running(way)?.delete(&target).await?;
            eprintln!("session {id} is told to end");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn running(way: Way) -> anyhow::Result<Client> {
    match way {
        Way::Running(client) => Ok(client),
        Way::Data(place) => bail!(
            "no gateway runs on the data directory `{}`, so no session does",
            place.data_dir.display()
        ),
    }
}

fn parse(id: &str) -> anyhow::Result<SessionId> {
    id.parse()
        .with_context(|| format!("`{}` is no session's id; see `gateway sessions list`", plain(id)))
}

async fn list(way: Way, filter: SessionFilter, limit: u32, output: Output) -> anyhow::Result<()> {
    let sessions: Vec<SessionRecord> = match way {
        Way::Running(client) => {
            let word = match filter {
                SessionFilter::Live => "live",
                SessionFilter::Recent => "recent",
            };
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            client
                .list(&format!("/api/v1/sessions?filter={word}"), limit)
                .await?
        }
        // What has no end in the store of one gateway was cut; the next start says so there.
        Way::Data(place) if filter == SessionFilter::Live && matches!(place.store, StoreKind::Sqlite) => {
            Vec::new()
        }
        Way::Data(place) => {
            OpenStore::open(&place)
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

/// A session, and what was tried in it where one may see that.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    session: &'a SessionRecord,
    #[serde(skip_serializing_if = "Option::is_none")]
    transcript: Option<Vec<Value>>,
}

async fn show(way: Way, id: SessionId, output: Output) -> anyhow::Result<()> {
    let (session, transcript) = match way {
        Way::Running(client) => {
            let session: SessionRecord = client.get(&format!("/api/v1/sessions/{id}")).await?;
            let target = format!("/api/v1/sessions/{id}/transcript");
            let transcript = match client.newest(&target, TRANSCRIPT).await {
                Ok(rows) => Some(rows),
                Err(error) if error.downcast_ref::<Told>().is_some_and(|told| told.0 == 403) => {
                    eprintln!("what was tried in it is not for you: {error}");
                    None
                }
                Err(error) => return Err(error),
            };
            (session, transcript)
        }
        Way::Data(place) => match OpenStore::open(&place).await?.records().session(id).await? {
            Some(session) => {
                let query = Query {
                    session: Some(id),
                    limit: Some(TRANSCRIPT),
                    ..Query::default()
                };
                let found = search(&Config::audit_dir(&place.data_dir), &query)?;
                let rows = found.rows.iter().map(serde_json::to_value);
                (session, Some(rows.collect::<Result<_, _>>()?))
            }
            None => bail!("there is no session `{id}`"),
        },
    };
    if output == Output::Json {
        let shown = Shown {
            session: &session,
            transcript,
        };
        println!("{}", serde_json::to_string_pretty(&shown)?);
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
    if let Some(rows) = transcript {
        println!();
        for row in &rows {
            println!("{}", line(text(row, "kind").unwrap_or_default(), row));
        }
        if rows.len() >= TRANSCRIPT {
            eprintln!(
                "these are its last {TRANSCRIPT} events; all: gateway audit search --session {id} --limit N"
            );
        }
    }
    Ok(())
}

async fn watch(client: &Client, id: SessionId, output: Output) -> anyhow::Result<ExitCode> {
    let mut end = None;
    let take = |name: &str, data: Value| {
        match (output, name) {
            (Output::Json, _) => println!("{}", serde_json::json!({ "event": name, "data": data })),
            (Output::Table, "session") => println!(
                "{} on {}, since {}",
                plain(
                    data.pointer("/principal/subject")
                        .and_then(Value::as_str)
                        .unwrap_or("-")
                ),
                plain(text(&data, "resource").unwrap_or("-")),
                plain(text(&data, "started").unwrap_or("-"))
            ),
            (Output::Table, "end") => {}
            (Output::Table, _) => println!("{}", line(name, &data)),
        }
        if name == "end" {
            end = Some((
                text(&data, "code").unwrap_or_default().to_owned(),
                text(&data, "detail").unwrap_or_default().to_owned(),
            ));
        }
        Ok(())
    };
    client
        .events(&format!("/api/v1/sessions/{id}/events"), take)
        .await?;
    match end {
        Some((code, _)) if code == "ended" => Ok(ExitCode::SUCCESS),
        Some((_, detail)) => bail!("{}", plain(&detail)),
        None => bail!("the stream is cut"),
    }
}

/// An event in one line. What clients sent moves no cursor.
fn line(kind: &str, row: &Value) -> String {
    let at = text(row, "at").and_then(|at| at.parse().ok()).map(seconds);
    let number = |name: &str| row.get(name).and_then(Value::as_u64);
    let ticket = number("ticket").map_or_else(String::new, |ticket| format!("#{ticket} "));
    let word = match (kind, text(row, "verdict")) {
        ("operation", Some(verdict)) => verdict,
        _ => kind,
    };
    let mut parts = vec![format!("{}  {ticket}{}", or_dash(at), plain(word))];
    if let Some(what) = what(row) {
        parts.push(plain(&what));
    }
    if let (Some(rows), Some(micros)) = (number("rows"), number("micros")) {
        parts.push(format!("{rows} rows, {}.{:03} ms", micros / 1000, micros % 1000));
    }
    let rules = row.get("rules").and_then(Value::as_array);
    let rules: Vec<&str> = rules.into_iter().flatten().filter_map(Value::as_str).collect();
    if kind == "operation" && !rules.is_empty() {
        parts.push(format!("[{}]", plain(&rules.join(", "))));
    }
    parts.join("  ")
}

/// A time without fractions.
pub(super) fn seconds(at: jiff::Timestamp) -> String {
    format!("{at:.0}")
}
