//! Connections that have not logged in yet: bounded, and shared between the addresses they come from.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// From how many places on some are kept back.
const SHARED: usize = 16;

/// Places for connections that have not logged in yet. All listeners of a gateway share them.
///
/// The last quarter is for addresses that hold less than an eighth, so that whoever opens connections and says nothing
/// does not lock the others out. IPv6 addresses count by their network of 64 bits.
#[derive(Debug, Clone)]
pub struct HalfOpen(Arc<Places>);

#[derive(Debug)]
struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<IpAddr, usize>,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    of: HalfOpen,
    holder: Option<IpAddr>,
}

impl HalfOpen {
    /// So many places.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Places {
            most,
            taken: Mutex::default(),
        }))
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.0.taken.lock().all
    }

    /// Takes a place for a connection from there; `None` where it is not known yet from where. No place: there is none left for it.
    pub fn take(&self, from: Option<IpAddr>) -> Option<Place> {
        let holder = from.map(network);
        let mut taken = self.0.taken.lock();
        if taken.all >= self.0.most || !self.has_share(&taken, holder) {
            return None;
        }
        taken.all = taken.all.saturating_add(1);
        taken.count(holder);
        drop(taken);
        Some(Place {
            of: self.clone(),
            holder,
        })
    }

    /// Whether there is one more for this holder among those that are left.
    fn has_share(&self, taken: &Taken, holder: Option<IpAddr>) -> bool {
        let most = self.0.most;
        let kept_back = if most < SHARED { 0 } else { most / 4 };
        let held = holder.and_then(|holder| taken.by.get(&holder));
        taken.all < most.saturating_sub(kept_back) || held.is_none_or(|held| *held < most / 8)
    }
}

impl Taken {
    fn count(&mut self, holder: Option<IpAddr>) {
        if let Some(holder) = holder {
            let held = self.by.entry(holder).or_default();
            *held = held.saturating_add(1);
        }
    }
}

impl Place {
    /// It has turned out whose this is, behind a proxy. `false`: there is none left for them.
    pub fn name(&mut self, from: IpAddr) -> bool {
        let holder = Some(network(from));
        let mut taken = self.of.0.taken.lock();
        if self.holder.is_some() || !self.of.has_share(&taken, holder) {
            return self.holder.is_some();
        }
        taken.count(holder);
        self.holder = holder;
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.0.taken.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Some(holder) = self.holder
            && let Some(held) = taken.by.get_mut(&holder)
        {
            *held = held.saturating_sub(1);
            if *held == 0 {
                taken.by.remove(&holder);
            }
        }
    }
}

/// Who counts as one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() & (u128::from(u64::MAX) << 64);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn one_address_can_not_take_all_places() {
        let half_open = HalfOpen::new(64);
        let flood: Vec<_> = std::iter::from_fn(|| half_open.take(ip("10.0.0.1"))).collect();
        assert_eq!(flood.len(), 48);
        // Others get in, each up to an eighth; what is all taken is all taken.
        let second: Vec<_> = std::iter::from_fn(|| half_open.take(ip("10.0.0.2"))).collect();
        assert_eq!(second.len(), 8);
        let third: Vec<_> = (0..9)
            .filter_map(|n| half_open.take(ip(&format!("10.0.1.{n}"))))
            .collect();
        assert_eq!((third.len(), half_open.taken()), (8, 64));
        // A place that is given back is there again.
        drop(flood);
        assert_eq!(half_open.taken(), 16);
        assert!(half_open.take(ip("10.0.0.1")).is_some());
        drop((second, third));
        assert_eq!(half_open.taken(), 0);
        assert!(half_open.0.taken.lock().by.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_and_a_mapped_address_is_what_it_maps() {
        for (one, other, same) in [
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
        ] {
            assert_eq!(
                network(one.parse().unwrap()) == network(other.parse().unwrap()),
                same,
                "{one} {other}"
            );
        }
    }

    #[test]
    fn who_is_behind_a_proxy_counts_once_it_is_named() {
        let half_open = HalfOpen::new(16);
        let mut behind: Vec<_> = (0..14).filter_map(|_| half_open.take(None)).collect();
        assert_eq!(behind.len(), 14);
        let named = behind
            .iter_mut()
            .filter_map(|place| place.name("10.0.0.1".parse().unwrap()).then_some(()))
            .count();
        assert_eq!(named, 2);
        assert!(behind.last_mut().unwrap().name("10.0.0.2".parse().unwrap()));
        drop(behind);
        assert!(half_open.0.taken.lock().by.is_empty());
    }

    #[test]
    fn few_places_are_for_whoever_comes() {
        let half_open = HalfOpen::new(2);
        let _held: Vec<_> = (0..2).map(|_| half_open.take(ip("10.0.0.1")).unwrap()).collect();
        assert!(half_open.take(ip("10.0.0.2")).is_none());
    }
}
