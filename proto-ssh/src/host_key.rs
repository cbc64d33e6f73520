//! The gateway's own host key: Ed25519, made at the first start, in a file of its owner's alone.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use gateway_core::adapter::ConfigProblem;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};

/// Reads the key, and makes it where there is none.
pub(crate) fn load_or_make(path: &Path) -> Result<PrivateKey, ConfigProblem> {
    let about = |e: &dyn std::fmt::Display| ConfigProblem(format!("the host key `{}`: {e}", path.display()));
    if !path.exists() {
        let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519)
            .map_err(|e| about(&e))?;
        let text = key.to_openssh(LineEnding::LF).map_err(|e| about(&e))?;
        // Written beside and moved, so that there is never half a key.
        let temporary = path.with_extension("new");
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&temporary).map_err(|e| about(&e))?;
        file.write_all(text.as_bytes()).map_err(|e| about(&e))?;
        file.sync_all().map_err(|e| about(&e))?;
        std::fs::rename(&temporary, path).map_err(|e| about(&e))?;
    }
    let text = zeroize::Zeroizing::new(std::fs::read(path).map_err(|e| about(&e))?);
    let key = PrivateKey::from_openssh(text.as_slice()).map_err(|e| about(&e))?;
    if key.is_encrypted() {
        return Err(about(
            &"is encrypted; the gateway has nobody to ask for its passphrase",
        ));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_host_key_is_made_once_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ssh_host_ed25519_key");
        let first = load_or_make(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = load_or_make(&path).unwrap();
        assert_eq!(first.public_key(), second.public_key());
        std::fs::write(&path, "broken").unwrap();
        assert!(load_or_make(&path).is_err());
    }
}
