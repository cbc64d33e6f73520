//! Objects that policies name, and which of them nobody knows: a misspelt name permits nothing, or forbids nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::PolicyEngine;
use super::load::Rule;
use crate::operation::EntityRef;
use crate::own::GATEWAY;
use crate::resource::Resource;

/// Names further apart than this are no misspelling of each other.
const NEAR: usize = 3;

/// The objects that a rule names, other than principals and actions.
fn named(rule: &Rule) -> BTreeSet<EntityRef> {
    let literals = rule.policy.entity_literals();
    let objects = literals.iter().filter_map(|uid| {
        let kind = uid.type_name().to_string();
        let who = matches!(kind.as_str(), "Principal" | "Group" | "Action");
        (!who).then(|| EntityRef::new(kind, uid.id().unescaped()))
    });
    objects.collect()
}

/// The resource whose object an id is of: what stands before the first `/`.
fn resource_of(entity: &EntityRef) -> &str {
    entity.id.split('/').next().unwrap_or_default()
}

/// A tag with all that it is in.
fn with_parents(tag: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(tag), |tag| tag.rsplit_once('.').map(|(parent, _)| parent))
}

fn nearest<'a>(name: &str, of: impl Iterator<Item = &'a str>) -> String {
    of.map(|known| (strsim::damerau_levenshtein(name, known), known))
        .min()
        .filter(|(distance, _)| *distance <= NEAR)
        .map(|(_, known)| format!("; did you mean `{known}`?"))
        .unwrap_or_default()
}

impl PolicyEngine {
    /// What rules name and the configuration does not have, one sentence each: resources, objects of such, tags.
    pub fn strangers(&self, resources: &BTreeMap<String, Arc<Resource>>) -> Vec<String> {
        let mut tags = BTreeSet::new();
        for resource in resources.values() {
            tags.extend(resource.tags.iter().flat_map(|rule| with_parents(&rule.tag)));
            tags.extend(resource.detect.iter().flat_map(|rule| with_parents(&rule.tag)));
            let declared = resource.functions.iter().flat_map(|rule| &rule.tags);
            tags.extend(declared.flat_map(|tag| with_parents(tag)));
        }
        let set = self.in_force();
        let mut told = Vec::new();
        for rule in &set.rules.list {
            for entity in named(rule) {
                let (what, name, near) = if entity.kind == "Tag" {
                    if tags.contains(entity.id.as_str()) {
                        continue;
                    }
                    (
                        "tag",
                        entity.id.as_str(),
                        nearest(&entity.id, tags.iter().copied()),
                    )
                } else {
                    let of = resource_of(&entity);
                    if of == GATEWAY || resources.contains_key(of) {
                        continue;
                    }
                    ("resource", of, nearest(of, resources.keys().map(String::as_str)))
                };
                told.push(format!(
                    "{}: policy `{}` names {entity}, and no {what} `{name}` is configured{near}",
                    rule.place, rule.id
                ));
            }
        }
        told
    }

    /// The objects of a resource that rules name, with where the rules are; grants are left out.
    pub(super) fn objects_of(&self, resource: &str) -> Vec<(EntityRef, String)> {
        let set = self.in_force();
        let rules = set.rules.list.iter().take(set.written);
        let of = |rule: &Rule| {
            let objects = named(rule).into_iter();
            let place = format!("{}: policy `{}`", rule.place, rule.id);
            objects
                .filter(|entity| resource_of(entity) == resource && entity.kind != "Tag")
                .map(move |entity| (entity, place.clone()))
                .collect::<Vec<_>>()
        };
        rules.flat_map(of).collect()
    }
}
