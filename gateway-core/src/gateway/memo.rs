//! What a session has had decided, so that a statement which was decided before costs neither policy nor allocation.

use std::sync::Arc;

use super::granted::by_a_grant;
use crate::audit::Decided;
use crate::operation::Operations;
use crate::principal::Principal;
use crate::resource::Resource;
use crate::services::Policy;
use crate::verdict::Verdict;

/// Decisions that one session remembers, each in the place that its address gives: a newer one replaces it.
const PLACES: usize = 64;

/// One decision.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) verdict: Arc<Verdict>,
    /// Its part of the audit event.
    pub(super) decided: Arc<Decided>,
    /// The policies that decided it.
    pub(super) policy: Arc<str>,
    /// A grant is among the rules that permit it.
    pub(super) granted: bool,
    /// Keep the addresses, which are the key, from being used for others.
    operations: Arc<Operations>,
    resource: Arc<Resource>,
}

/// The decisions of one session, by the address of what was asked: an analysis that is used again asks the same
/// operations, not equal ones.
#[derive(Debug, Default)]
pub(super) struct Memo {
    /// Empty, or [`PLACES`] long.
    known: Vec<Option<Arc<Known>>>,
    policy: Option<(Arc<str>, u64)>,
}

impl Memo {
    /// The decision on `operations` by the policies that are in force now.
    pub(super) fn decide(
        &mut self,
        policy: &dyn Policy,
        principal: &Arc<Principal>,
        resource: &Arc<Resource>,
        operations: &Arc<Operations>,
    ) -> Arc<Known> {
        // Allocations are aligned to at least 16 bytes.
        let place = (Arc::as_ptr(operations).addr() >> 4) % PLACES;
        if let Some((version, generation)) = &self.policy
            && policy.holds_for_its_version()
            && let Some(Some(known)) = self.known.get(place)
            && Arc::ptr_eq(&known.operations, operations)
            && Arc::ptr_eq(&known.resource, resource)
            && policy.is_at(version, *generation)
        {
            return known.clone();
        }
        // The generation first: one that is older than the version only makes the next message ask again.
        let mut generation = policy.generation();
        let mut version = policy.version();
        let same = |known: &(Arc<str>, u64)| {
            known.1 == generation && (Arc::ptr_eq(&known.0, &version) || known.0 == version)
        };
        if !self.policy.as_ref().is_some_and(same) {
            self.known.clear();
            self.policy = Some((version.clone(), generation));
        }
        let verdict = loop {
            let verdict = policy.decide(principal, resource, operations);
            // A reload in between must not put one version's name on the other's decision.
            let (after, then) = (policy.version(), policy.generation());
            if then == generation && (Arc::ptr_eq(&after, &version) || after == version) {
                break verdict;
            }
            self.known.clear();
            self.policy = Some((after.clone(), then));
            (version, generation) = (after, then);
        };
        let known = Arc::new(Known {
            decided: Arc::new(Decided::new(
                principal,
                &resource.name,
                operations,
                &verdict,
                &version,
            )),
            granted: matches!(&verdict, Verdict::Allow { rules, .. } if by_a_grant(rules)),
            verdict: Arc::new(verdict),
            policy: version,
            operations: operations.clone(),
            resource: resource.clone(),
        });
        if self.known.is_empty() {
            self.known.resize_with(PLACES, || None);
        }
        if let Some(place) = self.known.get_mut(place) {
            *place = Some(known.clone());
        }
        known
    }
}
