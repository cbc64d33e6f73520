//! What of a session is recorded.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Directory, place};
use crate::recording::Kind;
use crate::recording::chunk::Seal;
use crate::session::SessionId;

/// A recording as lists show it. Nothing of this is proven.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listed {
    /// Its number in the session.
    pub recording: u32,
    /// What it is, where it runs or can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// What it is to people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// Whether it goes on.
    pub running: bool,
    /// Its end; none: it goes on, or was cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
    /// Why it can't be looked into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A recording that runs, to be watched.
#[derive(Debug, Clone)]
pub struct Live {
    /// Its number in the session.
    pub recording: u32,
    /// What it is.
    pub kind: Kind,
}

impl Directory {
    /// The recordings of a session, in their order. Blocking.
    pub fn list(&self, session: SessionId) -> Vec<Listed> {
        let mut numbers = std::collections::BTreeSet::new();
        for dir in self.places() {
            numbers.extend(place::numbers(&place::folder(dir, session)).into_keys());
        }
        numbers
            .into_iter()
            .map(|number| self.listed(session, number))
            .collect()
    }

    fn listed(&self, session: SessionId, number: u32) -> Listed {
        if let Some(running) = self.running.lock().get(&(session, number)) {
            return Listed {
                recording: number,
                kind: Some(running.begin.what.kind),
                title: Some(running.begin.what.title.clone()),
                started: Some(running.started),
                running: true,
                seal: None,
                error: None,
            };
        }
        let mut reading = self.reading(session, number, None);
        let header = reading.header();
        let text = |path: &str| header.as_ref()?.pointer(path)?.as_str().map(str::to_owned);
        let kind = header.as_ref().and_then(|header| header.pointer("/gateway/kind"));
        let started = header
            .as_ref()
            .and_then(|header| header.get("timestamp")?.as_i64());
        Listed {
            recording: number,
            kind: kind.and_then(|kind| serde_json::from_value(kind.clone()).ok()),
            title: text("/title"),
            started: started.and_then(|seconds| Timestamp::from_second(seconds).ok()),
            running: false,
            seal: reading.seal(),
            error: header.is_none().then(|| reading.why()),
        }
    }

    /// Those of a session that run.
    pub fn live(&self, session: SessionId) -> Vec<Live> {
        let running = self.running.lock();
        running
            .range((session, 0)..=(session, u32::MAX))
            .map(|((_, number), running)| Live {
                recording: *number,
                kind: running.begin.what.kind,
            })
            .collect()
    }
}
