//! `[[audit.export]]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use gateway_core::resource::{Resource, SecretSource};
use serde::{Deserialize, Serialize};

use super::Format;
use super::sink::{Remote, Sink, host_and_port, url};

/// What kind of sink it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ExportKind {
    /// JSON lines at the end of a file.
    File,
    /// RFC 5424 over TLS or TCP.
    Syslog,
    /// OTLP/HTTP.
    Otlp,
}

/// How a receiver is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ExportTls {
    /// The certificate must be good for the name.
    #[serde(rename = "verify-full")]
    VerifyFull,
    /// In clear.
    #[serde(rename = "disable")]
    Disable,
}

/// One `[[audit.export]]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportConfig {
    /// The sink's kind.
    pub(crate) kind: ExportKind,
    /// Names its cursor and its metrics; the kind where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// The file (kind `file`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<PathBuf>,
    /// `host:port` (kind `syslog`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// How it is reached (kind `syslog`); default `verify-full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls: Option<ExportTls>,
    /// `http://` or `https://` (kind `otlp`); where it has no path, `/v1/logs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// PEM file of the CA that signed the receiver's certificate; absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    /// Further headers (kind `otlp`), such as `authorization`; where their values are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: BTreeMap<String, SecretSource>,
}

impl ExportConfig {
    /// What names its cursor and its metrics.
    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(match self.kind {
            ExportKind::File => "file",
            ExportKind::Syslog => "syslog",
            ExportKind::Otlp => "otlp",
        })
    }

    /// The sink; `Err`: the key that is wrong, and why.
    pub(crate) fn sink(&self) -> Result<Sink, (&'static str, String)> {
        if !Resource::is_name(self.name()) {
            let why = "a name has letters, digits, `.`, `_` and `-`, at most 128 of them";
            return Err(("name", why.to_owned()));
        }
        for (key, there, kind) in [
            ("path", self.path.is_some(), ExportKind::File),
            ("address", self.address.is_some(), ExportKind::Syslog),
            ("tls", self.tls.is_some(), ExportKind::Syslog),
            ("url", self.url.is_some(), ExportKind::Otlp),
            ("headers", !self.headers.is_empty(), ExportKind::Otlp),
        ] {
            if there && self.kind != kind {
                return Err((
                    key,
                    format!("belongs to another kind than `{}`", self.kind_name()),
                ));
            }
        }
        if self.ca.is_some() && self.kind == ExportKind::File {
            return Err(("ca", "belongs to another kind than `file`".to_owned()));
        }
        let missing = |key: &'static str, like: &str| (key, format!("is missing; write {like}"));
        match self.kind {
            ExportKind::File => {
                let path = self
                    .path
                    .clone()
                    .ok_or_else(|| missing("path", "a file's path"))?;
                Ok(Sink::File(path, Format::Jsonl))
            }
            ExportKind::Syslog => {
                let address = self
                    .address
                    .as_deref()
                    .ok_or_else(|| missing("address", "host:port"))?;
                let (host, port) = host_and_port(address).ok_or_else(|| {
                    (
                        "address",
                        "must be host:port, such as logs.example:6514".to_owned(),
                    )
                })?;
                Ok(Sink::Syslog {
                    remote: Remote {
                        host,
                        port,
                        tls: self.tls != Some(ExportTls::Disable),
                        ca: self.ca.clone(),
                    },
                    open: None,
                })
            }
            ExportKind::Otlp => {
                let text = self
                    .url
                    .as_deref()
                    .ok_or_else(|| missing("url", "https://host:4318/v1/logs"))?;
                let (tls, host, port, path) =
                    url(text).ok_or_else(|| ("url", "must be like https://host:4318/v1/logs".to_owned()))?;
                if self.ca.is_some() && !tls {
                    return Err(("ca", "there is no TLS on an `http://` address".to_owned()));
                }
                let local =
                    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
                if !(tls || local || self.headers.is_empty()) {
                    let why = "their secrets would go over the network in clear; use `https://`";
                    return Err(("headers", why.to_owned()));
                }
                for (name, source) in &self.headers {
                    if matches!(source, SecretSource::Kept(_)) {
                        let why = "are read where nothing may wait for an answer; use `env` or `file`";
                        return Err(("headers", why.to_owned()));
                    }
                    if name.parse::<hyper::header::HeaderName>().is_err() {
                        return Err(("headers", "there is a name that no header can have".to_owned()));
                    }
                }
                Ok(Sink::Otlp {
                    remote: Remote {
                        host,
                        port,
                        tls,
                        ca: self.ca.clone(),
                    },
                    path,
                    headers: self.headers.clone().into_iter().collect(),
                })
            }
        }
    }

    fn kind_name(&self) -> &'static str {
        match self.kind {
            ExportKind::File => "file",
            ExportKind::Syslog => "syslog",
            ExportKind::Otlp => "otlp",
        }
    }
}
