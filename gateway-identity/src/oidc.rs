//! OIDC tokens as passwords.
//!
//! ```text
//!   token ─▶ form ─▶ issuer (by `iss`) ─▶ key (by `kid`) ─▶ signature ─▶ claims ─▶ Principal
//!                        │                   ▲
//!                 [[identity.oidc]]     KeySource: discovery ─▶ JWKS, read by one task
//! ```
//!
//! What the token says of keys is not listened to; keys come from the issuer's own documents alone. What it says of
//! itself is read before the signature is checked only to find issuer and key.

mod algorithm;
mod authenticator;
mod claims;
mod fetch;
mod json;
mod jwks;
mod jws;
mod keys;
mod refusal;
mod settings;
mod url;

pub use algorithm::Algorithm;
pub(crate) use authenticator::ID_PREFIX;
pub use authenticator::{CheckedIssuers, OidcAuthenticator, OidcError};
pub use refusal::Refusal;
pub use settings::{MAX_ISSUERS, OidcSettings, OneOrMany, Pace};
