//! `/api/v1/approvals/...`, on the Unix socket and on TCP: lists, shows and decides.
//!
//! Who decides is who the bearer token says, on both. On the socket a caller without a token is the operator, who sees
//! all and decides nothing. On TCP nothing is told to anybody without a token.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Path, Query, State as Shared};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use gateway_control::approvals::{ApprovalView, NotDecided};
use gateway_core::approval::{CannotDecide, Choice};
use gateway_core::gateway::{Attempt, LoginRefusal};
use gateway_core::principal::Authenticated;
use gateway_core::secret::Secret;
use serde::{Deserialize, Serialize};

use super::State;
use crate::operator::Refusal;

/// How many are listed where nothing is said, and at most.
const USUAL: u32 = 200;
const MOST: u32 = 1000;
/// Longest id that is looked up.
const ID: usize = 64;

/// From where a request comes.
#[derive(Debug, Clone, Copy)]
pub(super) enum From {
    /// The Unix socket: whoever can open it is the operator.
    Host,
    /// The network.
    Net(SocketAddr),
}

/// The routes.
pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/api/v1/approvals", get(list))
        .route("/api/v1/approvals/{id}", get(show))
        .route("/api/v1/approvals/{id}/approve", post(approve))
        .route("/api/v1/approvals/{id}/deny", post(deny))
        .route("/a/{id}", get(page))
}

/// Who the request's token says; `None`: there is none.
async fn caller(state: &State, from: From, headers: &HeaderMap) -> Result<Option<Authenticated>, Refusal> {
    let wrong = || Refusal::Unknown("the token is not valid, or has ended".to_owned());
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return match from {
            From::Host => Ok(None),
            From::Net(_) => Err(Refusal::Unknown(
                "send a token: Authorization: Bearer ...".to_owned(),
            )),
        };
    };
    // Two of them would be read differently by different readers.
    if values.next().is_some() {
        return Err(wrong());
    }
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| Secret::new(token.trim()))
    });
    let Some(token) = token else {
        return Err(wrong());
    };
    let peer = match from {
        From::Host => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        From::Net(peer) => peer,
    };
    let attempt = Attempt {
        peer,
        protocol: "control",
        user: String::new(),
        resource: String::new(),
        detail: None,
    };
    match state.gateway.authenticate(&attempt, &token).await {
        Ok(who) => Ok(Some(who)),
        Err(LoginRefusal::Refused) => Err(wrong()),
        Err(LoginRefusal::Unavailable(why)) => Err(Refusal::Unavailable(why.to_owned())),
    }
}

/// How many to list.
#[derive(Deserialize)]
struct Limit {
    limit: Option<u32>,
}

/// An answer that nobody keeps.
fn fresh(body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

async fn list(
    Shared(state): Shared<Arc<State>>,
    Extension(from): Extension<From>,
    Query(Limit { limit }): Query<Limit>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let who = caller(&state, from, &headers).await?;
    let limit = limit.unwrap_or(USUAL).min(MOST);
    let found = state.approvals.list(who.as_ref(), limit).await?;
    let views: Vec<ApprovalView> = found
        .into_iter()
        .map(|one| ApprovalView::from(one).brief())
        .collect();
    Ok(fresh(Json(views)))
}

fn absent(id: &str) -> Refusal {
    let mut shown = id.to_owned();
    gateway_core::operation::truncate(&mut shown, ID);
    Refusal::Absent(format!("there is no approval `{shown}` that you may see"))
}

async fn show(
    Shared(state): Shared<Arc<State>>,
    Extension(from): Extension<From>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let who = caller(&state, from, &headers).await?;
    if id.len() > ID {
        return Err(absent(&id));
    }
    match state.approvals.show(who.as_ref(), &id).await? {
        Some(found) => Ok(fresh(Json(ApprovalView::from(found)))),
        None => Err(absent(&id)),
    }
}

/// What goes with a decision.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Said {
    /// Why.
    #[serde(default)]
    pub(crate) reason: Option<String>,
}

async fn approve(
    Shared(state): Shared<Arc<State>>,
    Extension(from): Extension<From>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(said): Json<Said>,
) -> Result<Response, Refusal> {
    decide(&state, from, &id, &headers, Choice::Approve, said).await
}

async fn deny(
    Shared(state): Shared<Arc<State>>,
    Extension(from): Extension<From>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(said): Json<Said>,
) -> Result<Response, Refusal> {
    decide(&state, from, &id, &headers, Choice::Deny, said).await
}

async fn decide(
    state: &State,
    from: From,
    id: &str,
    headers: &HeaderMap,
    choice: Choice,
    said: Said,
) -> Result<Response, Refusal> {
    let Some(who) = caller(state, from, headers).await? else {
        return Err(Refusal::Unknown(
            "an approver is always who a token says: set GATEWAY_TOKEN to a token of your own".to_owned(),
        ));
    };
    if id.len() > ID {
        return Err(absent(id));
    }
    match state.approvals.decide(&who, id, choice, said.reason).await {
        Ok(decided) => Ok(fresh(Json(ApprovalView::from(decided)))),
        Err(error) => {
            tracing::info!(subject = who.principal.subject, id, %error, "nothing was decided");
            Err(match error {
                NotDecided::Absent(_) => absent(id),
                NotDecided::Refused {
                    why: CannotDecide::Over(_) | CannotDecide::Again,
                    ..
                }
                | NotDecided::OtherPolicies(_) => Refusal::Conflict(error.to_string()),
                NotDecided::Refused { .. } => Refusal::Forbidden(error.to_string()),
                NotDecided::Unavailable(_) => Refusal::Unavailable(error.to_string()),
            })
        }
    }
}

/// Where a notice points to. Opening it approves nothing, and tells nothing of what is asked.
async fn page() -> Response {
    fresh(
        "An operation waits for approval. Opening this address decides nothing. With a token of your own:\n\n  \
         gateway approvals show ID\n  gateway approvals approve ID\n  gateway approvals deny ID\n",
    )
}
