//! TLS towards targets.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, SignatureScheme};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use super::{TlsError, install_provider, read_chain, read_key};
use crate::transport::Transport;

/// How a target is verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetTlsMode {
    /// No TLS.
    Disable,
    /// Encrypted, whoever is at the other end: safe from who listens, not from who answers in the target's place.
    Require,
    /// The certificate must be signed by a trusted CA, for whatever name.
    VerifyCa,
    /// The certificate must be good for the name that is dialled.
    #[default]
    VerifyFull,
}

impl TargetTlsMode {
    /// Whether the other end has shown that it is one that is trusted.
    pub fn is_verified(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }
}

/// What TLS towards a target is made of.
#[derive(Debug, Clone, Copy, Default)]
pub struct TargetTls<'a> {
    /// How the target is verified; [`TargetTlsMode::Disable`] is refused here.
    pub mode: TargetTlsMode,
    /// PEM file of the CAs that are trusted; without it the system's.
    pub ca: Option<&'a Path>,
    /// PEM chain of the certificate that is shown to the target, where it asks for one.
    pub cert: Option<&'a Path>,
    /// PEM key that belongs to `cert`.
    pub key: Option<&'a Path>,
    /// What is offered as application protocol (ALPN).
    pub protocols: &'a [&'a [u8]],
}

/// TLS towards a target.
#[derive(Clone)]
pub struct ClientTls {
    connector: tokio_rustls::TlsConnector,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientTls")
    }
}

impl ClientTls {
    /// Reads certificates and keys.
    pub fn new(target: TargetTls<'_>) -> Result<Self, TlsError> {
        install_provider();
        let config = rustls::ClientConfig::builder();
        let dangerous = |roots| {
            let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
            Arc::new(AnyName { roots, algorithms })
        };
        let config = match (target.mode, target.ca) {
            (TargetTlsMode::Disable, _) => return Err(TlsError::Disabled),
            (TargetTlsMode::Require, Some(_)) => return Err(TlsError::CaUnused),
            (TargetTlsMode::Require, None) => config
                .dangerous()
                .with_custom_certificate_verifier(dangerous(None)),
            (TargetTlsMode::VerifyCa, ca) => config
                .dangerous()
                .with_custom_certificate_verifier(dangerous(Some(trusted(ca)?))),
            (TargetTlsMode::VerifyFull, ca) => config.with_root_certificates(trusted(ca)?),
        };
        let mut config = match (target.cert, target.key) {
            (Some(cert), Some(key)) => config.with_client_auth_cert(read_chain(cert)?, read_key(key)?)?,
            (None, None) => config.with_no_client_auth(),
            _ => return Err(TlsError::HalfClient),
        };
        config.alpn_protocols = target.protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Self {
            connector: tokio_rustls::TlsConnector::from(Arc::new(config)),
        })
    }

    /// The client's side of a handshake with `host`.
    pub async fn connect(&self, host: &str, tcp: TcpStream) -> std::io::Result<Transport> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidInput, e))?;
        Ok(Transport::ClientTls(Box::new(
            self.connector.connect(name, tcp).await?,
        )))
    }
}

fn trusted(ca: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in read_chain(path)? {
                roots.add(certificate)?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = roots.add_parsable_certificates(found.certs);
            if added == 0 {
                return Err(TlsError::Ca(
                    "the system has no CA certificates; name a file with `ca = \"...\"`".to_owned(),
                ));
            }
        }
    }
    Ok(roots)
}

/// Takes a certificate for whatever name: signed by one of `roots`, or by anybody where there are none. That the
/// target has the certificate's key is always asked.
#[derive(Debug)]
struct AnyName {
    roots: Option<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let all = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, all)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
