//! Policy as its users meet it: files, errors, verdicts, explanations. (`cfg(test)` tells clippy that helpers
//! are tests, too.)

#[cfg(test)]
#[path = "policy/support.rs"]
mod support;

#[cfg(test)]
#[path = "policy/caching.rs"]
mod caching;
#[cfg(test)]
#[path = "policy/decisions.rs"]
mod decisions;
#[cfg(test)]
#[path = "policy/expectations.rs"]
mod expectations;
#[cfg(test)]
#[path = "policy/grants.rs"]
mod grants;
#[cfg(test)]
#[path = "policy/loading.rs"]
mod loading;
#[cfg(test)]
#[path = "policy/reloading.rs"]
mod reloading;
#[cfg(test)]
#[path = "policy/vocabulary.rs"]
mod vocabulary;
