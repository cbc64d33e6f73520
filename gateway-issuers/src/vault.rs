//! HashiCorp Vault and OpenBao, which speak alike: logins of databases (`database/creds`), and secrets of KV version 2.
//!
//! Source: the published HTTP API of both (`/v1/auth/*`, `/v1/sys/leases/*`, `/v1/<mount>/creds/<role>`,
//! `/v1/<mount>/data/<path>`, `/v1/<mount>/{encrypt,decrypt,rewrap}/<key>`).

mod client;
mod issuer;
mod keeper;
mod own;
mod reply;
mod settings;
mod transit;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use gateway_core::adapter::ConfigProblem;

pub use crate::http::BadAddress;
use client::Client;
pub use issuer::VaultIssuer;
pub use keeper::VaultKeeper;
pub use settings::{Auth, VaultSettings};
pub use transit::{Transit, WRAPPED};

/// The kind of credentials that Vault makes, and of secrets that it keeps.
pub const VAULT: &str = "vault";

/// Every `[[vault]]` of a configuration, by name. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Vaults(Arc<ArcSwap<BTreeMap<String, Arc<Client>>>>);

impl Vaults {
    /// Checks the addresses, and reads the CAs. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// The name of the one that is wrong, and what is.
    pub fn new(all: Vec<VaultSettings>) -> Result<Self, (String, BadAddress)> {
        let mut clients = BTreeMap::new();
        for settings in all {
            let name = settings.name.clone();
            let client = Client::new(settings).map_err(|why| (name.clone(), why))?;
            clients.insert(name, Arc::new(client));
        }
        Ok(Self(Arc::new(ArcSwap::from_pointee(clients))))
    }

    /// Takes over what a newer configuration says. Those that are as before keep their tokens.
    pub fn adopt(&self, newer: &Self) {
        let old = self.0.load_full();
        let mut clients = BTreeMap::clone(&newer.0.load());
        for (name, client) in &mut clients {
            if let Some(before) = old.get(name)
                && before.settings() == client.settings()
            {
                client.clone_from(before);
            }
        }
        self.0.store(Arc::new(clients));
    }

    /// What each was made of.
    pub fn settings(&self) -> Vec<VaultSettings> {
        let clients = self.0.load();
        clients.values().map(|client| client.settings().clone()).collect()
    }

    /// The one of that name; the error says which there are, and not what was asked for: it may be a secret in a wrong place.
    fn get(&self, name: &str) -> Result<Arc<Client>, ConfigProblem> {
        let clients = self.0.load();
        clients.get(name).cloned().ok_or_else(|| {
            let have: Vec<String> = clients.keys().map(|name| format!("`{name}`")).collect();
            ConfigProblem(match have.as_slice() {
                [] => "names a `[[vault]]`, and there is none".to_owned(),
                have => format!(
                    "there is no `[[vault]]` of this name; there are {}",
                    have.join(", ")
                ),
            })
        })
    }
}
