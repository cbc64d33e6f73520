//! The types of parameters.

use std::fmt;

use super::characters;

/// The longest `word`, in bytes.
const MAX_WORD: usize = 255;

/// The longest `path`, in bytes (PATH_MAX of Linux, with its NUL).
const MAX_PATH: usize = 4095;

/// What a parameter takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `word`: a plain name that can be neither an option nor a path.
    Word,
    /// `integer(min..max)`, both ends included.
    Integer {
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// `enum(a,b)`: one of these.
    Enum(Vec<String>),
    /// `path(/prefix)`: an absolute path below the prefix.
    Path {
        /// Absolute, without a slash at its end; empty for the root.
        prefix: String,
    },
}

impl Kind {
    /// Whether an argument is of this type.
    pub fn takes(&self, argument: &str) -> bool {
        match self {
            Self::Word => is_word(argument),
            Self::Integer { min, max } => argument
                .parse()
                .is_ok_and(|number: i64| (min..=max).contains(&&number) && number.to_string() == argument),
            Self::Enum(words) => words.iter().any(|word| word == argument),
            Self::Path { prefix } => {
                argument.len() <= MAX_PATH
                    && argument
                        .strip_prefix(prefix.as_str())
                        .and_then(|below| below.strip_prefix('/'))
                        .is_some_and(is_below)
            }
        }
    }

    /// What it takes, in words.
    pub(super) fn expected(&self) -> String {
        match self {
            Self::Word => "a word (letters, digits and `_.@:-`, no `-`, `.`, `@` or `:` in front)".to_owned(),
            Self::Integer { min, max } => format!("a number from {min} to {max}"),
            Self::Enum(words) => format!("one of `{}`", words.join("`, `")),
            Self::Path { prefix } => format!("an absolute path below `{prefix}/`, without `.` and `..`"),
        }
    }
}

/// As it is written in a template.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word => f.write_str("word"),
            Self::Integer { min, max } => write!(f, "integer({min}..{max})"),
            Self::Enum(words) => write!(f, "enum({})", words.join(",")),
            Self::Path { prefix } if prefix.is_empty() => f.write_str("path(/)"),
            Self::Path { prefix } => write!(f, "path({prefix})"),
        }
    }
}

pub(super) fn is_word(word: &str) -> bool {
    let first = word
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    first
        && word.len() <= MAX_WORD
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.@:-".contains(&byte))
}

/// Whether this is a path below a folder: parts that are names, none of them `.` or `..`.
pub(super) fn is_below(path: &str) -> bool {
    path.chars()
        .all(|c| !matches!(c, '\t' | '\n') && characters::may_be_static(c))
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
