//! The demo's directory and the programs that run in it: everything that has to be gone at the end.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::Child;

use super::postgres::is_root;
use super::process::end;

/// For the gateway's sessions and its trail.
const GATEWAY: Duration = Duration::from_secs(4);
/// For PostgreSQL's sessions.
const POSTGRES: Duration = Duration::from_secs(4);
/// How often the removal is tried: a program that was killed may still hold a file.
const TRIES: u32 = 20;

/// Where the demo plays.
pub(super) struct Stage {
    /// Its directory.
    pub(super) dir: PathBuf,
    keep: bool,
    /// PostgreSQL.
    pub(super) postgres: Option<Child>,
    /// `gateway serve`.
    pub(super) gateway: Option<Child>,
    /// sshd.
    pub(super) sshd: Option<Child>,
}

impl Stage {
    /// Makes the directory: a temporary one, or the one that is kept.
    pub(super) fn new(keep: Option<&Path>) -> anyhow::Result<Self> {
        let dir = match keep {
            Some(dir) => chosen(dir)?,
            None => temporary()?,
        };
        let stage = Self {
            dir,
            keep: keep.is_some(),
            postgres: None,
            gateway: None,
            sshd: None,
        };
        // The user that PostgreSQL runs as has to pass through; all else in it is private by itself.
        let mode = if is_root()? { 0o711 } else { 0o700 };
        std::fs::set_permissions(&stage.dir, std::fs::Permissions::from_mode(mode))?;
        Ok(stage)
    }

    /// Stops what runs, and removes the directory unless it is kept.
    pub(super) async fn clear(self) -> anyhow::Result<()> {
        if let Some(gateway) = self.gateway {
            end(gateway, "TERM", GATEWAY).await;
        }
        if let Some(sshd) = self.sshd {
            end(sshd, "TERM", GATEWAY).await;
        }
        if let Some(mut postgres) = self.postgres {
            // INT is a fast shutdown, QUIT an immediate one.
            if super::process::signal(&postgres, "INT").await.is_err()
                || tokio::time::timeout(POSTGRES, postgres.wait()).await.is_err()
            {
                end(postgres, "QUIT", POSTGRES).await;
            }
        }
        if self.keep {
            return Ok(());
        }
        let mut tries = 0;
        loop {
            match std::fs::remove_dir_all(&self.dir) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(_) if tries < TRIES => tries += 1,
                Err(error) => bail!("`{}` cannot be removed: {error}", self.dir.display()),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn chosen(dir: &Path) -> anyhow::Result<PathBuf> {
    let dir = std::path::absolute(dir)?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .with_context(|| format!("`{}` cannot be made", dir.display()))?;
    if std::fs::read_dir(&dir)?.next().is_some() {
        bail!("`{}` is not empty; give a new directory", dir.display());
    }
    Ok(dir)
}

fn temporary() -> anyhow::Result<PathBuf> {
    let parent = std::path::absolute(std::env::temp_dir())?;
    let name: String = random()?.chars().take(8).collect();
    let dir = parent.join(format!("gateway-demo-{name}"));
    // What exists already is an error, also where it is somebody's link.
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&dir)
        .with_context(|| format!("`{}` cannot be made", dir.display()))?;
    Ok(dir)
}

/// A secret of letters and digits.
pub(super) fn random() -> anyhow::Result<String> {
    let mut bytes = [0; 20];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("`/dev/urandom` cannot be read")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Makes a file that only its owner may read, empty where it was there.
pub(super) fn create_private(path: &Path) -> anyhow::Result<File> {
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("`{}` cannot be written", path.display()))
}

/// Writes such a file.
pub(super) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    create_private(path)?
        .write_all(text.as_bytes())
        .with_context(|| format!("`{}` cannot be written", path.display()))
}

/// A port on which nobody listens: the preferred one, where that is so.
pub(super) fn free_port(preferred: Option<u16>) -> anyhow::Result<u16> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = match preferred.map(bind) {
        Some(Ok(listener)) => listener,
        _ => bind(0).context("there is no free port on 127.0.0.1")?,
    };
    Ok(listener.local_addr()?.port())
}
