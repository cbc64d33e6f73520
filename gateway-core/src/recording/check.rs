//! Holding all recordings against the trail.

use std::io;
use std::path::Path;

use serde::Serialize;

use super::directory::Directory;
use super::{Fault, Verified};
use crate::audit::read::{Told, all_told, told};
use crate::session::SessionId;

/// Recordings of which the first chunk that differs is looked for: each takes a look through the whole trail.
const NAMED: usize = 32;
/// Recordings that are told to have a fault, at the most.
const FAULTY: usize = 1000;

/// A recording that is not as it was recorded.
#[derive(Debug, Clone, Serialize)]
pub struct Faulty {
    /// The session.
    pub session: SessionId,
    /// Its number in the session.
    pub recording: u32,
    /// What is wrong with it.
    pub fault: String,
}

/// How recordings stand.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Checked {
    /// Those that are as the trail has them.
    pub whole: u64,
    /// Of these, read out of the archive.
    pub archived: u64,
    /// Of these, without an end: they run, or were cut off and the gateway has not started since.
    pub open: u64,
    /// Of these, not complete, and so the trail says.
    pub incomplete: u64,
    /// Those that retention has removed.
    pub removed: u64,
    /// How many are not as they were recorded.
    pub faults: u64,
    /// The first of them.
    pub faulty: Vec<Faulty>,
}

impl Directory {
    /// Holds each recording that the trail knows, and that retention has not removed, against its hashes there; no key is needed.
    /// Blocking, and where there is an archive, not to be called where a runtime's tasks run.
    ///
    /// # Errors
    ///
    /// The trail can't be read.
    pub fn check(&self, trail: &Path) -> io::Result<Checked> {
        let mut checked = Checked::default();
        for ((session, recording), known) in all_told(trail)? {
            if known.removed {
                checked.removed = checked.removed.saturating_add(1);
                continue;
            }
            let (end, archived) = self.verified(session, recording, known);
            let fault = match end {
                Ok(verified) => {
                    checked.count(&verified, archived);
                    continue;
                }
                Err(fault) => fault,
            };
            let fault = if checked.faulty.len() < NAMED {
                // With all of its hashes: the first chunk that differs, and whether it was removed meanwhile.
                let all = told(trail, session, recording)?;
                if all.removed {
                    checked.removed = checked.removed.saturating_add(1);
                    continue;
                }
                match self.verified(session, recording, all) {
                    (Ok(verified), archived) => {
                        checked.count(&verified, archived);
                        continue;
                    }
                    (Err(fault), _) => fault,
                }
            } else {
                fault
            };
            checked.faults = checked.faults.saturating_add(1);
            if checked.faulty.len() < FAULTY {
                checked.faulty.push(Faulty {
                    session,
                    recording,
                    fault: fault.to_string(),
                });
            }
        }
        Ok(checked)
    }

    fn verified(&self, session: SessionId, recording: u32, told: Told) -> (Result<Verified, Fault>, bool) {
        let mut reading = self.reading(session, recording, Some(told));
        let archived = reading.is_archived();
        (reading.verify(), archived)
    }
}

impl Checked {
    fn count(&mut self, verified: &Verified, archived: bool) {
        self.whole = self.whole.saturating_add(1);
        self.archived = self.archived.saturating_add(u64::from(archived));
        match &verified.seal {
            None => self.open = self.open.saturating_add(1),
            Some(seal) => self.incomplete = self.incomplete.saturating_add(u64::from(!seal.complete)),
        }
    }
}
