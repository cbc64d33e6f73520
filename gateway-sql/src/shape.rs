//! The shape of a text: the text with its literals taken out, so that texts which differ in literals alone need one
//! analysis only.
//!
//! A shape is worth something only if two texts of one shape are read by the server as the same statement with other
//! values. So a literal is taken out only where it can be nothing but a value (an operand, a row of VALUES, LIMIT), and a
//! text with anything that a simple lexer could misread (comments, backslashes, dollar quotes, prefixed strings) has no
//! shape. What stays in is always safe: it only makes more shapes. Whether the *analysis* is the same for other values
//! tells [`StatementAnalysis::literals_matter`](crate::StatementAnalysis::literals_matter).
//!
//! Source: PostgreSQL documentation, "Lexical Structure" (4.1).

/// Stands for a literal in a shape, followed by its class; a text that contains it has no shape.
const TAKEN_OUT: char = '\u{1}';

/// A longer text has no shape.
const MAX_TEXT: usize = 16 * 1024;

/// Largest `int4` and the digits of which any number is an `int8`.
const INT4_MAX: u64 = 2_147_483_647;
const INT8_DIGITS: usize = 18;

/// What stands before a token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// The text begins, a statement ends, or something of no interest.
    Other,
    /// A word after which a literal can only be a value, and `(` begins no call.
    ValueWord,
    /// The same, but a call, too, may begin with it.
    PatternWord,
    /// A word after which `(` begins an expression, rows or a subquery, not the arguments of a call or type.
    GroupWord,
    /// Any other word or quoted name.
    Word,
    /// `.`: what comes next is a part of a name, whatever it looks like and however far away.
    Dot,
    /// An operator.
    Operator,
    /// `,`
    Comma,
    /// `(` of an expression, of rows, or of a subquery.
    Group,
}

/// Writes the shape of `sql` into `into`, which is cleared first. `false`: the text has no shape, or no literal that
/// could be taken out.
pub fn shape(sql: &str, into: &mut String) -> bool {
    into.clear();
    if sql.len() > MAX_TEXT {
        return false;
    }
    into.reserve(sql.len());
    let mut lexer = Lexer {
        sql,
        at: 0,
        before: Before::Other,
        depth: 0,
        call: None,
        taken: false,
        copied: 0,
    };
    let done = lexer.run(into);
    done.is_some() && lexer.taken
}

struct Lexer<'a> {
    sql: &'a str,
    at: usize,
    before: Before,
    /// Parentheses and brackets that are open.
    depth: usize,
    /// The depth at which the outermost call, type modifier or subscript began: literals in it stay.
    call: Option<usize>,
    taken: bool,
    /// Up to where the text is in the shape.
    copied: usize,
}

impl Lexer<'_> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.sql.as_bytes().get(at).copied()
    }

    /// The end of the run of bytes from `from` for which `keep` holds.
    fn end_of(&self, from: usize, keep: impl Fn(u8) -> bool) -> usize {
        let rest = self.sql.as_bytes().get(from..).unwrap_or_default();
        let run = rest.iter().position(|&byte| !keep(byte)).unwrap_or(rest.len());
        from.saturating_add(run)
    }

    /// `None`: the text has something that is not read here.
    fn run(&mut self, into: &mut String) -> Option<()> {
        while let Some(byte) = self.byte(self.at) {
            match byte {
                _ if is(byte, WORD_START) => self.word()?,
                _ if is(byte, SPACE) => self.at = self.at.saturating_add(1),
                b'\'' => self.string(into)?,
                b'0'..=b'9' => self.number(into)?,
                b'"' => {
                    self.at = self.end_of_quoted(b'"')?;
                    self.before = Before::Word;
                }
                b'$' => {
                    let end = self.end_of(self.at.saturating_add(1), |byte| is(byte, DIGIT));
                    let empty = end == self.at.saturating_add(1);
                    if empty || self.byte(end).is_some_and(|byte| is(byte, WORD) || byte == b'$') {
                        return None;
                    }
                    self.at = end;
                    self.before = Before::Other;
                }
                b'(' | b'[' => self.open(byte),
                b')' | b']' => self.close()?,
                b',' => self.one(Before::Comma),
                b';' => self.one(Before::Other),
                b'.' => self.one(Before::Dot),
                _ if is(byte, OPERATOR) => self.operator()?,
                // Control characters, backslashes, braces.
                _ => return None,
            }
        }
        into.push_str(self.sql.get(self.copied..)?);
        Some(())
    }

    fn one(&mut self, before: Before) {
        self.at = self.at.saturating_add(1);
        self.before = before;
    }

    fn open(&mut self, byte: u8) {
        self.depth = self.depth.saturating_add(1);
        let group = byte == b'(' && !matches!(self.before, Before::Word | Before::PatternWord);
        if !group && self.call.is_none() {
            self.call = Some(self.depth);
        }
        self.one(if group { Before::Group } else { Before::Other });
    }

    fn close(&mut self) -> Option<()> {
        if self.call == Some(self.depth) {
            self.call = None;
        }
        self.depth = self.depth.checked_sub(1)?;
        self.one(Before::Other);
        Some(())
    }

    fn word(&mut self) -> Option<()> {
        let end = self.end_of(self.at, |byte| is(byte, WORD) || byte == b'$');
        // A prefixed string: E'', B'', X'', N''; and U&"" and U&'' with their own escapes.
        match (self.byte(end), self.byte(end.saturating_add(1))) {
            (Some(b'\''), _) | (Some(b'&'), Some(b'\'' | b'"')) => return None,
            _ => {}
        }
        let word = self.sql.get(self.at..end)?;
        self.before = if self.before == Before::Dot {
            Before::Word
        } else {
            before(word)
        };
        self.at = end;
        Some(())
    }

    fn operator(&mut self) -> Option<()> {
        let end = self.end_of(self.at, |byte| is(byte, OPERATOR));
        let text = self.sql.get(self.at..end)?;
        if text.contains("--") || text.contains("/*") {
            return None;
        }
        // A cast, `:=` and `=>` are no operators before a value.
        self.before = if text.contains(':') || text == "=>" {
            Before::Other
        } else {
            Before::Operator
        };
        self.at = end;
        Some(())
    }

    /// The end of what is quoted from here on, doubled quotes included.
    fn end_of_quoted(&self, quote: u8) -> Option<usize> {
        let mut at = self.at.saturating_add(1);
        loop {
            at = self.end_of(at, |byte| byte != quote && byte != b'\\' && byte >= b' ');
            match (self.byte(at)?, self.byte(at.saturating_add(1))) {
                (byte, Some(next)) if byte == quote && next == quote => at = at.saturating_add(2),
                (byte, _) if byte == quote => return Some(at.saturating_add(1)),
                // Line ends within a literal are as good as any character.
                (b'\n' | b'\r' | b'\t', _) => at = at.saturating_add(1),
                _ => return None,
            }
        }
    }

    fn string(&mut self, into: &mut String) -> Option<()> {
        let end = self.end_of_quoted(b'\'')?;
        self.literal(end, 's', into)
    }

    fn number(&mut self, into: &mut String) -> Option<()> {
        let end = self.end_of(self.at, |byte| is(byte, DIGIT));
        let digits = self.sql.get(self.at..end)?;
        let class = match digits.parse::<u64>() {
            Ok(number) if number <= INT4_MAX => 'i',
            _ if digits.len() <= INT8_DIGITS => 'l',
            // A numeric, beyond all integers: it stays.
            _ => '-',
        };
        let mut end = end;
        let mut class = class;
        if self.byte(end) == Some(b'.') {
            let fraction = self.end_of(end.saturating_add(1), |byte| is(byte, DIGIT));
            if fraction == end.saturating_add(1) {
                return None;
            }
            end = fraction;
            class = 'n';
        }
        self.literal(end, class, into)
    }

    /// A literal from here to `end`: taken out, or left.
    fn literal(&mut self, end: usize, class: char, into: &mut String) -> Option<()> {
        // `1e5`, `0x1F`, `1_000`, `'a'b`, `1.2.3`: nothing that this reads.
        if self
            .byte(end)
            .is_some_and(|byte| is(byte, WORD) || matches!(byte, b'.' | b'\'' | b'"' | b'$'))
        {
            return None;
        }
        let is_value = matches!(
            self.before,
            Before::ValueWord | Before::PatternWord | Before::Operator | Before::Comma | Before::Group
        );
        let next = self.end_of(end, |byte| is(byte, SPACE));
        // A cast gives the text a meaning (`'x'::regclass`), and a string goes on over line ends.
        let goes_on = matches!(self.byte(next), Some(b':' | b'\'' | b'['));
        if is_value && !goes_on && self.call.is_none() && class != '-' {
            into.push_str(self.sql.get(self.copied..self.at)?);
            into.push(TAKEN_OUT);
            into.push(class);
            self.copied = end;
            self.taken = true;
        }
        self.at = end;
        self.before = Before::Other;
        Some(())
    }
}

/// What a byte can be part of; bits.
const WORD_START: u8 = 1;
const DIGIT: u8 = 2;
const OPERATOR: u8 = 4;
const SPACE: u8 = 8;
/// Within a name: `$` too.
const WORD: u8 = WORD_START | DIGIT;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0_usize;
    while let Some(class) = at_mut(&mut classes, byte) {
        *class = match byte {
            0x41..=0x5a | 0x61..=0x7a | 0x5f | 0x80.. => WORD_START,
            0x30..=0x39 => DIGIT,
            0x20 | 0x09 | 0x0a | 0x0d => SPACE,
            // + - * / < > = ~ ! @ # % ^ & | ` ? :
            0x2b | 0x2d | 0x2a | 0x2f | 0x3c | 0x3e | 0x3d | 0x7e | 0x21 | 0x40 | 0x23 | 0x25 | 0x5e
            | 0x26 | 0x7c | 0x60 | 0x3f | 0x3a => OPERATOR,
            _ => 0,
        };
        byte += 1;
    }
    classes
}

const fn at_mut(classes: &mut [u8; 256], at: usize) -> Option<&mut u8> {
    match classes.split_at_mut_checked(at) {
        Some((_, [first, ..])) => Some(first),
        _ => None,
    }
}

fn is(byte: u8, class: u8) -> bool {
    CLASSES
        .get(usize::from(byte))
        .is_some_and(|known| known & class != 0)
}

/// What a word means for a literal or `(` after it. None of the words but `like` and `ilike` can name a function.
fn before(word: &str) -> Before {
    let mut lower = [0_u8; 9];
    let Some(lower) = lower.get_mut(..word.len()) else {
        return Before::Word;
    };
    lower.copy_from_slice(word.as_bytes());
    lower.make_ascii_lowercase();
    match &*lower {
        b"on" | b"or" | b"and" | b"not" | b"case" | b"else" | b"then" | b"when" | b"limit" | b"where"
        | b"having" | b"offset" | b"select" | b"between" | b"returning" => Before::ValueWord,
        b"like" | b"ilike" => Before::PatternWord,
        b"as" | b"in" | b"all" | b"from" | b"union" | b"except" | b"exists" | b"values" | b"intersect" => {
            Before::GroupWord
        }
        _ => Before::Word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> Option<String> {
        let mut into = String::new();
        shape(sql, &mut into).then(|| into.replace(TAKEN_OUT, "?"))
    }

    #[test]
    fn values_are_taken_out_with_their_class() {
        for (sql, expected) in [
            (
                "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;",
                "SELECT abalance FROM pgbench_accounts WHERE aid = ?i;",
            ),
            (
                "select 'it''s', 1.5, 3000000000 from t",
                "select ?s, ?n, ?l from t",
            ),
            (
                "INSERT INTO t (a, b) VALUES (1, 'x'), (-2, '')",
                "INSERT INTO t (a, b) VALUES (?i, ?s), (-?i, ?s)",
            ),
            (
                "UPDATE t SET a = a + 1 WHERE b IN (1, 2) AND c LIKE 'x%'",
                "UPDATE t SET a = a + ?i WHERE b IN (?i, ?i) AND c LIKE ?s",
            ),
            (
                "SELECT a FROM t1 WHERE b BETWEEN 1 AND 2 LIMIT 5 OFFSET 3",
                "SELECT a FROM t1 WHERE b BETWEEN ?i AND ?i LIMIT ?i OFFSET ?i",
            ),
            (
                "SELECT \"o'k\" FROM t WHERE x=$1 AND y='é\n'",
                "SELECT \"o'k\" FROM t WHERE x=$1 AND y=?s",
            ),
        ] {
            assert_eq!(of(sql).as_deref(), Some(expected), "{sql}");
        }
    }

    #[test]
    fn what_may_give_a_text_its_meaning_stays() {
        // Casts, type names before literals, modifiers, arguments of functions, subscripts, numbers beyond int8.
        for sql in [
            "SELECT a FROM t WHERE b = 'pg_class'::regclass",
            "SELECT a FROM t WHERE b = 'x' :: regclass",
            "SELECT date '2020-01-01', interval '1' day FROM t",
            "SELECT a::numeric(10,2), cast(b AS float(24)) FROM t",
            "SELECT f('x', 1, (2)), like('a', 'b'), x[1] FROM t",
            "SELECT a FROM t FETCH FIRST 5 ROWS ONLY",
            "SELECT a FROM t WHERE b = 99999999999999999999",
            "SELECT a FROM t ORDER BY 1",
            "SELECT set_config('search_path', 'x', false)",
            "SELECT a AS \"1\" FROM t",
        ] {
            assert_eq!(of(sql), None, "{sql}");
        }
    }

    #[test]
    fn what_a_simple_lexer_may_misread_has_no_shape() {
        for sql in [
            "SELECT 1 -- x",
            "SELECT 1 /* x */",
            "SELECT 1 +-- 2\n 3",
            "SELECT E'a', 1",
            "SELECT 1, U&'a'",
            "SELECT 1, U&\"a\"",
            "SELECT 1, 'a\\' ",
            "SELECT 1, $$a$$",
            "SELECT 1, $a$a$a$",
            "SELECT 1, 1e5",
            "SELECT 1, 0x1F",
            "SELECT 1, 1_000",
            "SELECT 1, 1.",
            "SELECT 1, 'open",
            "SELECT 1, \"open",
            "SELECT 1)",
            "SELECT 1, '\u{1}i'",
            "SELECT 1 \u{1}i",
            "SELECT 1, $1a",
            "SELECT 1, 'a'b",
        ] {
            assert_eq!(of(sql), None, "{sql}");
        }
    }

    #[test]
    fn texts_of_one_shape_differ_in_values_alone() {
        let same = |a: &str, b: &str| of(a).is_some() && of(a) == of(b);
        assert!(same(
            "SELECT a FROM t WHERE b = 1",
            "SELECT a FROM t WHERE b = 20"
        ));
        assert!(same(
            "SELECT a FROM t WHERE b = 'a'",
            "SELECT a FROM t WHERE b = ''' OR true'"
        ));
        // Of other types; or not a literal at all.
        assert!(!same(
            "SELECT a FROM t WHERE b = 1",
            "SELECT a FROM t WHERE b = 3000000000"
        ));
        assert!(!same(
            "SELECT a FROM t WHERE b = 1",
            "SELECT a FROM t WHERE b = '1'"
        ));
        assert!(!same(
            "SELECT a FROM t WHERE b = 1",
            "SELECT a FROM t WHERE b = c"
        ));
        assert!(!same(
            "SELECT a FROM t WHERE b = 'a'",
            "SELECT a FROM t WHERE b = 'a' OR 'b'"
        ));
    }
}
