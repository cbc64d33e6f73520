//! `/healthz`, `/readyz`, `/metrics`: for orchestrators and collectors; they tell nothing of sessions or people.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use gateway_core::services::{SessionFilter, StoreError};
use serde_json::json;

use super::Api;

/// How long the store has to answer.
const STORE: Duration = Duration::from_secs(3);

pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Ready: audit and store can be written and asked, and new sessions are taken. Policies are loaded as long as the
/// process lives.
pub(super) async fn readyz(State(api): State<Api>) -> Response {
    let mut reasons: Vec<String> = Vec::new();
    let gateway = api.gateway();
    if gateway.is_draining() {
        reasons.push("the gateway is shutting down".to_owned());
    }
    if let Err(error) = api.0.parts.host.audit_ready().await {
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

pub(super) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], api.0.parts.host.metrics())
}
