//! Who waits for which approval, in this process.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// A bell for each approval that somebody waits for. As many as there are sessions that wait, at most.
#[derive(Default)]
pub(super) struct Waiters {
    bells: Arc<Mutex<HashMap<String, Arc<Notify>>>>,
}

/// One that waits; gone when dropped.
pub(super) struct Waiter {
    bells: Arc<Mutex<HashMap<String, Arc<Notify>>>>,
    bell: Arc<Notify>,
    id: String,
}

impl Waiters {
    pub(super) fn enter(&self, id: &str) -> Waiter {
        let bell = self.bells.lock().entry(id.to_owned()).or_default().clone();
        Waiter {
            bells: self.bells.clone(),
            bell,
            id: id.to_owned(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bells.lock().is_empty()
    }

    /// Wakes whoever waits for that one.
    pub(super) fn wake(&self, id: &str) {
        if let Some(bell) = self.bells.lock().get(id) {
            bell.notify_waiters();
        }
    }

    /// Wakes whoever waits for one that is not among these.
    pub(super) fn wake_others(&self, still_open: &[String]) {
        let open: HashSet<&str> = still_open.iter().map(String::as_str).collect();
        for (id, bell) in &*self.bells.lock() {
            if !open.contains(id.as_str()) {
                bell.notify_waiters();
            }
        }
    }

    /// Wakes all.
    pub(super) fn wake_all(&self) {
        self.wake_others(&[]);
    }
}

impl Waiter {
    /// Ready once the bell has rung after this call.
    pub(super) fn woken(&self) -> Notified<'_> {
        self.bell.notified()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut bells = self.bells.lock();
        // The map and this one: nobody else waits for it.
        if Arc::strong_count(&self.bell) <= 2 {
            bells.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bell_is_there_as_long_as_somebody_waits() {
        let waiters = Waiters::default();
        let (one, two) = (waiters.enter("a"), waiters.enter("a"));
        let other = waiters.enter("b");
        let woken = one.woken();
        waiters.wake_others(&["b".to_owned()]);
        woken.await;
        drop(one);
        assert!(waiters.bells.lock().contains_key("a"));
        drop(two);
        assert!(!waiters.bells.lock().contains_key("a"));
        drop(other);
        assert!(waiters.is_empty());
    }
}
