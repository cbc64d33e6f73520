//! The keys that sign the trail: Ed25519, made at the first start, kept beside the trail, known outside by their public half.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::record;
use crate::sealing::Sealing;
use crate::whole;

/// What stands before the 32 bytes of a key in a SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
/// A public key that checks signatures of the trail. Its text, 64 lower-case hex digits, is also its id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AuditPublicKey([u8; 32]);

impl AuditPublicKey {
    /// Reads 64 hex digits, or PEM (`BEGIN PUBLIC KEY`).
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(key) = record::parse_hex(text.trim()) {
            return Some(Self(key));
        }
        let der = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes()).ok()?;
        let raw = der.as_ref().strip_prefix(SPKI.as_slice())?;
        Some(Self(raw.try_into().ok()?))
    }

    /// The key as `openssl` reads it.
    pub fn to_pem(&self) -> String {
        let mut der = SPKI.to_vec();
        der.extend_from_slice(&self.0);
        pem("PUBLIC KEY", &der).to_string()
    }

    /// Whether `signature` is this key's over `message`.
    pub(super) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(message, signature)
            .is_ok()
    }
}

impl fmt::Display for AuditPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&record::hex(&self.0))
    }
}

impl fmt::Debug for AuditPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditPublicKey({self})")
    }
}

impl TryFrom<String> for AuditPublicKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // In records only the one canonical form.
        record::parse_hex(&text)
            .map(Self)
            .ok_or("a key has 64 lower-case hex digits")
    }
}

impl From<AuditPublicKey> for String {
    fn from(key: AuditPublicKey) -> Self {
        key.to_string()
    }
}

/// The key that signs. `Debug` shows the public half only.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: AuditPublicKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public)
    }
}

impl SigningKey {
    /// A new key.
    fn generate() -> io::Result<Self> {
        Self::new(Ed25519KeyPair::generate().map_err(|_| io::Error::other("no key could be made"))?)
    }

    fn new(pair: Ed25519KeyPair) -> io::Result<Self> {
        let public = pair
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| io::Error::other("an Ed25519 key has 32 bytes"))?;
        Ok(Self {
            pair,
            public: AuditPublicKey(public),
        })
    }

    /// Reads the key in `path`, PKCS#8 in PEM, which may be sealed; `None` where there is no such file.
    pub fn read(path: &Path, sealing: &Sealing) -> io::Result<Option<Self>> {
        let Some(text) = sealing.read_file(path)? else {
            return Ok(None);
        };
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "it is no Ed25519 key (PKCS#8, PEM)");
        let der = PrivateKeyDer::from_pem_slice(&text).map_err(|_| bad())?;
        let pair = Ed25519KeyPair::from_pkcs8(der.secret_der()).map_err(|_| bad())?;
        Self::new(pair).map(Some)
    }

    /// Makes a key in `path`, which must not be there, for its owner only and durably.
    pub(super) fn create(path: &Path, sealing: &Sealing) -> io::Result<Self> {
        let key = Self::generate()?;
        let der: Pkcs8V1Der<'_> = key.pair.as_der().map_err(|_| io::Error::other("no PKCS#8"))?;
        let text = pem("PRIVATE KEY", der.as_ref());
        whole::create(path, &sealing.for_file(path, text.as_bytes())?)?;
        Ok(key)
    }

    /// Its public half.
    pub fn public(&self) -> AuditPublicKey {
        self.public
    }

    /// Signs `message`; 64 bytes.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

/// Where a key waits that is to follow the one in `path`.
pub(super) fn next_path(path: &Path) -> PathBuf {
    beside(path, "next")
}

/// Puts the key that waits in place of the one that it follows, durably.
pub(super) fn promote(path: &Path) -> io::Result<()> {
    std::fs::rename(next_path(path), path)?;
    whole::sync_directory(path)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

/// DER as PEM.
fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    let mut out = Zeroizing::new(format!("-----BEGIN {label}-----\n"));
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at_checked(64).unwrap_or((rest, ""));
        out.push_str(line);
        out.push('\n');
        rest = more;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_private_reads_back_and_does_not_print() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.key");
        assert!(SigningKey::read(&path, &Sealing::default()).unwrap().is_none());
        let key = SigningKey::create(&path, &Sealing::default()).unwrap();
        assert!(
            SigningKey::create(&path, &Sealing::default()).is_err(),
            "a key is never overwritten"
        );
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = SigningKey::read(&path, &Sealing::default()).unwrap().unwrap();
        assert_eq!(again.public(), key.public());
        let signature = again.sign(b"message");
        assert!(key.public().signed(b"message", &signature));
        assert!(!key.public().signed(b"massage", &signature));
        let other = SigningKey::generate().unwrap();
        assert!(!other.public().signed(b"message", &signature));
        let text = std::fs::read_to_string(&path).unwrap();
        let secret = text.lines().nth(1).unwrap();
        assert!(!format!("{key:?}").contains(secret));
        std::fs::write(&path, "no key").unwrap();
        assert!(SigningKey::read(&path, &Sealing::default()).is_err());
    }

    #[test]
    fn a_public_key_reads_back_from_hex_and_pem() {
        let key = SigningKey::generate().unwrap().public();
        assert_eq!(AuditPublicKey::parse(&key.to_string()), Some(key));
        assert_eq!(AuditPublicKey::parse(&key.to_pem()), Some(key));
        assert_eq!(AuditPublicKey::parse("x"), None);
        assert_eq!(AuditPublicKey::parse(&key.to_pem().replace("MCow", "MCox")), None);
    }
}
