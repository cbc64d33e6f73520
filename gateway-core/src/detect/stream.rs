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
mod tests;
