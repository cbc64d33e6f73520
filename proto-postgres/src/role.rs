//! `credential.kind = "role"`: a PostgreSQL role for each session, with the rights that policy gives, and no others.
//!
//! ```text
//!  policy + structure ──grants──▶ gateway_grants_<hash>   has the rights; one for all sessions that have the same
//!                                         │ member
//!  lease ──────────────────────▶ gw_<lease id>            logs in; dies with its session
//! ```
//!
//! So a new session changes no object of the database, only the server's list of roles. What belongs to the gateway has a
//! mark in its comment; a role without it is never changed or dropped, whatever its name.

mod grants;
mod place;
mod settings;
mod sweep;
mod text;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gateway_core::adapter::ConfigProblem;
use gateway_core::credentials::{CredentialError, CredentialIssuer, Lease, LeaseRecord, LeaseRequest};
use gateway_core::gateway::Gateway;
use gateway_core::principal::Principal;
use gateway_core::resource::Resource;
use gateway_core::secret::Secret;
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::adapter::{MAINTENANCE, PROTOCOL, application_name};
use crate::admin::verifier::password;
use crate::admin::{code, failed, read};
use crate::structure::Structures;
use crate::tags::KnownTags;
use crate::target::{ResourceSettings, TargetError};
use grants::{Entitled, GRANTS};
use place::Place;
use settings::Settings;
use text::{Marker, NOT_OURS, SessionRole};

/// Databases whose rights are remembered at the same time, over all resources.
const MAX_PLACES: usize = 1_000;

/// Makes a role for each session, and drops it behind it.
pub struct RoleIssuer {
    structures: Arc<Structures>,
    tags: Arc<KnownTags>,
    places: Mutex<HashMap<(String, String), Arc<Place>>>,
    /// The role from which each lease of this process has its rights.
    granted: Mutex<HashMap<String, String>>,
}

impl std::fmt::Debug for RoleIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoleIssuer")
            .field("leases", &self.granted.lock().len())
            .finish_non_exhaustive()
    }
}

/// The role of a lease.
fn role_of(lease: &str) -> String {
    format!("gw_{lease}")
}

impl RoleIssuer {
    pub(crate) fn new(structures: Arc<Structures>, tags: Arc<KnownTags>) -> Self {
        Self {
            structures,
            tags,
            places: Mutex::default(),
            granted: Mutex::default(),
        }
    }

    fn place(&self, resource: &Arc<Resource>, database: &str) -> Arc<Place> {
        let key = (resource.name.clone(), database.to_owned());
        let mut places = self.places.lock();
        if let Some(place) = places.get(&key)
            && place.is_of(resource)
        {
            return place.clone();
        }
        if places.len() >= MAX_PLACES {
            places.clear();
        }
        let place = Arc::new(Place::new(resource.clone(), database.to_owned()));
        places.insert(key, place.clone());
        place
    }

    /// Where questions are asked that are about the server and not about one database.
    fn main_place(&self, resource: &Arc<Resource>) -> Arc<Place> {
        let pinned = ResourceSettings::of(resource).ok().and_then(|s| s.database);
        self.place(resource, pinned.as_deref().unwrap_or(MAINTENANCE))
    }

    async fn entitled(
        &self,
        gateway: &Arc<Gateway>,
        place: &Arc<Place>,
        principal: &Arc<Principal>,
    ) -> Result<Arc<Entitled>, CredentialError> {
        let tags = self.tags.of(&place.admin.resource, gateway.mask_key());
        let tags = tags.map_err(|e| CredentialError::Source(e.to_string()))?;
        let entitled = place.entitled(gateway, &self.structures, &tags, principal);
        entitled.await
    }

    /// How long statements of a principal may take at most, where all that policy permits there is limited. The same as a role
    /// would have that is made for a session; nothing is made.
    pub(crate) async fn timeout(
        &self,
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
        database: &str,
        principal: &Arc<Principal>,
    ) -> Result<Option<Duration>, CredentialError> {
        let place = self.place(resource, database);
        Ok(self.entitled(gateway, &place, principal).await?.timeout)
    }

    /// Rights, and the role that has them, made where it is not there.
    async fn ensured(
        &self,
        gateway: &Arc<Gateway>,
        place: &Arc<Place>,
        principal: &Arc<Principal>,
    ) -> Result<Arc<Entitled>, CredentialError> {
        let entitled = self.entitled(gateway, place, principal).await?;
        let Err(error) = place.ensure(gateway, &entitled).await else {
            return Ok(entitled);
        };
        // What is granted was dropped or renamed since its structure was read.
        tracing::debug!(%error, "rights are compiled again under a fresh structure");
        let (resource, database) = (&place.admin.resource.name, &place.admin.database);
        self.structures.supersede(resource, database);
        let entitled = self.entitled(gateway, place, principal).await?;
        place.ensure(gateway, &entitled).await?;
        Ok(entitled)
    }

    async fn make(&self, request: &LeaseRequest<'_>, place: &Arc<Place>) -> Result<Lease, CredentialError> {
        let gateway = request.gateway;
        let installation = gateway.installation().await?;
        let marker = Marker::of(&installation, request.id);
        let role = role_of(request.id);
        let (password, verifier) = password()?;
        let subject = &request.principal.subject;
        let expires = request
            .expires
            .ok_or_else(|| CredentialError::Issuer("a role is made for a time".to_owned()))?;
        let mut last = None;
        for _ in 0..3 {
            let before = place.admin.anew();
            let entitled = self.ensured(gateway, place, request.principal).await?;
            let server = place.admin.server(gateway).await.map_err(|e| failed(&e))?;
            let session = SessionRole {
                role: &role,
                grants: &entitled.role,
                verifier: &verifier,
                expires,
                marker: &marker,
                comment: &format!("principal={subject} session={}", request.session),
                application_name: &application_name(subject, request.session),
                timeout: entitled.timeout,
            };
            // Said before: the sweep of this gateway leaves alone what is about to be used.
            self.granted
                .lock()
                .insert(request.id.to_owned(), entitled.role.clone());
            let text = session.create(server).map_err(|e| failed(&e.into()))?;
            let error = match place.admin.ask(gateway, &text).await {
                Ok(_) => {
                    if place.admin.anew() != before {
                        // What was granted was granted in another database of this name.
                        let resource = &place.admin.resource.name;
                        self.structures.supersede(resource, &place.admin.database);
                        let known = Some(entitled.role.clone());
                        self.refit(gateway, place, request.principal, request.id, known)
                            .await?;
                    }
                    return Ok(lease(role, password));
                }
                Err(error) => error,
            };
            match code(&error) {
                // Somebody dropped the role that has the rights, for want of members.
                "42704" => {
                    place.forget(&entitled.role);
                    last = Some(error);
                }
                "42710" | "23505" => {
                    let there = text::is_there(&role, &marker).map_err(|e| failed(&e.into()))?;
                    let there = place.admin.ask(gateway, &there).await.map_err(|e| failed(&e))?;
                    // Ours: made by the first of two tries, whose answer was lost.
                    if there.as_deref() == Some("true") {
                        return Ok(lease(role, password));
                    }
                    return Err(CredentialError::Issuer(format!(
                        "there is a role `{role}` that this gateway did not make; it is not touched"
                    )));
                }
                _ => return Err(failed(&error)),
            }
        }
        Err(last.map_or_else(
            || CredentialError::Issuer("no role could be made".to_owned()),
            |error| failed(&error),
        ))
    }

    /// Gives a lease's role the rights that policy permits by now. `known`: the role from which it has those that it had.
    async fn refit(
        &self,
        gateway: &Arc<Gateway>,
        place: &Arc<Place>,
        principal: &Arc<Principal>,
        id: &str,
        known: Option<String>,
    ) -> Result<(), CredentialError> {
        let marker = Marker::of(&gateway.installation().await?, id);
        for last in [false, true] {
            let entitled = self.ensured(gateway, place, principal).await?;
            let regrant = async {
                let old = match &known {
                    Some(known) => vec![known.clone()],
                    None => self.granted(gateway, place, id).await?,
                };
                let server = place.admin.server(gateway).await?;
                let text = text::regrant(&role_of(id), &marker, &entitled.role, &old, server)?;
                place.admin.ask(gateway, &text).await
            };
            match regrant.await {
                Ok(_) => {
                    // A schema that the role may use by now, or no more, changes what bare names mean to the server.
                    self.structures
                        .supersede(&place.admin.resource.name, &place.admin.database);
                    self.granted.lock().insert(id.to_owned(), entitled.role.clone());
                    return Ok(());
                }
                Err(error) if !last && code(&error) == "42704" => place.forget(&entitled.role),
                Err(error) => return Err(changed(&error)),
            }
        }
        Ok(())
    }

    /// The roles from which a lease has its rights.
    async fn granted(
        &self,
        gateway: &Arc<Gateway>,
        place: &Place,
        id: &str,
    ) -> Result<Vec<String>, TargetError> {
        let text = text::memberships(&role_of(id))?;
        let all: Vec<String> = read(place.admin.ask(gateway, &text).await?)?;
        Ok(all.into_iter().filter(|role| role.starts_with(GRANTS)).collect())
    }
}

fn lease(username: String, password: Secret) -> Lease {
    Lease {
        username,
        password: Some(password),
        issued: None,
    }
}

#[async_trait]
impl CredentialIssuer for RoleIssuer {
    fn kind(&self) -> &'static str {
        "role"
    }

    fn protocol(&self) -> Option<&'static str> {
        Some(PROTOCOL)
    }

    fn check(&self, resource: &Resource) -> Result<(), ConfigProblem> {
        Settings::of(resource).map(drop)
    }

    fn term(&self, resource: &Resource) -> Option<Duration> {
        // A resource whose settings can't be read leases nothing; what it had leased is to be taken back all the same.
        Some(Settings::of(resource).map_or(Duration::from_secs(60), |settings| settings.ttl))
    }

    async fn lease(&self, request: LeaseRequest<'_>) -> Result<Lease, CredentialError> {
        let database = request.place.unwrap_or(MAINTENANCE);
        let place = self.place(request.resource, database);
        self.make(&request, &place).await
    }

    async fn own(&self, resource: &Arc<Resource>) -> Result<Lease, CredentialError> {
        let settings = Settings::of(resource).map_err(|e| CredentialError::Source(e.to_string()))?;
        settings.admin.login().await
    }

    async fn probe(
        &self,
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
        place: Option<&str>,
    ) -> Result<Vec<String>, CredentialError> {
        let place = self.place(resource, place.unwrap_or(MAINTENANCE));
        let answer = place
            .admin
            .ask(gateway, text::PROBE)
            .await
            .map_err(|e| failed(&e))?;
        let found: text::Probed = read(answer).map_err(|e| failed(&e))?;
        found.judged()
    }

    async fn renew(
        &self,
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
        lease: &LeaseRecord,
        until: Timestamp,
    ) -> Result<Timestamp, CredentialError> {
        let place = self.place(resource, lease.place.as_deref().unwrap_or(MAINTENANCE));
        let marker = Marker::of(&gateway.installation().await?, &lease.id);
        let renew = async {
            let server = place.admin.server(gateway).await?;
            let text = text::renew(&role_of(&lease.id), &marker, until, server)?;
            place.admin.ask(gateway, &text).await
        };
        renew.await.map(|_| until).map_err(|e| changed(&e))
    }

    async fn adjust(
        &self,
        gateway: &Arc<Gateway>,
        principal: &Arc<Principal>,
        resource: &Arc<Resource>,
        lease: &LeaseRecord,
    ) -> Result<(), CredentialError> {
        let place = self.place(resource, lease.place.as_deref().unwrap_or(MAINTENANCE));
        let entitled = match self.entitled(gateway, &place, principal).await {
            Ok(entitled) => entitled,
            Err(error) if place.is_policy_as_compiled(gateway, principal) => {
                // The database can't be looked at now. Nothing was taken from the session, and what it sends is judged
                // under a structure that is known, or not sent on.
                tracing::debug!(%error, lease = lease.id, "rights can't be fitted to the database now");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let known = self.granted.lock().get(&lease.id).cloned();
        if known.as_ref() == Some(&entitled.role) {
            // Somebody may have taken from that role what it should have.
            if let Err(error) = place.ensure(gateway, &entitled).await {
                tracing::debug!(%error, lease = lease.id, "rights can't be looked at now");
            }
            return Ok(());
        }
        self.refit(gateway, &place, principal, &lease.id, known).await
    }

    async fn revoke(
        &self,
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
        lease: &LeaseRecord,
    ) -> Result<(), CredentialError> {
        let marker = Marker::of(&gateway.installation().await?, &lease.id);
        let place = self.place(resource, lease.place.as_deref().unwrap_or(MAINTENANCE));
        let role = role_of(&lease.id);
        let mut removed = self.remove(gateway, &place, &role, &marker).await;
        if let Err(TargetError::Refused { code, .. }) = &removed
            && code == "3D000"
        {
            // Its database is gone; its role is not.
            let main = self.main_place(resource);
            removed = self.remove(gateway, &main, &role, &marker).await;
        }
        removed.map_err(|e| failed(&e))?;
        self.granted.lock().remove(&lease.id);
        Ok(())
    }

    async fn sweep(
        &self,
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
    ) -> Result<Vec<String>, CredentialError> {
        self.sweep_all(gateway, resource).await
    }
}

/// A change that the guard of the statement held back: the role is not there, or is not ours.
fn changed(error: &TargetError) -> CredentialError {
    if code(error) == NOT_OURS {
        return CredentialError::Issuer(
            "the session's role is not there any more, or is not this gateway's".to_owned(),
        );
    }
    failed(error)
}
