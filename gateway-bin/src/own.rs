//! The resources that this build answers itself.

use std::path::PathBuf;
use std::sync::Arc;

use gateway_core::own::OwnResource;
use gateway_core::policy::PolicyEngine;

/// The protocol whose clients ask the operators' database.
#[cfg(feature = "operators")]
const PROTOCOL: &str = "postgres";

/// What is answered here: the operators' database, where it is in the build.
#[cfg(feature = "operators")]
pub(crate) fn resources(
    policies: Arc<PolicyEngine>,
    audit_dir: PathBuf,
    metrics: impl Fn() -> String + Send + Sync + 'static,
) -> Vec<Arc<dyn OwnResource>> {
    let sources = gateway_control::database::Sources {
        policies: Box::new(move || policies.list()),
        metrics: Box::new(metrics),
        audit_dir,
    };
    vec![Arc::new(gateway_control::database::OperatorsDatabase::new(
        PROTOCOL, sources,
    ))]
}

/// Nothing.
#[cfg(not(feature = "operators"))]
pub(crate) fn resources(
    _: Arc<PolicyEngine>,
    _: PathBuf,
    _: impl Fn() -> String + Send + Sync + 'static,
) -> Vec<Arc<dyn OwnResource>> {
    Vec::new()
}
