//! An approval as a person sees it who must decide within seconds: what it would do, then who asks, and why.

use gateway_core::approval::{Approval, ApprovalState, Choice};
use gateway_core::operation::truncate;
use gateway_core::resource::Resource;
use gateway_core::verdict::Hold;
use jiff::Timestamp;

use super::page::{self, When};
use super::text::{self, Text};
use crate::api::Api;
use crate::api::caller::Caller;
use crate::approvals::{ApprovalView, DecisionView};

/// As many things as an approval lists.
const ASKED: usize = 200;

/// What an action does, for those who do not know its name.
pub(super) struct Effect {
    /// `danger`, `careful` or `calm`.
    pub(super) level: &'static str,
    pub(super) text: &'static str,
}

/// What it touches.
pub(super) struct Asked {
    pub(super) action: Text,
    pub(super) kind: Text,
    pub(super) object: Text,
    pub(super) tags: Vec<Text>,
}

/// What somebody said.
pub(super) struct SaidOf {
    pub(super) by: Text,
    pub(super) verb: &'static str,
    pub(super) reason: Option<Text>,
    pub(super) at: When,
}

impl SaidOf {
    pub(super) fn of(said: DecisionView, now: Timestamp) -> Self {
        Self {
            by: text::line(&said.by),
            verb: match said.decision {
                Choice::Approve => "approved",
                Choice::Deny => "denied",
            },
            reason: text::maybe(said.reason.as_deref()),
            at: page::when(said.at, now),
        }
    }
}

/// The terms of a request for access.
pub(super) struct GrantOf {
    pub(super) lasting: String,
    pub(super) object: Text,
    pub(super) actions: Text,
}

/// One approval, whole.
pub(super) struct Card {
    pub(super) id: String,
    pub(super) state: &'static str,
    pub(super) open: bool,
    pub(super) operation: Text,
    pub(super) resource: Text,
    pub(super) effects: Vec<Effect>,
    /// About how many rows it would touch, as the target guesses.
    pub(super) rows: Option<String>,
    pub(super) grant: Option<GrantOf>,
    pub(super) statement: Option<Text>,
    /// Not all of the statement is here.
    pub(super) cut: bool,
    pub(super) parameters: Vec<(String, Option<Text>)>,
    pub(super) names: Vec<(Text, Text)>,
    pub(super) asked: Vec<Asked>,
    pub(super) more: bool,
    pub(super) principal: Text,
    pub(super) kind: String,
    pub(super) on_behalf_of: Option<Text>,
    pub(super) reason: Option<Text>,
    pub(super) created: When,
    pub(super) expires: When,
    pub(super) approvers: Text,
    pub(super) rules: Text,
    pub(super) note: Option<Text>,
    pub(super) decisions: Vec<SaidOf>,
    /// Why the reader can't decide it.
    pub(super) hindered: Option<Text>,
}

impl Card {
    /// Whether the reader could decide it: what deciding it would answer.
    pub(super) fn is_decidable(approval: &Approval, caller: &Caller, now: Timestamp) -> bool {
        hindrance(approval, caller, now).is_none()
    }

    /// An approval, with at most so many bytes of its statement.
    pub(super) fn of(api: &Api, caller: &Caller, approval: Approval, now: Timestamp, most: usize) -> Self {
        let hindered = hindrance(&approval, caller, now);
        let grant = approval.grant.as_ref().map(|terms| GrantOf {
            lasting: page::lasting(terms.seconds),
            object: text::line(&terms.object.to_string()),
            actions: if terms.actions.is_empty() {
                text::line(&format!("all that `{}` gives", terms.template))
            } else {
                text::list(&terms.actions)
            },
        });
        let resource = api.gateway().resource(&approval.resource);
        let view = ApprovalView::from(approval);
        let mut statement = view.statement;
        let cut = statement.as_ref().is_some_and(|text| text.len() > most);
        if let Some(text) = &mut statement {
            truncate(text, most);
        }
        let people = match view.approvers {
            1 => String::new(),
            many => format!("{many} people of each of "),
        };
        Self {
            state: view.state.as_str(),
            open: view.state == ApprovalState::Open,
            operation: text::line(&view.operation),
            effects: effects(&view.asked),
            rows: view.estimate.map(|rows| match rows {
                1 => "about 1 row".to_owned(),
                many => format!("about {many} rows"),
            }),
            grant,
            statement: statement.as_deref().map(text::lines),
            cut,
            parameters: parameters(&view.parameters),
            names: view
                .stands_for
                .iter()
                .map(|(name, text)| (text::line(name), text::lines(text)))
                .collect(),
            more: view.asked.len() >= ASKED,
            asked: view
                .asked
                .iter()
                .map(|one| asked(one, &view.resource, resource.as_deref()))
                .collect(),
            resource: text::line(&view.resource),
            principal: text::line(&view.principal),
            kind: view.kind,
            on_behalf_of: text::maybe(view.on_behalf_of.as_deref()),
            reason: text::maybe(view.reason.as_deref()),
            created: page::when(view.created, now),
            expires: page::when(view.expires, now),
            approvers: text::line(&format!("{people}{}", view.group.join(" and "))),
            rules: text::list(&view.rules),
            note: text::maybe(view.note.as_deref()),
            decisions: view
                .decisions
                .into_iter()
                .map(|said| SaidOf::of(said, now))
                .collect(),
            hindered,
            id: view.id,
        }
    }
}

/// One approval, in a line.
pub(super) struct Brief {
    pub(super) id: String,
    pub(super) state: &'static str,
    pub(super) operation: Text,
    pub(super) resource: Text,
    pub(super) principal: Text,
    pub(super) on_behalf_of: Option<Text>,
    pub(super) decisions: Vec<SaidOf>,
    pub(super) created: When,
}

impl Brief {
    pub(super) fn of(approval: Approval, now: Timestamp) -> Self {
        let view = ApprovalView::from(approval);
        Self {
            state: view.state.as_str(),
            operation: text::line(&view.operation),
            resource: text::line(&view.resource),
            principal: text::line(&view.principal),
            on_behalf_of: text::maybe(view.on_behalf_of.as_deref()),
            decisions: view
                .decisions
                .into_iter()
                .map(|said| SaidOf::of(said, now))
                .collect(),
            created: page::when(view.created, now),
            id: view.id,
        }
    }
}

/// Asks the approval itself, with nothing kept; it is asked again when somebody decides.
fn hindrance(approval: &Approval, caller: &Caller, now: Timestamp) -> Option<Text> {
    let who = caller.person()?;
    let decided = approval.decide(who, Choice::Approve, None, now);
    decided.err().map(|why| text::line(&why.to_string()))
}

/// Bound parameters, as they are numbered.
pub(super) fn parameters(list: &[Option<String>]) -> Vec<(String, Option<Text>)> {
    let numbered = list.iter().zip(1_usize..);
    numbered
        .map(|(value, number)| (format!("${number}"), value.as_deref().map(text::line)))
        .collect()
}

/// An action, and the kind and id of what it is tried on.
fn taken_apart(asked: &str) -> (&str, &str, &str) {
    let mut parts = asked.splitn(3, ' ');
    let mut next = || parts.next().unwrap_or_default();
    (next(), next(), next())
}

fn asked(one: &str, name: &str, resource: Option<&Resource>) -> Asked {
    let (action, kind, id) = taken_apart(one);
    let inside = id.strip_prefix(name).and_then(|rest| rest.strip_prefix('/'));
    let tags = match (resource, inside) {
        (Some(resource), Some(column)) if kind == "Column" => tags(resource, column),
        _ => Vec::new(),
    };
    Asked {
        action: text::line(action),
        kind: text::line(kind),
        object: text::line(inside.unwrap_or(id)),
        tags,
    }
}

/// The tags that the configuration gives to a column by its name. Those that it inherits are among what is asked.
fn tags(resource: &Resource, column: &str) -> Vec<Text> {
    let fits = |pattern: &String| {
        let (mut pattern, mut name) = (pattern.split('.'), column.split('.'));
        loop {
            match (pattern.next(), name.next()) {
                (None, None) => return true,
                (Some(form), Some(part)) if form == "*" || form == part => {}
                _ => return false,
            }
        }
    };
    let rules = resource.tags.iter();
    let found = rules.filter(|rule| rule.columns.iter().any(fits));
    found.map(|rule| text::line(&rule.tag)).collect()
}

/// What the actions do, the worst first, each once.
fn effects(asked: &[String]) -> Vec<Effect> {
    const KNOWN: &[(&str, &str, &str)] = &[
        (
            "unknown",
            "danger",
            "The gateway does not understand all of this: read the statement.",
        ),
        (
            "write-unbounded",
            "danger",
            "Changes whole tables: nothing limits the rows.",
        ),
        ("control", "danger", "Changes rights or settings of the server."),
        (
            "file",
            "danger",
            "Reads or writes files or programs of the server.",
        ),
        ("define", "careful", "Changes the structure."),
        (
            "call",
            "careful",
            "Calls functions whose effects are not known to be harmless.",
        ),
        ("write", "careful", "Changes rows that a condition limits."),
        (
            "unmask",
            "careful",
            "Uses tagged data as it is: policy lets the requester see it, or this approval does.",
        ),
        (
            Hold::MASKED,
            "calm",
            "Touches tagged data, which the requester is shown masked.",
        ),
        ("read", "calm", "Reads."),
    ];
    let actions: Vec<&str> = asked.iter().map(|one| taken_apart(one).0).collect();
    let known = KNOWN.iter().filter(|(action, ..)| actions.contains(action));
    known.map(|(_, level, text)| Effect { level, text }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_what_it_does_is_said_first() {
        let asked = ["read Column db/public.t.a", "write-unbounded Table db/public.t"].map(str::to_owned);
        let levels: Vec<_> = effects(&asked).into_iter().map(|one| one.level).collect();
        assert_eq!(levels, ["danger", "calm"]);
        let asked = ["read Column db/public.t.a", "mask Tag pii"].map(str::to_owned);
        let texts: Vec<_> = effects(&asked).into_iter().map(|one| one.text).collect();
        assert_eq!(texts.len(), 2);
        assert!(texts[0].ends_with("shown masked."), "{texts:?}");
    }

    #[test]
    fn a_column_shows_the_tags_that_its_name_has() {
        let resource: Resource = serde_json::from_value(serde_json::json!({
            "name": "db", "protocol": "lamp", "address": "10.0.0.1:1",
            "credential": { "kind": "static", "username": "app" },
            "tag": [{ "tag": "pii.email", "columns": ["*.customers.email"] }],
        }))
        .unwrap();
        let tags = |one: &str| asked(one, "db", Some(&resource)).tags.len();
        assert_eq!(tags("read Column db/public.customers.email"), 1);
        assert_eq!(tags("read Column db/public.customers.name"), 0);
        assert_eq!(tags("read Column db/public.x.customers.email"), 0);
        assert_eq!(tags("write Table db/public.customers.email"), 0);
    }
}
