//! How far an export has come, in a small file of its own.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The largest cursor file that is read.
const MAX_FILE: u64 = 4096;

/// The last record that a sink has taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    /// Of the file's form: 1.
    version: u32,
    /// Its number.
    pub(crate) seq: u64,
    /// Its hash: another trail is noticed.
    pub(crate) hash: String,
}

impl Cursor {
    pub(crate) fn new(seq: u64, hash: String) -> Self {
        Self {
            version: 1,
            seq,
            hash,
        }
    }

    /// The file of the export `name`.
    pub(crate) fn path(dir: &Path, name: &str) -> PathBuf {
        dir.join(format!("{name}.cursor"))
    }

    /// Reads it; `None` where there is none yet.
    pub(crate) fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut text = String::new();
        match File::open(path) {
            Ok(file) => io::Read::read_to_string(&mut io::Read::take(file, MAX_FILE), &mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let cursor: Self = serde_json::from_str(&text).map_err(io::Error::from)?;
        if cursor.version != 1 {
            let text = format!("it has version {}, this gateway reads version 1", cursor.version);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(Some(cursor))
    }

    /// Writes it durably: after a crash it is the old one or this one.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let temporary = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(serde_json::to_string(self)?.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(dir)?.sync_all()
    }
}
