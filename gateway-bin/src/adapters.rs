//! The list of adapters, and of issuers that no adapter owns: the one place of the workspace that knows it. An adapter is one
//! statement in [`compiled`], such an issuer one in [`issuers`], each behind its Cargo feature.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateway_core::adapter::{ConfigProblem, ProtocolAdapter, Registry};
use gateway_core::credentials::{CredentialIssuer, Issuers, SecretKeeper, SecretKeepers};
#[cfg(feature = "iam")]
use gateway_issuers::iam::IamIssuer;
#[cfg(feature = "vault")]
use gateway_issuers::vault::{Transit, VaultIssuer, VaultKeeper, Vaults};
use zeroize::Zeroizing;

#[cfg(feature = "vault")]
mod wrapped;

/// The protocols that the project has, or will have, an adapter for; each is also the name of its Cargo feature.
/// Only errors use it: what is not in the build can still be named.
const FEATURES: [&str; 4] = ["postgres", "mysql", "ssh", "kubernetes"];

/// The adapters of this build, not configured yet.
pub(crate) fn compiled() -> Vec<Box<dyn ProtocolAdapter>> {
    let list = std::iter::empty::<Box<dyn ProtocolAdapter>>();
    #[cfg(feature = "postgres")]
    let list = list.chain([Box::new(proto_postgres::PostgresAdapter::default()) as Box<dyn ProtocolAdapter>]);
    #[cfg(feature = "ssh")]
    let list = list.chain([Box::new(proto_ssh::SshAdapter::default()) as Box<dyn ProtocolAdapter>]);
    list.collect()
}

/// Kinds of credentials that no adapter owns; each is also the name of its Cargo feature.
const KINDS: [&str; 2] = ["vault", "iam"];

/// What such issuers need of the configuration beside its resources. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outside {
    /// Every `[[vault]]`.
    #[cfg(feature = "vault")]
    pub(crate) vaults: Vaults,
}

impl Outside {
    /// Takes over what a newer configuration says.
    pub(crate) fn adopt(&self, newer: &Self) {
        #[cfg(feature = "vault")]
        self.vaults.adopt(&newer.vaults);
        #[cfg(not(feature = "vault"))]
        let _ = newer;
    }

    /// Files whose change is a change of the configuration.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        #[cfg(feature = "vault")]
        let files = self
            .vaults
            .settings()
            .into_iter()
            .filter_map(|one| one.ca)
            .collect();
        #[cfg(not(feature = "vault"))]
        let files = Vec::new();
        files
    }

    fn issuers(&self) -> impl Iterator<Item = Arc<dyn CredentialIssuer>> {
        let list = std::iter::empty::<Arc<dyn CredentialIssuer>>();
        #[cfg(feature = "vault")]
        let list = list.chain([Arc::new(VaultIssuer::new(self.vaults.clone())) as Arc<dyn CredentialIssuer>]);
        #[cfg(feature = "iam")]
        let list = list.chain([Arc::new(IamIssuer::new(jiff::Timestamp::now)) as Arc<dyn CredentialIssuer>]);
        list
    }

    /// Checks the place of a key that wraps ours.
    pub(crate) fn transit(&self, vault: &str, key: &str) -> Result<(), ConfigProblem> {
        #[cfg(feature = "vault")]
        return Transit::new(self.vaults.clone(), vault, key).map(drop);
        #[cfg(not(feature = "vault"))]
        {
            let _ = (vault, key);
            let text = "`vault` is not in this build; build `gateway-bin` with the feature `vault`";
            Err(ConfigProblem(text.to_owned()))
        }
    }

    /// The key of ours in `file`, unwrapped by the one at `key`; where there is no such file and it may be made, another one.
    pub(crate) async fn unwrapped(
        &self,
        vault: &str,
        key: &str,
        file: &Path,
        make: bool,
    ) -> anyhow::Result<Zeroizing<[u8; 32]>> {
        #[cfg(feature = "vault")]
        return wrapped::unwrap(&Transit::new(self.vaults.clone(), vault, key)?, file, make).await;
        #[cfg(not(feature = "vault"))]
        {
            let _ = (file, make);
            self.transit(vault, key)?;
            anyhow::bail!("there is nobody to unwrap it")
        }
    }

    /// Wraps the key in `file` with the newest version of the one at `key`; `false`: it was already.
    pub(crate) async fn rewrap(&self, vault: &str, key: &str, file: &Path) -> anyhow::Result<bool> {
        #[cfg(feature = "vault")]
        return wrapped::rewrap(&Transit::new(self.vaults.clone(), vault, key)?, file).await;
        #[cfg(not(feature = "vault"))]
        {
            let _ = file;
            self.transit(vault, key)?;
            Ok(false)
        }
    }

    /// Who keeps secrets beside this host.
    pub(crate) fn keepers(&self) -> SecretKeepers {
        let list = std::iter::empty::<Arc<dyn SecretKeeper>>();
        #[cfg(feature = "vault")]
        let list = list.chain([Arc::new(VaultKeeper::new(self.vaults.clone())) as Arc<dyn SecretKeeper>]);
        list.collect()
    }
}

/// The issuers of credentials of this build: those of its adapters, those that no adapter owns, and static logins; and the
/// keepers of secrets that they read from.
pub(crate) fn issuers(registry: &Registry, outside: &Outside) -> Issuers {
    let own = registry.iter().flat_map(|adapter| adapter.issuers());
    Issuers::with(own.chain(outside.issuers())).reading_from(outside.keepers())
}

/// What to tell who names a kind of credential that is not in this build; `None`: there is none of that name.
pub(crate) fn absent_kind(kind: &str) -> Option<String> {
    let have = Outside::default();
    let known = KINDS.contains(&kind) && have.issuers().all(|issuer| issuer.kind() != kind);
    known.then(|| format!("`{kind}` is not in this build; build `gateway-bin` with the feature `{kind}`"))
}

/// What to tell who names a protocol whose adapter is not in this build; `None`: no adapter has that name.
pub(crate) fn absent(protocol: &str, have: &[&str]) -> Option<String> {
    let feature = FEATURES.iter().find(|name| **name == protocol)?;
    let have = if have.is_empty() {
        "none".to_owned()
    } else {
        have.join(", ")
    };
    Some(format!(
        "the adapter for `{protocol}` is not in this build (it has: {have}); build `gateway-bin` with the feature \
         `{feature}`, or take this out"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_adapter_is_told_with_its_feature() {
        let text = absent("mysql", &["postgres"]).unwrap();
        assert!(
            text.contains("feature `mysql`") && text.contains("it has: postgres"),
            "{text}"
        );
        assert!(absent("mysql", &[]).unwrap().contains("it has: none"));
        assert_eq!(absent("gopher", &[]), None);
    }

    #[test]
    fn every_compiled_adapter_has_a_feature_of_its_name() {
        for adapter in compiled() {
            assert!(FEATURES.contains(&adapter.protocol()), "{}", adapter.protocol());
        }
    }
}
