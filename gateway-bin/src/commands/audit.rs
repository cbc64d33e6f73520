//! `gateway audit`: on the host from the trail's files, whether a gateway writes them or not; a search elsewhere through
//! the API.

mod export;
mod key;
mod prove;

use std::borrow::Cow;
use std::process::ExitCode;

use anyhow::{Context, bail};
use gateway_core::audit::read::{Query, search};
use gateway_core::limits::duration;
use jiff::Timestamp;
use serde_json::Value;

use super::sessions::seconds;
use super::tables::{list as joined, or_dash, plain, print};
use super::way::{Way, way};
use crate::cli::{AuditCommand, AuditSearch, Global, Output};
use crate::config::Config;
use crate::control::client::encoded;

/// Longest text in a cell, in characters; `--output json` has all of it.
const CELL: usize = 120;

/// Runs the command.
pub(super) async fn run(global: &Global, command: AuditCommand) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::Search(what) => find(global, *what).await,
        AuditCommand::Verify {
            anchor,
            public_key,
            no_recordings,
            output,
        } => {
            let known = prove::Given {
                anchor: anchor.as_deref(),
                public_key: public_key.as_deref(),
            };
            prove::run(global, known, !no_recordings, output).await
        }
        AuditCommand::Export(what) => export::run(global, what).await,
        AuditCommand::Key { replace, output } => key::run(global, replace, output).await,
    }
}

async fn find(global: &Global, what: AuditSearch) -> anyhow::Result<ExitCode> {
    let now = Timestamp::now();
    let session = what
        .session
        .map(|id| {
            id.parse()
                .with_context(|| format!("`{}` is no session's id", plain(&id)))
        })
        .transpose()?;
    let query = Query {
        session,
        principal: what.principal,
        resource: what.resource,
        since: what.since.map(|text| time(&text, now)).transpose()?,
        until: what.until.map(|text| time(&text, now)).transpose()?,
        verdict: what.verdict,
        kind: what.kind,
        text: what.text,
        limit: Some(what.limit),
    };
    let rows = rows(way(global).await?, &query).await?;
    match what.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&rows)?),
        Output::Table => print_rows(&rows),
    }
    Ok(ExitCode::SUCCESS)
}

/// What a search finds: by the operator in the files, by anybody else through the API.
async fn rows(way: Way, query: &Query) -> anyhow::Result<Vec<Value>> {
    let data_dir = match way {
        Way::Running(client) => match client.data_dir() {
            Some(data_dir) => data_dir,
            None => {
                let limit = query.limit.unwrap_or(usize::MAX);
                return client.newest(&target(query), limit).await;
            }
        },
        Way::Data(place) => place.data_dir,
    };
    let dir = Config::audit_dir(&data_dir);
    let found = search(&dir, query)
        .with_context(|| format!("the audit trail in `{}` cannot be read", dir.display()))?;
    if found.unreadable > 0 {
        eprintln!(
            "warning: {} lines could not be read; run `gateway audit verify`",
            found.unreadable
        );
    }
    let rows = found.rows.iter().map(serde_json::to_value);
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The search as a request.
fn target(query: &Query) -> String {
    let mut target = "/api/v1/audit?".to_owned();
    let pairs = [
        ("session", query.session.map(|id| id.to_string())),
        ("principal", query.principal.clone()),
        ("resource", query.resource.clone()),
        ("since", query.since.map(|at| at.to_string())),
        ("until", query.until.map(|at| at.to_string())),
        ("verdict", query.verdict.clone()),
        ("kind", query.kind.clone()),
        ("text", query.text.clone()),
    ];
    for (name, value) in pairs {
        if let Some(value) = value {
            target.push_str(&format!("{name}={}&", encoded(&value)));
        }
    }
    target.pop();
    target
}

/// A table of events, for people.
pub(super) fn print_rows(rows: &[Value]) {
    let head = [
        "at",
        "kind",
        "verdict",
        "principal",
        "resource",
        "what",
        "rows",
        "rules",
    ];
    print(&head, rows.iter().map(row).collect(), "nothing was found");
}

/// A text of an event.
pub(super) fn text<'a>(row: &'a Value, name: &str) -> Option<&'a str> {
    row.get(name)?.as_str()
}

fn row(row: &Value) -> Vec<String> {
    let principal = match (text(row, "principal"), text(row, "on_behalf_of")) {
        (Some(subject), Some(other)) => format!("{subject} for {other}"),
        (subject, _) => or_dash(subject),
    };
    let rules: Vec<String> = row
        .get("rules")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|rule| Some(rule.as_str()?.to_owned()))
        .collect();
    let at = text(row, "at").and_then(|at| at.parse().ok());
    vec![
        or_dash(at.map(seconds)),
        or_dash(text(row, "kind")),
        or_dash(text(row, "verdict")),
        principal,
        or_dash(text(row, "resource")),
        or_dash(what(row).map(|text| cut(&text))),
        or_dash(row.get("rows")),
        joined(&rules),
    ]
}

/// What an event is about, in one text.
pub(super) fn what(row: &Value) -> Option<Cow<'_, str>> {
    // What became of which approval, before what it is for.
    if text(row, "kind") == Some("approval")
        && let (Some(detail), Some(operation)) = (text(row, "detail"), text(row, "operation"))
    {
        return Some(format!("{detail} ({operation})").into());
    }
    ["statement", "operation", "detail", "error"]
        .into_iter()
        .find_map(|name| text(row, name))
        .map(Cow::Borrowed)
}

/// Short enough for a table.
pub(super) fn cut(text: &str) -> String {
    let mut characters = text.chars();
    let mut start: String = characters.by_ref().take(CELL).collect();
    if characters.next().is_some() {
        start.push('…');
    }
    start
}

/// A time, the start of a day (UTC), or how long ago.
pub(crate) fn time(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    if let Ok(start_of_day) = format!("{text}T00:00:00Z").parse() {
        return Ok(start_of_day);
    }
    if let Ok(ago) = duration::parse(text)
        && let Ok(at) = now.checked_sub(ago)
    {
        return Ok(at);
    }
    bail!(
        "`{}` is no time; write one like 2026-03-01T10:00:00Z, a day like 2026-03-01, or how long ago, like 2h",
        plain(text)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_ago() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        for (text, at) in [
            ("2026-02-01T10:00:00+02:00", "2026-02-01T08:00:00Z"),
            ("2026-02-01", "2026-02-01T00:00:00Z"),
            ("2h", "2026-03-01T10:00:00Z"),
        ] {
            assert_eq!(time(text, now).unwrap(), at.parse().unwrap(), "{text}");
        }
        for bad in ["", "yesterday", "2026-13-01", "5"] {
            assert!(
                time(bad, now).unwrap_err().to_string().contains("how long ago"),
                "{bad}"
            );
        }
    }
}
