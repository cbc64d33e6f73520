//! Cancel keys: ours towards the client, mapped to the target's, which no client ever sees.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use gateway_core::audit::Event;
use gateway_core::gateway::{Gateway, SessionScope};
use gateway_core::resource::Resource;
use gateway_core::session::SessionId;
use parking_lot::Mutex;
use subtle::ConstantTimeEq;

use crate::target;
use crate::wire::frontend::ProtocolVersion;

/// What a key stands for.
#[derive(Debug, Clone)]
struct Entry {
    secret: Arc<[u8]>,
    session: SessionId,
    resource: Arc<Resource>,
    target: Option<(i32, Vec<u8>)>,
    /// Held while the target is told, so that a session has one such connection at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Requests that tell the target, or wait for their turn to.
    room: Arc<tokio::sync::Semaphore>,
}

/// The keys of all sessions.
#[derive(Default)]
pub(crate) struct CancelKeys {
    entries: Mutex<HashMap<i32, Entry>>,
}

/// A key, good while this lives.
pub(crate) struct CancelKey {
    keys: Arc<CancelKeys>,
    process_id: i32,
    secret: Arc<[u8]>,
}

/// Bytes of a key: four until version 3.2 of the protocol, which has longer ones.
fn key_bytes(version: ProtocolVersion) -> usize {
    if version >= ProtocolVersion::V3_2 { 32 } else { 4 }
}

impl CancelKey {
    /// The process id that the client is told.
    pub(crate) fn process_id(&self) -> i32 {
        self.process_id
    }

    /// The key that the client is told.
    pub(crate) fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// A name that no client can guess, for the session's own statements at the target.
    pub(crate) fn nonce(&self) -> String {
        let mut bytes = [0_u8; 12];
        random(&mut bytes);
        bytes
            .iter()
            .fold("gateway_".to_owned(), |text, byte| format!("{text}{byte:02x}"))
    }
}

impl Drop for CancelKey {
    fn drop(&mut self) {
        self.keys.entries.lock().remove(&self.process_id);
    }
}

/// Random bytes. Where the system has none, they stay zero, and the caller's uniqueness checks still hold.
fn random(bytes: &mut [u8]) {
    if SystemRandom::new().fill(bytes).is_err() {
        tracing::error!("the system gave no random bytes");
    }
}

impl CancelKeys {
    /// A fresh key for a session, as long as the version that its client speaks has it.
    pub(crate) fn enter(
        self: &Arc<Self>,
        scope: &SessionScope,
        version: ProtocolVersion,
        target: Option<(i32, Vec<u8>)>,
    ) -> CancelKey {
        let mut secret = [0_u8; 32];
        random(&mut secret);
        let secret: Arc<[u8]> = secret.get(..key_bytes(version)).unwrap_or_default().into();
        let mut entries = self.entries.lock();
        let process_id = loop {
            let mut bytes = [0_u8; 4];
            random(&mut bytes);
            let candidate = i32::from_be_bytes(bytes) & i32::MAX;
            if candidate != 0 && !entries.contains_key(&candidate) {
                break candidate;
            }
        };
        let entry = Entry {
            secret: secret.clone(),
            session: scope.id(),
            resource: scope.resource().clone(),
            target,
            turn: Arc::default(),
            room: Arc::new(tokio::sync::Semaphore::new(2)),
        };
        entries.insert(process_id, entry);
        CancelKey {
            keys: self.clone(),
            process_id,
            secret,
        }
    }

    fn find(&self, process_id: i32, key: &[u8]) -> Option<Entry> {
        let entry = self.entries.lock().get(&process_id).cloned()?;
        // Keys of different lengths are not equal.
        bool::from(entry.secret.ct_eq(key)).then_some(entry)
    }

    /// Cancels what a session runs. As in PostgreSQL nobody is told whether that was so.
    pub(crate) async fn cancel(&self, gateway: &Arc<Gateway>, peer: SocketAddr, process_id: i32, key: &[u8]) {
        let Some(entry) = self.find(process_id, key) else {
            // Whoever guesses at keys must not fill the trail.
            metrics::counter!("gateway_cancels_unknown_total", "protocol" => "postgres").increment(1);
            tracing::debug!(%peer, "a cancel request for no session");
            return;
        };
        let session = entry.session;
        gateway.note(&Event::Cancel {
            session: Some(session),
            peer,
        });
        if gateway.live().give_up(session) {
            // It waits for people: nothing of it has come to the target.
            return;
        }
        let (resource, Some((target_id, target_key))) = (&entry.resource, &entry.target) else {
            return;
        };
        let limit = gateway.limits().connect;
        // Who has the key may send as many requests as the half-open cap lets in; the target sees one at a time. One
        // that waits for its turn stands for all that come while it does: it is sent after them.
        let Ok(_room) = entry.room.try_acquire() else {
            return;
        };
        let _turn = entry.turn.lock().await;
        if let Err(error) = target::cancel(resource, *target_id, target_key, limit).await {
            tracing::warn!(%error, %session, "cancelling failed");
        }
    }
}
