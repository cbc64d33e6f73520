//! `[[vault]]`: whom logins and secrets are asked of.

use std::collections::BTreeSet;

use gateway_core::resource::{Resource, SecretSource};
use gateway_issuers::vault::{Auth, VaultSettings, Vaults};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Checker;
use super::keys::{join, nearest, refuse_unknown};

/// The most of them.
const MOST: usize = 16;
/// Ways to log in.
const METHODS: [&str; 4] = ["approle", "token", "kubernetes", "jwt"];
/// Where Kubernetes puts a pod's own token.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// Longest namespace, id or name, in bytes.
const LONGEST: usize = 512;

impl Checker<'_> {
    /// Checks the list; what is wrong is among the problems. Nobody is asked, and no secret is read.
    pub(super) fn vaults(&mut self, value: Option<Value>) -> Vaults {
        let list = match value {
            None => return Vaults::default(),
            Some(Value::Array(list)) if list.len() <= MOST => list,
            Some(Value::Array(_)) => {
                self.push("vault", format!("there may be {MOST} at most"));
                return Vaults::default();
            }
            Some(_) => {
                self.push("vault", "must be a list: `[[vault]]`");
                return Vaults::default();
            }
        };
        let mut names = BTreeSet::new();
        let mut all = Vec::new();
        for (index, value) in list.into_iter().enumerate() {
            let Value::Object(table) = value else {
                self.push(&format!("vault[{index}]"), "must be a table");
                continue;
            };
            let name = table.get("name").and_then(Value::as_str).unwrap_or_default();
            let path = match Resource::is_name(name) {
                true => format!("vault.{name}"),
                false => format!("vault[{index}]"),
            };
            if let Some(one) = self.vault(&path, table) {
                if names.insert(one.name.clone()) {
                    all.push(one);
                } else {
                    self.push(&path, "there are two of this name");
                }
            }
        }
        match Vaults::new(all) {
            Ok(vaults) => vaults,
            Err((name, why)) => {
                self.push(&format!("vault.{name}.address"), why);
                Vaults::default()
            }
        }
    }

    fn vault(&mut self, path: &str, mut table: Map<String, Value>) -> Option<VaultSettings> {
        let before = self.problems.0.len();
        let known = ["name", "address", "ca", "namespace", "auth"];
        refuse_unknown(path, &mut table, &known, &mut self.problems);
        let name = self.needed(path, &mut table, "name").unwrap_or_default();
        if !name.is_empty() && !Resource::is_name(&name) {
            let why = "a name has letters, digits, `.`, `_` and `-`, at most 128 of them";
            self.push(&join(path, "name"), why);
        }
        let address = self.needed(path, &mut table, "address").unwrap_or_default();
        let ca = self.path(&join(path, "ca"), table.remove("ca"));
        let namespace = self.text(&join(path, "namespace"), table.remove("namespace"));
        if namespace.as_deref().is_some_and(|text| !is_plain(text)) {
            self.push(
                &join(path, "namespace"),
                "must be of printable ASCII characters, 512 at most",
            );
        }
        let auth = match table.remove("auth") {
            Some(Value::Object(auth)) => self.vault_auth(&join(path, "auth"), auth),
            _ => {
                self.push(
                    &join(path, "auth"),
                    "must be a table: `{ method = \"approle\", ... }`",
                );
                None
            }
        };
        (self.problems.0.len() == before).then_some(VaultSettings {
            name,
            address,
            ca,
            namespace,
            auth: auth?,
        })
    }

    fn vault_auth(&mut self, path: &str, mut table: Map<String, Value>) -> Option<Auth> {
        let method = self.needed(path, &mut table, "method")?;
        let known: &[&str] = match method.as_str() {
            "approle" => &["mount", "role_id", "secret_id"],
            "token" => &["token"],
            "kubernetes" | "jwt" => &["mount", "role", "jwt"],
            other => {
                // What is given may be a secret in a wrong place: only a slip of a name is repeated.
                let what = match nearest(other, &METHODS) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "must be `approle`, `token`, `kubernetes` or `jwt`".to_owned(),
                };
                self.push(&join(path, "method"), what);
                return None;
            }
        };
        let before = self.problems.0.len();
        refuse_unknown(path, &mut table, known, &mut self.problems);
        let mount = match known.contains(&"mount") {
            true => self
                .text(&join(path, "mount"), table.remove("mount"))
                .unwrap_or_else(|| method.clone()),
            false => String::new(),
        };
        if !mount.is_empty() && !VaultSettings::is_mount(&mount) {
            self.push(
                &join(path, "mount"),
                "must be where the method is mounted, such as \"approle\"",
            );
        }
        let auth = match method.as_str() {
            "approle" => Auth::AppRole {
                mount,
                role_id: self.needed(path, &mut table, "role_id").unwrap_or_default(),
                secret_id: match table.remove("secret_id") {
                    None => None,
                    value => self.vault_secret(path, "secret_id", value),
                },
            },
            "token" => Auth::Token {
                token: self.vault_secret(path, "token", table.remove("token"))?,
            },
            kind => {
                let role = self.needed(path, &mut table, "role").unwrap_or_default();
                let jwt = match table.remove("jwt") {
                    None if kind == "kubernetes" => SecretSource::File(SERVICE_ACCOUNT.into()),
                    value => self.vault_secret(path, "jwt", value)?,
                };
                match kind {
                    "kubernetes" => Auth::Kubernetes { mount, role, jwt },
                    _ => Auth::Jwt { mount, role, jwt },
                }
            }
        };
        (self.problems.0.len() == before).then_some(auth)
    }

    /// A text that must be there.
    fn needed(&mut self, path: &str, table: &mut Map<String, Value>, key: &str) -> Option<String> {
        let path = join(path, key);
        match table.remove(key) {
            None => {
                self.push(&path, "is missing");
                None
            }
            value => self
                .text(&path, value)
                .filter(|text| text.len() <= LONGEST || key == "address"),
        }
    }

    /// Where the secret of a login is: on this host. Nothing of what is given may appear in an error: it may be the secret itself.
    fn vault_secret(&mut self, path: &str, key: &str, value: Option<Value>) -> Option<SecretSource> {
        let path = join(path, key);
        let Some(value) = value else {
            self.push(&path, "is missing");
            return None;
        };
        match SecretSource::deserialize(value) {
            Ok(SecretSource::File(file)) => Some(SecretSource::File(self.raw.resolve(file))),
            Ok(SecretSource::Kept(_)) => {
                self.push(
                    &path,
                    "must be on this host: with it the gateway logs in where secrets are kept",
                );
                None
            }
            Ok(source) => Some(source),
            Err(_) => {
                self.push(&path, SecretSource::FORM);
                None
            }
        }
    }
}

fn is_plain(text: &str) -> bool {
    text.len() <= LONGEST && text.bytes().all(|b| b.is_ascii_graphic())
}
