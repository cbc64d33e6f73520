//! OIDC tokens against real issuers: a web server that serves keys, well and badly.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests, too; clippy knows it of `#[test]` functions only"
)]

#[path = "oidc/chain.rs"]
mod chain;
#[path = "oidc/keys.rs"]
mod keys;
#[path = "oidc/signatures.rs"]
mod signatures;
#[path = "oidc/support.rs"]
mod support;
