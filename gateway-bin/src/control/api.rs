//! `/api/v1/...` on the Unix socket: what the operator on the host may do.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use gateway_core::machine::End;
use gateway_core::services::SessionFilter;
use gateway_core::session::{SessionId, SessionRecord};
use serde::Deserialize;
use serde_json::json;

use super::State;
use crate::operator::{self, ListedToken, MadeToken, NewToken, Refusal, Trail};

/// The most sessions that one call lists.
const MOST: u32 = 10_000;

/// The routes.
pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/api/v1/tokens", get(tokens).post(create_token))
        .route("/api/v1/tokens/{id}", delete(revoke_token))
        .route("/api/v1/sessions", get(sessions))
        .route("/api/v1/sessions/{id}", get(session).delete(kill_session))
        .route("/api/v1/reload", post(reload))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Wrong(_) => StatusCode::BAD_REQUEST,
            Self::Unknown(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Absent(_) => StatusCode::NOT_FOUND,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(json!({ "error": self.to_string() }))).into_response()
    }
}

fn trail(state: &State) -> Option<&dyn Trail> {
    Some(state.gateway.as_ref())
}

async fn create_token(
    Shared(state): Shared<Arc<State>>,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, Json<MadeToken>), Refusal> {
    let store = state.gateway.store().as_ref();
    let made = operator::create_token(store, trail(&state), new).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

async fn tokens(Shared(state): Shared<Arc<State>>) -> Result<Json<Vec<ListedToken>>, Refusal> {
    operator::tokens(state.gateway.store().as_ref()).await.map(Json)
}

async fn revoke_token(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    operator::revoke_token(state.gateway.store().as_ref(), trail(&state), &id).await?;
    // Its sessions need not wait until their credential is checked again.
    state.gateway.live().end_credential(&id);
    Ok(StatusCode::NO_CONTENT)
}

/// Which sessions to list.
#[derive(Deserialize)]
struct Which {
    filter: SessionFilter,
    limit: u32,
}

/// Running sessions with today's counts; ended ones, and others' where several gateways share a store, from there.
async fn sessions(
    Shared(state): Shared<Arc<State>>,
    Query(which): Query<Which>,
) -> Result<Json<Vec<SessionRecord>>, Refusal> {
    let limit = which.limit.min(MOST);
    let stored = state.gateway.store().sessions(which.filter, limit).await?;
    let mut all: BTreeMap<SessionId, SessionRecord> = stored.into_iter().map(|one| (one.id, one)).collect();
    for live in state.gateway.live().list() {
        let node = all.get(&live.id).and_then(|stored| stored.node.clone());
        all.insert(live.id, SessionRecord { node, ..live });
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(Json(all.into_values().rev().take(limit).collect()))
}

fn parse(id: &str) -> Result<SessionId, Refusal> {
    id.parse()
        .map_err(|_| Refusal::Wrong("a session's id is a UUID".to_owned()))
}

async fn session(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<String>,
) -> Result<Json<SessionRecord>, Refusal> {
    let id = parse(&id)?;
    let found = match state.gateway.live().session(id) {
        Some(live) => Some(live),
        None => state.gateway.store().session(id).await?,
    };
    found
        .map(Json)
        .ok_or_else(|| Refusal::Absent(format!("there is no session `{id}`")))
}

async fn kill_session(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let id = parse(&id)?;
    let absent = || Refusal::Absent(format!("no session `{id}` runs"));
    let record = state.gateway.running_session(id).await?.ok_or_else(absent)?;
    let subject = format!("{id} of {} on {}", record.principal.subject, record.resource);
    operator::note(trail(&state), "session kill", subject).await?;
    if state.gateway.end_session(id, End::Killed).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(absent())
    }
}

async fn reload(Shared(state): Shared<Arc<State>>) -> Result<Response, Refusal> {
    operator::note(trail(&state), "reload", "configuration".to_owned()).await?;
    Ok(match state.reloader.reload().await {
        Ok(summary) => Json(json!({ "reloaded": summary })).into_response(),
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "error": error }))).into_response(),
    })
}
