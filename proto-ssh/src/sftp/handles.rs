//! Handles that were opened here, and what went through them.

use std::collections::{BTreeMap, HashMap};

use super::{Event, Looked};
use crate::contents::Contents;

/// What a handle was granted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Handle {
    /// Names its tally; handles of the target come again.
    pub(super) number: u64,
    pub(super) path: Vec<u8>,
    pub(super) read: bool,
    pub(super) write: bool,
    pub(super) directory: bool,
}

#[derive(Debug, Default)]
struct Tally {
    path: Vec<u8>,
    read: u64,
    written: u64,
    contents: Option<Contents>,
}

#[derive(Debug, Default)]
pub(super) struct Handles {
    open: HashMap<Vec<u8>, Handle>,
    /// Kept until the target says that a handle is closed: data may still be on the way.
    tallies: BTreeMap<u64, Tally>,
}

impl Handles {
    pub(super) fn len(&self) -> usize {
        self.tallies.len()
    }

    pub(super) fn find(&self, handle: &[u8]) -> Option<&Handle> {
        self.open.get(handle)
    }

    /// Whether it was not open.
    pub(super) fn insert(&mut self, name: &[u8], handle: Handle, looked: Option<Looked>) -> bool {
        if self.open.contains_key(name) {
            return false;
        }
        self.tallies.insert(
            handle.number,
            Tally {
                path: handle.path.clone(),
                contents: looked.map(Contents::new),
                ..Tally::default()
            },
        );
        self.open.insert(name.to_vec(), handle);
        true
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Handle> {
        self.open.remove(name)
    }

    pub(super) fn read(&mut self, number: u64, bytes: u64) {
        if let Some(tally) = self.tallies.get_mut(&number) {
            tally.read = tally.read.saturating_add(bytes);
        }
    }

    /// Whether data that was read is withheld: what the client is told in its place, and what is reported the first time.
    pub(super) fn withheld(
        &mut self,
        number: u64,
        offset: u64,
        data: &[u8],
    ) -> Option<(String, Option<Event>)> {
        let tally = self.tallies.get_mut(&number)?;
        let contents = tally.contents.as_mut()?;
        let before = contents.is_withheld();
        if contents.passes(offset, data) {
            return None;
        }
        let path = tally.path.clone();
        let event = (!before).then_some(Event::Withheld { path });
        Some((contents.text().to_owned(), event))
    }

    pub(super) fn written(&mut self, number: u64, bytes: u64) {
        if let Some(tally) = self.tallies.get_mut(&number) {
            tally.written = tally.written.saturating_add(bytes);
        }
    }

    pub(super) fn closed(&mut self, number: u64) -> Option<Event> {
        self.tallies.remove(&number).map(
            |Tally {
                 path, read, written, ..
             }| Event::Closed { path, read, written },
        )
    }

    pub(super) fn close_all(&mut self) -> Vec<Event> {
        self.open.clear();
        let numbers: Vec<u64> = self.tallies.keys().copied().collect();
        numbers
            .into_iter()
            .filter_map(|number| self.closed(number))
            .collect()
    }
}
