//! The words of a statement, as PostgreSQL splits them (with `standard_conforming_strings`), as far as they are used here.

use std::ops::Range;

/// One word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A word, in lower case.
    Word(String),
    /// A name in double quotes.
    Quoted(String),
    /// A text in single quotes.
    Text(String),
    /// Digits.
    Number(String),
    /// `$n`
    Parameter(usize),
    /// Any other character.
    Symbol(char),
}

impl Token {
    /// Whether it is that word; `word` is in lower case.
    pub(super) fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own == word)
    }

    /// It, for an error or a name.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Word(text) | Self::Quoted(text) | Self::Text(text) | Self::Number(text) => text.clone(),
            Self::Parameter(n) => format!("${n}"),
            Self::Symbol(symbol) => symbol.to_string(),
        }
    }
}

/// Splits a text; the error is where it can't be read.
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, Range<usize>)>, String> {
    let mut list = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..)
        && let Some(first) = rest.chars().next()
    {
        let (token, length) = if first.is_whitespace() {
            (None, first.len_utf8())
        } else if rest.starts_with("--") {
            (None, rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            (None, comment(rest).ok_or("/*")?)
        } else {
            let (token, length) = token(rest, first).ok_or_else(|| shown(rest))?;
            (Some(token), length)
        };
        if let Some(token) = token {
            list.push((token, at..at.saturating_add(length)));
        }
        at = at.saturating_add(length.max(1));
    }
    Ok(list)
}

fn shown(rest: &str) -> String {
    rest.chars().take(20).collect()
}

/// Length of a comment, in which comments may nest.
fn comment(rest: &str) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0_usize);
    loop {
        let here = rest.get(at..)?;
        if here.starts_with("/*") {
            depth = depth.saturating_add(1);
            at = at.saturating_add(2);
        } else if here.starts_with("*/") {
            depth = depth.saturating_sub(1);
            at = at.saturating_add(2);
            if depth == 0 {
                return Some(at);
            }
        } else {
            at = at.saturating_add(here.chars().next()?.len_utf8());
        }
    }
}

fn token(rest: &str, first: char) -> Option<(Token, usize)> {
    let run = |from: &str, keep: fn(char) -> bool| -> usize { from.find(|c| !keep(c)).unwrap_or(from.len()) };
    if first == '\'' || first == '"' {
        let (text, length) = quoted(rest, first)?;
        let token = if first == '\'' {
            Token::Text(text)
        } else {
            Token::Quoted(text)
        };
        return Some((token, length));
    }
    if first.is_ascii_digit() {
        let length = run(rest, |c| c.is_ascii_digit());
        return Some((Token::Number(rest.get(..length)?.to_owned()), length));
    }
    if first == '$' {
        let digits = rest.get(1..)?;
        let length = run(digits, |c| c.is_ascii_digit());
        // `$$` and `$tag$` begin texts that nothing here needs.
        let n: usize = digits.get(..length)?.parse().ok()?;
        return Some((Token::Parameter(n), length.saturating_add(1)));
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let length = run(rest, |c| c.is_ascii_alphanumeric() || c == '_');
        let word = rest.get(..length)?.to_ascii_lowercase();
        // `E'...'`, `B'...'`, `U&'...'` mean other things than they seem to.
        let after = rest.get(length..)?;
        if after.starts_with('\'') || after.starts_with("&'") || after.starts_with("&\"") {
            return None;
        }
        return Some((Token::Word(word), length));
    }
    first.is_ascii_graphic().then_some((Token::Symbol(first), 1))
}

/// A text in quotes, with doubled quotes in it; its length with the quotes.
fn quoted(rest: &str, quote: char) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            text.push(c);
        } else if chars.next_if(|(_, next)| *next == quote).is_some() {
            text.push(quote);
        } else {
            return Some((text, at.saturating_add(1)));
        }
    }
    None
}
