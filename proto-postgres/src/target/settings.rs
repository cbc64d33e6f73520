//! What a `[[resource]]` says of how its target is reached.

use std::path::PathBuf;

use gateway_core::adapter::ConfigProblem;
use gateway_core::resource::Resource;
use gateway_core::tls::{ClientTls, TargetTls, TargetTlsMode, TlsError};
use gateway_core::transport::Transport;
use serde::Deserialize;

use crate::accept::ALPN;
use crate::login::{ChannelBinding, Options};

/// The keys of a `[[resource]]` that are PostgreSQL's own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceSettings {
    /// How the target is verified.
    #[serde(default)]
    pub tls: TargetTlsMode,
    /// PEM file of the CA that signed the target's certificate; default: the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// PEM chain of the certificate that the gateway shows to the target.
    #[serde(default)]
    pub cert: Option<PathBuf>,
    /// PEM key that belongs to `cert`.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// Whether SCRAM is bound to the TLS connection.
    #[serde(default)]
    pub channel_binding: Binding,
    /// The newest version of the protocol that is asked for.
    #[serde(default)]
    pub max_protocol_version: MaxProtocolVersion,
    /// The only database that clients reach.
    #[serde(default)]
    pub database: Option<String>,
    /// Whether the password may travel in clear without TLS where the target asks for that. On loopback it may.
    #[serde(default)]
    pub clear_password: bool,
}

/// Whether SCRAM towards a target is bound to the TLS connection; libpq's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Binding {
    /// Never.
    Disable,
    /// Where there is TLS and the target offers it.
    #[default]
    Prefer,
    /// Always; a target that offers no SCRAM-SHA-256-PLUS is not logged in to.
    Require,
}

/// The newest version of the protocol that a target is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum MaxProtocolVersion {
    /// For what stands in front of a target and refuses newer versions instead of answering them.
    #[serde(rename = "3.0")]
    V3_0,
    /// Longer keys for cancelling; servers that only know 3.0 say so, and are spoken to in that.
    #[default]
    #[serde(rename = "3.2")]
    V3_2,
}

impl ResourceSettings {
    /// Reads the settings of a resource.
    pub fn of(resource: &Resource) -> Result<Self, ConfigProblem> {
        serde_json::from_value(serde_json::Value::Object(resource.settings.clone()))
            .map_err(|e| ConfigProblem(format!("resource `{}`: {e}", resource.name)))
    }

    /// Checks what the settings name, and what goes together.
    pub(crate) fn check(&self, name: &str) -> Result<(), ConfigProblem> {
        let problem = |what: &dyn std::fmt::Display| Err(ConfigProblem(format!("resource `{name}`: {what}")));
        if self.tls == TargetTlsMode::Disable {
            let unused = [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key)];
            if let Some((key, _)) = unused.iter().find(|(_, path)| path.is_some()) {
                return problem(&format!(
                    "`{key}` is of no use with `tls = \"disable\"`; take one of them out"
                ));
            }
            if self.channel_binding == Binding::Require {
                return problem(&"`channel_binding = \"require\"` needs TLS, which is disabled");
            }
            return Ok(());
        }
        // The system's certificates are not looked for here: they are another machine's where a configuration is
        // only checked.
        let mode = match self.ca {
            Some(_) => self.tls,
            None => TargetTlsMode::Require,
        };
        match self.client_tls(mode) {
            Ok(_) => Ok(()),
            Err(error) => problem(&error),
        }
    }

    pub(super) fn client_tls(&self, mode: TargetTlsMode) -> Result<ClientTls, TlsError> {
        ClientTls::new(TargetTls {
            mode,
            ca: self.ca.as_deref(),
            cert: self.cert.as_deref(),
            key: self.key.as_deref(),
            protocols: &[ALPN],
        })
    }

    /// What the target may ask of us on this connection.
    pub(super) fn login_options(&self, transport: &Transport) -> Options {
        let end_point = transport.tls_server_end_point();
        Options {
            allow_clear: self.allows_clear_password(transport),
            allow_md5: true,
            binding: match (self.channel_binding, end_point) {
                (Binding::Disable, _) | (Binding::Prefer, None) => ChannelBinding::Unsupported,
                (Binding::Prefer, Some(hash)) => ChannelBinding::Preferred(hash),
                // Without a hash nothing can match, and the login fails as it must.
                (Binding::Require, hash) => ChannelBinding::Required(hash.unwrap_or_default()),
            },
        }
    }

    /// Whether the target may have the password in clear, if it asks: a man in the middle could ask for it.
    fn allows_clear_password(&self, transport: &Transport) -> bool {
        let safe = match transport {
            Transport::Tcp(tcp) => tcp
                .peer_addr()
                .is_ok_and(|peer| peer.ip().to_canonical().is_loopback()),
            _ => transport.is_tls() && self.tls.is_verified(),
        };
        safe || self.clear_password
    }
}
