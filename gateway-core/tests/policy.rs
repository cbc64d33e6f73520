//! Policy as its users meet it: files, errors, verdicts, explanations.

#[path = "policy/support.rs"]
mod support;

#[path = "policy/decisions.rs"]
mod decisions;
#[path = "policy/expectations.rs"]
mod expectations;
#[path = "policy/loading.rs"]
mod loading;
#[path = "policy/reloading.rs"]
mod reloading;
#[path = "policy/vocabulary.rs"]
mod vocabulary;
