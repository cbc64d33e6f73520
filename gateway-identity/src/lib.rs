//! Who asks: the gateway's own tokens, how they are made and how they are verified; and the tokens of OIDC issuers.
//!
//! ```
//! use gateway_core::principal::PrincipalKind;
//! use gateway_identity::{CreateToken, Token, parse_duration};
//!
//! let (record, secret) = CreateToken {
//!     subject: "alice@example.com".into(),
//!     kind: PrincipalKind::Human,
//!     groups: vec!["analysts".into()],
//!     on_behalf_of: None,
//!     ttl: parse_duration("8h")?,
//!     resources: vec!["orders-db".into()],
//! }
//! .build("2026-03-01T10:00:00Z".parse()?)?;
//! assert_eq!(record.expires.to_string(), "2026-03-01T18:00:00Z");
//! // What is kept tells nothing of the secret, which is shown once.
//! assert_eq!(Token::parse(&secret).map(|token| token.id().to_owned()), Some(record.id));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chain;
#[cfg(feature = "dev-issuer")]
pub mod dev_issuer;
mod duration;
mod names;
pub mod oidc;
pub mod tokens;

pub use chain::Authenticators;
pub use duration::{DurationError, parse_duration};
pub use tokens::{CreateToken, MockKey, Token, TokenAuthenticator, TokenError};

/// The examples in the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
