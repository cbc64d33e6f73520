//! The way to the target of a session, for one connection.

use gateway_core::verdict::{Decision, Denial};

use crate::authority::Granted;
use crate::session::Session;
use crate::target::{Accepts, Target, Unreachable};

/// Reaches the session's target.
pub(crate) async fn reach(
    session: &Session,
    accepts: Accepts,
    granted: &Granted,
) -> Result<Target, Unreachable> {
    let proof = session.proof(granted).await?;
    Target::reach(
        &session.gateway,
        &session.resource,
        &session.settings,
        &session.place.login,
        &proof,
        accepts,
        session.doors(),
    )
    .await
}

/// What a client is told of a target that was not reached: no more than that; operators find the rest in the log.
pub(crate) fn unreached(session: &Session, failure: &Unreachable, summary: &str, ticket: u64) -> Decision {
    match failure {
        Unreachable::HostKey(_) => tracing::error!(
            session = %session.id, resource = session.resource.name, %failure,
            "NO TARGET: somebody else may answer in its place; nothing was sent to it"
        ),
        _ => tracing::warn!(session = %session.id, resource = session.resource.name, %failure, "no target"),
    }
    let hint = match failure {
        Unreachable::Path(_) => "the target can't tell where that path leads",
        _ => "the target can't be reached; operators find why in the gateway's log",
    };
    Denial::new(summary, hint).decision(format!("{}/{ticket}", session.id))
}
