//! Where the policies of a file begin and end, in a text that Cedar has parsed already.

/// One policy's place in its file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A file's statements, and its text with comments and the contents of strings blanked out.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) statements: Vec<Statement>,
    blanked: Vec<u8>,
}

/// Finds the statements of a file: each ends with a `;` outside of strings and comments.
pub(super) fn scan(text: &str) -> Scan {
    let mut statements = Vec::new();
    let mut blanked = Vec::with_capacity(text.len());
    let mut start = None;
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'/' if bytes.peek().is_some_and(|(_, next)| *next == b'/') => {
                blanked.push(b' ');
                while let Some((_, _)) = bytes.next_if(|(_, next)| *next != b'\n' && *next != b'\r') {
                    blanked.push(b' ');
                }
                continue;
            }
            b'"' => {
                blanked.push(b'"');
                while let Some((_, inner)) = bytes.next() {
                    match inner {
                        b'"' => {
                            blanked.push(b'"');
                            break;
                        }
                        b'\\' => {
                            blanked.push(b' ');
                            if bytes.next().is_some() {
                                blanked.push(b' ');
                            }
                        }
                        _ => blanked.push(b' '),
                    }
                }
            }
            b';' => {
                blanked.push(byte);
                let end = at.saturating_add(1);
                statements.push(Statement {
                    start: start.take().unwrap_or(at),
                    end,
                });
                continue;
            }
            _ => blanked.push(byte),
        }
        if !byte.is_ascii_whitespace() {
            start.get_or_insert(at);
        }
    }
    Scan { statements, blanked }
}

impl Scan {
    /// Where `@name` is in a statement; the statement's start if it can't be found.
    pub(super) fn annotation(&self, statement: Statement, name: &str) -> usize {
        let text = self
            .blanked
            .get(statement.start..statement.end)
            .unwrap_or_default();
        let found = (!name.is_empty())
            .then(|| {
                text.iter()
                    .enumerate()
                    .filter(|(_, byte)| **byte == b'@')
                    .find_map(|(at, _)| {
                        let rest = text.get(at.saturating_add(1)..)?.trim_ascii_start();
                        let rest = rest.strip_prefix(name.as_bytes())?;
                        let ends = rest
                            .first()
                            .is_none_or(|b| !b.is_ascii_alphanumeric() && *b != b'_');
                        ends.then_some(at)
                    })
            })
            .flatten();
        statement.start.saturating_add(found.unwrap_or(0))
    }
}

/// Where the lines of a text begin.
#[derive(Debug)]
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(
            std::iter::once(0)
                .chain(ends.map(|(at, _)| at.saturating_add(1)))
                .collect(),
        )
    }

    /// Line and column, from 1, of a byte; columns count characters.
    pub(super) fn position(&self, text: &str, byte: usize) -> (usize, usize) {
        let mut end = byte.min(text.len());
        while !text.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        let line = self.0.partition_point(|start| *start <= end);
        let start = self.0.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = text
            .get(start..end)
            .unwrap_or_default()
            .chars()
            .count()
            .saturating_add(1);
        (line, column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_comments_hide_what_they_hold() {
        let text = "// a; b\n@id(\"x;\\\";\") // @rows\n@rows(\"@id\")\npermit(p); forbid (q) ;// c;\n";
        let scan = scan(text);
        let texts: Vec<&str> = scan
            .statements
            .iter()
            .map(|s| text.get(s.start..s.end).unwrap())
            .collect();
        assert_eq!(texts.len(), 2);
        assert!(texts[0].starts_with("@id(") && texts[0].ends_with("permit(p);"));
        assert_eq!(texts[1], "forbid (q) ;");
        let position = |byte| Lines::of(text).position(text, byte);
        assert_eq!(position(scan.annotation(scan.statements[0], "rows")), (3, 1));
        assert_eq!(
            scan.annotation(scan.statements[0], "row"),
            scan.statements[0].start
        );
        assert_eq!(scan.blanked.len(), text.len());
    }

    #[test]
    fn positions_count_characters() {
        let text = "é\nüx";
        let lines = Lines::of(text);
        for (byte, expected) in [
            (0, (1, 1)),
            (2, (1, 2)),
            (3, (2, 1)),
            (4, (2, 1)),
            (5, (2, 2)),
            (99, (2, 3)),
        ] {
            assert_eq!(lines.position(text, byte), expected);
        }
        assert_eq!(Lines::of("").position("", 9), (1, 1));
    }
}
