//! Whom a target must prove to be: one of pinned keys, or a host whom a certificate authority vouches for.

use gateway_core::adapter::ConfigProblem;
use jiff::Timestamp;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, EcdsaCurve, HashAlg, PublicKey, PublicKeyOrCertificate};

/// How a line begins whose key signs host keys, as in `known_hosts` (sshd(8)).
const AUTHORITY: &str = "@cert-authority";

/// The keys of which a target must show one, and the authorities one of which must have signed its certificate.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostTrust {
    keys: Vec<PublicKey>,
    authorities: Vec<PublicKey>,
}

/// Why what a target shows is not trusted. For operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mistrusted {
    /// A key that is not pinned.
    #[error("{0}, which is not pinned")]
    Key(String),
    /// A certificate for users.
    #[error("a certificate that is none of a host")]
    Kind,
    /// Signed by somebody else.
    #[error("a host certificate that {0} has signed, whom nobody named")]
    Authority(String),
    /// The signature is not that of the authority, or of a kind that proves nothing any more.
    #[error("a host certificate whose signature is wrong")]
    Signature,
    /// Not valid yet, or no longer.
    #[error("a host certificate that is not valid now")]
    Time,
    /// It is another host's, or nobody's.
    #[error("a host certificate that does not name `{0}`")]
    Name(String),
    /// It has options, and there are none for hosts.
    #[error("a host certificate with critical options")]
    Options,
}

impl HostTrust {
    /// Reads lines like `ssh-ed25519 AAAA...` and `@cert-authority ssh-ed25519 AAAA...`.
    pub(crate) fn read(lines: &[String]) -> Result<Self, ConfigProblem> {
        let mut trust = Self::default();
        for line in lines {
            let line = line.trim();
            let (list, key) = match line.strip_prefix(AUTHORITY) {
                Some(key) => (&mut trust.authorities, key.trim()),
                None => (&mut trust.keys, line),
            };
            let key = PublicKey::from_openssh(key).map_err(|e| {
                ConfigProblem(format!(
                    "host_key: neither `ssh-ed25519 AAAA...` nor `{AUTHORITY} ssh-ed25519 AAAA...` (without names of hosts): {e}"
                ))
            })?;
            list.push(key);
        }
        if trust.keys.is_empty() && trust.authorities.is_empty() {
            return Err(ConfigProblem(
                "host_key: at least one; without one nobody knows whom sessions would reach".to_owned(),
            ));
        }
        Ok(trust)
    }

    /// The kinds of keys that are asked for: only those of the pinned ones, or a target with several would show another one of its own.
    pub(crate) fn kinds(&self) -> Vec<Algorithm> {
        let mut kinds: Vec<Algorithm> = Vec::new();
        for key in &self.keys {
            match key.algorithm() {
                Algorithm::Rsa { .. } => kinds.extend(rsa()),
                kind => kinds.push(kind),
            }
        }
        kinds
    }

    /// The kinds of certified keys that are asked for: an authority may sign keys of another kind than its own.
    pub(crate) fn certified_kinds(&self) -> Vec<Algorithm> {
        if self.authorities.is_empty() {
            return Vec::new();
        }
        let curves = [EcdsaCurve::NistP256, EcdsaCurve::NistP384, EcdsaCurve::NistP521];
        let curves = curves.map(|curve| Algorithm::Ecdsa { curve });
        [Algorithm::Ed25519]
            .into_iter()
            .chain(curves)
            .chain(rsa())
            .collect()
    }

    /// Whether what `host` shows at `now` proves that it is the one. That it has the private key is proved elsewhere, by the
    /// signature of the key exchange.
    pub(crate) fn check(
        &self,
        shown: &PublicKeyOrCertificate,
        host: &str,
        now: Timestamp,
    ) -> Result<(), Mistrusted> {
        match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                match self.keys.iter().any(|pinned| pinned.key_data() == key.key_data()) {
                    true => Ok(()),
                    false => Err(Mistrusted::Key(key.fingerprint(HashAlg::Sha256).to_string())),
                }
            }
            PublicKeyOrCertificate::Certificate(certificate) => self.vouched(certificate, host, now),
        }
    }

    /// PROTOCOL.certkeys, and stricter: a certificate without names is nobody's, and a name stands for itself alone.
    fn vouched(&self, certificate: &Certificate, host: &str, now: Timestamp) -> Result<(), Mistrusted> {
        if certificate.cert_type() != CertType::Host {
            return Err(Mistrusted::Kind);
        }
        let signed_by = certificate.signature_key();
        if !self
            .authorities
            .iter()
            .any(|authority| authority.key_data() == signed_by)
        {
            let by = signed_by.fingerprint(HashAlg::Sha256).to_string();
            return Err(Mistrusted::Authority(by));
        }
        // SHA-1 proves nothing.
        if matches!(certificate.signature().algorithm(), Algorithm::Rsa { hash: None }) {
            return Err(Mistrusted::Signature);
        }
        certificate
            .verify_signature()
            .map_err(|_| Mistrusted::Signature)?;
        let now = u64::try_from(now.as_second()).map_err(|_| Mistrusted::Time)?;
        if now < certificate.valid_after() || now >= certificate.valid_before() {
            return Err(Mistrusted::Time);
        }
        if !certificate.critical_options().is_empty() {
            return Err(Mistrusted::Options);
        }
        let named = certificate.valid_principals();
        if !named.iter().any(|name| name.eq_ignore_ascii_case(host)) {
            return Err(Mistrusted::Name(host.to_owned()));
        }
        Ok(())
    }
}

fn rsa() -> [Algorithm; 2] {
    [HashAlg::Sha512, HashAlg::Sha256].map(|hash| Algorithm::Rsa { hash: Some(hash) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use russh::keys::PrivateKey;
    use russh::keys::ssh_key::certificate::Builder;

    fn key() -> PrivateKey {
        PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000).unwrap()
    }

    fn certificate(
        by: &PrivateKey,
        change: impl FnOnce(&mut Builder),
        kind: CertType,
    ) -> PublicKeyOrCertificate {
        let public = key().public_key().clone();
        let mut builder = Builder::new([7; 16], public, 999_000, 1_001_000).unwrap();
        builder.cert_type(kind).unwrap();
        change(&mut builder);
        PublicKeyOrCertificate::Certificate(builder.sign(by).unwrap())
    }

    fn line(key: &PrivateKey) -> String {
        format!("@cert-authority {}", key.public_key().to_openssh().unwrap())
    }

    fn named(builder: &mut Builder) {
        builder.valid_principal("Web-1.example").unwrap();
    }

    #[test]
    fn a_host_is_who_its_authority_says_and_nobody_else() {
        let (ours, other) = (key(), key());
        let trust = HostTrust::read(&[line(&ours)]).unwrap();
        let check = |shown: &PublicKeyOrCertificate, host: &str, at: i64| {
            trust.check(shown, host, Timestamp::from_second(at).unwrap())
        };
        let good = certificate(&ours, named, CertType::Host);
        assert_eq!(check(&good, "web-1.example", 1_000_000), Ok(()));
        let name = |host: &str| Err(Mistrusted::Name(host.to_owned()));
        assert_eq!(check(&good, "web-2.example", 1_000_000), name("web-2.example"));
        for outside in [998_999, 1_001_000] {
            assert_eq!(check(&good, "web-1.example", outside), Err(Mistrusted::Time));
        }
        let user = certificate(&ours, named, CertType::User);
        assert_eq!(check(&user, "web-1.example", 1_000_000), Err(Mistrusted::Kind));
        let theirs = certificate(&other, named, CertType::Host);
        assert!(matches!(
            check(&theirs, "web-1.example", 1_000_000),
            Err(Mistrusted::Authority(_))
        ));
        // The authority's own key, shown bare, is no host's.
        let bare = PublicKeyOrCertificate::from(ours.public_key().clone());
        assert!(matches!(
            check(&bare, "web-1.example", 1_000_000),
            Err(Mistrusted::Key(_))
        ));
    }

    #[test]
    fn a_certificate_that_names_nobody_any_pattern_or_options_is_refused() {
        let ours = key();
        let trust = HostTrust::read(&[line(&ours)]).unwrap();
        let check = |shown: &PublicKeyOrCertificate| trust.check(shown, "web-1.example", now());
        let nobody = |builder: &mut Builder| drop(builder.all_principals_valid().map(drop));
        let pattern = |builder: &mut Builder| drop(builder.valid_principal("*.example").map(drop));
        let options = |builder: &mut Builder| {
            named(builder);
            builder.critical_option("force-command", "true").unwrap();
        };
        for odd in [
            certificate(&ours, nobody, CertType::Host),
            certificate(&ours, pattern, CertType::Host),
        ] {
            assert!(matches!(check(&odd), Err(Mistrusted::Name(_))));
        }
        assert_eq!(
            check(&certificate(&ours, options, CertType::Host)),
            Err(Mistrusted::Options)
        );
    }

    #[test]
    fn a_forged_host_certificate_is_refused() {
        let ours = key();
        let trust = HostTrust::read(&[line(&ours)]).unwrap();
        let PublicKeyOrCertificate::Certificate(good) = certificate(&ours, named, CertType::Host) else {
            panic!("a certificate")
        };
        let bytes = good.to_bytes().unwrap();
        let name = b"Web-1.example";
        let at = bytes.windows(name.len()).position(|part| part == name).unwrap();
        let mut forged = bytes.clone();
        forged[at..at + name.len()].copy_from_slice(b"web-2.example");
        let forged = PublicKeyOrCertificate::Certificate(Certificate::from_bytes(&forged).unwrap());
        assert_eq!(
            trust.check(&forged, "web-2.example", now()),
            Err(Mistrusted::Signature)
        );
    }

    #[test]
    fn lines_are_keys_or_authorities_without_names() {
        let text = key().public_key().to_openssh().unwrap();
        let both = HostTrust::read(&[text.clone(), format!("@cert-authority  {text}")]).unwrap();
        assert_eq!((both.keys.len(), both.authorities.len()), (1, 1));
        assert!(HostTrust::read(&[]).is_err());
        for bad in [
            "ssh-ed25519 xx".to_owned(),
            format!("@cert-authority *.example {text}"),
            format!("@revoked {text}"),
        ] {
            assert!(HostTrust::read(std::slice::from_ref(&bad)).is_err(), "{bad}");
        }
        assert!(HostTrust::read(&[text]).unwrap().certified_kinds().is_empty());
    }
}
