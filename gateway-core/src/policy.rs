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
//!
//! ```
//! use std::sync::Arc;
//!
//! use gateway_core::operation::{Operation, Operations};
//! use gateway_core::policy::{PolicyEngine, SchemaPart, Vocabulary};
//! use gateway_core::principal::{Principal, PrincipalKind};
//! use gateway_core::services::Policy;
//!
//! // An adapter's part, in Cedar's schema language; what it adds to an action of core is optional.
//! let part = SchemaPart::parse(
//!     "proto-lamp",
//!     "action connect appliesTo { principal: Principal, resource: Resource, context: { room: String } };",
//! )?;
//! let vocabulary = Arc::new(Vocabulary::merge([part])?);
//!
//! let dir = tempfile::tempdir()?;
//! let policy = r#"@id("people-connect")
//!     permit (principal, action == Action::"connect", resource in Resource::"lamp")
//!     when { principal.kind == "human" && context has room && context.room == "hall" };"#;
//! std::fs::write(dir.path().join("lamp.cedar"), policy)?;
//! let engine = PolicyEngine::open(dir.path(), vocabulary)?;
//!
//! # let lamp = Arc::new(serde_json::from_value(serde_json::json!({ "name": "lamp", "protocol": "lamp",
//! #     "address": "", "credential": { "kind": "static", "username": "" } }))?);
//! let ada = Arc::new(Principal::new("ada", PrincipalKind::Human));
//! let connect = |room: &str| {
//!     Arc::new(Operations::new(vec![Operation::connect("lamp").with("room", room)], "connect"))
//! };
//! assert_eq!(engine.decide(&ada, &lamp, &connect("hall")).word(), "allow");
//! assert_eq!(engine.decide(&ada, &lamp, &connect("cellar")).word(), "deny");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod annotations;
mod cache;
mod combine;
mod engine;
mod errors;
mod expect;
mod explain;
mod grants;
mod index;
mod listing;
mod load;
#[cfg(test)]
mod property;
mod request;
mod scan;
mod strangers;
mod suggest;
mod vocabulary;
mod watch;

pub use engine::{PolicyEngine, ReloadOutcome};
pub use errors::{PolicyError, PolicyErrors};
pub use expect::{ExpectationError, Report, Statements, TestOutcome, run_tests};
pub use explain::{Explanation, Missing, OperationExplanation, PolicyFault, PolicyNote};
pub use grants::{Asked, Grant, MOST as MOST_GRANTS, NoOffer, Offer, SHORTEST as SHORTEST_GRANT, Terms};
pub use listing::ListedPolicy;
pub use suggest::Usage;
pub use vocabulary::{
    ActionPart, Attribute, AttributeType, EntityType, SchemaPart, Vocabulary, VocabularyError,
};
pub use vocabulary::{CORE, core_part};
pub use watch::{ReloadResult, Watcher, watch};
