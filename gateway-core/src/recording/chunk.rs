//! The file of a recording: chunks, each with its hash, and a seal.
//!
//! ```text
//! {"version":3,...}                                             asciicast v3, see `cast`
//! [0.248000, "o", "..."]
//! #chunk {"n":0,"at":0,"bytes":161,"hash":"5f0c..."}            closes chunk 0
//! ...
//! #chunk {"n":1,"at":1248000,"bytes":90,"hash":"a911..."}
//! #sealed {"chunks":2,"bytes":251,"hash":"a911...","micros":2100000,"complete":true,"end":"exit status 0"}
//! ```
//!
//! Lines that begin with `#` are comments to players, so that the file plays as it is. Where keys are configured, a chunk is one line, the
//! sealed form of the lines ([`crate::sealing`]). `at` is the time of its first event, in microseconds since the beginning: by it players
//! seek. The hash is SHA-256 over the hash of the chunk before (32 zero bytes before the first), `<session>/<number>/<n>/<at>` and a
//! line end, and the bytes of the chunk as they stand in the file. So it covers all chunks before; the audit trail has each.

use std::fs::File;
use std::io::{self, BufRead, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::session::SessionId;

/// What begins the line that closes a chunk.
pub(super) const CHUNK: &[u8] = b"#chunk ";
/// What begins the last line.
pub(super) const SEALED: &[u8] = b"#sealed ";
/// The largest chunk that is read, in bytes.
const LARGEST: usize = 32 << 20;

/// The end of a file in which its seal is looked for.
const TAIL: i64 = 64 * 1024;

/// A chunk, as the line that closes it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Its number.
    pub n: u64,
    /// The time of its first event, in microseconds since the beginning.
    pub at: u64,
    /// Its size in the file.
    pub bytes: u64,
    /// The hash, in hex.
    pub hash: String,
}

/// What was not kept because the recording had reached its limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// So many bytes.
    pub bytes: u64,
    /// Their SHA-256, in hex.
    pub sha256: String,
}

/// The end of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// How many chunks there are.
    pub chunks: u64,
    /// Their size in the file.
    pub bytes: u64,
    /// The hash of the last one.
    pub hash: String,
    /// From the beginning to the end, in microseconds.
    pub micros: u64,
    /// Whether all of what went through is in it, up to a cut that it tells.
    pub complete: bool,
    /// How it ended, or why it is not complete.
    pub end: String,
    /// What was over the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
}

/// Hashes chunks, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    session: SessionId,
    number: u32,
    prev: [u8; 32],
    /// The number of the next chunk.
    pub(super) next: u64,
    /// The size of all so far.
    pub(super) bytes: u64,
}

impl Chain {
    pub(super) fn new(session: SessionId, number: u32) -> Self {
        Self {
            session,
            number,
            prev: [0; 32],
            next: 0,
            bytes: 0,
        }
    }

    /// Where a chunk belongs, for what seals it.
    pub(super) fn place(&self) -> String {
        format!("recording/{}/{}/{}", self.session, self.number, self.next)
    }

    /// The hash of the last chunk.
    pub(super) fn hash(&self) -> String {
        hex(&self.prev)
    }

    /// The next chunk; the chain goes on behind it.
    pub(super) fn push(&mut self, at: u64, payload: &[u8]) -> Index {
        let mut hash = Context::new(&SHA256);
        hash.update(&self.prev);
        let line = format!("{}/{}/{}/{at}\n", self.session, self.number, self.next);
        hash.update(line.as_bytes());
        hash.update(payload);
        self.prev = <[u8; 32]>::try_from(hash.finish().as_ref()).unwrap_or([0; 32]);
        let bytes = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        let index = Index {
            n: self.next,
            at,
            bytes,
            hash: hex(&self.prev),
        };
        self.next = self.next.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        index
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The line of a comment.
pub(super) fn comment(word: &[u8], value: &impl Serialize) -> Vec<u8> {
    let mut line = word.to_vec();
    // None of these can fail to have a form in JSON.
    line.extend(serde_json::to_vec(value).unwrap_or_default());
    line.push(b'\n');
    line
}

/// The last line of a file, without its end, as far as it is no longer than a seal may be; `None`: it is torn.
pub(super) fn last_line(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut file = File::open(path)?;
    let length = i64::try_from(file.metadata()?.len()).unwrap_or(i64::MAX);
    file.seek(SeekFrom::End(-TAIL.min(length)))?;
    let mut tail = Vec::new();
    file.take(TAIL.unsigned_abs()).read_to_end(&mut tail)?;
    let line = tail
        .strip_suffix(b"\n")
        .and_then(|text| text.rsplit(|b| *b == b'\n').next());
    Ok(line.map(<[u8]>::to_vec))
}

/// What comes next in a file.
#[derive(Debug)]
pub(super) enum Next {
    /// A chunk.
    Chunk(Index, Vec<u8>),
    /// The seal.
    Sealed(Seal),
    /// Nothing but, perhaps, bytes that belong to no chunk.
    End,
    /// Something that is no recording.
    Strange,
}

/// Reads what comes next. Nothing is proven by this.
pub(super) fn next(file: &mut impl BufRead) -> io::Result<Next> {
    let mut payload = Vec::new();
    loop {
        let start = payload.len();
        let left = LARGEST.saturating_sub(start);
        let limit = u64::try_from(left).unwrap_or(u64::MAX);
        let read = io::Read::take(&mut *file, limit).read_until(b'\n', &mut payload)?;
        let line = payload.get(start..).unwrap_or_default();
        if read == 0 && left > 0 {
            return Ok(Next::End);
        }
        let Some(line) = line.strip_suffix(b"\n") else {
            return Ok(if left > read { Next::End } else { Next::Strange });
        };
        if let Some(index) = line.strip_prefix(CHUNK) {
            let Ok(index) = serde_json::from_slice(index) else {
                return Ok(Next::Strange);
            };
            payload.truncate(start);
            return Ok(Next::Chunk(index, payload));
        }
        if let Some(seal) = line.strip_prefix(SEALED) {
            let seal = serde_json::from_slice(seal).ok().filter(|_| start == 0);
            return Ok(seal.map_or(Next::Strange, Next::Sealed));
        }
    }
}
