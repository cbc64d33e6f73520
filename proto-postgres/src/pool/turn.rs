//! Opening a role for a session, and closing it behind it.

use std::sync::Arc;
use std::time::Duration;

use gateway_core::credentials::{CredentialError, Lease, LeaseRequest, Slot};
use gateway_core::gateway::Gateway;

use super::free::Pool;
use super::text::{self, Fact, Left, NOT_FIT, Opened};
use crate::adapter::application_name;
use crate::admin::verifier::password;
use crate::admin::{code, failed, read};
use crate::target::TargetError;

/// How often it is looked whether backends have ended, and a replica has followed: at first, and at most.
const POLLS: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));
/// For how long that is looked.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a role is put in order before it is given up.
const TRIES: u32 = 3;

/// Why a role is not given to a session.
pub(super) enum NotOpened {
    /// It is not as it must be, and was not changed: another one may be.
    Unfit(String),
    /// All else.
    Failed(CredentialError),
}

impl From<TargetError> for NotOpened {
    fn from(error: TargetError) -> Self {
        Self::Failed(told(&error))
    }
}

/// What an operator reads, who can do something about it.
pub(super) fn told(error: &TargetError) -> CredentialError {
    let advice = match code(error) {
        "25006" => {
            "the target is a replica: name the primary in credential.admin.address, where passwords are changed"
        }
        "42501" => {
            "the admin login may not: `gateway config check --probe` says which roles it may not change, or whose \
             sessions it may not end"
        }
        _ => return failed(error),
    };
    CredentialError::Issuer(format!("{error}; {advice}"))
}

/// Waits longer each time, until patience is over.
struct Polls(Duration, tokio::time::Instant);

impl Polls {
    fn new() -> Self {
        Self(POLLS.0, tokio::time::Instant::now() + PATIENCE)
    }

    async fn next(&mut self, what: String) -> Result<(), TargetError> {
        if tokio::time::Instant::now() >= self.1 {
            return Err(TargetError::Structure(what));
        }
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(POLLS.1);
        Ok(())
    }
}

impl Pool {
    /// A new password for a role that the lease has.
    pub(super) async fn open(
        &self,
        request: &LeaseRequest<'_>,
        slot: &Slot,
        timeout: Option<Duration>,
    ) -> Result<Lease, NotOpened> {
        let gateway = request.gateway;
        let role = &slot.name;
        let (password, verifier) = password().map_err(NotOpened::Failed)?;
        let expires = request.expires.ok_or_else(|| {
            NotOpened::Failed(CredentialError::Issuer("a role is given for a time".to_owned()))
        })?;
        let name = application_name(&request.principal.subject, request.session);
        let mut databases = Vec::new();
        for _ in 0..TRIES {
            let server = self.primary.server(gateway).await?;
            let opened = Opened {
                role,
                verifier: &verifier,
                expires,
                application_name: &name,
                timeout,
                databases: &databases,
                followed: self.replica.is_some(),
            };
            let text = opened.text(server).map_err(TargetError::from)?;
            match self.primary.ask(gateway, &text).await {
                Ok(at) => {
                    if let Some(at) = at.filter(|_| self.replica.is_some()) {
                        self.follow(gateway, role, &at).await?;
                    }
                    return Ok(Lease {
                        username: role.clone(),
                        password: Some(password),
                        issued: None,
                    });
                }
                // Nothing was changed.
                Err(error) if code(&error) == NOT_FIT => {}
                Err(error) => return Err(error.into()),
            }
            let admin = &self.settings.admin.username;
            match self.facts(gateway, std::slice::from_ref(role)).await?.first() {
                None => {
                    let why = format!(
                        "there is no role `{role}`: CREATE ROLE {role} LOGIN, with the rights of sessions"
                    );
                    return Err(NotOpened::Unfit(why));
                }
                Some(fact) => {
                    if let Some(fault) = fact.fault(admin) {
                        return Err(NotOpened::Unfit(fault));
                    }
                }
            }
            // Somebody is logged in with it, or has left settings. No lease has it but this one, still?
            if !self.is_of_lease(gateway, request.id, slot).await? {
                break;
            }
            databases = self.close(gateway, role).await?;
        }
        let why = format!("`{role}` does not come to rest: somebody else logs in with it");
        Err(NotOpened::Failed(CredentialError::Issuer(why)))
    }

    pub(super) async fn is_of_lease(
        &self,
        gateway: &Arc<Gateway>,
        id: &str,
        slot: &Slot,
    ) -> Result<bool, NotOpened> {
        let has = gateway.lease_store().slot_of(id).await;
        let has = has.map_err(|e| NotOpened::Failed(e.into()))?;
        Ok(has.as_ref() == Some(slot))
    }

    pub(super) async fn facts(
        &self,
        gateway: &Arc<Gateway>,
        roles: &[String],
    ) -> Result<Vec<Fact>, TargetError> {
        read(self.primary.ask(gateway, &text::facts(roles)?).await?)
    }

    /// Lets nobody log in with a role, ends who is, and takes its settings from it. Gives the databases in which it still has
    /// some, as it may where the admin login may not change them.
    pub(super) async fn close(&self, gateway: &Arc<Gateway>, role: &str) -> Result<Vec<String>, TargetError> {
        let mut polls = Polls::new();
        let mut text = text::close(role, self.replica.is_some())?;
        let mut reset = false;
        let left = loop {
            let answer = match self.primary.ask_behind(gateway, &text).await {
                Ok(answer) => answer,
                // Somebody dropped it.
                Err(error) if code(&error) == "42704" => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            let left: Left = read(answer)?;
            text = text::left(role)?;
            if left.backends > 0 {
                polls.next(format!("the sessions of `{role}` do not end")).await?;
                continue;
            }
            if left.databases.is_empty() || reset {
                break left;
            }
            // While it had a backend, that could have made new ones.
            text.insert_str(0, &text::reset(role, &left.databases)?);
            reset = true;
        };
        if let Some(at) = left.at.filter(|_| self.replica.is_some()) {
            self.follow(gateway, role, &at).await?;
        }
        Ok(left.databases)
    }

    /// Waits until the replica is where the primary was, and has no backends of a role.
    async fn follow(&self, gateway: &Arc<Gateway>, role: &str, at: &str) -> Result<(), TargetError> {
        let Some(replica) = &self.replica else {
            return Ok(());
        };
        let text = text::followed(role, at)?;
        let mut polls = Polls::new();
        loop {
            let (there, backends): (bool, u64) = read(replica.ask(gateway, &text).await?)?;
            if there && backends == 0 {
                return Ok(());
            }
            let what = match there {
                true => format!("the sessions of `{role}` at the replica do not end"),
                false => format!(
                    "the replica has not followed its primary within {PATIENCE:?}; see how far it lags behind"
                ),
            };
            polls.next(what).await?;
        }
    }
}
