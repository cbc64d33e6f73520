//! `[secrets]`: with which keys what is kept is sealed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use gateway_core::resource::SecretSource;
use gateway_core::sealing::{MOST_KEYS, SealKey, Sealing};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::Checker;
use super::keys::{join, refuse_unknown};
use crate::adapters::Outside;

/// What a key must look like, for errors.
const FORM: &str = "must be where a key is: `{ file = \"path\" }`, `{ env = \"NAME\" }`, `{ exec = [\"program\"] }`, `{ vault = \
     \"name\", path = \"mount/path\", key = \"...\" }` or `{ vault = \"name\", transit = \"mount/key\" }`";

/// Where one key is.
#[derive(Debug, Clone)]
pub(crate) enum KeySource {
    /// The key itself.
    Key(SecretSource),
    /// It is in the data directory, wrapped by a key that Vault does not give away.
    Transit {
        /// The `[[vault]]`.
        vault: String,
        /// Mount and name of the key there.
        key: String,
        /// Which one of several that it wraps.
        generation: u32,
    },
}

impl Serialize for KeySource {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Key(source) => source.serialize(to),
            Self::Transit {
                vault,
                key,
                generation,
            } => {
                serde_json::json!({ "vault": vault, "transit": key, "generation": generation }).serialize(to)
            }
        }
    }
}

impl KeySource {
    /// The file in the data directory that has the wrapped key.
    pub(crate) fn wrapped(&self, data_dir: &Path) -> Option<PathBuf> {
        match self {
            Self::Key(_) => None,
            Self::Transit {
                vault,
                key,
                generation,
            } => Some(data_dir.join(format!(
                "seal-{vault}-{}-{generation}.wrapped",
                key.replace('/', "-")
            ))),
        }
    }
}

/// The section.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct SecretsSection {
    /// The first seals, all open.
    pub(crate) keys: Vec<KeySource>,
    /// Whether what is not sealed is refused.
    pub(crate) require: bool,
}

impl SecretsSection {
    /// Whether nothing is said.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Reads the keys; a first key that Vault is to wrap is made where there is none yet.
    pub(crate) async fn load(&self, outside: &Outside, data_dir: &Path) -> anyhow::Result<Sealing> {
        let mut keys: Vec<SealKey> = Vec::with_capacity(self.keys.len());
        for (index, source) in self.keys.iter().enumerate() {
            let about = || format!("`secrets.keys[{index}]`");
            let key = match source {
                KeySource::Key(source) => {
                    if let Some(warning) = open_to_others(source) {
                        tracing::warn!("{}: {warning}", about());
                    }
                    let text = source.fetch(&outside.keepers()).await.with_context(about)?;
                    SealKey::parse(&text).with_context(about)?
                }
                KeySource::Transit { vault, key, .. } => {
                    let file = source.wrapped(data_dir).unwrap_or_default();
                    let bytes = outside
                        .unwrapped(vault, key, &file, index == 0)
                        .await
                        .with_context(about)?;
                    SealKey::new(&bytes).with_context(about)?
                }
            };
            if keys.iter().any(|other| other.name() == key.name()) {
                bail!("{}: it is the same key as one before it", about());
            }
            keys.push(key);
        }
        Ok(Sealing::new(keys, self.require))
    }

    /// Whether the first start would make a key that is to be wrapped.
    pub(crate) fn makes_one(&self, data_dir: &Path) -> bool {
        let first = self.keys.first().and_then(|source| source.wrapped(data_dir));
        first.is_some_and(|file| !file.exists())
    }

    /// What can't be read on this host as it is now; nobody is asked over the network.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut names = BTreeSet::new();
        for (index, source) in self.keys.iter().enumerate() {
            let KeySource::Key(source) = source else { continue };
            if matches!(source, SecretSource::Kept(_)) {
                continue;
            }
            let read = source.read().map_err(|error| error.to_string());
            let key = read.and_then(|text| SealKey::parse(&text).map_err(|error| error.to_string()));
            match key {
                Err(why) => faults.push(format!("`secrets.keys[{index}]`: {why}")),
                Ok(key) if !names.insert(key.name().to_owned()) => {
                    faults.push(format!(
                        "`secrets.keys[{index}]`: it is the same key as one before it"
                    ));
                }
                Ok(_) => {}
            }
        }
        faults
    }
}

/// What to say of a key's file that everybody on this host may read.
fn open_to_others(source: &SecretSource) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let SecretSource::File(path) = source else {
        return None;
    };
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o004 != 0).then(|| {
        format!(
            "everybody on this host may read `{}`; `chmod 600` it",
            path.display()
        )
    })
}

impl Checker<'_> {
    /// Checks the section; no key is read.
    pub(super) fn secrets(&mut self, value: Option<Value>, outside: &Outside) -> SecretsSection {
        let mut table = self.table("secrets", value);
        refuse_unknown("secrets", &mut table, &["keys", "require"], &mut self.problems);
        let mut section = SecretsSection::default();
        match table.remove("keys") {
            None => {}
            Some(Value::Array(list)) if list.len() <= MOST_KEYS => {
                for (index, value) in list.into_iter().enumerate() {
                    section
                        .keys
                        .extend(self.seal_key(&format!("secrets.keys[{index}]"), value, outside));
                }
            }
            Some(Value::Array(_)) => self.push("secrets.keys", format!("there may be {MOST_KEYS} at most")),
            Some(_) => self.push(
                "secrets.keys",
                "must be a list of places of keys: `[{ file = \"path\" }]`",
            ),
        }
        match table.remove("require") {
            None => {}
            Some(Value::Bool(require)) => section.require = require,
            Some(_) => self.push("secrets.require", "must be true or false"),
        }
        if section.require && section.keys.is_empty() {
            self.push(
                "secrets.require",
                "needs `secrets.keys`: without a key nothing is sealed",
            );
        }
        section
    }

    /// Nothing of what is given may be in an error: it may be the key itself.
    fn seal_key(&mut self, path: &str, value: Value, outside: &Outside) -> Option<KeySource> {
        let Value::Object(mut table) = value else {
            self.push(path, FORM);
            return None;
        };
        if table.contains_key("transit") {
            return self.transit(path, &mut table, outside);
        }
        match SecretSource::deserialize(Value::Object(table)) {
            Ok(SecretSource::File(file)) => Some(KeySource::Key(SecretSource::File(self.raw.resolve(file)))),
            Ok(SecretSource::Kept(kept)) => match outside.keepers().check(&kept) {
                Ok(()) => Some(KeySource::Key(SecretSource::Kept(kept))),
                Err(problem) => {
                    self.push(path, problem);
                    None
                }
            },
            Ok(source) => Some(KeySource::Key(source)),
            Err(_) => {
                self.push(path, FORM);
                None
            }
        }
    }

    fn transit(
        &mut self,
        path: &str,
        table: &mut Map<String, Value>,
        outside: &Outside,
    ) -> Option<KeySource> {
        let before = self.problems.0.len();
        refuse_unknown(
            path,
            table,
            &["vault", "transit", "generation"],
            &mut self.problems,
        );
        let vault = self.text(&join(path, "vault"), table.remove("vault"));
        let key = self.text(&join(path, "transit"), table.remove("transit"));
        let generation = match table.remove("generation") {
            None => 1,
            Some(value) => match value.as_u64().and_then(|number| u32::try_from(number).ok()) {
                Some(number) if number > 0 => number,
                _ => {
                    self.push(&join(path, "generation"), "must be a number from 1 on");
                    1
                }
            },
        };
        let (Some(vault), Some(key)) = (vault, key) else {
            if self.problems.0.len() == before {
                self.push(path, FORM);
            }
            return None;
        };
        if let Err(problem) = outside.transit(&vault, &key) {
            self.push(path, problem);
        }
        (self.problems.0.len() == before).then_some(KeySource::Transit {
            vault,
            key,
            generation,
        })
    }
}
