//! The Unix socket in the data directory.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tokio::net::{UnixListener, UnixStream};

/// Whether somebody answers on the socket at `path`; an error where that can't be told.
pub(crate) async fn answers(path: &Path) -> std::io::Result<bool> {
    match UnixStream::connect(path).await {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A bound socket; its file goes with it.
pub(crate) struct Socket {
    path: PathBuf,
}

impl Socket {
    /// Binds. Must be called by who holds the data directory's audit lock: a socket on which nobody answers was left
    /// by a gateway that was killed, and is replaced.
    pub(crate) async fn bind(path: PathBuf) -> anyhow::Result<(Self, UnixListener)> {
        let shown = path.display();
        if answers(&path)
            .await
            .with_context(|| format!("the control socket `{shown}` cannot be looked at"))?
        {
            bail!("another gateway runs on this data directory: it answers on `{shown}`");
        }
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => bail!("the old control socket `{shown}` cannot be removed: {error}"),
        }
        let listener = UnixListener::bind(&path).with_context(|| {
            format!("the control socket `{shown}` cannot be made (such a path has at most 107 bytes)")
        })?;
        // Nobody else can come in before this: the data directory is the owner's alone.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
            .with_context(|| format!("the mode of the control socket `{shown}` cannot be set"))?;
        Ok((Self { path }, listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Where it stays, the next start replaces it.
        let _ = std::fs::remove_file(&self.path);
    }
}
