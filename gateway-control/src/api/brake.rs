//! How often one may ask: buckets that fill up again with time, in bounded maps.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// Tokens that proved nothing, of one peer, at once.
const FAILURES: f64 = 20.0;
/// So many a second come back.
const FAILURES_SECOND: f64 = 0.5;
/// Requests of one principal at once.
const REQUESTS: f64 = 200.0;
/// So many a second come back.
const REQUESTS_SECOND: f64 = 50.0;
/// Searches of one principal that run or wait: each reads the whole trail.
const SEARCHES_OF_ONE: usize = 2;
/// Peers, principals and tokens that are remembered.
const REMEMBERED: usize = 4096;

/// All brakes.
#[derive(Default)]
pub(super) struct Brakes {
    failures: Buckets<Peer>,
    requests: Buckets<String>,
    /// How many searches of a principal run or wait.
    searches: Arc<Mutex<HashMap<String, usize>>>,
    /// Hashes of tokens that were good: a peer that fails does not lock out who comes from the same address.
    good: Mutex<HashMap<[u8; 32], ()>>,
}

/// An address; of IPv6 the network, since whoever has one address there has them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Peer([u8; 8], bool);

impl Peer {
    fn of(address: SocketAddr) -> Self {
        let mut start = [0; 8];
        match address.ip().to_canonical() {
            IpAddr::V4(v4) => {
                for (to, from) in start.iter_mut().zip(v4.octets()) {
                    *to = from;
                }
                Self(start, true)
            }
            IpAddr::V6(v6) => {
                for (to, from) in start.iter_mut().zip(v6.octets()) {
                    *to = from;
                }
                Self(start, false)
            }
        }
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

impl Brakes {
    /// Whether a token of that peer is looked at; else after how many seconds.
    pub(super) fn may_try(&self, peer: SocketAddr, token: &str) -> Result<(), u64> {
        if self.good.lock().contains_key(&hash(token)) {
            return Ok(());
        }
        self.failures
            .look(&Peer::of(peer), FAILURES, FAILURES_SECOND, Instant::now())
    }

    /// It proved nothing.
    pub(super) fn failed(&self, peer: SocketAddr, token: &str) {
        self.good.lock().remove(&hash(token));
        let _ = self
            .failures
            .take(Peer::of(peer), FAILURES, FAILURES_SECOND, Instant::now());
    }

    /// It is good.
    pub(super) fn good(&self, token: &str) {
        let mut good = self.good.lock();
        if good.len() >= REMEMBERED {
            good.clear();
        }
        good.insert(hash(token), ());
    }

    /// Begins a search of a principal; `None`: as many as one may have at a time run or wait already.
    pub(super) fn search(&self, subject: &str) -> Option<Searching> {
        let mut all = self.searches.lock();
        let count = all.entry(subject.to_owned()).or_default();
        if *count >= SEARCHES_OF_ONE {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Searching {
            subject: subject.to_owned(),
            all: self.searches.clone(),
        })
    }

    /// Whether a principal may ask now; else after how many seconds.
    pub(super) fn request(&self, subject: &str) -> Result<(), u64> {
        self.requests
            .take(subject.to_owned(), REQUESTS, REQUESTS_SECOND, Instant::now())
    }
}

/// A search that runs or waits; it is over when this is dropped.
pub(super) struct Searching {
    subject: String,
    all: Arc<Mutex<HashMap<String, usize>>>,
}

impl Drop for Searching {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(count) = all.get_mut(&self.subject) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                all.remove(&self.subject);
            }
        }
    }
}

/// How full a bucket was, and when.
#[derive(Debug, Clone, Copy)]
struct Level {
    left: f64,
    at: Instant,
}

impl Level {
    fn now(self, most: f64, second: f64, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + passed * second).min(most)
    }
}

struct Buckets<K> {
    levels: Mutex<HashMap<K, Level>>,
}

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self {
            levels: Mutex::default(),
        }
    }
}

impl<K: Eq + Hash> Buckets<K> {
    fn look(&self, key: &K, most: f64, second: f64, now: Instant) -> Result<(), u64> {
        let levels = self.levels.lock();
        let left = levels.get(key).map_or(most, |level| level.now(most, second, now));
        if left >= 1.0 {
            Ok(())
        } else {
            Err(wait(left, second))
        }
    }

    fn take(&self, key: K, most: f64, second: f64, now: Instant) -> Result<(), u64> {
        let mut levels = self.levels.lock();
        let left = levels
            .get(&key)
            .map_or(most, |level| level.now(most, second, now));
        if left < 1.0 {
            return Err(wait(left, second));
        }
        if levels.len() >= REMEMBERED && !levels.contains_key(&key) {
            levels.retain(|_, level| level.now(most, second, now) < most);
            // So many at once are an attack on this very map: whoever is new waits.
            if levels.len() >= REMEMBERED {
                return Err(1);
            }
        }
        levels.insert(
            key,
            Level {
                left: left - 1.0,
                at: now,
            },
        );
        Ok(())
    }
}

fn wait(left: f64, second: f64) -> u64 {
    Duration::try_from_secs_f64((1.0 - left) / second).map_or(1, |wait| wait.as_secs().saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_with_time() {
        let buckets = Buckets::default();
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(buckets.take("a", 3.0, 0.5, start), Ok(()));
        }
        assert_eq!(buckets.take("a", 3.0, 0.5, start), Err(3));
        assert_eq!(buckets.look(&"a", 3.0, 0.5, start), Err(3));
        assert_eq!(buckets.take("b", 3.0, 0.5, start), Ok(()));
        assert_eq!(
            buckets.take("a", 3.0, 0.5, start + Duration::from_secs(2)),
            Ok(())
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let buckets = Buckets::default();
        let start = Instant::now();
        for n in 0..REMEMBERED {
            assert_eq!(buckets.take(n, 2.0, 1.0, start), Ok(()));
        }
        assert_eq!(buckets.take(REMEMBERED, 2.0, 1.0, start), Err(1));
        let later = start + Duration::from_secs(5);
        assert_eq!(buckets.take(REMEMBERED, 2.0, 1.0, later), Ok(()));
        assert_eq!(buckets.levels.lock().len(), 1);
    }

    #[test]
    fn one_principal_does_not_take_all_searches() {
        let brakes = Brakes::default();
        let (first, second) = (brakes.search("ann").unwrap(), brakes.search("ann").unwrap());
        assert!(brakes.search("ann").is_none());
        assert!(brakes.search("bob").is_some());
        drop(first);
        assert!(brakes.search("ann").is_some());
        drop(second);
        assert!(brakes.searches.lock().is_empty());
    }

    #[test]
    fn who_guesses_waits_and_who_was_good_does_not() {
        let brakes = Brakes::default();
        let peer: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
        let neighbour: SocketAddr = "[2001:db8::2]:2".parse().unwrap();
        brakes.good("good");
        for _ in 0..20 {
            assert_eq!(brakes.may_try(peer, "bad"), Ok(()));
            brakes.failed(peer, "bad");
        }
        assert!(brakes.may_try(neighbour, "bad").is_err());
        assert_eq!(brakes.may_try(peer, "good"), Ok(()));
        assert_eq!(brakes.may_try("192.0.2.1:1".parse().unwrap(), "bad"), Ok(()));
    }
}
