//! The sessions that run: to list them, and to end them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::RwLock;

use super::granted::Granted;
use super::{Control, Counters};
use crate::machine::End;
use crate::services::Policy;
use crate::session::{SessionId, SessionRecord};

/// One running session.
#[derive(Debug)]
pub(super) struct Entry {
    record: SessionRecord,
    /// Id of what proved its principal.
    credential: Arc<str>,
    pub(super) counters: Counters,
    pub(super) control: Control,
    /// What of it stands on grants.
    pub(super) granted: Granted,
}

impl Entry {
    /// The record with today's counts.
    pub(super) fn record(&self) -> SessionRecord {
        SessionRecord {
            operations: self.counters.operations.load(Ordering::Relaxed),
            refused: self.counters.refused.load(Ordering::Relaxed),
            rows: self.counters.rows.load(Ordering::Relaxed),
            bytes: self.counters.bytes.load(Ordering::Relaxed),
            ..self.record.clone()
        }
    }
}

/// The sessions that run in this process.
#[derive(Debug, Default)]
pub struct LiveSessions {
    sessions: RwLock<HashMap<SessionId, Arc<Entry>>>,
}

impl LiveSessions {
    /// Takes a session in, unless there are `limit` already.
    pub(super) fn enter(&self, record: SessionRecord, credential: &str, limit: usize) -> Option<Arc<Entry>> {
        let mut sessions = self.sessions.write();
        if sessions.len() >= limit {
            return None;
        }
        let id = record.id;
        let entry = Arc::new(Entry {
            record,
            credential: credential.into(),
            counters: Counters::default(),
            control: Control::default(),
            granted: Granted::default(),
        });
        sessions.insert(id, entry.clone());
        Some(entry)
    }

    pub(super) fn leave(&self, id: SessionId) {
        self.sessions.write().remove(&id);
    }

    pub(super) fn drain(&self) {
        for entry in self.sessions.read().values() {
            entry.control.drain.cancel();
        }
    }

    /// How many sessions run.
    pub fn len(&self) -> usize {
        self.sessions.read().len()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, oldest first.
    pub fn list(&self) -> Vec<SessionRecord> {
        let mut list: Vec<_> = self
            .sessions
            .read()
            .values()
            .map(|entry| entry.record())
            .collect();
        list.sort_by_key(|record| record.id);
        list
    }

    /// One of them.
    pub fn session(&self, id: SessionId) -> Option<SessionRecord> {
        self.sessions.read().get(&id).map(|entry| entry.record())
    }

    /// Tells a session to end; `false`: no such session runs.
    pub fn end(&self, id: SessionId, why: End) -> bool {
        let entry = self.sessions.read().get(&id).cloned();
        entry.inspect(|entry| entry.control.end(why)).is_some()
    }

    /// The client of a session gives up waiting for people; `false`: it does not wait for any.
    pub fn give_up(&self, id: SessionId) -> bool {
        let entry = self.sessions.read().get(&id).cloned();
        entry.is_some_and(|entry| entry.control.give_up())
    }

    /// What proved the principals of the sessions that run, each once.
    pub(super) fn credentials(&self) -> BTreeSet<Arc<str>> {
        let sessions = self.sessions.read();
        sessions.values().map(|entry| entry.credential.clone()).collect()
    }

    /// Tells all sessions of a credential to end, at once: it was revoked.
    pub fn end_credential(&self, credential_id: &str) {
        let entries: Vec<_> = self
            .sessions
            .read()
            .values()
            .filter(|entry| *entry.credential == *credential_id)
            .cloned()
            .collect();
        for entry in entries {
            entry.control.end(End::Expired);
        }
    }

    /// Tells the sessions to end of which something stood on a grant, and is not permitted any more.
    pub(super) fn end_ungranted(&self, policy: &dyn Policy) {
        let entries: Vec<_> = self.sessions.read().values().cloned().collect();
        for entry in entries.iter().filter(|entry| !entry.granted.stands(policy)) {
            entry.control.end(End::AccessEnded);
        }
    }

    /// Tells all sessions to end.
    pub fn end_all(&self, why: &End) {
        let entries: Vec<_> = self.sessions.read().values().cloned().collect();
        for entry in entries {
            entry.control.end(why.clone());
        }
    }
}
