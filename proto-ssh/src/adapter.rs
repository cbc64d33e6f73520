//! The adapter: connections become sessions, and end when they must.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use gateway_core::adapter::{
    Certified, ClientKey, ConfigProblem, Connection, NativeClient, ProtocolAdapter, Reach, ServeError,
};
use gateway_core::credentials::CredentialIssuer;
use gateway_core::gateway::Gateway;
use gateway_core::limits::Limits;
use gateway_core::machine::{End, Peer};
use gateway_core::meaning::Meaning;
use gateway_core::operation::Operation;
use gateway_core::policy::SchemaPart;
use gateway_core::resource::Resource;
use gateway_core::sealing::Sealing;
use russh::keys::{PrivateKey, PublicKey};
use russh::{Disconnect, MethodKind, MethodSet, Preferred, SshId, server};
use tokio::sync::oneshot;

use crate::authority::{Granted, USER_CA};
use crate::client::{Client, LIMIT, WINDOW};
use crate::config::{ResourceSettings, Section};
use crate::credentials::{CERTIFICATE, CertificateLogin, StaticLogin, logins, own_login};
use crate::dial::Dial;
use crate::flow::{EndOnDrop, Flow, Gated};
use crate::greeting::{Greeting, IDENTIFICATION};
use crate::inspect::{self, Look};
use crate::login::{Authorities, Login, OFFERS};
use crate::login_ca::{self, LOGIN_CA};
use crate::operations::Place;
use crate::session::Session;
use crate::target::{Accepts, Asked, Doors, Proof, Target};
use crate::{ciphers, key_file, native};

/// The adapter's name.
pub(crate) const PROTOCOL: &str = "ssh";
/// The host key's file in the data directory.
const HOST_KEY: &str = "ssh_host_ed25519_key";
/// What it is called in errors.
const HOST_KEY_NAME: &str = "SSH host key";
/// Tries of one connection to log in, keys that are offered among them; wrong proofs have a limit of their own.
const TRIES: usize = OFFERS + 6;
/// How long a refused try takes, whatever was wrong.
const REFUSAL: Duration = Duration::from_millis(500);
/// A client from which nothing has come for so long is asked whether it is there; after that often, it is not.
const KEEPALIVE: (Duration, usize) = (Duration::from_secs(60), 10);
/// A client that is not even heard of for so long is gone.
const SILENCE: Duration = Duration::from_secs(20 * 60);
/// A client that ignores its windows, and has sent more than is queued, is gone after so long.
const ABOVE: Duration = Duration::from_secs(20);
/// After its token has ended a connection is told so at its next request, for so long.
const AFTERWARDS: Duration = Duration::from_secs(60);
/// A goodbye must be taken within this time.
const GOODBYE: Duration = Duration::from_millis(300);
/// Within this time what was cut off is in the trail.
const SETTLED: Duration = Duration::from_secs(2);
/// How often limits of time are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The SSH adapter.
#[derive(Default)]
pub struct SshAdapter {
    section: Section,
    key: OnceLock<PrivateKey>,
    authorities: Arc<Authorities>,
}

impl std::fmt::Debug for SshAdapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SshAdapter")
    }
}

impl SshAdapter {
    /// An adapter that reaches targets in that way, in place of TCP.
    pub fn dialling(dial: Arc<dyn Dial>) -> Self {
        let authorities = Authorities {
            doors: Arc::new(Doors::reached_by(dial)),
            ..Authorities::default()
        };
        Self {
            authorities: Arc::new(authorities),
            ..Self::default()
        }
    }

    /// The key that clients see, as `known_hosts` and `ssh-keygen` write it: `ssh-ed25519 AAAA...`.
    ///
    /// # Errors
    ///
    /// [`ProtocolAdapter::prepare`] was not called before.
    pub fn host_key(&self) -> Result<String, ConfigProblem> {
        let key = self.key.get();
        let key = key.ok_or_else(|| ConfigProblem("the adapter has no host key yet".to_owned()))?;
        line(key.public_key())
    }

    /// The key of the gateway's user CA, in the same form: what targets name in `TrustedUserCAKeys` that take certificates.
    /// It is made where there is none.
    ///
    /// # Errors
    ///
    /// [`ProtocolAdapter::prepare`] was not called before, or the key can't be read or made.
    pub fn user_ca(&self) -> Result<String, ConfigProblem> {
        line(&self.authorities.targets.public_key()?)
    }

    fn server(&self, greeting: &Greeting) -> Option<server::Config> {
        let key = self.key.get()?.clone();
        Some(server::Config {
            server_id: SshId::Standard(IDENTIFICATION.into()),
            methods: MethodSet::from(
                &[
                    MethodKind::PublicKey,
                    MethodKind::Password,
                    MethodKind::KeyboardInteractive,
                ][..],
            ),
            auth_rejection_time: REFUSAL,
            auth_rejection_time_initial: Some(Duration::ZERO),
            keys: vec![key],
            window_size: WINDOW,
            preferred: Preferred {
                // What is compressed can be a thousand times as long once it is read.
                compression: std::borrow::Cow::Borrowed(&[russh::compression::NONE]),
                cipher: ciphers::to_client(greeting.kexinit().as_ref()),
                ..Preferred::DEFAULT
            },
            max_auth_attempts: TRIES,
            inactivity_timeout: Some(SILENCE),
            keepalive_interval: Some(KEEPALIVE.0),
            keepalive_max: KEEPALIVE.1,
            ..server::Config::default()
        })
    }
}

#[async_trait]
impl ProtocolAdapter for SshAdapter {
    fn protocol(&self) -> &'static str {
        PROTOCOL
    }

    fn vocabulary(&self) -> Result<Vec<SchemaPart>, ConfigProblem> {
        SchemaPart::parse("proto-ssh", crate::VOCABULARY)
            .map(|part| vec![part])
            .map_err(|e| ConfigProblem(e.to_string()))
    }

    fn configure(&mut self, section: serde_json::Value) -> Result<(), ConfigProblem> {
        self.section = Section::read(section)?;
        Ok(())
    }

    fn prepare(&self, data_dir: &Path, sealing: &Arc<Sealing>) -> Result<(), ConfigProblem> {
        let key = match &self.section.host_key {
            // What somebody else keeps is not ours to seal.
            Some(path) => key_file::load_or_make(path, &Sealing::default(), HOST_KEY_NAME)?,
            None => key_file::load_or_make(&data_dir.join(HOST_KEY), sealing, HOST_KEY_NAME)?,
        };
        self.authorities.targets.keep_in(data_dir, sealing);
        self.authorities.clients.keep_in(data_dir, sealing);
        tracing::info!(fingerprint = %key.fingerprint(russh::keys::HashAlg::Sha256), "SSH host key");
        // A second start of the same adapter keeps the key that it has.
        let _ = self.key.set(key);
        Ok(())
    }

    fn key_files(&self, data_dir: &Path) -> Vec<PathBuf> {
        [HOST_KEY, USER_CA, LOGIN_CA]
            .map(|name| data_dir.join(name))
            .to_vec()
    }

    fn records(&self) -> bool {
        true
    }

    fn check_resource(&self, resource: &Resource) -> Result<(), ConfigProblem> {
        ResourceSettings::of(resource).map(drop)
    }

    fn issuers(&self) -> Vec<Arc<dyn CredentialIssuer>> {
        vec![Arc::new(StaticLogin), Arc::new(CertificateLogin)]
    }

    async fn probe(
        &self,
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
    ) -> Result<Vec<String>, ConfigProblem> {
        let told = |error: &dyn std::fmt::Display| ConfigProblem(error.to_string());
        let settings = ResourceSettings::of(resource)?;
        let lease = gateway.own_login(resource).await.map_err(|e| told(&e))?;
        let login = lease.username.clone();
        let host = "the host key is a trusted one".to_owned();
        if resource.credential.kind == CERTIFICATE && !self.authorities.targets.is_ready() {
            // A check makes no keys and opens no sealed ones.
            let greeted = Target::greet(gateway, resource, &settings, &self.authorities.doors).await;
            greeted.map_err(|e| told(&e))?;
            let login = format!("login `{login}` by certificate is not tried");
            return Ok(vec![host, login]);
        }
        let asked = Asked {
            authority: &self.authorities.targets,
            login: &login,
            key_id: "probe",
            granted: &Granted::default(),
            now: gateway.now(),
        };
        let proof = Proof::of(resource, &lease, &asked).map_err(|e| told(&e))?;
        let (accepts, doors) = (Accepts::default(), &self.authorities.doors);
        let target = Target::reach(gateway, resource, &settings, &login, &proof, accepts, doors);
        let target = target.await.map_err(|e| told(&e))?;
        drop(target);
        Ok(vec![host, format!("login `{login}`")])
    }

    fn server_keys(&self) -> Vec<String> {
        self.host_key().into_iter().collect()
    }

    fn native_client(&self, reach: &Reach<'_>) -> Result<NativeClient, ConfigProblem> {
        native::client(reach)
    }

    fn client_config(&self, reach: &Reach<'_>) -> Result<String, ConfigProblem> {
        native::config(reach)
    }

    fn fingerprint(&self, public_key: &str) -> Result<String, ConfigProblem> {
        let key = login_ca::read_key(public_key)?;
        Ok(login_ca::fingerprint(key.key_data()))
    }

    fn certify(&self, certified: &Certified<'_>) -> Result<String, ConfigProblem> {
        self.authorities.clients.certify(certified)
    }

    fn new_client_key(&self) -> Result<ClientKey, ConfigProblem> {
        native::new_key()
    }

    fn connects(&self, resource: &Resource, place: Option<&str>) -> Vec<Operation> {
        let asked = |login: &str| Operation::connect(&resource.name).with("login", login);
        match place {
            Some(login) => vec![asked(login)],
            None => logins(&resource.credential).into_iter().map(asked).collect(),
        }
    }

    async fn meaning(
        &self,
        _: &Arc<Gateway>,
        resource: &Arc<Resource>,
        statement: &str,
        place: Option<&str>,
        _: bool,
    ) -> Result<Meaning, ConfigProblem> {
        let settings = ResourceSettings::of(resource)?;
        let own = own_login(&resource.credential);
        let login = place.or(own).unwrap_or_default().to_owned();
        let place = Place::new(resource, &login);
        match inspect::line_of(&place, &settings, statement.as_bytes()) {
            Look::Ask { question, .. } => {
                let mut meaning = Meaning::from(question.operations);
                meaning.place = Some(login);
                Ok(meaning)
            }
            Look::Malformed { why, .. } => Err(ConfigProblem(format!("no policy can permit this: {why}"))),
        }
    }

    async fn serve(self: Arc<Self>, mut connection: Connection) -> Result<(), ServeError> {
        let (deadline, gateway) = (connection.deadline, connection.gateway.clone());
        let greeting = async {
            Greeting::exchange(&mut connection.transport)
                .await
                .map_err(|e| ServeError::Client(e.to_string()))
        };
        let (greeting, greeted) = Connection::in_time(deadline, greeting).await?;
        let Some(config) = self.server(&greeting) else {
            return Err(ServeError::Client("the adapter has no host key yet".to_owned()));
        };
        let flow = Flow::new(LIMIT);
        // However this ends, the connection does.
        let _end = EndOnDrop(flow.clone());
        let connection_flow = flow.clone();
        let (tell, told) = oneshot::channel();
        let login = Login::new(
            gateway.clone(),
            connection.peer,
            self.section.banner.clone(),
            self.authorities.clone(),
            connection.half_open.take(),
            tell,
        );
        let client = Client::new(login, flow.clone(), self.section.channels);
        let gated = Gated::resumed(connection.transport, flow, greeting.into_read(), greeted).within(ABOVE);
        let wrong = |e: crate::client::ClientError| ServeError::Client(e.to_string());
        let running = async {
            server::run_stream(Arc::new(config), gated, client)
                .await
                .map_err(wrong)
        };
        let mut running = Connection::in_time(deadline, running).await?;
        let session = tokio::select! {
            biased;
            session = told => session.map_err(|_| ServeError::Client("the client left before its login".to_owned()))?,
            () = tokio::time::sleep_until(deadline) => return Err(ServeError::Deadline),
        };
        let connection = running.handle();
        let end = tokio::select! {
            biased;
            ended = &mut running => match ended {
                Ok(()) => End::ClientClosed,
                Err(error) => End::Broken(Peer::Client, error.to_string()),
            },
            end = watch(&session) => {
                // What runs tells its client why it ends, and the trail.
                session.stop(end.reason(), farewell(&end));
                session.settled(GOODBYE).await;
                // Most clients leave with their last channel, and keep its status.
                if tokio::time::timeout(GOODBYE, &mut running).await.is_err() {
                    let goodbye = connection.disconnect(Disconnect::ByApplication, farewell(&end), String::new());
                    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
                    let _ = tokio::time::timeout(GOODBYE, &mut running).await;
                }
                end
            }
        };
        // The end of a session comes behind the end of all that ran in it.
        connection_flow.end();
        session.settled(SETTLED).await;
        tracing::debug!(session = %session.id, reason = end.reason(), "session ended");
        session.scope().lock().await.finish(&end);
        Ok(())
    }
}

/// A key as one line.
fn line(key: &PublicKey) -> Result<String, ConfigProblem> {
    key.to_openssh().map_err(|e| ConfigProblem(e.to_string()))
}

/// What a client is told of the end.
fn farewell(end: &End) -> String {
    match end {
        End::Killed(kill) => kill.told(),
        End::Shutdown => "the gateway is shutting down".to_owned(),
        End::Unrecorded => "what this session does can't be recorded any more".to_owned(),
        end => end.reason(),
    }
}

/// Answers once the session must end.
async fn watch(session: &Arc<Session>) -> End {
    let limits = session.gateway.limits().clone();
    let (stop, drain, remaining) = {
        let scope = session.scope().lock().await;
        (
            scope.control().stop.clone(),
            scope.control().drain.clone(),
            scope.remaining(),
        )
    };
    let expiry = async {
        match remaining {
            Some(left) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
    };
    let too_long = async {
        match Limits::optional(limits.session) {
            Some(longest) => tokio::time::sleep(longest).await,
            None => std::future::pending().await,
        }
    };
    let quiet = async |least: Duration| {
        // A session whose channels run is not idle, whatever they say.
        while session.quiet_for() < least {
            tokio::time::sleep(LOOK).await;
        }
    };
    let idle = async {
        match Limits::optional(limits.idle) {
            Some(idle) => quiet(idle).await,
            None => std::future::pending().await,
        }
    };
    let drained = async {
        drain.cancelled().await;
        quiet(LOOK).await;
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => session.scope().lock().await.control().reason(),
        () = expiry => {
            // What runs ends now; a client that asks once more is told why.
            session.expire();
            tokio::select! {
                () = tokio::time::sleep(AFTERWARDS) => {}
                () = stop.cancelled() => {}
            }
            End::Expired
        }
        () = drained => End::Shutdown,
        () = too_long => End::TooLong,
        () = idle => End::Idle,
    }
}
