//! The gateway's user CA: for each connection to a target a fresh key, and a certificate for it that is valid for minutes.
//!
//! A target that has the CA's public key in `TrustedUserCAKeys` lets the gateway in without knowing any key. What a certificate
//! says (OpenSSH's PROTOCOL.certkeys): the login, who it is for, what the connection may, and for how long.

use std::path::Path;
use std::sync::Arc;

use gateway_core::adapter::ConfigProblem;
use gateway_core::principal::Principal;
use gateway_core::sealing::Sealing;
use gateway_core::session::SessionId;
use jiff::Timestamp;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::rand_core::Rng as _;
use russh::keys::{Algorithm, Certificate, PrivateKey, PublicKey};

use crate::credentials::Certified;
use crate::key_file::KeptKey;

/// The CA's file in the data directory.
pub(crate) const USER_CA: &str = "ssh_user_ca";
/// For how many seconds before now a certificate is valid: a target's clock may be behind.
const BEHIND: u64 = 60;
/// Most bytes of a name in a key id.
const NAME: usize = 256;
/// The longest command that a certificate forces, in bytes: sshd takes no packets above 256 KiB.
const COMMAND: usize = 32 << 10;

/// What a connection may, beside running a program without a terminal.
#[derive(Debug, Clone, Default)]
pub(crate) struct Granted {
    /// A terminal.
    pub(crate) pty: bool,
    /// The client's agent.
    pub(crate) agent: bool,
    /// Connections from the target, and listening there.
    pub(crate) forwarding: bool,
    /// The client's display.
    pub(crate) x11: bool,
    /// The one command that it is for, where it is one.
    pub(crate) command: Option<Vec<u8>>,
}

impl Granted {
    /// For forwards alone.
    pub(crate) fn forwarding() -> Self {
        Self {
            forwarding: true,
            ..Self::default()
        }
    }

    /// The names of the extensions (PROTOCOL.certkeys, "Extensions"). `permit-user-rc` is never among them.
    fn extensions(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            (self.x11, "permit-X11-forwarding"),
            (self.agent, "permit-agent-forwarding"),
            (self.forwarding, "permit-port-forwarding"),
            (self.pty, "permit-pty"),
        ];
        all.into_iter()
            .filter(|(granted, _)| *granted)
            .map(|(_, name)| name)
    }
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoCertificate {
    /// The CA's key.
    #[error("{0}")]
    Key(#[from] ConfigProblem),
    /// The command can't be forced.
    #[error("the command can't be put into a certificate: {0}")]
    Command(&'static str),
    /// It can't be signed.
    #[error("it can't be signed: {0}")]
    Signing(#[from] russh::keys::ssh_key::Error),
    /// The clock is before 1970.
    #[error("the clock is wrong")]
    Clock,
}

/// The CA.
#[derive(Debug)]
pub(crate) struct Authority(KeptKey);

impl Default for Authority {
    fn default() -> Self {
        Self(KeptKey::new(USER_CA, "SSH user CA"))
    }
}

impl Authority {
    /// Says where its key is kept.
    pub(crate) fn keep_in(&self, data_dir: &Path, sealing: &Arc<Sealing>) {
        self.0.keep_in(data_dir, sealing);
    }

    /// Whether it is known where its key is: not where a configuration is only checked.
    pub(crate) fn is_ready(&self) -> bool {
        self.0.is_ready()
    }

    /// What a target is to trust.
    pub(crate) fn public_key(&self) -> Result<PublicKey, ConfigProblem> {
        self.0.public_key()
    }

    /// A fresh key, and a certificate with which it is `login` for a few minutes.
    pub(crate) fn issue(
        &self,
        certified: &Certified,
        login: &str,
        key_id: &str,
        granted: &Granted,
        now: Timestamp,
    ) -> Result<(Arc<PrivateKey>, Certificate), NoCertificate> {
        let ca = self.0.key()?;
        let mut random = russh::keys::key::safe_rng();
        let key = PrivateKey::random(&mut random, Algorithm::Ed25519)?;
        let now = u64::try_from(now.as_second()).map_err(|_| NoCertificate::Clock)?;
        let (from, until) = (
            now.saturating_sub(BEHIND),
            now.saturating_add(certified.ttl.as_secs()),
        );
        let public = key.public_key().key_data().clone();
        let mut builder = Builder::new_with_random_nonce(&mut random, public, from, until)?;
        builder
            .serial(random.next_u64())?
            .cert_type(CertType::User)?
            .key_id(key_id)?
            .valid_principal(login)?;
        if let Some(from) = &certified.source_address {
            builder.critical_option("source-address", from)?;
        }
        if let Some(command) = granted.command.as_deref().filter(|_| certified.force_command) {
            builder.critical_option("force-command", forced(command)?)?;
        }
        for name in granted.extensions() {
            builder.extension(name, "")?;
        }
        let certificate = builder.sign(&*ca)?;
        Ok((Arc::new(key), certificate))
    }
}

/// An empty one would force nothing, or the shell: nobody asked for that.
fn forced(command: &[u8]) -> Result<&str, NoCertificate> {
    if command.is_empty() || command.len() > COMMAND {
        return Err(NoCertificate::Command("it is empty or longer than 32 KiB"));
    }
    if command.contains(&0) {
        return Err(NoCertificate::Command("it has a NUL"));
    }
    std::str::from_utf8(command).map_err(|_| NoCertificate::Command("it is no UTF-8"))
}

/// Who a certificate is for, in the target's log: `<subject> [for <on_behalf_of>] session=<id>`. What would make it read
/// otherwise, or be no line, stands there as `%` and two hex digits a byte.
pub(crate) fn key_id(principal: &Principal, session: SessionId) -> String {
    let mut text = name(&principal.subject);
    if let Some(behalf) = &principal.on_behalf_of {
        text += " for ";
        text += &name(behalf);
    }
    text += &format!(" session={session}");
    text
}

fn name(text: &str) -> String {
    let mut name = String::new();
    for character in text.chars() {
        let plain = character.is_alphanumeric() || character.is_ascii_graphic();
        let mut bytes = [0; 4];
        let encoded = character.encode_utf8(&mut bytes);
        let mut part = String::new();
        match plain && character != '%' {
            true => part.push_str(encoded),
            false => part.extend(encoded.bytes().map(|byte| format!("%{byte:02x}"))),
        }
        if name.len() + part.len() > NAME {
            name.push_str("...");
            break;
        }
        name += &part;
    }
    name
}

#[cfg(test)]
mod tests;
