//! `/api/v1/tokens`, `/api/v1/reload` and `/api/v1/secrets`, on the Unix socket alone: what only the operator on the host may do.

use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use gateway_control::api::{CertificateView, Problem};
use gateway_core::adapter::Registry;
use gateway_core::gateway::Gateway;
use serde_json::json;

use crate::certify::{self, NewCertificate};
use crate::operator::{self, ListedToken, MadeToken, NewToken, Refusal, Trail};
use crate::reload::Reloader;
use crate::resealing::{Rotated, Status, Vaulted};

/// What these handlers need.
pub(crate) struct HostState {
    /// The pipeline.
    pub(crate) gateway: Arc<Gateway>,
    /// Puts changed files in force.
    pub(crate) reloader: Arc<Reloader>,
    /// What is kept sealed.
    pub(crate) vaulted: Vaulted,
    /// The adapters.
    pub(crate) registry: Registry,
}

/// The protocol of whose clients keys are registered.
pub(crate) const SSH: &str = "ssh";

/// The routes.
pub(super) fn routes(state: Arc<HostState>) -> Router {
    Router::new()
        .route("/api/v1/tokens", get(tokens).post(create_token))
        .route("/api/v1/tokens/certificates", post(certify_token))
        .route("/api/v1/tokens/{id}", delete(revoke_token))
        .route("/api/v1/reload", post(reload))
        .route("/api/v1/secrets", get(secrets))
        .route("/api/v1/secrets/rotate", post(rotate))
        .with_state(state)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Wrong(_) => StatusCode::BAD_REQUEST,
            Self::Absent(_) => StatusCode::NOT_FOUND,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(status, self.to_string()).into_response()
    }
}

fn trail(state: &HostState) -> Option<&dyn Trail> {
    Some(state.gateway.as_ref())
}

async fn create_token(
    Shared(state): Shared<Arc<HostState>>,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, Json<MadeToken>), Refusal> {
    let store = state.gateway.store().as_ref();
    // The one protocol whose clients have keys.
    let adapter = state.registry.adapter(SSH).ok().map(AsRef::as_ref);
    let made = operator::create_token(store, trail(&state), adapter, new).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

async fn certify_token(
    Shared(state): Shared<Arc<HostState>>,
    Json(new): Json<NewCertificate>,
) -> Result<(StatusCode, Json<CertificateView>), Refusal> {
    let adapter = state.registry.adapter(&new.protocol);
    let adapter = adapter.map_err(|e| Refusal::Wrong(e.to_string()))?.as_ref();
    let store = state.gateway.store().as_ref();
    let made = certify::as_operator(store, trail(&state), adapter, new.token).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

async fn tokens(Shared(state): Shared<Arc<HostState>>) -> Result<Json<Vec<ListedToken>>, Refusal> {
    operator::tokens(state.gateway.store().as_ref()).await.map(Json)
}

async fn revoke_token(
    Shared(state): Shared<Arc<HostState>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    operator::revoke_token(state.gateway.store().as_ref(), trail(&state), &id).await?;
    // Its sessions need not wait until their credential is checked again.
    state.gateway.live().end_credential(&id);
    Ok(StatusCode::NO_CONTENT)
}

async fn secrets(Shared(state): Shared<Arc<HostState>>) -> Result<Json<Status>, Refusal> {
    state.vaulted.status().await.map(Json)
}

async fn rotate(Shared(state): Shared<Arc<HostState>>) -> Result<Json<Rotated>, Refusal> {
    state.vaulted.rotate(trail(&state)).await.map(Json)
}

async fn reload(Shared(state): Shared<Arc<HostState>>) -> Result<Response, Refusal> {
    operator::note(
        trail(&state),
        operator::OPERATOR,
        "reload",
        "configuration".to_owned(),
    )
    .await?;
    Ok(match state.reloader.reload().await {
        Ok(summary) => Json(json!({ "reloaded": summary })).into_response(),
        Err(error) => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error).into_response(),
    })
}
