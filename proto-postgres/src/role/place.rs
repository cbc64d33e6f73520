//! One database of one resource: what policy gives there, and the roles that have it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use gateway_core::credentials::CredentialError;
use gateway_core::gateway::Gateway;
use gateway_core::operation::Operations;
use gateway_core::principal::Principal;
use gateway_core::resource::Resource;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::grants::{At, Entitled, Part, Questions, size};
use super::text::{self, Marker, Missing, SHARED, Sequence, Wanted};
use crate::admin::{Admin, failed, read};
use crate::structure::{Structure, Structures};
use crate::tags::TagIndex;
use crate::target::TargetError;

/// How often it is looked whether a role has all that it should, and whether the admin login may grant more by now.
const LOOK: Duration = Duration::from_secs(60);
/// Principals whose rights are remembered in one database.
const MAX_PRINCIPALS: usize = 1_000;
/// Roles that are remembered in one database.
const MAX_ROLES: usize = 10_000;
/// A structure with more relations is worked through beside the threads that serve sessions.
const LARGE: usize = 200;
/// How many objects are named that can't be granted.
const NAMED: usize = 3;

pub(super) struct Place {
    pub(super) admin: Arc<Admin>,
    compiled: Mutex<HashMap<Arc<Principal>, Compiled>>,
    questions: Mutex<Option<(Weak<Structure>, Arc<Questions>)>>,
    /// Roles that have rights, and when it was looked whether they have all of them.
    shared: Mutex<HashMap<String, Instant>>,
    /// Of which database of this name that is; see [`Admin::anew`].
    of: AtomicU64,
    making: tokio::sync::Mutex<()>,
    /// What could not be granted when that was last told.
    told: Mutex<Vec<String>>,
}

/// The rights of a principal, and under which structure and policy.
#[derive(Clone)]
struct Compiled {
    structure: Weak<Structure>,
    version: Arc<str>,
    generation: u64,
    entitled: Arc<Entitled>,
}

impl Place {
    pub(super) fn new(resource: Arc<Resource>, database: String) -> Self {
        Self {
            admin: Arc::new(Admin::new(resource, database)),
            compiled: Mutex::default(),
            questions: Mutex::default(),
            shared: Mutex::default(),
            of: AtomicU64::new(0),
            making: tokio::sync::Mutex::default(),
            told: Mutex::default(),
        }
    }

    pub(super) fn is_of(&self, resource: &Arc<Resource>) -> bool {
        Arc::ptr_eq(&self.admin.resource, resource)
    }

    fn at(&self) -> At<'_> {
        At {
            resource: &self.admin.resource.name,
            database: &self.admin.database,
        }
    }

    /// What policy permits a principal here by now.
    pub(super) async fn entitled(
        self: &Arc<Self>,
        gateway: &Arc<Gateway>,
        structures: &Structures,
        tags: &Arc<TagIndex>,
        principal: &Arc<Principal>,
    ) -> Result<Arc<Entitled>, CredentialError> {
        let (resource, database) = (&self.admin.resource, &self.admin.database);
        let structure = structures.structure(gateway, resource, database, tags, None);
        let structure = structure.await.map_err(|e| failed(&e))?;
        // Asked first: what changes meanwhile makes what is compiled old.
        let (version, generation) = (gateway.policy().version(), gateway.policy().generation());
        let known = self.compiled.lock().get(principal).cloned();
        let known = known.filter(|known| {
            gateway.policy().holds_for_its_version()
                && known.version == version
                && known.generation == generation
                && std::ptr::eq(known.structure.as_ptr(), Arc::as_ptr(&structure))
        });
        if let Some(known) = known {
            return Ok(known.entitled);
        }
        let entitled = self.compile(gateway, &structure, principal).await?;
        let mut compiled = self.compiled.lock();
        if compiled.len() >= MAX_PRINCIPALS {
            compiled.clear();
        }
        let entry = Compiled {
            structure: Arc::downgrade(&structure),
            version,
            generation,
            entitled: entitled.clone(),
        };
        compiled.insert(principal.clone(), entry);
        Ok(entitled)
    }

    /// Whether policy is as it was when a principal's rights were compiled, whatever the database is by now.
    pub(super) fn is_policy_as_compiled(&self, gateway: &Gateway, principal: &Arc<Principal>) -> bool {
        let policy = gateway.policy();
        let known = self.compiled.lock().get(principal).cloned();
        policy.holds_for_its_version()
            && known.is_some_and(|known| {
                known.version == policy.version() && known.generation == policy.generation()
            })
    }

    async fn compile(
        self: &Arc<Self>,
        gateway: &Arc<Gateway>,
        structure: &Arc<Structure>,
        principal: &Arc<Principal>,
    ) -> Result<Arc<Entitled>, CredentialError> {
        let installation = gateway.installation().await?;
        let work = {
            let (place, gateway) = (self.clone(), gateway.clone());
            let (structure, principal) = (structure.clone(), principal.clone());
            move || {
                let questions = place.questions(&structure);
                let decide = |operations: &Arc<Operations>| {
                    gateway
                        .policy()
                        .decide(&principal, &place.admin.resource, operations)
                };
                let rights = questions.rights(&structure, place.at(), &decide);
                Arc::new(rights.entitle(&installation, place.at()))
            }
        };
        if size(structure) <= LARGE {
            return Ok(work());
        }
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_| CredentialError::Issuer("compiling policy to rights failed".to_owned()))
    }

    fn questions(&self, structure: &Arc<Structure>) -> Arc<Questions> {
        let mut known = self.questions.lock();
        if let Some((of, questions)) = known.as_ref()
            && std::ptr::eq(of.as_ptr(), Arc::as_ptr(structure))
        {
            return questions.clone();
        }
        let questions = Arc::new(Questions::of(structure, self.at()));
        *known = Some((Arc::downgrade(structure), questions.clone()));
        questions
    }

    /// Sees to it that the role is there that has these rights.
    pub(super) async fn ensure(
        &self,
        gateway: &Arc<Gateway>,
        entitled: &Entitled,
    ) -> Result<(), CredentialError> {
        if self.is_ensured(&entitled.role) {
            return Ok(());
        }
        let _making = self.making.lock().await;
        if self.is_ensured(&entitled.role) {
            return Ok(());
        }
        let installation = gateway.installation().await?;
        let marker = Marker::of(&installation, SHARED);
        for part in &entitled.parts {
            if !self.is_ensured(&part.role) {
                self.made(|| self.make(gateway, part, &marker)).await?;
                self.remember(&part.role);
            }
        }
        if entitled.parts.iter().all(|part| part.role != entitled.role) {
            let together = || self.make_together(gateway, entitled, &marker);
            if let Err(error) = self.made(together).await {
                // Somebody may have dropped a part for want of members.
                entitled.parts.iter().for_each(|part| self.forget(&part.role));
                return Err(error);
            }
            self.remember(&entitled.role);
        }
        Ok(())
    }

    /// Does it, and once more where it was there: another gateway was faster then.
    async fn made<F: Future<Output = Result<(), TargetError>>>(
        &self,
        make: impl Fn() -> F,
    ) -> Result<(), CredentialError> {
        match make().await {
            Err(TargetError::Refused { code, .. }) if matches!(code.as_str(), "42710" | "23505") => {
                make().await.map_err(|e| failed(&e))
            }
            made => made.map_err(|e| failed(&e)),
        }
    }

    fn remember(&self, role: &str) {
        let mut shared = self.shared.lock();
        if shared.len() >= MAX_ROLES {
            shared.clear();
        }
        shared.insert(role.to_owned(), Instant::now());
    }

    fn is_ensured(&self, role: &str) -> bool {
        let mut shared = self.shared.lock();
        let of = self.admin.anew();
        if self.of.swap(of, Ordering::AcqRel) != of {
            shared.clear();
        }
        shared.get(role).is_some_and(|at| at.elapsed() < LOOK)
    }

    /// A role is not there any more, or may not be.
    pub(super) fn forget(&self, role: &str) {
        self.shared.lock().remove(role);
    }

    /// Whether a role is there; an error if it is somebody else's.
    pub(super) async fn is_there(
        &self,
        gateway: &Arc<Gateway>,
        role: &str,
        marker: &Marker,
    ) -> Result<bool, TargetError> {
        let there = self.admin.ask(gateway, &text::is_there(role, marker)?).await?;
        match there.as_deref() {
            None => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(TargetError::Structure(format!(
                "there is a role `{role}` that this gateway did not make; it is not touched"
            ))),
        }
    }

    async fn make(&self, gateway: &Arc<Gateway>, part: &Part, marker: &Marker) -> Result<(), TargetError> {
        let Part { rights, role } = part;
        let ask = |text: String| async move { self.admin.ask(gateway, &text).await };
        let there = self.is_there(gateway, role, marker).await?;
        let sequences: Vec<Sequence> = match text::sequences(rights) {
            Some(text) => read(ask(text).await?)?,
            None => Vec::new(),
        };
        let wanted = text::wanted(rights, sequences);
        let holder = if there { role } else { "public" };
        let missing: Vec<Missing> = read(ask(text::missing(&wanted, holder)?).await?)?;
        self.tell(&wanted, &missing);
        let mut grants = text::grant(role, &wanted, &missing, &self.admin.database)?;
        if !grants.is_empty() {
            grants.push_str(&text::as_named(&wanted)?);
        }
        if !there {
            ask(text::create_shared(role, marker, gateway.now(), &grants)?).await?;
        } else if !grants.is_empty() {
            ask(text::repair(role, marker, &grants)?).await?;
        }
        Ok(())
    }

    /// The role that has all parts.
    async fn make_together(
        &self,
        gateway: &Arc<Gateway>,
        entitled: &Entitled,
        marker: &Marker,
    ) -> Result<(), TargetError> {
        let role = &entitled.role;
        let there = self.is_there(gateway, role, marker).await?;
        let server = self.admin.server(gateway).await?;
        let parts: Vec<&str> = entitled.parts.iter().map(|part| part.role.as_str()).collect();
        let grants = text::join(role, &parts, server)?;
        let text = if there {
            text::repair(role, marker, &grants)?
        } else {
            text::create_shared(role, marker, gateway.now(), &grants)?
        };
        self.admin.ask(gateway, &text).await.map(drop)
    }

    /// Warns of what can't be granted, once.
    fn tell(&self, wanted: &[Wanted], missing: &[Missing]) {
        let refused = missing.iter().filter(|(_, may, _)| !may);
        let mut names: Vec<String> = refused
            .filter_map(|(n, ..)| wanted.get(*n))
            .map(ToString::to_string)
            .collect();
        names.dedup();
        if names.is_empty() {
            return;
        }
        let mut told = self.told.lock();
        if names.iter().all(|name| told.contains(name)) {
            return;
        }
        tracing::warn!(
            resource = self.admin.resource.name,
            database = self.admin.database,
            objects = names.len(),
            examples = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", "),
            "policy permits what the admin login may not grant: make it the owner, a member of the owner, or grant it WITH GRANT OPTION"
        );
        *told = names;
    }
}
