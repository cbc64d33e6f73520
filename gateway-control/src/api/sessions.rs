//! `/api/v1/sessions/...`: who is connected to what.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use gateway_core::machine::Kill;
use gateway_core::services::SessionFilter;
use gateway_core::session::{SessionId, SessionRecord};
use serde::Deserialize;

use super::authority::Sight;
use super::caller::Caller;
use super::extract::{Args, Id};
use super::page::{limit, page, strange_cursor};
use super::{Api, Problem};
use crate::asked::{KILL, VIEW};

/// The newest sessions of the store that are looked at; the audit trail has all.
const LOOKED_AT: u32 = 10_000;
/// Of these, at first: most pages are found there.
const FIRST_LOOK: u32 = 1_000;

/// Which sessions to list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    filter: Option<SessionFilter>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Running sessions with today's counts; ended ones, and others' where several gateways share a store, from there.
/// Newest first.
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    Args(which): Args<Which>,
) -> Result<Response, Problem> {
    let limit = limit(which.limit)?;
    let before: Option<SessionId> = which
        .cursor
        .map(|text| text.parse().map_err(|_| strange_cursor()))
        .transpose()?;
    let filter = which.filter.unwrap_or(SessionFilter::Recent);
    let items = seen(&api, &caller, filter, before, limit.saturating_add(1)).await?;
    Ok(page(&uri, items, limit, |record| record.id.to_string()))
}

/// The newest `wanted` that the caller may see, older than `before`.
pub(crate) async fn seen(
    api: &Api,
    caller: &Caller,
    filter: SessionFilter,
    before: Option<SessionId>,
    wanted: usize,
) -> Result<Vec<SessionRecord>, Problem> {
    let mut items: Vec<SessionRecord> = Vec::new();
    let mut sight = Sight::new(api, caller, VIEW);
    let looks = if api.may_anywhere(caller, &VIEW) {
        [FIRST_LOOK, LOOKED_AT].as_slice()
    } else {
        &[]
    };
    for look in looks {
        let stored = api.gateway().store().sessions(filter, *look).await?;
        let all_there_are = u32::try_from(stored.len()).is_ok_and(|found| found < *look);
        let mut all: BTreeMap<SessionId, SessionRecord> =
            stored.into_iter().map(|one| (one.id, one)).collect();
        for live in api.gateway().live().list() {
            let node = all.get(&live.id).and_then(|stored| stored.node.clone());
            all.insert(live.id, SessionRecord { node, ..live });
        }
        items = all
            .into_values()
            .rev()
            .filter(|record| before.is_none_or(|before| record.id < before))
            .filter(|record| sight.of(&record.resource))
            .take(wanted)
            .collect();
        if items.len() >= wanted || all_there_are {
            break;
        }
    }
    Ok(items)
}

/// The id of a path.
pub(crate) fn parse(id: &str) -> Result<SessionId, Problem> {
    id.parse().map_err(|_| Problem::wrong("a session's id is a UUID"))
}

/// The one answer, whether there is no such session or it may not be seen.
pub(super) fn absent(id: SessionId) -> Problem {
    Problem::absent(format!("there is no session `{id}` that you may see"))
}

impl Api {
    /// A session that the caller may see.
    pub(crate) async fn visible(&self, caller: &Caller, id: SessionId) -> Result<SessionRecord, Problem> {
        let found = match self.gateway().live().session(id) {
            Some(live) => Some(live),
            None => self.gateway().store().session(id).await?,
        };
        found
            .filter(|record| self.may(caller, VIEW, &record.resource))
            .ok_or_else(|| absent(id))
    }
}

pub(super) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<SessionRecord>, Problem> {
    api.visible(&caller, parse(&id)?).await.map(Json)
}

/// Why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    reason: Option<String>,
}

/// Ends a session: first the trail, then the deed.
pub(super) async fn kill(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    Args(why): Args<Why>,
) -> Result<StatusCode, Problem> {
    end(&api, &caller, &id, why.reason.as_deref())
        .await
        .map(|()| StatusCode::NO_CONTENT)
}

/// Ends the session of that id, as the caller.
pub(crate) async fn end(api: &Api, caller: &Caller, id: &str, reason: Option<&str>) -> Result<(), Problem> {
    let id = parse(id)?;
    let over = || Problem::absent(format!("no session `{id}` runs that you may see"));
    let record = api.gateway().running_session(id).await?.ok_or_else(over)?;
    if !api.may(caller, VIEW, &record.resource) {
        return Err(over());
    }
    api.demand(caller, KILL, &record.resource, reason)?;
    let subject = format!("{id} of {} on {}", record.principal.subject, record.resource);
    api.note(caller, "session kill", subject, reason).await?;
    let kill = Kill {
        by: Some(caller.name().to_owned()),
        reason: reason.map(str::to_owned),
    };
    if api.gateway().kill_session(id, kill).await? {
        Ok(())
    } else {
        Err(over())
    }
}
