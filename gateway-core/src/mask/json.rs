//! Masks inside of JSON texts (RFC 8259): members that a path names, and what detectors find in strings.
//!
//! The text is walked once and copied; what is masked is replaced on the way. Nothing is built in memory, numbers and
//! white space stay as they were written. A text that is no JSON gives an error, and the caller hides it whole.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::token::Tokens;
use super::{MaskKey, REDACTED};
use crate::detect::Detectors;
use crate::resource::Mask;

/// One step of a path into JSON.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// The member of that name.
    Key(String),
    /// Every element of an array.
    Element,
    /// Every member and every element.
    Any,
}

/// A part of JSON values that is masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where it is; never empty.
    pub path: Vec<Step>,
    /// What becomes of it.
    pub mask: Mask,
    /// Makes its tokens, where it becomes one.
    pub tokens: Option<Arc<Tokens>>,
}

/// Most parts of one value: their progress is kept in one word.
pub const MAX_PARTS: usize = 64;
/// Deepest nesting that is read.
const MAX_DEPTH: usize = 512;
/// Most steps of a path in a configuration.
const MAX_STEPS: usize = 32;

/// The text is not JSON, or is nested too deeply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotJson;

/// Reads a path: `$.user.email`, `$.items[*].card`, `$."a.b"`, `$['a b']`, `$.*`. An index stands for every element.
///
/// # Errors
///
/// A sentence on what is wrong with it.
pub fn parse_path(text: &str) -> Result<Vec<Step>, String> {
    let mut rest = text.strip_prefix('$').ok_or("a path begins with `$`")?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (step, after) = if let Some(after) = rest.strip_prefix('.') {
            if let Some(after) = after.strip_prefix('*') {
                (Step::Any, after)
            } else if after.starts_with('"') {
                let (key, after) = quoted(after)?;
                (Step::Key(key), after)
            } else {
                let end = after.find(['.', '[', '"', '\'', '*']).unwrap_or(after.len());
                let (key, after) = after.split_at_checked(end).unwrap_or((after, ""));
                if key.is_empty() {
                    return Err("has a member without a name".to_owned());
                }
                (Step::Key(key.to_owned()), after)
            }
        } else if let Some(after) = rest.strip_prefix('[') {
            let (step, after) = if after.starts_with(['"', '\'']) {
                let (key, after) = quoted(after)?;
                (Step::Key(key), after)
            } else {
                let end = after.find(']').ok_or("has a `[` that is not closed")?;
                let (index, after) = after.split_at_checked(end).unwrap_or((after, ""));
                if index != "*" && index.parse::<u32>().is_err() {
                    return Err(format!("has `[{index}]`; write [*] for every element"));
                }
                (Step::Element, after)
            };
            let after = after.strip_prefix(']').ok_or("has a `[` that is not closed")?;
            (step, after)
        } else {
            return Err(format!("has `{rest}` where a `.member` or `[*]` belongs"));
        };
        steps.push(step);
        if steps.len() > MAX_STEPS {
            return Err(format!("has more than {MAX_STEPS} steps"));
        }
        rest = after;
    }
    if steps.is_empty() {
        return Err("leads nowhere; leave `$` out for the whole value".to_owned());
    }
    Ok(steps)
}

/// A name in quotes of either kind; the quote itself is written twice in it.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut chars = text.chars();
    let quote = chars.next().unwrap_or('"');
    let mut name = String::new();
    let mut rest = chars.as_str();
    loop {
        let (before, after) = rest.split_once(quote).ok_or("has a quote that is not closed")?;
        name.push_str(before);
        match after.strip_prefix(quote) {
            Some(after) => {
                name.push(quote);
                rest = after;
            }
            None => return Ok((name, after)),
        }
    }
}

/// Appends the JSON text with these parts masked, and what the detectors find.
///
/// # Errors
///
/// It is no JSON; then some of it may have been appended.
pub fn rewrite(
    text: &[u8],
    parts: &[Part],
    detect: Option<&Detectors>,
    key: &MaskKey,
    out: &mut BytesMut,
) -> Result<(), NotJson> {
    let count = u32::try_from(parts.len()).map_err(|_| NotJson)?;
    let alive = match count {
        0 => 0,
        1..=64 => u64::MAX >> 64_u32.saturating_sub(count),
        _ => return Err(NotJson),
    };
    let mut walk = Walk {
        text,
        at: 0,
        copied: 0,
        parts,
        detect,
        key,
        out,
        value: BytesMut::new(),
    };
    walk.space();
    walk.value(alive, 0)?;
    walk.space();
    if walk.at != text.len() {
        return Err(NotJson);
    }
    walk.copy();
    Ok(())
}

struct Walk<'a> {
    text: &'a [u8],
    at: usize,
    /// Up to where the text is in `out`.
    copied: usize,
    parts: &'a [Part],
    detect: Option<&'a Detectors>,
    key: &'a MaskKey,
    out: &'a mut BytesMut,
    /// Room for a string without its escapes.
    value: BytesMut,
}

impl<'a> Walk<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn step(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotJson> {
        if self.peek() != Some(byte) {
            return Err(NotJson);
        }
        self.step();
        Ok(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.step();
        }
    }

    /// Copies what was read and is not masked.
    fn copy(&mut self) {
        let read = self.text.get(self.copied..self.at).unwrap_or_default();
        self.out.extend_from_slice(read);
        self.copied = self.at;
    }

    /// Reads a value at `depth` steps from the root. `alive`: the parts of whose paths all steps so far fit.
    fn value(&mut self, alive: u64, depth: usize) -> Result<(), NotJson> {
        if depth > MAX_DEPTH {
            return Err(NotJson);
        }
        if let Some(part) = self.part_at(alive, depth) {
            return self.masked(part, depth);
        }
        match self.peek().ok_or(NotJson)? {
            b'{' => self.members(alive, depth),
            b'[' => self.elements(alive, depth),
            b'"' => self.detected_string(),
            b'-' | b'0'..=b'9' => self.detected_number(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => Err(NotJson),
        }
    }

    /// Of the parts that end here the one with the strictest mask.
    fn part_at(&self, alive: u64, depth: usize) -> Option<&'a Part> {
        if alive == 0 {
            return None;
        }
        let ends = |(at, part): (usize, &'a Part)| {
            (alive >> at & 1 == 1 && part.path.len() == depth).then_some(part)
        };
        let stricter = |one: &'a Part, other: &'a Part| {
            if one.mask.strictest(other.mask) == one.mask {
                one
            } else {
                other
            }
        };
        self.parts.iter().enumerate().filter_map(ends).reduce(stricter)
    }

    /// The parts of whose paths the next step fits, too.
    fn follow(&self, alive: u64, depth: usize, fits: impl Fn(&Step) -> bool) -> u64 {
        let mut next = 0;
        if alive == 0 {
            return next;
        }
        for (at, part) in self.parts.iter().enumerate() {
            if alive >> at & 1 == 1 && part.path.get(depth).is_some_and(&fits) {
                next |= 1 << at;
            }
        }
        next
    }

    fn members(&mut self, alive: u64, depth: usize) -> Result<(), NotJson> {
        self.step();
        self.space();
        if self.peek() == Some(b'}') {
            self.step();
            return Ok(());
        }
        loop {
            self.space();
            let from = self.at.saturating_add(1);
            let key = if self.detect.is_some() {
                self.detected_string()?;
                from..self.at.saturating_sub(1)
            } else {
                self.string()?
            };
            let raw = self.text.get(key).unwrap_or_default();
            let next = self.follow(alive, depth, |step| match step {
                Step::Key(name) => is_string(raw, name),
                Step::Any => true,
                Step::Element => false,
            });
            self.space();
            self.expect(b':')?;
            self.space();
            self.value(next, depth.saturating_add(1))?;
            self.space();
            match self.peek() {
                Some(b',') => self.step(),
                Some(b'}') => {
                    self.step();
                    return Ok(());
                }
                _ => return Err(NotJson),
            }
        }
    }

    fn elements(&mut self, alive: u64, depth: usize) -> Result<(), NotJson> {
        self.step();
        self.space();
        if self.peek() == Some(b']') {
            self.step();
            return Ok(());
        }
        let next = self.follow(alive, depth, |step| matches!(step, Step::Element | Step::Any));
        loop {
            self.space();
            self.value(next, depth.saturating_add(1))?;
            self.space();
            match self.peek() {
                Some(b',') => self.step(),
                Some(b']') => {
                    self.step();
                    return Ok(());
                }
                _ => return Err(NotJson),
            }
        }
    }

    /// Reads a string; where its characters, with their escapes, are.
    fn string(&mut self) -> Result<std::ops::Range<usize>, NotJson> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            match self.peek().ok_or(NotJson)? {
                b'"' => {
                    let end = self.at;
                    self.step();
                    return Ok(start..end);
                }
                b'\\' => self.at = self.at.saturating_add(2),
                0..=0x1f => return Err(NotJson),
                _ => self.step(),
            }
        }
    }

    fn number(&mut self) -> std::ops::Range<usize> {
        let start = self.at;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.step();
        }
        start..self.at
    }

    fn word(&mut self, word: &[u8]) -> Result<(), NotJson> {
        let end = self.at.saturating_add(word.len());
        if self.text.get(self.at..end) != Some(word) {
            return Err(NotJson);
        }
        self.at = end;
        Ok(())
    }

    /// A string in which the detectors look.
    fn detected_string(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        let inside = self.string()?;
        let Some(detect) = self.detect else { return Ok(()) };
        let raw = self.text.get(inside).unwrap_or_default();
        let plain = unescaped(raw, &mut self.value).ok_or(NotJson)?;
        let mut found = BytesMut::new();
        if detect.rewrite(plain, self.key, &mut found) {
            self.replace(start, &found);
        }
        Ok(())
    }

    /// A number is looked at as well: a card may be one.
    fn detected_number(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        let number = self.number();
        let Some(detect) = self.detect else { return Ok(()) };
        let mut found = BytesMut::new();
        if detect.rewrite(self.text.get(number).unwrap_or_default(), self.key, &mut found) {
            self.replace(start, &found);
        }
        Ok(())
    }

    /// Puts a string in the place of what was read from `start` on.
    fn replace(&mut self, start: usize, text: &[u8]) {
        let end = std::mem::replace(&mut self.at, start);
        self.copy();
        put_string(text, self.out);
        self.at = end;
        self.copied = end;
    }

    /// A value that is masked. null says nothing, and stays.
    fn masked(&mut self, part: &Part, depth: usize) -> Result<(), NotJson> {
        let mask = part.mask;
        let tokens = part.tokens.as_deref().filter(|_| mask == Mask::Token);
        let start = self.at;
        let mut room = BytesMut::new();
        let mut there = true;
        match self.peek().ok_or(NotJson)? {
            b'n' => return self.word(b"null"),
            b'"' => {
                let inside = self.string()?;
                let raw = self.text.get(inside).unwrap_or_default();
                let plain = unescaped(raw, &mut self.value).ok_or(NotJson)?;
                match tokens {
                    Some(tokens) => tokens.text(plain, &mut room),
                    None => there = mask.text(plain, self.key, &mut room),
                }
            }
            b'-' | b'0'..=b'9' => {
                let number = self.number();
                let raw = self.text.get(number.clone()).unwrap_or_default();
                // A number stays one.
                if tokens.is_some_and(|tokens| tokens.decimal(raw, &mut room)) {
                    let end = std::mem::replace(&mut self.at, start);
                    self.copy();
                    self.out.extend_from_slice(&room);
                    self.at = end;
                    self.copied = end;
                    return Ok(());
                }
                there = mask.text(self.text.get(number).unwrap_or_default(), self.key, &mut room);
            }
            // Of what has parts, or two values only, no mask may leave anything.
            _ => {
                let (detect, copied, len) = (self.detect.take(), self.copied, self.out.len());
                self.value(0, depth)?;
                self.detect = detect;
                self.copied = copied;
                self.out.truncate(len);
                room.extend_from_slice(REDACTED.as_bytes());
            }
        }
        if there && mask != Mask::Null {
            self.replace(start, &room);
        } else {
            let end = std::mem::replace(&mut self.at, start);
            self.copy();
            self.out.extend_from_slice(b"null");
            self.at = end;
            self.copied = end;
        }
        Ok(())
    }
}

/// Whether a string, given with its escapes, is this text.
fn is_string(raw: &[u8], text: &str) -> bool {
    if !raw.contains(&b'\\') {
        return raw == text.as_bytes();
    }
    let mut room = BytesMut::new();
    unescaped(raw, &mut room).is_some_and(|plain| plain == text.as_bytes())
}

/// A string without its escapes; `room` is used where there are some. `None`: they are wrong.
fn unescaped<'a>(raw: &'a [u8], room: &'a mut BytesMut) -> Option<&'a [u8]> {
    if !raw.contains(&b'\\') {
        return Some(raw);
    }
    room.clear();
    let mut rest = raw;
    while let Some(at) = rest.iter().position(|&byte| byte == b'\\') {
        let (before, after) = rest.split_at_checked(at)?;
        room.extend_from_slice(before);
        let (&escape, after) = after.get(1..)?.split_first()?;
        rest = after;
        let plain = match escape {
            b'"' | b'\\' | b'/' => escape,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let (unit, after) = hex4(rest)?;
                rest = after;
                let mut units = [unit, 0];
                let mut count = 1;
                if (0xd800..0xdc00).contains(&unit)
                    && let Some(low) = rest.strip_prefix(b"\\u")
                {
                    let (second, after) = hex4(low)?;
                    units = [unit, second];
                    count = 2;
                    rest = after;
                }
                for char in char::decode_utf16(units.into_iter().take(count)) {
                    let char = char.unwrap_or(char::REPLACEMENT_CHARACTER);
                    room.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                }
                continue;
            }
            _ => return None,
        };
        room.put_u8(plain);
    }
    room.extend_from_slice(rest);
    Some(room)
}

fn hex4(text: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = text.split_at_checked(4)?;
    let digits = std::str::from_utf8(digits).ok()?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some((u16::from_str_radix(digits, 16).ok()?, rest))
}

/// Appends a text as a JSON string.
fn put_string(text: &[u8], out: &mut BytesMut) {
    use std::fmt::Write as _;
    out.put_u8(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' => {
                out.put_u8(b'\\');
                out.put_u8(byte);
            }
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1f => {
                // Writing into a buffer in memory does not fail.
                let _ = write!(out, "\\u{byte:04x}");
            }
            _ => out.put_u8(byte),
        }
    }
    out.put_u8(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Detector, Kind};

    fn part(path: &str, mask: Mask) -> Part {
        let tokens = (mask == Mask::Token).then(|| Tokens::new(&MaskKey::new(&[7; 32]), "r", "t").into());
        Part {
            path: parse_path(path).unwrap(),
            mask,
            tokens,
        }
    }

    fn masked(text: &str, parts: &[Part]) -> Option<String> {
        let mut out = BytesMut::new();
        rewrite(text.as_bytes(), parts, None, &MaskKey::new(&[7; 32]), &mut out).ok()?;
        Some(String::from_utf8(out.to_vec()).unwrap())
    }

    #[test]
    fn paths_are_read_in_the_forms_that_people_write() {
        let key = |text: &str| Step::Key(text.to_owned());
        for (text, expected) in [
            ("$.user.email", vec![key("user"), key("email")]),
            ("$.items[*].card", vec![key("items"), Step::Element, key("card")]),
            ("$[0].a", vec![Step::Element, key("a")]),
            ("$.\"a.b\"['c d']", vec![key("a.b"), key("c d")]),
            ("$.*.x", vec![Step::Any, key("x")]),
        ] {
            assert_eq!(parse_path(text), Ok(expected), "{text}");
        }
        for wrong in ["", "user", "$", "$.", "$..a", "$[x]", "$[*", "$.\"a", "$a"] {
            assert!(parse_path(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_path_masks_its_members_alone_whatever_else_is_there() {
        let parts = [
            part("$.user.email", Mask::Partial),
            part("$.cards[*].no", Mask::Redact),
        ];
        for (text, expected) in [
            (
                r#" {"id" : 1.50, "user":{"name":"a","email":"heron@m.test"}, "email":"b"} "#,
                r#" {"id" : 1.50, "user":{"name":"a","email":"****test"}, "email":"b"} "#,
            ),
            // Every one of several members of one name, and a name that is written with escapes.
            (
                r#"{"user":{"email":"12345678"},"user":{"em\u0061il":"12345678"}}"#,
                r#"{"user":{"email":"****5678"},"user":{"em\u0061il":"****5678"}}"#,
            ),
            (
                r#"{"cards":[{"no":1234567890},{"no":null},{"x":[]}]}"#,
                r#"{"cards":[{"no":"[redacted]"},{"no":null},{"x":[]}]}"#,
            ),
            // What has parts is hidden whole.
            (
                r#"{"user":{"email":{"a":["b"]}}}"#,
                r#"{"user":{"email":"[redacted]"}}"#,
            ),
            (r#"{"user":{"email":true}}"#, r#"{"user":{"email":"[redacted]"}}"#),
            (r#"{"user":[{"email":"x"}]}"#, r#"{"user":[{"email":"x"}]}"#),
            // What is left of a value with escapes is escaped again.
            (
                r#"{"user":{"email":"abcdef\"\\gh"}}"#,
                r#"{"user":{"email":"****\"\\gh"}}"#,
            ),
            ("[]", "[]"),
            ("\"x\"", "\"x\""),
        ] {
            assert_eq!(masked(text, &parts).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(
            masked(r#"{"a":{"b":"x"}}"#, &[part("$.*.b", Mask::Null)]).as_deref(),
            Some(r#"{"a":{"b":null}}"#)
        );
    }

    #[test]
    fn tokens_keep_the_kind_of_a_value() {
        let parts = [part("$.a", Mask::Token)];
        let text = masked(r#"{"a":4929123456700037}"#, &parts).unwrap();
        let number = text.strip_prefix("{\"a\":").unwrap().strip_suffix('}').unwrap();
        assert!(number.len() == 16 && number != "4929123456700037", "{text}");
        let text = masked(r#"{"a":"heron@mailfort.test"}"#, &parts).unwrap();
        assert!(text.ends_with(".token.invalid\"}"), "{text}");
    }

    #[test]
    fn what_is_no_json_is_told() {
        let parts = [part("$.a", Mask::Redact)];
        let deep = "[".repeat(100_000);
        for wrong in [
            "",
            "{",
            "{\"a\":}",
            "{\"a\" 1}",
            "[1,]x",
            "nul",
            "\"a",
            "{\"a\":\"\\x\"}",
            "1 2",
            &deep,
        ] {
            assert_eq!(masked(wrong, &parts), None, "{}", wrong.len());
        }
    }

    #[test]
    fn detectors_look_behind_escapes() {
        let detectors = Detectors::new(vec![Detector {
            kind: Kind::Email,
            mask: Mask::Redact,
        }]);
        let mut out = BytesMut::new();
        let text = br#"{"a":"mail heron\u0040mailfort.test now","n":[1,"x"]}"#;
        rewrite(text, &[], Some(&detectors), &MaskKey::new(&[7; 32]), &mut out).unwrap();
        assert_eq!(&out[..], br#"{"a":"mail [redacted] now","n":[1,"x"]}"#);
    }
}
