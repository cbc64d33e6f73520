//! From the gateway's words to Cedar's: entities and requests, checked against the vocabulary.

use std::collections::BTreeMap;
use std::str::FromStr;

use cedar_policy::{
    Authorizer, Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression,
};

use super::index::Bucket;
use super::vocabulary::Vocabulary;
use crate::operation::{EntityRef, Operation, Value};
use crate::principal::Principal;
use crate::resource::Resource;

const RESOURCE: &str = "Resource";
const TAG: &str = "Tag";
/// Longest chain of parents.
const CHAIN: usize = 4096;

/// What policies say of one operation, by their index; combined later.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Permits that match, unless a forbid does.
    pub(super) permits: Vec<usize>,
    /// Forbids that match.
    pub(super) forbids: Vec<usize>,
    /// What could not be evaluated; any is a denial.
    pub(super) faults: Vec<(Option<usize>, String)>,
}

impl Outcome {
    /// Whether no policy has a word on it.
    pub(super) fn is_silent(&self) -> bool {
        self.permits.is_empty() && self.forbids.is_empty() && self.faults.is_empty()
    }
}

/// The object of an operation and all that it is in, nearest first; it ends in the resource, except a tag's.
///
/// Every link must be one that the vocabulary declares; Cedar itself would let a chain skip a link, and an object
/// without its parent would escape what is said of the parent.
pub(super) fn chain(
    vocabulary: &Vocabulary,
    operation: &Operation,
    resource: &Resource,
) -> Result<Vec<EntityRef>, String> {
    let object = &operation.object;
    if object.parents.len() > CHAIN {
        return Err(format!("the object is in more than {CHAIN} others"));
    }
    let mut chain = Vec::with_capacity(object.parents.len().saturating_add(2));
    chain.push(object.entity.clone());
    chain.extend(object.parents.iter().cloned());
    let last_kind = chain.last().map(|last| last.kind.clone()).unwrap_or_default();
    if last_kind != RESOURCE && last_kind != TAG {
        chain.push(EntityRef::resource(resource.name.clone()));
    }
    let mut next = chain.iter().skip(1);
    for entity in &chain {
        let Some(declared) = vocabulary.entity(&entity.kind) else {
            return Err(format!("no adapter of this build knows objects like {entity}"));
        };
        if let Some(parent) = next.next()
            && !declared.parents.contains(parent.kind.as_ref())
        {
            return Err(format!("{entity} can't be directly in {parent}"));
        }
        if entity.kind == RESOURCE && entity.id != resource.name {
            return Err(format!(
                "{entity} is not the resource of this session, `{}`",
                resource.name
            ));
        }
    }
    Ok(chain)
}

/// Evaluates the policies of `buckets` on one operation.
pub(super) fn evaluate(
    vocabulary: &Vocabulary,
    principal: &Principal,
    resource: &Resource,
    operation: &Operation,
    chain: &[EntityRef],
    buckets: &[&Bucket],
) -> Outcome {
    let built = entities(vocabulary, principal, resource, operation, chain)
        .and_then(|entities| Ok((entities, request(vocabulary, principal, resource, operation)?)));
    let (entities, request) = match built {
        Ok(built) => built,
        Err(message) => {
            return Outcome {
                faults: vec![(None, message)],
                ..Outcome::default()
            };
        }
    };
    let authorizer = Authorizer::new();
    let mut outcome = Outcome::default();
    for bucket in buckets {
        let response = authorizer.is_authorized(&request, &bucket.policies, &entities);
        let matched = match response.decision() {
            cedar_policy::Decision::Allow => &mut outcome.permits,
            cedar_policy::Decision::Deny => &mut outcome.forbids,
        };
        for id in response.diagnostics().reason() {
            match index(id) {
                Some(index) => matched.push(index),
                None => outcome
                    .faults
                    .push((None, format!("the policy `{id}` is not known"))),
            }
        }
        for error in response.diagnostics().errors() {
            let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
            outcome
                .faults
                .push((index(error.policy_id()), error.inner().to_string()));
        }
    }
    outcome.permits.sort_unstable();
    outcome.forbids.sort_unstable();
    outcome.faults.sort();
    outcome
}

/// Entities and request for tests that ask Cedar themselves.
#[cfg(test)]
pub(super) fn reference(
    vocabulary: &Vocabulary,
    principal: &Principal,
    resource: &Resource,
    operation: &Operation,
    chain: &[EntityRef],
) -> Result<(Entities, Request), String> {
    let entities = entities(vocabulary, principal, resource, operation, chain)?;
    Ok((entities, request(vocabulary, principal, resource, operation)?))
}

fn index(id: &cedar_policy::PolicyId) -> Option<usize> {
    let id: &str = id.as_ref();
    id.parse().ok()
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, String> {
    let kind = EntityTypeName::from_str(kind).map_err(|_| format!("`{kind}` is no entity type"))?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

fn uid_of(entity: &EntityRef) -> Result<EntityUid, String> {
    uid(&entity.kind, &entity.id)
}

fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

fn entities(
    vocabulary: &Vocabulary,
    principal: &Principal,
    resource: &Resource,
    operation: &Operation,
    chain: &[EntityRef],
) -> Result<Entities, String> {
    let mut list = vec![principal_entity(principal)?];
    let labels = |kind: &str| {
        let tagged = vocabulary.entity(kind).is_some_and(|entity| entity.tags);
        let labels = if tagged { Some(&resource.labels) } else { None };
        labels
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), text(value)))
    };
    let mut rest = chain;
    let mut attributes = record(vocabulary, resource, &operation.object.attributes)?;
    while let [entity, above @ ..] = rest {
        let parent = above.first().map(uid_of).transpose()?;
        let own = std::mem::take(&mut attributes);
        let built = Entity::new_with_tags(uid_of(entity)?, own, parent, labels(&entity.kind));
        list.push(built.map_err(|e| e.to_string())?);
        rest = above;
    }
    if !chain.iter().any(|entity| entity.kind == RESOURCE) {
        let built = Entity::new_with_tags(uid(RESOURCE, &resource.name)?, [], [], labels(RESOURCE));
        list.push(built.map_err(|e| e.to_string())?);
    }
    Entities::from_entities(list, Some(vocabulary.schema())).map_err(|e| with_causes(&e))
}

fn principal_entity(principal: &Principal) -> Result<Entity, String> {
    let groups = principal.groups.iter().map(|group| text(group));
    let mut attributes = vec![
        ("kind".to_owned(), text(principal.kind.as_str())),
        ("groups".to_owned(), RestrictedExpression::new_set(groups)),
    ];
    if let Some(subject) = &principal.on_behalf_of {
        attributes.push(("on_behalf_of".to_owned(), text(subject)));
    }
    let parents: Vec<EntityUid> = principal
        .groups
        .iter()
        .map(|group| uid("Group", group))
        .collect::<Result<_, _>>()?;
    let subject = uid("Principal", &principal.subject)?;
    Entity::new_with_tags(subject, attributes, parents, []).map_err(|e| e.to_string())
}

fn request(
    vocabulary: &Vocabulary,
    principal: &Principal,
    resource: &Resource,
    operation: &Operation,
) -> Result<Request, String> {
    let action = operation.action.as_str();
    if vocabulary.resources_of(action).is_none() {
        return Err(format!("no adapter of this build knows the action `{action}`"));
    }
    let pairs = record(vocabulary, resource, &operation.context)?;
    let context = Context::from_pairs(pairs).map_err(|e| e.to_string())?;
    Request::new(
        uid("Principal", &principal.subject)?,
        uid("Action", action)?,
        uid_of(&operation.object.entity)?,
        context,
        Some(vocabulary.schema()),
    )
    .map_err(|e| with_causes(&e))
}

type Pairs = Vec<(String, RestrictedExpression)>;

fn record(
    vocabulary: &Vocabulary,
    resource: &Resource,
    values: &BTreeMap<String, Value>,
) -> Result<Pairs, String> {
    values
        .iter()
        .map(|(name, value)| Ok((name.clone(), expression(vocabulary, resource, value)?)))
        .collect()
}

fn expression(
    vocabulary: &Vocabulary,
    resource: &Resource,
    value: &Value,
) -> Result<RestrictedExpression, String> {
    Ok(match value {
        Value::Bool(value) => RestrictedExpression::new_bool(*value),
        Value::Long(value) => RestrictedExpression::new_long(*value),
        Value::Ip(address) => RestrictedExpression::new_ip(address.to_string()),
        Value::String(value) => text(value),
        Value::Entity(entity) if entity.kind == RESOURCE && entity.id != resource.name => {
            return Err(format!(
                "{entity} is not the resource of this session, `{}`",
                resource.name
            ));
        }
        Value::Entity(entity) => RestrictedExpression::new_entity_uid(uid_of(entity)?),
        Value::Strings(values) => RestrictedExpression::new_set(values.iter().map(|value| text(value))),
        Value::Record(values) => {
            let pairs = record(vocabulary, resource, values)?;
            RestrictedExpression::new_record(pairs).map_err(|e| e.to_string())?
        }
    })
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}
