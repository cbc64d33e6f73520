//! The text of a recording: asciicast v3 (<https://docs.asciinema.org/manual/asciicast/v3/>), with a few codes more.
//!
//! A header line, then a line an event: `[interval, code, data]`, the interval in seconds since the event before. `o` is output, `i`
//! what was typed as far as it was shown, `r` another size, `m` a mark, `x` the exit status. Codes that are not the format's, and that
//! its players skip: `e` is the second output, `O` and `E` are bytes of the two that are no text, in base64, `d` and `u` packets of a file
//! transfer to the client and to the target, in base64. No text is what is no UTF-8, and what is full of NULs, each of which JSON writes
//! with six characters.

use std::io::Write as _;

use serde_json::json;
use tokio::time::Instant;

use super::echo::Echo;
use super::queue::Item;
use super::{Begin, Stream};
use crate::json_text::escape;

/// The size of a terminal where there is none.
const SIZE: (u32, u32) = (80, 24);
/// Largest size that a recording says.
const LARGEST: u32 = 10_000;
/// From this length on NULs are counted.
const COUNTED: usize = 64;
/// One byte of so many is a NUL: it is no text.
const NULS: usize = 8;

/// The header line.
pub(super) fn header(begin: &Begin, timestamp: i64) -> Vec<u8> {
    let terminal = begin.what.terminal.as_ref();
    let (cols, rows) = terminal.map_or(SIZE, |terminal| (terminal.cols, terminal.rows));
    let mut term = json!({ "cols": cols.clamp(1, LARGEST), "rows": rows.clamp(1, LARGEST) });
    if let (Some(terminal), Some(term)) = (terminal, term.as_object_mut()) {
        term.insert("type".to_owned(), json!(terminal.name));
    }
    let header = json!({
        "version": 3,
        "term": term,
        "timestamp": timestamp,
        "title": begin.what.title,
        "gateway": {
            "session": begin.session,
            "recording": begin.number,
            "resource": begin.resource,
            "kind": begin.what.kind,
            "channel": begin.what.channel,
            "terminal": terminal.is_some(),
        },
    });
    let mut line = header.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// UTF-8 that comes in parts.
#[derive(Debug, Default)]
struct Utf8 {
    /// The beginning of a character whose rest is to come.
    begun: Vec<u8>,
}

/// A part of a stream.
enum Part<'a> {
    Text(&'a str),
    /// No UTF-8.
    Bytes(&'a [u8]),
}

impl Utf8 {
    /// Gives the text of the next bytes; from the first that are none on, all of them are bytes.
    fn each(&mut self, bytes: &[u8], mut take: impl FnMut(Part<'_>)) {
        let joined;
        let bytes = if self.begun.is_empty() {
            bytes
        } else {
            self.begun.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.begun);
            joined.as_slice()
        };
        match std::str::from_utf8(bytes) {
            Ok(text) => take(Part::Text(text)),
            Err(error) => {
                let (good, rest) = bytes
                    .split_at_checked(error.valid_up_to())
                    .unwrap_or((&[], bytes));
                if let Ok(good) = std::str::from_utf8(good)
                    && !good.is_empty()
                {
                    take(Part::Text(good));
                }
                match error.error_len() {
                    None => self.begun = rest.to_vec(),
                    Some(_) => take(Part::Bytes(rest)),
                }
            }
        }
    }
}

/// Writes events as lines.
#[derive(Debug)]
pub(super) struct Encoder {
    begun: Instant,
    /// Microseconds from the beginning to the last event.
    last: u64,
    output: Utf8,
    error: Utf8,
    input: Utf8,
    /// Absent where nothing of what is typed is kept.
    echo: Option<Echo>,
}

impl Encoder {
    /// `typed`: whether what is typed will be given to it.
    pub(super) fn new(begun: Instant, typed: bool) -> Self {
        Self {
            begun,
            last: 0,
            output: Utf8::default(),
            error: Utf8::default(),
            input: Utf8::default(),
            echo: typed.then(Echo::default),
        }
    }

    /// Microseconds from the beginning to that time.
    pub(super) fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.begun).as_micros()).unwrap_or(u64::MAX)
    }

    fn open(&mut self, out: &mut Vec<u8>, at: Instant, code: char) {
        let now = self.micros(at).max(self.last);
        let interval = now.saturating_sub(self.last);
        self.last = now;
        let (seconds, rest) = (interval / 1_000_000, interval % 1_000_000);
        // A vector takes all.
        let _ = write!(out, "[{seconds}.{rest:06}, \"{code}\", \"");
    }

    fn line(&mut self, out: &mut Vec<u8>, at: Instant, code: char, data: &str) {
        self.open(out, at, code);
        escape(out, data);
        out.extend_from_slice(CLOSE);
    }

    fn bytes(&mut self, out: &mut Vec<u8>, at: Instant, code: char, data: &[u8]) {
        self.open(out, at, code);
        base64(out, data);
        out.extend_from_slice(CLOSE);
    }

    /// A mark.
    pub(super) fn mark(&mut self, out: &mut Vec<u8>, at: Instant, text: &str) {
        self.line(out, at, 'm', text);
    }

    /// Writes the lines of an item.
    pub(super) fn item(&mut self, out: &mut Vec<u8>, at: Instant, item: &Item) {
        match item {
            Item::Data(stream, bytes) => self.data(out, at, *stream, bytes),
            Item::Resize(cols, rows) => {
                let size = format!("{}x{}", (*cols).clamp(1, LARGEST), (*rows).clamp(1, LARGEST));
                self.line(out, at, 'r', &size);
            }
            Item::Mark(text) => self.line(out, at, 'm', text),
            Item::Finish { end, status, counted } => {
                self.end(out, at);
                if *counted > 0 {
                    self.line(out, at, 'm', &format!("{counted} bytes of input, not recorded"));
                }
                match status {
                    Some(status) => self.line(out, at, 'x', &status.to_string()),
                    None => self.line(out, at, 'm', end),
                }
            }
        }
    }

    /// Writes what still waits for the rest of a character, or for the target to show it.
    pub(super) fn end(&mut self, out: &mut Vec<u8>, at: Instant) {
        for (code, begun) in [
            ('O', std::mem::take(&mut self.output.begun)),
            ('E', std::mem::take(&mut self.error.begun)),
        ] {
            if !begun.is_empty() {
                self.bytes(out, at, code, &begun);
            }
        }
        let told = self.echo.as_mut().map(Echo::end).unwrap_or_default();
        self.typed(out, at, &told);
    }

    fn typed(&mut self, out: &mut Vec<u8>, at: Instant, told: &str) {
        if !told.is_empty() {
            self.line(out, at, 'i', told);
        }
    }

    fn data(&mut self, out: &mut Vec<u8>, at: Instant, stream: Stream, bytes: &[u8]) {
        let (text, raw) = match stream {
            Stream::Input => return self.input(out, at, bytes),
            Stream::ToClient => return self.bytes(out, at, 'd', bytes),
            Stream::ToTarget => return self.bytes(out, at, 'u', bytes),
            Stream::Output => ('o', 'O'),
            Stream::Error => ('e', 'E'),
        };
        let own = |encoder: &mut Self| match stream {
            Stream::Error => std::mem::take(&mut encoder.error),
            _ => std::mem::take(&mut encoder.output),
        };
        let mut utf8 = own(self);
        utf8.each(bytes, |part| match part {
            Part::Text(part) => {
                match is_binary(part.as_bytes()) {
                    true => self.bytes(out, at, raw, part.as_bytes()),
                    false => self.line(out, at, text, part),
                }
                self.shown(out, at, part);
            }
            Part::Bytes(part) => {
                self.bytes(out, at, raw, part);
                if self.echo.is_some() {
                    self.shown(out, at, &String::from_utf8_lossy(part));
                }
            }
        });
        match stream {
            Stream::Error => self.error = utf8,
            _ => self.output = utf8,
        }
    }

    fn shown(&mut self, out: &mut Vec<u8>, at: Instant, part: &str) {
        if let Some(echo) = &mut self.echo {
            let told = echo.shown(part);
            self.typed(out, at, &told);
        }
    }

    fn input(&mut self, out: &mut Vec<u8>, at: Instant, bytes: &[u8]) {
        let mut utf8 = std::mem::take(&mut self.input);
        utf8.each(bytes, |part| {
            let Some(echo) = &mut self.echo else { return };
            let told = match part {
                Part::Text(part) => echo.typed(part),
                // Whatever it is, the target will not show it as that.
                Part::Bytes(part) => echo.typed(&String::from_utf8_lossy(part)),
            };
            self.typed(out, at, &told);
        });
        self.input = utf8;
    }
}

/// The end of a line.
const CLOSE: &[u8] = b"\"]\n";

/// A mark that takes no time, behind lines that were made before others.
pub(super) fn aside(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b"[0.000000, \"m\", \"");
    escape(out, text);
    out.extend_from_slice(CLOSE);
}

/// Whether it is full of NULs.
fn is_binary(bytes: &[u8]) -> bool {
    bytes.len() >= COUNTED
        && memchr::memchr(0, bytes).is_some()
        && memchr::memchr_iter(0, bytes).count() > bytes.len() / NULS
}

fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    base64_simd::STANDARD.encode_append(bytes, out);
}

/// A line of a recording as it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Seconds since the line before.
    pub interval: f64,
    /// What it is.
    pub code: char,
    /// Its data: bytes as they were, for all codes that carry such.
    pub data: Vec<u8>,
}

/// Reads an event line; `None` where it is none (a comment, a header, something else).
pub fn parse(line: &[u8]) -> Option<Line> {
    let (interval, code, data): (f64, String, String) = serde_json::from_slice(line).ok()?;
    let mut codes = code.chars();
    let (Some(code), None) = (codes.next(), codes.next()) else {
        return None;
    };
    let data = match code {
        'O' | 'E' | 'd' | 'u' => base64_simd::STANDARD.decode_to_vec(data).ok()?,
        _ => data.into_bytes(),
    };
    let interval = if interval.is_finite() {
        interval.max(0.0)
    } else {
        0.0
    };
    Some(Line { interval, code, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::time::Duration;

    fn lines(items: &[(u64, Item)]) -> Vec<Line> {
        let begun = Instant::now();
        let mut encoder = Encoder::new(begun, true);
        let mut out = Vec::new();
        for (millis, item) in items {
            encoder.item(&mut out, begun + Duration::from_millis(*millis), item);
        }
        encoder.end(&mut out, begun);
        out.split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| parse(line).unwrap())
            .collect()
    }

    fn output(bytes: &'static [u8]) -> Item {
        Item::Data(Stream::Output, Bytes::from_static(bytes))
    }

    #[tokio::test]
    async fn nothing_is_lost_however_a_stream_is_split() {
        let stream: &'static [u8] = "héllo \u{1b}[1m✓\u{0}\"\\\r\n".as_bytes();
        let broken: &'static [u8] = b"a\xff\xfeb\xc3";
        for whole in [stream, broken] {
            for at in 0..=whole.len() {
                let (left, right) = whole.split_at(at);
                let read: Vec<u8> = lines(&[(0, output(left)), (5, output(right))])
                    .into_iter()
                    .filter(|line| matches!(line.code, 'o' | 'O'))
                    .flat_map(|line| line.data)
                    .collect();
                assert_eq!(read, whole, "{at}");
            }
        }
        // A character that is split is text all the same.
        let read = lines(&[(0, output(b"\xe2")), (0, output(b"\x9c\x93"))]);
        assert!(read.iter().all(|line| line.code == 'o'), "{read:?}");
    }

    #[test]
    fn a_text_is_written_as_serde_json_writes_it() {
        let every: String = (0..=0x24f_u32).filter_map(char::from_u32).collect();
        for text in [
            every.as_str(),
            "",
            "\"",
            "\u{7f}\u{80}",
            "plain text, and much of it, to its end",
            "ünï\u{10ffff}",
        ] {
            for at in text.char_indices().map(|(at, _)| at).chain([text.len()]) {
                let (left, right) = text.split_at(at);
                for part in [left, right] {
                    let mut out = Vec::new();
                    escape(&mut out, part);
                    let expected = serde_json::to_string(part).unwrap();
                    assert_eq!(format!("\"{}\"", String::from_utf8(out).unwrap()), expected);
                }
            }
        }
    }

    #[tokio::test]
    async fn what_is_full_of_nuls_is_no_text_and_is_whole() {
        let mut mixed = vec![b'x'; 80];
        mixed.extend([0; 20]);
        for (bytes, code) in [
            (vec![0; 5000], 'O'),
            (mixed, 'O'),
            (vec![0; 10], 'o'),
            (vec![b'x'; 5000], 'o'),
        ] {
            let read = lines(&[(0, Item::Data(Stream::Output, Bytes::from(bytes.clone())))]);
            assert_eq!(read.len(), 1);
            assert_eq!((read[0].code, &read[0].data), (code, &bytes));
        }
    }

    #[tokio::test]
    async fn intervals_are_since_the_line_before() {
        let read = lines(&[
            (1500, output(b"a")),
            (1750, Item::Resize(90, 0)),
            (
                4000,
                Item::Finish {
                    end: String::new(),
                    status: Some(3),
                    counted: 9,
                },
            ),
        ]);
        let told: Vec<_> = read
            .iter()
            .map(|line| (line.interval, line.code, String::from_utf8_lossy(&line.data)))
            .collect();
        assert_eq!(
            told,
            [
                (1.5, 'o', "a".into()),
                (0.25, 'r', "90x1".into()),
                (2.25, 'm', "9 bytes of input, not recorded".into()),
                (0.0, 'x', "3".into())
            ]
        );
    }

    #[test]
    fn what_is_no_event_is_none() {
        for bad in [
            "",
            "#chunk {}",
            "{\"version\": 3}",
            "[1]",
            "[1, \"oo\", \"\"]",
            "[1, \"O\", \"%\"]",
            "[\"x\", \"o\", \"\"]",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse(b"[-5, \"o\", \"\"]").unwrap().interval, 0.0);
    }
}
