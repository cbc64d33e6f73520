//! Reading a recording back, chunk by chunk, each held against the trail before it is given out.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use tokio::runtime::Handle;

use super::archive::{self, Archive, Marker};
use super::chunk::{self, Chain, Index, Next, Seal};
use super::directory::place::ARCHIVED;
use super::directory::{Directory, place};
use crate::audit::read::Told;
use crate::sealing::Sealing;
use crate::session::SessionId;

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
    /// There is nothing of it.
    #[error("nothing is there of the recording")]
    Absent,
    /// There is no such file or object, or it can't be read.
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

/// Where one part of a recording is.
#[derive(Debug, Clone)]
enum Source {
    /// In a file here.
    File(PathBuf),
    /// In the archive, and what is kept of it here.
    Object(String, PathBuf),
    /// In the archive, if anywhere.
    Perhaps(String),
}

/// A recording that is read. Blocking, and where the archive has it, not to be called where a runtime's tasks run.
pub struct Reading {
    sources: Vec<Source>,
    archive: Option<(Arc<dyn Archive>, Handle)>,
    reader: Option<Box<dyn BufRead + Send>>,
    /// How many of the sources are read or being read.
    at: usize,
    chain: Chain,
    sealing: Arc<Sealing>,
    /// What the trail says; none: nothing is proven.
    told: Option<Told>,
    fault: Option<Fault>,
    unproven: u64,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading")
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

impl Reading {
    /// A recording whose file is read from anywhere; `told` is what the trail says of it.
    pub fn of(
        file: impl BufRead + Send + 'static,
        session: SessionId,
        number: u32,
        sealing: Arc<Sealing>,
        told: Option<Told>,
    ) -> Self {
        Self {
            sources: vec![Source::File(PathBuf::new())],
            archive: None,
            reader: Some(Box::new(file)),
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
        match (self.sources.as_slice(), &self.archive) {
            ([], _) => false,
            ([Source::Perhaps(object)], Some((archive, runtime))) => {
                archive::exists(runtime, archive.clone(), object.clone())
            }
            _ => true,
        }
    }

    /// Whether any of it is read out of the archive.
    pub fn is_archived(&self) -> bool {
        self.sources
            .iter()
            .any(|source| !matches!(source, Source::File(_)))
    }

    fn open(&self, source: &Source) -> Result<Box<dyn BufRead + Send>, Fault> {
        let object = match source {
            Source::File(path) => match File::open(path) {
                Ok(file) => return Ok(Box::new(BufReader::with_capacity(64 * 1024, file))),
                // It may have gone since it was looked for.
                Err(error) => match Marker::read(&path.with_extension(ARCHIVED)) {
                    Ok(Some(marker)) if error.kind() == ErrorKind::NotFound => marker.object,
                    _ => return Err(Fault::Unreadable(error.to_string())),
                },
            },
            Source::Object(object, _) | Source::Perhaps(object) => object.clone(),
        };
        match &self.archive {
            Some((archive, runtime)) => Ok(archive::fetch(runtime, archive.clone(), object)),
            None => Err(Fault::Unreadable(format!(
                "it is in the archive, as `{object}`, and `recording.archive` is not set"
            ))),
        }
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
        let place = self.chain.place();
        let Some((n, at, payload)) = self.next_payload()? else {
            return Ok(None);
        };
        match self.sealing.open_line(&place, &payload) {
            Ok(text) => Ok(Some((at, text))),
            Err(error) => self.stop(Fault::Sealed(n, error.to_string())),
        }
    }

    /// Holds all that is left against the trail, without opening any of it: no key is needed.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn verify(&mut self) -> Result<Verified, Fault> {
        while self.next_payload()?.is_some() {}
        Ok(self.verified())
    }

    /// Number, time and bytes of the next chunk.
    fn next_payload(&mut self) -> Result<Option<(u64, u64, Vec<u8>)>, Fault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if self.told.as_ref().is_some_and(|told| !told.is_known()) {
            return self.stop(Fault::Unknown);
        }
        loop {
            if self.reader.is_none() {
                let Some(source) = self.sources.get(self.at) else {
                    return self.end();
                };
                match self.open(source) {
                    Ok(reader) => self.reader = Some(reader),
                    Err(fault) => return self.stop(fault),
                }
            }
            let Some(reader) = &mut self.reader else {
                return self.end();
            };
            match chunk::next(reader) {
                Ok(Next::Chunk(index, payload)) => {
                    let n = self.hold(&index, &payload)?;
                    return Ok(Some((n, index.at, payload)));
                }
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

    /// Holds a chunk against its hash, and that against the trail.
    fn hold(&mut self, index: &Index, payload: &[u8]) -> Result<u64, Fault> {
        let n = self.chain.next;
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
        Ok(n)
    }

    fn end(&mut self) -> Result<Option<(u64, u64, Vec<u8>)>, Fault> {
        let found = self.chain.next;
        if self.sources.is_empty() {
            return self.stop(Fault::Absent);
        }
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
        let mut sources = self.sources.clone();
        if let Some(first) = sources.first_mut()
            && let Source::Object(_, beside) = first
        {
            // What is kept here of it has its first chunk.
            *first = Source::File(std::mem::take(beside));
        }
        let mut first = Self {
            sources,
            archive: self.archive.clone(),
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
        let path = match self.sources.last()? {
            Source::File(path) | Source::Object(_, path) => path,
            Source::Perhaps(_) => return None,
        };
        let line = chunk::last_line(path).ok()??;
        serde_json::from_slice(line.strip_prefix(chunk::SEALED)?).ok()
    }
}

impl Directory {
    /// A recording, to be held against what the trail says of it.
    pub fn reading(&self, session: SessionId, number: u32, told: Option<Told>) -> Reading {
        let archive = self.archiving.as_ref().zip(Handle::try_current().ok());
        let mut sources = Vec::new();
        for dir in self.places() {
            let (file, beside) = (
                place::file(dir, session, number),
                place::archived(dir, session, number),
            );
            if file.exists() {
                sources.push(Source::File(file));
            } else if let Ok(Some(marker)) = Marker::read(&beside) {
                sources.push(Source::Object(marker.object, beside));
            }
        }
        if sources.is_empty() && archive.is_some() {
            sources.push(Source::Perhaps(self.object(&self.options.dir, session, number)));
        }
        Reading {
            sources,
            archive: archive.map(|(archiving, runtime)| (archiving.archive.clone(), runtime)),
            reader: None,
            at: 0,
            chain: Chain::new(session, number),
            sealing: self.sealing.clone(),
            told,
            fault: None,
            unproven: 0,
        }
    }
}
