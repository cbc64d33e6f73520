//! `/api/v1/access/...`: access that is asked for and given for a time. It is decided where approvals are.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use gateway_core::operation::truncate;
use gateway_core::policy::NoOffer;
use serde::Deserialize;

use super::caller::Caller;
use super::extract::{Args, Body, Id};
use super::page::{limit, page, strange_cursor};
use super::{Api, Problem};
use crate::approvals::{AccessRequest, GrantView, NoAccess};

/// Which.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// What the caller has asked for or may decide, newest first.
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    Args(which): Args<Which>,
) -> Result<Response, Problem> {
    let limit = limit(which.limit)?;
    let strange = |id: &String| {
        !id.strip_prefix("apr_")
            .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_alphanumeric()))
    };
    if which.cursor.as_ref().is_some_and(strange) {
        return Err(strange_cursor());
    }
    let all = seen(&api, &caller).await?;
    // Ids grow with time.
    let items = all
        .into_iter()
        .filter(|one| which.cursor.as_ref().is_none_or(|cursor| one.id < *cursor))
        .take(limit.saturating_add(1))
        .collect();
    Ok(page(&uri, items, limit, |one: &GrantView| one.id.clone()))
}

/// What the caller has asked for or may decide, newest first.
pub(crate) async fn seen(api: &Api, caller: &Caller) -> Result<Vec<GrantView>, Problem> {
    Ok(api.0.parts.approvals.access(caller.person()).await?)
}

fn problem(id: &str, error: NoAccess) -> Problem {
    match &error {
        NoAccess::NoOffer(NoOffer::Nothing(_)) => Problem::forbidden(error.to_string()),
        NoAccess::NoOffer(_) | NoAccess::Unreadable(_) => Problem::wrong(error.to_string()),
        NoAccess::Absent(_) => {
            let mut shown = id.to_owned();
            truncate(&mut shown, 64);
            Problem::absent(format!("there is no access `{shown}` that you may see"))
        }
        NoAccess::Over(_) | NoAccess::Full => Problem::conflict(error.to_string()),
        NoAccess::Unavailable(_) => Problem::unavailable(error.to_string()),
    }
}

/// Asks for access.
pub(super) async fn request(
    State(api): State<Api>,
    caller: Caller,
    Body(request): Body<AccessRequest>,
) -> Result<Json<GrantView>, Problem> {
    let Some(who) = caller.person() else {
        return Err(Problem::unknown(
            "access is asked for by who a token says: set GATEWAY_TOKEN to a token of your own",
        ));
    };
    let absent =
        || Problem::forbidden(NoOffer::Nothing(format!("anything on `{}`", request.resource)).to_string());
    // Which resources there are is told to nobody who may not have them.
    let resource = api.gateway().resource(&request.resource).ok_or_else(absent)?;
    // What operates the gateway is given by policies alone.
    if !who.covers(&resource.name) || api.gateway().own_resource(&resource.name).is_some() {
        return Err(absent());
    }
    let asked = api
        .0
        .parts
        .approvals
        .ask_access(who, &resource, request.clone())
        .await;
    asked.map(Json).map_err(|error| {
        tracing::info!(subject = who.principal.subject, resource = resource.name, %error, "no access was asked for");
        problem("", error)
    })
}

/// Why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    reason: Option<String>,
}

/// Takes it back.
pub(super) async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    Args(why): Args<Why>,
) -> Result<Json<GrantView>, Problem> {
    end(&api, &caller, &id, why.reason).await.map(Json)
}

/// Takes it back, as the caller.
pub(crate) async fn end(
    api: &Api,
    caller: &Caller,
    id: &str,
    reason: Option<String>,
) -> Result<GrantView, Problem> {
    let mut reason = reason.unwrap_or_default();
    truncate(&mut reason, 500);
    let reason = Some(reason.trim()).filter(|reason| !reason.is_empty());
    let desk = &api.0.parts.approvals;
    let revoked = desk.revoke_access(caller.person(), id, reason).await;
    revoked.map_err(|error| problem(id, error))
}
