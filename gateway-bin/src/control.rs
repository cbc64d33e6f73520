//! The control plane: health, readiness and metrics on TCP; on the Unix socket in the data directory also what an
//! operator on the host may do.
//!
//! ```text
//!   TCP (loopback: HTTP or TLS, told by the first byte; else TLS) ──▶ /healthz /readyz /metrics,
//!                                                                       and by token /api/v1/approvals
//!   data_dir/control.sock (0600: its callers are the operator)    ──▶ the same, and /api/v1/...
//! ```

mod api;
mod approvals;
pub(crate) mod client;
mod health;
mod server;
mod socket;

use std::sync::Arc;

use gateway_control::approvals::ApprovalDesk;
use gateway_core::gateway::Gateway;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::reload::Reloader;
use crate::trail::WatchedLog;
pub(crate) use approvals::Said;
pub(crate) use server::{Tcp, Unix};
pub(crate) use socket::{Socket, answers};

/// What the control plane's handlers need.
pub(crate) struct State {
    /// The pipeline.
    pub(crate) gateway: Arc<Gateway>,
    /// Where held operations wait for people.
    pub(crate) approvals: ApprovalDesk,
    /// The audit trail.
    pub(crate) audit: Arc<WatchedLog>,
    /// Puts changed files in force.
    pub(crate) reloader: Arc<Reloader>,
    /// The metrics.
    pub(crate) metrics: PrometheusHandle,
}
