//! Detectors on a stream of output, as a terminal or a pipe gets it: in pieces of any size, with escape sequences in between.
//!
//! A line is looked at as people would read it, without its escape sequences, and goes on once it is complete. What has been
//! held for too long goes on before that, looked at as far as it has come; the rest of that line is still looked at together
//! with it. So a value is found however it is split over packets, but not over lines (a PEM block is), and what comes slower
//! than the stream is held may show its beginning.

use bytes::BytesMut;

use super::{Detectors, Kind};
use crate::mask::MaskKey;

/// The longest line that is looked at as a whole, in bytes; what is longer is looked at piece by piece.
const LONGEST: usize = 64 << 10;
/// Most of what follows the beginning of a PEM block without its end, in bytes.
const BLOCK: usize = 32 << 10;
/// What stands for a value whose beginning has been shown already.
const REST: &[u8] = b"[redacted]";
/// How much before what is new is looked at together with it, in bytes that people read.
const BEFORE: usize = 2 << 10;
/// Memory that a stream keeps between lines, in bytes.
const KEPT: usize = 4 << 10;

/// Where in an escape sequence (ECMA-48) the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Escape {
    /// In none.
    #[default]
    None,
    /// Behind ESC.
    Begun,
    /// Behind ESC and a character that says that one more follows.
    One,
    /// In a control sequence.
    Control,
    /// In a control string, to its terminator; behind an ESC in it.
    Text(bool),
}

/// One stream that is looked through.
#[derive(Debug, Default)]
pub struct Stream {
    /// The line so far.
    raw: Vec<u8>,
    /// What people read of it, and where in it each byte of that is.
    read: Vec<u8>,
    at: Vec<usize>,
    /// How much of the line has gone on, and how much of what people read of it.
    shown: usize,
    seen: usize,
    /// Where in the line the last value that was masked ends: what makes it longer is masked with it.
    masked: usize,
    escape: Escape,
    /// Inside of a PEM block, of which so many bytes were taken out.
    block: Option<usize>,
}

impl Stream {
    /// Whether something waits for the rest of its line.
    pub fn is_holding(&self) -> bool {
        self.block.is_none() && self.shown < self.raw.len()
    }

    /// Whether what is held ends as a value might begin, or go on: the rest of it may be on its way.
    pub fn may_go_on(&self) -> bool {
        let new = self.read.get(self.seen..).unwrap_or_default();
        self.is_holding()
            && match new {
                [.., before, b' ' | b'-' | b'(' | b')'] => before.is_ascii_digit() || *before == b'-',
                [.., last] => last.is_ascii_alphanumeric() || b"-._+@%/=(".contains(last) || !last.is_ascii(),
                // Nothing that people read: perhaps the first half of a sequence.
                [] => false,
            }
    }

    /// How much of what is held people read, in bytes.
    pub fn held(&self) -> usize {
        self.read.len().saturating_sub(self.seen)
    }

    /// Appends what is held as [`Self::flush`] does, and then what its reader knows already, as it is: the echo of what was
    /// typed, without control characters. What comes behind it is looked at together with it.
    pub fn pass(&mut self, detectors: &Detectors, key: &MaskKey, known: &[u8], out: &mut BytesMut) {
        if self.block.is_some() || self.escape != Escape::None {
            return self.push(detectors, key, known, out);
        }
        self.flush(detectors, key, out);
        out.extend_from_slice(known);
        self.at
            .extend(self.raw.len()..self.raw.len().saturating_add(known.len()));
        self.raw.extend_from_slice(known);
        self.read.extend_from_slice(known);
        (self.shown, self.seen) = (self.raw.len(), self.read.len());
        if self.raw.len() >= LONGEST {
            self.end(detectors, key, out);
        }
    }

    /// Takes what came, and appends to `out` what may go on.
    pub fn push(&mut self, detectors: &Detectors, key: &MaskKey, bytes: &[u8], out: &mut BytesMut) {
        for &byte in bytes {
            let is_read = self.reads(byte);
            if is_read {
                self.read.push(byte);
                self.at.push(self.raw.len());
            }
            self.raw.push(byte);
            let ends = matches!(byte, b'\n' | b'\r') && self.escape == Escape::None;
            if ends || self.raw.len() >= LONGEST {
                self.end(detectors, key, out);
            }
        }
    }

    /// Appends what is held, looked at as far as it has come.
    pub fn flush(&mut self, detectors: &Detectors, key: &MaskKey, out: &mut BytesMut) {
        if self.is_holding() {
            self.show(detectors, key, out);
            self.shown = self.raw.len();
            self.seen = self.read.len();
        }
    }

    /// Whether people read that byte; line ends and what belongs to an escape sequence they do not.
    fn reads(&mut self, byte: u8) -> bool {
        let (next, is_read) = match (self.escape, byte) {
            // A line's end ends whatever was begun, or a sequence without an end would hide all that follows.
            (_, b'\n' | b'\r' | 0x18 | 0x1a) => (Escape::None, false),
            (Escape::None, 0x1b) => (Escape::Begun, false),
            (Escape::None, 0..0x20 | 0x7f) if byte != b'\t' => (Escape::None, false),
            (Escape::None, _) => (Escape::None, true),
            (Escape::Begun, b'[') => (Escape::Control, false),
            (Escape::Begun, b']' | b'P' | b'X' | b'^' | b'_') => (Escape::Text(false), false),
            (Escape::Begun, 0x20..0x30) => (Escape::One, false),
            (Escape::Begun | Escape::One, _) => (Escape::None, false),
            (Escape::Control, 0x40..0x7f) => (Escape::None, false),
            (Escape::Control, _) => (Escape::Control, false),
            (Escape::Text(_), 0x07) | (Escape::Text(true), b'\\') => (Escape::None, false),
            (Escape::Text(_), 0x1b) => (Escape::Text(true), false),
            (Escape::Text(_), _) => (Escape::Text(false), false),
        };
        self.escape = next;
        is_read
    }

    /// The line is complete.
    fn end(&mut self, detectors: &Detectors, key: &MaskKey, out: &mut BytesMut) {
        let has = |text: &[u8], words: &[u8]| text.windows(words.len()).any(|window| window == words);
        match self.block {
            Some(taken) => {
                let taken = taken.saturating_add(self.raw.len());
                let ends = has(&self.read, b"-----END ");
                self.block = (!ends && taken < BLOCK).then_some(taken);
                if ends {
                    out.extend_from_slice(self.raw.last().map_or(&[][..], std::slice::from_ref));
                }
            }
            None => {
                let open = self.show(detectors, key, out);
                self.block = open.then_some(0);
            }
        }
        self.raw.clear();
        self.read.clear();
        self.at.clear();
        // Most streams are idle most of the time.
        self.raw.shrink_to(KEPT);
        self.read.shrink_to(KEPT);
        self.at.shrink_to(KEPT);
        (self.shown, self.seen, self.masked) = (0, 0, 0);
    }

    /// Appends what was not shown yet, with what is found masked; whether a PEM block begins there and does not end.
    fn show(&mut self, detectors: &Detectors, key: &MaskKey, out: &mut BytesMut) -> bool {
        let (mut next, mut masked, mut open) = (self.shown, self.masked, false);
        // What comes in many pieces is not looked at from its beginning each time.
        let from = self.seen.saturating_sub(BEFORE);
        let (read, at) = (
            self.read.get(from..).unwrap_or_default(),
            self.at.get(from..).unwrap_or_default(),
        );
        detectors.each(read, |kind, mask, found| {
            let text = read.get(found.clone()).unwrap_or_default();
            open |= kind == Kind::Pem && !text.windows(9).any(|window| window == b"-----END ");
            let places = at.get(found).unwrap_or_default();
            let (Some(&start), Some(&last)) = (places.first(), places.last()) else {
                return;
            };
            if last < self.shown {
                return;
            }
            out.extend_from_slice(self.raw.get(next..start).unwrap_or_default());
            if start >= self.shown {
                mask.text(text, key, out);
            } else if start >= masked {
                out.extend_from_slice(REST);
            }
            // Colours and the like that stand inside of it stay.
            for pair in places.windows(2) {
                if let [before, behind] = pair
                    && *before >= self.shown
                {
                    let between = before.saturating_add(1)..*behind;
                    out.extend_from_slice(self.raw.get(between).unwrap_or_default());
                }
            }
            next = last.saturating_add(1);
            masked = next;
        });
        out.extend_from_slice(self.raw.get(next..).unwrap_or_default());
        self.masked = masked;
        open
    }
}

#[cfg(test)]
mod tests {
    use super::super::Detector;
    use super::*;
    use crate::resource::Mask;

    const CARD: &str = "4111 1111 1111 1111";

    fn detectors() -> Detectors {
        let of = |kind| Detector {
            kind,
            mask: Mask::Redact,
        };
        Detectors::new(Kind::ALL.map(of).to_vec())
    }

    /// In pieces of that size, with a flush behind every so many of them.
    fn through(text: &str, size: usize, flush: Option<usize>) -> String {
        let (detectors, key) = (detectors(), MaskKey::new(&[7; 32]));
        let (mut stream, mut out) = (Stream::default(), BytesMut::new());
        for (number, piece) in text.as_bytes().chunks(size).enumerate() {
            stream.push(&detectors, &key, piece, &mut out);
            if flush.is_some_and(|every| (number + 1).is_multiple_of(every)) {
                stream.flush(&detectors, &key, &mut out);
                assert!(!stream.is_holding());
            }
        }
        stream.flush(&detectors, &key, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn however_a_text_is_split_what_is_in_it_is_found() {
        let pem = "-----BEGIN PRIVATE KEY-----\nMIIBzeppelin\nzeppelin==\n-----END PRIVATE KEY-----\n";
        for (text, wanted) in [
            (format!("pay {CARD} now\nok\n"), "pay [redacted] now\nok\n"),
            (format!("pay {CARD}"), "pay [redacted]"),
            (
                "\u{1b}[01;31m4111\u{1b}[m 1111 1111 \u{1b}]0;title\u{7}1111\r\n".to_owned(),
                "\u{1b}[01;31m[redacted]\u{1b}[m\u{1b}]0;title\u{7}\r\n",
            ),
            ("write to heron@mail.test\n".to_owned(), "write to [redacted]\n"),
            (
                "progress 10%\rprogress 20%\rdone\n".to_owned(),
                "progress 10%\rprogress 20%\rdone\n",
            ),
            (format!("key:\n{pem}after\n"), "key:\n[redacted]\n\nafter\n"),
            (
                "-----BEGIN RSA PRIVATE KEY-----\ncut zeppelin\n".to_owned(),
                "[redacted]\n",
            ),
            (
                "\u{1b}]0;never ended\n4111 1111 1111 1111\n".to_owned(),
                "\u{1b}]0;never ended\n[redacted]\n",
            ),
            (
                "\u{1b}(B4111-1111-1111-1111\u{1b}[K\n".to_owned(),
                "\u{1b}(B[redacted]\u{1b}[K\n",
            ),
        ] {
            for size in 1..=text.len() {
                assert_eq!(through(&text, size, None), wanted, "{text:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn what_is_shown_early_is_no_more_than_a_beginning() {
        let text = format!("pay {CARD} now\n");
        for size in 1..text.len() {
            let seen = through(&text, size, Some(1));
            // In one piece before its last digit it shows what came till then; the rest is taken out, or it is found whole.
            let shown = seen.chars().filter(char::is_ascii_digit).count();
            assert!(shown < 16, "{size}: {seen}");
            assert!(
                seen.starts_with("pay ") && seen.ends_with(" now\n"),
                "{size}: {seen}"
            );
        }
        assert_eq!(through("prompt$ ", 3, Some(1)), "prompt$ ");
    }

    #[test]
    fn what_was_typed_is_shown_and_no_more_of_what_it_begins() {
        let (detectors, key) = (detectors(), MaskKey::new(&[7; 32]));
        let seen = |known: &str, rest: &str| {
            let (mut stream, mut out) = (Stream::default(), BytesMut::new());
            stream.push(&detectors, &key, b"$ ", &mut out);
            stream.pass(&detectors, &key, known.as_bytes(), &mut out);
            assert!(!stream.is_holding());
            stream.push(&detectors, &key, rest.as_bytes(), &mut out);
            stream.flush(&detectors, &key, &mut out);
            String::from_utf8(out.to_vec()).unwrap()
        };
        assert_eq!(
            seen("mail heron@mail.test", "\r\nok\r\n"),
            "$ mail heron@mail.test\r\nok\r\n"
        );
        // Whoever guesses the first digit gets no more than that digit.
        let rest = CARD.strip_prefix('4').unwrap();
        assert_eq!(seen("4", rest), "$ 4[redacted]");
        assert_eq!(seen("4", &format!("{rest}\n")), "$ 4[redacted]\n");
    }

    #[test]
    fn a_value_that_grows_is_masked_once() {
        let (detectors, key) = (detectors(), MaskKey::new(&[7; 32]));
        let (mut stream, mut out) = (Stream::default(), BytesMut::new());
        for piece in ["to heron@mail.de", "v", "el", " now ", "owl@mail.de", "\n"] {
            stream.push(&detectors, &key, piece.as_bytes(), &mut out);
            stream.flush(&detectors, &key, &mut out);
        }
        assert_eq!(
            String::from_utf8(out.to_vec()).unwrap(),
            "to [redacted] now [redacted]\n"
        );
    }

    #[test]
    fn what_might_go_on_is_told_from_a_prompt() {
        let (detectors, key) = (detectors(), MaskKey::new(&[7; 32]));
        for (text, expected) in [
            ("heron@web:~$ ", false),
            ("Password: ", false),
            (">>> ", false),
            ("4111 ", true),
            ("4111 1", true),
            ("heron@", true),
            ("-----", true),
            ("\u{1b}[K", false),
            ("done\n", false),
        ] {
            let mut stream = Stream::default();
            stream.push(&detectors, &key, text.as_bytes(), &mut BytesMut::new());
            assert_eq!(stream.may_go_on(), expected, "{text}");
        }
    }

    /// A line that comes byte by byte is not read anew from its beginning with each.
    #[test]
    fn a_long_line_in_small_pieces_takes_time_that_grows_with_it() {
        let (detectors, key) = (detectors(), MaskKey::new(&[7; 32]));
        let (mut stream, mut out) = (Stream::default(), BytesMut::new());
        let began = std::time::Instant::now();
        for _ in 0..40_000 {
            stream.push(&detectors, &key, b"1", &mut out);
            stream.flush(&detectors, &key, &mut out);
        }
        assert_eq!(out.len(), 40_000);
        assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
    }

    #[test]
    fn what_has_nothing_in_it_passes_unchanged_and_memory_is_bounded() {
        let (detectors, key) = (detectors(), MaskKey::new(&[7; 32]));
        let (mut stream, mut out) = (Stream::default(), BytesMut::new());
        let long: Vec<u8> = (0..300_000_u32)
            .map(|n| if n % 7 == 0 { 0xff } else { b'x' })
            .collect();
        stream.push(&detectors, &key, &long, &mut out);
        stream.flush(&detectors, &key, &mut out);
        assert_eq!(out, long);
        assert!(stream.raw.len() < LONGEST);
        // A block that never ends does not hide all that follows.
        let (mut stream, mut out) = (Stream::default(), BytesMut::new());
        stream.push(&detectors, &key, b"-----BEGIN CERTIFICATE-----\n", &mut out);
        for _ in 0..2000 {
            stream.push(&detectors, &key, b"thirty-two bytes of something..\n", &mut out);
        }
        let text = String::from_utf8(out.to_vec()).unwrap();
        assert!(
            text.starts_with("[redacted]\n") && text.lines().count() > 900,
            "{}",
            text.lines().count()
        );
    }
}
