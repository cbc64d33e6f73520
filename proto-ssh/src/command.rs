//! What a command line does, as the login shell of the target reads it.
//!
//! ```text
//! line ─▶ characters (filter) ─▶ lex (words, operators) ─▶ list (simple commands) ─▶ canonical
//!                                        └──────▶ agree: brush-parser must read the same
//! ```
//!
//! A line is *static* when every supported shell reads it as the same list of simple commands, and when no word of it
//! depends on anything but the line itself. Our own tokenizer decides that; brush-parser has to agree, and can only turn
//! a static line into an opaque one. What is sent to the target is never the line of the client but [`Parsed::Static`]'s
//! `canonical`, which is written anew from the words that were judged.
//!
//! What stays outside: a function of the target's start-up files that has the name of a permitted program runs in its
//! place, as does a program that comes earlier in `PATH`. Whoever can write those files has the login already.

mod agree;
mod characters;
mod lex;
mod list;
mod quote;
pub mod runbook;

pub use quote::quote;

/// The longest command line that is read, in bytes: Linux runs no argument longer than 128 KiB with its NUL, so a
/// target could not run a longer one by `shell -c` either. A line whose canonical form would be longer is opaque.
pub const MAX_LINE: usize = 128 * 1024 - 1;

/// The most simple commands that a static line has; each is decided on its own.
pub const MAX_COMMANDS: usize = 64;

/// The login shell of a target, as its resource says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shell {
    /// GNU bash.
    Bash,
    /// The Debian Almquist shell, and other plain POSIX shells (busybox sh, ksh).
    Dash,
    /// The Z shell, with its default options.
    Zsh,
    /// Any other. Only one command of plain words is static: letters, digits and `_ . / : , @ % + = -`, words parted by
    /// blanks. The program has neither `:`, `,`, `@`, `%`, `+` nor `=` and does not begin with `-`; no argument begins
    /// with `=`, `@` or `%`. Such words are sent without quotes, since nobody knows how this shell quotes.
    Unknown,
}

/// One simple command whose words are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simple {
    /// The first word after quote removal, as written: no look-up in `PATH`, no path made shorter. Builtins that run
    /// others (`eval`, `exec`, `command`, `.`) are programs like any other.
    pub program: String,
    /// The further words after quote removal.
    pub arguments: Vec<String>,
    /// Whether it reads from the command before it in a pipeline.
    pub stdin: bool,
}

/// What a command line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// Simple commands of known words, joined by `;`, newline, `&&`, `||` or `|`.
    Static {
        /// Each command, in the order of the line; at least one.
        commands: Vec<Simple>,
        /// What is sent to the target: the same commands and operators (a newline becomes `;`), each word in single
        /// quotes, so that neither aliases nor keywords nor options of the shell change it.
        canonical: String,
    },
    /// It may do anything: substitutions, redirections, globs, keywords, an empty line (`sshd` would start the shell
    /// with nothing to do, but with its start-up files), or whatever else is not static.
    Opaque,
    /// No command line at all: NUL, no UTF-8, or longer than [`MAX_LINE`].
    Malformed,
}

/// Reads a command line as `shell` does.
pub fn parse_command(line: &[u8], shell: Shell) -> Parsed {
    if line.len() > MAX_LINE || line.contains(&0) {
        return Parsed::Malformed;
    }
    let Ok(line) = std::str::from_utf8(line) else {
        return Parsed::Malformed;
    };
    parse_static(line, shell).unwrap_or(Parsed::Opaque)
}

/// `None` for whatever is not static.
fn parse_static(line: &str, shell: Shell) -> Option<Parsed> {
    if !line.chars().all(characters::may_be_static) {
        return None;
    }
    let list = list::List::of(lex::tokens(line, shell)?, shell)?;
    let canonical = quote::canonical(&list, shell);
    if canonical.len() > MAX_LINE {
        return None;
    }
    // A shell that is not known may not be like bash; its plain words need no second reading.
    if shell != Shell::Unknown && !agree::agrees(line, &list) {
        return None;
    }
    Some(Parsed::Static {
        commands: list.into_commands(),
        canonical,
    })
}

#[cfg(test)]
mod tests;
