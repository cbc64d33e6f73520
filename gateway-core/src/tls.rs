//! TLS towards clients (a certificate of one's own, or a private CA made at first start) and towards targets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use crate::sealing::Sealing;
use crate::transport::Transport;
use crate::whole;

mod end_point;
mod target;

pub use end_point::server_end_point;
pub use target::{ClientTls, TargetTls, TargetTlsMode};

/// `[tls] require`: for whom TLS is a must.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsRequire {
    /// For all but clients on loopback.
    #[default]
    Remote,
    /// For everyone.
    Always,
}

/// `[tls]` of the configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM chain of the gateway's certificate; absent: the private CA signs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// PEM key that belongs to `cert`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Names in the private CA's certificate, beside localhost, 127.0.0.1, ::1 and the host name.
    pub names: Vec<String>,
    /// For whom TLS is a must.
    pub require: TlsRequire,
}

/// What is wrong with certificates or keys.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("`{path}`: {why}")]
    File {
        /// Which.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// Only one of `cert` and `key` is there.
    #[error("`tls.cert` and `tls.key` go together: give both, or neither for the private CA")]
    Half,
    /// Only one of a target's `cert` and `key` is there.
    #[error("`cert` and `key` go together: give both, or neither where the target asks for no certificate")]
    HalfClient,
    /// A target's `ca` that nothing is verified with.
    #[error(
        "`ca` is not looked at with `tls = \"require\"`; use `verify-ca` or `verify-full`, or leave `ca` out"
    )]
    CaUnused,
    /// TLS where there is to be none.
    #[error("TLS is disabled for this target")]
    Disabled,
    /// Making a certificate failed.
    #[error("the private CA cannot sign: {0}")]
    Ca(String),
    /// rustls refuses it.
    #[error("the certificate can't be used: {0}")]
    Rustls(#[from] rustls::Error),
}

fn file_error(path: &Path, why: impl ToString) -> TlsError {
    TlsError::File {
        path: path.display().to_string(),
        why: why.to_string(),
    }
}

/// Makes aws-lc the process's one TLS provider; call it first. Later calls do nothing.
pub fn install_provider() {
    // An `Err` means that a provider is installed already, which is what we want.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// TLS towards clients; the certificate can be replaced while connections are open.
pub struct ServerTls {
    config: TlsConfig,
    data_dir: PathBuf,
    sealing: Arc<Sealing>,
    current: ArcSwap<Current>,
}

/// A certificate in force.
struct Current {
    config: Arc<rustls::ServerConfig>,
    end_point: Option<Arc<[u8]>>,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Loads the certificate, or makes the private CA (`data_dir/ca.crt`, `ca.key`) and has it sign one.
    pub fn open(config: TlsConfig, data_dir: &Path) -> Result<Self, TlsError> {
        Self::open_sealed(config, data_dir, Arc::default())
    }

    /// The same, with the private CA's key kept sealed.
    pub fn open_sealed(config: TlsConfig, data_dir: &Path, sealing: Arc<Sealing>) -> Result<Self, TlsError> {
        install_provider();
        let current = ArcSwap::from_pointee(Self::load(&config, data_dir, &sealing)?);
        Ok(Self {
            config,
            data_dir: data_dir.to_owned(),
            sealing,
            current,
        })
    }

    /// Loads the certificate again; on an error the old one stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current
            .store(Arc::new(Self::load(&self.config, &self.data_dir, &self.sealing)?));
        Ok(())
    }

    fn load(config: &TlsConfig, data_dir: &Path, sealing: &Sealing) -> Result<Current, TlsError> {
        let (chain, key) = match (&config.cert, &config.key) {
            (Some(cert), Some(key)) => (read_chain(cert)?, read_key(key)?),
            (None, None) => PrivateCa::open(data_dir, sealing)?.sign_server(&config.names)?,
            _ => return Err(TlsError::Half),
        };
        let end_point = chain.first().and_then(|leaf| server_end_point(leaf));
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(Current {
            config: Arc::new(config),
            end_point: end_point.map(Arc::from),
        })
    }

    /// The configuration in force.
    pub fn current(&self) -> Arc<rustls::ServerConfig> {
        self.current.load().config.clone()
    }

    /// The server's side of a handshake. The caller holds the deadline.
    ///
    /// A client that offers application protocols (ALPN), and none of `protocols`, is refused; one that offers none
    /// is not: [`Transport::alpn`] tells. Where `protocols` is empty nobody is asked.
    pub async fn accept(&self, tcp: TcpStream, protocols: &[&[u8]]) -> std::io::Result<Transport> {
        let current = self.current.load_full();
        let mut config = current.config.clone();
        if !protocols.is_empty() {
            Arc::make_mut(&mut config).alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        }
        let stream = tokio_rustls::TlsAcceptor::from(config).accept(tcp).await?;
        Ok(Transport::ServerTls {
            stream: Box::new(stream),
            end_point: current.end_point.clone(),
        })
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|e| file_error(path, e))?
        .collect::<Result<_, _>>()
        .map_err(|e| file_error(path, e))?;
    if chain.is_empty() {
        Err(file_error(path, "has no certificate"))
    } else {
        Ok(chain)
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| file_error(path, e))
}

/// The gateway's private CA.
struct PrivateCa {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl PrivateCa {
    fn params() -> CertificateParams {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "gateway private CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let now = jiff::Timestamp::now();
        set_validity(&mut params, now, 3650);
        params
    }

    fn open(data_dir: &Path, sealing: &Sealing) -> Result<Self, TlsError> {
        let (cert_path, key_path) = (data_dir.join("ca.crt"), data_dir.join("ca.key"));
        let ca = |e: rcgen::Error| TlsError::Ca(e.to_string());
        if !key_path.exists() {
            let key = KeyPair::generate().map_err(ca)?;
            let certificate = Self::params().self_signed(&key).map_err(ca)?;
            std::fs::create_dir_all(data_dir).map_err(|e| file_error(data_dir, e))?;
            let pem = certificate.pem();
            whole::replace(&cert_path, pem.as_bytes(), 0o644).map_err(|e| file_error(&cert_path, e))?;
            // The key last: where it is, the certificate is complete.
            let pem = Zeroizing::new(key.serialize_pem());
            let made = sealing.for_file(&key_path, pem.as_bytes());
            made.and_then(|made| whole::replace(&key_path, &made, whole::PRIVATE))
                .map_err(|e| file_error(&key_path, e))?;
        }
        let pem = sealing
            .read_file(&key_path)
            .map_err(|e| file_error(&key_path, e))?;
        let pem = pem.ok_or_else(|| file_error(&key_path, "is gone"))?;
        let pem = std::str::from_utf8(&pem).map_err(|_| file_error(&key_path, "is no PEM"))?;
        let key = KeyPair::from_pem(pem).map_err(|e| file_error(&key_path, e))?;
        let certificate = CertificateDer::from_pem_file(&cert_path).map_err(|e| file_error(&cert_path, e))?;
        Ok(Self {
            certificate,
            issuer: Issuer::new(Self::params(), key),
        })
    }

    fn sign_server(
        &self,
        names: &[String],
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let ca = |e: rcgen::Error| TlsError::Ca(e.to_string());
        let mut all = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim();
        if !host.is_empty() && host.is_ascii() {
            all.push(host.to_owned());
        }
        all.extend(names.iter().cloned());
        let mut params = CertificateParams::new(all).map_err(ca)?;
        params.distinguished_name.push(DnType::CommonName, "gateway");
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, jiff::Timestamp::now(), 397);
        let key = KeyPair::generate().map_err(ca)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(ca)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|e| TlsError::Ca(e.to_owned()))?;
        Ok((vec![certificate.der().clone(), self.certificate.clone()], key))
    }
}

/// From yesterday (clocks differ) for `days`.
fn set_validity(params: &mut CertificateParams, now: jiff::Timestamp, days: i64) {
    let date = |offset: i64| {
        let at = now.saturating_add(jiff::SignedDuration::from_hours(offset.saturating_mul(24)));
        let at = jiff::tz::TimeZone::UTC.to_datetime(at.unwrap_or(now));
        let (month, day) = (
            u8::try_from(at.month()).unwrap_or(1),
            u8::try_from(at.day()).unwrap_or(1),
        );
        rcgen::date_time_ymd(i32::from(at.year()), month, day)
    };
    params.not_before = date(-1);
    params.not_after = date(days);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_private_ca_signs_what_a_client_that_trusts_it_accepts() {
        let dir = tempfile::tempdir().unwrap();
        let config = TlsConfig {
            names: vec!["gw.example".into()],
            ..TlsConfig::default()
        };
        let server = Arc::new(ServerTls::open(config.clone(), dir.path()).unwrap());
        // A restart keeps the CA.
        let before = std::fs::read(dir.path().join("ca.crt")).unwrap();
        ServerTls::open(config, dir.path()).unwrap();
        assert_eq!(before, std::fs::read(dir.path().join("ca.crt")).unwrap());
        let ca = dir.path().join("ca.crt");
        let client = ClientTls::new(TargetTls {
            ca: Some(&ca),
            ..TargetTls::default()
        })
        .unwrap();
        for (host, good) in [
            ("localhost", true),
            ("gw.example", true),
            ("127.0.0.1", true),
            ("evil.example", false),
        ] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let accept = {
                let server = server.clone();
                tokio::spawn(async move {
                    server
                        .accept(listener.accept().await.unwrap().0, &[])
                        .await
                        .is_ok()
                })
            };
            let tcp = TcpStream::connect(address).await.unwrap();
            assert_eq!(client.connect(host, tcp).await.is_ok(), good, "{host}");
            assert_eq!(accept.await.unwrap(), good, "{host}");
        }
    }

    /// Both sides of a handshake over loopback.
    async fn handshake(
        server: &Arc<ServerTls>,
        offered: &[&[u8]],
        client: TargetTls<'_>,
        host: &str,
    ) -> (std::io::Result<Transport>, std::io::Result<Transport>) {
        let client = ClientTls::new(client).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accept = async { server.accept(listener.accept().await.unwrap().0, offered).await };
        let connect = async {
            let tcp = TcpStream::connect(address).await.unwrap();
            client.connect(host, tcp).await
        };
        tokio::join!(accept, connect)
    }

    fn server(dir: &tempfile::TempDir) -> Arc<ServerTls> {
        Arc::new(ServerTls::open(TlsConfig::default(), dir.path()).unwrap())
    }

    #[tokio::test]
    async fn each_mode_takes_what_it_says_and_no_more() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (ours_tls, theirs_tls) = (server(&ours), server(&theirs));
        let ca = ours.path().join("ca.crt");
        for (mode, ca, right, other_name, other_ca) in [
            (TargetTlsMode::Require, None, true, true, true),
            (TargetTlsMode::VerifyCa, Some(&*ca), true, true, false),
            (TargetTlsMode::VerifyFull, Some(&*ca), true, false, false),
        ] {
            let target = || TargetTls {
                mode,
                ca,
                ..TargetTls::default()
            };
            let taken = async |server, host| handshake(server, &[], target(), host).await.1.is_ok();
            assert_eq!(taken(&ours_tls, "localhost").await, right, "{mode:?}");
            assert_eq!(taken(&ours_tls, "evil.example").await, other_name, "{mode:?}");
            assert_eq!(taken(&theirs_tls, "localhost").await, other_ca, "{mode:?}");
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let path = Path::new("x");
        let new = |target| ClientTls::new(target).unwrap_err();
        let with = |mode| TargetTls {
            mode,
            ca: Some(path),
            ..TargetTls::default()
        };
        assert!(matches!(new(with(TargetTlsMode::Disable)), TlsError::Disabled));
        assert!(matches!(new(with(TargetTlsMode::Require)), TlsError::CaUnused));
        let half = TargetTls {
            mode: TargetTlsMode::Require,
            cert: Some(path),
            ..TargetTls::default()
        };
        assert!(matches!(new(half), TlsError::HalfClient));
        assert!(matches!(
            new(with(TargetTlsMode::VerifyCa)),
            TlsError::File { .. }
        ));
    }

    #[tokio::test]
    async fn both_sides_bind_to_the_same_certificate_and_know_their_protocol() {
        let dir = tempfile::tempdir().unwrap();
        let (server, ca) = (server(&dir), dir.path().join("ca.crt"));
        let target = |protocols| TargetTls {
            ca: Some(&ca),
            protocols,
            ..TargetTls::default()
        };
        let (accepted, connected) = handshake(&server, &[b"a"], target(&[b"b", b"a"]), "localhost").await;
        let (accepted, connected) = (accepted.unwrap(), connected.unwrap());
        assert_eq!(accepted.tls_server_end_point().unwrap().len(), 32);
        assert_eq!(accepted.tls_server_end_point(), connected.tls_server_end_point());
        assert_eq!(
            (accepted.alpn(), connected.alpn()),
            (Some(&b"a"[..]), Some(&b"a"[..]))
        );
        // No offer is no refusal; an offer of others alone is.
        let (accepted, _) = handshake(&server, &[b"a"], target(&[]), "localhost").await;
        assert_eq!(accepted.unwrap().alpn(), None);
        let (accepted, connected) = handshake(&server, &[b"a"], target(&[b"b"]), "localhost").await;
        assert!(accepted.is_err() && connected.is_err());
        // A certificate that was replaced meanwhile is not the one of this connection.
        let (before, _) = handshake(&server, &[], target(&[]), "localhost").await;
        server.reload().unwrap();
        let (after, _) = handshake(&server, &[], target(&[]), "localhost").await;
        assert_ne!(
            before.unwrap().tls_server_end_point(),
            after.unwrap().tls_server_end_point()
        );
    }

    #[test]
    fn a_key_without_a_certificate_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let config = TlsConfig {
            key: Some("x".into()),
            ..TlsConfig::default()
        };
        assert!(matches!(ServerTls::open(config, dir.path()), Err(TlsError::Half)));
    }
}
