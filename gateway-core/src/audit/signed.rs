//! The signed records, which only the log writes.

use super::key::AuditPublicKey;
use super::{Checkpoint, CheckpointReason, Dropped, Event};

/// How the events begin that are signed.
const KINDS: [&str; 3] = [
    r#"{"type":"checkpoint","#,
    r#"{"type":"signing_key","#,
    r#"{"type":"dropped","#,
];

/// What a signed record tells.
#[derive(Debug)]
pub(super) enum Signed {
    /// All before it is signed.
    Checkpoint(Checkpoint),
    /// Another key signs from here on.
    Key {
        /// This one.
        key: AuditPublicKey,
        /// The one before, which signed this.
        previous: Option<AuditPublicKey>,
        /// The next signed record follows after at most so many others.
        next_within: u64,
    },
    /// The oldest segments are taken away.
    Dropped(Dropped),
}

impl Signed {
    /// The key with which this record must be signed.
    pub(super) fn signer(&self) -> AuditPublicKey {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.key,
            Self::Key { key, previous, .. } => previous.unwrap_or(*key),
            Self::Dropped(dropped) => dropped.key,
        }
    }

    /// The key that is in force behind it.
    pub(super) fn key(&self) -> AuditPublicKey {
        match self {
            Self::Key { key, .. } => *key,
            _ => self.signer(),
        }
    }

    /// After how many records at most it promises the next signed one.
    pub(super) fn next_within(&self) -> Option<u64> {
        match self {
            Self::Checkpoint(Checkpoint { next_within, .. }) | Self::Key { next_within, .. } => {
                Some(*next_within)
            }
            Self::Dropped(_) => None,
        }
    }

    /// Whether it closes the trail.
    pub(super) fn is_stop(&self) -> bool {
        matches!(self, Self::Checkpoint(checkpoint) if checkpoint.reason == CheckpointReason::Stop)
    }
}

/// Reads an event; `None` where it is none of the signed ones. Only the form in which the log writes them counts: what
/// looks different is an event that nobody signed.
pub(super) fn read(event: &str) -> Option<Result<Signed, String>> {
    if !KINDS.iter().any(|kind| event.starts_with(kind)) {
        return None;
    }
    Some(match serde_json::from_str(event) {
        Ok(Event::Checkpoint(checkpoint)) => Ok(Signed::Checkpoint(checkpoint)),
        Ok(Event::SigningKey {
            key,
            previous,
            next_within,
        }) => Ok(Signed::Key {
            key,
            previous,
            next_within,
        }),
        Ok(Event::Dropped(dropped)) => Ok(Signed::Dropped(dropped)),
        Ok(_) => Err("it is another event".to_owned()),
        Err(error) => Err(error.to_string()),
    })
}
