//! `/api/v1/notify/...`: what receivers have not been told yet.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use gateway_core::operation::truncate;
use gateway_core::own::GATEWAY;
use serde::Deserialize;

use super::caller::Caller;
use super::extract::{Args, Id};
use super::page::{MOST, behind, limit, page, strange_cursor};
use super::{Api, Problem};
use crate::asked::ADMINISTER;
use crate::notify::MessageView;

/// Which.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    limit: Option<u32>,
    cursor: Option<String>,
}

fn is_id(id: &str) -> bool {
    id.strip_prefix("msg_")
        .is_some_and(|rest| rest.len() <= 60 && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Messages that are not delivered, the dead first, then the newest; none of what they say.
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    Args(which): Args<Which>,
) -> Result<Response, Problem> {
    api.demand(&caller, ADMINISTER, GATEWAY, None)?;
    let limit = limit(which.limit)?;
    if which.cursor.as_ref().is_some_and(|id| !is_id(id)) {
        return Err(strange_cursor());
    }
    let all = api.0.parts.notifier.list(MOST).await?;
    let all = behind(all, limit, which.cursor.as_deref(), |one, id| one.id == id);
    Ok(page(&uri, all, limit, |one: &MessageView| one.id.clone()))
}

/// Has one sent again, at once.
pub(super) async fn retry(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<MessageView>, Problem> {
    api.demand(&caller, ADMINISTER, GATEWAY, None)?;
    let absent = || {
        let mut shown = id.clone();
        truncate(&mut shown, 64);
        Problem::absent(format!("there is no message `{shown}` that is not delivered"))
    };
    if !is_id(&id) {
        return Err(absent());
    }
    api.note(&caller, "notify retry", id.clone(), None).await?;
    let retried = api.0.parts.notifier.retry(&id).await?;
    retried.map(Json).ok_or_else(absent)
}
