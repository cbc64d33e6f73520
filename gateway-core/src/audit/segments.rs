//! The segment files of a trail, and reading them line by line with a bound.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::record::MAX_RECORD;

/// A segment file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentPath {
    /// Number of its first record, as its name tells.
    pub(super) first: u64,
    /// Where it is.
    pub(super) path: PathBuf,
}

/// The name of the segment that begins with record `first`.
pub(super) fn name(first: u64) -> String {
    format!("audit-{first:020}.jsonl")
}

/// The segments in `dir`, in order. Files of other names are none.
pub(super) fn list(dir: &Path) -> io::Result<Vec<SegmentPath>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let file = entry.file_name();
        let first = file
            .to_str()
            .and_then(|name| name.strip_prefix("audit-")?.strip_suffix(".jsonl"))
            .filter(|digits| digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok());
        if let Some(first) = first {
            found.push(SegmentPath {
                first,
                path: entry.path(),
            });
        }
    }
    found.sort();
    Ok(found)
}

/// What [`Lines::next`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// A whole line; its bytes are in [`Lines::line`], without the line end.
    Whole,
    /// The end of the file without a line end; the bytes are in [`Lines::line`].
    Torn,
    /// A line longer than any record; its bytes were not kept. `ended`: it had a line end.
    TooLong {
        /// It had a line end.
        ended: bool,
    },
    /// Nothing follows.
    End,
}

/// Reads a segment line by line, keeping at most one line of at most [`MAX_RECORD`] bytes.
pub(super) struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    limit: usize,
    /// Where the last line began.
    start: u64,
    /// Where the next line begins.
    offset: u64,
    /// Lines so far; the number of the last one.
    number: u64,
}

impl Lines<BufReader<File>> {
    /// Opens a segment.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::new(
            BufReader::with_capacity(256 * 1024, File::open(path)?),
            MAX_RECORD,
        ))
    }

    /// Opens a segment at a place where a line begins.
    pub(super) fn open_at(path: &Path, offset: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut lines = Self::new(BufReader::with_capacity(64 * 1024, file), MAX_RECORD);
        (lines.start, lines.offset) = (offset, offset);
        Ok(lines)
    }
}

impl<R: BufRead> Lines<R> {
    fn new(reader: R, limit: usize) -> Self {
        Self {
            reader,
            line: Vec::new(),
            limit,
            start: 0,
            offset: 0,
            number: 0,
        }
    }

    /// The line that was read last.
    pub(super) fn line(&self) -> &[u8] {
        &self.line
    }

    /// Where it began, in bytes from the start of the file.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Where the line behind it begins.
    pub(super) fn end(&self) -> u64 {
        self.offset
    }

    /// Its number, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Reads the next line.
    pub(super) fn next(&mut self) -> io::Result<Line> {
        self.line.clear();
        self.start = self.offset;
        let mut too_long = false;
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if available.is_empty() {
                let read = self.offset > self.start;
                self.number += u64::from(read);
                return Ok(match (read, too_long) {
                    (false, _) => Line::End,
                    (true, false) => Line::Torn,
                    (true, true) => Line::TooLong { ended: false },
                });
            }
            let end = memchr::memchr(b'\n', available);
            let (part, used) = match end {
                Some(end) => (available.get(..end).unwrap_or_default(), end + 1),
                None => (available, available.len()),
            };
            if self.line.len() + part.len() >= self.limit {
                too_long = true;
                self.line = Vec::new();
            }
            if !too_long {
                self.line.extend_from_slice(part);
            }
            self.reader.consume(used);
            self.offset = self
                .offset
                .saturating_add(u64::try_from(used).unwrap_or(u64::MAX));
            if end.is_some() {
                self.number += 1;
                return Ok(if too_long {
                    Line::TooLong { ended: true }
                } else {
                    Line::Whole
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_the_torn_one_is_told() {
        for capacity in [1, 2, 3, 7, 64] {
            let text = b"ab\n\nabcdefgh\ncd\nxy".as_slice();
            let mut lines = Lines::new(BufReader::with_capacity(capacity, text), 6);
            let mut seen = Vec::new();
            loop {
                let line = lines.next().unwrap();
                if line == Line::End {
                    break;
                }
                seen.push((
                    line,
                    lines.start(),
                    String::from_utf8(lines.line().to_vec()).unwrap(),
                ));
            }
            assert_eq!(
                seen,
                [
                    (Line::Whole, 0, "ab".to_owned()),
                    (Line::Whole, 3, String::new()),
                    (Line::TooLong { ended: true }, 4, String::new()),
                    (Line::Whole, 13, "cd".to_owned()),
                    (Line::Torn, 16, "xy".to_owned()),
                ]
            );
        }
    }
}
