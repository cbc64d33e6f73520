//! The configuration: read ([`read`]), checked section by section, all faults at once, and shown ([`show`]).

mod archive;
mod audit;
mod identity;
mod keys;
mod notify;
mod read;
mod recording;
mod resources;
mod secrets;
mod show;
#[cfg(test)]
mod tests;
#[cfg(feature = "vault")]
mod vault;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateway_core::adapter::Registry;
use gateway_core::limits::Limits;
use gateway_core::proxy::{Network, TrustedProxies};
use gateway_core::resource::Resource;
use gateway_core::tls::TlsConfig;
use gateway_identity::oidc::OidcSettings;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::adapters::{self, Outside};
use crate::cli::Global;
use crate::store::{Place, StoreKind};
use audit::AuditSection;
use keys::{join, refuse_endless, refuse_unknown, unknown, with_suggestion};
use notify::NotifySection;
pub(crate) use read::Raw;
pub(crate) use recording::RecordingSection;
pub(crate) use secrets::{KeySource, SecretsSection};

/// Sections and keys of every build.
const TOP: [&str; 12] = [
    "data_dir",
    "listen",
    "tls",
    "store",
    "secrets",
    "policy",
    "identity",
    "audit",
    "recording",
    "notify",
    "limits",
    "resource",
];

/// Everything that is wrong with a configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Problems(Vec<String>);

impl Problems {
    /// Adds one.
    pub(crate) fn push(&mut self, path: &str, what: impl fmt::Display) {
        self.0.push(format!("`{path}`: {what}"));
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Problems {}

/// `[listen]`.
#[derive(Debug, Default, Clone)]
pub(crate) struct Listen {
    /// Where each adapter listens, by protocol.
    pub(crate) adapters: BTreeMap<String, SocketAddr>,
    /// Where the control plane does.
    pub(crate) control: Option<SocketAddr>,
    /// What links begin with.
    pub(crate) public_url: Option<String>,
    /// From whom PROXY headers are taken.
    pub(crate) proxies: TrustedProxies,
}

/// A configuration without a fault.
pub(crate) struct Config {
    /// Where it was read.
    pub(crate) file: PathBuf,
    /// `data_dir`.
    pub(crate) data_dir: PathBuf,
    /// `[listen]`.
    pub(crate) listen: Listen,
    /// `[tls]`.
    pub(crate) tls: TlsConfig,
    /// `[store]`.
    pub(crate) store: StoreKind,
    /// `[secrets]`.
    pub(crate) secrets: SecretsSection,
    /// `[policy] dir`.
    pub(crate) policy_dir: PathBuf,
    /// `[audit]`.
    pub(crate) audit: AuditSection,
    /// `[recording]`.
    pub(crate) recording: RecordingSection,
    /// `[notify]`.
    pub(crate) notify: NotifySection,
    /// `[limits]`.
    pub(crate) limits: Limits,
    /// Every `[[identity.oidc]]`.
    pub(crate) oidc: Vec<OidcSettings>,
    /// Every `[[resource]]`, by name.
    pub(crate) resources: BTreeMap<String, Arc<Resource>>,
    /// The adapters, configured.
    pub(crate) registry: Registry,
    /// What issuers that no adapter owns are made of.
    pub(crate) outside: Outside,
    /// The adapters' own sections, as given.
    sections: Map<String, Value>,
}

impl Config {
    /// What links to this gateway begin with: `public_url`, else the control address.
    pub(crate) fn link(&self) -> String {
        let clear = self.tls.require == gateway_core::tls::TlsRequire::Remote;
        match (&self.listen.public_url, self.listen.control) {
            (Some(url), _) => url.clone(),
            (None, Some(address)) if clear && address.ip().is_loopback() => format!("http://{address}"),
            (None, Some(address)) => format!("https://{address}"),
            (None, None) => String::new(),
        }
    }

    /// What people call this gateway who come with a browser: as its certificates and links name it.
    #[cfg(feature = "console")]
    pub(crate) fn names(&self) -> gateway_control::console::Names {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let mut names = gateway_control::console::Names {
            hosts: self.tls.names.clone(),
            public: None,
        };
        names.hosts.push(host.trim().to_owned());
        if let Some((scheme, rest)) = self
            .listen
            .public_url
            .as_deref()
            .and_then(|url| url.split_once("://"))
        {
            let authority = rest.split('/').next().unwrap_or_default();
            names.add(authority, scheme.eq_ignore_ascii_case("https"));
        }
        names
    }

    /// Reads and checks everything.
    pub(crate) fn load(global: &Global) -> anyhow::Result<Self> {
        Self::of(Raw::read(global)?)
    }

    fn of(raw: Raw) -> anyhow::Result<Self> {
        let name = raw.file.display().to_string();
        Self::check(raw).map_err(|problems| {
            let count = problems.0.len();
            let noun = if count == 1 { "problem" } else { "problems" };
            anyhow::anyhow!(
                "the configuration `{name}` has {count} {noun}:\n  {}",
                problems.to_string().replace('\n', "\n  ")
            )
        })
    }

    /// Checks a tree that was read.
    fn check(mut raw: Raw) -> Result<Self, Problems> {
        let mut values = std::mem::take(&mut raw.values);
        let mut problems = Problems::default();
        for (key, value) in &values {
            refuse_endless(key, value, &mut problems);
        }
        let mut registry = Registry::new();
        let mut sections = Map::new();
        for mut adapter in adapters::compiled() {
            let protocol = adapter.protocol();
            let section = values
                .remove(protocol)
                .inspect(|section| {
                    sections.insert(protocol.to_owned(), section.clone());
                })
                .unwrap_or_else(|| Value::Object(Map::new()));
            if let Err(problem) = adapter.configure(section) {
                problems.push(protocol, with_suggestion(protocol, &problem.0, &[]));
            }
            registry.register(Arc::from(adapter));
        }
        let mut checker = Checker {
            raw: &raw,
            problems,
            protocols: registry.protocols(),
        };
        checker.top(&mut values);
        let data_dir = checker.path("data_dir", values.remove("data_dir"));
        let listen = checker.listen(values.remove("listen"));
        let tls = checker.tls(values.remove("tls"));
        let store = checker.store(values.remove("store"));
        let oidc = checker.identity(values.remove("identity"));
        let policy_dir = checker.policy(values.remove("policy"));
        let audit = checker.audit(values.remove("audit"));
        let notify = checker.notify(values.remove("notify"));
        let limits = checker.flat::<Limits>("limits", values.remove("limits"), Limits::default(), &[]);
        for (key, why) in limits.problems() {
            checker.problems.push(&format!("limits.{key}"), why);
        }
        let outside = checker.outside(values.remove("vault"));
        let below = data_dir.as_deref().unwrap_or(Path::new(""));
        let recording = checker.recording(values.remove("recording"), below, &outside);
        let secrets = checker.secrets(values.remove("secrets"), &outside);
        let issuers = adapters::issuers(&registry, &outside);
        let resource = values.remove("resource");
        let spills = recording.spills();
        let resources = resources::check(&raw, resource, &registry, &issuers, spills, &mut checker.problems);
        let problems = checker.problems;
        match (problems.0.is_empty(), data_dir, policy_dir, audit) {
            (true, Some(data_dir), Some(policy_dir), Some(audit)) => Ok(Self {
                file: raw.file,
                data_dir,
                listen,
                tls,
                store,
                secrets,
                policy_dir,
                audit,
                recording,
                notify,
                limits,
                oidc,
                resources,
                registry,
                outside,
                sections,
            }),
            _ => Err(problems),
        }
    }

    /// What is kept, and where.
    pub(crate) fn place(&self) -> Place {
        Place {
            data_dir: self.data_dir.clone(),
            recording: self.recording.clone(),
            store: self.store.clone(),
            secrets: self.secrets.clone(),
            outside: self.outside.clone(),
        }
    }

    /// The control plane's socket for the operator on the host.
    pub(crate) fn socket(data_dir: &Path) -> PathBuf {
        data_dir.join("control.sock")
    }

    /// The store's file.
    pub(crate) fn store(data_dir: &Path) -> PathBuf {
        data_dir.join("gateway.db")
    }

    /// The audit trail's directory.
    pub(crate) fn audit_dir(data_dir: &Path) -> PathBuf {
        data_dir.join("audit")
    }
}

/// Checks a configuration file's text as if it were read from `file`, an absolute path, without environment and flags: it
/// gives what `gateway config show` prints, or everything that is wrong.
///
/// # Errors
///
/// What `gateway config check` prints: a line for each fault, which names the key.
pub fn check(file: &Path, text: &str) -> anyhow::Result<String> {
    Config::of(Raw::text(file, text)?)?.to_toml()
}

/// Checks sections and collects what is wrong with them.
struct Checker<'a> {
    raw: &'a Raw,
    problems: Problems,
    protocols: Vec<&'static str>,
}

impl Checker<'_> {
    fn push(&mut self, path: &str, what: impl fmt::Display) {
        match self.raw.variable(path) {
            Some(variable) => self.problems.push(path, format!("{what} (from `{variable}`)")),
            None => self.problems.push(path, what),
        }
    }

    /// What issuers that no adapter owns, and keys, are made of.
    fn outside(&mut self, vault: Option<Value>) -> Outside {
        #[cfg(feature = "vault")]
        return Outside {
            vaults: self.vaults(vault),
        };
        #[cfg(not(feature = "vault"))]
        {
            let _ = vault;
            Outside::default()
        }
    }

    /// Unknown sections, and those of adapters that are not in this build.
    fn top(&mut self, values: &mut Map<String, Value>) {
        let mut own: Vec<&str> = TOP.to_vec();
        if cfg!(feature = "vault") {
            own.push("vault");
        }
        let mut known = own.clone();
        known.extend(&self.protocols);
        let strange: Vec<String> = values
            .keys()
            .filter(|key| !own.contains(&key.as_str()))
            .cloned()
            .collect();
        for key in strange {
            values.remove(&key);
            let what = adapters::absent(&key, &self.protocols)
                .or_else(|| adapters::absent_kind(&key))
                .unwrap_or_else(|| unknown("", &key, &known));
            self.push(&key, what);
        }
    }

    /// A section as a table; an absent one is empty.
    fn table(&mut self, path: &str, value: Option<Value>) -> Map<String, Value> {
        match value {
            Some(Value::Object(table)) => table,
            None => Map::new(),
            Some(_) => {
                self.push(path, format!("must be a table: `[{path}]`"));
                Map::new()
            }
        }
    }

    fn text(&mut self, path: &str, value: Option<Value>) -> Option<String> {
        match value {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            Some(_) => {
                self.push(path, "must be a text that is not empty");
                None
            }
            None => None,
        }
    }

    fn path(&mut self, path: &str, value: Option<Value>) -> Option<PathBuf> {
        self.text(path, value).map(|text| self.raw.resolve(text))
    }

    /// A section of which each key stands for itself, over `default`; `more` are keys that the default leaves out.
    fn flat<T: Serialize + for<'de> Deserialize<'de>>(
        &mut self,
        path: &str,
        value: Option<Value>,
        default: T,
        more: &[&str],
    ) -> T {
        let table = self.table(path, value);
        let Ok(Value::Object(mut good)) = serde_json::to_value(&default) else {
            return default;
        };
        let keys: Vec<String> = good.keys().cloned().collect();
        let known: Vec<&str> = keys
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        for (key, value) in table {
            let full = join(path, &key);
            if !known.contains(&key.as_str()) {
                self.push(&full, unknown(path, &key, &known));
                continue;
            }
            let mut next = good.clone();
            next.insert(key, value);
            match serde_json::from_value::<T>(Value::Object(next.clone())) {
                Ok(_) => good = next,
                Err(error) => self.push(&full, error),
            }
        }
        serde_json::from_value(Value::Object(good)).unwrap_or(default)
    }

    fn listen(&mut self, value: Option<Value>) -> Listen {
        let mut listen = Listen::default();
        let mut known = self.protocols.clone();
        known.extend(["control", "public_url", "proxy_protocol_from"]);
        for (key, value) in self.table("listen", value) {
            let path = join("listen", &key);
            match key.as_str() {
                "public_url" => {
                    if let Some(url) = self.text(&path, Some(value)) {
                        if url.starts_with("https://") || url.starts_with("http://") {
                            listen.public_url = Some(url.trim_end_matches('/').to_owned());
                        } else {
                            self.push(&path, "must begin with `https://`");
                        }
                    }
                }
                "control" => listen.control = self.address(&path, value),
                "proxy_protocol_from" => listen.proxies = self.proxies(&path, value),
                protocol if self.protocols.contains(&protocol) => {
                    if let Some(address) = self.address(&path, value) {
                        listen.adapters.insert(key, address);
                    }
                }
                other => {
                    let what = adapters::absent(other, &self.protocols)
                        .unwrap_or_else(|| unknown("listen", other, &known));
                    self.push(&path, what);
                }
            }
        }
        self.same_address(&listen);
        listen
    }

    fn address(&mut self, path: &str, value: Value) -> Option<SocketAddr> {
        let text = self.text(path, Some(value))?;
        match text.parse() {
            Ok(address) => Some(address),
            Err(_) => {
                self.push(
                    path,
                    format!("`{text}` is no address; write IP:port, such as 127.0.0.1:6432 or [::]:6432"),
                );
                None
            }
        }
    }

    fn proxies(&mut self, path: &str, value: Value) -> TrustedProxies {
        let Ok(texts) = serde_json::from_value::<Vec<String>>(value) else {
            self.push(path, "must be a list of networks: `[\"10.0.0.0/8\"]`");
            return TrustedProxies::default();
        };
        let mut networks = Vec::with_capacity(texts.len());
        for text in texts {
            match text.parse::<Network>() {
                Ok(network) => networks.push(network),
                Err(error) => self.push(path, error),
            }
        }
        TrustedProxies::new(networks)
    }

    fn same_address(&mut self, listen: &Listen) {
        let mut seen: BTreeMap<SocketAddr, &str> = BTreeMap::new();
        let control = listen.control.iter().map(|address| ("control", *address));
        let all = listen
            .adapters
            .iter()
            .map(|(name, address)| (name.as_str(), *address));
        for (name, address) in all.chain(control).filter(|(_, address)| address.port() != 0) {
            if let Some(other) = seen.insert(address, name) {
                self.push(
                    &join("listen", name),
                    format!("`listen.{other}` has the same address"),
                );
            }
        }
    }

    fn tls(&mut self, value: Option<Value>) -> TlsConfig {
        let mut tls = self.flat("tls", value, TlsConfig::default(), &["cert", "key"]);
        if tls.cert.is_some() != tls.key.is_some() {
            self.push(
                "tls",
                "`cert` and `key` go together: give both, or neither for the private CA",
            );
        }
        for path in [&mut tls.cert, &mut tls.key].into_iter().flatten() {
            *path = self.raw.resolve(&*path);
        }
        tls
    }

    fn store(&mut self, value: Option<Value>) -> StoreKind {
        let mut table = self.table("store", value);
        refuse_unknown("store", &mut table, &["url"], &mut self.problems);
        let text = self.text("store.url", table.remove("url"));
        text.and_then(|text| {
            StoreKind::parse(&text)
                .map_err(|what| self.push("store.url", what))
                .ok()
        })
        .unwrap_or_default()
    }

    fn identity(&mut self, value: Option<Value>) -> Vec<OidcSettings> {
        let mut table = self.table("identity", value);
        refuse_unknown("identity", &mut table, &["oidc"], &mut self.problems);
        identity::check(self.raw, table.remove("oidc"), &mut self.problems)
    }

    fn policy(&mut self, value: Option<Value>) -> Option<PathBuf> {
        let mut table = self.table("policy", value);
        refuse_unknown("policy", &mut table, &["dir"], &mut self.problems);
        self.path("policy.dir", table.remove("dir"))
    }
}
