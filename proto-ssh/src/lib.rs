//! SSH, decided piece by piece: commands by their parsed words, files by their paths, forwards by where they go.
//!
//! ```text
//!   client ──▶ russh server ──▶ client.rs ──▶ pipe ──▶ lane.rs ──▶ russh client ──▶ target
//!                                  │                      │
//!                                login.rs      inspect.rs ─▶ Session::ask
//! ```
//!
//! russh owns sockets and cryptography; this crate translates. Each channel of a client has a connection of its own to the
//! target, and nothing is opened there before it is decided. What is typed into a shell is not policed: a shell is permitted
//! or not.
//!
//! [`command`] says what a command line does. It decides nothing: it turns bytes into what policy is asked about, and into the
//! bytes that are sent on in place of the client's. [`sftp`] and [`scp`] are the sans-IO machines of file transfers. [`wire`] reads and
//! writes what the SSH library leaves raw.
//!
//! ```
//! use gateway_core::adapter::ProtocolAdapter;
//!
//! let mut adapter = proto_ssh::SshAdapter::default();
//! adapter.configure(serde_json::json!({ "channels": 8 })).unwrap();
//! assert!(adapter.configure(serde_json::json!({ "chanels": 8 })).is_err());
//! assert_eq!(adapter.vocabulary().unwrap().len(), 1);
//! ```

mod adapter;
mod authority;
mod back;
mod ciphers;
mod client;
pub mod command;
mod config;
mod contents;
mod credentials;
mod dial;
mod files;
mod flow;
mod forward;
mod greeting;
mod host_trust;
mod inspect;
mod key_file;
mod lane;
mod login;
mod login_ca;
mod native;
mod operations;
mod pipe;
mod pump;
mod runbooks;
pub mod scp;
mod session;
pub mod sftp;
mod shown;
mod target;
mod tell;
pub mod wire;

pub use adapter::SshAdapter;
pub use dial::Dial;

/// What this adapter adds to the vocabulary of policies.
pub const VOCABULARY: &str = include_str!("vocabulary.cedarschema");
