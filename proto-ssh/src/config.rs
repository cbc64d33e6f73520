//! The `[ssh]` section and what a resource of this protocol says.

use std::path::PathBuf;

use gateway_core::adapter::ConfigProblem;
use gateway_core::resource::Resource;
use serde::Deserialize;

use crate::command::Shell;
use crate::host_trust::HostTrust;
use crate::runbooks::{Runbooks, Written};

/// Longest banner, in bytes.
const BANNER: usize = 4096;
/// Most channels that one connection may be given.
const CHANNELS: usize = 1024;

/// The `[ssh]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Section {
    /// The gateway's own host key, an absolute path; `data_dir/ssh_host_ed25519_key` where it is absent.
    pub(crate) host_key: Option<PathBuf>,
    /// What clients are told before they log in.
    pub(crate) banner: Option<String>,
    /// Channels that a connection may have at the same time.
    pub(crate) channels: usize,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            host_key: None,
            banner: None,
            channels: 64,
        }
    }
}

impl Section {
    /// Reads and checks the section.
    pub(crate) fn read(section: serde_json::Value) -> Result<Self, ConfigProblem> {
        let problem = |what: String| ConfigProblem(format!("[ssh]: {what}"));
        let section: Self = serde_json::from_value(section).map_err(|e| problem(e.to_string()))?;
        if section.host_key.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err(problem("`host_key` must be an absolute path".to_owned()));
        }
        let banner = section.banner.as_deref().unwrap_or_default();
        if banner.len() > BANNER || banner.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            return Err(problem(format!(
                "`banner` is a text of at most {BANNER} bytes without control characters"
            )));
        }
        if section.channels == 0 || section.channels > CHANNELS {
            return Err(problem(format!("`channels` is a number from 1 to {CHANNELS}")));
        }
        Ok(section)
    }
}

/// The login shell of a target, as its resource names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ShellName {
    #[default]
    Bash,
    Dash,
    Zsh,
    Unknown,
}

impl From<ShellName> for Shell {
    fn from(name: ShellName) -> Self {
        match name {
            ShellName::Bash => Self::Bash,
            ShellName::Dash => Self::Dash,
            ShellName::Zsh => Self::Zsh,
            ShellName::Unknown => Self::Unknown,
        }
    }
}

/// What becomes of a file that is read and holds what is looked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DetectFiles {
    /// It is not read further.
    #[default]
    Refuse,
    /// Files are not looked through.
    Pass,
}

/// One key or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum HostKeys {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    host_key: HostKeys,
    #[serde(default)]
    shell: ShellName,
    #[serde(default)]
    runbook: Vec<Written>,
    #[serde(default)]
    detect_files: DetectFiles,
}

/// What a resource of this protocol says beside what all resources do.
#[derive(Debug, Clone)]
pub(crate) struct ResourceSettings {
    /// Whom the target must prove to be.
    pub(crate) trust: HostTrust,
    /// Its login shell.
    pub(crate) shell: Shell,
    /// What operators wrote to be run there.
    pub(crate) runbooks: Runbooks,
    /// Whether files that are read are looked through.
    pub(crate) looks_at_files: bool,
}

impl ResourceSettings {
    /// Reads and checks them.
    pub(crate) fn of(resource: &Resource) -> Result<Self, ConfigProblem> {
        let problem = |what: String| ConfigProblem(format!("resource `{}`: {what}", resource.name));
        let raw: Raw = serde_json::from_value(serde_json::Value::Object(resource.settings.clone()))
            .map_err(|e| problem(e.to_string()))?;
        let texts = match raw.host_key {
            HostKeys::One(text) => vec![text],
            HostKeys::Many(texts) => texts,
        };
        let trust = HostTrust::read(&texts).map_err(|e| problem(e.0))?;
        if host_and_port(&resource.address).is_none() {
            return Err(problem(format!(
                "address `{}` is not host:port",
                resource.address
            )));
        }
        let shell = raw.shell.into();
        Ok(Self {
            trust,
            shell,
            looks_at_files: raw.detect_files == DetectFiles::Refuse,
            runbooks: Runbooks::read(&raw.runbook, shell).map_err(problem)?,
        })
    }
}

/// Splits `host:port`, where an IPv6 address stands in brackets.
pub(crate) fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bare {
        Some(bare) => bare,
        None if host.contains(':') => return None,
        None => host,
    };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use gateway_core::resource::CredentialConfig;
    use serde_json::json;

    pub(crate) const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    pub(crate) fn resource(settings: serde_json::Value) -> Resource {
        let serde_json::Value::Object(settings) = settings else {
            panic!("a table")
        };
        Resource {
            name: "web-1".to_owned(),
            protocol: "ssh".to_owned(),
            address: "127.0.0.1:22".to_owned(),
            labels: std::collections::BTreeMap::new(),
            credential: CredentialConfig::login_as("deploy"),
            audit: None,
            tags: Vec::new(),
            detect: Vec::new(),
            functions: Vec::new(),
            recording: None,
            settings,
        }
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_refused() {
        assert!(Section::read(json!({})).is_ok());
        for bad in [
            json!({ "host_keys": "/x" }),
            json!({ "host_key": "relative" }),
            json!({ "banner": "\u{1b}[2J" }),
            json!({ "channels": 0 }),
        ] {
            assert!(Section::read(bad.clone()).is_err(), "{bad}");
        }
        let good = ResourceSettings::of(&resource(json!({ "host_key": KEY }))).unwrap();
        assert_eq!((good.trust.kinds().len(), good.shell), (1, Shell::Bash));
        assert!(ResourceSettings::of(&resource(json!({ "host_key": [KEY], "shell": "dash" }))).is_ok());
        let book = json!({ "name": "restart", "command": "systemctl restart {unit}",
            "parameters": [{ "name": "unit", "type": "word" }] });
        let with = |books: serde_json::Value| {
            ResourceSettings::of(&resource(json!({ "host_key": KEY, "runbook": books })))
        };
        assert!(with(json!([book])).is_ok());
        for (bad, why) in [
            (json!([book, book]), "`restart`: there are two"),
            (
                json!([{ "name": "a b", "command": "x" }]),
                "`a b`: the name of a runbook",
            ),
            (
                json!([{ "name": "a", "command": "x; y" }]),
                "`a`: ';' can't be in a template",
            ),
            (
                json!([{ "name": "a", "command": "x", "when": "now" }]),
                "unknown field `when`",
            ),
            (
                json!([{ "name": "a", "command": "x", "description": "\u{1b}[2J" }]),
                "`a`: `description`",
            ),
            (
                json!([{ "name": "a", "command": "x {p}", "parameters": [{ "name": "p", "type": "int", "values": ["1"] }] }]),
                "`a`: parameter `p`: `values` means nothing",
            ),
        ] {
            let told = with(bad).unwrap_err().to_string();
            assert!(told.contains(why), "{told}");
        }
        for bad in [
            json!({}),
            json!({ "host_key": [] }),
            json!({ "host_key": "ssh-ed25519 xx" }),
            json!({ "host_key": KEY, "shell": "fish" }),
            json!({ "host_key": KEY, "port": 22 }),
            json!({ "host_key": KEY, "detect_files": "mask" }),
        ] {
            assert!(ResourceSettings::of(&resource(bad.clone())).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_is_host_and_port() {
        assert_eq!(host_and_port("10.0.0.9:22"), Some(("10.0.0.9", 22)));
        assert_eq!(host_and_port("[::1]:22"), Some(("::1", 22)));
        for bad in ["10.0.0.9", "::1:22", ":22", "h:0", "h:65536"] {
            assert_eq!(host_and_port(bad), None, "{bad}");
        }
    }
}
