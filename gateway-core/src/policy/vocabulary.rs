//! What policies can say: the parts of core and of the adapters, merged into one schema.

mod merge;
mod parse;

use std::collections::{BTreeMap, BTreeSet};

/// The owner of core's part.
pub const CORE: &str = "gateway-core";

/// The type of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributeType {
    /// `Bool`.
    Bool,
    /// `Long`.
    Long,
    /// `String`.
    String,
    /// An extension type, such as `ipaddr`.
    Extension(String),
    /// A name: an entity type or a type name of any part, known once the parts are merged.
    Name(String),
    /// `Set<...>`.
    Set(Box<AttributeType>),
    /// A record.
    Record(BTreeMap<String, Attribute>),
}

/// An attribute of a record or an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Its type.
    pub ty: AttributeType,
    /// Whether it is always there.
    pub required: bool,
}

/// An entity type that a part declares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntityType {
    /// The types that its entities can be in.
    pub parents: BTreeSet<String>,
    /// Its attributes.
    pub attributes: BTreeMap<String, Attribute>,
    /// Whether it carries labels (Cedar `tags String`).
    pub tags: bool,
}

/// What a part says of one action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionPart {
    /// The entity types that it is asked on.
    pub resources: BTreeSet<String>,
    /// Its context: a record, or the name of one.
    pub context: AttributeType,
}

/// What one crate (core, an adapter, a library that adapters share) adds to the vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaPart {
    /// The crate's name.
    pub owner: String,
    /// The entity types that it declares; each has one owner.
    pub entities: BTreeMap<String, EntityType>,
    /// The type names that it declares; each has one owner.
    pub types: BTreeMap<String, AttributeType>,
    /// What it says of actions, which parts may share.
    pub actions: BTreeMap<String, ActionPart>,
}

/// What policies can say: all parts in one.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    entities: BTreeMap<String, EntityType>,
    types: BTreeMap<String, AttributeType>,
    actions: BTreeMap<String, ActionPart>,
    schema: std::sync::Arc<cedar_policy::Schema>,
}

/// Why parts do not make a vocabulary. A fault of the build, not of a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VocabularyError {
    /// A part's text is no Cedar schema.
    #[error("the schema part of `{owner}` can't be read: {message}")]
    Syntax {
        /// Whose part.
        owner: String,
        /// What Cedar says.
        message: String,
    },
    /// A part uses what parts can't say.
    #[error("the schema part of `{owner}` declares {what}, which parts can't")]
    Unsupported {
        /// Whose part.
        owner: String,
        /// What it declares.
        what: String,
    },
    /// Two parts of one owner differ.
    #[error("two different schema parts of `{owner}` were given")]
    Differs {
        /// Whose parts.
        owner: String,
    },
    /// An entity type or type name has two owners.
    #[error("`{name}` is declared by `{first}` and by `{second}`; a type has one owner")]
    TwoOwners {
        /// The type.
        name: String,
        /// Who declared it first.
        first: String,
        /// Who declared it again.
        second: String,
    },
    /// Two parts give an attribute of an action different types.
    #[error("`{attribute}` in the context of `{action}` has one type in `{first}` and another in `{second}`")]
    TwoTypes {
        /// The action.
        action: String,
        /// The attribute.
        attribute: String,
        /// Whose type came first.
        first: String,
        /// Whose type differs.
        second: String,
    },
    /// The context of an action is no record.
    #[error("the context of `{action}` in the schema part of `{owner}` is no record")]
    NoRecord {
        /// The action.
        action: String,
        /// Whose part.
        owner: String,
    },
    /// Cedar refuses the merged schema (a type that nobody declares, for example).
    #[error("the merged vocabulary is no Cedar schema: {0}")]
    Schema(String),
}

/// Core's part: principals, groups, resources, tags, and the actions that every build has.
pub fn core_part() -> SchemaPart {
    let text = include_str!("vocabulary/core.cedarschema");
    // The text is a constant that a test parses; a part without declarations permits nothing.
    SchemaPart::parse(CORE, text).unwrap_or_else(|_| SchemaPart::new(CORE))
}

impl SchemaPart {
    /// A part that declares nothing.
    pub fn new(owner: impl Into<String>) -> Self {
        Self {
            owner: owner.into(),
            entities: BTreeMap::new(),
            types: BTreeMap::new(),
            actions: BTreeMap::new(),
        }
    }
}
