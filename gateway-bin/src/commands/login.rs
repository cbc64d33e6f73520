//! `gateway login` and `logout`, and what they keep: the gateway's address and a token, in a file of its owner's alone.

use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use gateway_control::api::WhoAmI;
use gateway_core::secret::Secret;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::tables::plain;
use crate::cli;
use crate::control::client::Client;

/// Longest file that is read, and longest token.
const LARGEST: u64 = 256 * 1024;

/// A login that is kept.
pub(super) struct Stored {
    /// The gateway's address.
    pub(super) url: String,
    /// The token.
    pub(super) token: Secret,
    /// The certificates that the gateway's own is signed by.
    pub(super) ca: Option<PathBuf>,
}

/// The file's form. It has no `Debug`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    url: String,
    token: String,
    /// PEM lies in `ca.crt` beside it.
    ca: bool,
}

impl Drop for File {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

/// `$XDG_STATE_HOME/gateway`, else `~/.local/state/gateway`.
fn folder() -> anyhow::Result<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    if let Some(state) = absolute("XDG_STATE_HOME") {
        return Ok(state.join("gateway"));
    }
    let home = absolute("HOME").context("neither XDG_STATE_HOME nor HOME says where a login is kept")?;
    Ok(home.join(".local/state/gateway"))
}

impl Stored {
    /// The login that is kept; `None`: there is none.
    pub(super) fn read() -> anyhow::Result<Option<Self>> {
        // Who has no home has no login.
        let Ok(folder) = folder() else {
            return Ok(None);
        };
        let path = folder.join("login.json");
        let mut file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => bail!("the login `{}` cannot be read: {error}", path.display()),
        };
        let meta = file.metadata()?;
        if meta.mode() & 0o077 != 0 {
            bail!(
                "others may read the login `{}`: `chmod 600` it, or log in again with a new token",
                path.display()
            );
        }
        let mut text = Zeroizing::new(String::new());
        (&mut file).take(LARGEST).read_to_string(&mut text)?;
        let broken = || format!("the login `{}` is broken; log in again", path.display());
        let stored: File = serde_json::from_str(&text).with_context(broken)?;
        Ok(Some(Self {
            token: Secret::new(stored.token.as_str()),
            url: stored.url.clone(),
            ca: stored.ca.then(|| folder.join("ca.crt")),
        }))
    }

    /// Whether it is a login to the gateway at that address.
    pub(super) fn is_at(&self, url: &str) -> bool {
        self.url.trim_end_matches('/') == url.trim_end_matches('/')
    }

    /// The gateway, as who it says.
    pub(super) fn client(&self, token: Option<Secret>) -> anyhow::Result<Client> {
        let token = token.unwrap_or_else(|| self.token.clone());
        Client::at(&self.url, token, self.ca.clone()).context("of the stored login (see `gateway login`)")
    }
}

/// Runs `gateway login`.
pub(super) async fn login(login: cli::Login) -> anyhow::Result<ExitCode> {
    if !login.token {
        bail!(
            "a login takes a token: `gateway login --token` (one of `gateway token create`, or of your identity provider)"
        );
    }
    let token = tokio::task::spawn_blocking(ask).await??;
    let ca = match &login.ca {
        Some(path) => {
            Some(std::fs::read(path).with_context(|| format!("`{}` cannot be read", path.display()))?)
        }
        None => None,
    };
    let client = Client::at(&login.url, token.clone(), login.ca.clone())?;
    let who: WhoAmI = client.get("/api/v1/whoami").await?;
    let folder = folder()?;
    let kept = keep(&folder, &login.url, &token, ca.as_deref());
    kept.with_context(|| format!("the login cannot be kept in `{}`", folder.display()))?;
    let until = who
        .expires
        .map_or_else(String::new, |at| format!(", until {at:.0}"));
    eprintln!(
        "logged in at {} as {}{until}",
        plain(&login.url),
        plain(&who.subject)
    );
    Ok(ExitCode::SUCCESS)
}

/// Runs `gateway logout`.
pub(super) fn logout() -> anyhow::Result<ExitCode> {
    let folder = folder()?;
    let mut there = false;
    for name in ["login.json", "ca.crt"] {
        let path = folder.join(name);
        match std::fs::remove_file(&path) {
            Ok(()) => there = true,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => bail!("`{}` cannot be removed: {error}", path.display()),
        }
    }
    if there {
        eprintln!(
            "logged out; the token itself holds until it ends or is revoked (`gateway token revoke` on the host)"
        );
    } else {
        eprintln!("there is no login");
    }
    Ok(ExitCode::SUCCESS)
}

fn keep(folder: &Path, url: &str, token: &Secret, ca: Option<&[u8]>) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    if let Some(ca) = ca {
        write(&folder.join("ca.crt"), ca)?;
    }
    let file = File {
        url: url.trim_end_matches('/').to_owned(),
        token: token.expose().to_owned(),
        ca: ca.is_some(),
    };
    let text = Zeroizing::new(serde_json::to_string(&file)?);
    write(&folder.join("login.json"), text.as_bytes())
}

/// All of it or nothing, and never readable for others.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    // One that a crash left may have another mode.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(std::fs::rename(temporary, path)?)
}

/// The token: asked for without echo on a terminal, else all of standard input.
fn ask() -> anyhow::Result<Secret> {
    let stdin = std::io::stdin();
    let mut text = Zeroizing::new(String::new());
    if stdin.is_terminal() {
        eprint!("token: ");
        let quiet = Quiet::begin()?;
        stdin.read_line(&mut text)?;
        drop(quiet);
        eprintln!();
    } else {
        stdin.lock().take(LARGEST).read_to_string(&mut text)?;
    }
    let token = text.trim();
    if token.is_empty() {
        bail!("there is no token: give it on standard input, such as `gateway login --token < token.txt`");
    }
    if token.contains(char::is_whitespace) {
        bail!("a token has no blanks: give one token alone");
    }
    Ok(Secret::new(token))
}

/// A terminal that does not show what is typed, until this is dropped.
struct Quiet(rustix::termios::Termios);

impl Quiet {
    fn begin() -> anyhow::Result<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(std::io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, &self.0);
    }
}
