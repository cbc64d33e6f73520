//! Numbers, chains and signs the records, and plans which segment each goes to.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::super::key::{AuditPublicKey, SigningKey};
use super::super::record::{self, Head};
use super::super::{AuditError, Checkpoint, CheckpointReason, Dropped, Event};
use super::recover::Opened;
use super::{AuditLogOptions, Queue};

/// What is kept free at a segment's end for the checkpoint that closes it.
const CHECKPOINT_ROOM: u64 = 640;

/// A record that is not durable yet.
pub(super) struct Entry {
    /// Length of its line.
    pub(super) len: usize,
    pub(super) seq: u64,
    /// What it counts towards the bound.
    pub(super) cost: usize,
    pub(super) waiter: Waiter,
    /// It is the first one of its segment.
    pub(super) begins: bool,
    /// What the log itself says with it; few records are such.
    own: Option<Box<Own>>,
    /// Records since the last signed one, before this.
    unsigned: u64,
}

/// Who waits for a record.
#[derive(Default)]
pub(super) struct Waiter {
    sender: Option<oneshot::Sender<Result<(), AuditError>>>,
    /// Until it is durable; else until it is written.
    sync: bool,
}

impl Waiter {
    /// The record was handed to the kernel.
    pub(super) fn written(&mut self) {
        if !self.sync {
            self.answer(Ok(()));
        }
    }

    /// Tells how it ended; only the first answer counts.
    pub(super) fn answer(&mut self, result: Result<(), AuditError>) {
        if let Some(sender) = self.sender.take() {
            // Nobody waits any more: no harm.
            let _ = sender.send(result);
        }
    }
}

/// What the log itself writes into the trail.
#[derive(Clone)]
enum Own {
    Checkpoint(CheckpointReason),
    Key,
    Dropped(Dropped),
}

/// The lines that are not durable, oldest first. The first `written` of them are in the current segment.
#[derive(Default)]
pub(super) struct Tail {
    pub(super) bytes: Vec<u8>,
    pub(super) entries: VecDeque<Entry>,
    pub(super) written: usize,
    pub(super) written_bytes: usize,
}

/// Who signs.
struct Signer {
    key: SigningKey,
    /// The key that vouches for it where it is new.
    before: Option<SigningKey>,
    /// Records since the last signed one.
    unsigned: u64,
    /// How many there may be.
    promised: u64,
    /// Since when there are any.
    since: Option<Instant>,
    /// The last record closed the trail.
    stopped: bool,
}

impl Signer {
    /// The key that signs such a record.
    fn key_of(&self, own: &Own) -> &SigningKey {
        match own {
            Own::Key => self.before.as_ref().unwrap_or(&self.key),
            _ => &self.key,
        }
    }
}

/// Where the next record will stand.
#[derive(Default, Clone, Copy)]
struct Plan {
    /// First record of the segment; `None`: the next record begins one.
    first: Option<u64>,
    /// Length of the segment with all that is planned.
    len: u64,
    /// When its first record happened.
    began: Option<Timestamp>,
}

/// The chain's end.
pub(super) struct Chain {
    head: Head,
    plan: Plan,
    signer: Option<Signer>,
    segment_bytes: u64,
    segment_age: Option<Duration>,
    every: u64,
    interval: Duration,
    pub(super) tail: Tail,
}

impl Chain {
    /// Carries on from what was opened. What has to be said of that (a first or another key, an end that was not in
    /// order) is in the tail.
    pub(super) fn new(options: &AuditLogOptions, opened: &Opened, key: Option<NewSigner>) -> Self {
        let mut chain = Self {
            head: opened.head,
            plan: match &opened.segment {
                Some(segment) => Plan {
                    first: Some(segment.first),
                    len: segment.len,
                    began: segment.began,
                },
                None => Plan::default(),
            },
            signer: None,
            segment_bytes: options.segment_bytes,
            segment_age: options.segment_age,
            every: options.checkpoint_records.max(1),
            interval: options.checkpoint_interval,
            tail: Tail::default(),
        };
        let Some(NewSigner { key, before }) = key else {
            return chain;
        };
        let known = opened.signed.key;
        let is_new = known != Some(key.public());
        chain.signer = Some(Signer {
            key,
            before,
            unsigned: opened.signed.unsigned,
            // A promise holds also where the configuration has another number now.
            promised: opened.signed.within.unwrap_or(u64::MAX).min(chain.every),
            since: None,
            stopped: opened.signed.stopped,
        });
        if is_new {
            chain.own(Own::Key);
        }
        if known.is_some() && !opened.signed.stopped {
            chain.own(Own::Checkpoint(CheckpointReason::Recovery));
        }
        chain
    }

    /// The number of the last record.
    pub(super) fn last(&self) -> u64 {
        self.head.next.saturating_sub(1)
    }

    /// The key that signs.
    pub(super) fn key(&self) -> Option<AuditPublicKey> {
        self.signer.as_ref().map(|signer| signer.key.public())
    }

    /// Numbers and chains the events of a queue, which is empty then.
    pub(super) fn take(&mut self, queue: &mut Queue) {
        let mut start = 0usize;
        for item in queue.items.drain(..) {
            let end = start.saturating_add(item.len);
            let event = queue.bytes.get(start..end).unwrap_or_default();
            start = end;
            let cost = item.cost();
            let waiter = Waiter {
                sender: item.waiter,
                sync: item.sync,
            };
            self.event(item.at, event, cost, waiter);
        }
        queue.clear();
    }

    fn event(&mut self, at: Timestamp, event: &[u8], cost: usize, waiter: Waiter) {
        let mut start = self.tail.bytes.len();
        let head = self.head;
        record::write(&mut self.tail.bytes, &mut self.head, at, event);
        if self.is_full(self.tail.bytes.len().saturating_sub(start), at) {
            // Once a segment: taken back, and written behind what closes the segment.
            self.tail.bytes.truncate(start);
            self.head = head;
            self.end_segment();
            start = self.tail.bytes.len();
            record::write(&mut self.tail.bytes, &mut self.head, at, event);
        }
        self.push(start, at, cost, waiter, None);
        let Some(signer) = &mut self.signer else { return };
        signer.unsigned = signer.unsigned.saturating_add(1);
        signer.since.get_or_insert_with(Instant::now);
        signer.stopped = false;
        if signer.unsigned >= signer.promised {
            self.own(Own::Checkpoint(CheckpointReason::Count));
        }
    }

    /// Whether a record of `len` bytes does not go into the planned segment any more.
    fn is_full(&self, len: usize, at: Timestamp) -> bool {
        let room = if self.signer.is_some() { CHECKPOINT_ROOM } else { 0 };
        let len = super::writer::size(len).saturating_add(room);
        let old = || match (self.plan.began, self.segment_age) {
            (Some(began), Some(age)) => {
                Duration::try_from(at.duration_since(began)).is_ok_and(|since| since >= age)
            }
            _ => false,
        };
        self.plan.len > 0 && (self.plan.len.saturating_add(len) > self.segment_bytes || old())
    }

    /// Closes the planned segment with a signed record, where the last one is none.
    fn end_segment(&mut self) {
        if self.signer.as_ref().is_some_and(|signer| signer.unsigned > 0) {
            self.own(Own::Checkpoint(CheckpointReason::SegmentEnd));
        }
        self.plan = Plan::default();
    }

    fn push(&mut self, start: usize, at: Timestamp, cost: usize, waiter: Waiter, own: Option<Own>) {
        let len = self.tail.bytes.len().saturating_sub(start);
        let seq = self.last();
        let begins = self.plan.first.is_none();
        self.plan.first.get_or_insert(seq);
        self.plan.len = self.plan.len.saturating_add(super::writer::size(len));
        self.plan.began.get_or_insert(at);
        self.tail.entries.push_back(Entry {
            len,
            seq,
            cost,
            waiter,
            begins,
            own: own.map(Box::new),
            unsigned: self.signer.as_ref().map_or(0, |signer| signer.unsigned),
        });
    }

    /// Writes a signed record of the log's own.
    fn own(&mut self, own: Own) {
        let Some(signer) = &self.signer else { return };
        let event = match &own {
            Own::Checkpoint(reason) => Event::Checkpoint(Checkpoint {
                reason: *reason,
                segment: self.plan.first.unwrap_or(self.head.next),
                records: signer.unsigned,
                next_within: self.every,
                key: signer.key.public(),
            }),
            Own::Key => Event::SigningKey {
                key: signer.key.public(),
                previous: signer.before.as_ref().map(SigningKey::public),
                next_within: self.every,
            },
            Own::Dropped(dropped) => Event::Dropped(dropped.clone()),
        };
        // These have nothing in them that has no JSON.
        let Ok(event) = serde_json::to_vec(&event) else {
            return;
        };
        let (start, at) = (self.tail.bytes.len(), Timestamp::now());
        let key = signer.key_of(&own);
        record::write_signed(&mut self.tail.bytes, &mut self.head, at, &event, key);
        let stopped = matches!(own, Own::Checkpoint(CheckpointReason::Stop));
        let promised = match own {
            Own::Checkpoint(_) | Own::Key => self.every,
            Own::Dropped(_) => signer.promised,
        };
        self.push(start, at, 0, Waiter::default(), Some(own));
        if let Some(signer) = &mut self.signer {
            (signer.unsigned, signer.since, signer.stopped) = (0, None, stopped);
            signer.promised = promised;
        }
    }

    /// When a checkpoint is due for the time that has passed.
    pub(super) fn checkpoint_due(&self) -> Option<Instant> {
        self.signer.as_ref()?.since?.checked_add(self.interval)
    }

    /// Makes the checkpoint that is due for the time that has passed.
    pub(super) fn checkpoint_in_time(&mut self, now: Instant) {
        if self.checkpoint_due().is_some_and(|due| due <= now) {
            self.own(Own::Checkpoint(CheckpointReason::Time));
        }
    }

    /// Says that the trail is closed in order.
    pub(super) fn stop(&mut self) {
        if self.signer.as_ref().is_some_and(|signer| !signer.stopped) {
            self.own(Own::Checkpoint(CheckpointReason::Stop));
        }
    }

    /// Says what retention is about to take away.
    pub(super) fn dropped(&mut self, dropped: Dropped) {
        self.own(Own::Dropped(dropped));
    }

    /// Numbers, chains and signs all that is not durable anew, to a new segment: where it stood is gone.
    pub(super) fn restart(&mut self) {
        let old = std::mem::take(&mut self.tail);
        self.plan = Plan::default();
        let (mut start, mut first) = (0usize, true);
        for entry in old.entries {
            let end = start.saturating_add(entry.len);
            let line = old.bytes.get(start..end).unwrap_or_default();
            start = end;
            // Lines that this process wrote itself.
            let Ok(record) = record::parse_unproven(line.strip_suffix(b"\n").unwrap_or(line)) else {
                continue;
            };
            if std::mem::take(&mut first) {
                if let Some(prev) = record::parse_hex(record.prev) {
                    self.head = Head {
                        next: record.seq,
                        prev,
                    };
                }
                if let Some(signer) = &mut self.signer {
                    signer.unsigned = entry.unsigned;
                }
            }
            match entry.own.map(|own| *own) {
                // These come again where they are due.
                Some(Own::Checkpoint(CheckpointReason::Count | CheckpointReason::SegmentEnd)) => {}
                Some(own) => self.own(own),
                None => self.event(record.at, record.event.get().as_bytes(), entry.cost, entry.waiter),
            }
        }
    }
}

/// The key that is to sign, and the one that vouches for it where it is new.
pub(super) struct NewSigner {
    pub(super) key: SigningKey,
    pub(super) before: Option<SigningKey>,
}
