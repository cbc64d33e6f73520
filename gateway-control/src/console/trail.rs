//! The audit trail, searched.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use gateway_core::audit::read::AuditRow;
use jiff::Timestamp;
use serde::Deserialize;

use super::card;
use super::gate::Signed;
use super::page::{self, Frame, When};
use super::text::{self, Text};
use crate::api::extract::Args;
use crate::api::{Api, Problem, sessions, trail};

/// Events on a page.
const LISTED: u32 = 100;
/// The kinds that can be looked for.
const KINDS: &[&str] = &[
    "",
    "operation",
    "session_started",
    "session_ended",
    "login_refused",
    "approval",
    "operator",
    "cancel",
    "started",
    "stopped",
    "reloaded",
];

/// An event.
pub(super) struct EventRow {
    pub(super) at: When,
    pub(super) kind: String,
    pub(super) session: Option<String>,
    pub(super) principal: Option<Text>,
    pub(super) on_behalf_of: Option<Text>,
    pub(super) resource: Option<Text>,
    pub(super) operation: Option<Text>,
    pub(super) statement: Option<Text>,
    pub(super) parameters: Vec<(String, Option<Text>)>,
    pub(super) verdict: Option<String>,
    pub(super) tone: &'static str,
    pub(super) rules: Option<Text>,
    pub(super) rows: String,
    pub(super) detail: Option<Text>,
    pub(super) error: Option<Text>,
}

/// How a verdict is marked.
pub(super) fn tone(verdict: &str) -> &'static str {
    match verdict {
        "allow" => "approved",
        "deny" => "denied",
        "hold" => "open",
        _ => "",
    }
}

impl EventRow {
    fn of(row: AuditRow) -> Self {
        // A statement that is its own summary is not said twice.
        let statement = row.statement.filter(|text| row.operation.as_ref() != Some(text));
        Self {
            at: page::at(row.at),
            kind: row.kind.replace('_', " "),
            session: row.session.map(|id| id.to_string()),
            principal: text::maybe(row.principal.as_deref()),
            on_behalf_of: text::maybe(row.on_behalf_of.as_deref()),
            resource: text::maybe(row.resource.as_deref()),
            operation: text::maybe(row.operation.as_deref()),
            statement: statement.as_deref().map(text::lines),
            parameters: card::parameters(&row.parameters),
            tone: row.verdict.as_deref().map_or("", tone),
            verdict: row.verdict,
            rules: (!row.rules.is_empty()).then(|| text::list(&row.rules)),
            rows: row.rows.map_or_else(String::new, |rows| rows.to_string()),
            detail: text::maybe(row.detail.as_deref()),
            error: text::maybe(row.error.as_deref()),
        }
    }

    /// On the page of its session.
    pub(super) fn of_session(row: AuditRow) -> Self {
        Self {
            session: None,
            principal: None,
            on_behalf_of: None,
            resource: None,
            ..Self::of(row)
        }
    }
}

/// What the form says. What is left empty is not asked for.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Asked {
    principal: String,
    resource: String,
    session: String,
    text: String,
    verdict: String,
    kind: String,
    since: String,
    until: String,
    cursor: String,
    /// The form was sent.
    search: String,
}

fn given(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// A moment as the form has it: without a zone it is in UTC.
fn moment(name: &str, text: &str) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = given(text) else {
        return Ok(None);
    };
    let read = text.parse().or_else(|_| format!("{text}Z").parse());
    read.map(Some)
        .map_err(|_| Problem::wrong(format!("`{name}` is a moment such as 2026-01-31T12:00")))
}

impl Asked {
    fn is_empty(&self) -> bool {
        self.pairs().iter().all(|(_, text)| text.trim().is_empty())
            && self.search.is_empty()
            && self.cursor.is_empty()
    }

    fn pairs(&self) -> [(&'static str, &str); 8] {
        [
            ("principal", &self.principal),
            ("resource", &self.resource),
            ("session", &self.session),
            ("text", &self.text),
            ("verdict", &self.verdict),
            ("kind", &self.kind),
            ("since", &self.since),
            ("until", &self.until),
        ]
    }

    /// The same question as the query of an address.
    fn query(&self) -> String {
        let pairs = self.pairs();
        let asked = pairs.iter().filter(|(_, text)| !text.trim().is_empty());
        asked
            .map(|(name, text)| format!("{name}={}&", escaped(text.trim())))
            .collect()
    }

    fn question(&self) -> Result<trail::Asked, Problem> {
        let session = given(&self.session);
        let session = session.map(|id| sessions::parse(&id)).transpose()?;
        Ok(trail::Asked {
            session,
            principal: given(&self.principal),
            resource: given(&self.resource),
            since: moment("since", &self.since)?,
            until: moment("until", &self.until)?,
            verdict: given(&self.verdict),
            kind: given(&self.kind),
            text: given(&self.text),
            limit: Some(LISTED),
            cursor: given(&self.cursor),
        })
    }
}

/// A text within a query (RFC 3986).
fn escaped(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    text.bytes()
        .map(|b| {
            if plain(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

#[derive(Template)]
#[template(path = "audit.html")]
struct Found {
    frame: Frame,
    asked: Asked,
    kinds: &'static [&'static str],
    events: Option<Vec<EventRow>>,
    next: Option<String>,
}

/// The form, and what was found.
pub(super) async fn search(
    State(api): State<Api>,
    signed: Signed,
    Args(asked): Args<Asked>,
) -> Result<Response, Problem> {
    let (mut events, mut next) = (None, None);
    if !asked.is_empty() {
        let query = asked.query();
        let what = format!("console {query}");
        let (rows, older) = trail::searched(&api, &signed.caller, what, asked.question()?).await?;
        events = Some(rows.into_iter().rev().map(EventRow::of).collect());
        next = older.map(|cursor| format!("/audit?{query}cursor={cursor}&search=yes"));
    }
    let page = Found {
        frame: Frame::of(&signed, "/audit", "Audit trail"),
        asked,
        kinds: KINDS,
        events,
        next,
    };
    Ok(page::show(StatusCode::OK, &page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_without_a_zone_is_in_utc() {
        let exact = Some("2026-01-31T12:00:00Z".parse().unwrap());
        for text in [
            "2026-01-31T12:00",
            "2026-01-31T12:00:00",
            "2026-01-31T13:00:00+01:00",
        ] {
            assert_eq!(moment("since", text).unwrap(), exact, "{text}");
        }
        assert_eq!(moment("since", " ").unwrap(), None);
        assert!(moment("since", "yesterday").is_err());
    }

    #[test]
    fn the_next_page_asks_the_same() {
        let asked = Asked {
            text: "a&b=c é".to_owned(),
            kind: "operation".to_owned(),
            ..Asked::default()
        };
        assert_eq!(asked.query(), "text=a%26b%3Dc%20%C3%A9&kind=operation&");
    }
}
