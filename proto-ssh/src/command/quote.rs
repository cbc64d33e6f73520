//! Words into a line again.

use super::Shell;
use super::lex::Operator;
use super::list::List;

/// A word in single quotes, so that bash, dash, zsh, ksh and busybox sh read exactly this word, and neither as a
/// keyword nor as an alias. A single quote becomes `'\''`, which zsh reads the same with `rc_quotes`.
///
/// ```
/// assert_eq!(proto_ssh::command::quote("it's"), r"'it'\''s'");
/// assert_eq!(proto_ssh::command::quote(""), "''");
/// ```
///
/// A word that has NUL can't be a word of a command line; whoever quotes has to refuse it before.
pub fn quote(word: &str) -> String {
    let mut quoted = String::with_capacity(word.len().saturating_add(2));
    push_quoted(&mut quoted, word);
    quoted
}

fn push_quoted(line: &mut String, word: &str) {
    line.push('\'');
    for (position, part) in word.split('\'').enumerate() {
        if position > 0 {
            line.push_str(r"'\''");
        }
        line.push_str(part);
    }
    line.push('\'');
}

/// The line that is sent in place of the one that was parsed.
pub(super) fn canonical(list: &List<'_>, shell: Shell) -> String {
    let mut line = String::new();
    for entry in &list.0 {
        line.push_str(match entry.operator {
            None => "",
            Some(Operator::Semicolon | Operator::Newline) => "; ",
            Some(Operator::And) => " && ",
            Some(Operator::Or) => " || ",
            Some(Operator::Pipe) => " | ",
        });
        for (position, word) in std::iter::once(&entry.program)
            .chain(&entry.arguments)
            .enumerate()
        {
            if position > 0 {
                line.push(' ');
            }
            match shell {
                // Plain words only, and nobody knows what its quotes are.
                Shell::Unknown => line.push_str(&word.text),
                Shell::Bash | Shell::Dash | Shell::Zsh => push_quoted(&mut line, &word.text),
            }
        }
    }
    line
}
