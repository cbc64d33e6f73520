//! Keys that are kept in files of the data directory, sealed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::{PREFIX, SealError, Sealing, key_of};
use crate::whole;

/// The largest file that is read, in bytes.
pub const KEY_FILE: u64 = 64 * 1024;

/// Held while a file is sealed anew.
const LOCK: &str = "sealing.lock";

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resealed {
    /// There is none.
    Absent,
    /// It was as it should be.
    Current,
    /// It was sealed anew.
    Done,
}

/// How a file is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFile {
    /// The name of the key with which it says that it is sealed; `None`: it is plain.
    pub key: Option<String>,
    /// Why it can't be used as it is.
    pub fault: Option<String>,
}

/// A file belongs to its name: copied elsewhere under it, it still opens.
fn place(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A key that waits for its turn takes the name of the one it follows.
    let name = name.strip_suffix(".next").unwrap_or(&name);
    format!("file/{name}")
}

fn wrong(path: &Path, error: &SealError) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("`{}`: {error}", path.display()),
    )
}

impl Sealing {
    /// What is to be written into the file at `path`.
    ///
    /// # Errors
    ///
    /// The system gave no random bytes.
    pub fn for_file(&self, path: &Path, bytes: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
        let Some(key) = self.keys.first() else {
            return Ok(Zeroizing::new(bytes.to_vec()));
        };
        let sealed = self.seal_bytes(key, &place(path), bytes);
        let mut text = sealed.map_err(|error| wrong(path, &error))?;
        text.push('\n');
        Ok(Zeroizing::new(text.into_bytes()))
    }

    /// What was written into the file at `path`; `None` where there is none.
    ///
    /// # Errors
    ///
    /// It can't be read or opened, or is larger than [`KEY_FILE`].
    pub fn read_file(&self, path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let Some(kept) = read(path)? else {
            return Ok(None);
        };
        if !kept.starts_with(PREFIX.as_bytes()) {
            return match self.require && self.is_on() {
                true => Err(wrong(path, &SealError::Plain)),
                false => Ok(Some(kept)),
            };
        }
        let text = std::str::from_utf8(&kept).map_err(|_| wrong(path, &SealError::Broken))?;
        self.open_bytes(&place(path), text.trim_end())
            .map(Some)
            .map_err(|error| wrong(path, &error))
    }

    /// How the file at `path` is kept, opened to be sure; `None` where there is none.
    pub fn look_at_file(&self, path: &Path) -> Option<KeptFile> {
        let faulty = |error: io::Error| KeptFile {
            key: None,
            fault: Some(about(path, &error)),
        };
        let kept = match read(path) {
            Ok(kept) => kept?,
            Err(error) => return Some(faulty(error)),
        };
        let key = std::str::from_utf8(&kept)
            .ok()
            .and_then(key_of)
            .map(str::to_owned);
        let fault = match kept.is_empty() {
            true => Some(empty(path).to_string()),
            false => self.read_file(path).err().map(|error| about(path, &error)),
        };
        Some(KeptFile { key, fault })
    }

    /// Seals the file at `path` with the key that is in force, whole or not at all. One that says it is, is opened all the same.
    ///
    /// # Errors
    ///
    /// It can't be read, opened or written; then it is as it was.
    pub fn reseal_file(&self, path: &Path) -> io::Result<Resealed> {
        // Of two that do this at the same time one would put back what the other had read.
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(whole::PRIVATE)
            .open(whole::directory(path).join(LOCK))?;
        lock.lock()?;
        let Some(kept) = read(path)? else {
            return Ok(Resealed::Absent);
        };
        if kept.is_empty() {
            return Err(empty(path));
        }
        let text = std::str::from_utf8(&kept).unwrap_or_default();
        let bytes = match text.starts_with(PREFIX) {
            true => self
                .open_bytes(&place(path), text.trim_end())
                .map_err(|error| wrong(path, &error))?,
            // Who puts a plain one there shall not have it made good.
            false if self.require => return Err(wrong(path, &SealError::Plain)),
            false => kept.clone(),
        };
        if self.is_current(text) {
            return Ok(Resealed::Current);
        }
        whole::replace(path, &self.for_file(path, &bytes)?, whole::PRIVATE)?;
        drop(lock);
        Ok(Resealed::Done)
    }
}

fn empty(path: &Path) -> io::Error {
    let why = format!("`{}` is empty: put it back from a backup", path.display());
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// An error that names its file, once.
pub(crate) fn about(path: &Path, error: &io::Error) -> String {
    let (path, error) = (path.display().to_string(), error.to_string());
    match error.contains(&path) {
        true => error,
        false => format!("`{path}`: {error}"),
    }
}

fn read(path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(KEY_FILE.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > KEY_FILE {
        let why = format!("`{}` is larger than {KEY_FILE} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::SealKey;
    use super::*;

    fn with(bytes: &[u8], require: bool) -> Sealing {
        let keys = bytes.iter().map(|byte| SealKey::new(&[*byte; 32]).unwrap());
        Sealing::new(keys.collect(), require)
    }

    #[test]
    fn a_plain_file_is_sealed_and_moves_from_key_to_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mask.key");
        let secret = [0xff_u8, 0, b'\n', 7];
        std::fs::write(&path, secret).unwrap();
        let first = with(&[1], false);
        assert_eq!(first.read_file(&path).unwrap().unwrap().as_slice(), secret);
        assert_eq!(first.reseal_file(&path).unwrap(), Resealed::Done);
        assert_eq!(first.reseal_file(&path).unwrap(), Resealed::Current);
        assert!(std::fs::read(&path).unwrap().starts_with(PREFIX.as_bytes()));
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let both = with(&[2, 1], true);
        assert_eq!(both.read_file(&path).unwrap().unwrap().as_slice(), secret);
        assert_eq!(both.reseal_file(&path).unwrap(), Resealed::Done);
        assert_eq!(
            with(&[2], true).read_file(&path).unwrap().unwrap().as_slice(),
            secret
        );
        let error = first.read_file(&path).unwrap_err().to_string();
        assert!(
            error.contains("mask.key") && error.contains("secrets.keys"),
            "{error}"
        );
        // One file's content is not another's.
        let other = dir.path().join("scram.key");
        std::fs::copy(&path, &other).unwrap();
        assert!(both.read_file(&other).is_err());
        // The two and the lock.
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn what_says_it_is_sealed_with_the_first_key_is_opened_to_be_sure() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("mask.key"), dir.path().join("scram.key"));
        let sealing = with(&[1], false);
        assert_eq!(sealing.look_at_file(&path), None);
        for path in [&path, &other] {
            std::fs::write(path, [9_u8; 32]).unwrap();
            let kept = sealing.look_at_file(path).unwrap();
            assert_eq!((kept.key, kept.fault), (None, None));
            sealing.reseal_file(path).unwrap();
        }
        let kept = sealing.look_at_file(&path).unwrap();
        assert_eq!((kept.key.as_deref(), kept.fault), (sealing.active(), None));
        let whole = std::fs::read(&path).unwrap();
        let cut = whole.get(..whole.len() - 9).unwrap().to_vec();
        let swapped = std::fs::read(&other).unwrap();
        let relabelled = String::from_utf8(whole.clone())
            .unwrap()
            .replace(sealing.active().unwrap(), "0123456789abcdef");
        for bad in [cut, swapped, relabelled.into_bytes(), Vec::new()] {
            std::fs::write(&path, &bad).unwrap();
            let fault = sealing.look_at_file(&path).unwrap().fault.unwrap();
            assert_eq!(fault.matches("mask.key").count(), 1, "{fault}");
            assert!(sealing.reseal_file(&path).is_err());
            assert_eq!(std::fs::read(&path).unwrap(), bad, "it is left as it was");
        }
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(sealing.reseal_file(&path).unwrap(), Resealed::Current);
        // A plain one is a fault where all must be sealed.
        std::fs::write(&path, [9_u8; 32]).unwrap();
        assert!(
            with(&[1], true)
                .look_at_file(&path)
                .unwrap()
                .fault
                .unwrap()
                .contains("secrets.require")
        );
    }

    #[test]
    fn of_many_that_seal_a_file_at_the_same_time_none_loses_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mask.key");
        std::fs::write(&path, [9_u8; 32]).unwrap();
        for round in 0..40_u8 {
            // Each round has another key in front.
            let keys = [round.wrapping_add(2), round.wrapping_add(1)];
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| with(&keys, false).reseal_file(&path).unwrap());
                }
            });
            let kept = with(&keys, true).read_file(&path).unwrap().unwrap();
            assert_eq!(kept.as_slice(), [9_u8; 32], "{round}");
        }
    }

    #[test]
    fn a_plain_or_empty_file_is_not_made_good_where_all_must_be_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mask.key");
        let strict = with(&[1], true);
        assert_eq!(strict.reseal_file(&path).unwrap(), Resealed::Absent);
        assert!(strict.read_file(&path).unwrap().is_none());
        std::fs::write(&path, "plain").unwrap();
        assert!(strict.read_file(&path).is_err());
        assert!(strict.reseal_file(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"plain");
        std::fs::write(&path, "").unwrap();
        assert!(with(&[1], false).reseal_file(&path).is_err());
        std::fs::write(&path, vec![b'x'; 65 * 1024]).unwrap();
        assert!(strict.read_file(&path).is_err());
    }
}
