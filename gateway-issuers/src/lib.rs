//! Credentials for targets that no protocol owns: they come from elsewhere, and are good for whatever asks for a name and a
//! password.
//!
//! ```text
//!  gateway-core                       this crate                       elsewhere
//!  CredentialIssuer  ◀── VaultIssuer ──┐
//!  SecretKeeper      ◀── VaultKeeper ──┴─ Vaults ── http ──▶ HashiCorp Vault, OpenBao
//!  CredentialIssuer  ◀── IamIssuer ───── sources ── http ──▶ AWS (instance metadata, STS)
//! ```
//!
//! Each is behind a feature of its name. One HTTP client serves them all: a request is one connection, without redirects and
//! proxies, with a bound on every length and on time; plain HTTP goes to this host alone.

mod http;
#[cfg(feature = "iam")]
pub mod iam;
#[cfg(feature = "vault")]
pub mod vault;

pub use http::BadAddress;
