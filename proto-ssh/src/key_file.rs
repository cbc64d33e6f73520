//! Keys of the gateway's own: Ed25519, made once, each in a file that is its owner's alone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use gateway_core::adapter::ConfigProblem;
use gateway_core::sealing::Sealing;
use gateway_core::whole;
use parking_lot::Mutex;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey, PublicKey};

/// A key in the data directory that is read, or made, when it is first needed.
pub(crate) struct KeptKey {
    file: &'static str,
    /// What it is called in errors.
    what: &'static str,
    kept: OnceLock<(PathBuf, Arc<Sealing>)>,
    key: Mutex<Option<Arc<PrivateKey>>>,
}

impl std::fmt::Debug for KeptKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptKey")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl KeptKey {
    /// It is not known yet where it is.
    pub(crate) fn new(file: &'static str, what: &'static str) -> Self {
        Self {
            file,
            what,
            kept: OnceLock::new(),
            key: Mutex::default(),
        }
    }

    /// Says where it is kept.
    pub(crate) fn keep_in(&self, data_dir: &Path, sealing: &Arc<Sealing>) {
        // A second start of the same adapter has the same place.
        let _ = self.kept.set((data_dir.join(self.file), sealing.clone()));
    }

    /// Whether it is known where it is: not where a configuration is only checked.
    pub(crate) fn is_ready(&self) -> bool {
        self.kept.get().is_some()
    }

    /// The key.
    pub(crate) fn key(&self) -> Result<Arc<PrivateKey>, ConfigProblem> {
        let mut key = self.key.lock();
        if let Some(key) = &*key {
            return Ok(key.clone());
        }
        let (path, sealing) = self.kept.get().ok_or_else(|| {
            ConfigProblem(format!(
                "the {} is not there: no gateway listens for SSH here",
                self.what
            ))
        })?;
        let read = Arc::new(load_or_make(path, sealing, self.what)?);
        *key = Some(read.clone());
        Ok(read)
    }

    /// Its public half.
    pub(crate) fn public_key(&self) -> Result<PublicKey, ConfigProblem> {
        Ok(self.key()?.public_key().clone())
    }
}

/// Reads the key, and makes it where there is none. `what` names it in errors.
pub(crate) fn load_or_make(path: &Path, sealing: &Sealing, what: &str) -> Result<PrivateKey, ConfigProblem> {
    let about = |e: &dyn std::fmt::Display| ConfigProblem(format!("the {what} `{}`: {e}", path.display()));
    let kept = match sealing.read_file(path).map_err(|e| about(&e))? {
        Some(kept) => kept,
        None => {
            make(path, sealing).map_err(|e| about(&e))?;
            let made = sealing.read_file(path).map_err(|e| about(&e))?;
            made.ok_or_else(|| about(&"was made, and is gone"))?
        }
    };
    let key = PrivateKey::from_openssh(kept.as_slice()).map_err(|e| about(&e))?;
    if key.is_encrypted() {
        return Err(about(
            &"is encrypted; the gateway has nobody to ask for its passphrase",
        ));
    }
    Ok(key)
}

/// Of two who make it at the same time one wins for both.
fn make(path: &Path, sealing: &Sealing) -> io::Result<()> {
    let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519)
        .map_err(io::Error::other)?;
    let text = key.to_openssh(LineEnding::LF).map_err(io::Error::other)?;
    match whole::create(path, &sealing.for_file(path, text.as_bytes())?) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_core::sealing::SealKey;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_made_once_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ssh_host_ed25519_key");
        let load = |sealing: &Sealing| load_or_make(&path, sealing, "host key");
        let first = load(&Sealing::default()).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = load(&Sealing::default()).unwrap();
        assert_eq!(first.public_key(), second.public_key());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        std::fs::write(&path, "broken").unwrap();
        assert!(load(&Sealing::default()).is_err());
    }

    #[test]
    fn a_key_is_sealed_where_keys_are_configured() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ssh_user_ca");
        let sealing = Sealing::new(vec![SealKey::new(&[1; 32]).unwrap()], true);
        let first = load_or_make(&path, &sealing, "user CA").unwrap();
        let kept = std::fs::read_to_string(&path).unwrap();
        assert!(kept.starts_with("gwe1:") && !kept.contains("OPENSSH"), "{kept}");
        let second = load_or_make(&path, &sealing, "user CA").unwrap();
        assert_eq!(first.public_key(), second.public_key());
        assert!(load_or_make(&path, &Sealing::default(), "user CA").is_err());
    }

    #[test]
    fn two_who_make_a_key_at_the_same_time_have_the_same_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ssh_user_ca");
        // The second one finds it made between its look and its link.
        let first = load_or_make(&path, &Sealing::default(), "user CA").unwrap();
        make(&path, &Sealing::default()).unwrap();
        let second = load_or_make(&path, &Sealing::default(), "user CA").unwrap();
        assert_eq!(first.public_key(), second.public_key());
    }
}
