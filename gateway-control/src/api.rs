//! The REST API under `/api/v1`, beside health, readiness and metrics.
//!
//! ```text
//!   accept loops (elsewhere) ──Door──▶ headers ─▶ timeout ─▶ route ─▶ Caller: token, rate ─▶ Authority: policy ─▶ handler
//! ```
//!
//! [`ROUTES`] is the router: what is not in it is not served, and a test demands of every entry who may and who may not.
//! Each answer that is not a success is a problem of RFC 9457. Who asks is who the bearer token says; on the host's own
//! socket a caller without one is the operator. Everything else is decided by the policies that decide operations:
//! `session-view`, `session-watch`, `session-kill`, `audit-search` and `administer` on the resource, `connect` for what is
//! listed; approvals by membership in their groups.

pub(crate) mod access;
pub(crate) mod approvals;
mod authority;
mod brake;
pub(crate) mod caller;
mod certificates;
mod document;
pub(crate) mod extract;
mod health;
mod leases;
mod notify;
pub(crate) mod page;
mod people;
pub(crate) mod policy;
mod problem;
pub(crate) mod recordings;
pub(crate) mod routes;
pub(crate) mod sessions;
mod slack;
pub(crate) mod stream;
pub(crate) mod trail;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use gateway_core::adapter::Registry;
use gateway_core::audit::AuditError;
use gateway_core::gateway::Gateway;
use gateway_core::own::{GATEWAY, gateway_resource};
use gateway_core::policy::PolicyEngine;
use gateway_core::principal::Authenticated;
use gateway_core::recording::Directory;
use gateway_core::resource::Resource;
use tokio::sync::Semaphore;

use crate::approvals::ApprovalDesk;
use crate::live::Live;
use crate::notify::{Notifier, Slack};
pub use approvals::Said;
use brake::Brakes;
pub use caller::Door;
pub use certificates::{CertificateRequest, CertificateView, NotCertified, resources_of};
pub use people::{ResourceView, WhoAmI};
pub use policy::ExplainRequest;
pub use problem::Problem;
pub use recordings::end as recording_end;
pub use routes::{Needs, ROUTES, Route};

/// For a whole request, up to the head of its answer.
const REQUEST: Duration = Duration::from_secs(60);
/// Largest body of a request.
const BODY: usize = 64 * 1024;
/// Searches of the trail at the same time; each reads all of it.
const SEARCHES: usize = 2;

/// What the API asks of the process that it runs in.
#[async_trait]
pub trait Host: Send + Sync {
    /// Whether audit events can be written.
    async fn audit_ready(&self) -> Result<(), AuditError>;

    /// The metrics, in Prometheus' text format.
    fn metrics(&self) -> String;

    /// Certifies a client's key as `who`, for logins in the next so many seconds, and never for longer or for more than what proved
    /// `who`; it is in the trail when this returns.
    async fn certify(
        &self,
        who: &Authenticated,
        request: &CertificateRequest,
        seconds: u32,
    ) -> Result<CertificateView, NotCertified>;
}

/// What the API is made of.
pub struct Parts {
    /// The pipeline.
    pub gateway: Arc<Gateway>,
    /// Where held operations wait for people.
    pub approvals: ApprovalDesk,
    /// The policies, for explanations.
    pub policies: Arc<PolicyEngine>,
    /// What is told to receivers outside.
    pub notifier: Notifier,
    /// What people press in Slack, where that is configured.
    pub slack: Option<Arc<Slack>>,
    /// The adapters: they know what statements mean.
    pub adapters: Registry,
    /// The directory of the audit trail.
    pub audit_dir: PathBuf,
    /// What happens, as it happens.
    pub live: Arc<Live>,
    /// What sessions showed.
    pub recordings: Arc<Directory>,
    /// The process.
    pub host: Arc<dyn Host>,
}

/// The API; cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    parts: Parts,
    /// Decides over what belongs to no resource of the configuration.
    own: Arc<Resource>,
    /// Where adapters listen, once they do.
    listening: OnceLock<BTreeMap<String, SocketAddr>>,
    searches: Arc<Semaphore>,
    brakes: Brakes,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api")
    }
}

impl Api {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        let own = parts.gateway.resource(GATEWAY);
        Self(Arc::new(Inner {
            own: own.unwrap_or_else(|| gateway_resource("control")),
            parts,
            listening: OnceLock::new(),
            searches: Arc::new(Semaphore::new(SEARCHES)),
            brakes: Brakes::default(),
        }))
    }

    /// Tells where adapters listen, by protocol. Counts once.
    pub fn listens(&self, addresses: BTreeMap<String, SocketAddr>) {
        let _ = self.0.listening.set(addresses);
    }

    /// All routes, with their bounds. `more` joins them: what only the composing binary can do.
    pub fn router(&self, more: Router) -> Router {
        let mut router = Router::new();
        for route in ROUTES {
            router = router.route(route.path, (route.mount)());
        }
        router
            .with_state(self.clone())
            .merge(more)
            .method_not_allowed_fallback(problem::not_allowed)
            .fallback(problem::nothing_here)
            .layer(DefaultBodyLimit::max(BODY))
            .layer(middleware::from_fn(in_time))
            .layer(middleware::from_fn(guarded))
    }

    pub(crate) fn gateway(&self) -> &Arc<Gateway> {
        &self.0.parts.gateway
    }
}

/// On this connection everybody between can read and write: cookies are not demanded to be for TLS alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InClear;

/// The router for a connection without TLS.
pub fn in_clear(router: Router) -> Router {
    router.layer(Extension(InClear))
}

/// The router for one connection.
pub fn through(router: &Router, door: Door) -> Router {
    router.clone().layer(Extension(door))
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(StatusCode::GATEWAY_TIMEOUT, "the request took too long").into_response(),
    }
}

/// Nothing of this origin is framed, sniffed, kept, or loaded by others; and no other origin is invited.
async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}
