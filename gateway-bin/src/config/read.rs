//! Reading: defaults, the file, the environment and flags, merged into one tree.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use gateway_core::limits::Limits;
use gateway_core::tls::TlsConfig;
use serde_json::{Map, Value, json};

use super::audit::AuditSection;
use super::recording::RecordingSection;
use super::{Checker, Problems};
use crate::cli::Global;
use crate::store::{Place, StoreKind};

/// The longest configuration file: some ten thousand resources.
const MAX_FILE: u64 = 4 << 20;

/// What configuration variables begin with.
const PREFIX: &str = "GATEWAY_";

/// The merged tree, not checked yet.
pub(crate) struct Raw {
    /// The file, as an absolute path.
    pub(crate) file: PathBuf,
    /// All keys.
    pub(crate) values: Map<String, Value>,
    figment: Figment,
}

impl Raw {
    /// Reads and merges; fails where the file is absent or no TOML.
    pub(crate) fn read(global: &Global) -> anyhow::Result<Self> {
        let file = std::path::absolute(&global.config)
            .with_context(|| format!("`{}` is no path", global.config.display()))?;
        let text = match open(&file) {
            Ok(Some(text)) => text,
            Ok(None) => bail!(
                "the configuration file `{}` is longer than {MAX_FILE} bytes",
                file.display()
            ),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
                "there is no configuration file `{}`; name one with `--config FILE`",
                file.display()
            ),
            Err(error) => bail!(
                "the configuration file `{}` cannot be read: {error}",
                file.display()
            ),
        };
        let base = base(&file, &text)?;
        let secrets = base
            .extract::<Value>()
            .map(|tree| variables_of_secrets(&tree))
            .unwrap_or_default();
        let mut figment = base.merge(
            Env::prefixed(PREFIX)
                .filter(move |key| is_configuration(key.as_str(), &secrets))
                .split("__"),
        );
        if let Some(dir) = &global.data_dir {
            let dir = std::path::absolute(dir).with_context(|| format!("`{}` is no path", dir.display()))?;
            figment = figment.merge(Serialized::global("data_dir", dir));
        }
        Self::of(file, figment)
    }

    /// A file's text as it would be read from `file`, and nothing else: no environment, no flags.
    pub(crate) fn text(file: &Path, text: &str) -> anyhow::Result<Self> {
        Self::of(file.to_owned(), base(file, text)?)
    }

    fn of(file: PathBuf, figment: Figment) -> anyhow::Result<Self> {
        let values = figment
            .extract::<Map<String, Value>>()
            .with_context(|| format!("`{}` cannot be merged with the environment", file.display()))?;
        Ok(Self {
            file,
            values,
            figment,
        })
    }

    /// The folder at which relative paths start.
    pub(crate) fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("/"))
    }

    /// `path`, from the configuration file's folder on.
    pub(crate) fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        self.folder().join(path)
    }

    /// The data directory; all that commands which only touch it need of the configuration.
    pub(crate) fn data_dir(&self) -> anyhow::Result<PathBuf> {
        match self.values.get("data_dir") {
            Some(Value::String(dir)) if !dir.is_empty() => Ok(self.resolve(dir)),
            _ => bail!("`data_dir` must be a path"),
        }
    }

    /// The data directory and the store; all that commands need which only touch what is kept.
    pub(crate) fn place(&self) -> anyhow::Result<Place> {
        let store = match self.values.get("store") {
            None => StoreKind::default(),
            Some(Value::Object(table)) if table.keys().all(|key| key == "url") => match table.get("url") {
                None => StoreKind::default(),
                Some(Value::String(text)) => match StoreKind::parse(text) {
                    Ok(kind) => kind,
                    Err(what) => bail!("`store.url`: {what}"),
                },
                Some(_) => bail!("`store.url`: must be a text that is not empty"),
            },
            Some(_) => bail!("`store` must be a table with the key `url` alone"),
        };
        let mut checker = Checker {
            raw: self,
            problems: Problems::default(),
            protocols: Vec::new(),
        };
        let data_dir = self.data_dir()?;
        let recording = self.values.get("recording").cloned();
        let section = self.values.get("secrets").cloned();
        // Whoever keeps logins is of interest here only where a key comes from there.
        let archive = recording.as_ref().and_then(|recording| recording.get("archive"));
        let vault = section.as_ref().or(archive);
        let vault = vault.and_then(|_| self.values.get("vault").cloned());
        let outside = checker.outside(vault);
        let recording = checker.recording(recording, &data_dir, &outside);
        let secrets = checker.secrets(section, &outside);
        if !checker.problems.0.is_empty() {
            bail!(
                "the configuration `{}`: {}",
                self.file.display(),
                checker.problems
            );
        }
        Ok(Place {
            data_dir,
            recording,
            store,
            secrets,
            outside,
        })
    }

    /// The environment variable that a key came from, if one did.
    pub(crate) fn variable(&self, path: &str) -> Option<String> {
        let metadata = self.figment.find_metadata(path)?;
        metadata
            .name
            .contains("environment")
            .then(|| format!("{PREFIX}{}", path.replace('.', "__").to_uppercase()))
    }
}

/// The file's text; `None`: it is longer than any configuration is.
fn open(file: &Path) -> std::io::Result<Option<String>> {
    let mut text = String::new();
    let read = std::fs::File::open(file)?
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)?;
    Ok((u64::try_from(read).is_ok_and(|read| read <= MAX_FILE)).then_some(text))
}

/// The defaults, and over them the text.
fn base(file: &Path, text: &str) -> anyhow::Result<Figment> {
    if let Err(error) = text.parse::<toml::Table>() {
        bail!("`{}` is no TOML: {error}", file.display());
    }
    Ok(Figment::from(Serialized::defaults(defaults())).merge(Toml::string(text)))
}

/// What holds where nothing is said.
fn defaults() -> Value {
    json!({
        "data_dir": "data",
        "tls": TlsConfig::default(),
        "store": { "url": "sqlite" },
        "policy": { "dir": "policies" },
        "audit": AuditSection::default(),
        "recording": RecordingSection::default(),
        "limits": Limits::default(),
    })
}

/// Whether a `GATEWAY_*` variable is meant as configuration. `key` is its name without the prefix.
///
/// Not: the command line's own variables; what Kubernetes puts into every pod beside a Service named `gateway`; and
/// variables that a resource names as the place of a secret.
fn is_configuration(key: &str, secrets: &BTreeSet<String>) -> bool {
    let key = key.to_ascii_uppercase();
    let own = matches!(key.as_str(), "URL" | "TOKEN") || key.starts_with("LOG");
    let kubernetes = key == "PORT" || key.starts_with("PORT_") || key.starts_with("SERVICE_");
    !own && !kubernetes && !secrets.contains(&format!("{PREFIX}{key}"))
}

/// The variables that `{ env = "NAME" }` names anywhere in the tree, in upper case.
fn variables_of_secrets(tree: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![tree];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                if let (1, Some(Value::String(name))) = (map.len(), map.get("env")) {
                    found.insert(name.to_ascii_uppercase());
                }
                open.extend(map.values());
            }
            Value::Array(list) => open.extend(list),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_as_configuration_is_read_from_the_environment() {
        let tree = json!({ "resource": [{ "credential": { "password": { "env": "GATEWAY_Orders" } } }] });
        let secrets = variables_of_secrets(&tree);
        for (key, yes) in [
            ("LISTEN__SSH", true),
            ("data_dir", true),
            ("URL", false),
            ("TOKEN", false),
            ("LOG", false),
            ("LOG_FORMAT", false),
            ("PORT", false),
            ("PORT_6432_TCP_ADDR", false),
            ("SERVICE_HOST", false),
            ("ORDERS", false),
            ("ORDERS2", true),
        ] {
            assert_eq!(is_configuration(key, &secrets), yes, "{key}");
        }
    }
}
