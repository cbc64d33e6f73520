//! What a program writes is looked through before the client gets it, where policy masks what detectors find.
//!
//! A line goes on once it is complete, or once it has waited for a moment: a prompt has no end. What answers a key goes on at
//! once.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gateway_core::detect::{Detectors, Stream};
use gateway_core::mask::MaskKey;
use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a line without an end waits.
const SHORT: Duration = Duration::from_millis(20);
/// The same for one that ends as a value might go on.
const LONG: Duration = Duration::from_millis(200);
/// The same for one that ends with most of a value, whatever was typed.
const BEGUN: Duration = Duration::from_millis(100);
/// For how long behind a key what comes is an answer to it, and how long a line without an end waits then.
const ANSWER: Duration = Duration::from_millis(300);
const SOON: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(20));
/// Longest piece that goes on at once as the answer to a key, in bytes, and how much of it people read.
const ECHO: (usize, usize) = (16, 4);
/// How much of what goes on at once is one key's, in bytes that people read, and that of all keys.
const KEY: (usize, usize) = (8, 64);
/// Most that is typed ahead of its echo, in bytes; of more, none is known again.
const TYPED: usize = 1024;

/// One of the two streams, and since when something of it waits.
#[derive(Debug, Default)]
struct Waiting {
    stream: Stream,
    since: Option<Instant>,
}

impl Waiting {
    fn new(terminal: bool) -> Self {
        Self {
            stream: Stream::new(terminal),
            since: None,
        }
    }

    fn due(&self, answers: bool) -> Option<Instant> {
        let (short, long) = if answers { SOON } else { (SHORT, LONG) };
        let wait = match (self.stream.may_go_on(), self.stream.has_begun()) {
            (true, true) => long.max(BEGUN),
            (true, false) => long,
            (false, _) => short,
        };
        self.since.map(|since| since + wait)
    }
}

/// What the client typed.
#[derive(Debug, Default)]
struct Keys {
    /// What was not echoed yet.
    typed: VecDeque<u8>,
    last: Option<Instant>,
    /// How much may still go on at once.
    room: usize,
}

impl Keys {
    /// Whether what comes now answers a key.
    fn answers(&self) -> bool {
        self.last.is_some_and(|last| last.elapsed() < ANSWER)
    }
}

/// Looks through the output of one channel.
#[derive(Debug)]
pub(crate) struct Shown {
    detectors: Detectors,
    key: MaskKey,
    terminal: bool,
    /// Output and stderr.
    streams: Mutex<[Waiting; 2]>,
    keys: Mutex<Keys>,
}

impl Shown {
    /// Looks for these; `terminal`: there is one.
    pub(crate) fn new(detectors: Detectors, key: MaskKey, terminal: bool) -> Self {
        Self {
            detectors,
            key,
            terminal,
            streams: Mutex::new([terminal, terminal].map(Waiting::new)),
            keys: Mutex::default(),
        }
    }

    /// The stream under which output is shown: a client knows its output and stderr, and no other (RFC 4254, section 5.2).
    pub(crate) fn stream(number: u32) -> u32 {
        number.min(1)
    }

    /// Takes what the client types.
    pub(crate) fn typed(&self, data: &[u8]) {
        if self.terminal {
            let mut keys = self.keys.lock();
            let (one, all) = KEY;
            keys.room = keys.room.saturating_add(data.len().saturating_mul(one)).min(all);
            keys.last = Some(Instant::now());
            keys.typed.extend(data);
            if keys.typed.len() > TYPED {
                keys.typed.clear();
            }
        }
    }

    /// How much at the beginning of this is the echo of what was typed.
    fn echoed(&self, data: &[u8]) -> usize {
        let typed = &mut self.keys.lock().typed;
        let same = data
            .iter()
            .zip(typed.iter())
            .take_while(|(shown, typed)| shown == typed && **shown >= 0x20 && **shown != 0x7f)
            .count();
        match same {
            0 => typed.clear(),
            same => drop(typed.drain(..same)),
        }
        same
    }

    /// Takes output, and gives what may go on now.
    pub(crate) fn take(&self, number: u32, data: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(data.len());
        let known = if self.terminal { self.echoed(data) } else { 0 };
        let (known, new) = data.split_at_checked(known).unwrap_or((&[], data));
        let mut streams = self.streams.lock();
        let [output, stderr] = &mut *streams;
        let Waiting { stream, since } = if number == 0 { output } else { stderr };
        if !known.is_empty() {
            stream.pass(&self.detectors, &self.key, known, &mut out);
        }
        stream.push(&self.detectors, &self.key, new, &mut out);
        let (piece, read) = ECHO;
        if self.terminal && data.len() <= piece && stream.held() <= read && self.at_once(stream.held()) {
            stream.flush(&self.detectors, &self.key, &mut out);
        }
        *since = match (stream.is_holding(), out.is_empty()) {
            (false, _) => None,
            // It has begun to wait before.
            (true, true) => since.or_else(|| Some(Instant::now())),
            (true, false) => Some(Instant::now()),
        };
        out.freeze()
    }

    /// Whether so much may go on at once: keys are few, and what a program prints by itself is not their answer.
    fn at_once(&self, held: usize) -> bool {
        let mut keys = self.keys.lock();
        let may = keys.answers() && held <= keys.room;
        if may {
            keys.room = keys.room.saturating_sub(held);
        }
        may
    }

    /// Until when something waits.
    pub(crate) fn due(&self) -> Option<Instant> {
        let answers = self.keys.lock().answers();
        let streams = self.streams.lock();
        streams.iter().filter_map(|one| one.due(answers)).min()
    }

    /// What has waited until `now`, by stream; `None`: all that waits.
    pub(crate) fn rest(&self, now: Option<Instant>) -> Vec<(u32, Bytes)> {
        let answers = self.keys.lock().answers();
        let mut streams = self.streams.lock();
        let waits = |one: &Waiting| match now {
            Some(now) => one.due(answers).is_some_and(|due| due <= now),
            None => one.stream.is_holding(),
        };
        (0..)
            .zip(&mut *streams)
            .filter(|(_, one)| waits(one))
            .map(|(number, one)| {
                let mut out = BytesMut::new();
                one.stream.flush(&self.detectors, &self.key, &mut out);
                one.since = None;
                (number, out.freeze())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_core::detect::{Detector, Kind};
    use gateway_core::resource::Mask;

    fn shown(terminal: bool) -> Shown {
        let (kind, mask) = (Kind::Email, Mask::Redact);
        Shown::new(
            Detectors::new(vec![Detector { kind, mask }]),
            MaskKey::new(&[7; 32]),
            terminal,
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_waits_for_its_end_and_for_a_moment_at_most() {
        let shown = shown(false);
        assert_eq!(shown.take(0, b"to heron@ma"), "");
        assert_eq!(shown.take(1, b"to owl@"), "");
        assert_eq!(shown.due(), Some(Instant::now() + LONG));
        tokio::time::advance(LONG / 2).await;
        assert_eq!(shown.take(0, b"il.test\nname: "), "to [redacted]\n");
        assert_eq!(shown.due(), Some(Instant::now() + SHORT));
        tokio::time::advance(SHORT).await;
        let waited = shown.rest(Some(Instant::now()));
        assert_eq!(waited, [(0, Bytes::from_static(b"name: "))]);
        assert_eq!(shown.rest(Some(Instant::now())), []);
        // At the end there is nothing to wait for.
        assert_eq!(shown.take(1, b"mail.test"), "");
        assert_eq!(shown.rest(None), [(1, Bytes::from_static(b"to [redacted]"))]);
        assert_eq!(shown.due(), None);
    }

    #[tokio::test]
    async fn keys_are_echoed_at_once_and_what_they_make_is_theirs() {
        let shown = shown(true);
        let mut seen = Vec::new();
        for key in "echo heron@mail.test".bytes() {
            shown.typed(&[key]);
            seen.extend_from_slice(&shown.take(0, &[key]));
        }
        assert_eq!(seen, b"echo heron@mail.test");
        shown.typed(b"\r");
        assert_eq!(shown.take(0, b"\r\n"), "\r\n");
        assert_eq!(shown.take(0, b"heron@mail.test\r\n$ "), "[redacted]\r\n");
        assert_eq!(shown.rest(None), [(0, Bytes::from_static(b"$ "))]);
        // Typed where it is not echoed, it makes nothing known.
        shown.typed(b"secret");
        assert_eq!(
            shown.take(0, b"\r\nsecret heron@mail.test\r\n"),
            "\r\nsecret [redacted]\r\n"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_program_prints_by_itself_waits_on_a_terminal_too() {
        let shown = shown(true);
        let mut seen = Vec::new();
        for byte in b"to heron@mail.test \r\n" {
            seen.extend_from_slice(&shown.take(0, &[*byte]));
            tokio::time::advance(Duration::from_millis(5)).await;
            for (_, bytes) in shown.rest(Some(Instant::now())) {
                seen.extend_from_slice(&bytes);
            }
        }
        assert_eq!(String::from_utf8_lossy(&seen), "to [redacted] \r\n");
        // What keys do not echo as they are, such as a cursor that moves, is shown soon all the same; more of it is no answer.
        shown.typed(b"x");
        assert_eq!(shown.take(0, b"\x1b[C*"), "\x1b[C*");
        assert_eq!(shown.take(0, b"abcd"), "abcd");
        assert_eq!(shown.take(0, b"abcd"), "");
        assert_eq!(shown.due(), Some(Instant::now() + SOON.1));
        tokio::time::advance(ANSWER).await;
        assert_eq!(shown.take(0, b" "), "");
    }
}
