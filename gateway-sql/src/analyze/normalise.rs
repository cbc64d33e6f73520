//! A text without what its author put into it: literals and comments.

use std::collections::HashMap;

use pg_query::protobuf::{ScanToken, Token};

use crate::nesting::{MAX_TEXT, depth_bound, is_slow};

/// Deeper texts are not normalised: the parser reads them here on the stack of the caller.
const MAX_DEPTH: usize = 1000;

/// The text with each literal replaced by `$n`, counted on from its own parameters, and each comment by a blank; `None`
/// if the parser refuses it.
///
/// Literals are told by the server's lexer, wherever they stand: arguments of EXECUTE and options of a statement as well
/// as values, and also the positions of ORDER BY and the modifiers of types. (The parser's own normalisation keeps those
/// of utility statements, and loses its place in `- (1)`.)
pub fn normalise(sql: &str) -> Option<String> {
    if sql.len() > MAX_TEXT || depth_bound(sql) > MAX_DEPTH {
        return None;
    }
    // A text that is no statement may be anything.
    pg_query::normalize(sql).ok()?;
    // Not `scan_tokens`: it aborts on a text without any.
    let tokens = pg_query::scan(sql).ok()?.tokens;
    let place = |token: &ScanToken| usize::try_from(token.start).ok();
    let mut literals = tokens
        .iter()
        .filter_map(|token| parameter(sql, token))
        .max()
        .unwrap_or(0);
    let first = tokens.first().map_or(Some(sql.len()), place)?;
    let mut text = sql.get(..first)?.to_owned();
    for (at, token) in tokens.iter().enumerate() {
        // Up to the next token: what a lexer takes for the end of a literal that goes on over lines may not be it.
        let next = tokens.get(at.saturating_add(1)).map_or(Some(sql.len()), place)?;
        let span = sql.get(place(token)?..next)?;
        match token.token() {
            Token::Sconst
            | Token::Usconst
            | Token::Bconst
            | Token::Xconst
            | Token::Fconst
            | Token::Iconst => {
                literals = literals.saturating_add(1);
                text.push('$');
                text.push_str(&literals.to_string());
                text.push_str(span.get(span.trim_end().len()..)?);
            }
            Token::SqlComment | Token::CComment => text.push(' '),
            _ => text.push_str(span),
        }
    }
    Some(text)
}

/// How often each parameter stands in a text; empty where that can't be told.
pub fn parameter_uses(sql: &str) -> HashMap<u16, usize> {
    let mut uses = HashMap::new();
    if sql.len() > MAX_TEXT || is_slow(sql) {
        return uses;
    }
    let Ok(scanned) = pg_query::scan(sql) else {
        return uses;
    };
    for token in &scanned.tokens {
        if let Some(number) = parameter(sql, token).and_then(|number| u16::try_from(number).ok()) {
            *uses.entry(number).or_insert(0) += 1;
        }
    }
    uses
}

/// The text with other values for some of its literals, each given by the byte where it starts. Texts are written as
/// literals that mean the same whatever `standard_conforming_strings` is; numbers stay numbers. `None`: one of them is not
/// there.
pub fn replace_literals(sql: &str, values: &[(usize, String)]) -> Option<String> {
    if sql.len() > MAX_TEXT || is_slow(sql) {
        return None;
    }
    let tokens = pg_query::scan(sql).ok()?.tokens;
    let place = |token: &ScanToken| usize::try_from(token.start).ok();
    let mut text = String::with_capacity(sql.len());
    let mut copied = 0;
    let mut replaced = 0;
    for (at, token) in tokens.iter().enumerate() {
        let start = place(token)?;
        let Some((_, value)) = values.iter().find(|(known, _)| *known == start) else {
            continue;
        };
        let next = tokens.get(at.saturating_add(1)).map_or(Some(sql.len()), place)?;
        let literal = sql.get(start..next)?.trim_end();
        text.push_str(sql.get(copied..start)?);
        match token.token() {
            Token::Sconst => quote(value, &mut text),
            Token::Iconst | Token::Fconst if value.parse::<f64>().is_ok() => text.push_str(value),
            _ => return None,
        }
        copied = start.checked_add(literal.len())?;
        replaced += 1;
    }
    text.push_str(sql.get(copied..)?);
    (replaced == values.len()).then_some(text)
}

fn quote(value: &str, into: &mut String) {
    let escapes = value.contains('\\');
    into.push_str(if escapes { " E'" } else { "'" });
    for char in value.chars() {
        match char {
            '\'' => into.push_str("''"),
            '\\' => into.push_str("\\\\"),
            char => into.push(char),
        }
    }
    into.push('\'');
}

/// The number of a parameter.
fn parameter(sql: &str, token: &ScanToken) -> Option<u64> {
    if token.token() != Token::Param {
        return None;
    }
    let (start, end) = (
        usize::try_from(token.start).ok()?,
        usize::try_from(token.end).ok()?,
    );
    sql.get(start..end)?.strip_prefix('$')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::normalise;

    #[test]
    fn literals_and_comments_are_taken_out_wherever_they_stand() {
        for (sql, expected) in [
            (
                "SELECT a FROM t WHERE b = 'x' AND c > 1.5",
                "SELECT a FROM t WHERE b = $1 AND c > $2",
            ),
            ("SELECT $2, 7, $1", "SELECT $2, $3, $1"),
            (
                "SELECT - - 4111, -(4111), - - - 4111",
                "SELECT - - $1, -($2), - - - $3",
            ),
            (
                "SELECT 'a'\n  'secret' , E'\\'x', $a$secret$a$",
                "SELECT $1 , $2, $3",
            ),
            ("SELECT 'a' -- secret\n 'secret'\n", "SELECT $1\n"),
            (
                "SELECT U&'d!0061t' UESCAPE '!', N'x', B'1', X'1F'",
                "SELECT $1 UESCAPE $2, N$3, $4, $5",
            ),
            ("SELECT 1 /* secret */ FROM t -- secret", "SELECT $1  FROM t  "),
            ("EXECUTE p('secret', 1)", "EXECUTE p($1, $2)"),
            ("PREPARE p AS SELECT 'secret', $1", "PREPARE p AS SELECT $2, $1"),
            (
                "COPY t FROM '/secret' WITH (DELIMITER ',')",
                "COPY t FROM $1 WITH (DELIMITER $2)",
            ),
            (
                "CREATE TABLE t (a text DEFAULT 'secret')",
                "CREATE TABLE t (a text DEFAULT $1)",
            ),
            (
                "CREATE TABLE p PARTITION OF q FOR VALUES IN ('é')",
                "CREATE TABLE p PARTITION OF q FOR VALUES IN ($1)",
            ),
            ("ALTER ROLE x PASSWORD 'secret'", "ALTER ROLE x PASSWORD $1"),
            (
                "COMMENT ON TABLE \"1\" IS 'secret'",
                "COMMENT ON TABLE \"1\" IS $1",
            ),
            ("  ", "  "),
        ] {
            assert_eq!(normalise(sql).as_deref(), Some(expected), "{sql}");
        }
    }

    #[test]
    fn what_is_no_statement_is_not_shown() {
        for sql in ["secret", "SELECT 'secret", "SELECT 1\0", &"(".repeat(5000)] {
            assert_eq!(normalise(sql), None);
        }
    }
}
