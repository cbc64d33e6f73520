//! `gateway audit`: reads the trail's files, whether a gateway writes them or not.

mod export;
mod key;
mod prove;

use std::process::ExitCode;

use anyhow::{Context, bail};
use gateway_core::audit::read::{AuditRow, Query, search};
use gateway_core::limits::duration;
use jiff::Timestamp;

use super::sessions::seconds;
use super::tables::{list as joined, or_dash, plain, print};
use super::{must_exist, operator_on};
use crate::cli::{AuditCommand, AuditSearch, Global, Output};
use crate::config::Config;

/// Longest text in a cell, in characters; `--output json` has all of it.
const CELL: usize = 120;

/// Runs the command.
pub(super) async fn run(global: &Global, command: AuditCommand) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::Search(what) => find(global, *what),
        AuditCommand::Verify {
            anchor,
            public_key,
            output,
        } => prove::run(global, anchor.as_deref(), public_key.as_deref(), output),
        AuditCommand::Export(what) => export::run(global, what).await,
        AuditCommand::Key { replace, output } => key::run(global, replace, output).await,
    }
}

fn find(global: &Global, what: AuditSearch) -> anyhow::Result<ExitCode> {
    let data_dir = operator_on(global)?;
    must_exist(&data_dir)?;
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
    let dir = Config::audit_dir(&data_dir);
    let found = search(&dir, &query)
        .with_context(|| format!("the audit trail in `{}` cannot be read", dir.display()))?;
    if found.unreadable > 0 {
        eprintln!(
            "warning: {} lines could not be read; run `gateway audit verify`",
            found.unreadable
        );
    }
    match what.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&found.rows)?),
        Output::Table => {
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
            let rows = found.rows.into_iter().map(row).collect();
            print(&head, rows, "nothing was found");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(row: AuditRow) -> Vec<String> {
    let principal = match (row.principal, row.on_behalf_of) {
        (Some(subject), Some(other)) => format!("{subject} for {other}"),
        (subject, _) => or_dash(subject),
    };
    let what = row.statement.or(row.operation).or(row.detail).or(row.error);
    vec![
        seconds(row.at),
        row.kind.to_owned(),
        or_dash(row.verdict),
        principal,
        or_dash(row.resource),
        or_dash(what.map(|text| cut(&text))),
        or_dash(row.rows),
        joined(&row.rules),
    ]
}

fn cut(text: &str) -> String {
    let mut characters = text.chars();
    let mut start: String = characters.by_ref().take(CELL).collect();
    if characters.next().is_some() {
        start.push('…');
    }
    start
}

/// A time, the start of a day (UTC), or how long ago.
fn time(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
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
