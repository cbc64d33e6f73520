//! This gateway as one of several that share a store: its signs of life, the sessions that others ask it to end, what
//! they decide, and what becomes of those that are gone.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use gateway_control::approvals::ApprovalDesk;
use gateway_core::gateway::Gateway;
use gateway_core::machine::End;
use gateway_core::services::{Store, StoreError};
use gateway_core::session::{SessionId, SessionRecord};
use gateway_store::{DEAD, NotJoined, PostgresStore, Told};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

/// How often this gateway gives a sign of life, and looks for what others have asked; a notification is faster.
const BEAT: Duration = Duration::from_secs(2);
/// Every so many beats the sessions in the store are compared with those that run.
const COMPARE: u32 = 10;
/// Every so many beats it is looked for gateways that are gone.
const BURY: u32 = 3;
/// How long a stop waits until the ends of its sessions are written down.
const LAST_ENDS: Duration = Duration::from_secs(2);

/// One of several gateways.
pub(crate) struct Node {
    store: Arc<PostgresStore>,
    id: String,
    keys: String,
}

impl Node {
    /// Becomes one: under the id of the data directory, with the keys that all have.
    pub(crate) async fn join(store: &PostgresStore, data_dir: &Path, keys: String) -> anyhow::Result<Self> {
        let id = kept_id(data_dir)?;
        let store = store.as_node(&id);
        store.join(&keys).await?;
        tracing::info!(node = id, "one of the gateways of a shared store");
        Ok(Self {
            store: Arc::new(store),
            id,
            keys,
        })
    }

    /// The store, as this gateway sees it.
    pub(crate) fn store(&self) -> &Arc<PostgresStore> {
        &self.store
    }

    /// Never ends.
    pub(crate) async fn run(self: Arc<Self>, gateway: Arc<Gateway>, approvals: ApprovalDesk) {
        let asked = Notify::new();
        let hear = |told| match told {
            Told::Approval(id) => approvals.wake(&id),
            Told::SessionEnd(node) if node == self.id => asked.notify_one(),
            Told::SessionEnd(_) => {}
            Told::Listening => {
                approvals.wake_all();
                asked.notify_one();
            }
        };
        let live = async {
            let mut watch = Watch::new(&self, &gateway);
            let mut beats = tokio::time::interval(BEAT);
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = beats.tick() => watch.beat().await,
                    () = asked.notified() => watch.note(self.end_asked(&gateway).await),
                }
            }
        };
        tokio::join!(self.store.listen(hear), live);
    }

    /// Ends what others have asked to end.
    async fn end_asked(&self, gateway: &Gateway) -> Result<(), StoreError> {
        for (id, kill) in self.store.take_ends().await? {
            gateway.live().end(id, End::Killed(Box::new(kill)));
        }
        Ok(())
    }

    /// At a stop: none of the gateways any more, once the ends of its sessions are written down.
    pub(crate) async fn leave(&self) {
        let until = Instant::now() + LAST_ENDS;
        while Instant::now() < until && self.store.own_sessions().await.is_ok_and(|left| !left.is_empty()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if let Err(error) = self.store.leave().await {
            tracing::warn!(%error, "other gateways count this one as gone only later");
        }
    }
}

/// What is remembered from beat to beat.
struct Watch<'a> {
    node: &'a Node,
    gateway: &'a Gateway,
    beats: u32,
    /// Since when the server has answered each time, and when it did last.
    answered: Option<(Instant, Instant)>,
    /// Sessions that the store has and that do not run, as the last comparison found.
    suspects: HashSet<SessionId>,
    /// Something may have been missed.
    compare: bool,
    /// It was told that the store is away.
    away: bool,
}

impl<'a> Watch<'a> {
    fn new(node: &'a Node, gateway: &'a Gateway) -> Self {
        Self {
            node,
            gateway,
            beats: 0,
            answered: None,
            suspects: HashSet::new(),
            compare: false,
            away: false,
        }
    }

    async fn beat(&mut self) {
        self.beats = self.beats.wrapping_add(1);
        let done = self.try_beat().await;
        self.note(done);
    }

    fn note(&mut self, done: Result<(), StoreError>) {
        match done {
            Ok(()) if self.away => {
                self.away = false;
                tracing::info!("the store is back");
            }
            Ok(()) => {}
            Err(error) => {
                if !self.away {
                    tracing::error!(%error, "the store is away; what needs it is refused until it is back");
                }
                self.away = true;
                self.compare = true;
                self.answered = None;
            }
        }
    }

    async fn try_beat(&mut self) -> Result<(), StoreError> {
        let store = &self.node.store;
        if !store.beat().await? {
            self.compare = true;
            self.answered = None;
            tracing::warn!("other gateways counted this one as gone; it is there again");
            match store.join(&self.node.keys).await {
                Ok(()) => {}
                Err(NotJoined::Store(error)) => return Err(error),
                Err(error @ (NotJoined::OtherKeys(_) | NotJoined::OtherSealing(_))) => {
                    tracing::error!(%error, "this gateway runs beside others that it does not fit");
                    return Ok(());
                }
            }
        }
        let now = Instant::now();
        let since = match self.answered {
            Some((since, last)) if now.duration_since(last) < DEAD / 2 => since,
            _ => now,
        };
        self.answered = Some((since, now));
        self.node.end_asked(self.gateway).await?;
        if self.compare || self.beats.is_multiple_of(COMPARE) {
            self.compare_sessions().await?;
            self.compare = false;
        }
        // After an outage nobody's last sign of life is fresh: others get as much time as this one had.
        if now.duration_since(since) >= DEAD && self.beats.is_multiple_of(BURY) {
            let ended = store
                .bury(Timestamp::now(), "the gateway that had it is gone")
                .await?;
            if ended > 0 {
                tracing::warn!(
                    sessions = ended,
                    "sessions of gateways that are gone were ended in the list"
                );
            }
        }
        Ok(())
    }

    /// What runs here is in the store, and what does not is not there as if it did.
    async fn compare_sessions(&mut self) -> Result<(), StoreError> {
        let store = &self.node.store;
        let live = self.gateway.live();
        let kept: HashSet<SessionId> = store.own_sessions().await?.into_iter().collect();
        for record in live.list() {
            if !kept.contains(&record.id) {
                store.put_session(&record).await?;
            }
        }
        let mut suspects = HashSet::new();
        for id in kept.into_iter().filter(|id| live.session(*id).is_none()) {
            // Seen once, its end may be on its way.
            if !self.suspects.contains(&id) {
                suspects.insert(id);
                continue;
            }
            if let Some(record) = store.session(id).await?.filter(|record| record.ended.is_none()) {
                let ended = SessionRecord {
                    ended: Some(self.gateway.now()),
                    reason: Some("its end could not be written down in time".to_owned()),
                    ..record
                };
                store.put_session(&ended).await?;
            }
        }
        self.suspects = suspects;
        Ok(())
    }
}

/// The id of the gateway on this data directory, made at its first start: the host's name, so that people know it, and
/// something by which it differs from all others.
fn kept_id(data_dir: &Path) -> anyhow::Result<String> {
    const NAME: usize = 40;
    let path = data_dir.join("node.id");
    let about = || format!("the gateway's id `{}`", path.display());
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if !path.exists() {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host: String = host.trim().chars().filter(|c| known(*c)).take(NAME).collect();
        let host = if host.is_empty() { "gateway" } else { &host };
        let id = format!("{host}-{}", SessionId::generate().short());
        let temporary = path.with_extension("new");
        std::fs::write(&temporary, id).with_context(about)?;
        std::fs::rename(&temporary, &path).with_context(about)?;
    }
    let id = std::fs::read_to_string(&path).with_context(about)?;
    let id = id.trim();
    if id.is_empty() || id.len() > NAME + 20 || !id.chars().all(known) {
        bail!("{} is no id; remove it, and another one is made", about());
    }
    Ok(id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_keeps_its_id_and_another_has_another() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id = kept_id(one.path()).unwrap();
        assert_eq!(kept_id(one.path()).unwrap(), id);
        assert_ne!(kept_id(two.path()).unwrap(), id);
        for bad in ["", "a b", "a'; DROP TABLE nodes; --", &"x".repeat(100)] {
            std::fs::write(one.path().join("node.id"), bad).unwrap();
            kept_id(one.path()).unwrap_err();
        }
    }
}
