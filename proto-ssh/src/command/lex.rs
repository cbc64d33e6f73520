//! A line into words and operators, or nothing where a shell would do more than quote removal.

use super::Shell;

/// How commands are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    /// `;`
    Semicolon,
    /// A newline.
    Newline,
    /// `&&`
    And,
    /// `||`
    Or,
    /// `|`
    Pipe,
}

/// A word that is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Word<'a> {
    /// As written, quotes and all.
    pub(super) raw: &'a str,
    /// After quote removal.
    pub(super) text: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Word(Word<'a>),
    Operator(Operator),
}

/// The tokens of a line that passed the filter of characters; `None`: not static.
pub(super) fn tokens(line: &str, shell: Shell) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let (token, after) = match c {
            ' ' | '\t' => {
                rest = rest.get(1..)?;
                continue;
            }
            '\n' => (Token::Operator(Operator::Newline), rest.get(1..)?),
            ';' | '&' | '|' => operator(rest)?,
            _ => word(rest, shell)?,
        };
        tokens.push(token);
        rest = after;
    }
    Some(tokens)
}

/// The longest run of operator characters must be one operator: `|&`, `;;`, `;&`, `&!` and a single `&` are not.
fn operator(rest: &str) -> Option<(Token<'_>, &str)> {
    let length = rest.bytes().take_while(|byte| b";&|".contains(byte)).count();
    let (run, after) = rest.split_at_checked(length)?;
    let operator = match run {
        ";" => Operator::Semicolon,
        "&&" => Operator::And,
        "||" => Operator::Or,
        "|" => Operator::Pipe,
        _ => return None,
    };
    Some((Token::Operator(operator), after))
}

/// One word: unquoted characters, `\c`, `'...'` and `"..."` side by side.
fn word(rest: &str, shell: Shell) -> Option<(Token<'_>, &str)> {
    let mut text = String::new();
    let mut chars = rest.char_indices().peekable();
    // The character before this one, where it was not quoted.
    let mut before = None;
    let end = loop {
        let Some(&(at, c)) = chars.peek() else {
            break rest.len();
        };
        if ends_word(c) {
            break at;
        }
        chars.next();
        let bare = !matches!(c, '\\' | '\'' | '"');
        match c {
            _ if shell == Shell::Unknown && !is_plain(c) => return None,
            '\\' => text.push(
                chars
                    .next()
                    .map(|(_, c)| c)
                    .filter(|c| c.is_ascii_graphic() || *c == ' ')?,
            ),
            '\'' => single_quoted(&mut chars, &mut text)?,
            '"' => double_quoted(&mut chars, &mut text)?,
            // Before a blank, an operator or the end it is itself in every shell.
            '$' if chars.peek().is_none_or(|&(_, next)| ends_word(next)) => text.push(c),
            c if may_stand(c, before, at == 0, shell) => text.push(c),
            _ => return None,
        }
        before = bare.then_some(c);
    };
    let (raw, after) = rest.split_at_checked(end)?;
    Some((Token::Word(Word { raw, text }), after))
}

fn ends_word(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | ';' | '&' | '|')
}

/// The alphabet of words for a shell that is not known.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_./:,@%+=-".contains(c)
}

/// Whether an unquoted character means itself in this place.
fn may_stand(c: char, before: Option<char>, first: bool, shell: Shell) -> bool {
    let zsh = shell == Shell::Zsh;
    match c {
        // Groups, redirections, expansions, globs, braces, tildes.
        '(' | ')' | '<' | '>' | '$' | '`' | '*' | '?' | '[' | ']' | '{' | '}' | '~' => false,
        // A comment, and in zsh with extended globs a pattern.
        '#' => !first && !zsh,
        // A pattern in zsh with extended globs.
        '^' => !zsh,
        // Some shells look back into their history, or negate; as an argument alone (`find ! -name x`) it is itself.
        '!' => !zsh,
        // zsh puts the path of a program for `=name`, also behind empty quotes and behind the `=` and `:` of what looks
        // like an assignment; tcsh puts a directory of its stack.
        '=' if zsh => matches!(before, Some(c) if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')),
        '=' | '@' | '%' if shell == Shell::Unknown => !first,
        _ => true,
    }
}

type Chars<'a> = std::iter::Peekable<std::str::CharIndices<'a>>;

fn single_quoted(chars: &mut Chars<'_>, text: &mut String) -> Option<()> {
    loop {
        match chars.next()?.1 {
            '\'' => return Some(()),
            c => text.push(in_word(c)?),
        }
    }
}

/// In double quotes a backslash quotes `$`, `` ` ``, `"` and `\`, and stays before all others; shells that disagree do
/// so about `!` and newlines.
fn double_quoted(chars: &mut Chars<'_>, text: &mut String) -> Option<()> {
    loop {
        match chars.next()?.1 {
            '"' => return Some(()),
            '`' => return None,
            '$' if chars.peek()?.1 != '"' => return None,
            '\\' => match chars.next()?.1 {
                c @ ('$' | '`' | '"' | '\\') => text.push(c),
                c if c != '!' && (c.is_ascii_graphic() || c == ' ') => text.extend(['\\', c]),
                _ => return None,
            },
            c => text.push(in_word(c)?),
        }
    }
}

/// A tab or a newline inside of a word is a control character like others.
fn in_word(c: char) -> Option<char> {
    (c == ' ' || !c.is_ascii_whitespace()).then_some(c)
}
