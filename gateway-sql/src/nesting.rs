//! A bound on how deep a text can nest, before anything recursive reads it.

/// Longest text that is analysed, in bytes.
pub(crate) const MAX_TEXT: usize = 16 * 1024 * 1024;

/// Deepest nesting of a text that is given to the parser. Its tree is no deeper than this.
pub(crate) const MAX_DEPTH: usize = 40_000;

/// Most words, numbers, strings and signs of a text. The parser's tree takes some 700 bytes of memory for each.
pub(crate) const MAX_TOKENS: usize = 1_000_000;

/// Deepest nesting of comments.
const MAX_COMMENTS: usize = 300;

/// Most bytes that the lexer may read again, beside some for each byte of the text.
const MAX_REREAD: usize = 20_000_000;
const REREAD_PER_BYTE: usize = 32;

/// Whether the lexer may read parts of the text so often that this takes its time. It takes a run of operator characters
/// as a whole, and puts back what follows the first comment in it, or the last sign that is not part of an operator: so
/// a run is read again for each of these (PostgreSQL's `scan.l`, `xcstart` and `operator`). Strings are not told apart:
/// how they are read depends on settings.
pub(crate) fn is_slow(sql: &str) -> bool {
    let most = MAX_REREAD.saturating_add(sql.len().saturating_mul(REREAD_PER_BYTE));
    let mut cost = 0_usize;
    let mut end = |run: &mut Run| {
        cost = cost.saturating_add(run.len.saturating_mul(run.comments.saturating_add(run.signs)));
        *run = Run::default();
    };
    let mut run = Run::default();
    for &byte in sql.as_bytes() {
        if !is_operator(byte) {
            if run.len > 0 {
                end(&mut run);
            }
            continue;
        }
        run.len += 1;
        run.dashes |= byte == b'-' && run.last == b'-';
        if byte == b'*' && run.last == b'/' {
            run.comments += 1;
        } else if matches!(byte, b'+' | b'-') && !run.dashes {
            run.signs += 1;
        }
        run.last = byte;
    }
    end(&mut run);
    cost > most
}

/// A run of operator characters.
#[derive(Default)]
struct Run {
    len: usize,
    last: u8,
    comments: usize,
    signs: usize,
    /// What follows is a comment to the end of the line, if no other comment is open.
    dashes: bool,
}

fn is_operator(byte: u8) -> bool {
    matches!(
        byte,
        b'~' | b'!'
            | b'@'
            | b'#'
            | b'^'
            | b'&'
            | b'|'
            | b'`'
            | b'?'
            | b'+'
            | b'-'
            | b'*'
            | b'/'
            | b'%'
            | b'<'
            | b'>'
            | b'='
    )
}

/// An upper bound on the depth of the syntax tree: for each parenthesis level the tokens of its longest item, since a
/// left-deep chain (`1 + 1 + 1 ...`) nests once for each token. Items end at commas and semicolons. A text that the lexer
/// takes too long for, or that has more than [`MAX_TOKENS`], has no bound.
pub(crate) fn depth_bound(sql: &str) -> usize {
    if is_slow(sql) {
        return usize::MAX;
    }
    let bytes = sql.as_bytes();
    let mut levels: Vec<Item> = vec![Item::default()];
    let mut deepest = 0;
    let mut at = 0;
    let mut tokens = 0_usize;
    while let Some(&byte) = bytes.get(at) {
        let next = bytes.get(at + 1).copied();
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c' => {
                at += 1;
                continue;
            }
            b'-' if next == Some(b'-') => {
                at = end_of_line(bytes, at);
                continue;
            }
            b'/' if next == Some(b'*') => {
                match end_of_comment(bytes, at) {
                    Some(end) => at = end,
                    None => return usize::MAX,
                }
                continue;
            }
            _ => {}
        }
        tokens += 1;
        if tokens > MAX_TOKENS {
            return usize::MAX;
        }
        match byte {
            b'(' | b'[' => levels.push(Item::default()),
            b')' | b']' if levels.len() > 1 => {
                let inner = levels.pop().map_or(0, |item| item.depth());
                if let Some(item) = levels.last_mut() {
                    item.inner = item.inner.max(inner);
                    item.tokens += 1;
                }
            }
            b',' => {
                if let Some(item) = levels.last_mut() {
                    item.longest = item.depth();
                    item.tokens = 0;
                    item.inner = 0;
                }
            }
            b';' if levels.len() == 1 => {
                deepest = levels.pop().map_or(0, |item| item.depth()).max(deepest);
                levels.push(Item::default());
            }
            _ => {
                if let Some(item) = levels.last_mut() {
                    item.tokens += 1;
                }
            }
        }
        at = end_of_token(bytes, at);
    }
    // Levels that were never closed nest in each other.
    levels.iter().map(Item::depth).sum::<usize>().max(deepest)
}

#[derive(Default)]
struct Item {
    tokens: usize,
    inner: usize,
    longest: usize,
}

impl Item {
    fn depth(&self) -> usize {
        (self.tokens + self.inner + 1).max(self.longest)
    }
}

fn end_of_line(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while bytes.get(at).is_some_and(|&byte| byte != b'\n' && byte != b'\r') {
        at += 1;
    }
    at
}

/// `None`: comments nest too deep.
fn end_of_comment(bytes: &[u8], from: usize) -> Option<usize> {
    let (mut at, mut depth) = (from + 2, 1_usize);
    while depth > 0 {
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(b'*'), Some(b'/')) => {
                depth -= 1;
                at += 2;
            }
            (Some(b'/'), Some(b'*')) => {
                depth += 1;
                at += 2;
                if depth > MAX_COMMENTS {
                    return None;
                }
            }
            (Some(_), _) => at += 1,
            (None, _) => break,
        }
    }
    Some(at)
}

/// Strings end at the next quote: doubled and escaped quotes make more tokens, never fewer. A backslash-escaped quote
/// can make the rest of the text look like a string; so a string counts as one token for each of its commas too.
fn end_of_token(bytes: &[u8], from: usize) -> usize {
    match bytes.get(from) {
        Some(b'"') => end_of_quote(bytes, from, b'"'),
        Some(b'\'') => {
            let escapes = from
                .checked_sub(1)
                .and_then(|at| bytes.get(at))
                .is_some_and(|b| matches!(b, b'e' | b'E'));
            if escapes {
                end_of_escaped(bytes, from)
            } else {
                end_of_quote(bytes, from, b'\'')
            }
        }
        Some(b'$') => end_of_dollar(bytes, from),
        // A word that may introduce an escape string ends before its quote.
        Some(&byte) if is_word(byte) => {
            let rest = bytes.get(from..).unwrap_or_default();
            let more = rest.iter().position(|&byte| !is_word(byte) && byte != b'$');
            from + more.unwrap_or(rest.len())
        }
        _ => from + 1,
    }
}

/// Bytes of words, and what is between numbers.
const WORD: [bool; 256] = {
    let mut word = [false; 256];
    let mut byte = 0_u8;
    loop {
        let of_word = byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80 || byte == b'.';
        #[allow(clippy::indexing_slicing, reason = "every byte is an index")]
        {
            word[byte as usize] = of_word;
        }
        if byte == u8::MAX {
            break word;
        }
        byte += 1;
    }
};

fn is_word(byte: u8) -> bool {
    WORD.get(usize::from(byte)).is_some_and(|&word| word)
}

fn end_of_quote(bytes: &[u8], from: usize, quote: u8) -> usize {
    let mut at = from + 1;
    while bytes.get(at).is_some_and(|&byte| byte != quote) {
        at += 1;
    }
    at + 1
}

fn end_of_escaped(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'\'' => break,
            _ => at += 1,
        }
    }
    at + 1
}

fn end_of_dollar(bytes: &[u8], from: usize) -> usize {
    let mut end = from + 1;
    while bytes
        .get(end)
        .is_some_and(|&byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80)
    {
        end += 1;
    }
    if bytes.get(end) != Some(&b'$') {
        return end.max(from + 1);
    }
    let Some(tag) = bytes.get(from..=end) else {
        return from + 1;
    };
    let mut at = end + 1;
    while at < bytes.len() {
        if bytes.get(at) == Some(&b'$') && bytes.get(at..at + tag.len()) == Some(tag) {
            return at + tag.len();
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_and_nesting_count() {
        assert!(depth_bound(&format!("SELECT {}1", "1 + ".repeat(5000))) >= 10_000);
        assert!(depth_bound(&format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000))) >= 5000);
        assert!(depth_bound(&format!("SELECT {}1", "(1,".repeat(5000))) >= 5000);
        assert!(depth_bound(&format!("SELECT {}1{}", "ARRAY[".repeat(5000), "]".repeat(5000))) >= 5000);
    }

    #[test]
    fn what_the_lexer_reads_again_and_again_is_refused() {
        let nested = |by: &str, n: usize| format!("{}{}SELECT 1", by.repeat(n), "*/".repeat(n));
        for sql in [
            nested("/*", 40_000),
            nested("/* ", 40_000),
            nested("/*", 301),
            format!("{}SELECT 1", "/**/".repeat(40_000)),
            format!("SELECT '' + 1, {}1", "+".repeat(30_000)),
            format!("SELECT 1 {}2", "-+".repeat(15_000)),
        ] {
            assert_eq!(depth_bound(&sql), usize::MAX, "{:.40}", sql);
        }
        for sql in [
            nested("/*", 200),
            nested("/* a ", 300),
            format!("SELECT 1 {}", "/* a */".repeat(100_000)),
            format!(
                "SELECT 1 {}",
                "--------------------------------\n".repeat(100_000)
            ),
            format!("/*{}*/ SELECT 1", "*".repeat(100_000)),
            format!("SELECT '{}', '{}'", "-".repeat(1_000_000), "=".repeat(1_000_000)),
            format!("SELECT '{}'", "+-----+----+\n".repeat(10_000)),
            format!("SELECT '{}'", "a/*".repeat(10_000)),
        ] {
            assert!(depth_bound(&sql) < 1000, "{:.40}", sql);
        }
    }

    #[test]
    fn a_text_has_only_so_many_parts() {
        let rows = |n: usize| format!("INSERT INTO t VALUES {}", vec!["(1,'a b c')"; n].join(","));
        assert!(depth_bound(&rows(160_000)) < 100);
        assert_eq!(depth_bound(&rows(170_000)), usize::MAX);
        let long = "x".repeat(8 << 20);
        assert!(depth_bound(&format!("SELECT '{long}'")) < 10);
    }

    #[test]
    fn rows_of_values_do_not_count() {
        let rows = vec!["(1, 'a,(b', E'it\\'s', $x$ ( $x$, \"q(\")"; 10_000].join(", ");
        assert!(depth_bound(&format!("INSERT INTO t VALUES {rows}")) < 100);
        assert!(depth_bound(&format!("SELECT 1 {}", "/* ( */ -- (\n".repeat(1000))) < 10);
    }
}
