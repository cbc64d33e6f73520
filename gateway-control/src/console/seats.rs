//! Who is signed in: what a cookie stands for.
//!
//! A seat holds who its token showed somebody to be, never the token; and of the cookie only a hash, so that whoever reads
//! this memory can sign in as nobody.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use gateway_core::principal::Authenticated;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// A seat that nobody uses is given up after it.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// The longest that one lasts, whatever its token does.
const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// Seats at the same time.
const SEATS: usize = 1024;
/// Of these, of one subject: the one that was used longest ago gives way.
const SEATS_OF_ONE: usize = 8;
/// Bytes of what a cookie and a form token are.
const SECRET: usize = 32;

/// The hash of a cookie.
pub(super) type Key = [u8; 32];

/// The seats.
#[derive(Default)]
pub(super) struct Seats(Mutex<HashMap<Key, Seat>>);

struct Seat {
    who: Authenticated,
    form: String,
    opened: Instant,
    used: Instant,
}

impl Seat {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) >= IDLE
            || now.saturating_duration_since(self.opened) >= LONGEST
    }
}

/// Who sits there.
#[derive(Debug, Clone)]
pub(super) struct Seated {
    pub(super) key: Key,
    pub(super) who: Authenticated,
    /// What each form of this seat has in it.
    pub(super) form: String,
}

/// Random letters that nobody guesses.
fn secret() -> io::Result<String> {
    let mut bytes = [0; SECRET];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn key(cookie: &str) -> Key {
    Sha256::digest(cookie).into()
}

/// Whether two secrets are equal, told in a time that says nothing of where they differ.
pub(super) fn same(one: &str, other: &str) -> bool {
    key(one) == key(other)
}

impl Seats {
    /// Takes a seat; gives the cookie. `None`: all are taken.
    pub(super) fn open(&self, who: Authenticated, now: Instant) -> io::Result<Option<String>> {
        let (cookie, form) = (secret()?, secret()?);
        let mut seats = self.0.lock();
        seats.retain(|_, seat| !seat.is_over(now));
        let subject = &who.principal.subject;
        let own = |seat: &Seat| seat.who.principal.subject == *subject;
        if seats.values().filter(|seat| own(seat)).count() >= SEATS_OF_ONE {
            let own = seats.iter().filter(|(_, seat)| own(seat));
            let oldest = own.min_by_key(|(_, seat)| seat.used).map(|(key, _)| *key);
            oldest.and_then(|key| seats.remove(&key));
        }
        if seats.len() >= SEATS {
            return Ok(None);
        }
        let seat = Seat {
            who,
            form,
            opened: now,
            used: now,
        };
        seats.insert(key(&cookie), seat);
        Ok(Some(cookie))
    }

    /// Whose seat the cookie stands for. It counts as used.
    pub(super) fn find(&self, cookie: &str, now: Instant) -> Option<Seated> {
        let key = key(cookie);
        let mut seats = self.0.lock();
        let seat = seats.get_mut(&key)?;
        if seat.is_over(now) {
            seats.remove(&key);
            return None;
        }
        seat.used = now;
        Some(Seated {
            key,
            who: seat.who.clone(),
            form: seat.form.clone(),
        })
    }

    /// Whether somebody still sits there. That does not count as use.
    pub(super) fn holds(&self, key: &Key, now: Instant) -> bool {
        self.0.lock().get(key).is_some_and(|seat| !seat.is_over(now))
    }

    /// Gives it up.
    pub(super) fn close(&self, key: &Key) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_core::principal::{Principal, PrincipalKind};
    use std::sync::Arc;

    fn who(subject: &str) -> Authenticated {
        Authenticated {
            principal: Arc::new(Principal::new(subject, PrincipalKind::Human)),
            credential_id: subject.to_owned(),
            expires: None,
            resources: None,
        }
    }

    #[test]
    fn a_seat_ends_by_idleness_by_age_and_by_hand() {
        let seats = Seats::default();
        let start = Instant::now();
        let cookie = seats.open(who("ann"), start).unwrap().unwrap();
        assert_eq!(cookie.len(), 64);
        assert!(seats.find("other", start).is_none());
        let mut now = start;
        let mut uses = 0;
        // Used all the time, it still ends.
        while seats.find(&cookie, now).is_some() {
            uses += 1;
            now += IDLE - Duration::from_secs(1);
        }
        assert!(now >= start + LONGEST, "{uses}");
        let cookie = seats.open(who("ann"), start).unwrap().unwrap();
        let key = seats.find(&cookie, start).unwrap().key;
        assert!(seats.holds(&key, start));
        assert!(!seats.holds(&key, start + IDLE));
        assert!(seats.find(&cookie, start + IDLE).is_none());
        let cookie = seats.open(who("ann"), start).unwrap().unwrap();
        let key = seats.find(&cookie, start).unwrap().key;
        seats.close(&key);
        assert!(seats.find(&cookie, start).is_none());
    }

    #[test]
    fn seats_are_bounded_for_one_and_for_all() {
        let seats = Seats::default();
        let start = Instant::now();
        let first = seats.open(who("ann"), start).unwrap().unwrap();
        for n in 1..=SEATS_OF_ONE {
            let later = start + Duration::from_secs(n.try_into().unwrap());
            assert!(seats.open(who("ann"), later).unwrap().is_some());
        }
        assert!(seats.find(&first, start).is_none(), "the oldest gives way");
        for n in SEATS_OF_ONE..SEATS {
            assert!(seats.open(who(&n.to_string()), start).unwrap().is_some(), "{n}");
        }
        assert!(seats.open(who("bob"), start).unwrap().is_none());
        assert!(seats.open(who("bob"), start + IDLE).unwrap().is_some());
    }
}
