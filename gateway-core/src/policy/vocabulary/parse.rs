//! Reads a part from Cedar schema text, by way of Cedar's JSON form.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::SchemaFragment;
use serde::Deserialize;

use super::{ActionPart, Attribute, AttributeType, EntityType, SchemaPart, VocabularyError};

/// The only type of principals.
pub(super) const PRINCIPAL: &str = "Principal";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Namespace {
    #[serde(default)]
    common_types: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    entity_types: BTreeMap<String, JsonEntity>,
    #[serde(default)]
    actions: BTreeMap<String, JsonAction>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonEntity {
    #[serde(default)]
    member_of_types: BTreeSet<String>,
    shape: Option<serde_json::Value>,
    tags: Option<serde_json::Value>,
    #[serde(rename = "enum")]
    choices: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonAction {
    applies_to: Option<AppliesTo>,
    member_of: Option<serde_json::Value>,
    attributes: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AppliesTo {
    resource_types: BTreeSet<String>,
    principal_types: BTreeSet<String>,
    context: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct JsonType {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    element: Option<Box<JsonType>>,
    #[serde(default)]
    attributes: BTreeMap<String, JsonAttribute>,
    #[serde(default, rename = "additionalAttributes")]
    open: bool,
}

#[derive(Deserialize)]
struct JsonAttribute {
    #[serde(flatten)]
    ty: JsonType,
    required: Option<bool>,
}

impl SchemaPart {
    /// Reads a part from Cedar schema text. It may use types that other parts declare.
    ///
    /// # Errors
    /// What is no Cedar schema, or says more than a part can: namespaces, enumerated entity types, groups of
    /// actions, principals other than `Principal`, tags other than `String`.
    pub fn parse(owner: impl Into<String>, text: &str) -> Result<Self, VocabularyError> {
        let owner = owner.into();
        let syntax = |message: String| VocabularyError::Syntax {
            owner: owner.clone(),
            message,
        };
        let (fragment, _) =
            SchemaFragment::from_cedarschema_str(text).map_err(|e| syntax(with_causes(&e)))?;
        let json = fragment.to_json_value().map_err(|e| syntax(e.to_string()))?;
        let mut spaces: BTreeMap<String, Namespace> =
            serde_json::from_value(json).map_err(|e| syntax(e.to_string()))?;
        let reader = Reader { owner: &owner };
        let mut part = Self::new(owner.clone());
        if let Some(space) = spaces.remove("") {
            reader.namespace(space, &mut part)?;
        }
        match spaces.into_keys().next() {
            Some(name) => Err(reader.unsupported(format!("the namespace `{name}`"))),
            None => Ok(part),
        }
    }
}

/// An error and what Cedar says of its place.
fn with_causes(error: &(dyn miette::Diagnostic + 'static)) -> String {
    let mut text = error.to_string();
    for label in error.labels().into_iter().flatten() {
        text = format!(
            "{text} (at byte {}: {})",
            label.offset(),
            label.label().unwrap_or("here")
        );
    }
    text
}

struct Reader<'a> {
    owner: &'a str,
}

impl Reader<'_> {
    fn unsupported(&self, what: impl Into<String>) -> VocabularyError {
        VocabularyError::Unsupported {
            owner: self.owner.to_owned(),
            what: what.into(),
        }
    }

    fn namespace(&self, space: Namespace, part: &mut SchemaPart) -> Result<(), VocabularyError> {
        let names = space.common_types.keys().chain(space.entity_types.keys());
        for name in names {
            if builtin(name).is_some() || name == "Action" {
                return Err(self.unsupported(format!("the type `{name}`, a word of Cedar itself")));
            }
        }
        for (name, ty) in space.common_types {
            let ty = self.json(ty)?;
            part.types.insert(name, ty);
        }
        for (name, entity) in space.entity_types {
            let entity = self.entity(&name, entity)?;
            part.entities.insert(name, entity);
        }
        for (name, action) in space.actions {
            let action = self.action(&name, action)?;
            part.actions.insert(name, action);
        }
        Ok(())
    }

    fn entity(&self, name: &str, json: JsonEntity) -> Result<EntityType, VocabularyError> {
        if json.choices.is_some() {
            return Err(self.unsupported(format!("`{name}` as an enumeration")));
        }
        let attributes = match json.shape {
            None => BTreeMap::new(),
            Some(shape) => match self.json(shape)? {
                AttributeType::Record(attributes) => attributes,
                _ => return Err(self.unsupported(format!("`{name}` with a shape that is no record"))),
            },
        };
        let tags = match json.tags {
            None => false,
            Some(tags) if self.json(tags.clone())? == AttributeType::String => true,
            Some(_) => return Err(self.unsupported(format!("`{name}` with tags that are no `String`"))),
        };
        Ok(EntityType {
            parents: json.member_of_types,
            attributes,
            tags,
        })
    }

    fn action(&self, name: &str, json: JsonAction) -> Result<ActionPart, VocabularyError> {
        if json
            .member_of
            .is_some_and(|groups| groups.as_array().is_none_or(|list| !list.is_empty()))
        {
            return Err(self.unsupported(format!("the action `{name}` in a group of actions")));
        }
        if json.attributes.is_some() {
            return Err(self.unsupported(format!("attributes of the action `{name}`")));
        }
        let Some(applies) = json.applies_to else {
            return Err(self.unsupported(format!("the action `{name}`, which applies to nothing")));
        };
        if applies.principal_types.iter().map(String::as_str).ne([PRINCIPAL]) {
            return Err(self.unsupported(format!("principals of `{name}` other than `{PRINCIPAL}`")));
        }
        if applies.resource_types.is_empty() {
            return Err(self.unsupported(format!("the action `{name}`, which applies to nothing")));
        }
        let context = match applies.context {
            Some(context) => self.json(context)?,
            None => AttributeType::Record(BTreeMap::new()),
        };
        Ok(ActionPart {
            resources: applies.resource_types,
            context,
        })
    }

    fn json(&self, json: serde_json::Value) -> Result<AttributeType, VocabularyError> {
        let ty: JsonType = serde_json::from_value(json).map_err(|e| VocabularyError::Syntax {
            owner: self.owner.to_owned(),
            message: e.to_string(),
        })?;
        self.ty(ty)
    }

    fn ty(&self, json: JsonType) -> Result<AttributeType, VocabularyError> {
        if json.open {
            return Err(self.unsupported("a record with additional attributes"));
        }
        match json.kind.as_str() {
            "Record" => {
                let mut attributes = BTreeMap::new();
                for (name, attribute) in json.attributes {
                    let required = attribute.required.unwrap_or(true);
                    attributes.insert(
                        name,
                        Attribute {
                            ty: self.ty(attribute.ty)?,
                            required,
                        },
                    );
                }
                Ok(AttributeType::Record(attributes))
            }
            "Set" => match json.element {
                Some(element) => Ok(AttributeType::Set(Box::new(self.ty(*element)?))),
                None => Err(self.unsupported("a set of nothing")),
            },
            "Extension" | "Entity" | "EntityOrCommon" => match json.name {
                Some(name) => Ok(named(name)),
                None => Err(self.unsupported("a type without a name")),
            },
            other => Ok(named(other.to_owned())),
        }
    }
}

fn named(name: String) -> AttributeType {
    let bare = name.strip_prefix("__cedar::").unwrap_or(&name);
    builtin(bare).unwrap_or(AttributeType::Name(name))
}

fn builtin(name: &str) -> Option<AttributeType> {
    match name {
        "Bool" | "Boolean" => Some(AttributeType::Bool),
        "Long" => Some(AttributeType::Long),
        "String" => Some(AttributeType::String),
        "ipaddr" | "decimal" | "datetime" | "duration" => Some(AttributeType::Extension(name.to_owned())),
        _ => None,
    }
}
