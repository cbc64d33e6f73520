//! Decisions that were made before.
//!
//! A cache belongs to one set of policies: a reload starts with empty ones, so no key names a version. Keys
//! compare contents; the hash takes only what is cheap to hash, and pointers decide most comparisons.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use equivalent::Equivalent;
use moka::sync::Cache;

use super::request::Outcome;
use crate::operation::{EntityRef, Operation, Operations, Value};
use crate::principal::Principal;
use crate::resource::Resource;
use crate::verdict::Verdict;

/// Most bytes that each cache may keep, roughly.
const BYTES: u64 = 32 << 20;

/// The verdicts on whole messages, and what policies say of single operations.
#[derive(Debug)]
pub(super) struct Caches {
    messages: Cache<MessageKey, Arc<Verdict>>,
    operations: Cache<OperationKey, Arc<Outcome>>,
}

impl Caches {
    pub(super) fn new() -> Self {
        Self {
            messages: Cache::builder()
                .max_capacity(BYTES)
                .weigher(|key: &MessageKey, verdict: &Arc<Verdict>| {
                    let operations = key.operations.list().iter().map(operation_bytes).sum::<usize>();
                    weight(operations.saturating_add(verdict_bytes(verdict)))
                })
                .build(),
            operations: Cache::builder()
                .max_capacity(BYTES)
                .weigher(|key: &OperationKey, outcome: &Arc<Outcome>| {
                    let faults = outcome.faults.iter().map(|(_, text)| text.len()).sum::<usize>();
                    let rules = outcome
                        .permits
                        .len()
                        .saturating_add(outcome.forbids.len())
                        .saturating_mul(8);
                    let own = operation_bytes(&key.operation);
                    weight(own.saturating_add(faults).saturating_add(rules))
                })
                .build(),
        }
    }

    pub(super) fn message(&self, who: Who<'_>, operations: &Arc<Operations>) -> Option<Arc<Verdict>> {
        self.messages.get(&MessageRef { who, operations })
    }

    pub(super) fn keep_message(&self, who: Who<'_>, operations: &Arc<Operations>, verdict: Arc<Verdict>) {
        let key = MessageKey {
            who: who.into(),
            operations: Arc::clone(operations),
        };
        self.messages.insert(key, verdict);
    }

    pub(super) fn operation(
        &self,
        who: Who<'_>,
        operation: &Operation,
        chain: &[EntityRef],
    ) -> Option<Arc<Outcome>> {
        self.operations.get(&OperationRef {
            who,
            operation,
            chain,
        })
    }

    pub(super) fn keep_operation(
        &self,
        who: Who<'_>,
        operation: &Operation,
        chain: &[EntityRef],
        outcome: Arc<Outcome>,
    ) {
        let key = OperationKey {
            who: who.into(),
            operation: operation.clone(),
            chain: chain.to_vec(),
        };
        self.operations.insert(key, outcome);
    }
}

/// Who asks, on what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who<'a> {
    pub(super) principal: &'a Arc<Principal>,
    pub(super) resource: &'a Arc<Resource>,
}

#[derive(Debug)]
struct WhoKey {
    principal: Arc<Principal>,
    resource: Arc<Resource>,
}

impl From<Who<'_>> for WhoKey {
    fn from(who: Who<'_>) -> Self {
        Self {
            principal: Arc::clone(who.principal),
            resource: Arc::clone(who.resource),
        }
    }
}

impl WhoKey {
    fn as_ref(&self) -> Who<'_> {
        Who {
            principal: &self.principal,
            resource: &self.resource,
        }
    }
}

impl PartialEq for Who<'_> {
    fn eq(&self, other: &Self) -> bool {
        let resource = Arc::ptr_eq(self.resource, other.resource)
            || (self.resource.name == other.resource.name && self.resource.labels == other.resource.labels);
        resource && (Arc::ptr_eq(self.principal, other.principal) || self.principal == other.principal)
    }
}

impl Hash for Who<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.principal.subject.hash(state);
        self.resource.name.hash(state);
    }
}

#[derive(Debug)]
struct MessageKey {
    who: WhoKey,
    operations: Arc<Operations>,
}

struct MessageRef<'a> {
    who: Who<'a>,
    operations: &'a Arc<Operations>,
}

impl Hash for MessageRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.who.hash(state);
        self.operations.hash(state);
    }
}

impl MessageKey {
    fn as_ref(&self) -> MessageRef<'_> {
        MessageRef {
            who: self.who.as_ref(),
            operations: &self.operations,
        }
    }
}

impl Hash for MessageKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_ref().hash(state);
    }
}

impl Equivalent<MessageKey> for MessageRef<'_> {
    fn equivalent(&self, key: &MessageKey) -> bool {
        let same = Arc::ptr_eq(self.operations, &key.operations)
            // The summary is in the text of a hold.
            || (self.operations == &key.operations && self.operations.summary() == key.operations.summary());
        same && self.who == key.who.as_ref()
    }
}

impl PartialEq for MessageKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref().equivalent(other)
    }
}

impl Eq for MessageKey {}

/// An operation, its object replaced by the head of `chain`.
#[derive(Debug)]
struct OperationKey {
    who: WhoKey,
    operation: Operation,
    chain: Vec<EntityRef>,
}

struct OperationRef<'a> {
    who: Who<'a>,
    operation: &'a Operation,
    chain: &'a [EntityRef],
}

impl Hash for OperationRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.who.hash(state);
        self.operation.action.hash(state);
        self.operation.context.hash(state);
        self.operation.object.attributes.hash(state);
        self.chain.first().hash(state);
    }
}

impl OperationKey {
    fn as_ref(&self) -> OperationRef<'_> {
        OperationRef {
            who: self.who.as_ref(),
            operation: &self.operation,
            chain: &self.chain,
        }
    }
}

impl Hash for OperationKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_ref().hash(state);
    }
}

impl Equivalent<OperationKey> for OperationRef<'_> {
    fn equivalent(&self, key: &OperationKey) -> bool {
        self.chain == key.chain
            && self.operation.action == key.operation.action
            && self.operation.context == key.operation.context
            && self.operation.object.attributes == key.operation.object.attributes
            && self.who == key.who.as_ref()
    }
}

impl PartialEq for OperationKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref().equivalent(other)
    }
}

impl Eq for OperationKey {}

/// What an entry costs beside its texts.
const ENTRY: usize = 400;

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes.saturating_add(ENTRY)).unwrap_or(u32::MAX)
}

fn operation_bytes(operation: &Operation) -> usize {
    let object = &operation.object;
    let entities = std::iter::once(&object.entity).chain(&object.parents);
    // Twice: the chain of the key repeats them.
    let entities = entities
        .map(|entity| entity.id.len().saturating_add(64))
        .sum::<usize>()
        .saturating_mul(2);
    let values = operation.context.iter().chain(&object.attributes);
    let values = values
        .map(|(name, value)| name.len().saturating_add(value_bytes(value)))
        .sum::<usize>();
    entities.saturating_add(values).saturating_add(128)
}

fn value_bytes(value: &Value) -> usize {
    let own = match value {
        Value::Bool(_) | Value::Long(_) | Value::Ip(_) => 0,
        Value::String(text) => text.len(),
        Value::Entity(entity) => entity.id.len(),
        Value::Strings(set) => set.iter().map(|text| text.len().saturating_add(32)).sum(),
        Value::Record(map) => map
            .iter()
            .map(|(name, v)| name.len().saturating_add(value_bytes(v)))
            .sum(),
    };
    own.saturating_add(48)
}

fn verdict_bytes(verdict: &Verdict) -> usize {
    match verdict {
        Verdict::Allow { rules, .. } => texts(rules),
        Verdict::Deny(denial) => denial.hint.len().saturating_add(denial.operation.len()),
        Verdict::Hold(hold) => texts(&hold.rules)
            .saturating_add(texts(&hold.groups))
            .saturating_add(hold.operation.len()),
    }
}

fn texts<'a>(list: impl IntoIterator<Item = &'a String>) -> usize {
    list.into_iter().map(|text| text.len().saturating_add(32)).sum()
}
