//! What is kept here of a recording that is in the archive: enough for lists, sealed as it was.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::recording::chunk::{self, Next};

/// What begins the line that says where it is.
const ARCHIVED: &[u8] = b"#archived ";
/// The longest such file that is read, in bytes.
const LONGEST: u64 = 64 << 20;

/// Where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    /// The object's name.
    pub(crate) object: String,
    /// Its size.
    pub(crate) bytes: u64,
    /// Its SHA-256, in hex.
    pub(crate) sha256: String,
    /// When it had been read back.
    pub(crate) at: Timestamp,
}

impl Marker {
    /// Reads it; `None`: it is none.
    pub(crate) fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut file = io::Read::take(BufReader::new(File::open(path)?), LONGEST);
        let mut line = Vec::new();
        while file.read_until(b'\n', &mut line)? > 0 {
            if let Some(marker) = line.strip_prefix(ARCHIVED) {
                return Ok(serde_json::from_slice(marker).ok());
            }
            line.clear();
        }
        Ok(None)
    }

    /// Writes it at `path`, with first chunk and last line of `file`: durable, whole or not at all.
    pub(crate) fn write(&self, path: &Path, file: &Path) -> io::Result<()> {
        let (first, seal) = ends(file)?;
        let beside = path.with_extension("archiving");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(&beside).and_then(|mut to| {
            to.write_all(&first)?;
            to.write_all(&chunk::comment(ARCHIVED, self))?;
            to.write_all(&seal)?;
            to.sync_all()
        });
        let written = written
            .and_then(|()| std::fs::rename(&beside, path))
            .and_then(|()| {
                path.parent()
                    .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
            });
        if written.is_err() {
            let _ = std::fs::remove_file(&beside);
        }
        written
    }
}

/// The first chunk with the line that closes it, and the seal, where it has one.
fn ends(file: &Path) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut reader = BufReader::new(File::open(file)?);
    let Next::Chunk(index, mut first) = chunk::next(&mut reader)? else {
        return Err(io::Error::other("it has no chunk"));
    };
    first.extend(chunk::comment(chunk::CHUNK, &index));
    let seal = chunk::last_line(file)?.filter(|line| line.starts_with(chunk::SEALED));
    let seal = seal.map(|mut line| {
        line.push(b'\n');
        line
    });
    Ok((first, seal.unwrap_or_default()))
}
