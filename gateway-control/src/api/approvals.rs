//! `/api/v1/approvals/...`: lists, shows and decides.
//!
//! Who decides is who the bearer token says. The operator on the host sees all and decides nothing.

use std::cmp::Reverse;

use axum::Json;
use axum::extract::State;
#[cfg(feature = "console")]
use axum::http::header;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use gateway_core::approval::{Approval, ApprovalState, CannotDecide, Choice};
use gateway_core::operation::truncate;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::extract::{Args, Body, Id};
use super::page::{MOST, limit, page, strange_cursor};
use super::{Api, Problem};
use crate::approvals::{ApprovalView, NotDecided};

/// Longest id that is shown again.
const ID: usize = 64;

/// Which approvals.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Where an approval stands in lists: those that are open first, then the newest.
type Place = (bool, Reverse<Timestamp>, String);

fn place(view: &ApprovalView) -> Place {
    (
        view.state != ApprovalState::Open,
        Reverse(view.created),
        view.id.clone(),
    )
}

fn cursor(view: &ApprovalView) -> String {
    let (over, Reverse(created), id) = place(view);
    let word = if over { "over" } else { "open" };
    format!("{word}.{}.{id}", created.as_nanosecond())
}

fn behind(cursor: &str) -> Option<Place> {
    let mut parts = cursor.splitn(3, '.');
    let over = match parts.next()? {
        "open" => false,
        "over" => true,
        _ => return None,
    };
    let created = Timestamp::from_nanosecond(parts.next()?.parse().ok()?).ok()?;
    Some((over, Reverse(created), parts.next()?.to_owned()))
}

/// Those that the caller may see, without their texts.
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    Args(which): Args<Which>,
) -> Result<Response, Problem> {
    let limit = limit(which.limit)?;
    let behind = which
        .cursor
        .map(|text| behind(&text).ok_or_else(strange_cursor))
        .transpose()?;
    let found = seen(&api, &caller).await?;
    let mut views: Vec<ApprovalView> = found
        .into_iter()
        .map(|one| ApprovalView::from(one).brief())
        .collect();
    views.sort_by_key(place);
    let items = views
        .into_iter()
        .filter(|view| behind.as_ref().is_none_or(|behind| place(view) > *behind))
        .take(limit.saturating_add(1))
        .collect();
    Ok(page(&uri, items, limit, cursor))
}

/// Those that the caller may see.
pub(crate) async fn seen(api: &Api, caller: &Caller) -> Result<Vec<Approval>, Problem> {
    Ok(api.0.parts.approvals.list(caller.person(), MOST).await?)
}

/// One that the caller may see.
pub(crate) async fn one(api: &Api, caller: &Caller, id: &str) -> Result<Approval, Problem> {
    let found = api.0.parts.approvals.show(caller.person(), id).await?;
    found.ok_or_else(|| absent(id))
}

fn absent(id: &str) -> Problem {
    let mut shown = id.to_owned();
    truncate(&mut shown, ID);
    Problem::absent(format!("there is no approval `{shown}` that you may see"))
}

pub(super) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<ApprovalView>, Problem> {
    one(&api, &caller, &id).await.map(|found| Json(found.into()))
}

/// What goes with a decision.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

pub(super) async fn approve(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    Body(said): Body<Said>,
) -> Result<Json<ApprovalView>, Problem> {
    decide(&api, &caller, &id, Choice::Approve, said).await.map(Json)
}

pub(super) async fn deny(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    Body(said): Body<Said>,
) -> Result<Json<ApprovalView>, Problem> {
    decide(&api, &caller, &id, Choice::Deny, said).await.map(Json)
}

/// Decides one, as the caller.
pub(crate) async fn decide(
    api: &Api,
    caller: &Caller,
    id: &str,
    choice: Choice,
    said: Said,
) -> Result<ApprovalView, Problem> {
    let Some(who) = caller.person() else {
        return Err(Problem::unknown(
            "an approver is always who a token says: set GATEWAY_TOKEN to a token of your own",
        ));
    };
    match api.0.parts.approvals.decide(who, id, choice, said.reason).await {
        Ok(decided) => Ok(ApprovalView::from(decided)),
        Err(error) => {
            tracing::info!(subject = who.principal.subject, id, %error, "nothing was decided");
            Err(match error {
                NotDecided::Absent(_) => absent(id),
                NotDecided::Refused {
                    why: CannotDecide::Over(_) | CannotDecide::Again,
                    ..
                }
                | NotDecided::OtherPolicies(_) => Problem::conflict(error.to_string()),
                NotDecided::Refused { .. } => Problem::forbidden(error.to_string()),
                NotDecided::Unavailable(_) => Problem::unavailable(error.to_string()),
            })
        }
    }
}

/// What a program is told at the address of a notice.
const LANDING: &str = "An operation waits for approval. Opening this address decides nothing. With a token of your own:\n\n  \
                       gateway approvals show ID\n  gateway approvals approve ID\n  gateway approvals deny ID\n";

/// Where a notice points to. Opening it approves nothing, and tells nothing of what is asked; a browser is led on to the
/// console.
pub(super) async fn landing(id: Result<Id, Problem>, headers: HeaderMap) -> Response {
    #[cfg(feature = "console")]
    if headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kinds| kinds.contains("text/html"))
    {
        return crate::console::landing(id.as_ref().map_or("", |Id(id)| id));
    }
    let _ = (id, headers);
    LANDING.into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        let created = Timestamp::from_nanosecond(1_700_000_000_123_456_789).unwrap();
        let place = behind("open.1700000000123456789.apr_1").unwrap();
        assert_eq!(place, (false, Reverse(created), "apr_1".to_owned()));
        assert!(behind("over.1700000000123456789.apr_1").unwrap() > place);
        for strange in ["", "open", "open.x.apr_1", "shut.1.apr_1", "open.1"] {
            assert_eq!(behind(strange), None, "{strange}");
        }
    }
}
