//! `/api/v1/audit` and `/api/v1/sessions/{id}/transcript`: the audit trail, as far as one may search it.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use gateway_core::audit::read::{AuditRow, Query, search_with};
use gateway_core::operation::truncate;
use gateway_core::own::GATEWAY;
use gateway_core::session::{SessionId, SessionRecord};
use jiff::Timestamp;
use serde::Deserialize;

use super::caller::Caller;
use super::extract::{Args, Id};
use super::page::{answer, limit, strange_cursor};
use super::{Api, Problem, sessions};
use crate::asked::SEARCH;

/// Longest statement of an event, and longest of its other texts, in bytes; the trail has all of it.
const STATEMENT: usize = 16 * 1024;
const TEXT: usize = 1024;
/// Parameters of an event that are shown.
const PARAMETERS: usize = 32;
/// Bytes of texts in one answer; what is older comes with the next page.
const ANSWER: usize = 8 << 20;

/// What to look for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    pub(crate) session: Option<SessionId>,
    pub(crate) principal: Option<String>,
    pub(crate) resource: Option<String>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) verdict: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) limit: Option<u32>,
    pub(crate) cursor: Option<String>,
}

/// Rows, newest last, and where the next page begins.
pub(crate) type Rows = (Vec<AuditRow>, Option<String>);

/// The newest events that the caller may see, newest last; the next page has older ones.
pub(super) async fn search(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    Args(asked): Args<Asked>,
) -> Result<Response, Problem> {
    let what = format!("{}?{}", uri.path(), uri.query().unwrap_or_default());
    let (rows, next) = searched(&api, &caller, what, asked).await?;
    Ok(answer(&uri, &rows, next))
}

/// What the caller may see of what it asks for; `what` tells the trail of it.
pub(crate) async fn searched(
    api: &Api,
    caller: &Caller,
    what: String,
    asked: Asked,
) -> Result<Rows, Problem> {
    api.note(caller, "audit search", what, None).await?;
    find(api, caller, asked).await
}

/// Which part of a transcript.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// What was tried in a session, and what became of it.
pub(super) async fn transcript(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    Id(id): Id,
    Args(part): Args<Part>,
) -> Result<Response, Problem> {
    let record = api.visible(&caller, sessions::parse(&id)?).await?;
    let (rows, next) = told(&api, &caller, &record, part.limit, part.cursor).await?;
    Ok(answer(&uri, &rows, next))
}

/// What was tried in a session that the caller may see.
pub(crate) async fn told(
    api: &Api,
    caller: &Caller,
    record: &SessionRecord,
    limit: Option<u32>,
    cursor: Option<String>,
) -> Result<Rows, Problem> {
    api.demand(caller, SEARCH, &record.resource, None)?;
    api.note(caller, "session transcript", record.id.to_string(), None)
        .await?;
    let asked = Asked {
        session: Some(record.id),
        limit,
        cursor,
        ..Asked::default()
    };
    find(api, caller, asked).await
}

async fn find(api: &Api, caller: &Caller, asked: Asked) -> Result<Rows, Problem> {
    let limit = limit(asked.limit)?;
    let before: u64 = match asked.cursor {
        Some(text) => text.parse().map_err(|_| strange_cursor())?,
        None => u64::MAX,
    };
    if asked
        .verdict
        .as_deref()
        .is_some_and(|word| !["allow", "deny", "hold"].contains(&word))
    {
        return Err(Problem::wrong("`verdict` is allow, deny or hold"));
    }
    let query = Query {
        session: asked.session,
        principal: asked.principal,
        resource: asked.resource,
        since: asked.since,
        until: asked.until,
        verdict: asked.verdict,
        kind: asked.kind,
        text: asked.text,
        // One more tells whether there is more.
        limit: Some(limit.saturating_add(1)),
    };
    if !api.may_anywhere(caller, &SEARCH) {
        return Ok((Vec::new(), None));
    }
    let busy = || Problem::too_many("other searches of yours run; wait for them", 1);
    let searching = api.0.brakes.search(caller.name()).ok_or_else(busy)?;
    // Searches read the whole trail: few at a time. The permit lasts as long as the search, also where nobody waits.
    let permit = api.0.searches.clone().acquire_owned().await;
    let permit = permit.map_err(|_| Problem::unavailable("the gateway stops"))?;
    let (api, caller) = (api.clone(), caller.clone());
    let found = tokio::task::spawn_blocking(move || {
        let _running = (permit, searching);
        let mut sight = super::authority::Sight::new(&api, &caller, SEARCH);
        let mut keep = |row: &mut AuditRow| {
            if row.seq >= before || !sight.of(row.resource.as_deref().unwrap_or(GATEWAY)) {
                return false;
            }
            cut(row);
            true
        };
        search_with(&api.0.parts.audit_dir, &query, &mut keep)
    });
    let mut rows = match found.await {
        Ok(Ok(found)) => found.rows,
        Ok(Err(error)) => {
            tracing::error!(%error, "the audit trail can't be searched");
            return Err(Problem::unavailable(
                "the audit trail can't be read; the gateway's log says why",
            ));
        }
        Err(error) => {
            tracing::error!(%error, "a search of the audit trail broke");
            return Err(Problem::unavailable(
                "the search broke; the gateway's log says why",
            ));
        }
    };
    let mut more = rows.len() > limit;
    // From the newest back, as many as fit.
    let (mut bytes, mut fit) = (0_usize, 0_usize);
    for row in rows.iter().rev().take(limit) {
        bytes = bytes.saturating_add(size(row));
        if bytes > ANSWER && fit > 0 {
            more = true;
            break;
        }
        fit = fit.saturating_add(1);
    }
    let rows = rows.split_off(rows.len().saturating_sub(fit));
    let next = rows.first().filter(|_| more).map(|row| row.seq.to_string());
    Ok((rows, next))
}

fn cut(row: &mut AuditRow) {
    row.parameters.truncate(PARAMETERS);
    if let Some(statement) = &mut row.statement {
        truncate(statement, STATEMENT);
        statement.shrink_to_fit();
    }
    let texts = [&mut row.operation, &mut row.detail, &mut row.error];
    for text in texts.into_iter().chain(row.parameters.iter_mut()).flatten() {
        truncate(text, TEXT);
        text.shrink_to_fit();
    }
}

fn size(row: &AuditRow) -> usize {
    let texts = [&row.statement, &row.operation, &row.detail, &row.error];
    let bytes: usize = texts
        .into_iter()
        .chain(&row.parameters)
        .flatten()
        .map(String::len)
        .sum();
    bytes.saturating_add(200)
}
