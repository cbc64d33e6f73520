//! What a crash has left open.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::place::{self, OPEN};
use super::{Directory, file};
use crate::recording::chunk::{self, Chain, Index, Next, Seal};
use crate::recording::{Begin, Kind, Recorded, Rules, writer};
use crate::session::SessionId;

impl Directory {
    /// Seals what a crash has left open, at its last whole chunk; how many these were. What can't be sealed is told in the log, and
    /// tried again by the next start.
    ///
    /// # Errors
    ///
    /// The trail can't be written.
    pub async fn recover(self: &Arc<Self>) -> Result<u64, crate::audit::AuditError> {
        let this = self.clone();
        let work = tokio::task::spawn_blocking(move || this.cut_off());
        let found = work.await.unwrap_or_default();
        let mut count = 0;
        for (begin, seal, marker) in found {
            let event = writer::sealed(&begin, &seal);
            self.audit.append((self.now)(), &event, true)?.settled().await?;
            let _ = std::fs::remove_file(marker);
            count += 1;
        }
        Ok(count)
    }

    fn cut_off(&self) -> Vec<(Begin, Seal, PathBuf)> {
        let mut found = Vec::new();
        for place in self.places() {
            let Ok(entries) = std::fs::read_dir(place.join(OPEN)) else {
                continue;
            };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let Some((session, number)) = name.to_str().and_then(|name| {
                    let (session, number) = name.split_once('.')?;
                    Some((session.parse().ok()?, number.parse().ok()?))
                }) else {
                    continue;
                };
                if self.running.lock().contains_key(&(session, number)) {
                    continue;
                }
                // What went on in the second place is sealed there.
                let second = self
                    .options
                    .spill_dir
                    .as_deref()
                    .filter(|second| *second != place);
                if second.is_some_and(|second| file(second, session, number).exists()) {
                    let _ = std::fs::remove_file(entry.path());
                    continue;
                }
                match self.seal_cut(place, session, number) {
                    Ok((begin, seal)) => found.push((begin, seal, entry.path())),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        let _ = std::fs::remove_file(entry.path());
                    }
                    Err(error) => {
                        tracing::error!(%session, recording = number, %error, "a recording that was cut off can't be sealed");
                    }
                }
            }
        }
        found
    }

    /// Seals one at its last whole chunk.
    fn seal_cut(&self, place: &Path, session: SessionId, number: u32) -> io::Result<(Begin, Seal)> {
        let path = place::file(place, session, number);
        let mut reader = BufReader::new(File::open(&path)?);
        let mut chain = Chain::new(session, number);
        if Some(place) == self.options.spill_dir.as_deref() {
            // It goes on where the first place ended.
            if let Ok(first) = File::open(file(&self.options.dir, session, number)) {
                follow(&mut BufReader::new(first), &mut chain)?;
            }
        }
        let (good, micros, sealed) = follow(&mut reader, &mut chain)?;
        let begin = Begin {
            session,
            number,
            resource: self.resource_of(session, number),
            what: Recorded {
                channel: String::new(),
                kind: Kind::Exec,
                title: String::new(),
                terminal: None,
            },
            rules: Rules::default(),
        };
        if let Some(seal) = sealed {
            return Ok((begin, seal));
        }
        let seal = Seal {
            chunks: chain.next,
            bytes: chain.bytes,
            hash: chain.hash(),
            micros,
            complete: false,
            end: "the gateway stopped while it was recorded; it ends with the last whole chunk".to_owned(),
            cut: None,
        };
        let file = OpenOptions::new().write(true).open(&path)?;
        file.set_len(good)?;
        let mut file = OpenOptions::new().append(true).open(&path)?;
        io::Write::write_all(&mut file, &chunk::comment(chunk::SEALED, &seal))?;
        file.sync_all()?;
        Ok((begin, seal))
    }

    fn resource_of(&self, session: SessionId, number: u32) -> String {
        let header = self.reading(session, number, None).header();
        let resource = header.and_then(|header| {
            let resource = header.pointer("/gateway/resource")?.as_str()?;
            Some(resource.to_owned())
        });
        resource.unwrap_or_default()
    }
}

/// Follows the chunks of a file as far as they are whole: where the last one ends, its time, and the seal.
pub(crate) fn follow(reader: &mut impl BufRead, chain: &mut Chain) -> io::Result<(u64, u64, Option<Seal>)> {
    let (mut good, mut micros) = (0_u64, 0);
    loop {
        match chunk::next(reader)? {
            Next::Chunk(index, payload) => {
                let mut next = chain.clone();
                let computed: Index = next.push(index.at, &payload);
                if computed != index {
                    return Ok((good, micros, None));
                }
                *chain = next;
                micros = index.at;
                let line = chunk::comment(chunk::CHUNK, &index);
                let bytes = payload.len().saturating_add(line.len());
                good = good.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
            }
            Next::Sealed(seal) => return Ok((good, micros, Some(seal))),
            Next::End | Next::Strange => return Ok((good, micros, None)),
        }
    }
}
