//! The ways to targets, and how many connections knock at one of them at the same time.
//!
//! Each channel of a client is a connection of its own, and many begin at once (a browser behind `-D`, a playbook, a
//! multiplexed client). OpenSSH's server drops connections that have not logged in beyond ten of them (`MaxStartups
//! 10:30:100`), and holds it against the address that they come from. So they take turns until they are logged in.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::dial::{Dial, Tcp};

/// Connections to one address that have not logged in yet.
const AT_ONCE: usize = 8;
/// Addresses that are kept in mind although nobody is at their door.
const KEPT: usize = 256;

/// The doors of all targets.
pub(crate) struct Doors {
    turns: Mutex<HashMap<String, Arc<Semaphore>>>,
    dial: Arc<dyn Dial>,
}

impl Default for Doors {
    fn default() -> Self {
        Self::reached_by(Arc::new(Tcp))
    }
}

impl std::fmt::Debug for Doors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Doors").finish_non_exhaustive()
    }
}

impl Doors {
    /// Those that are reached so.
    pub(crate) fn reached_by(dial: Arc<dyn Dial>) -> Self {
        Self {
            turns: Mutex::default(),
            dial,
        }
    }

    /// The way there.
    pub(crate) fn dial(&self) -> &dyn Dial {
        &*self.dial
    }

    /// Waits for a turn at that address; it ends when what is returned is dropped.
    pub(crate) async fn turn(&self, address: &str) -> Option<OwnedSemaphorePermit> {
        let door = {
            let mut doors = self.turns.lock();
            if doors.len() >= KEPT {
                doors.retain(|_, door| Arc::strong_count(door) > 1);
            }
            doors
                .entry(address.to_owned())
                .or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE)))
                .clone()
        };
        door.acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn so_many_and_no_more_are_at_one_door() {
        let doors = Doors::default();
        let mut inside = Vec::new();
        for _ in 0..AT_ONCE {
            inside.push(doors.turn("10.0.0.9:22").await.unwrap());
        }
        let moment = Duration::from_millis(50);
        assert!(
            tokio::time::timeout(moment, doors.turn("10.0.0.9:22"))
                .await
                .is_err()
        );
        assert!(
            doors.turn("10.0.0.10:22").await.is_some(),
            "another target's is free"
        );
        inside.pop();
        assert!(doors.turn("10.0.0.9:22").await.is_some());
        for n in 0..2 * KEPT {
            drop(doors.turn(&format!("host-{n}:22")).await.unwrap());
        }
        assert!(doors.turns.lock().len() <= KEPT);
        assert!(
            doors.turns.lock().contains_key("10.0.0.9:22"),
            "one that is in use stays"
        );
    }
}
