//! Policy: Cedar policies in plain files, validated against the vocabulary of the adapters, and the decisions
//! that they make.
//!
//! ```text
//!   core_part()  SchemaPart::parse("gateway-sql", ..)  ...          policies/*.cedar
//!        └───────────────┬───────────────────┘                            │
//!               Vocabulary::merge ───────────▶ PolicyEngine::open ◀───────┘
//!                                                     │   reload(), watch()
//!                  principal, resource, operations ──▶│──▶ Verdict        (decide)
//!                                                     └──▶ Explanation    (explain)
//! ```
//!
//! Default deny; a forbid beats every permit; an operation that does not fit the vocabulary, or on which any
//! policy errs, is denied. This module names no protocol: what a statement asks is the adapters' knowledge.

mod annotations;
mod cache;
mod combine;
mod engine;
mod errors;
mod expect;
mod explain;
mod index;
mod load;
#[cfg(test)]
mod property;
mod request;
mod scan;
mod vocabulary;
mod watch;

pub use engine::{PolicyEngine, ReloadOutcome};
pub use errors::{PolicyError, PolicyErrors};
pub use expect::{ExpectationError, Report, Statements, TestOutcome, run_tests};
pub use explain::{Explanation, Missing, OperationExplanation, PolicyFault, PolicyNote};
pub use vocabulary::{
    ActionPart, Attribute, AttributeType, EntityType, SchemaPart, Vocabulary, VocabularyError,
};
pub use vocabulary::{CORE, core_part};
pub use watch::{ReloadResult, Watcher, watch};
