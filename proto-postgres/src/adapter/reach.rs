//! The way from a login to the target.

use bytes::BytesMut;
use gateway_core::credentials::CredentialError;
use gateway_core::gateway::SessionScope;
use gateway_core::relay::Leftover;
use gateway_core::transport::Transport;

use super::PostgresAdapter;
use super::parameters::{application_name, target_parameters};
use crate::accept::Startup;
use crate::target::{self, TargetError};
use crate::wire::backend::sqlstate;

/// A target that is ready for a session.
pub(super) struct Reached {
    pub(super) transport: Transport,
    pub(super) key: Option<(i32, Vec<u8>)>,
    pub(super) login: String,
}

/// Why a session does not reach its target.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReachError {
    /// The client asked for what the gateway does not pass on.
    #[error("{0}")]
    Parameters(String),
    /// The target.
    #[error("{0}")]
    Target(#[from] TargetError),
}

impl ReachError {
    /// What the client is told: of the target's own refusals only those about the client's own choices.
    /// `named`: the database, where the client has named one.
    pub(super) fn told(&self, named: Option<&str>) -> (&'static str, String) {
        match self {
            Self::Parameters(why) => (sqlstate::FEATURE_NOT_SUPPORTED, why.clone()),
            Self::Target(error) if error.has_no_database() => {
                let text = match named {
                    Some(name) => format!("database \"{name}\" does not exist at the target"),
                    None => "no database was named, and the target has none that is called like the login there: name one \
                             (psql: dbname=NAME; gateway connect: --database NAME)"
                        .to_owned(),
                };
                ("3D000", text)
            }
            Self::Target(TargetError::Refused { code, .. }) if code == "22023" => (
                "22023",
                "the target refuses the value of a start-up parameter".to_owned(),
            ),
            Self::Target(TargetError::Refused { code, .. }) if code == "53300" => (
                sqlstate::TOO_MANY_CONNECTIONS,
                "the target has no room for another session".to_owned(),
            ),
            Self::Target(TargetError::Credential(CredentialError::Busy(_))) => (
                sqlstate::TOO_MANY_CONNECTIONS,
                "all logins that the gateway has for this target are in use; try again when other sessions have ended"
                    .to_owned(),
            ),
            Self::Target(_) => (
                sqlstate::UNABLE_TO_CONNECT,
                "the target can't be reached; the gateway's log says why".to_owned(),
            ),
        }
    }
}

/// What the target tells of itself in its ParameterStatus messages.
pub(super) type Parameters = Vec<(Vec<u8>, Vec<u8>)>;

impl PostgresAdapter {
    pub(super) async fn reach(
        &self,
        scope: &mut SessionScope,
        startup: &Startup,
        database: &str,
    ) -> Result<(Reached, Leftover, Parameters), ReachError> {
        let name = application_name(&scope.who().principal.subject, scope.id());
        let parameters = target_parameters(startup, database, name).map_err(ReachError::Parameters)?;
        let limit = scope.gateway().limits().connect;
        let lease = scope.lease(Some(database)).await.map_err(TargetError::from)?;
        let resource = scope.resource().clone();
        let transport = target::dial(&resource, limit).await?;
        let reached = target::log_in(&resource, transport, &lease, &parameters, limit).await?;
        let leftover = Leftover {
            client: BytesMut::new(),
            target: reached.leftover,
        };
        let ready = Reached {
            transport: reached.transport,
            key: reached.key,
            login: lease.username,
        };
        Ok((ready, leftover, reached.parameters))
    }
}
