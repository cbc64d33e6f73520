//! What the control plane asks of policy, over whichever door.

use std::sync::Arc;

use gateway_core::gateway::Gateway;
use gateway_core::operation::{Action, EntityRef, Object, Operation, Operations};
use gateway_core::resource::Resource;

/// `session-view`.
pub(crate) const VIEW: Action = Action::new("session-view");
/// `session-watch`.
pub(crate) const WATCH: Action = Action::new("session-watch");
/// `session-kill`.
pub(crate) const KILL: Action = Action::new("session-kill");
/// `audit-search`.
pub(crate) const SEARCH: Action = Action::new("audit-search");
/// `administer`.
pub(crate) const ADMINISTER: Action = Action::new("administer");

/// `action` on the resource itself.
pub(crate) fn asks(action: Action, resource: &str) -> Arc<Operations> {
    let summary = format!("{action} {resource}");
    let operation = Operation::new(action, Object::new(EntityRef::resource(resource)));
    Arc::new(Operations::new(vec![operation], summary))
}

/// The resource that decides over what belongs to the resource of that name. What belongs to none of the configuration
/// (any more) is the gateway's own.
pub(crate) fn deciding(gateway: &Gateway, own: &Arc<Resource>, name: &str) -> Arc<Resource> {
    gateway.resource(name).unwrap_or_else(|| own.clone())
}
