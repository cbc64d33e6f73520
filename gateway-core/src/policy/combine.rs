//! From what policies say of each operation to one verdict on the message.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::annotations::Approve;
use super::load::Rule;
use super::request::Outcome;
use crate::operation::{Action, Operation, Operations, truncate};
use crate::plain::plain;
use crate::resource::Resource;
use crate::verdict::{Code, Denial, Hold, LimitedBy, Obligations, Verdict};

/// The strictest wins: the order is the order of strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Word {
    Allow,
    /// Refused, but what it asks for can be masked instead.
    Mask,
    Hold,
    Deny,
}

impl Word {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Mask => "mask",
            Self::Hold => "hold",
            Self::Deny => "deny",
        }
    }
}

/// The verdict on one operation.
pub(super) fn word(rules: &[Rule], operation: &Operation, outcome: &Outcome) -> Word {
    match policies_say(rules, outcome) {
        Word::Deny if operation.or_mask && operation.action == Action::UNMASK => Word::Mask,
        Word::Deny if operation.reached && outcome.is_silent() => Word::Allow,
        word => word,
    }
}

fn policies_say(rules: &[Rule], outcome: &Outcome) -> Word {
    if !outcome.faults.is_empty() || !outcome.forbids.is_empty() || outcome.permits.is_empty() {
        return Word::Deny;
    }
    let mut permits = outcome.permits.iter().map(|index| rules.get(*index));
    // A rule that is not there permits nothing.
    if permits.clone().any(|rule| rule.is_none_or(|rule| rule.forbid)) {
        Word::Deny
    } else if permits.all(|rule| rule.is_some_and(|rule| rule.annotations.approve.is_some())) {
        Word::Hold
    } else {
        Word::Allow
    }
}

/// The verdict on a message: `outcomes` has one for each of its operations.
pub(super) fn combine(
    rules: &[Rule],
    resource: &Resource,
    operations: &Operations,
    outcomes: &[Arc<Outcome>],
) -> Verdict {
    let mut all = Combined::default();
    let mut outcomes = outcomes.iter();
    for operation in operations.list() {
        // An operation that was not evaluated is not permitted.
        let Some(outcome) = outcomes.next() else {
            let none = Outcome::default();
            return Verdict::Deny(denial(rules, resource, operations, operation, &none));
        };
        let word = word(rules, operation, outcome);
        if word == Word::Deny {
            return Verdict::Deny(denial(rules, resource, operations, operation, outcome));
        }
        if word == Word::Mask {
            let tag = operation.object.entity.id.as_str();
            all.obligations.mask.insert(tag.to_owned());
            continue;
        }
        for rule in outcome.permits.iter().filter_map(|index| rules.get(*index)) {
            all.permit(rule);
            if let (Word::Hold, Some(approve)) = (word, &rule.annotations.approve) {
                all.hold(rule, approve);
            }
        }
        if word == Word::Hold && all.held.is_none() {
            all.held = Some(describe(operation, resource));
        }
    }
    if all.by != LimitedBy::default() {
        all.obligations.by = Some(Arc::new(all.by));
    }
    match all.held {
        None => Verdict::Allow {
            obligations: all.obligations,
            rules: all.rules,
        },
        Some(first) => {
            let summary = operations.summary();
            Verdict::Hold(Hold {
                groups: all.groups,
                approvers: all.approvers.max(1),
                expires: all.expires,
                wait: all.wait,
                rules: all.holding,
                operation: if summary.is_empty() {
                    first
                } else {
                    summary.to_owned()
                },
                obligations: all.obligations,
            })
        }
    }
}

#[derive(Default)]
struct Combined {
    obligations: Obligations,
    by: LimitedBy,
    rules: Vec<String>,
    held: Option<String>,
    holding: Vec<String>,
    groups: BTreeSet<String>,
    approvers: u32,
    expires: Option<Duration>,
    wait: Option<Duration>,
}

impl Combined {
    fn permit(&mut self, rule: &Rule) {
        let own = &rule.annotations;
        let all = &mut self.obligations;
        limit(&mut all.rows, &mut self.by.rows, own.rows, &rule.id);
        limit(&mut all.timeout, &mut self.by.timeout, own.timeout, &rule.id);
        if own.reason_required && !self.obligations.reason_required {
            self.obligations.reason_required = true;
            self.by.reason = Some(rule.id.clone());
        }
        add(&mut self.rules, &rule.id);
    }

    fn hold(&mut self, rule: &Rule, approve: &Approve) {
        self.groups.insert(approve.group.clone());
        self.approvers = self.approvers.max(approve.approvers.unwrap_or(1));
        self.expires = least(self.expires, approve.expires);
        self.wait = least(self.wait, approve.wait);
        add(&mut self.holding, &rule.id);
    }
}

fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The lower limit, and whose it is.
fn limit<T: Ord>(least: &mut Option<T>, by: &mut Option<String>, other: Option<T>, id: &str) {
    if let Some(other) = other
        && least.as_ref().is_none_or(|least| other < *least)
    {
        *least = Some(other);
        *by = Some(id.to_owned());
    }
}

fn add(list: &mut Vec<String>, id: &str) {
    if !list.iter().any(|known| known == id) {
        list.push(id.to_owned());
    }
}

/// Longest object name in texts for people, in bytes.
const SHORT_BYTES: usize = 300;

/// What a person calls an object: its id without the resource's name, which is known anyway. Names come from
/// clients and are read in terminals and consoles: what is invisible or steers them is spelt out.
fn short(operation: &Operation, resource: &Resource) -> String {
    let id = operation.object.entity.id.as_str();
    let rest = id
        .strip_prefix(resource.name.as_str())
        .and_then(|rest| rest.strip_prefix('/'));
    visible(rest.filter(|rest| !rest.is_empty()).unwrap_or(id))
}

/// A text without control characters, marks of direction and invisible ones, and not too long.
fn visible(text: &str) -> String {
    let mut visible = plain(text);
    if visible.len() > SHORT_BYTES {
        truncate(&mut visible, SHORT_BYTES);
        visible.push_str("...");
    }
    visible
}

/// An operation in words: `write public.orders`.
fn describe(operation: &Operation, resource: &Resource) -> String {
    format!("{} {}", operation.action, short(operation, resource))
}

/// What was tried, as a denial names it. What is asked on the resource itself says nothing but its name, where the message
/// as a whole says what would run.
fn tried(operations: &Operations, operation: &Operation, resource: &Resource) -> String {
    let summary = operations.summary();
    let whole = operation.object.entity.id.as_str() == resource.name && operations.list().len() == 1;
    if whole && !summary.is_empty() {
        visible(summary)
    } else {
        describe(operation, resource)
    }
}

fn denial(
    rules: &[Rule],
    resource: &Resource,
    operations: &Operations,
    operation: &Operation,
    outcome: &Outcome,
) -> Denial {
    let rule = outcome
        .forbids
        .iter()
        .find_map(|index| rules.get(*index))
        .map(|rule| rule.id.clone());
    let short = short(operation, resource);
    let place = if short == resource.name {
        String::new()
    } else {
        format!(" on {}", resource.name)
    };
    let what = format!("`{}` on {short}", operation.action);
    let hint = if operation.action == Action::UNMASK {
        format!(
            "data tagged {short} can be had masked, as a column of the result; other uses are for principals that may \
             unmask it"
        )
    } else if rule.is_some() {
        format!("{what} is forbidden to you{place}; ask the operators whether there is another way")
    } else if !outcome.faults.is_empty() {
        format!("{what} could not be decided{place} and is refused; the operators find the cause in the log")
    } else {
        format!("{what} is not permitted to you{place}; ask the operators for a policy that permits it")
    };
    Denial {
        code: Code::Denied,
        rule,
        operation: tried(operations, operation, resource),
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_read_is_what_it_is() {
        assert_eq!(visible("public.orders é \"x\""), "public.orders é \"x\"");
        assert_eq!(visible("a\u{202e}b\u{1b}[2J\n"), "a\\u{202e}b\\u{1b}[2J\\n");
        assert!(visible(&"\u{7f}".repeat(2000)).len() <= SHORT_BYTES + 3);
    }
}
