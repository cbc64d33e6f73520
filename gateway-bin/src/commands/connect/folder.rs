//! The files of one run of a client, such as a key with a certificate of the gateway's: in a folder that is its owner's alone,
//! and gone with the client.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use gateway_control::api::{CertificateRequest, CertificateView, ResourceView};
use gateway_core::adapter::ClientKey;
use gateway_identity::Token;
use tokio::signal::unix::{SignalKind, signal};

use crate::control::client::Client;

/// For how long one may log in with it: the client does so at once, and again where it is told to reconnect.
const SECONDS: u32 = 600;

/// The folder.
pub(super) struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    /// A fresh one; in memory where the system has a place for such.
    pub(super) fn new() -> io::Result<Self> {
        let parent = std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute() && path.is_dir())
            .unwrap_or_else(std::env::temp_dir);
        let (name, _) = Token::generate().map_err(io::Error::other)?;
        let folder = parent.join(format!("gateway-{name}"));
        // That nobody else has made it is what `create` sees to.
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(Self(folder))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The file of a key that the gateway has certified for a resource; `None` where it does not: the token proves who asks, too.
    pub(super) async fn identity(
        &self,
        client: &Client,
        key: &ClientKey,
        resource: &ResourceView,
    ) -> Option<PathBuf> {
        let request = CertificateRequest {
            protocol: resource.protocol.clone(),
            public_key: key.public.clone(),
            seconds: Some(SECONDS),
            resources: vec![resource.name.clone()],
        };
        let made: CertificateView = match client.post("/api/v1/certificates", &request).await {
            Ok(made) => made,
            Err(error) => {
                tracing::debug!(%error, "no certificate; the token is shown instead");
                return None;
            }
        };
        let certificate = format!("{}\n", made.certificate);
        let put = self
            .put("key", key.private.expose())
            .and_then(|()| self.put("key-cert.pub", &certificate));
        match put {
            Ok(()) => Some(self.0.join("key")),
            Err(error) => {
                tracing::warn!(%error, "a key could not be kept for this run; the token is shown instead");
                None
            }
        }
    }

    fn put(&self, name: &str, text: &str) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.0.join(name))?;
        file.write_all(text.as_bytes())
    }

    /// Runs the client to its end, and tells its status as a shell does. What a terminal sends goes to it; what is sent to this
    /// process is passed on.
    pub(super) async fn run(self, command: Command) -> io::Result<ExitCode> {
        let mut ignored = [signal(SignalKind::interrupt())?, signal(SignalKind::quit())?];
        let [interrupt, quit] = &mut ignored;
        let (mut terminate, mut hangup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
        let mut child = tokio::process::Command::from(command).spawn()?;
        let status = loop {
            let passed = tokio::select! {
                status = child.wait() => break status?,
                _ = interrupt.recv() => continue,
                _ = quit.recv() => continue,
                _ = terminate.recv() => rustix::process::Signal::TERM,
                _ = hangup.recv() => rustix::process::Signal::HUP,
            };
            let pid = child.id().and_then(|id| i32::try_from(id).ok());
            if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, passed);
            }
        };
        let code = match (status.code(), status.signal()) {
            (Some(code), _) => code,
            (None, signal) => signal.unwrap_or(0).saturating_add(128),
        };
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
    }
}
