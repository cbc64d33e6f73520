//! The policies in force, and their decisions.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;

use super::cache::{Caches, Who};
use super::combine::combine;
use super::errors::{PolicyError, PolicyErrors};
use super::grants::Grant;
use super::index::{Bucket, Index, collapses};
use super::load::{Rule, Rules, load, on_deep_stack};
use super::request::{Outcome, chain, evaluate};
use super::vocabulary::Vocabulary;
use crate::operation::{EntityRef, Operation, Operations};
use crate::principal::Principal;
use crate::resource::Resource;
use crate::services::Policy;
use crate::verdict::Verdict;

/// Decides operations by the policies of one directory.
#[derive(Debug)]
pub struct PolicyEngine {
    dir: PathBuf,
    vocabulary: Arc<Vocabulary>,
    current: ArcSwap<InForce>,
    /// Held while reloading, so that an older set never replaces a newer one.
    pub(super) reloading: Mutex<()>,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadOutcome {
    /// Whether anything is different.
    pub changed: bool,
    /// The version now in force.
    pub version: Arc<str>,
    /// How many policies are in force.
    pub policies: usize,
    /// What is legal but odd, for the log and for `policy check`.
    pub warnings: Vec<String>,
}

/// One set of policies with all that is derived from it.
#[derive(Debug)]
pub(super) struct InForce {
    /// Those of the files first, then what grants make of the templates.
    pub(super) rules: Rules,
    /// How many are of the files.
    pub(super) written: usize,
    pub(super) grants: Vec<Grant>,
    /// When the first of the grants ends.
    pub(super) next_end: Option<Timestamp>,
    index: Index,
    caches: Caches,
    /// Another one for every set that was ever in force.
    generation: u64,
}

/// How many sets have been made.
static SETS: AtomicU64 = AtomicU64::new(0);

impl InForce {
    fn load(dir: &Path, vocabulary: &Vocabulary) -> Result<Self, PolicyErrors> {
        on_deep_stack(dir, || Self::load_here(dir, vocabulary))
    }

    fn load_here(dir: &Path, vocabulary: &Vocabulary) -> Result<Self, PolicyErrors> {
        let rules = load(dir, vocabulary)?;
        let index = Index::new(&rules.list).map_err(|message| {
            let file = dir.to_owned();
            PolicyErrors(vec![PolicyError {
                file,
                line: 0,
                column: 0,
                message,
                help: None,
            }])
        })?;
        Ok(Self {
            written: rules.list.len(),
            rules,
            grants: Vec::new(),
            next_end: None,
            index,
            caches: Caches::new(),
            generation: SETS.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// The same policies of the files, with these of grants behind them.
    pub(super) fn again(
        &self,
        list: Vec<Rule>,
        grants: Vec<Grant>,
        next_end: Option<Timestamp>,
    ) -> Result<Self, String> {
        let index = Index::new(&list)?;
        Ok(Self {
            rules: Rules {
                list,
                templates: self.rules.templates.clone(),
                version: self.rules.version.clone(),
                warnings: self.rules.warnings.clone(),
            },
            written: self.written,
            grants,
            next_end,
            index,
            caches: Caches::new(),
            generation: SETS.fetch_add(1, Ordering::Relaxed),
        })
    }

    fn outcome(&self) -> ReloadOutcome {
        ReloadOutcome {
            changed: true,
            version: Arc::clone(&self.rules.version),
            policies: self.written,
            warnings: self.rules.warnings.clone(),
        }
    }
}

impl PolicyEngine {
    /// Loads the `*.cedar` files of `dir`, sorted by name; hidden files and directories in it are left out.
    ///
    /// # Errors
    /// All faults of all files; a directory that can't be read.
    pub fn open(dir: impl Into<PathBuf>, vocabulary: Arc<Vocabulary>) -> Result<Self, PolicyErrors> {
        let dir = dir.into();
        let current = ArcSwap::from_pointee(InForce::load(&dir, &vocabulary)?);
        let engine = Self {
            dir,
            vocabulary,
            current,
            reloading: Mutex::new(()),
        };
        for warning in engine.status().warnings {
            tracing::warn!(%warning, "policies");
        }
        Ok(engine)
    }

    /// Loads the directory again. A bad set keeps the old one in force. Reads files and may take a second for
    /// thousands of policies: within async code, call it by `spawn_blocking`.
    ///
    /// # Errors
    /// All faults of all files.
    pub fn reload(&self) -> Result<ReloadOutcome, PolicyErrors> {
        let _one = self.reloading.lock();
        let next = InForce::load(&self.dir, &self.vocabulary)?;
        let mut outcome = next.outcome();
        let current = self.current.load();
        outcome.changed = current.rules.version != next.rules.version;
        let next = match next.with_grants(current.grants.clone()) {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(%error, "the grants are not in force after the reload");
                next
            }
        };
        // Files may have moved while no policy changed: places and order are swapped in all the same.
        self.current.store(Arc::new(next));
        Ok(outcome)
    }

    /// What is in force: version, number of policies, warnings. `changed` says nothing here.
    pub fn status(&self) -> ReloadOutcome {
        self.current.load().outcome()
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What its policies can say.
    pub fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.vocabulary
    }

    /// How many policies are in force.
    pub fn policies(&self) -> usize {
        self.current.load().written
    }

    pub(super) fn put_in_force(&self, next: InForce) {
        self.current.store(Arc::new(next));
    }

    /// The set in force, less what is over by now.
    fn now_in_force(&self) -> arc_swap::Guard<Arc<InForce>> {
        let set = self.current.load();
        if set.next_end.is_some_and(|end| end <= Timestamp::now()) {
            self.end_grants(Timestamp::now());
            return self.current.load();
        }
        set
    }

    pub(super) fn in_force(&self) -> Arc<InForce> {
        self.current.load_full()
    }

    /// What policies say of one operation, evaluated afresh on the object itself.
    pub(super) fn evaluate(&self, set: &InForce, who: Who<'_>, operation: &Operation) -> Outcome {
        match chain(&self.vocabulary, operation, who.resource) {
            Ok(chain) => {
                let buckets = set.index.select(who.principal, operation.action.as_str(), &chain);
                self.evaluate_at(who, operation, &chain, &buckets)
            }
            Err(message) => Outcome {
                faults: vec![(None, message)],
                ..Outcome::default()
            },
        }
    }

    pub(super) fn evaluate_at(
        &self,
        who: Who<'_>,
        operation: &Operation,
        chain: &[EntityRef],
        buckets: &[&Bucket],
    ) -> Outcome {
        evaluate(
            &self.vocabulary,
            who.principal,
            who.resource,
            operation,
            chain,
            buckets,
        )
    }

    /// The same, by way of the cache, and on the object's parents where no policy can tell the difference.
    fn consult(&self, set: &InForce, who: Who<'_>, operation: &Operation) -> Arc<Outcome> {
        let chain = match chain(&self.vocabulary, operation, who.resource) {
            Ok(chain) => chain,
            Err(message) => {
                return Arc::new(Outcome {
                    faults: vec![(None, message)],
                    ..Outcome::default()
                });
            }
        };
        let action = operation.action.as_str();
        let buckets = set.index.select(who.principal, action, &chain);
        let mut at = chain.as_slice();
        while collapses(&self.vocabulary, operation, at, &buckets)
            && let [_, above @ ..] = at
        {
            at = above;
        }
        if let Some(outcome) = set.caches.operation(who, operation, at) {
            return outcome;
        }
        let outcome = match at.first() {
            Some(head) if *head != operation.object.entity => {
                let mut asked = operation.clone();
                asked.object.entity = head.clone();
                self.evaluate_at(who, &asked, at, &buckets)
            }
            _ => self.evaluate_at(who, operation, at, &buckets),
        };
        for (index, fault) in &outcome.faults {
            let rule = index
                .and_then(|index| set.rules.list.get(index))
                .map(|rule| rule.id.as_str());
            tracing::warn!(
                principal = %who.principal.subject,
                resource = %who.resource.name,
                action,
                object = %operation.object.entity,
                rule,
                %fault,
                "denied: the policies could not be evaluated"
            );
        }
        let outcome = Arc::new(outcome);
        set.caches
            .keep_operation(who, operation, at, Arc::clone(&outcome));
        outcome
    }
}

impl Policy for PolicyEngine {
    fn decide(
        &self,
        principal: &Arc<Principal>,
        resource: &Arc<Resource>,
        operations: &Arc<Operations>,
    ) -> Verdict {
        if operations.is_free() {
            return Verdict::free();
        }
        let set = self.now_in_force();
        let who = Who { principal, resource };
        if let Some(verdict) = set.caches.message(who, operations) {
            return verdict.as_ref().clone();
        }
        let outcomes: Vec<Arc<Outcome>> = operations
            .list()
            .iter()
            .map(|operation| self.consult(&set, who, operation))
            .collect();
        let verdict = combine(&set.rules.list, resource, operations, &outcomes);
        set.caches
            .keep_message(who, operations, Arc::new(verdict.clone()));
        verdict
    }

    fn version(&self) -> Arc<str> {
        Arc::clone(&self.current.load().rules.version)
    }

    fn generation(&self) -> u64 {
        self.now_in_force().generation
    }

    fn is_at(&self, version: &Arc<str>, generation: u64) -> bool {
        // Of one set, and without a count that all threads share.
        let now = self.now_in_force();
        let same = || Arc::ptr_eq(&now.rules.version, version) || now.rules.version == *version;
        now.generation == generation && same()
    }

    fn holds_for_its_version(&self) -> bool {
        true
    }

    fn named(&self, resource: &str) -> Vec<(EntityRef, String)> {
        self.objects_of(resource)
    }
}
