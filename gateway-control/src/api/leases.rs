//! `/api/v1/leases`: credentials of sessions at targets, and what could not be taken back yet.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use gateway_core::credentials::LeaseRecord;
use gateway_core::own::GATEWAY;
use serde::Deserialize;

use super::caller::Caller;
use super::extract::Args;
use super::page::{MOST, behind, limit, page, strange_cursor};
use super::{Api, Problem};
use crate::asked::ADMINISTER;

/// Which.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// All that the journal has: what could not be taken back first, then the newest.
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    Args(which): Args<Which>,
) -> Result<Response, Problem> {
    api.demand(&caller, ADMINISTER, GATEWAY, None)?;
    let limit = limit(which.limit)?;
    let is_id = |id: &String| id.len() == 16 && id.bytes().all(|b| b.is_ascii_alphanumeric());
    if which.cursor.as_ref().is_some_and(|id| !is_id(id)) {
        return Err(strange_cursor());
    }
    let all = api.0.parts.gateway.lease_store().leases(MOST).await?;
    let all = behind(all, limit, which.cursor.as_deref(), |one, id| one.id == id);
    Ok(page(&uri, all, limit, |one: &LeaseRecord| one.id.clone()))
}
