//! What a program that sends back all that it reads has sent back: nothing is lost, nothing comes twice, nothing comes of another
//! channel.

use std::collections::{HashMap, HashSet};

use super::wire::{Take, number};

/// What such a program says first.
pub const GREETING: &str = "mail ann@example.com\r\n";

/// What has gone out and come back.
#[derive(Default)]
pub struct Echo {
    /// By the gateway's number, ours: since it was confirmed.
    ours: HashMap<u32, u32>,
    sent: HashMap<u32, Vec<u8>>,
    came: HashMap<u32, Vec<u8>>,
    /// Of these nothing can be said: a script uses a number twice, or before it is one.
    unclear: HashSet<u32>,
}

impl Echo {
    /// The gateway has confirmed a channel of ours.
    pub fn confirmed(&mut self, ours: u32, theirs: u32) {
        if self.ours.insert(theirs, ours).is_some()
            || self.ours.values().filter(|number| **number == ours).count() > 1
        {
            self.unclear.insert(ours);
        }
        if self.sent.contains_key(&theirs) {
            self.unclear.insert(ours);
        }
    }

    /// A message goes out.
    pub fn sent(&mut self, message: &[u8]) {
        let mut take = Take(message);
        if take.byte() == Some(number::DATA)
            && let (Some(theirs), Some(bytes)) = (take.u32(), take.string())
        {
            self.sent.entry(theirs).or_default().extend_from_slice(bytes);
        }
    }

    /// Data came.
    pub fn came(&mut self, ours: u32, bytes: &[u8]) {
        self.came.entry(ours).or_default().extend_from_slice(bytes);
    }

    /// Everything that came back is how what went out begins. On how many channels something did.
    pub fn check(&self) -> usize {
        let mut echoes = 0;
        for (theirs, ours) in &self.ours {
            let Some(back) = self
                .came
                .get(ours)
                .and_then(|came| came.strip_prefix(GREETING.as_bytes()))
            else {
                continue;
            };
            let sent = self.sent.get(theirs).map(Vec::as_slice).unwrap_or_default();
            let same = sent
                .iter()
                .zip(back)
                .take_while(|(sent, back)| sent == back)
                .count();
            assert!(
                self.unclear.contains(ours) || same == back.len(),
                "of {} bytes on channel {ours} {} came back, and only the first {same} are the same",
                sent.len(),
                back.len()
            );
            echoes += usize::from(!back.is_empty());
        }
        echoes
    }
}
