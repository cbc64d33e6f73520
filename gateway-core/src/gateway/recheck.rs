//! What sessions stand on is checked again while they run: what proved an identity, once for all sessions of one
//! credential, and what a grant has permitted, whenever other policies or grants are in force.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;

use super::Gateway;

/// How often.
const RECHECK: Duration = Duration::from_secs(2);
/// How often it is looked whether other policies are in force.
const GRANTS: Duration = Duration::from_millis(500);

impl Gateway {
    /// Begins to check, with the first session; goes on as long as the gateway is there.
    pub(super) fn recheck_credentials(self: &Arc<Self>) {
        if self.rechecking.load(Ordering::Relaxed) || self.rechecking.swap(true, Ordering::Relaxed) {
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(run(Arc::downgrade(self)))),
            Err(_) => self.rechecking.store(false, Ordering::Relaxed),
        }
    }

    async fn recheck(&self) {
        for id in self.live.credentials() {
            let check = AssertUnwindSafe(self.parts.authenticator.still_valid(&id)).catch_unwind();
            match check.await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => self.live.end_credential(&id),
                // A store that can't be asked ends no session by itself: the expiry still bounds it.
                Ok(Err(error)) => tracing::warn!(%error, "a token could not be checked again"),
                // One look serves all sessions, so a panic must not end the looks that follow.
                Err(_) => tracing::error!("checking a token again panicked"),
            }
        }
    }
}

async fn run(gateway: Weak<Gateway>) {
    let mut generation = None;
    let mut checked = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(GRANTS).await;
        let Some(gateway) = gateway.upgrade() else { return };
        let policy = &*gateway.parts.policy;
        let now = Some(policy.generation());
        if generation != now {
            generation = now;
            gateway.live.end_ungranted(policy);
        }
        if checked.elapsed() >= RECHECK {
            checked = tokio::time::Instant::now();
            gateway.recheck().await;
        }
    }
}
