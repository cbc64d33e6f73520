//! The list of adapters: the one place of the workspace that knows it. An adapter is one statement in [`compiled`], behind
//! its Cargo feature.

use gateway_core::adapter::{ProtocolAdapter, Registry};
use gateway_core::credentials::Issuers;

/// The protocols that the project has, or will have, an adapter for; each is also the name of its Cargo feature.
/// Only errors use it: what is not in the build can still be named.
const FEATURES: [&str; 4] = ["postgres", "mysql", "ssh", "kubernetes"];

/// The adapters of this build, not configured yet.
pub(crate) fn compiled() -> Vec<Box<dyn ProtocolAdapter>> {
    let list = std::iter::empty::<Box<dyn ProtocolAdapter>>();
    #[cfg(feature = "postgres")]
    let list = list.chain([Box::new(proto_postgres::PostgresAdapter::default()) as Box<dyn ProtocolAdapter>]);
    list.collect()
}

/// The issuers of credentials of this build: those of its adapters, and static logins.
pub(crate) fn issuers(registry: &Registry) -> Issuers {
    Issuers::with(registry.iter().flat_map(|adapter| adapter.issuers()))
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
