//! Who is connected to what, what they try, and the end of it.

use askama::Template;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use gateway_core::services::SessionFilter;
use gateway_core::session::SessionRecord;
use jiff::Timestamp;
use serde::Deserialize;

use super::Console;
use super::gate::{Sent, Signed};
use super::page::{self, Frame, When};
use super::recordings::{Item, listed};
use super::text::{self, Text};
use super::trail::EventRow;
use crate::api::extract::{Args, Id};
use crate::api::page::strange_cursor;
use crate::api::{Api, Problem, sessions, stream, trail};
use crate::asked::{SEARCH, WATCH};

/// Sessions on a page.
const LISTED: usize = 100;
/// Events of a transcript on a page.
const EVENTS: u32 = 200;

/// A session.
struct Row {
    id: String,
    running: bool,
    principal: Text,
    on_behalf_of: Option<Text>,
    resource: Text,
    protocol: Text,
    detail: Option<Text>,
    peer: String,
    started: When,
    ended: Option<When>,
    reason: Option<Text>,
    operations: u64,
    refused: u64,
    rows: u64,
    bytes: u64,
    node: Option<Text>,
}

impl Row {
    fn of(record: SessionRecord, now: Timestamp) -> Self {
        Self {
            id: record.id.to_string(),
            running: record.ended.is_none(),
            principal: text::line(&record.principal.subject),
            on_behalf_of: text::maybe(record.principal.on_behalf_of.as_deref()),
            resource: text::line(&record.resource),
            protocol: text::line(&record.protocol),
            detail: text::maybe(record.detail.as_deref()),
            peer: record.peer.to_string(),
            started: page::when(record.started, now),
            ended: record.ended.map(|ended| page::when(ended, now)),
            reason: text::maybe(record.reason.as_deref()),
            operations: record.operations,
            refused: record.refused,
            rows: record.rows,
            bytes: record.bytes,
            node: text::maybe(record.node.as_deref()),
        }
    }
}

#[derive(Template)]
#[template(path = "sessions.html")]
struct List {
    frame: Frame,
    live: bool,
    rows: Vec<Row>,
    next: Option<String>,
}

/// Which sessions.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    filter: Option<SessionFilter>,
    cursor: Option<String>,
}

/// Those that run, or the newest.
pub(super) async fn list(
    State(api): State<Api>,
    signed: Signed,
    Args(which): Args<Which>,
) -> Result<Response, Problem> {
    let filter = which.filter.unwrap_or(SessionFilter::Live);
    let before = which
        .cursor
        .map(|text| text.parse().map_err(|_| strange_cursor()));
    let before = before.transpose()?;
    let wanted = LISTED.saturating_add(1);
    let mut found = sessions::seen(&api, &signed.caller, filter, before, wanted).await?;
    let more = found.len() > LISTED;
    found.truncate(LISTED);
    let word = match filter {
        SessionFilter::Live => "live",
        SessionFilter::Recent => "recent",
    };
    let last = found.last().filter(|_| more);
    let next = last.map(|last| format!("/sessions?filter={word}&cursor={}", last.id));
    let now = Timestamp::now();
    let page = List {
        frame: Frame::of(&signed, "/sessions", "Sessions"),
        live: filter == SessionFilter::Live,
        rows: found.into_iter().map(|record| Row::of(record, now)).collect(),
        next,
    };
    Ok(page::show(StatusCode::OK, &page))
}

#[derive(Template)]
#[template(path = "session.html")]
struct One {
    frame: Frame,
    row: Row,
    /// What was tried; none for who may not search the trail.
    events: Option<Vec<EventRow>>,
    no_events: Vec<EventRow>,
    older: Option<String>,
    /// The reader may see it as it happens.
    watched: bool,
    /// What of it is recorded, for who may see that.
    recordings: Vec<Item>,
}

/// Which part of a transcript.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    cursor: Option<String>,
}

/// One session, with its transcript for those who may search the trail.
pub(super) async fn show(
    State(api): State<Api>,
    signed: Signed,
    Id(id): Id,
    Args(part): Args<Part>,
) -> Result<Response, Problem> {
    let caller = &signed.caller;
    let record = api.visible(caller, sessions::parse(&id)?).await?;
    let newest = part.cursor.is_none();
    let (mut events, mut older) = (None, None);
    if api.may(caller, SEARCH, &record.resource) {
        let (rows, next) = trail::told(&api, caller, &record, Some(EVENTS), part.cursor).await?;
        older = next.map(|next| format!("/sessions/{}?cursor={next}", record.id));
        events = Some(rows.into_iter().map(EventRow::of_session).collect());
    }
    let here = api.gateway().live().session(record.id).is_some();
    let mut recordings = Vec::new();
    if newest && api.may(caller, WATCH, &record.resource) {
        recordings = listed(&api, record.id).await?;
    }
    let page = One {
        frame: Frame::of(&signed, "/sessions", "Session"),
        watched: newest && here && api.may(caller, WATCH, &record.resource),
        row: Row::of(record, Timestamp::now()),
        events,
        no_events: Vec::new(),
        older,
        recordings,
    };
    Ok(page::show(StatusCode::OK, &page))
}

/// A session as it happens.
pub(super) async fn events(
    api: State<Api>,
    Extension(console): Extension<Console>,
    signed: Signed,
    id: Id,
) -> Result<Response, Problem> {
    let response = stream::session(api, signed.caller.clone(), id).await?;
    Ok(super::live::seated(response, console, signed.seat.key))
}

#[derive(Template)]
#[template(path = "kill.html")]
struct Confirm {
    frame: Frame,
    row: Row,
}

/// Asks before a session is ended.
pub(super) async fn confirm(State(api): State<Api>, signed: Signed, Id(id): Id) -> Result<Response, Problem> {
    let record = api.visible(&signed.caller, sessions::parse(&id)?).await?;
    let page = Confirm {
        frame: Frame::of(&signed, "/sessions", "End a session"),
        row: Row::of(record, Timestamp::now()),
    };
    Ok(page::show(StatusCode::OK, &page))
}

/// Why.
#[derive(Deserialize)]
pub(super) struct Why {
    #[serde(default)]
    reason: String,
}

/// Ends it.
pub(super) async fn kill(
    State(api): State<Api>,
    signed: Signed,
    Id(id): Id,
    Sent(why): Sent<Why>,
) -> Result<Response, Problem> {
    let reason = Some(why.reason.trim()).filter(|reason| !reason.is_empty());
    sessions::end(&api, &signed.caller, &id, reason).await?;
    Ok(page::see("/sessions"))
}
