//! The doors of the control plane: TCP, and the Unix socket in the data directory, where an operator on the host comes in.
//!
//! ```text
//!   TCP (loopback: HTTP or TLS, told by the first byte; else TLS) ──▶ gateway_control::api, by token; ::console, by cookie
//!   data_dir/control.sock (0600: its callers are the operator)    ──▶ the same, and host.rs: tokens, reload
//! ```

pub(crate) mod client;
mod host;
mod server;
mod socket;
mod stalled;

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use gateway_control::api::{Api, CertificateRequest, CertificateView, Host, NotCertified};
use gateway_core::adapter::Registry;
use gateway_core::audit::AuditError;
use gateway_core::gateway::Gateway;
use gateway_core::principal::Authenticated;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::certify;
use crate::config::Config;
use crate::trail::WatchedLog;
pub(crate) use host::{HostState, SSH};
pub(crate) use server::{Tcp, Unix};
pub(crate) use socket::{Socket, answers};

/// This process, as the API sees it.
pub(crate) struct Process {
    /// The audit trail.
    pub(crate) audit: Arc<WatchedLog>,
    /// The metrics.
    pub(crate) metrics: PrometheusHandle,
    /// The pipeline.
    pub(crate) gateway: Arc<Gateway>,
    /// The adapters.
    pub(crate) registry: Registry,
}

#[async_trait]
impl Host for Process {
    async fn audit_ready(&self) -> Result<(), AuditError> {
        self.audit.ready().await
    }

    fn metrics(&self) -> String {
        self.metrics.render()
    }

    async fn certify(
        &self,
        who: &Authenticated,
        request: &CertificateRequest,
        seconds: u32,
    ) -> Result<CertificateView, NotCertified> {
        let adapter = self.registry.adapter(&request.protocol);
        let adapter = adapter.map_err(|e| NotCertified::Wrong(e.to_string()))?.as_ref();
        let (store, trail) = (self.gateway.store().as_ref(), self.gateway.as_ref());
        Ok(certify::as_person(store, trail, adapter, who, request, seconds).await?)
    }
}

/// What is served on TCP: the API, and the console beside it.
#[cfg(feature = "console")]
pub(crate) fn on_the_network(config: &Config, api: &Api) -> Router {
    api.router(gateway_control::console::router(api, config.names()))
}

/// What is served on TCP: the API.
#[cfg(not(feature = "console"))]
pub(crate) fn on_the_network(_: &Config, api: &Api) -> Router {
    api.router(Router::new())
}
