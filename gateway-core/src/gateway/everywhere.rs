//! Sessions wherever they run: on this gateway, and on others that share its store.

use std::collections::BTreeMap;

use super::Gateway;
use crate::machine::{End, Kill};
use crate::services::{SessionFilter, StoreError};
use crate::session::{SessionId, SessionRecord};

/// Whether a session that is not here runs on another gateway: of one that a gateway has alone nothing else counts than
/// that it is not here.
fn elsewhere(record: &SessionRecord) -> bool {
    record.ended.is_none() && record.node.is_some()
}

impl Gateway {
    /// The session of that id, if it runs anywhere.
    pub async fn running_session(&self, id: SessionId) -> Result<Option<SessionRecord>, StoreError> {
        match self.live.session(id) {
            Some(here) => Ok(Some(here)),
            None => Ok(self.store().session(id).await?.filter(elsewhere)),
        }
    }

    /// The sessions that run anywhere, oldest first; of those elsewhere at most the newest `limit`. While the store is
    /// away, those that run here.
    pub async fn running_sessions(&self, limit: u32) -> Vec<SessionRecord> {
        let stored = match self.store().sessions(SessionFilter::Live, limit).await {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(%error, "the sessions of other gateways cannot be listed");
                Vec::new()
            }
        };
        let mut all: BTreeMap<SessionId, SessionRecord> = stored
            .into_iter()
            .filter(elsewhere)
            .map(|record| (record.id, record))
            .collect();
        for here in self.live.list() {
            let node = all.remove(&here.id).and_then(|stored| stored.node);
            all.insert(here.id, SessionRecord { node, ..here });
        }
        all.into_values().collect()
    }

    /// An operator ends a session, wherever it runs; `false`: it runs nowhere.
    pub async fn kill_session(&self, id: SessionId, kill: Kill) -> Result<bool, StoreError> {
        if self.live.end(id, End::Killed(Box::new(kill.clone()))) {
            return Ok(true);
        }
        self.store().end_elsewhere(id, &kill).await
    }
}
