//! What is in force, with secrets hidden.

use serde_json::{Map, Value, json};

use super::Config;

/// What stands in place of a secret.
const HIDDEN: &str = "(hidden)";

impl Config {
    /// All that is in force, as a tree.
    pub(crate) fn tree(&self) -> Value {
        let mut listen = Map::new();
        for (protocol, address) in &self.listen.adapters {
            listen.insert(protocol.clone(), json!(address));
        }
        if let Some(address) = self.listen.control {
            listen.insert("control".to_owned(), json!(address));
        }
        let proxies: Vec<String> = self.listen.proxies.networks().collect();
        if !proxies.is_empty() {
            listen.insert("proxy_protocol_from".to_owned(), json!(proxies));
        }
        if let Some(url) = &self.listen.public_url {
            listen.insert("public_url".to_owned(), json!(url));
        }
        let resources: Vec<Value> = self.resources.values().map(|resource| json!(resource)).collect();
        let mut tree = json!({
            "data_dir": self.data_dir,
            "listen": listen,
            "tls": self.tls,
            "policy": { "dir": self.policy_dir },
            "audit": self.audit,
            "recording": self.recording,
            "limits": self.limits,
            "resource": resources,
        });
        if !self.oidc.is_empty()
            && let Value::Object(tree) = &mut tree
        {
            tree.insert("identity".to_owned(), json!({ "oidc": self.oidc }));
        }
        #[cfg(feature = "vault")]
        if let Value::Object(tree) = &mut tree {
            let vaults = self.outside.vaults.settings();
            if !vaults.is_empty() {
                tree.insert("vault".to_owned(), json!(vaults));
            }
        }
        if !self.secrets.is_empty()
            && let Value::Object(tree) = &mut tree
        {
            tree.insert("secrets".to_owned(), json!(self.secrets));
        }
        if !self.notify.is_empty()
            && let Value::Object(tree) = &mut tree
        {
            tree.insert("notify".to_owned(), json!(self.notify));
        }
        if let Value::Object(tree) = &mut tree {
            tree.extend(self.sections.clone());
        }
        hide(&mut tree);
        if let Value::Object(tree) = &mut tree {
            // It hides its password itself, and nothing else.
            tree.insert("store".to_owned(), json!({ "url": self.store.shown() }));
        }
        tree
    }

    /// The tree as TOML.
    pub(crate) fn to_toml(&self) -> anyhow::Result<String> {
        Ok(toml::to_string(&self.tree())?)
    }

    /// What only takes effect at a start: all but resources, issuers, and whom credentials come from.
    pub(crate) fn fixed(&self) -> Value {
        let mut tree = self.tree();
        if let Value::Object(tree) = &mut tree {
            tree.remove("resource");
            tree.remove("identity");
            tree.remove("vault");
        }
        tree
    }
}

/// Hides texts under keys that name secrets (their places, `{ env = .. }`, stay), the secret part of addresses, and
/// drops nulls, which TOML can't say.
fn hide(tree: &mut Value) {
    match tree {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            for (key, value) in map {
                match value {
                    Value::String(text) if names_a_secret(key) || has_password(text) => {
                        HIDDEN.clone_into(text);
                    }
                    Value::Number(_) if names_a_secret(key) => *value = HIDDEN.into(),
                    other => hide(other),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(hide),
        _ => {}
    }
}

fn names_a_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    [
        "password",
        "passphrase",
        "secret",
        "token",
        "private_key",
        "api_key",
    ]
    .iter()
    .any(|word| key.contains(word))
}

/// `scheme://user:password@host`.
fn has_password(text: &str) -> bool {
    text.split_once("://")
        .and_then(|(_, rest)| rest.split('/').next())
        .and_then(|authority| authority.rsplit_once('@'))
        .is_some_and(|(user, _)| user.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_their_places_are_not() {
        let mut tree = json!({
            "a": { "Password": "zeppelin", "file": "/run/secrets/x", "n": null },
            "url": "https://u:zeppelin@host/path",
            "list": [{ "api_token": "zeppelin", "pin": { "password": { "env": "PIN" } }, "secret": 7431 }],
        });
        hide(&mut tree);
        let text = tree.to_string();
        assert!(!text.contains("zeppelin") && !text.contains("7431"), "{text}");
        assert!(text.contains("/run/secrets/x") && text.contains("PIN"), "{text}");
        assert!(!text.contains("null"));
        assert!(!has_password("https://user@host/a:b@c"));
    }
}
