//! Which policies can match an operation at all, found without looking at the others.
//!
//! Policies are put into buckets by what their scope names: the action, then a group or subject, then an
//! entity of the object's chain. A policy outside of the buckets that an operation selects has a scope that
//! is false for it; Cedar would not evaluate its conditions either, so nothing is lost, errors included.

use std::collections::{HashMap, HashSet};

use cedar_policy::{ActionConstraint, EntityUid, Policy, PolicySet, PrincipalConstraint, ResourceConstraint};
use serde_json::Value;

use super::load::Rule;
use super::vocabulary::{EntityType, Vocabulary};
use crate::operation::{EntityRef, Operation};
use crate::principal::Principal;

/// All policies, by what their scopes name.
#[derive(Debug, Default)]
pub(super) struct Index {
    any: ByPrincipal,
    actions: HashMap<String, ByPrincipal>,
}

#[derive(Debug, Default)]
struct ByPrincipal {
    any: ByObject,
    groups: HashMap<String, ByObject>,
    subjects: HashMap<String, ByObject>,
}

#[derive(Debug, Default)]
struct ByObject {
    any: Option<Bucket>,
    at: HashMap<EntityRef, Bucket>,
}

/// Policies that are evaluated together.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    pub(super) policies: PolicySet,
    sight: Sight,
}

impl Index {
    /// Puts policies into their buckets.
    pub(super) fn new(rules: &[Rule]) -> Result<Self, String> {
        let mut index = Self::default();
        for rule in rules {
            index.add(&rule.policy)?;
        }
        Ok(index)
    }

    fn add(&mut self, policy: &Policy) -> Result<(), String> {
        let actions: Option<Vec<EntityUid>> = match policy.action_constraint() {
            ActionConstraint::Any => None,
            ActionConstraint::Eq(action) => Some(vec![action]),
            ActionConstraint::In(actions) => Some(actions),
        };
        let sight = Sight::of(policy);
        match actions {
            None => self.any.add(policy, &sight),
            Some(actions) => {
                // A list may name an action twice.
                let names: HashSet<String> = actions
                    .iter()
                    .map(|action| action.id().unescaped().to_owned())
                    .collect();
                for name in names {
                    self.actions.entry(name).or_default().add(policy, &sight)?;
                }
                Ok(())
            }
        }
    }

    /// The buckets that can match: for the action, the principal and its groups, and `chain` (the object, then
    /// all that it is in).
    pub(super) fn select(&self, principal: &Principal, action: &str, chain: &[EntityRef]) -> Vec<&Bucket> {
        let mut found = Vec::new();
        for by_principal in std::iter::once(&self.any).chain(self.actions.get(action)) {
            let subject = by_principal.subjects.get(&principal.subject);
            let groups = principal
                .groups
                .iter()
                .filter_map(|group| by_principal.groups.get(group));
            for by_object in std::iter::once(&by_principal.any).chain(subject).chain(groups) {
                found.extend(by_object.any.as_ref());
                if !by_object.at.is_empty() {
                    found.extend(chain.iter().filter_map(|entity| by_object.at.get(entity)));
                }
            }
        }
        found
    }
}

impl ByPrincipal {
    fn add(&mut self, policy: &Policy, sight: &Sight) -> Result<(), String> {
        let named = match policy.principal_constraint() {
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
            PrincipalConstraint::In(uid)
            | PrincipalConstraint::Eq(uid)
            | PrincipalConstraint::IsIn(_, uid) => Some(entity_ref(&uid)),
        };
        let by_object = match named {
            Some(EntityRef { kind, id }) if kind == "Group" => self.groups.entry(id).or_default(),
            Some(EntityRef { kind, id }) if kind == "Principal" => self.subjects.entry(id).or_default(),
            _ => &mut self.any,
        };
        let bucket = match policy.resource_constraint() {
            ResourceConstraint::Any | ResourceConstraint::Is(_) => by_object.any.get_or_insert_default(),
            ResourceConstraint::In(uid) | ResourceConstraint::Eq(uid) | ResourceConstraint::IsIn(_, uid) => {
                by_object.at.entry(entity_ref(&uid)).or_default()
            }
        };
        bucket
            .policies
            .add(policy.clone())
            .map_err(|error| error.to_string())?;
        bucket.sight.join(sight);
        Ok(())
    }
}

pub(super) fn entity_ref(uid: &EntityUid) -> EntityRef {
    EntityRef::new(uid.type_name().to_string(), uid.id().unescaped())
}

/// What policies can tell an object from the parent that it is directly in by.
///
/// `o in L` differs from `p in L`, for `o` in `p`, only where `L` is `o`: all else that `o` is in, `p` is or is
/// in too. `o == L` differs where `L` is one of the two. Labels are the same for both. Any other use of
/// `resource` (`is`, attributes, comparison with what is not a literal) may tell them apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Sight {
    /// Uses `resource` in a way that may tell any two objects apart.
    sharp: bool,
    /// Literals right of `resource in`.
    within: HashSet<EntityRef>,
    /// Literals that `resource` is compared with.
    equal: HashSet<EntityRef>,
}

impl Sight {
    fn of(policy: &Policy) -> Self {
        let mut sight = Self::default();
        match policy.resource_constraint() {
            ResourceConstraint::Any => {}
            ResourceConstraint::In(uid) => {
                sight.within.insert(entity_ref(&uid));
            }
            ResourceConstraint::Eq(uid) => {
                sight.equal.insert(entity_ref(&uid));
            }
            ResourceConstraint::Is(_) | ResourceConstraint::IsIn(..) => sight.sharp = true,
        }
        match policy.to_json() {
            Ok(json) => match json.get("conditions") {
                Some(conditions) => sight.look(conditions),
                None => sight.sharp = true,
            },
            Err(_) => sight.sharp = true,
        }
        sight
    }

    fn join(&mut self, other: &Self) {
        self.sharp |= other.sharp;
        self.within.extend(other.within.iter().cloned());
        self.equal.extend(other.equal.iter().cloned());
    }

    /// Walks an expression in Cedar's JSON form.
    fn look(&mut self, json: &Value) {
        match json {
            Value::Array(list) => list.iter().for_each(|item| self.look(item)),
            Value::Object(map) => {
                for (key, value) in map {
                    if key == "Var" && value == "resource" {
                        self.sharp = true;
                    } else if !self.harmless(key, value) {
                        self.look(value);
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether this is a use of `resource` that can be judged; what it compares with is noted.
    fn harmless(&mut self, operator: &str, arguments: &Value) -> bool {
        let (Some(left), Some(right)) = (arguments.get("left"), arguments.get("right")) else {
            return false;
        };
        match operator {
            "in" if is_resource(left) => match literals(right) {
                Some(list) => {
                    self.within.extend(list);
                    true
                }
                None => false,
            },
            "==" | "!=" => {
                let other = match (is_resource(left), is_resource(right)) {
                    (true, false) => right,
                    (false, true) => left,
                    _ => return false,
                };
                match literal(other) {
                    Some(entity) => {
                        self.equal.insert(entity);
                        true
                    }
                    None => false,
                }
            }
            "hasTag" | "getTag" if is_resource(left) => {
                self.look(right);
                true
            }
            _ => false,
        }
    }

    fn tells(&self, object: &EntityRef, parent: &EntityRef) -> bool {
        self.sharp
            || self.within.contains(object)
            || self.equal.contains(object)
            || self.equal.contains(parent)
    }
}

fn is_resource(json: &Value) -> bool {
    json.as_object().is_some_and(|map| map.len() == 1) && json.get("Var").is_some_and(|v| v == "resource")
}

fn literal(json: &Value) -> Option<EntityRef> {
    let entity = json.get("Value")?.get("__entity")?;
    let kind = entity.get("type")?.as_str()?.to_owned();
    Some(EntityRef::new(kind, entity.get("id")?.as_str()?))
}

fn literals(json: &Value) -> Option<Vec<EntityRef>> {
    match json.get("Set") {
        Some(set) => set.as_array()?.iter().map(literal).collect(),
        None => Some(vec![literal(json)?]),
    }
}

/// Whether the decision on the head of `chain` is the one on the object that it is directly in, for the
/// policies of `buckets` (those selected for the whole chain).
pub(super) fn collapses(
    vocabulary: &Vocabulary,
    operation: &Operation,
    chain: &[EntityRef],
    buckets: &[&Bucket],
) -> bool {
    let [object, parent, rest @ ..] = chain else {
        return false;
    };
    let asked = |kind: &str| {
        vocabulary
            .resources_of(operation.action.as_str())
            .is_some_and(|kinds| kinds.contains(kind))
    };
    let (Some(own), Some(above)) = (vocabulary.entity(&object.kind), vocabulary.entity(&parent.kind)) else {
        return false;
    };
    let plain = |entity: &EntityType| entity.attributes.is_empty();
    operation.object.attributes.is_empty()
        && asked(&object.kind)
        && asked(&parent.kind)
        && plain(own)
        && plain(above)
        && own.tags == above.tags
        && own.parents.contains(parent.kind.as_ref())
        && object != parent
        && !rest.contains(object)
        && !buckets.iter().any(|bucket| bucket.sight.tells(object, parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(text: &str) -> Sight {
        Sight::of(&Policy::parse(None, text).unwrap())
    }

    #[test]
    fn what_tells_an_object_from_its_parent() {
        let column = EntityRef::new("Column", "c");
        let table = EntityRef::new("Table", "t");
        let cases = [
            ("permit (principal, action, resource);", false),
            ("permit (principal, action, resource in Resource::\"r\");", false),
            ("permit (principal, action, resource in Table::\"t\");", false),
            ("permit (principal, action, resource == Resource::\"r\");", false),
            ("permit (principal, action, resource == Table::\"t\");", true),
            ("permit (principal, action, resource in Column::\"c\");", true),
            ("permit (principal, action, resource in Column::\"d\");", false),
            ("permit (principal, action, resource is Column);", true),
            (
                "permit (principal, action, resource is Table in Resource::\"r\");",
                true,
            ),
            (
                "permit (principal, action, resource) when { resource.hasTag(\"e\") };",
                false,
            ),
            (
                "permit (principal, action, resource) when { resource.getTag(\"e\") == \"p\" };",
                false,
            ),
            (
                "permit (principal, action, resource) when { resource.hasTag(resource.x) };",
                true,
            ),
            (
                "permit (principal, action, resource) unless { resource in [Table::\"t\"] };",
                false,
            ),
            (
                "permit (principal, action, resource) when { resource in [Table::\"t\", Column::\"c\"] };",
                true,
            ),
            (
                "permit (principal, action, resource) when { resource in principal.x };",
                true,
            ),
            (
                "permit (principal, action, resource) when { principal in resource };",
                true,
            ),
            (
                "permit (principal, action, resource) when { resource.name == \"x\" };",
                true,
            ),
            (
                "permit (principal, action, resource) when { resource has name };",
                true,
            ),
            (
                "permit (principal, action, resource) when { resource is Column };",
                true,
            ),
            (
                "permit (principal, action, resource) when { resource == Table::\"u\" };",
                false,
            ),
            (
                "permit (principal, action, resource) when { Table::\"t\" == resource };",
                true,
            ),
            (
                "permit (principal, action, resource) when { resource != Column::\"c\" };",
                true,
            ),
            (
                "permit (principal, action, resource) when { resource == resource };",
                true,
            ),
            (
                "permit (principal, action, resource) when { [resource].contains(resource) };",
                true,
            ),
            (
                "permit (principal, action, resource) when { {Var: resource}.Var == resource };",
                true,
            ),
            (
                "permit (principal, action, resource) when { context.a == \"resource\" };",
                false,
            ),
            (
                "permit (principal, action, resource) when { if resource in [] then true else false };",
                false,
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(sight(text).tells(&column, &table), expected, "{text}");
        }
    }
}
