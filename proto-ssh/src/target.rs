//! The gateway's side towards a target: an SSH connection whose host key is pinned, one for each channel of a client.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::credentials::{CredentialError, Lease};
use gateway_core::gateway::Gateway;
use gateway_core::resource::Resource;
use jiff::Timestamp;
use parking_lot::Mutex;
use russh::client::{self, KeyboardInteractiveAuthResponse};
use russh::keys::{Algorithm, Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg};
use russh::{Preferred, SshId};
use tokio::sync::mpsc;

use crate::authority::{Authority, Granted, NoCertificate};
use crate::config::{ResourceSettings, host_and_port};
use crate::credentials::Certified;
use crate::flow::{EndOnDrop, Flow, Gated};
use crate::host_trust::HostTrust;
use crate::pipe::Pipe;

mod callbacks;
mod doors;

use callbacks::Callbacks;
pub(crate) use callbacks::{Accepts, Offer, Offered};
pub(crate) use doors::Doors;

/// What can lie ahead of a window adjustment while the connection is not read.
const WINDOW: u32 = 512 << 10;
/// Queued bytes at which the connection is slowed.
const LIMIT: usize = 1 << 20;
/// What may be read above, to find the window adjustment that an upload waits for.
pub(crate) const MARGIN: usize = 4 << 20;
/// Rounds of questions that a target may ask at its login.
const ROUNDS: usize = 4;
/// How long one waits that was dropped at the door.
const PAUSES: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(1200)];
/// Channels that a target may have opened and nobody has taken up.
const OFFERED: usize = 16;

/// Why a target was not reached. For operators: clients are told no more than that it was not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    /// Nobody answers.
    #[error("cannot be reached: {0}")]
    Io(#[from] std::io::Error),
    /// Somebody else answers.
    #[error("does not prove to be who it should: it shows {0}")]
    HostKey(String),
    /// It, or the way to it, does not keep to the protocol.
    #[error("SSH failed: {0}")]
    Ssh(#[from] russh::Error),
    /// No credential.
    #[error("no credential: {0}")]
    Credential(#[from] CredentialError),
    /// A key that can't be read.
    #[error("the private key can't be used: {0}")]
    Key(String),
    /// No certificate.
    #[error("no certificate: {0}")]
    Certificate(#[from] NoCertificate),
    /// The login that is asked for is not the credential's.
    #[error("the credential is for another login")]
    OtherLogin,
    /// It does not let the gateway in.
    #[error("refuses the gateway's login")]
    Login,
    /// It can't say where a path leads.
    #[error("a path could not be resolved: {0}")]
    Path(String),
    /// It took too long.
    #[error("did not answer in time")]
    Time,
}

/// Who a gateway is to a target.
pub(crate) enum Proof {
    /// A key.
    Key(Arc<PrivateKey>),
    /// A key that a certificate speaks for.
    Certificate(Arc<PrivateKey>, Box<Certificate>),
    /// A password.
    Password(gateway_core::secret::Secret),
}

/// The setting of a static credential that holds a private key.
pub(crate) const PRIVATE_KEY: &str = "private_key";

/// What a connection is to be.
pub(crate) struct Asked<'a> {
    /// Who certifies, where somebody must.
    pub(crate) authority: &'a Authority,
    /// The login.
    pub(crate) login: &'a str,
    /// Who it is for, in the target's log.
    pub(crate) key_id: &'a str,
    /// What it may.
    pub(crate) granted: &'a Granted,
    /// When this is.
    pub(crate) now: Timestamp,
}

impl Proof {
    /// What proves the login of a lease.
    pub(crate) fn of(resource: &Resource, lease: &Lease, asked: &Asked<'_>) -> Result<Self, Unreachable> {
        if lease.username != asked.login {
            return Err(Unreachable::OtherLogin);
        }
        let Some(certified) = Certified::of(&resource.credential) else {
            return fixed(resource, lease);
        };
        let certified = certified.map_err(NoCertificate::Key)?;
        let (key, certificate) =
            asked
                .authority
                .issue(&certified, asked.login, asked.key_id, asked.granted, asked.now)?;
        tracing::debug!(
            key_id = asked.key_id,
            serial = certificate.serial(),
            "a user certificate is issued"
        );
        Ok(Self::Certificate(key, Box::new(certificate)))
    }
}

/// A lease has one secret, and the resource says what it is.
fn fixed(resource: &Resource, lease: &Lease) -> Result<Proof, Unreachable> {
    let Some(secret) = &lease.password else {
        return Err(Unreachable::Key(
            "the credential has neither key nor password".to_owned(),
        ));
    };
    if !resource.credential.settings.contains_key(PRIVATE_KEY) {
        return Ok(Proof::Password(secret.clone()));
    }
    // What is wrong with a key must not tell what is in it.
    let key = PrivateKey::from_openssh(with_line_end(secret.expose()).as_bytes())
        .or_else(|_| russh::keys::decode_secret_key(secret.expose(), None))
        .map_err(|_| Unreachable::Key("it is no OpenSSH, PKCS#8 or PKCS#1 private key".to_owned()))?;
    if key.is_encrypted() {
        return Err(Unreachable::Key("it has a passphrase".to_owned()));
    }
    Ok(Proof::Key(Arc::new(key)))
}

/// A key's last line has an end, which secrets lose.
fn with_line_end(text: &str) -> zeroize::Zeroizing<String> {
    zeroize::Zeroizing::new(format!("{}\n", text.trim_end()))
}

/// A connection to a target, logged in. It ends when this is dropped.
pub(crate) struct Target {
    /// To open channels with.
    pub(crate) handle: client::Handle<Callbacks>,
    /// What comes on the channel that is opened first.
    pub(crate) down: Arc<Pipe>,
    /// Its brake.
    pub(crate) flow: Arc<Flow>,
    /// Channels that the target opens.
    pub(crate) offers: mpsc::Receiver<Offer>,
    _end: EndOnDrop,
}

impl Target {
    /// Reaches a target, within the limit for that, and goes away before its login.
    pub(crate) async fn greet(
        gateway: &Gateway,
        resource: &Resource,
        settings: &ResourceSettings,
        doors: &Doors,
    ) -> Result<(), Unreachable> {
        let greeted = Self::connect(resource, settings, gateway.now(), Accepts::default(), doors);
        tokio::time::timeout(gateway.limits().connect, greeted)
            .await
            .unwrap_or(Err(Unreachable::Time))
            .map(drop)
    }

    /// Reaches a target and logs in there as `login`, within the limit for both, once it is its turn. One that is dropped at
    /// the door, as OpenSSH's server does where too many are there, tries again.
    pub(crate) async fn reach(
        gateway: &Gateway,
        resource: &Resource,
        settings: &ResourceSettings,
        login: &str,
        proof: &Proof,
        accepts: Accepts,
        doors: &Doors,
    ) -> Result<Self, Unreachable> {
        let limit = gateway.limits().connect;
        let turn = tokio::time::timeout(limit, doors.turn(&resource.address)).await;
        let _turn = turn.map_err(|_| Unreachable::Time)?;
        let reached = async {
            let mut pauses = PAUSES.iter();
            let mut target = loop {
                match Self::connect(resource, settings, gateway.now(), accepts, doors).await {
                    Err(Unreachable::Ssh(error)) if is_drop(&error) => match pauses.next() {
                        Some(pause) => tokio::time::sleep(*pause).await,
                        None => return Err(error.into()),
                    },
                    connected => break connected?,
                }
            };
            log_in(&mut target.handle, login, proof).await?;
            Ok(target)
        };
        tokio::time::timeout(limit, reached)
            .await
            .unwrap_or(Err(Unreachable::Time))
    }

    /// What this gives has not logged in yet.
    async fn connect(
        resource: &Resource,
        settings: &ResourceSettings,
        now: Timestamp,
        accepts: Accepts,
        doors: &Doors,
    ) -> Result<Self, Unreachable> {
        let Some((host, port)) = host_and_port(&resource.address) else {
            return Err(std::io::Error::from(std::io::ErrorKind::InvalidInput).into());
        };
        let way = doors.dial().dial(host, port).await?;
        let flow = Flow::new(LIMIT);
        let end = EndOnDrop(flow.clone());
        let (down, shown) = (Pipe::new(flow.clone()), Arc::new(Mutex::new(None)));
        let (offer, offers) = mpsc::channel(OFFERED);
        let callbacks = Callbacks {
            down: down.clone(),
            flow: flow.clone(),
            trust: settings.trust.clone(),
            host: host.to_owned(),
            now,
            shown: shown.clone(),
            others: HashMap::new(),
            accepts,
            offers: offer,
        };
        let config = Arc::new(config(&settings.trust));
        let connected = client::connect_stream(config, Gated::new(way, flow.clone()), callbacks).await;
        let handle = match connected {
            Ok(handle) => handle,
            Err(error) => {
                let shown = shown.lock().take();
                return Err(shown.map_or(Unreachable::Ssh(error), Unreachable::HostKey));
            }
        };
        Ok(Self {
            handle,
            down,
            flow,
            offers,
            _end: end,
        })
    }
}

/// Whether the target closed the connection before it said anything.
fn is_drop(error: &russh::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    match error {
        russh::Error::Disconnect | russh::Error::HUP => true,
        russh::Error::IO(error) => matches!(error.kind(), ConnectionReset | UnexpectedEof | BrokenPipe),
        _ => false,
    }
}

fn config(trust: &HostTrust) -> client::Config {
    client::Config {
        client_id: SshId::Standard(Cow::Borrowed("SSH-2.0-gateway")),
        window_size: WINDOW,
        preferred: Preferred {
            key: Cow::Owned(trust.kinds()),
            host_key_certificates: Cow::Owned(trust.certified_kinds()),
            compression: Cow::Borrowed(&[russh::compression::NONE]),
            cipher: crate::ciphers::to_targets(),
            ..Preferred::DEFAULT
        },
        keepalive_interval: Some(Duration::from_secs(60)),
        keepalive_max: 5,
        ..client::Config::default()
    }
}

async fn log_in(
    handle: &mut client::Handle<Callbacks>,
    login: &str,
    proof: &Proof,
) -> Result<(), Unreachable> {
    let done = match proof {
        Proof::Key(key) => {
            let hash = match key.algorithm() {
                Algorithm::Rsa { .. } => handle
                    .best_supported_rsa_hash()
                    .await?
                    .flatten()
                    .or(Some(HashAlg::Sha256)),
                _ => None,
            };
            let key = PrivateKeyWithHashAlg::new(key.clone(), hash);
            handle.authenticate_publickey(login, key).await?.success()
        }
        Proof::Certificate(key, certificate) => handle
            .authenticate_openssh_cert(login, key.clone(), certificate.as_ref().clone())
            .await?
            .success(),
        Proof::Password(password) => {
            handle
                .authenticate_password(login, password.expose())
                .await?
                .success()
                || answer(handle, login, password.expose()).await?
        }
    };
    if done { Ok(()) } else { Err(Unreachable::Login) }
}

/// The password as the answer to each hidden question (RFC 4256), for targets that ask for it so.
async fn answer(
    handle: &mut client::Handle<Callbacks>,
    login: &str,
    password: &str,
) -> Result<bool, Unreachable> {
    let mut asked = handle
        .authenticate_keyboard_interactive_start(login, None::<String>)
        .await?;
    for _ in 0..ROUNDS {
        match asked {
            KeyboardInteractiveAuthResponse::Success => return Ok(true),
            KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(false),
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => {
                if prompts.len() > 1 || prompts.iter().any(|prompt| prompt.echo) {
                    return Ok(false);
                }
                let answers = prompts.iter().map(|_| password.to_owned()).collect();
                asked = handle.authenticate_keyboard_interactive_respond(answers).await?;
            }
        }
    }
    Ok(false)
}
