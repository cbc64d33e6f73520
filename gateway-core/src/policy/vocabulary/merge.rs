//! Many parts become one vocabulary.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cedar_policy::{Schema, SchemaFragment};
use serde_json::{Value, json};

use super::parse::PRINCIPAL;
use super::{
    ActionPart, Attribute, AttributeType, CORE, EntityType, SchemaPart, Vocabulary, VocabularyError,
};

/// How deep type names may refer to each other.
const DEPTH: usize = 16;

type Record = BTreeMap<String, Attribute>;

impl Vocabulary {
    /// Merges parts; core's own is always among them. A part that is given twice counts once.
    ///
    /// # Errors
    /// What the parts contradict each other in, and what Cedar refuses of the whole.
    pub fn merge(parts: impl IntoIterator<Item = SchemaPart>) -> Result<Self, VocabularyError> {
        let mut list: Vec<SchemaPart> = Vec::new();
        for part in std::iter::once(super::core_part()).chain(parts) {
            match list.iter().find(|other| other.owner == part.owner) {
                None => list.push(part),
                Some(same) if *same == part => {}
                Some(_) => return Err(VocabularyError::Differs { owner: part.owner }),
            }
        }
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        let mut entities = BTreeMap::new();
        let mut types = BTreeMap::new();
        for part in &list {
            for name in part.entities.keys().chain(part.types.keys()) {
                if let Some(first) = owners.insert(name, &part.owner) {
                    return Err(VocabularyError::TwoOwners {
                        name: name.clone(),
                        first: first.to_owned(),
                        second: part.owner.clone(),
                    });
                }
            }
            entities.extend(part.entities.clone());
            types.extend(part.types.clone());
        }
        let names: BTreeSet<&String> = list.iter().flat_map(|part| part.actions.keys()).collect();
        let mut actions = BTreeMap::new();
        for name in names {
            let given: Vec<(&str, &ActionPart)> = list
                .iter()
                .filter_map(|part| Some((part.owner.as_str(), part.actions.get(name)?)))
                .collect();
            let resources = given
                .iter()
                .flat_map(|(_, part)| part.resources.iter().cloned())
                .collect();
            let context = context(name, &given, &types)?;
            actions.insert(name.clone(), ActionPart { resources, context });
        }
        let json = schema_json(&entities, &types, &actions);
        let schema =
            Schema::from_json_value(json).map_err(|error| VocabularyError::Schema(error.to_string()))?;
        Ok(Self {
            entities,
            types,
            actions,
            schema: Arc::new(schema),
        })
    }

    /// The merged schema, as Cedar takes it.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The merged schema as Cedar schema text, for `policy check` and for editors.
    ///
    /// # Errors
    /// Where Cedar can't write it.
    pub fn to_cedarschema(&self) -> Result<String, VocabularyError> {
        let json = schema_json(&self.entities, &self.types, &self.actions);
        let wrap = |error: &dyn std::error::Error| VocabularyError::Schema(error.to_string());
        let fragment = SchemaFragment::from_json_value(json).map_err(|e| wrap(&e))?;
        fragment.to_cedarschema().map_err(|e| wrap(&e))
    }

    /// The names of all actions.
    pub fn actions(&self) -> impl Iterator<Item = &str> {
        self.actions.keys().map(String::as_str)
    }

    /// The entity types that an action is asked on; `None` for an unknown action.
    pub fn resources_of(&self, action: &str) -> Option<&BTreeSet<String>> {
        self.actions.get(action).map(|part| &part.resources)
    }

    /// The context of an action, type names replaced by what they name; `None` for an unknown action.
    pub fn context_of(&self, action: &str) -> Option<Record> {
        self.actions
            .get(action)
            .and_then(|part| record(&part.context, &self.types))
    }

    /// An entity type.
    pub fn entity(&self, name: &str) -> Option<&EntityType> {
        self.entities.get(name)
    }

    /// Whether entities of another type can be in those of this one, as columns are in tables.
    pub fn has_parts(&self, name: &str) -> bool {
        let mut others = self.entities.iter().filter(|(other, _)| *other != name);
        others.any(|(_, entity)| entity.parents.contains(name))
    }

    /// A type with the type names at its top replaced by what they name.
    pub fn resolve<'a>(&'a self, ty: &'a AttributeType) -> &'a AttributeType {
        resolve(ty, &self.types)
    }
}

fn resolve<'a>(mut ty: &'a AttributeType, types: &'a BTreeMap<String, AttributeType>) -> &'a AttributeType {
    for _ in 0..DEPTH {
        match ty {
            AttributeType::Name(name) => match types.get(name) {
                Some(named) => ty = named,
                None => return ty,
            },
            _ => return ty,
        }
    }
    ty
}

fn record(ty: &AttributeType, types: &BTreeMap<String, AttributeType>) -> Option<Record> {
    match resolve(ty, types) {
        AttributeType::Record(attributes) => Some(attributes.clone()),
        _ => None,
    }
}

/// Whether two types are one, type names seen through.
fn same(
    one: &AttributeType,
    other: &AttributeType,
    types: &BTreeMap<String, AttributeType>,
    depth: usize,
) -> bool {
    if depth == 0 {
        return false;
    }
    match (resolve(one, types), resolve(other, types)) {
        (AttributeType::Set(one), AttributeType::Set(other)) => {
            same(one, other, types, depth.saturating_sub(1))
        }
        (AttributeType::Record(one), AttributeType::Record(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|((name, a), (name2, b))| {
                    name == name2
                        && a.required == b.required
                        && same(&a.ty, &b.ty, types, depth.saturating_sub(1))
                })
        }
        (one, other) => one == other,
    }
}

/// The context of an action that several parts name.
fn context(
    action: &str,
    parts: &[(&str, &ActionPart)],
    types: &BTreeMap<String, AttributeType>,
) -> Result<AttributeType, VocabularyError> {
    let mut records: Vec<(&str, Record)> = Vec::new();
    for (owner, part) in parts {
        match record(&part.context, types) {
            Some(record) => records.push((owner, record)),
            None => {
                let (action, owner) = (action.to_owned(), (*owner).to_owned());
                return Err(VocabularyError::NoRecord { action, owner });
            }
        }
    }
    if let Some(((_, first), rest)) = parts.split_first()
        && rest.iter().all(|(_, part)| part.context == first.context)
    {
        return Ok(first.context.clone());
    }
    let core = records
        .iter()
        .find(|(owner, _)| *owner == CORE)
        .map(|(_, record)| record);
    let mut merged: BTreeMap<String, (&str, Attribute)> = BTreeMap::new();
    for (owner, record) in &records {
        for (name, attribute) in record {
            match merged.get(name) {
                None => {
                    merged.insert(name.clone(), (owner, attribute.clone()));
                }
                Some((_, known)) if same(&known.ty, &attribute.ty, types, DEPTH) => {}
                Some((first, _)) => {
                    return Err(VocabularyError::TwoTypes {
                        action: action.to_owned(),
                        attribute: name.clone(),
                        first: (*first).to_owned(),
                        second: (*owner).to_owned(),
                    });
                }
            }
        }
    }
    let merged = merged.into_iter().map(|(name, (_, mut attribute))| {
        attribute.required = match core {
            // What core requires is there whatever adapters say; what they add is optional.
            Some(core) => core.get(&name).is_some_and(|own| own.required),
            None => records
                .iter()
                .all(|(_, record)| record.get(&name).is_some_and(|own| own.required)),
        };
        (name, attribute)
    });
    Ok(AttributeType::Record(merged.collect()))
}

fn schema_json(
    entities: &BTreeMap<String, EntityType>,
    types: &BTreeMap<String, AttributeType>,
    actions: &BTreeMap<String, ActionPart>,
) -> Value {
    let types: serde_json::Map<_, _> = types
        .iter()
        .map(|(name, ty)| (name.clone(), type_json(ty)))
        .collect();
    let entities: serde_json::Map<_, _> = entities
        .iter()
        .map(|(name, entity)| {
            let mut json = json!({
                "memberOfTypes": entity.parents,
                "shape": record_json(&entity.attributes),
            });
            if entity.tags
                && let Some(map) = json.as_object_mut()
            {
                map.insert("tags".to_owned(), type_json(&AttributeType::String));
            }
            (name.clone(), json)
        })
        .collect();
    let actions: serde_json::Map<_, _> = actions
        .iter()
        .map(|(name, action)| {
            let applies = json!({
                "principalTypes": [PRINCIPAL],
                "resourceTypes": action.resources,
                "context": type_json(&action.context),
            });
            (name.clone(), json!({ "appliesTo": applies }))
        })
        .collect();
    json!({ "": { "commonTypes": types, "entityTypes": entities, "actions": actions } })
}

fn type_json(ty: &AttributeType) -> Value {
    match ty {
        AttributeType::Bool => json!({ "type": "Boolean" }),
        AttributeType::Long => json!({ "type": "Long" }),
        AttributeType::String => json!({ "type": "String" }),
        AttributeType::Extension(name) => json!({ "type": "Extension", "name": name }),
        AttributeType::Name(name) => json!({ "type": "EntityOrCommon", "name": name }),
        AttributeType::Set(element) => json!({ "type": "Set", "element": type_json(element) }),
        AttributeType::Record(attributes) => record_json(attributes),
    }
}

fn record_json(attributes: &Record) -> Value {
    let attributes: serde_json::Map<_, _> = attributes
        .iter()
        .map(|(name, attribute)| {
            let mut json = type_json(&attribute.ty);
            if let Some(map) = json.as_object_mut() {
                map.insert("required".to_owned(), Value::Bool(attribute.required));
            }
            (name.clone(), json)
        })
        .collect();
    json!({ "type": "Record", "attributes": attributes })
}
