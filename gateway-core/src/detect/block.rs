//! The lines of a PEM block (RFC 7468) whose beginning was found: they are taken out for as long as they look like one.

/// Most of what follows the beginning of a block without its end, in bytes.
const BLOCK: usize = 32 << 10;
/// The shortest line of a block that is not its last, in characters.
const LONG: usize = 32;
/// Lines at its end that may be shorter: the last one, and a checksum (RFC 9580, section 6.2).
const SHORT: u8 = 2;

/// Where in a block the stream is.
#[derive(Debug, Clone, Default)]
pub(super) struct Block {
    taken: usize,
    /// There was a line of base64; and how many short ones.
    long: bool,
    short: u8,
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

/// `Proc-Type: 4,ENCRYPTED`, `Version: ...` (RFC 1421, section 4.6).
fn is_header(line: &[u8]) -> bool {
    let name = line
        .iter()
        .take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'-')
        .count();
    name > 0 && line.get(name..).is_some_and(|rest| rest.starts_with(b": "))
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
        if word.len() >= LONG && self.short == 0 {
            self.long = true;
            return Some(self);
        }
        self.short = self.short.saturating_add(1);
        (self.long && self.short <= SHORT).then_some(self)
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
    fn lines_that_look_like_a_block_are_taken_and_no_others() {
        let long = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
        let (numbered, of_file) = (format!("   12\t{long}"), format!("key.pem:{long}"));
        for (lines, expected) in [
            (&[long, long, "Q5dA=="][..], 3),
            (&["Proc-Type: 4,ENCRYPTED", "", long, "ab=="], 4),
            (&["", long, "abcd", "=FfdW"], 4),
            (&[&numbered, &numbered, "   13\tab"], 3),
            (&[&of_file, &of_file], 2),
            (&["1", "2", "3"], 0),
            (&["hi"], 0),
            (&[long, "total 4", "x", "y"], 3),
            (&[long, "ab", "cd", "ef"], 3),
            (&["heron@web:~$ ls"], 0),
            (&[long, "-rw-r--r-- 1 root root 4 a.txt"], 1),
        ] {
            assert_eq!(taken(lines), expected, "{lines:?}");
        }
        assert_eq!(taken(&vec![long; 2000]), BLOCK / (long.len() + 1));
    }
}
