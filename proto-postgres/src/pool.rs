//! `credential.kind = "pool"`: roles that are prepared at the target, each for one session at a time, with a password of its
//! own each time.
//!
//! ```text
//!  lease ──journal: this role is mine──▶ role ──new password, settings reset──▶ session
//!                                         ▲                                        │
//!                                         └──── no password, backends ended ───────┘
//! ```
//!
//! For targets where nothing may be made for a session, and for replicas: there the password is changed at the primary, and the
//! session begins once the replica has followed. What a session may do at the target is what the roles may: policy gives and
//! takes nothing there.

mod free;
mod settings;
mod text;
mod turn;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gateway_core::adapter::ConfigProblem;
use gateway_core::credentials::{
    CredentialError, CredentialIssuer, Lease, LeaseRecord, LeaseRequest, LeaseState, Slot,
};
use gateway_core::gateway::Gateway;
use gateway_core::resource::Resource;
use gateway_core::session::SessionId;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::adapter::{MAINTENANCE, PROTOCOL};
use crate::role::RoleIssuer;
use crate::target::{ResourceSettings, TargetError};
use free::Pool;
use settings::Settings;
use turn::{NotOpened, told};

/// Resources whose pools are remembered.
const MAX_POOLS: usize = 1_000;
/// Faults that are told in one sentence.
const TOLD: usize = 3;
/// For how long a sweep has what it closes.
const SWEPT: Duration = Duration::from_secs(60);

/// Gives sessions roles that are there.
pub struct PoolIssuer {
    /// It knows what policy permits, and for how long.
    roles: Arc<RoleIssuer>,
    pools: Mutex<HashMap<String, Arc<Pool>>>,
}

impl std::fmt::Debug for PoolIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolIssuer")
            .field("pools", &self.pools.lock().len())
            .finish_non_exhaustive()
    }
}

impl PoolIssuer {
    pub(crate) fn new(roles: Arc<RoleIssuer>) -> Self {
        Self {
            roles,
            pools: Mutex::default(),
        }
    }

    fn pool(&self, resource: &Arc<Resource>) -> Result<Arc<Pool>, CredentialError> {
        let mut pools = self.pools.lock();
        if let Some(pool) = pools.get(&resource.name)
            && pool.is_of(resource)
        {
            return Ok(pool.clone());
        }
        let settings = Settings::of(resource).map_err(|e| CredentialError::Source(e.to_string()))?;
        let database = ResourceSettings::of(resource).ok().and_then(|s| s.database);
        if pools.len() >= MAX_POOLS {
            pools.clear();
        }
        let database = database.as_deref().unwrap_or(MAINTENANCE);
        let pool = Arc::new(Pool::new(resource, settings, database));
        pools.insert(resource.name.clone(), pool.clone());
        Ok(pool)
    }

    /// Closes a role that no lease has: as one of its own, in the journal like any other, so that no session gets it meanwhile
    /// and it is taken back whatever happens. `false`: a lease has it.
    async fn sweep_one(
        &self,
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
        pool: &Pool,
        role: &str,
    ) -> Result<bool, CredentialError> {
        let store = gateway.lease_store();
        let slot = pool.slot(gateway, role).await.map_err(|e| told(&e))?;
        let now = gateway.now();
        let mut record = LeaseRecord {
            id: LeaseRecord::new_id(),
            kind: self.kind().to_owned(),
            resource: resource.name.clone(),
            place: None,
            session: SessionId::generate(),
            subject: "gateway".to_owned(),
            created: now,
            expires: now.saturating_add(SWEPT).unwrap_or(Timestamp::MAX),
            state: LeaseState::Held,
            attempts: 0,
            due: now,
            error: None,
            handle: None,
        };
        store.put_lease(&record).await?;
        let closed = async {
            if !store.claim_slot(&record.id, &slot).await? {
                return Ok(false);
            }
            pool.close(gateway, role).await.map_err(|e| told(&e))?;
            Ok(true)
        };
        match closed.await {
            Ok(closed) => {
                store.remove_lease(&record.id).await?;
                Ok(closed)
            }
            Err(error) => {
                record.state = LeaseState::Returned;
                record.attempts = 1;
                let error: CredentialError = error;
                record.error = Some(error.to_string());
                store.put_lease(&record).await?;
                Err(error)
            }
        }
    }
}

#[async_trait]
impl CredentialIssuer for PoolIssuer {
    fn kind(&self) -> &'static str {
        "pool"
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

    fn first_choice(&self, resource: &Arc<Resource>, id: &str) -> Option<Slot> {
        self.pool(resource).ok()?.first_choice(id)
    }

    async fn lease(&self, request: LeaseRequest<'_>) -> Result<Lease, CredentialError> {
        let pool = self.pool(request.resource)?;
        let database = request.place.unwrap_or(MAINTENANCE);
        let timeout = self
            .roles
            .timeout(request.gateway, request.resource, database, request.principal)
            .await?;
        let until = Instant::now() + pool.settings.wait;
        // Claimed with the lease's first line.
        let mut first = request.gateway.lease_store().slot_of(request.id).await?;
        loop {
            let slot = match first.take() {
                Some(slot) => slot,
                None => {
                    pool.give_back(request.id);
                    pool.claim(request.gateway, request.id, until).await?
                }
            };
            match pool.open(&request, &slot, timeout).await {
                Ok(lease) => {
                    // This gateway may have counted as gone meanwhile, and the role as free.
                    return match pool.is_of_lease(request.gateway, request.id, &slot).await {
                        Ok(true) => Ok(lease),
                        Ok(false) | Err(NotOpened::Unfit(_)) => {
                            let why = "the lease was struck out of the journal while its role was made ready";
                            Err(CredentialError::Issuer(why.to_owned()))
                        }
                        Err(NotOpened::Failed(error)) => Err(error),
                    };
                }
                Err(NotOpened::Unfit(why)) => pool.set_aside(request.id, &slot.name, &why),
                Err(NotOpened::Failed(error)) => return Err(error),
            }
        }
    }

    async fn own(&self, resource: &Arc<Resource>) -> Result<Lease, CredentialError> {
        let settings = Settings::of(resource).map_err(|e| CredentialError::Source(e.to_string()))?;
        settings.admin.login().await
    }

    async fn probe(
        &self,
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
        _: Option<&str>,
    ) -> Result<Vec<String>, CredentialError> {
        let pool = self.pool(resource)?;
        let roles = &pool.settings.roles;
        let looked = async {
            let recovering = "SELECT pg_is_in_recovery()::text";
            if pool.primary.ask(gateway, recovering).await?.as_deref() == Some("true") {
                return Err(TargetError::Structure(
                    "passwords can't be changed there, it is a replica: name the primary in credential.admin.address"
                        .to_owned(),
                ));
            }
            pool.slot(gateway, "").await?;
            if let Some(replica) = &pool.replica {
                let there = replica.ask(gateway, text::SYSTEM).await?;
                if there != pool.primary.ask(gateway, text::SYSTEM).await? {
                    return Err(TargetError::Structure(
                        "credential.admin.address is not the primary of this target".to_owned(),
                    ));
                }
            }
            pool.facts(gateway, roles).await
        };
        let facts = looked.await.map_err(|e| told(&e))?;
        let faults: Vec<String> = roles
            .iter()
            .filter_map(|role| match facts.iter().find(|fact| fact.role == *role) {
                None => Some(format!("there is no role `{role}`: CREATE ROLE {role} LOGIN")),
                Some(fact) => fact.fault(&pool.settings.admin.username),
            })
            .collect();
        if faults.is_empty() {
            return Ok(vec![format!("{} roles can be given to sessions", roles.len())]);
        }
        let some: Vec<&str> = faults.iter().take(TOLD).map(String::as_str).collect();
        Err(CredentialError::Issuer(format!(
            "{} of {} roles can't be given to sessions: {}",
            faults.len(),
            roles.len(),
            some.join("; ")
        )))
    }

    async fn renew(
        &self,
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
        lease: &LeaseRecord,
        until: Timestamp,
    ) -> Result<Timestamp, CredentialError> {
        let pool = self.pool(resource)?;
        let Some(slot) = gateway.lease_store().slot_of(&lease.id).await? else {
            return Err(CredentialError::Issuer(
                "the lease is in the journal no more".to_owned(),
            ));
        };
        let renew = async {
            let server = pool.primary.server(gateway).await?;
            let text = text::renew(&slot.name, until, server)?;
            pool.primary.ask(gateway, &text).await
        };
        renew.await.map(|_| until).map_err(|e| told(&e))
    }

    async fn revoke(
        &self,
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
        lease: &LeaseRecord,
    ) -> Result<(), CredentialError> {
        // Asked each time: where this gateway counted as gone, another one may have struck the lease out and given its role away.
        let slot = gateway.lease_store().slot_of(&lease.id).await?;
        let pool = self.pool(resource)?;
        if let Some(slot) = slot {
            pool.close(gateway, &slot.name).await.map_err(|e| told(&e))?;
        }
        pool.give_back(&lease.id);
        Ok(())
    }

    async fn sweep(
        &self,
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
    ) -> Result<Vec<String>, CredentialError> {
        let pool = self.pool(resource)?;
        let facts = pool.facts(gateway, &pool.settings.roles).await;
        let facts = facts.map_err(|e| told(&e))?;
        let slot = pool.slot(gateway, "").await.map_err(|e| told(&e))?;
        let taken = gateway.lease_store().slots(&slot.pool).await?;
        let (mut closed, mut failure) = (Vec::new(), None);
        for fact in facts {
            if !fact.is_open() || taken.contains(&fact.role) {
                continue;
            }
            match self.sweep_one(gateway, resource, &pool, &fact.role).await {
                // One that was just prepared has no end; there is nothing to warn of.
                Ok(true) if fact.ends.is_some() || fact.backends > 0 => closed.push(fact.role),
                Ok(_) => {}
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(failure) if closed.is_empty() => Err(failure),
            _ => Ok(closed),
        }
    }
}
