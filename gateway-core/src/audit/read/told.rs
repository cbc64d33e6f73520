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
    /// Retention has taken it away, or was about to.
    pub removed: bool,
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
    each(dir, needle.as_bytes(), |event| match event {
        Event::RecordingsRemoved { session: of, .. } if of == session => found.removed = true,
        event => {
            if let Some((of, number)) = whose(&event)
                && (of, number) == (session, recording)
            {
                take(&mut found, event);
            }
        }
    })?;
    Ok(found)
}

/// What the trail says of all recordings; of their hashes the last one alone, which covers those before. Reads the whole trail once.
///
/// # Errors
///
/// The trail can't be read.
pub fn all_told(dir: &Path) -> io::Result<BTreeMap<(SessionId, u32), Told>> {
    let mut found = BTreeMap::<(SessionId, u32), Told>::new();
    each(dir, b"\"recording", |event| {
        if let Event::RecordingsRemoved { session, .. } = event {
            for (_, told) in found.range_mut((session, 0)..=(session, u32::MAX)) {
                told.removed = true;
            }
        } else if let Some(key) = whose(&event) {
            let told = found.entry(key).or_default();
            take(told, event);
            while told.hashes.len() > 1 {
                told.hashes.pop_first();
            }
        }
    })?;
    Ok(found)
}

/// Each event of recordings in whose record the needle is.
fn each(dir: &Path, needle: &[u8], mut take: impl FnMut(Event)) -> io::Result<()> {
    let needle = memchr::memmem::Finder::new(needle);
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
                    if needle.find(line).is_some()
                        && memchr::memmem::find(line, b"\"recording").is_some()
                        && let Some(event) = sound(line)
                    {
                        take(event);
                    }
                }
                Line::TooLong { .. } | Line::Torn => {}
                Line::End => break,
            }
        }
    }
    Ok(())
}

fn whose(event: &Event) -> Option<(SessionId, u32)> {
    match event {
        Event::RecordingStarted {
            session, recording, ..
        }
        | Event::RecordingChunks {
            session, recording, ..
        }
        | Event::RecordingSealed {
            session, recording, ..
        } => Some((*session, *recording)),
        _ => None,
    }
}

fn sound(line: &[u8]) -> Option<Event> {
    let parsed = record::parse(line).ok().filter(|parsed| parsed.sound)?;
    serde_json::from_str(parsed.record.event.get()).ok()
}

fn take(found: &mut Told, event: Event) {
    match event {
        Event::RecordingStarted { .. } => found.started = true,
        Event::RecordingChunks { first, hashes, .. } => {
            for (n, hash) in (first..).zip(hashes) {
                // The first word counts: what comes later can't make another one good.
                found.hashes.entry(n).or_insert(hash);
            }
        }
        Event::RecordingSealed { seal, .. } => found.seal = Some(seal),
        _ => {}
    }
}
