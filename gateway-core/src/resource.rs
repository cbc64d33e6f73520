//! One registered target.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::audit::AuditMode;
use crate::credentials::{KeptSecret, SecretKeepers};

/// A `[[resource]]` of the configuration. What core does not know is the adapter's (`settings`).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Resource {
    /// Its name: `[A-Za-z0-9._-]+`.
    pub name: String,
    /// The adapter that reaches it, such as `postgres`.
    pub protocol: String,
    /// Where it is, as the adapter reads it (`10.0.0.5:5432`).
    pub address: String,
    /// Labels, which policies see as Cedar tags.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How to get its credential.
    pub credential: CredentialConfig,
    /// Overrides `[audit] mode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditMode>,
    /// What of its sessions is recorded; absent: all that its adapter records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<crate::recording::Rules>,
    /// Sensitive data in it.
    #[serde(default, rename = "tag", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<TagRule>,
    /// What is looked for in the values of results, whatever their columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub detect: Vec<DetectRule>,
    /// What functions give back whose bodies are not understood.
    #[serde(default, rename = "function", skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<FunctionRule>,
    /// All other keys: the adapter's own section for a resource.
    #[serde(flatten)]
    pub settings: serde_json::Map<String, serde_json::Value>,
}

impl Resource {
    /// Whether `name` may name a resource.
    pub fn is_name(name: &str) -> bool {
        !name.is_empty()
            && name.len() <= 128
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    }
}

/// A `[[resource.tag]]`: a class of sensitive data and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagRule {
    /// The tag's name, such as `pii.email`.
    pub tag: String,
    /// Column patterns: `public.customers.email`, `*.employees.email`.
    #[serde(default)]
    pub columns: Vec<String>,
    /// What a value becomes.
    #[serde(default)]
    pub mask: Mask,
    /// Which predicates work on masked columns.
    #[serde(default)]
    pub predicates: Predicates,
}

/// A `[[resource.detect]]`: values that are found by what they look like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectRule {
    /// The tag that what is found has.
    pub tag: String,
    /// What is looked for.
    pub find: Vec<crate::detect::Kind>,
    /// What becomes of what is found: `redact`, `partial` or `hash`.
    #[serde(default)]
    pub mask: Mask,
}

/// A `[[resource.function]]`: what a function gives back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionRule {
    /// The function, `schema.name`, of any arguments.
    pub name: String,
    /// The tags that its result carries; none: it gives nothing sensitive.
    pub tags: Vec<String>,
    /// What a value of its result becomes for whoever may not see one of these.
    #[serde(default)]
    pub mask: Mask,
}

/// What a masked value becomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mask {
    /// Replaced by a fixed text.
    #[default]
    Redact,
    /// The last four characters stay.
    Partial,
    /// NULL.
    Null,
    /// A keyed hash.
    Hash,
    /// The year of a date.
    Year,
    /// A deterministic token of the same type and format.
    Token,
}

/// Which predicates work on masked columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Predicates {
    /// Equality of the bare column.
    #[default]
    Equality,
    /// All.
    Allow,
    /// None.
    Deny,
}

/// `credential = { kind = ..., ... }`: how sessions get their login at the target. The kind names the
/// [`CredentialIssuer`](crate::services::CredentialIssuer), and the other keys are that issuer's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialConfig {
    /// The issuer's kind, such as `static`.
    pub kind: String,
    /// All other keys.
    #[serde(flatten)]
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// Who keeps secrets that are not on this host; the gateway gives a resource its own.
    #[serde(skip)]
    pub keepers: SecretKeepers,
}

impl CredentialConfig {
    /// `{ kind = "static", username = ... }`: a login that exists already and needs no password.
    pub fn login_as(username: impl Into<String>) -> Self {
        let username = serde_json::Value::String(username.into());
        Self {
            kind: crate::credentials::STATIC.to_owned(),
            settings: serde_json::Map::from_iter([("username".to_owned(), username)]),
            keepers: SecretKeepers::default(),
        }
    }

    /// The login that all sessions have, where they have the same: `username`.
    pub fn username(&self) -> Option<&str> {
        self.settings.get("username").and_then(serde_json::Value::as_str)
    }

    /// The secrets on this host that it names, in any of its keys, with the key.
    pub fn secrets(&self) -> Vec<(&str, SecretSource)> {
        let mut found = self.sources();
        found.retain(|(_, source)| !matches!(source, SecretSource::Kept(_)));
        found
    }

    /// The secrets that others keep for it, with the key.
    pub fn kept(&self) -> Vec<(&str, KeptSecret)> {
        let kept = |(key, source)| match source {
            SecretSource::Kept(kept) => Some((key, kept)),
            _ => None,
        };
        self.sources().into_iter().filter_map(kept).collect()
    }

    fn sources(&self) -> Vec<(&str, SecretSource)> {
        let mut found = Vec::new();
        let mut open: Vec<(&str, &serde_json::Value)> = self
            .settings
            .iter()
            .map(|(key, value)| (key.as_str(), value))
            .collect();
        while let Some((key, value)) = open.pop() {
            let serde_json::Value::Object(table) = value else {
                continue;
            };
            match SecretSource::deserialize(value) {
                Ok(source) => found.push((key, source)),
                Err(_) => open.extend(table.iter().map(|(key, value)| (key.as_str(), value))),
            }
        }
        found
    }

    /// The keys as the issuer reads them. Nothing of what is given appears in the error: it may be a secret in a wrong
    /// place.
    pub fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_value(serde_json::Value::Object(self.settings.clone()))
    }
}

/// Where a secret lives; the configuration never holds the secret itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable.
    Env(String),
    /// A file; one trailing line end is cut.
    File(PathBuf),
    /// A program and its arguments, which no shell reads; it prints the secret. One trailing line end is cut.
    Exec(Vec<String>),
    /// Somebody who keeps secrets and is asked over the network.
    Kept(KeptSecret),
}

impl Serialize for SecretSource {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Env(name) => to.collect_map([("env", name)]),
            Self::File(path) => to.collect_map([("file", path)]),
            Self::Exec(argv) => to.collect_map([("exec", argv)]),
            Self::Kept(kept) => to.collect_map([
                (kept.kind.as_str(), &kept.name),
                ("path", &kept.path),
                ("key", &kept.key),
            ]),
        }
    }
}

impl<'de> Deserialize<'de> for SecretSource {
    /// Nothing of what is given is in an error: it may be the secret itself.
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde_json::Value;
        let wrong = || serde::de::Error::custom(Self::FORM);
        let mut table = BTreeMap::<String, Value>::deserialize(from).map_err(|_| wrong())?;
        let mut text = |key: &str| match table.remove(key) {
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            None => Ok(None),
            Some(_) => Err(wrong()),
        };
        if let (Some(path), Some(key)) = (text("path")?, text("key")?) {
            return match table.pop_first() {
                Some((kind, Value::String(name))) if table.is_empty() && !name.is_empty() => {
                    Ok(Self::Kept(KeptSecret {
                        kind,
                        name,
                        path,
                        key,
                    }))
                }
                _ => Err(wrong()),
            };
        }
        match table.pop_first() {
            Some((place, value)) if table.is_empty() => match (place.as_str(), value) {
                ("env", Value::String(name)) => Ok(Self::Env(name)),
                ("file", Value::String(path)) => Ok(Self::File(path.into())),
                ("exec", argv @ Value::Array(_)) => {
                    let argv = serde_json::from_value(argv).map_err(|_| wrong())?;
                    Ok(Self::Exec(argv))
                }
                _ => Err(wrong()),
            },
            _ => Err(wrong()),
        }
    }
}
