//! Which key signs.

use std::path::Path;

use super::super::key::{self, SigningKey};
use super::AuditOpenError;
use super::chain::NewSigner;
use super::recover::Opened;
use crate::sealing::Sealing;

/// The key in `path`, which is to sign the trail in `dir`; made where nothing is signed and there is none.
pub(super) fn signer(
    dir: &Path,
    path: &Path,
    opened: &Opened,
    sealing: &Sealing,
    replace: bool,
) -> Result<NewSigner, AuditOpenError> {
    let known = opened.signed.key;
    // A key comes with the first signature. Who takes signatures out can't pass the rest off as an old trail.
    if opened.head.next > 1 && known.is_none() && path.exists() {
        return Err(AuditOpenError::Unsigned {
            dir: dir.to_owned(),
            path: path.to_owned(),
        });
    }
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| AuditOpenError::Io { path, error }
    };
    let next = key::next_path(path);
    // A replacement that was cut short: done where the trail has it, else it never was.
    if let Some(waiting) = SigningKey::read(&next, sealing).map_err(io(&next))? {
        if known == Some(waiting.public()) {
            key::promote(path).map_err(io(path))?;
        } else {
            std::fs::remove_file(&next).map_err(io(&next))?;
        }
    }
    let found = SigningKey::read(path, sealing).map_err(io(path))?;
    let key = match (found, known) {
        (None, None) => SigningKey::create(path, sealing).map_err(io(path))?,
        (Some(key), None) => key,
        (Some(key), Some(known)) if key.public() == known => key,
        (found, Some(signed)) => {
            return Err(AuditOpenError::ForeignKey {
                path: path.to_owned(),
                found: found.map_or("not there".to_owned(), |key| key.public().to_string()),
                signed,
            });
        }
    };
    if replace {
        return Ok(NewSigner {
            key: SigningKey::create(&next, sealing).map_err(io(&next))?,
            before: known.is_some().then_some(key),
        });
    }
    Ok(NewSigner { key, before: None })
}
