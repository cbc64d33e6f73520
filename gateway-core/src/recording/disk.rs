//! The file of a recording that is being written.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::chunk::{self, CHUNK, Chain, Index, SEALED, Seal};
use crate::sealing::Sealing;

/// Bytes in the second place, of all recordings, and the most of them.
pub(super) type Room = (Arc<AtomicU64>, u64);

/// Where chunks go: one file at a time.
pub(super) struct Disk {
    file: File,
    /// Bytes of the file that are whole chunks.
    good: u64,
    pub(super) chain: Chain,
    sealing: Arc<Sealing>,
    /// Absent: this is the first place.
    spilled: Option<Room>,
}

impl Disk {
    pub(super) fn new(file: File, chain: Chain, sealing: Arc<Sealing>, spilled: Option<Room>) -> Self {
        Self {
            file,
            good: 0,
            chain,
            sealing,
            spilled,
        }
    }

    /// Writes a chunk; with `sync` all up to it is on disk when this answers. Where it can't be written, the file is as it was, as far
    /// as it can be.
    pub(super) fn append(&mut self, at: u64, text: &[u8], sync: bool) -> io::Result<Index> {
        let sealed;
        let payload = if self.sealing.is_on() {
            sealed = self
                .sealing
                .seal_line(&self.chain.place(), text)
                .map_err(|error| io::Error::other(error.to_string()))?;
            sealed.as_slice()
        } else {
            text
        };
        let mut chain = self.chain.clone();
        let index = chain.push(at, payload);
        let line = chunk::comment(CHUNK, &index);
        self.put(&[payload, &line], sync)?;
        self.chain = chain;
        Ok(index)
    }

    fn put(&mut self, parts: &[&[u8]], sync: bool) -> io::Result<()> {
        let bytes = parts.iter().map(|part| part.len()).sum::<usize>();
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if let Some((spilled, most)) = &self.spilled {
            let before = spilled.fetch_add(bytes, Ordering::AcqRel);
            if before.saturating_add(bytes) > *most {
                spilled.fetch_sub(bytes, Ordering::AcqRel);
                return Err(io::Error::other("the second place is full"));
            }
        }
        let written = parts
            .iter()
            .try_for_each(|part| self.file.write_all(part))
            .and_then(|()| match sync {
                true => self.file.sync_data(),
                false => Ok(()),
            });
        match written {
            Ok(()) => {
                self.good = self.good.saturating_add(bytes);
                Ok(())
            }
            Err(error) => {
                if let Some((spilled, _)) = &self.spilled {
                    spilled.fetch_sub(bytes, Ordering::AcqRel);
                }
                let _ = self.file.set_len(self.good);
                Err(error)
            }
        }
    }

    /// Has all chunks on disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Writes the last line.
    pub(super) fn seal(&mut self, seal: &Seal) -> io::Result<()> {
        let line = chunk::comment(SEALED, seal);
        self.put(&[&line], true)
    }
}

/// Opens the second place for a recording whose first one failed: it goes on behind this chain.
pub(super) type Spill = Box<dyn FnOnce(&Chain) -> io::Result<Disk> + Send>;
