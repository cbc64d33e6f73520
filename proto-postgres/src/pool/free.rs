//! The roles of one resource's pool: which are free, as far as this gateway knows, and who claims one. What counts is the
//! journal: there a role is one lease's, whatever gateway has that.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use gateway_core::credentials::{CredentialError, Slot};
use gateway_core::gateway::Gateway;
use gateway_core::resource::Resource;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::settings::Settings;
use super::text::SYSTEM;
use crate::admin::{Admin, failed};
use crate::target::TargetError;

/// How often it is looked whether a role has become free.
const LOOK: Duration = Duration::from_millis(20);
/// For how long a role that is not as it must be is not tried again.
const UNFIT: Duration = Duration::from_secs(10);
/// How often the server is asked which it is.
const SYSTEM_FOR: Duration = Duration::from_secs(60);

pub(super) struct Pool {
    resource: Arc<Resource>,
    pub(super) settings: Settings,
    /// Where roles are changed.
    pub(super) primary: Arc<Admin>,
    /// The target, where that is a replica.
    pub(super) replica: Option<Arc<Admin>>,
    /// Roles that no lease of this gateway has; the first is free the longest.
    free: Mutex<VecDeque<String>>,
    /// The role that each lease of this gateway has, or had until it was struck out by somebody else.
    given: Mutex<HashMap<String, String>>,
    unfit: Mutex<HashMap<String, (Instant, String)>>,
    /// Who waits for a role does so in turn.
    turn: tokio::sync::Mutex<()>,
    system: Mutex<Option<(Instant, Arc<str>)>>,
}

impl Pool {
    pub(super) fn new(resource: &Arc<Resource>, settings: Settings, database: &str) -> Self {
        let here = |resource: Arc<Resource>| Arc::new(Admin::new(resource, database.to_owned()));
        let target = here(resource.clone());
        let (primary, replica) = match &settings.primary {
            None => (target, None),
            Some(address) => {
                let primary = Resource {
                    address: address.clone(),
                    ..Resource::clone(resource)
                };
                (here(Arc::new(primary)), Some(target))
            }
        };
        Self {
            resource: resource.clone(),
            free: Mutex::new(settings.roles.iter().cloned().collect()),
            given: Mutex::default(),
            settings,
            primary,
            replica,
            unfit: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            system: Mutex::default(),
        }
    }

    pub(super) fn is_of(&self, resource: &Arc<Resource>) -> bool {
        Arc::ptr_eq(&self.resource, resource)
    }

    /// What a role of this server is called in the journal. Resources that lead to the same server, or to replicas of it, share
    /// its roles, so that none of them gives away what another one's session has.
    pub(super) async fn slot(&self, gateway: &Arc<Gateway>, role: &str) -> Result<Slot, TargetError> {
        let known = self.system.lock().clone();
        let pool = match known.filter(|(at, _)| at.elapsed() < SYSTEM_FOR) {
            Some((_, system)) => system,
            None => {
                let told = self.primary.ask(gateway, SYSTEM).await?.unwrap_or_default();
                let system: Arc<str> = Arc::from(format!("postgres {told}"));
                *self.system.lock() = Some((Instant::now(), system.clone()));
                system
            }
        };
        Ok(Slot {
            pool: pool.to_string(),
            name: role.to_owned(),
        })
    }

    /// The role that is free the longest, as far as is known here. `None`: nothing is known, or others wait already.
    pub(super) fn first_choice(&self, id: &str) -> Option<Slot> {
        let _turn = self.turn.try_lock().ok()?;
        let system = self.system.lock().clone();
        let (_, system) = system.filter(|(at, _)| at.elapsed() < SYSTEM_FOR)?;
        let candidates = self.candidates().ok()?;
        let role = candidates.into_iter().next()?;
        self.free.lock().retain(|free| *free != role);
        self.given.lock().insert(id.to_owned(), role.clone());
        Some(Slot {
            pool: system.to_string(),
            name: role,
        })
    }

    /// Gives a lease a role that is free, before `until`.
    pub(super) async fn claim(
        &self,
        gateway: &Arc<Gateway>,
        id: &str,
        until: Instant,
    ) -> Result<Slot, CredentialError> {
        // Who comes first is served first, and one alone looks.
        let Ok(_turn) = tokio::time::timeout_at(until, self.turn.lock()).await else {
            return Err(self.busy());
        };
        loop {
            if let Some(slot) = self.try_claim(gateway, id).await? {
                return Ok(slot);
            }
            if Instant::now() + LOOK > until {
                return Err(self.busy());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn try_claim(&self, gateway: &Arc<Gateway>, id: &str) -> Result<Option<Slot>, CredentialError> {
        let store = gateway.lease_store();
        let candidates = self.candidates()?;
        let mut taken = None;
        for role in candidates {
            let slot = self.slot(gateway, &role).await.map_err(|e| failed(&e))?;
            let is_taken = |taken: &Vec<String>| taken.contains(&role);
            if taken.as_ref().is_some_and(is_taken) {
                continue;
            }
            if store.claim_slot(id, &slot).await? {
                self.free.lock().retain(|free| *free != role);
                self.given.lock().insert(id.to_owned(), role);
                return Ok(Some(slot));
            }
            // Another gateway has it, or it is about to be struck out. Which others are taken is asked once.
            self.put_last(&role);
            if taken.is_none() {
                taken = Some(store.slots(&slot.pool).await?);
            }
        }
        Ok(None)
    }

    fn put_last(&self, role: &str) {
        let mut free = self.free.lock();
        if let Some(at) = free.iter().position(|free| *free == role)
            && let Some(role) = free.remove(at)
        {
            free.push_back(role);
        }
    }

    /// Those that are worth a try. An error: none is as it must be.
    fn candidates(&self) -> Result<Vec<String>, CredentialError> {
        let mut unfit = self.unfit.lock();
        unfit.retain(|_, (at, _)| at.elapsed() < UNFIT);
        if unfit.len() >= self.settings.roles.len() {
            let why = unfit.values().next().map_or("", |(_, why)| why.as_str());
            return Err(CredentialError::Issuer(format!(
                "none of the pool's {} roles can be used: {why}",
                self.settings.roles.len()
            )));
        }
        let free = self.free.lock();
        Ok(free
            .iter()
            .filter(|role| !unfit.contains_key(*role))
            .cloned()
            .collect())
    }

    fn busy(&self) -> CredentialError {
        CredentialError::Busy(format!(
            "no role of the pool became free within {:?}: {} sessions have one each; give the pool more roles, or a longer \
             `wait`",
            self.settings.wait,
            self.settings.roles.len()
        ))
    }

    /// The role that a lease was given is not as it must be.
    pub(super) fn set_aside(&self, id: &str, role: &str, why: &str) {
        tracing::warn!(
            resource = self.resource.name,
            why,
            "a role of the pool can't be used"
        );
        let now = Instant::now();
        self.unfit.lock().insert(role.to_owned(), (now, why.to_owned()));
        self.give_back(id);
    }

    /// A lease has nothing any more.
    pub(super) fn give_back(&self, id: &str) {
        let Some(role) = self.given.lock().remove(id) else {
            return;
        };
        let mut free = self.free.lock();
        if !free.contains(&role) {
            free.push_back(role);
        }
    }
}
