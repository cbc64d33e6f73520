//! Reading a recording back, chunk by chunk, each held against the trail before it is given out.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::chunk::{self, Chain, Index, Next, Seal};
use super::directory::{Directory, file};
use crate::audit::read::Told;
use crate::sealing::Sealing;
use crate::session::SessionId;

/// The end of a file in which its seal is looked for.
const TAIL: i64 = 64 * 1024;

/// What is wrong with a recording. Chunks before it are what was recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A chunk is not what was recorded.
    #[error("chunk {0} is not what was recorded: its bytes do not have its hash")]
    Changed(u64),
    /// A chunk is not the one that the trail knows.
    #[error("chunk {0} is not what was recorded: the audit trail has another hash")]
    Differs(u64),
    /// The trail knows more chunks than there are.
    #[error("chunk {0} is missing: the audit trail knows it")]
    Missing(u64),
    /// There are more chunks than the trail knows.
    #[error("chunk {0} was added: the audit trail has the recording's end before it")]
    Added(u64),
    /// The trail does not know it.
    #[error("the audit trail knows nothing of this recording, or no longer")]
    Unknown,
    /// A chunk does not open.
    #[error("chunk {0}: {1}")]
    Sealed(u64, String),
    /// There is no such file, or it can't be read.
    #[error("the recording can't be read: {0}")]
    Unreadable(String),
}

/// How a recording that was read whole stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Chunks that were read.
    pub chunks: u64,
    /// Its end as the trail has it; none: it still runs, or was cut off and the gateway has not started since.
    pub seal: Option<Seal>,
    /// Chunks at its end whose hashes are not in the trail yet.
    pub unproven: u64,
}

/// A recording that is read. Blocking.
#[derive(Debug)]
pub struct Reading {
    files: Vec<PathBuf>,
    reader: Option<BufReader<File>>,
    /// How many of the files are read or being read.
    at: usize,
    chain: Chain,
    sealing: Arc<Sealing>,
    /// What the trail says; none: nothing is proven.
    told: Option<Told>,
    fault: Option<Fault>,
    unproven: u64,
}

impl Reading {
    /// A recording in these places, the first one first; `told` is what the trail says of it.
    pub fn new(
        places: &[&Path],
        session: SessionId,
        number: u32,
        sealing: Arc<Sealing>,
        told: Option<Told>,
    ) -> Self {
        let files = places.iter().map(|place| file(place, session, number));
        Self {
            files: files.filter(|file| file.exists()).collect(),
            reader: None,
            at: 0,
            chain: Chain::new(session, number),
            sealing,
            told,
            fault: None,
            unproven: 0,
        }
    }

    /// Whether there is anything to read.
    pub fn exists(&self) -> bool {
        !self.files.is_empty()
    }

    fn stop<T>(&mut self, fault: Fault) -> Result<T, Fault> {
        self.fault = Some(fault.clone());
        Err(fault)
    }

    /// Lines of the next chunk, with its time; `None`: that was all, and nothing is wrong with it.
    ///
    /// # Errors
    ///
    /// What is wrong; nothing more is given out then.
    pub fn next_chunk(&mut self) -> Result<Option<(u64, Vec<u8>)>, Fault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if self.told.as_ref().is_some_and(|told| !told.is_known()) {
            return self.stop(Fault::Unknown);
        }
        loop {
            if self.reader.is_none() {
                let Some(path) = self.files.get(self.at) else {
                    return self.end();
                };
                match File::open(path) {
                    Ok(file) => self.reader = Some(BufReader::with_capacity(64 * 1024, file)),
                    Err(error) => return self.stop(Fault::Unreadable(error.to_string())),
                }
            }
            let Some(reader) = &mut self.reader else {
                return self.end();
            };
            match chunk::next(reader) {
                Ok(Next::Chunk(index, payload)) => return self.chunk(&index, &payload).map(Some),
                // What is torn at the end belongs to no chunk.
                Ok(Next::End | Next::Sealed(_)) => {
                    self.reader = None;
                    self.at = self.at.saturating_add(1);
                }
                Ok(Next::Strange) => return self.stop(Fault::Changed(self.chain.next)),
                Err(error) => return self.stop(Fault::Unreadable(error.to_string())),
            }
        }
    }

    fn chunk(&mut self, index: &Index, payload: &[u8]) -> Result<(u64, Vec<u8>), Fault> {
        let n = self.chain.next;
        let place = self.chain.place();
        let computed = self.chain.push(index.at, payload);
        if computed != *index {
            return self.stop(Fault::Changed(n));
        }
        if let Some(told) = &self.told {
            let over = told.seal.as_ref().is_some_and(|seal| n >= seal.chunks);
            match told.hashes.get(&n) {
                Some(hash) if *hash != computed.hash => return self.stop(Fault::Differs(n)),
                _ if over => return self.stop(Fault::Added(n)),
                Some(_) => {}
                None => self.unproven = self.unproven.saturating_add(1),
            }
        }
        match self.sealing.open_line(&place, payload) {
            Ok(text) => Ok((index.at, text)),
            Err(error) => self.stop(Fault::Sealed(n, error.to_string())),
        }
    }

    fn end(&mut self) -> Result<Option<(u64, Vec<u8>)>, Fault> {
        let found = self.chain.next;
        if found == 0 {
            return self.stop(Fault::Unreadable("there is nothing in it".to_owned()));
        }
        let Some(told) = &self.told else {
            return Ok(None);
        };
        if let Some((last, _)) = told.hashes.last_key_value()
            && *last >= found
        {
            return self.stop(Fault::Missing(found));
        }
        if let Some(seal) = &told.seal {
            if seal.chunks > found {
                return self.stop(Fault::Missing(found));
            }
            if seal.hash != self.chain.hash() {
                return self.stop(Fault::Differs(found.saturating_sub(1)));
            }
            // The last hash covers all before it.
            self.unproven = 0;
        }
        Ok(None)
    }

    /// How it stands, once [`Self::next_chunk`] has given all.
    pub fn verified(&self) -> Verified {
        Verified {
            chunks: self.chain.next,
            seal: self.told.as_ref().and_then(|told| told.seal.clone()),
            unproven: self.unproven,
        }
    }

    /// Its header, unproven; for lists.
    pub fn header(&self) -> Option<Value> {
        let mut first = Self {
            files: self.files.clone(),
            reader: None,
            at: 0,
            chain: self.chain.clone(),
            sealing: self.sealing.clone(),
            told: None,
            fault: None,
            unproven: 0,
        };
        let (_, text) = first.next_chunk().ok()??;
        let line = text.split(|b| *b == b'\n').next()?;
        serde_json::from_slice(line).ok()
    }

    /// Why it has no header.
    pub fn why(&mut self) -> String {
        match self.next_chunk() {
            Err(fault) => fault.to_string(),
            Ok(_) => "its first line is no header".to_owned(),
        }
    }

    /// The seal at the end of its last file, unproven; for lists.
    pub fn seal(&self) -> Option<Seal> {
        let mut file = File::open(self.files.last()?).ok()?;
        let length = i64::try_from(file.metadata().ok()?.len()).ok()?;
        file.seek(SeekFrom::End(-TAIL.min(length))).ok()?;
        let mut tail = Vec::new();
        io::Read::by_ref(&mut file)
            .take(TAIL.unsigned_abs())
            .read_to_end(&mut tail)
            .ok()?;
        let line = tail.strip_suffix(b"\n")?.rsplit(|b| *b == b'\n').next()?;
        serde_json::from_slice(line.strip_prefix(chunk::SEALED)?).ok()
    }
}

impl Directory {
    /// A recording, to be held against what the trail says of it.
    pub fn reading(&self, session: SessionId, number: u32, told: Option<Told>) -> Reading {
        let mut places = vec![self.options.dir.as_path()];
        places.extend(self.options.spill_dir.as_deref());
        Reading::new(&places, session, number, self.sealing.clone(), told)
    }
}
