//! Access that is given for a time.
//!
//! A policy with the slots `?principal` and `?resource` is a template: by itself it permits nothing. A grant fills it in
//! for one principal and one object, until an end; from then on it is a policy like any other, with an id of its own, and
//! forbids beat it as they beat all. Who approves a grant, and for how long at most, the template says by `@approve` and
//! `@longest`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cedar_policy::{Policy, PolicyId, PolicySet, ValidationMode, ValidationWarning, Validator};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::annotations::Annotations;
use super::cache::Who;
use super::engine::InForce;
use super::load::Rule;
use super::request::chain;
use super::{PolicyEngine, Vocabulary};
use crate::operation::{Action, EntityRef, Object, Operation};
use crate::principal::Principal;
use crate::resource::Resource;
use crate::verdict::Hold;

/// Longest grant of a template that does not say.
const LONGEST: Duration = Duration::from_secs(8 * 3600);
/// Shortest grant.
pub const SHORTEST: Duration = Duration::from_secs(1);
/// Most grants in force at once; more are not put into force.
pub const MOST: usize = 10_000;
/// Longest way from one kind of object up to another.
const KINDS: usize = 4;
/// Most actions that a request may name.
const ACTIONS: usize = 32;

/// A policy with slots.
#[derive(Debug, Clone)]
pub(super) struct Template {
    pub(super) id: String,
    /// `access.cedar:12`
    pub(super) place: String,
    pub(super) annotations: Annotations,
    /// Cedar's own form of it, as JSON (Cedar documentation, JSON policy format).
    pub(super) form: Value,
    /// Digest of that form, annotations included.
    pub(super) digest: String,
}

/// What is granted, and by which template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The template's `@id`.
    pub template: String,
    /// Digest of the template as it was when access was asked for: of another one it is no grant.
    pub form: String,
    /// On what: the resource, or something in it.
    pub object: EntityRef,
    /// The actions; empty: all that the template has.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub actions: BTreeSet<String>,
    /// For how long, in seconds from the approval on.
    pub seconds: u64,
}

/// A grant that is in force until its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its id.
    pub id: String,
    /// Whose it is: the subject.
    pub subject: String,
    /// For whom the subject acts; a grant holds for exactly that pair.
    pub on_behalf_of: Option<String>,
    /// The resource that its object is in.
    pub resource: String,
    /// What it gives.
    pub terms: Terms,
    /// When it ends.
    pub until: Timestamp,
}

/// What a request for access comes to.
#[derive(Debug, Clone)]
pub struct Offer {
    /// What would be granted.
    pub terms: Terms,
    /// Who decides on it: the same as for a held operation.
    pub hold: Hold,
}

/// Why nobody is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoOffer {
    /// No template gives it.
    #[error(
        "the policies give no access to {0} that can be asked for; look at its name, or ask the operators"
    )]
    Nothing(String),
    /// For too long.
    #[error("{} is longer than the {} that can be asked for at most", lasting(*asked), lasting(*longest))]
    TooLong {
        /// What was asked for, in seconds.
        asked: u64,
        /// What can be, in seconds.
        longest: u64,
    },
    /// The request makes no sense.
    #[error("{0}")]
    Unreadable(String),
}

/// A time as people write it.
fn lasting(seconds: u64) -> String {
    crate::limits::duration::format(std::time::Duration::from_secs(seconds))
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Who asks.
    pub principal: &'a Arc<Principal>,
    /// On which resource.
    pub resource: &'a Arc<Resource>,
    /// Something in it, by its name in the resource (`public.payments`) or as policies write it
    /// (`Table::"orders-db/public.payments"`); `None`: the resource itself.
    pub on: Option<&'a str>,
    /// Actions; empty: all that a template has.
    pub actions: &'a BTreeSet<String>,
    /// For how long.
    pub lasting: Duration,
}

impl Template {
    /// Reads what `policies/*.cedar` hold of it. `Err`: what is wrong, and what to write instead.
    pub(super) fn read(
        id: String,
        place: String,
        annotations: Annotations,
        form: Value,
    ) -> Result<Self, (String, String)> {
        let slot = |part: &str| form.pointer(&format!("/{part}/slot")).is_some();
        let op = |part: &str| form.pointer(&format!("/{part}/op")).and_then(Value::as_str);
        if form.get("effect").and_then(Value::as_str) != Some("permit") {
            let help = "write a policy without slots; a forbid can't be asked for";
            return Err(("a forbid has no slots".to_owned(), help.to_owned()));
        }
        if !slot("principal") || op("principal") != Some("==") {
            let help = "write `principal == ?principal`: a grant is one principal's";
            return Err(("a template leaves its principal open".to_owned(), help.to_owned()));
        }
        if !slot("resource") {
            let help = "write `resource in ?resource` (or `resource == ?resource`)";
            return Err(("a template leaves its resource open".to_owned(), help.to_owned()));
        }
        if annotations.approve.is_none() {
            let help = "say who approves what is asked for by it: @approve(\"group\")";
            return Err(("a template needs `@approve`".to_owned(), help.to_owned()));
        }
        let digest = Sha256::digest(form.to_string());
        Ok(Self {
            id,
            place,
            annotations,
            form,
            digest: digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    fn longest(&self) -> Duration {
        self.annotations.longest.unwrap_or(LONGEST)
    }

    /// The actions that its scope names; `None`: any.
    fn actions(&self) -> Option<BTreeSet<String>> {
        let action = self.form.get("action")?;
        let one = |entity: &Value| entity.get("id").and_then(Value::as_str).map(str::to_owned);
        match action.get("op").and_then(Value::as_str) {
            Some("==") => action
                .get("entity")
                .map(|entity| one(entity).into_iter().collect()),
            Some("in") => {
                let list = action.get("entities").and_then(Value::as_array);
                let list = list.map(Vec::as_slice).unwrap_or_default();
                Some(list.iter().chain(action.get("entity")).filter_map(one).collect())
            }
            _ => None,
        }
    }

    /// The policy that a grant makes of it.
    pub(super) fn filled(&self, grant: &Grant, index: usize) -> Result<Rule, String> {
        let entity = |kind: &str, id: &str| json!({"type": kind, "id": id});
        let mut form = self.form.clone();
        let fill = |form: &mut Value, part: &str, with: Value| {
            let scope = form.get_mut(part).and_then(Value::as_object_mut);
            scope.map(|scope| {
                scope.remove("slot");
                scope.insert("entity".to_owned(), with);
            })
        };
        let object = &grant.terms.object;
        fill(&mut form, "principal", entity("Principal", &grant.subject)).ok_or("it has no principal")?;
        fill(&mut form, "resource", entity(&object.kind, &object.id)).ok_or("it has no resource")?;
        if !grant.terms.actions.is_empty() {
            let actions = grant.terms.actions.iter().map(|action| entity("Action", action));
            let list: Vec<Value> = actions.collect();
            *form.get_mut("action").ok_or("it has no action")? = json!({"op": "in", "entities": list});
        }
        let conditions = form
            .as_object_mut()
            .ok_or("it is no policy")?
            .entry("conditions")
            .or_insert_with(|| json!([]));
        let conditions = conditions.as_array_mut().ok_or("its conditions are no list")?;
        if object.kind == "Tag" {
            // A tag is not in a resource: whose data it is, the context says.
            let resource = json!({"Value": {"__entity": entity("Resource", &grant.resource)}});
            let context = json!({".": {"left": {"Var": "context"}, "attr": "resource"}});
            conditions.push(json!({"kind": "when", "body": {"==": {"left": context, "right": resource}}}));
        }
        // A token that the same subject uses for somebody else is another requester.
        let principal = json!({"Var": "principal"});
        let acts = json!({"has": {"left": principal.clone(), "attr": "on_behalf_of"}});
        let same = match &grant.on_behalf_of {
            Some(subject) => {
                let of = json!({".": {"left": principal, "attr": "on_behalf_of"}});
                json!({"&&": {"left": acts, "right": {"==": {"left": of, "right": {"Value": subject}}}}})
            }
            None => json!({"!": {"arg": acts}}),
        };
        conditions.push(json!({"kind": "when", "body": same}));
        let policy =
            Policy::from_json(Some(PolicyId::new(index.to_string())), form).map_err(|e| e.to_string())?;
        let mut annotations = self.annotations.clone();
        annotations.approve = None;
        annotations.longest = None;
        Ok(Rule {
            id: format!("{}/{}", self.id, grant.id),
            forbid: false,
            place: self.place.clone(),
            annotations,
            written: [("grant", grant.id.clone()), ("until", grant.until.to_string())]
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            policy,
        })
    }
}

impl PolicyEngine {
    /// What a request comes to: the first template that gives all of it.
    ///
    /// # Errors
    /// Where none does.
    pub fn offer(&self, asked: Asked<'_>) -> Result<Offer, NoOffer> {
        let set = self.in_force();
        let vocabulary = self.vocabulary();
        if asked.actions.len() > ACTIONS {
            return Err(NoOffer::Unreadable(format!("more than {ACTIONS} actions")));
        }
        for action in asked.actions {
            if vocabulary.resources_of(action).is_none() {
                return Err(NoOffer::Unreadable(format!("there is no action `{action}`")));
            }
        }
        if asked.lasting < SHORTEST {
            return Err(NoOffer::Unreadable("ask for a second at least".to_owned()));
        }
        let mut too_long: Option<Duration> = None;
        for template in &set.rules.templates {
            let own = template.actions();
            if own.is_some_and(|own| !asked.actions.is_subset(&own)) {
                continue;
            }
            let Some(object) = self.object(&asked, template) else {
                continue;
            };
            let terms = Terms {
                template: template.id.clone(),
                form: template.digest.clone(),
                object,
                actions: asked.actions.clone(),
                seconds: asked.lasting.as_secs(),
            };
            if !self.may_give(&asked, template, &terms) {
                continue;
            }
            if asked.lasting > template.longest() {
                too_long = too_long.max(Some(template.longest()));
                continue;
            }
            let approve = template.annotations.approve.clone().unwrap_or_default();
            let all = || {
                template
                    .actions()
                    .map(|all| all.into_iter().collect::<Vec<_>>().join(", "))
            };
            let what = if terms.actions.is_empty() {
                all().unwrap_or_else(|| "everything".to_owned())
            } else {
                terms
                    .actions
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let hold = Hold {
                groups: [approve.group].into(),
                approvers: approve.approvers.unwrap_or(1),
                expires: approve.expires,
                wait: None,
                rules: vec![template.id.clone()],
                operation: format!("access for {} s: {what} on {}", terms.seconds, terms.object.id),
                obligations: crate::verdict::Obligations::default(),
            };
            return Ok(Offer { terms, hold });
        }
        Err(match too_long {
            Some(longest) => NoOffer::TooLong {
                asked: asked.lasting.as_secs(),
                longest: longest.as_secs(),
            },
            None => NoOffer::Nothing(format!(
                "{} on `{}`{}",
                if asked.actions.is_empty() {
                    "anything".to_owned()
                } else {
                    asked
                        .actions
                        .iter()
                        .map(String::as_str)
                        .collect::<Vec<_>>()
                        .join(", ")
                },
                asked.resource.name,
                asked.on.map(|on| format!(", {on}")).unwrap_or_default(),
            )),
        })
    }

    /// Puts these grants into force, and no others. Those whose template is gone, or is another than it was when they were
    /// asked for, give nothing.
    pub fn set_grants(&self, grants: Vec<Grant>) {
        let _one = self.reloading.lock();
        let current = self.in_force();
        if current.grants == grants {
            return;
        }
        match current.with_grants(grants) {
            Ok(next) => self.put_in_force(next),
            Err(error) => tracing::error!(%error, "the grants could not be put into force"),
        }
    }

    /// The grants in force.
    pub fn grants(&self) -> Vec<Grant> {
        self.in_force().grants.clone()
    }

    /// Ends the grants whose time is over, should nobody else have done so.
    pub(super) fn end_grants(&self, now: Timestamp) {
        let _one = self.reloading.lock();
        let current = self.in_force();
        if current.next_end.is_none_or(|end| now < end) {
            return;
        }
        let left = current
            .grants
            .iter()
            .filter(|grant| now < grant.until)
            .cloned()
            .collect();
        match current
            .with_grants(left)
            .or_else(|_| current.with_grants(Vec::new()))
        {
            Ok(next) => self.put_in_force(next),
            Err(error) => tracing::error!(%error, "grants that are over could not be ended"),
        }
    }

    /// What the request names, as an entity that the template's actions are asked on, or that such are in.
    fn object(&self, asked: &Asked<'_>, template: &Template) -> Option<EntityRef> {
        let resource = &asked.resource.name;
        let Some(on) = asked.on else {
            return Some(EntityRef::resource(resource.clone()));
        };
        let vocabulary = self.vocabulary();
        if let Some((kind, id)) = on.split_once("::") {
            let id = id
                .strip_prefix('"')
                .and_then(|id| id.strip_suffix('"'))
                .unwrap_or(id);
            let inside = kind == "Tag"
                || id
                    .strip_prefix(resource.as_str())
                    .is_some_and(|id| id.starts_with('/'));
            return (vocabulary.entity(kind).is_some() && inside)
                .then(|| EntityRef::new(kind.to_owned(), id));
        }
        let own = template.actions();
        let actions: Vec<String> = match (asked.actions.is_empty(), own) {
            (false, _) => asked.actions.iter().cloned().collect(),
            (true, Some(own)) => own.into_iter().collect(),
            (true, None) => return None,
        };
        let mut kinds: Vec<String> = Vec::new();
        for action in &actions {
            for kind in vocabulary.resources_of(action).into_iter().flatten() {
                if *kind != "Resource" && !kinds.iter().any(|known| known == kind) {
                    kinds.push(kind.to_string());
                }
            }
        }
        // Of a table and its columns the table: the others are in it.
        let is_inner = |kind: &String| {
            let parents = vocabulary.entity(kind).map(|entity| &entity.parents);
            parents.is_some_and(|parents| {
                kinds
                    .iter()
                    .any(|other| other != kind && parents.contains(other.as_str()))
            })
        };
        let mut outer = kinds.iter().filter(|kind| !is_inner(kind));
        // Where an action is asked on tables and on functions, a bare name is a table's.
        let first = outer.next()?;
        let kind = std::iter::once(first)
            .chain(outer)
            .find(|kind| vocabulary.has_parts(kind))
            .unwrap_or(first);
        Some(if kind == "Tag" {
            EntityRef::new(kind.clone(), on)
        } else {
            EntityRef::new(kind.clone(), format!("{resource}/{on}"))
        })
    }

    /// Whether the template, filled in, gives the principal anything: it validates, can match, and where it can be asked
    /// without more being known, at least one of its actions is permitted.
    fn may_give(&self, asked: &Asked<'_>, template: &Template, terms: &Terms) -> bool {
        let grant = Grant {
            id: "asked".to_owned(),
            subject: asked.principal.subject.clone(),
            on_behalf_of: asked.principal.on_behalf_of.clone(),
            resource: asked.resource.name.clone(),
            terms: terms.clone(),
            until: Timestamp::MAX,
        };
        let Ok(rule) = template.filled(&grant, 0) else {
            return false;
        };
        if !validates(self.vocabulary(), &rule.policy) {
            return false;
        }
        let actions = match (terms.actions.is_empty(), template.actions()) {
            (false, _) => terms.actions.clone(),
            (true, Some(own)) => own,
            (true, None) => return true,
        };
        let Ok(alone) = super::index::Index::new(std::slice::from_ref(&rule)) else {
            return false;
        };
        let who = Who {
            principal: asked.principal,
            resource: asked.resource,
        };
        // What a condition says of the context of an operation that is still to come can't be known.
        let conditions = template
            .form
            .get("conditions")
            .map(Value::to_string)
            .unwrap_or_default();
        let depends = ["context", "resource"]
            .iter()
            .any(|var| conditions.contains(&format!(r#""Var":"{var}""#)));
        let (mut any, mut sure) = (false, !depends);
        for action in &actions {
            let Some(object) = self.probe(action, terms, &asked.resource.name) else {
                continue;
            };
            let operation = Operation::new(Action::named(action.clone()), object);
            let Ok(chain) = chain(self.vocabulary(), &operation, asked.resource) else {
                sure = false;
                continue;
            };
            let buckets = alone.select(asked.principal, action, &chain);
            let mut outcome = self.evaluate_at(who, &operation, &chain, &buckets);
            if !outcome.faults.is_empty() {
                // What every action on a database must tell.
                let operation = operation.with("database", "");
                outcome = self.evaluate_at(who, &operation, &chain, &buckets);
            }
            any |= !outcome.permits.is_empty();
            sure &= outcome.faults.is_empty();
        }
        any || !sure
    }

    /// Something that the action is asked on and that is the object, or in it. `None`: there is nothing of the kind, so the
    /// grant gives nothing of this action.
    fn probe(&self, action: &str, terms: &Terms, resource: &str) -> Option<Object> {
        let vocabulary = self.vocabulary();
        let object = &terms.object;
        let kinds = vocabulary.resources_of(action)?;
        if kinds.contains(object.kind.as_ref()) {
            return Some(Object::new(object.clone()));
        }
        // The shortest way up from a kind that the action is asked on: no name that a client gives is `?`.
        let mut ways: Vec<Vec<&str>> = kinds.iter().map(|kind| vec![kind.as_str()]).collect();
        for _ in 0..KINDS {
            let mut longer = Vec::new();
            for way in &ways {
                let parents = way
                    .last()
                    .and_then(|kind| vocabulary.entity(kind))
                    .map(|entity| &entity.parents);
                for parent in parents.into_iter().flatten() {
                    if *parent == *object.kind {
                        let named = |kind: &&str| EntityRef::new((*kind).to_owned(), format!("{resource}/?"));
                        let mut chain = way.iter().map(named);
                        let first = chain.next()?;
                        let above = chain.chain(std::iter::once(object.clone())).collect();
                        return Some(Object::within(first, above));
                    }
                    if !way.contains(&parent.as_str()) {
                        let mut way = way.clone();
                        way.push(parent);
                        longer.push(way);
                    }
                }
            }
            ways = longer;
        }
        None
    }
}

/// Whether a policy is of this vocabulary and can match.
fn validates(vocabulary: &Vocabulary, policy: &Policy) -> bool {
    let mut set = PolicySet::new();
    if set.add(policy.clone()).is_err() {
        return false;
    }
    let validator = Validator::new(vocabulary.schema().as_ref().clone());
    let result = validator.validate(&set, ValidationMode::Strict);
    let impossible = result.validation_warnings().any(|warning| {
        matches!(
            warning,
            ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_)
        )
    });
    result.validation_passed() && !impossible
}

impl InForce {
    /// The same policies with these grants.
    pub(super) fn with_grants(&self, mut grants: Vec<Grant>) -> Result<Self, String> {
        grants.truncate(MOST);
        let mut list: Vec<Rule> = self.rules.list.iter().take(self.written).cloned().collect();
        for grant in &grants {
            let template = self
                .rules
                .templates
                .iter()
                .find(|one| one.id == grant.terms.template);
            let Some(template) = template else {
                tracing::warn!(
                    grant = grant.id,
                    template = grant.terms.template,
                    "a grant gives nothing: its template is gone"
                );
                continue;
            };
            if template.digest != grant.terms.form {
                tracing::warn!(
                    grant = grant.id,
                    template = template.id,
                    "a grant gives nothing: its template is another than was asked for"
                );
                continue;
            }
            match template.filled(grant, list.len()) {
                Ok(rule) => list.push(rule),
                Err(error) => tracing::warn!(grant = grant.id, %error, "a grant gives nothing"),
            }
        }
        let next_end = grants.iter().map(|grant| grant.until).min();
        self.again(list, grants, next_end)
    }
}
