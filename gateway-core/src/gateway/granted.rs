//! What of a session stands on grants: when one ends, what it let in or let run ends as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::operation::Operations;
use crate::principal::Principal;
use crate::resource::Resource;
use crate::services::Policy;
use crate::verdict::Verdict;

/// Most uses that are kept of one session; one that has more ends with any grant.
const USES: usize = 1024;

/// The word between a template and the grant that fills it in, in the id of a rule: grants are approved requests.
const OF_A_GRANT: &str = "/apr_";

/// Something that a grant permitted.
#[derive(Debug)]
struct Use {
    /// The operation; `None`: the session itself.
    ticket: Option<u64>,
    principal: Arc<Principal>,
    resource: Arc<Resource>,
    operations: Arc<Operations>,
}

/// What of a session stands on grants.
#[derive(Debug, Default)]
pub(super) struct Granted {
    any: AtomicBool,
    uses: Mutex<Vec<Use>>,
}

/// Whether a grant is among the rules that permitted something.
pub(super) fn by_a_grant(rules: &[String]) -> bool {
    rules.iter().any(|rule| rule.contains(OF_A_GRANT))
}

impl Granted {
    /// A grant is among the rules that permitted this.
    pub(super) fn note(
        &self,
        ticket: Option<u64>,
        principal: &Arc<Principal>,
        resource: &Arc<Resource>,
        operations: &Arc<Operations>,
    ) {
        self.any.store(true, Ordering::Relaxed);
        let mut uses = self.uses.lock();
        if uses.len() <= USES {
            uses.push(Use {
                ticket,
                principal: principal.clone(),
                resource: resource.clone(),
                operations: operations.clone(),
            });
        }
    }

    /// An operation is over.
    pub(super) fn over(&self, ticket: u64) {
        if self.any.load(Ordering::Relaxed) {
            self.uses.lock().retain(|one| one.ticket != Some(ticket));
        }
    }

    /// Whether all of it would be permitted now as well.
    pub(super) fn stands(&self, policy: &dyn Policy) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return true;
        }
        let uses = self.uses.lock();
        let permitted = |one: &Use| {
            matches!(
                policy.decide(&one.principal, &one.resource, &one.operations),
                Verdict::Allow { .. }
            )
        };
        uses.len() <= USES && uses.iter().all(permitted)
    }
}
