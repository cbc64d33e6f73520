//! Sessions without a target: what they may ask about other resources, and when they end.

use std::sync::Arc;
use std::time::Instant;

use super::{Judged, SessionScope};
use crate::limits::Limits;
use crate::machine::{Bound, Question};
use crate::operation::Operations;
use crate::own::{Vigil, Watched};
use crate::resource::Resource;
use crate::verdict::{Obligations, Verdict};

impl SessionScope {
    /// Decides a message that is about another resource than the session's own (the operators' `KILL` of a session, say):
    /// the same choke point, the same trail.
    pub fn judge_on(&mut self, resource: &Arc<Resource>, question: &Question, now: Instant) -> Judged {
        let own = std::mem::replace(&mut self.resource, resource.clone());
        // Text and parameters are all that there is to a message here.
        let judged = self.judge(question, Bound::default, now);
        self.resource = own;
        judged
    }

    /// Whether policy permits `operations` on `resource` outright, without an event: for what is only shown or left out. A
    /// hold is no permit, nor is one with obligations: only an operation that is judged can meet them.
    pub fn may(&self, resource: &Arc<Resource>, operations: &Arc<Operations>) -> bool {
        let verdict = self
            .gateway
            .parts
            .policy
            .decide(&self.who.principal, resource, operations);
        matches!(verdict, Verdict::Allow { obligations, .. } if obligations == Obligations::default())
    }

    /// Watches over this session for whoever serves it without the driver.
    pub fn vigil(&self) -> Vigil {
        let control = &self.counters.control;
        let entry = self.counters.clone();
        let (gateway, credential) = (self.gateway.clone(), self.who.credential_id.clone());
        let limits = self.gateway.limits();
        Vigil::new(Watched {
            session: self.id,
            stop: control.stop.clone(),
            drain: control.drain.clone(),
            reason: Box::new(move || entry.control.reason()),
            still_valid: Box::new(move || super::still_valid(gateway.clone(), credential.clone())),
            remaining: self.remaining(),
            longest: Limits::optional(limits.session),
            idle: Limits::optional(limits.idle),
        })
    }
}
