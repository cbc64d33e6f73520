//! What a client tries, in neutral words.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The name of an action in policies, such as `read` or `write-unbounded`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Action(pub Cow<'static, str>);

impl Action {
    /// `connect`, asked on the resource before anything else.
    pub const CONNECT: Self = Self(Cow::Borrowed("connect"));
    /// `unmask`, asked on a tag.
    pub const UNMASK: Self = Self(Cow::Borrowed("unmask"));

    /// An action known at compile time.
    pub const fn new(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// An action by a name that comes from elsewhere: a vocabulary, a request.
    pub fn named(name: impl Into<String>) -> Self {
        Self(Cow::Owned(name.into()))
    }

    /// The action's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one entity of the policy vocabulary: `Table::"orders-db/public.orders"`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntityRef {
    /// The entity type, such as `Table`.
    pub kind: Cow<'static, str>,
    /// Its id, such as `orders-db/public.orders`.
    pub id: String,
}

impl EntityRef {
    /// Names an entity.
    pub fn new(kind: impl Into<Cow<'static, str>>, id: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            id: id.into(),
        }
    }

    /// The resource of that name.
    pub fn resource(name: impl Into<String>) -> Self {
        Self::new("Resource", name)
    }
}

impl fmt::Display for EntityRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{:?}", self.kind, self.id)
    }
}

/// A value in the context of an operation or in an attribute of an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// Cedar `Bool`.
    Bool(bool),
    /// Cedar `Long`.
    Long(i64),
    /// Cedar `ipaddr`.
    Ip(IpAddr),
    /// Cedar `String`.
    String(String),
    /// A reference to an entity.
    Entity(EntityRef),
    /// Cedar `Set<String>`.
    Strings(BTreeSet<String>),
    /// A record.
    Record(BTreeMap<String, Value>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// One object that an operation touches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Object {
    /// The object itself.
    pub entity: EntityRef,
    /// The chain of its parents, nearest first, each in the next; the `Resource` need not be repeated here:
    /// core puts the last of them (or the object itself) into it, except a `Tag`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<EntityRef>,
    /// Attributes of the object, where its entity type has any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Value>,
}

impl Object {
    /// An object without parents of its own and without attributes.
    pub fn new(entity: EntityRef) -> Self {
        Self {
            entity,
            parents: Vec::new(),
            attributes: BTreeMap::new(),
        }
    }

    /// An object in a chain of parents, nearest first.
    pub fn within(entity: EntityRef, parents: Vec<EntityRef>) -> Self {
        Self {
            entity,
            parents,
            attributes: BTreeMap::new(),
        }
    }

    /// The tag `name`, in each of its prefixes: `pci.pan` is in `pci`.
    pub fn tag(name: &str) -> Self {
        let mut parents = Vec::new();
        let mut rest = name;
        while let Some((parent, _)) = rest.rsplit_once('.') {
            parents.push(EntityRef::new("Tag", parent));
            rest = parent;
        }
        Self::within(EntityRef::new("Tag", name), parents)
    }
}

/// One thing that a client tries: an action on one object, with attributes (Cedar's `context`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Operation {
    /// The action.
    pub action: Action,
    /// What it is tried on.
    pub object: Object,
    /// The attributes of the action.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, Value>,
    /// The message can run without it: where it is an `unmask` that policy refuses, what the tag names is masked in
    /// what comes back ([`Obligations::mask`](crate::verdict::Obligations::mask)) instead of refusing the message.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub or_mask: bool,
    /// It comes with another operation of the message, which is what needs a permit (rows of a partition, reached through the
    /// table): without a word of any policy about it, it is permitted. A policy that forbids or holds it counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reached: bool,
}

impl Operation {
    /// An operation without attributes.
    pub fn new(action: Action, object: Object) -> Self {
        Self {
            action,
            object,
            context: BTreeMap::new(),
            or_mask: false,
            reached: false,
        }
    }

    /// The same, reached through what another operation of the message is on: see [`Self::reached`].
    #[must_use]
    pub fn reached(mut self) -> Self {
        self.reached = true;
        self
    }

    /// Adds one attribute.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.context.insert(name.to_owned(), value.into());
        self
    }

    /// `connect` on a resource.
    pub fn connect(resource: &str) -> Self {
        Self::new(Action::CONNECT, Object::new(EntityRef::resource(resource)))
    }

    /// `unmask` of `tag` in the data of `resource`.
    pub fn unmask(tag: &str, resource: &str) -> Self {
        Self::new(Action::UNMASK, Object::tag(tag))
            .with("resource", Value::Entity(EntityRef::resource(resource)))
    }

    /// The same, where the adapter masks the tag's data in the answer if policy refuses.
    pub fn unmask_or_mask(tag: &str, resource: &str) -> Self {
        Self {
            or_mask: true,
            ..Self::unmask(tag, resource)
        }
    }
}

/// The operations of one message, in the order in which they are decided, with a summary for people.
///
/// The hash is computed once, so that a decision cache can look up a set of operations cheaply.
#[derive(Debug, Clone, Serialize)]
pub struct Operations {
    list: Vec<Operation>,
    summary: String,
    /// By the id of the object.
    #[serde(skip)]
    reasons: BTreeMap<String, String>,
    #[serde(skip)]
    hash: u64,
}

impl Operations {
    /// Longest summary, in bytes.
    pub const SUMMARY_BYTES: usize = 200;

    /// Longest reason, in bytes: the client is told it in one hint.
    pub const REASON_BYTES: usize = 400;

    /// Takes the operations; `summary` is what a person reads (`write public.orders`), cut at
    /// [`Self::SUMMARY_BYTES`].
    pub fn new(list: Vec<Operation>, summary: impl Into<String>) -> Self {
        let mut summary = summary.into();
        truncate(&mut summary, Self::SUMMARY_BYTES);
        let mut hasher = std::collections::hash_map::DefaultHasher::new();
        list.hash(&mut hasher);
        Self {
            list,
            summary,
            reasons: BTreeMap::new(),
            hash: hasher.finish(),
        }
    }

    /// Says why the message asks something of an object that it does not name, such as a tag. It is told to whom policy
    /// refuses it, and decides nothing. At most [`Self::REASON_BYTES`] of it are kept.
    #[must_use]
    pub fn because(mut self, id: &str, why: impl Into<String>) -> Self {
        let mut why = why.into();
        truncate(&mut why, Self::REASON_BYTES);
        self.reasons.insert(id.to_owned(), why);
        self
    }

    /// Why something is asked of the object of that id, where that was said.
    pub fn why(&self, id: &str) -> Option<&str> {
        self.reasons.get(id).map(String::as_str)
    }

    /// Those that the message itself asks, without what is reached through them.
    pub fn asked(&self) -> impl Iterator<Item = &Operation> {
        self.list.iter().filter(|operation| !operation.reached)
    }

    /// The operations, in order.
    pub fn list(&self) -> &[Operation] {
        &self.list
    }

    /// What a person reads.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// Whether nothing is asked (what `connect` alone gives).
    pub fn is_free(&self) -> bool {
        self.list.is_empty()
    }
}

impl PartialEq for Operations {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.list == other.list
    }
}

impl Eq for Operations {}

impl Hash for Operations {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Cuts `text` to at most `bytes` bytes, at a character's border.
pub fn truncate(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        let mut end = bytes;
        while !text.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_in_each_of_its_prefixes() {
        let tag = Object::tag("pii.contact.email");
        let parents: Vec<_> = tag.parents.iter().map(|p| p.id.as_str()).collect();
        assert_eq!(parents, ["pii.contact", "pii"]);
    }

    #[test]
    fn truncate_keeps_characters_whole() {
        let mut text = "aéé".to_owned();
        truncate(&mut text, 2);
        assert_eq!(text, "a");
    }
}
