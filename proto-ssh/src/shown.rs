//! What a program writes is looked through before the client gets it, where policy masks what detectors find.
//!
//! A line goes on once it is complete, or once it has waited for a moment: a prompt has no end. What a terminal echoes goes on
//! at once.

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
/// Longest piece that a terminal gets at once, in bytes, and how much of it people read: a key's echo.
const ECHO: (usize, usize) = (16, 4);
/// Most that is typed ahead of its echo, in bytes; of more, none is known again.
const TYPED: usize = 1024;

/// One of the two streams, and since when something of it waits.
#[derive(Debug, Default)]
struct Waiting {
    stream: Stream,
    since: Option<Instant>,
}

impl Waiting {
    fn due(&self) -> Option<Instant> {
        let wait = if self.stream.may_go_on() { LONG } else { SHORT };
        self.since.map(|since| since + wait)
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
    /// What was typed and not echoed yet.
    typed: Mutex<VecDeque<u8>>,
}

impl Shown {
    /// Looks for these; `terminal`: there is one.
    pub(crate) fn new(detectors: Detectors, key: MaskKey, terminal: bool) -> Self {
        Self {
            detectors,
            key,
            terminal,
            streams: Mutex::default(),
            typed: Mutex::default(),
        }
    }

    /// The stream under which output is shown: a client knows its output and stderr, and no other (RFC 4254, section 5.2).
    pub(crate) fn stream(number: u32) -> u32 {
        number.min(1)
    }

    /// Takes what the client types.
    pub(crate) fn typed(&self, data: &[u8]) {
        if self.terminal {
            let mut typed = self.typed.lock();
            typed.extend(data);
            if typed.len() > TYPED {
                typed.clear();
            }
        }
    }

    /// How much at the beginning of this is the echo of what was typed.
    fn echoed(&self, data: &[u8]) -> usize {
        let mut typed = self.typed.lock();
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
        if self.terminal && data.len() <= piece && stream.held() <= read {
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

    /// Until when something waits.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.streams.lock().iter().filter_map(Waiting::due).min()
    }

    /// What has waited until `now`, by stream; `None`: all that waits.
    pub(crate) fn rest(&self, now: Option<Instant>) -> Vec<(u32, Bytes)> {
        let mut streams = self.streams.lock();
        let waits = |one: &Waiting| match now {
            Some(now) => one.due().is_some_and(|due| due <= now),
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
        // Typed where it is not echoed, it makes nothing known.
        shown.typed(b"secret");
        assert_eq!(
            shown.take(0, b"\r\nsecret heron@mail.test\r\n"),
            "$ \r\nsecret [redacted]\r\n"
        );
    }
}
