//! Detectors on a stream of output, as a terminal or a pipe gets it: in pieces of any size, with escape sequences in between.
//!
//! A line is looked at as people would read it, without its colours, and goes on once it is complete. What has been held for
//! too long goes on before that, looked at as far as it has come; the rest of that line is still looked at together with it.
//! So a value is found however it is split over packets, but not over lines (a PEM block is), and what comes slower than the
//! stream is held may show its beginning.
//!
//! A terminal's backspace takes away the character before it, so that what is struck over is read once.
//!
//! What moves the cursor parts what is before it from what is behind it: a program that draws a screen puts things side by side
//! that have nothing to do with each other. What stands in a control string (a title, a link) is looked at apart. Bytes that are
//! no UTF-8 part, too, and where they are many in what goes to no terminal it is no text, and goes on as it is.

use std::ops::Range;

use bytes::BytesMut;

use super::block::{self, Block};
use super::{Detectors, Kind, Mask};
use crate::mask::MaskKey;

/// The longest line that is kept whole, in bytes; of a longer one the last part is.
const LONGEST: usize = 64 << 10;
/// What stands for a value whose beginning has been shown already.
const REST: &[u8] = b"[redacted]";
/// How much before what is new is looked at together with it, in bytes that people read.
const BEFORE: usize = 2 << 10;
/// Memory that a stream keeps between lines, in bytes.
const KEPT: usize = 4 << 10;
/// Shorter than any value, in bytes.
const SHORT: usize = 6;
/// Parts a text where it is read: no value goes over it.
const PART: u8 = 0;
/// More lines than these that look like those of a key are one.
const STRAY: usize = 2;
/// What is no UTF-8 in more than one of so many bytes is no text.
const BINARY: usize = 8;

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
    /// In a control string, to its terminator.
    Text,
}

/// What a byte is to who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// A part of the text.
    Text,
    /// A part of a control string.
    Aside,
    /// It takes away the character before it.
    Back,
    /// It parts the text.
    Parts,
    /// It parts control strings.
    PartsAside,
    /// Nothing.
    Nothing,
}

/// What people read of a line, and where in it each byte of that is.
#[derive(Debug, Default)]
struct Text {
    read: Vec<u8>,
    at: Vec<usize>,
    /// How much of it has gone on.
    seen: usize,
    /// Where in the line the last value that was masked ends: what makes it longer is masked with it.
    masked: usize,
    /// The places of what was struck over, and of what did that.
    over: Vec<usize>,
    /// Something in it moves a cursor: what is behind a value has its place.
    drawn: bool,
}

/// A value that was found, by the places of its bytes in the line.
#[derive(Debug)]
struct Found {
    places: Vec<usize>,
    first: usize,
    last: usize,
    /// What stands in its place.
    masked: BytesMut,
}

impl Text {
    fn push(&mut self, byte: u8, at: usize) {
        self.read.push(byte);
        self.at.push(at);
    }

    fn unseen(&self) -> &[u8] {
        self.read.get(self.seen..).unwrap_or_default()
    }

    /// Takes the last character away, by what stands at `at`.
    fn back(&mut self, at: usize) {
        if self.read.last().is_none_or(|byte| *byte == PART) {
            return;
        }
        self.over.push(at);
        while let (Some(byte), Some(at)) = (self.read.pop(), self.at.pop()) {
            self.over.push(at);
            if !(0x80..0xc0).contains(&byte) {
                break;
            }
        }
        self.seen = self.seen.min(self.read.len());
    }

    /// What is in it of what has not gone on, in order; whether a PEM block begins there and does not end.
    fn finds(
        &self,
        detectors: &Detectors,
        key: &MaskKey,
        shown: usize,
        screen: &mut Screen,
    ) -> (Vec<Found>, bool) {
        // What comes in many pieces is not looked at from its beginning each time.
        let from = self.seen.saturating_sub(BEFORE);
        let (read, at) = (
            self.read.get(from..).unwrap_or_default(),
            self.at.get(from..).unwrap_or_default(),
        );
        let (mut all, mut open) = (Vec::new(), false);
        if read.len() < SHORT || self.seen == self.read.len() {
            return (all, open);
        }
        let mut ranges = Vec::new();
        let is_in = |text: &[u8], what: &[u8]| text.windows(what.len()).any(|window| window == what);
        detectors.each(read, |kind, mask: Mask, found| {
            let text = read.get(found.clone()).unwrap_or_default();
            if kind == Kind::Pem {
                open |= !is_in(text, b"-----END ");
                screen.key |= is_in(text, b"PRIVATE KEY");
            }
            if !text.contains(&PART) {
                return ranges.push((found, mask));
            }
            // Its lines stand in places of their own.
            let mut from = found.start;
            for line in text.split(|byte| *byte == PART) {
                let to = from.saturating_add(line.len());
                ranges.push((from..to, Mask::Redact));
                from = to.saturating_add(1);
            }
        });
        if screen.is_one && !screen.key && detectors.has(Kind::Pem) {
            // One whose beginning is above the screen.
            let lines = block::runs(read)
                .into_iter()
                .filter(|run| block::LINES.contains(&run.len()))
                .count();
            screen.lines = screen.lines.saturating_add(lines);
            screen.key = screen.lines > STRAY;
        }
        if screen.key {
            let known = |run: &Range<usize>| {
                ranges
                    .iter()
                    .any(|(found, _)| run.start < found.end && found.start < run.end)
            };
            let runs: Vec<_> = block::runs(read).into_iter().filter(|run| !known(run)).collect();
            ranges.extend(runs.into_iter().map(|run| (run, Mask::Redact)));
            ranges.sort_by_key(|(found, _)| found.start);
        }
        let mut over = self.over.clone();
        over.sort_unstable();
        let mut masked_to = self.masked;
        for (found, mask) in ranges {
            let text = read.get(found.clone()).unwrap_or_default();
            let before = found
                .start
                .checked_sub(1)
                .and_then(|before| at.get(before))
                .map(|at| at.saturating_add(1));
            let places = at.get(found).unwrap_or_default();
            let (Some(&first), Some(&last)) = (places.first(), places.last()) else {
                continue;
            };
            if last < shown {
                continue;
            }
            // What parts stays, and so do colours in between.
            let unseen = || {
                places
                    .iter()
                    .zip(text)
                    .filter(|(place, byte)| **place >= shown && **byte != PART)
            };
            let mut masked = BytesMut::new();
            if first >= shown {
                mask.text(text, key, &mut masked);
            } else if first >= masked_to {
                masked.extend_from_slice(REST);
            }
            if self.drawn && masked.is_ascii() {
                let wide = unseen().filter(|(_, byte)| !(0x80..0xc0).contains(*byte)).count();
                masked.resize(wide, b'*');
            }
            masked_to = last.saturating_add(1);
            let from = over.partition_point(|place| *place < before.unwrap_or(shown).max(shown));
            let to = over.partition_point(|place| *place < last);
            let over = over.get(from..to).unwrap_or_default();
            let mut out: Vec<usize> = unseen()
                .map(|(place, _)| *place)
                .chain(over.iter().copied())
                .collect();
            out.sort_unstable();
            all.push(Found {
                places: out,
                first,
                last,
                masked,
            });
        }
        (all, open)
    }

    fn has_shown(&mut self, limit: usize) {
        self.seen = self.at.partition_point(|place| *place < limit);
    }

    fn clear(&mut self) {
        self.read.clear();
        self.at.clear();
        // Most streams are idle most of the time.
        self.read.shrink_to(KEPT);
        self.at.shrink_to(KEPT);
        self.over.clear();
        self.over.shrink_to(KEPT);
        (self.seen, self.masked, self.drawn) = (0, 0, false);
    }

    /// Forgets what is before that place of the line, which is its beginning from here on.
    fn forget(&mut self, before: usize) {
        let gone = self.at.partition_point(|place| *place < before);
        self.read.drain(..gone);
        self.at.drain(..gone);
        for place in &mut self.at {
            *place = place.saturating_sub(before);
        }
        self.seen = self.seen.saturating_sub(gone);
        self.masked = self.masked.saturating_sub(before);
        self.over.retain(|place| *place >= before);
        for place in &mut self.over {
            *place = place.saturating_sub(before);
        }
    }
}

/// What is known of where a stream goes.
#[derive(Debug, Clone, Copy, Default)]
struct Screen {
    /// It is a terminal.
    is_one: bool,
    /// The beginning of a private key was on it: its lines may come again, in any order.
    key: bool,
    /// How much was on it that is as long as a line of a key, and looks like one.
    lines: usize,
}

/// One stream that is looked through.
#[derive(Debug, Default)]
pub struct Stream {
    screen: Screen,
    /// The line so far, or its last part.
    raw: Vec<u8>,
    text: Text,
    aside: Text,
    /// How much of the line has gone on.
    shown: usize,
    escape: Escape,
    /// Bytes that the character that has begun still lacks, and those that it has.
    lacks: usize,
    has: usize,
    /// Bytes of the line that are no UTF-8.
    invalid: usize,
    /// Inside of a PEM block.
    block: Option<Block>,
}

impl Stream {
    /// A stream that begins; `terminal`: it goes to one.
    pub fn new(terminal: bool) -> Self {
        let screen = Screen {
            is_one: terminal,
            ..Screen::default()
        };
        Self {
            screen,
            ..Self::default()
        }
    }

    /// Whether something waits for the rest of its line.
    pub fn is_holding(&self) -> bool {
        let block = self.block.as_ref();
        let is_kept = block.is_some_and(|block| block.keeps(&self.text.read));
        !is_kept && self.shown < self.raw.len()
    }

    /// Whether what is held ends as a value might begin, or go on: the rest of it may be on its way.
    pub fn may_go_on(&self) -> bool {
        self.is_holding()
            && match self.text.unseen() {
                [.., before, b' ' | b'-' | b'(' | b')'] => before.is_ascii_digit() || *before == b'-',
                [.., last] => last.is_ascii_alphanumeric() || b"-._+@%/=(".contains(last) || !last.is_ascii(),
                // Nothing that people read: perhaps the first half of a sequence.
                [] => false,
            }
    }

    /// Whether most of a value may be what is held at its end: the rest of it is worth waiting for.
    pub fn has_begun(&self) -> bool {
        let unseen = self.text.unseen();
        let word = unseen
            .rsplit(|byte| !byte.is_ascii_digit() && !b" -".contains(byte))
            .next();
        let digits = word
            .unwrap_or_default()
            .iter()
            .filter(|byte| byte.is_ascii_digit())
            .count();
        let last = unseen.rsplit(u8::is_ascii_whitespace).next().unwrap_or_default();
        digits >= SHORT || (last.len() >= SHORT && last.contains(&b'@'))
    }

    /// How much of what is held people read, in bytes.
    pub fn held(&self) -> usize {
        self.text.unseen().len()
    }

    /// Appends what is held as [`Self::flush`] does, and then what its reader knows already, as it is: the echo of what was
    /// typed, without control characters. What comes behind it is looked at together with it.
    pub fn pass(&mut self, detectors: &Detectors, key: &MaskKey, known: &[u8], out: &mut BytesMut) {
        if self.block.is_some() || self.escape != Escape::None {
            return self.push(detectors, key, known, out);
        }
        self.flush(detectors, key, out);
        self.character_ends();
        out.extend_from_slice(known);
        for &byte in known {
            self.text.push(byte, self.raw.len());
            self.raw.push(byte);
        }
        self.shown = self.raw.len();
        self.text.has_shown(self.shown);
        if self.raw.len() >= LONGEST {
            self.slide(detectors, key, out);
        }
    }

    /// Takes what came, and appends to `out` what may go on.
    pub fn push(&mut self, detectors: &Detectors, key: &MaskKey, bytes: &[u8], out: &mut BytesMut) {
        for &byte in bytes {
            let at = self.raw.len();
            match self.reads(byte) {
                Reads::Text => self.character(byte, at),
                Reads::Aside => self.aside.push(byte, at),
                Reads::Parts => {
                    self.character_ends();
                    self.text.drawn |= self.screen.is_one;
                    self.text.push(PART, at);
                }
                Reads::PartsAside => self.aside.push(PART, at),
                Reads::Back => {
                    self.character_ends();
                    self.text.back(at);
                }
                Reads::Nothing => {}
            }
            self.raw.push(byte);
            let ends = matches!(byte, b'\n' | b'\r') && self.escape == Escape::None;
            if ends {
                self.end(detectors, key, out);
            } else if self.raw.len() >= LONGEST {
                self.slide(detectors, key, out);
            }
        }
    }

    /// Appends what is held, looked at as far as it has come.
    pub fn flush(&mut self, detectors: &Detectors, key: &MaskKey, out: &mut BytesMut) {
        if self.is_holding() {
            // What this line begins with is in no block, or it may yet be.
            self.block = self.block.take().filter(|block| block.may_take(&self.text.read));
            self.show(detectors, key, self.raw.len(), out);
        }
    }

    /// What a byte is. Line ends are nothing by themselves.
    fn reads(&mut self, byte: u8) -> Reads {
        let (next, reads) = match (self.escape, byte) {
            // A line's end ends whatever was begun, or a sequence without an end would hide all that follows.
            (_, b'\n' | b'\r' | 0x18 | 0x1a) => (Escape::None, Reads::Nothing),
            // It ends a string, whatever follows.
            (Escape::Text, 0x1b) => (Escape::Begun, Reads::PartsAside),
            (_, 0x1b) => (Escape::Begun, Reads::Nothing),
            // A terminal takes no notice of it; elsewhere it parts records.
            (Escape::None, 0) if !self.screen.is_one => (Escape::None, Reads::Parts),
            (Escape::None, 0x08) => (Escape::None, Reads::Back),
            (Escape::None, 0..0x20 | 0x7f) if byte != b'\t' => (Escape::None, Reads::Nothing),
            (Escape::None, _) => (Escape::None, Reads::Text),
            (Escape::Begun, b'[') => (Escape::Control, Reads::Nothing),
            (Escape::Begun, b']' | b'P' | b'X' | b'^' | b'_') => (Escape::Text, Reads::PartsAside),
            (Escape::Begun, 0x20..0x30) => (Escape::One, Reads::Nothing),
            // Saved and restored places, other lines, a reset.
            (Escape::Begun, b'7' | b'8' | b'D' | b'E' | b'M' | b'c') => (Escape::None, Reads::Parts),
            (Escape::Begun | Escape::One, _) => (Escape::None, Reads::Nothing),
            // Cursor movements, scrolling, repetition, saved and restored places.
            (
                Escape::Control,
                b'A'..=b'H' | b'L' | b'M' | b'S' | b'T' | b'`'..=b'f' | b'j' | b'k' | b'r'..=b'u',
            ) => (Escape::None, Reads::Parts),
            (Escape::Control, 0x40..0x7f) => (Escape::None, Reads::Nothing),
            (Escape::Control, _) => (Escape::Control, Reads::Nothing),
            (Escape::Text, 0x07) => (Escape::None, Reads::PartsAside),
            (Escape::Text, 0..0x20 | 0x7f) => (Escape::Text, Reads::Nothing),
            (Escape::Text, _) => (Escape::Text, Reads::Aside),
        };
        self.escape = next;
        reads
    }

    /// A byte of the text: what is no UTF-8 parts it.
    fn character(&mut self, byte: u8, at: usize) {
        if self.lacks > 0 && (0x80..0xc0).contains(&byte) {
            self.text.push(byte, at);
            (self.lacks, self.has) = (self.lacks.saturating_sub(1), self.has.saturating_add(1));
            return;
        }
        self.character_ends();
        self.lacks = match byte {
            0..0x80 => 0,
            0xc2..0xe0 => 1,
            0xe0..0xf0 => 2,
            0xf0..0xf5 => 3,
            _ => {
                self.invalid = self.invalid.saturating_add(1);
                return self.text.push(PART, at);
            }
        };
        self.has = 1;
        self.text.push(byte, at);
    }

    /// Where a character is not whole, it is none.
    fn character_ends(&mut self) {
        if self.lacks > 0 {
            for byte in self.text.read.iter_mut().rev().take(self.has) {
                *byte = PART;
            }
            self.invalid = self.invalid.saturating_add(self.has);
            self.lacks = 0;
        }
    }

    /// The line is complete.
    fn end(&mut self, detectors: &Detectors, key: &MaskKey, out: &mut BytesMut) {
        self.character_ends();
        let is_end = |text: &[u8]| text.windows(9).any(|window| window == b"-----END ");
        let block = self.block.take();
        if block.as_ref().is_some_and(Block::is_new) && self.raw == b"\n" {
            // The end of the line with which it begins.
            out.extend_from_slice(&self.raw);
            self.block = block;
        } else if block.is_some() && is_end(&self.text.read) {
            out.extend_from_slice(self.raw.last().map_or(&[][..], std::slice::from_ref));
        } else if let Some(block) = block.and_then(|block| block.takes(&self.text.read)) {
            if self.shown > 0 {
                // A line that has begun on the screen ends there.
                out.extend_from_slice(self.raw.last().map_or(&[][..], std::slice::from_ref));
            }
            self.block = Some(block);
        } else if self.show(detectors, key, self.raw.len(), out) {
            self.block = Some(Block::default());
        }
        self.clear();
    }

    fn clear(&mut self) {
        self.raw.clear();
        self.raw.shrink_to(KEPT);
        self.text.clear();
        self.aside.clear();
        (self.shown, self.invalid) = (0, 0);
    }

    /// The line is too long to be kept: all but its last part goes on.
    fn slide(&mut self, detectors: &Detectors, key: &MaskKey, out: &mut BytesMut) {
        let last = self.text.read.len().saturating_sub(BEFORE);
        let cut = self.text.at.get(last).copied().unwrap_or_default();
        // Where there is little to read, it is sequences that are long.
        let cut = cut.max(self.raw.len().saturating_sub(LONGEST / 2));
        // No block has such a line.
        self.block = None;
        if self.show(detectors, key, cut, out) {
            // The line is shown to its end.
            self.block = Some(Block::default());
            return self.clear();
        }
        let known = self.text.seen.saturating_sub(BEFORE);
        let before = self.text.at.get(known).copied().unwrap_or(self.shown);
        let before = before.min(self.shown).max(self.shown.saturating_sub(LONGEST / 4));
        self.raw.drain(..before);
        self.text.forget(before);
        self.aside.forget(before);
        self.shown = self.shown.saturating_sub(before);
        self.invalid = 0;
    }

    /// Appends what was not shown yet up to `limit`, with what is found masked, and values that begin before it whole; whether
    /// a PEM block begins there and does not end.
    fn show(&mut self, detectors: &Detectors, key: &MaskKey, limit: usize, out: &mut BytesMut) -> bool {
        let mut limit = limit.max(self.shown);
        let is_binary = !self.screen.is_one && self.invalid.saturating_mul(BINARY) > self.text.read.len();
        let (mut found, mut open) = (Vec::new(), false);
        if !is_binary {
            let (text, in_text) = self.text.finds(detectors, key, self.shown, &mut self.screen);
            let (aside, _) = self.aside.finds(detectors, key, self.shown, &mut self.screen);
            open = in_text;
            // One may reach into another, so it is asked until nothing changes.
            let all = || text.iter().chain(&aside);
            loop {
                let reach = all()
                    .filter(|found| found.first < limit)
                    .map(|found| found.last.saturating_add(1));
                match reach.max() {
                    Some(further) if further > limit => limit = further,
                    _ => break,
                }
            }
            for (of, list) in [(&mut self.text, text), (&mut self.aside, aside)] {
                for one in list.into_iter().filter(|one| one.first < limit) {
                    of.masked = one.last.saturating_add(1);
                    found.push(one);
                }
            }
        }
        // By the places of what is taken out, the first of them with what stands there instead.
        let mut edits: Vec<(usize, BytesMut)> = Vec::new();
        for mut one in found {
            for place in one.places {
                edits.push((place, std::mem::take(&mut one.masked)));
            }
        }
        edits.sort_by_key(|(place, _)| *place);
        let mut next = self.shown;
        for (place, instead) in edits {
            out.extend_from_slice(self.raw.get(next..place).unwrap_or_default());
            out.extend_from_slice(&instead);
            next = place.saturating_add(1);
        }
        out.extend_from_slice(self.raw.get(next..limit).unwrap_or_default());
        self.shown = limit;
        self.text.has_shown(limit);
        self.aside.has_shown(limit);
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
        let body = "zeppelin".repeat(8);
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\nzeppelin==\n-----END PRIVATE KEY-----\n");
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
                format!("-----BEGIN RSA PRIVATE KEY-----\n{body}\n"),
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
    fn what_moves_the_cursor_parts_and_what_stands_in_a_string_is_looked_at_apart() {
        for (text, wanted) in [
            (
                "12\u{1b}[10G4111111111111111\u{1b}[30Gok\n",
                "12\u{1b}[10G[redacted]\u{1b}[30Gok\n",
            ),
            (
                "\u{1b}[3;1HTitle.\u{1b}[4;1Hann@corp.test\u{1b}[5;1Hhello",
                "\u{1b}[3;1HTitle.\u{1b}[4;1H[redacted]\u{1b}[5;1Hhello",
            ),
            (
                "\u{1b}]0;\u{1b}[mbob@corp.test\n",
                "\u{1b}]0;\u{1b}[m[redacted]\n",
            ),
            ("\u{1b}P\u{1b}\\bob@corp.test\n", "\u{1b}P\u{1b}\\[redacted]\n"),
            (
                "\u{1b}]8;;mailto:bob@corp.test\u{7}Bob\n",
                "\u{1b}]8;;mailto:[redacted]\u{7}Bob\n",
            ),
            (
                "4111 \u{1b}]0;bob@corp.test\u{1b}\\1111 1111 1111\n",
                "[redacted]\u{1b}]0;[redacted]\u{1b}\\\n",
            ),
            (
                "A=1\0B=4111111111111111\0C: x@y.test\0",
                "A=1\0B=[redacted]\0C: [redacted]\0",
            ),
        ] {
            for size in [1, 2, 5, text.len()] {
                assert_eq!(through(text, size, None), wanted, "{text:?} in pieces of {size}");
            }
        }
        // A terminal takes no notice of a NUL.
        let (mut stream, mut out) = (Stream::new(true), BytesMut::new());
        stream.push(
            &detectors(),
            &MaskKey::new(&[7; 32]),
            b"4111\x001111 1111 1111\n",
            &mut out,
        );
        assert_eq!(&out[..], b"[redacted]\0\n");
    }

    /// As a terminal gets it, in pieces of that size.
    fn on_screen(text: &str, size: usize) -> String {
        let (detectors, key) = (detectors(), MaskKey::new(&[7; 32]));
        let (mut stream, mut out) = (Stream::new(true), BytesMut::new());
        for piece in text.as_bytes().chunks(size) {
            stream.push(&detectors, &key, piece, &mut out);
        }
        stream.flush(&detectors, &key, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn what_is_struck_over_is_read_once() {
        for (text, wanted) in [
            (
                "a h\u{8}he\u{8}er\u{8}ro\u{8}on\u{8}n@\u{8}@m\u{8}m.\u{8}.d\u{8}de\u{8}e b\n",
                "a [redacted] b\n",
            ),
            ("_\u{8}x@_\u{8}m.test\n", "[redacted]\n"),
            // Where less goes on in the next line of the screen.
            ("heron@mai \u{8}l.test\n", "[redacted]\n"),
            ("\u{fc}\u{8}\u{fc}x@m.test\n", "[redacted]\n"),
            (
                "ab\u{8} \u{8}c\u{8}\u{8}\u{8}\u{8}d\n",
                "ab\u{8} \u{8}c\u{8}\u{8}\u{8}\u{8}d\n",
            ),
        ] {
            for size in [1, 2, 5, text.len()] {
                assert_eq!(on_screen(text, size), wanted, "{text:?} in pieces of {size}");
            }
        }
        let long = format!("{}{}", "x".repeat(200_000), "\u{8}".repeat(200_000));
        assert_eq!(on_screen(&long, 30_000), long);
    }

    #[test]
    fn what_is_drawn_keeps_its_width() {
        for (text, wanted) in [
            (
                "\u{1b}[2;1Hto heron@mail.test now",
                "\u{1b}[2;1Hto [redacted]***** now",
            ),
            ("\u{1b}[2;1Ha@b.de now", "\u{1b}[2;1H[redac now"),
            ("to heron@mail.test now", "to [redacted] now"),
        ] {
            assert_eq!(on_screen(text, 3), wanted);
        }
    }

    /// Base64 that looks as that of a key does.
    fn body(number: usize) -> String {
        format!("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9U{number:05}")
    }

    #[test]
    fn lines_of_a_key_are_found_on_a_screen_in_any_order_once_it_has_begun() {
        let lines: Vec<_> = (0..8).map(body).collect();
        let drawn: String = lines
            .iter()
            .zip(2..)
            .map(|(line, row)| format!("\u{1b}[{row};1H{line}\u{1b}[K"))
            .collect();
        let seen = on_screen(
            &format!("\u{1b}[1;1H-----BEGIN PRIVATE KEY-----\u{1b}[K{drawn}"),
            50,
        );
        assert!(
            !seen.contains("MIIE") && seen.matches("[redacted]").count() == 9,
            "{seen}"
        );
        // A pager goes back, line by line.
        let back: String = lines
            .iter()
            .rev()
            .map(|line| format!("\u{1b}[H\u{1b}M{line}\r\n"))
            .collect();
        let seen = on_screen(
            &format!("-----BEGIN RSA PRIVATE KEY-----\r\n:\r\u{1b}[K{back}"),
            50,
        );
        assert!(!seen.contains("MIIE"), "{seen}");
        let logged: String = lines.iter().map(|line| format!("12:00 key\n{line}\n")).collect();
        assert!(!through(&format!("-----BEGIN PRIVATE KEY-----\n{logged}"), 50, None).contains("MIIE"));
        // Its beginning may be above the screen.
        let tail: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let seen = on_screen(&tail, 50);
        assert_eq!(seen.matches("MIIE").count(), STRAY, "{seen}");
        let long: String = (0..8)
            .map(|number| format!("{}{}\r\n", body(number), "x".repeat(12)))
            .collect();
        for text in [format!("\u{1b}[2;1H{}\n", body(1)), long] {
            assert_eq!(on_screen(&text, 50), text);
        }
    }

    #[test]
    fn what_a_program_asks_behind_a_key_that_was_cut_is_shown() {
        let (detectors, key) = (detectors(), MaskKey::new(&[7; 32]));
        for asked in ["Password: ", "> ", "web1:", "Continue", "mysql> ", "login: "] {
            let (mut stream, mut out) = (Stream::new(true), BytesMut::new());
            let head = format!("-----BEGIN PRIVATE KEY-----\r\n{}\r\n{}\r\n", body(1), body(2));
            stream.push(&detectors, &key, head.as_bytes(), &mut out);
            for (piece, wanted) in [(asked, asked), ("ab", "ab"), ("\r\ngot it\r\n", "\r\ngot it\r\n")] {
                out.clear();
                stream.push(&detectors, &key, piece.as_bytes(), &mut out);
                stream.flush(&detectors, &key, &mut out);
                assert_eq!(std::str::from_utf8(&out), Ok(wanted), "{asked:?}");
            }
        }
        let text = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\nDone\nPassword: x\n> quoted\nlast\n",
            body(1)
        );
        assert_eq!(
            through(&text, 7, None),
            "[redacted]\nDone\nPassword: x\n> quoted\nlast\n"
        );
    }

    #[test]
    fn most_of_a_value_is_told_from_what_has_hardly_begun() {
        let (detectors, key) = (detectors(), MaskKey::new(&[7; 32]));
        for (text, expected) in [
            ("4111 11", true),
            ("4111", false),
            ("heron@", true),
            ("$ ", false),
            ("a@", false),
        ] {
            let mut stream = Stream::new(true);
            stream.push(&detectors, &key, text.as_bytes(), &mut BytesMut::new());
            assert_eq!(stream.has_begun(), expected, "{text}");
        }
    }

    #[test]
    fn a_long_line_is_looked_at_all_along_it() {
        for before in 65_400..65_600 {
            let text = format!("{} bob@corp.test yy {}", "x".repeat(before), "z".repeat(70_000));
            let seen = through(&text, 40_000, None);
            assert_eq!(seen, text.replace("bob@corp.test", "[redacted]"), "{before}");
        }
        let text = "\"bob.smith@corp.test\",".repeat(20_000);
        assert_eq!(
            through(&text, 32_768, None),
            text.replace("bob.smith@corp.test", "[redacted]")
        );
        // Sequences without a text do not fill the memory.
        let text = "\u{1b}[1m".repeat(100_000);
        assert_eq!(through(&text, 30_000, None), text);
    }

    #[test]
    fn what_is_no_text_goes_on_as_it_is_but_to_a_terminal() {
        let (detectors, key) = (detectors(), MaskKey::new(&[7; 32]));
        let shown = |terminal: bool, data: &[u8]| {
            let (mut stream, mut out) = (Stream::new(terminal), BytesMut::new());
            stream.push(&detectors, &key, data, &mut out);
            stream.flush(&detectors, &key, &mut out);
            out.to_vec()
        };
        let mut state = 9_u32;
        let noise: Vec<u8> = (0..2_000_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes()[0]
            })
            .collect();
        assert_eq!(shown(false, &noise), noise);
        // A few bytes of another encoding are no reason to look away, and no part of a value.
        let latin = b"M\xfcller wrote from bob@corp.test, he\xffron@mail.test\n";
        let wanted: &[u8] = b"M\xfcller wrote from [redacted], he\xff[redacted]\n";
        assert_eq!(shown(false, latin), wanted);
        assert_eq!(
            shown(true, b"\xff\xff\xff bob@corp.test\n"),
            b"\xff\xff\xff [redacted]\n"
        );
        let umlaut = "m\u{fc}ller@corp.test\n".as_bytes();
        assert_eq!(shown(false, umlaut), b"[redacted]\n");
    }

    #[test]
    fn what_follows_the_beginning_of_a_block_is_shown_where_it_is_none() {
        let text = "grep: -----BEGIN PRIVATE KEY-----\r\n1\r\nheron@web$ ";
        for size in 1..text.len() {
            let seen = through(text, size, None);
            assert_eq!(seen, "grep: [redacted]\r\n1\r\nheron@web$ ", "{size}");
        }
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
