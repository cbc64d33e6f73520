//! Certificates by which clients log in: signed by a CA of the gateway's own, which no target trusts, and read again with nothing
//! taken on trust.
//!
//! Behind each certificate is a token whose id it names. That says whose it is, for what it is good, and whether it still is.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use gateway_core::adapter::{Certified, ConfigProblem};
use gateway_core::machine::Question;
use gateway_core::sealing::Sealing;
use jiff::Timestamp;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::public::{KeyData, RsaPublicKey};
use russh::keys::ssh_key::rand_core::Rng as _;
use russh::keys::{Certificate, HashAlg, PublicKey};

use crate::key_file::KeptKey;
use crate::wire::certificate::{Refused, UserCertificate};

/// The CA's file in the data directory.
pub(crate) const LOGIN_CA: &str = "ssh_login_ca";
/// The shortest RSA key that proves anybody, and the longest that is worth the time, in bits.
const RSA: std::ops::RangeInclusive<u32> = 2048..=16384;

/// What OpenSSH's extensions permit (PROTOCOL.certkeys, "Extensions"), where a client has logged in with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Permits {
    pty: bool,
    agent: bool,
    forwarding: bool,
    x11: bool,
}

const PTY: &str = "permit-pty";
const AGENT: &str = "permit-agent-forwarding";
const FORWARDING: &str = "permit-port-forwarding";
const X11: &str = "permit-X11-forwarding";

impl Permits {
    /// Who comes with a token or a plain key is held back by policy alone.
    pub(crate) const ALL: Self = Self {
        pty: true,
        agent: true,
        forwarding: true,
        x11: true,
    };

    fn of(extensions: &[&str]) -> Self {
        let has = |name: &str| extensions.contains(&name);
        Self {
            pty: has(PTY),
            agent: has(AGENT),
            forwarding: has(FORWARDING),
            x11: has(X11),
        }
    }

    /// The extension without which a terminal is refused; `None`: it may have one.
    pub(crate) fn lacks_pty(self) -> Option<&'static str> {
        (!self.pty).then_some(PTY)
    }

    /// The extension that is missing for what is asked; `None`: none is.
    pub(crate) fn lacks(self, question: &Question) -> Option<&'static str> {
        let lacks = |action: &str| match action {
            "forward" | "remote-forward" => (!self.forwarding).then_some(FORWARDING),
            "agent-forward" => (!self.agent).then_some(AGENT),
            "x11" => (!self.x11).then_some(X11),
            _ => None,
        };
        let asked = question.operations.list();
        asked
            .iter()
            .find_map(|operation| lacks(operation.action.as_str()))
    }
}

/// What a certificate shows that is taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The id of the token behind it.
    pub(crate) id: String,
    /// For whom it is; at least one.
    pub(crate) principals: Vec<String>,
    /// What it permits.
    pub(crate) permits: Permits,
}

/// Why a certificate shows nobody.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// It is none of a user, or not understood whole.
    #[error("{0}")]
    Form(#[from] Refused),
    /// Our own key, or what is to be compared with it.
    #[error("{0}")]
    Key(#[from] ConfigProblem),
    /// What russh reads and writes.
    #[error("certificate is malformed: {0}")]
    Malformed(#[from] russh::keys::ssh_key::Error),
    /// Somebody else signed it, or nobody did.
    #[error("certificate is not signed by this gateway's login CA")]
    Stranger,
    /// It is not valid now.
    #[error("certificate is not valid now, by the gateway's clock")]
    Time,
    /// A critical option that is known, and can't be kept here.
    #[error("certificate has the critical option `{0}`, which is not kept here")]
    Option(&'static str),
    /// The client is elsewhere.
    #[error("certificate is not for where the client comes from (`source-address`)")]
    Source,
}

/// The CA.
#[derive(Debug)]
pub(crate) struct LoginCa(KeptKey);

impl Default for LoginCa {
    fn default() -> Self {
        Self(KeptKey::new(LOGIN_CA, "SSH login CA"))
    }
}

impl LoginCa {
    /// Says where its key is kept.
    pub(crate) fn keep_in(&self, data_dir: &Path, sealing: &Arc<Sealing>) {
        self.0.keep_in(data_dir, sealing);
    }

    /// Signs a client's key.
    pub(crate) fn certify(&self, certified: &Certified<'_>) -> Result<String, ConfigProblem> {
        let key = read_key(certified.public_key)?;
        let signed = || -> Result<String, NotTaken> {
            let ca = self.0.key()?;
            let mut random = russh::keys::key::safe_rng();
            let seconds = |at: Timestamp| u64::try_from(at.as_second()).map_err(|_| NotTaken::Time);
            let (from, until) = (seconds(certified.from)?, seconds(certified.until)?);
            let public = key.key_data().clone();
            let mut builder = Builder::new_with_random_nonce(&mut random, public, from, until)?;
            builder
                .serial(random.next_u64())?
                .cert_type(CertType::User)?
                .key_id(certified.id)?
                .valid_principal(certified.subject)?;
            for name in [X11, AGENT, FORWARDING, PTY] {
                builder.extension(name, "")?;
            }
            Ok(builder.sign(&*ca)?.to_openssh()?)
        };
        signed().map_err(|e| ConfigProblem(e.to_string()))
    }

    /// Reads a certificate whose key the client has proven to have. russh has verified who signed what; here it is seen that it
    /// was we, and that all of it is understood and holds now.
    pub(crate) fn read(
        &self,
        certificate: &Certificate,
        peer: IpAddr,
        now: Timestamp,
    ) -> Result<Shown, NotTaken> {
        let blob = certificate.to_bytes()?;
        let fields = UserCertificate::parse(&blob)?;
        if fields.signature_key != self.0.public_key()?.to_bytes()? || certificate.verify_signature().is_err()
        {
            return Err(NotTaken::Stranger);
        }
        let now = u64::try_from(now.as_second()).map_err(|_| NotTaken::Time)?;
        if !fields.is_valid_at(now) {
            return Err(NotTaken::Time);
        }
        if fields.force_command.is_some() {
            return Err(NotTaken::Option("force-command"));
        }
        if fields.verify_required {
            return Err(NotTaken::Option("verify-required"));
        }
        if fields.source_address.is_some_and(|list| !is_among(list, peer)) {
            return Err(NotTaken::Source);
        }
        Ok(Shown {
            id: fields.key_id.to_owned(),
            principals: fields.principals.iter().map(|name| (*name).to_owned()).collect(),
            permits: Permits::of(&fields.extensions),
        })
    }
}

/// Whether an address is in a list of addresses and networks, as `source-address` has them. A list of which a part is not understood
/// has nobody in it.
fn is_among(list: &str, peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    let mut found = false;
    for part in list.split(',') {
        match contains(part, peer) {
            Some(has) => found |= has,
            None => return false,
        }
    }
    found
}

fn contains(network: &str, peer: IpAddr) -> Option<bool> {
    let (address, prefix) = match network.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse::<u32>().ok()?)),
        None => (network, None),
    };
    // What is shifted out whole is equal.
    match (address.parse::<IpAddr>().ok()?, peer) {
        (IpAddr::V4(network), IpAddr::V4(peer)) => {
            let rest = 32_u32.checked_sub(prefix.unwrap_or(32))?;
            let differs = u32::from(network) ^ u32::from(peer);
            Some(differs.checked_shr(rest).unwrap_or(0) == 0)
        }
        (IpAddr::V6(network), IpAddr::V6(peer)) => {
            let rest = 128_u32.checked_sub(prefix.unwrap_or(128))?;
            let differs = u128::from(network) ^ u128::from(peer);
            Some(differs.checked_shr(rest).unwrap_or(0) == 0)
        }
        _ => Some(false),
    }
}

/// What is wrong with a key that is to prove somebody; `None`: nothing.
pub(crate) fn fault(key: &KeyData) -> Option<&'static str> {
    match key {
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) | KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => {
            None
        }
        KeyData::Rsa(rsa) if RSA.contains(&bits(rsa)) => None,
        KeyData::Rsa(_) => Some("an RSA key has 2048 to 16384 bits here"),
        // CVE-2025-49825
        KeyData::Certificate(_) => Some("a certificate is no key"),
        _ => Some("the key is of a type that is not taken; use Ed25519, ECDSA, or RSA"),
    }
}

/// The library counts whole bytes.
fn bits(key: &RsaPublicKey) -> u32 {
    let first = key.n().as_positive_bytes().and_then(|bytes| bytes.first());
    let unused = first.map_or(8, |byte| byte.leading_zeros());
    key.key_size().saturating_sub(unused)
}

/// A public key in a line of text, if it can prove somebody.
pub(crate) fn read_key(text: &str) -> Result<PublicKey, ConfigProblem> {
    let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
    let wrong = |what: &str| ConfigProblem(format!("the public key: {what}"));
    if lines != 1 || text.contains("PRIVATE KEY") {
        return Err(wrong("one line is expected, as in ~/.ssh/id_ed25519.pub"));
    }
    let key = PublicKey::from_openssh(text.trim()).map_err(|e| wrong(&e.to_string()))?;
    match fault(key.key_data()) {
        None => Ok(key),
        Some(fault) => Err(wrong(fault)),
    }
}

/// As `ssh-keygen -l` prints it.
pub(crate) fn fingerprint(key: &KeyData) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

#[cfg(test)]
mod tests;
