//! The file operations that the writer needs, so that tests can make them fail.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A directory with segments.
pub(super) trait Disk: Send {
    /// Makes a segment, which must not be there, for appending; only its owner may read it.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Segment>>;
    /// Opens a segment for appending.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Segment>>;
    /// Removes a segment.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes what was created and removed in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open segment; what is written goes to its end.
pub(super) trait Segment: Send {
    /// Writes some of `bytes`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Cuts it to `len` bytes.
    fn set_len(&mut self, len: u64) -> io::Result<()>;
    /// Makes its bytes and its length durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// The real file system.
#[derive(Debug, Default)]
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Segment>> {
        Ok(Box::new(
            OpenOptions::new()
                .append(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?,
        ))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Segment>> {
        Ok(Box::new(OpenOptions::new().append(true).open(path)?))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

impl Segment for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(self, bytes)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
