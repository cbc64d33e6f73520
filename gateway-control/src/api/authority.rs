//! What a caller may: the one place of the API that asks policy.

use std::collections::HashMap;
use std::sync::Arc;

use gateway_core::audit::Event;
use gateway_core::operation::{Action, Operation, Operations, truncate};
use gateway_core::principal::Authenticated;
use gateway_core::resource::Resource;
use gateway_core::verdict::{Obligations, Verdict};

use super::caller::Caller;
use super::{Api, Problem};
use crate::asked::{asks, deciding};

/// Longest reason and subject in the trail, in bytes.
const TEXT: usize = 500;

impl Api {
    /// The resource that decides over what belongs to the resource of that name.
    pub(super) fn deciding(&self, name: &str) -> Arc<Resource> {
        deciding(self.gateway(), &self.0.own, name)
    }

    fn verdict(
        &self,
        who: &Authenticated,
        resource: &Arc<Resource>,
        operations: &Arc<Operations>,
    ) -> Verdict {
        self.gateway()
            .policy()
            .decide(&who.principal, resource, operations)
    }

    /// Whether policy lets the caller do `action` on the resource of that name outright, for what is only shown or left
    /// out. A hold is no permit, nor is one with obligations.
    pub(crate) fn may(&self, caller: &Caller, action: Action, name: &str) -> bool {
        let Some(who) = caller.person() else {
            return true;
        };
        let resource = self.deciding(name);
        who.covers(&resource.name)
            && matches!(self.verdict(who, &resource, &asks(action, &resource.name)),
                Verdict::Allow { obligations, .. } if obligations == Obligations::default())
    }

    /// Whether policy lets the caller log in to the resource, wherever in it the protocol's usual client would; with a
    /// reason, where it demands one. Limits are for what runs in a session.
    pub(super) fn may_connect(&self, caller: &Caller, name: &str) -> bool {
        let Some(who) = caller.person() else {
            return true;
        };
        let resource = self.deciding(name);
        let adapter = self.0.parts.adapters.adapter(&resource.protocol);
        let asked = match adapter {
            Ok(adapter) => adapter.connects(&resource, None),
            Err(_) => vec![Operation::connect(&resource.name)],
        };
        who.covers(&resource.name)
            && asked.into_iter().any(|operation| {
                let summary = format!("connect {}", resource.name);
                let operations = Arc::new(Operations::new(vec![operation], summary));
                matches!(self.verdict(who, &resource, &operations), Verdict::Allow { .. })
            })
    }

    /// Whether there is any resource, the gateway's own among them, on which the caller may do `action` outright: whoever may
    /// nowhere need not be looked for.
    pub(super) fn may_anywhere(&self, caller: &Caller, action: &Action) -> bool {
        let resources = self.gateway().resources();
        let names = resources.keys().chain(std::iter::once(&self.0.own.name));
        caller.person().is_none()
            || names
                .into_iter()
                .any(|name| self.may(caller, action.clone(), name))
    }

    /// Demands that policy lets the caller do `action` on the resource of that name. A refusal is in the trail.
    pub(crate) fn demand(
        &self,
        caller: &Caller,
        action: Action,
        name: &str,
        reason: Option<&str>,
    ) -> Result<(), Problem> {
        let Some(who) = caller.person() else {
            return Ok(());
        };
        let resource = self.deciding(name);
        let operations = asks(action.clone(), &resource.name);
        let summary = operations.summary().to_owned();
        let (rule, detail) = if !who.covers(&resource.name) {
            (None, format!("your token is not for `{}`", resource.name))
        } else {
            match self.verdict(who, &resource, &operations) {
                Verdict::Allow { obligations, rules } => {
                    if obligations.limit_or_mask() {
                        let detail = "policy permits it with limits that hold for sessions; ask the operators' database";
                        (rules.first().cloned(), detail.to_owned())
                    } else if obligations.reason_required && reason.is_none_or(|text| text.trim().is_empty())
                    {
                        (
                            rules.first().cloned(),
                            "this needs a stated reason: `reason`".to_owned(),
                        )
                    } else {
                        return Ok(());
                    }
                }
                Verdict::Deny(denial) => (denial.rule, denial.hint),
                Verdict::Hold(hold) => {
                    let detail = "policy holds this for an approval, and the API does not wait; ask the operators' database";
                    (hold.rules.first().cloned(), detail.to_owned())
                }
            }
        };
        let told = format!("{summary}: {}", rule.as_deref().unwrap_or("no policy permits it"));
        self.gateway().note(&Event::Operator {
            by: caller.name().to_owned(),
            action: "refused".to_owned(),
            subject: told,
        });
        Err(Problem::denied(summary, rule, detail))
    }

    /// Writes down, durably, what the caller is about to do.
    pub(crate) async fn note(
        &self,
        caller: &Caller,
        action: &str,
        mut subject: String,
        reason: Option<&str>,
    ) -> Result<(), Problem> {
        if let Some(reason) = reason.map(str::trim).filter(|text| !text.is_empty()) {
            subject = format!("{subject}: {reason}");
        }
        truncate(&mut subject, TEXT);
        tracing::info!(by = caller.name(), action, subject, "control plane");
        let event = Event::Operator {
            by: caller.name().to_owned(),
            action: action.to_owned(),
            subject,
        };
        Ok(self.gateway().record(&event).await?)
    }
}

/// Asks policy about resources, each once.
pub(super) struct Sight<'a> {
    api: &'a Api,
    caller: &'a Caller,
    action: Action,
    seen: HashMap<String, bool>,
}

impl<'a> Sight<'a> {
    pub(super) fn new(api: &'a Api, caller: &'a Caller, action: Action) -> Self {
        Self {
            api,
            caller,
            action,
            seen: HashMap::new(),
        }
    }

    /// Whether the caller may do it on the resource of that name, or on what decides over it.
    pub(super) fn of(&mut self, name: &str) -> bool {
        let deciding = self.api.deciding(name);
        if let Some(known) = self.seen.get(&deciding.name) {
            return *known;
        }
        let may = self.api.may(self.caller, self.action.clone(), &deciding.name);
        self.seen.insert(deciding.name.clone(), may);
        may
    }
}
