//! What the trail says of one recording.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::super::Event;
use super::super::record;
use super::super::segments::{self, Line, Lines};
use crate::recording::chunk::Seal;
use crate::session::SessionId;

/// What the trail says of a recording.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// It has its beginning.
    pub started: bool,
    /// Hashes of its chunks, by their numbers.
    pub hashes: BTreeMap<u64, String>,
    /// Its end.
    pub seal: Option<Seal>,
}

impl Told {
    /// Whether there is anything.
    pub fn is_known(&self) -> bool {
        self.started || self.seal.is_some() || !self.hashes.is_empty()
    }
}

/// Looks it up; reads the whole trail once. A record whose own hash is wrong tells nothing; whether records are missing is for
/// [`verify`](super::verify()) to say.
///
/// # Errors
///
/// The trail can't be read.
pub fn told(dir: &Path, session: SessionId, recording: u32) -> io::Result<Told> {
    let mut found = Told::default();
    let needle = session.to_string();
    for segment in segments::list(dir)? {
        let mut lines = match Lines::open(&segment.path) {
            // Dropped by retention meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            lines => lines?,
        };
        loop {
            match lines.next()? {
                Line::Whole => {
                    let line = lines.line();
                    if memchr::memmem::find(line, needle.as_bytes()).is_some()
                        && memchr::memmem::find(line, b"\"recording").is_some()
                        && let Some(event) = sound(line)
                    {
                        take(&mut found, event, session, recording);
                    }
                }
                Line::TooLong { .. } | Line::Torn => {}
                Line::End => break,
            }
        }
    }
    Ok(found)
}

fn sound(line: &[u8]) -> Option<Event> {
    let parsed = record::parse(line).ok().filter(|parsed| parsed.sound)?;
    serde_json::from_str(parsed.record.event.get()).ok()
}

fn take(found: &mut Told, event: Event, of: SessionId, number: u32) {
    match event {
        Event::RecordingStarted {
            session, recording, ..
        } if session == of && recording == number => found.started = true,
        Event::RecordingChunks {
            session,
            recording,
            first,
            hashes,
        } if session == of && recording == number => {
            for (n, hash) in (first..).zip(hashes) {
                // The first word counts: what comes later can't make another one good.
                found.hashes.entry(n).or_insert(hash);
            }
        }
        Event::RecordingSealed {
            session,
            recording,
            seal,
            ..
        } if session == of && recording == number => found.seal = Some(seal),
        _ => {}
    }
}
