//! The lines of a PEM block (RFC 7468) whose beginning was found: they are taken out for as long as they look like one.

use std::ops::Range;

/// Most of what follows the beginning of a block without its end, in bytes.
const BLOCK: usize = 32 << 10;
/// The shortest line of a block that is not its last, in characters.
const LONG: usize = 32;
/// So much of a line that has no end yet is a part of a block, and no prompt.
const BEGUN: usize = 16;
/// How long all but the last line of a key are that OpenSSL or OpenSSH wrote, in characters.
pub(super) const LINES: [usize; 2] = [64, 70];
/// The shortest run of base64 that is a line of a block wherever it stands, in characters.
const RUN: usize = 40;
/// Lines at its end that may be shorter: the last one, and a checksum (RFC 9580, section 6.2).
const SHORT: u8 = 2;

/// Where in a block the stream is.
#[derive(Debug, Clone, Default)]
pub(super) struct Block {
    taken: usize,
    /// There was a line of base64; and how many short ones.
    long: bool,
    short: u8,
    /// Characters of base64 so far.
    characters: usize,
}

/// What carries the base64 of a line: it may stand behind a line number, a file's name, or in quotes.
fn word(line: &[u8]) -> &[u8] {
    let parts = line.split(|byte| byte.is_ascii_whitespace() || b":|\"'>,\\".contains(byte));
    parts.rev().find(|part| !part.is_empty()).unwrap_or_default()
}

fn is_base64(word: &[u8]) -> bool {
    word.iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(byte))
}

/// The headers of RFC 1421, section 4.6, and of RFC 9580, section 6.2.2.
const HEADERS: [&[u8]; 6] = [
    b"Proc-Type: ",
    b"DEK-Info: ",
    b"Version: ",
    b"Comment: ",
    b"Hash: ",
    b"Charset: ",
];

fn is_header(line: &[u8]) -> bool {
    HEADERS.iter().any(|name| line.starts_with(name))
}

/// Whether the last line of a block may look like that: what is all letters is rather a word.
fn is_tail(word: &[u8]) -> bool {
    word.len() >= BEGUN || word.iter().any(|byte| !byte.is_ascii_alphabetic())
}

/// Where lines of blocks stand in a text, wherever the beginning of their block is: runs of base64 that are no path and no number.
pub(super) fn runs(text: &[u8]) -> Vec<Range<usize>> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    let (mut found, mut from) = (Vec::new(), 0_usize);
    while let Some(rest) = text.get(from..).filter(|rest| rest.len() >= RUN) {
        let run: &[u8] = rest.split(|byte| !is_part(byte)).next().unwrap_or_default();
        let has = |kind: fn(&u8) -> bool| run.iter().any(kind);
        let slashes = run.iter().filter(|byte| **byte == b'/').count();
        if run.len() >= RUN
            && slashes <= run.len() / 10
            && has(u8::is_ascii_uppercase)
            && has(u8::is_ascii_lowercase)
            && has(u8::is_ascii_digit)
        {
            found.push(from..from.saturating_add(run.len()));
        }
        from = from.saturating_add(run.len()).saturating_add(1);
    }
    found
}

impl Block {
    /// Whether nothing of it was taken.
    pub(super) fn is_new(&self) -> bool {
        self.taken == 0
    }

    /// Whether a line that has come so far may be one of it.
    pub(super) fn may_take(&self, line: &[u8]) -> bool {
        is_base64(word(line)) || (!self.long && is_header(line))
    }

    /// Whether a line that has come so far is one of it: it waits for its end, however long that takes. A prompt does not.
    pub(super) fn keeps(&self, line: &[u8]) -> bool {
        let word = word(line);
        word.len() >= BEGUN && is_base64(word)
    }

    /// The block behind a whole line; `None`: that line is none of it.
    pub(super) fn takes(mut self, line: &[u8]) -> Option<Self> {
        self.taken = self.taken.saturating_add(line.len()).saturating_add(1);
        if self.taken > BLOCK {
            return None;
        }
        let word = word(line);
        if word.is_empty() || (!self.long && is_header(line)) {
            return Some(self);
        }
        if !is_base64(word) {
            return None;
        }
        self.characters = self.characters.saturating_add(word.len());
        if word.len() >= LONG && self.short == 0 {
            self.long = true;
            return Some(self);
        }
        self.short = self.short.saturating_add(1);
        // Base64 is padded to fours (RFC 4648, section 4), the checksum apart.
        let is_whole = self.characters.is_multiple_of(4) || word.starts_with(b"=") || word.ends_with(b"=");
        (self.long && self.short <= SHORT && is_whole && is_tail(word)).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of these lines are taken.
    fn taken(lines: &[&str]) -> usize {
        let mut block = Some(Block::default());
        lines
            .iter()
            .take_while(|line| {
                block = block.take().and_then(|block| block.takes(line.as_bytes()));
                block.is_some()
            })
            .count()
    }

    #[test]
    fn runs_of_base64_are_no_paths_and_no_numbers() {
        let long = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
        let text = format!(
            "  12 {long}\0{long} {}1 /home/Heron/Projects/web1/src/components/Button/Round {} {}",
            "x".repeat(50),
            "0123456789abcdef".repeat(8),
            "Ab1".repeat(13),
        );
        assert_eq!(runs(text.as_bytes()), [5..69, 70..134]);
        assert!(runs(b"").is_empty());
    }

    #[test]
    fn lines_that_look_like_a_block_are_taken_and_no_others() {
        let long = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
        let (numbered, of_file) = (format!("   12\t{long}"), format!("key.pem:{long}"));
        for (lines, expected) in [
            (&[long, long, "Q5dA=="][..], 3),
            (&["Proc-Type: 4,ENCRYPTED", "", long, "ab=="], 4),
            (&["", long, "ab4d", "=FfdW"], 4),
            (&[&numbered, &numbered, "   13\tab=="], 3),
            (&[&of_file, &of_file], 2),
            (&["1", "2", "3"], 0),
            (&["hi"], 0),
            (&[long, "total 4", "x", "y"], 1),
            (&[long, "ab9=", "cd9=", "ef9="], 3),
            // Words are no last lines, and what people are asked is no header.
            (&[long, "Done"], 1),
            (&[long, "Password: x"], 1),
            (&["Password: x"], 0),
            (&[long, "abc9x"], 1),
            (&["heron@web:~$ ls"], 0),
            (&[long, "-rw-r--r-- 1 root root 4 a.txt"], 1),
        ] {
            assert_eq!(taken(lines), expected, "{lines:?}");
        }
        assert_eq!(taken(&vec![long; 2000]), BLOCK / (long.len() + 1));
    }
}
