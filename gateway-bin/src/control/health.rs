//! `/healthz`, `/readyz`, `/metrics`: for orchestrators and collectors; they tell nothing of sessions or people.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use gateway_core::services::{SessionFilter, StoreError};
use serde_json::json;

use super::State;

/// How long the store has to answer.
const STORE: Duration = Duration::from_secs(3);

/// The routes.
pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}

async fn healthz() -> &'static str {
    "ok\n"
}

/// Ready: audit and store can be written and asked, and new sessions are taken. Policies are loaded as long as the
/// process lives.
async fn readyz(Shared(state): Shared<Arc<State>>) -> Response {
    let mut reasons: Vec<String> = Vec::new();
    let gateway = &state.gateway;
    if gateway.is_draining() {
        reasons.push("the gateway is shutting down".to_owned());
    }
    if let Err(error) = state.audit.ready().await {
        reasons.push(error.to_string());
    }
    let asked = gateway.store().sessions(SessionFilter::Live, 1);
    match tokio::time::timeout(STORE, asked).await {
        Ok(Ok(_)) => {}
        Ok(Err(StoreError::Database(_) | StoreError::Corrupt(_))) => {
            reasons.push("the store fails".to_owned());
        }
        Err(_) => reasons.push("the store does not answer".to_owned()),
    }
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    tracing::warn!(?reasons, "not ready");
    let body = Json(json!({ "ready": false, "reasons": reasons }));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

async fn metrics(Shared(state): Shared<Arc<State>>) -> impl IntoResponse {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], state.metrics.render())
}
