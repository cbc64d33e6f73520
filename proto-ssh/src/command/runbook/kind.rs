//! The types of parameters.

use std::fmt;

use regex::{Regex, RegexBuilder};

use super::characters;

/// The longest `word`, in bytes.
const MAX_WORD: usize = 255;

/// The longest `path`, in bytes (PATH_MAX of Linux, with its NUL).
const MAX_PATH: usize = 4095;

/// The longest text, in characters.
const MAX_TEXT: i64 = 1024;

/// The longest pattern, in bytes, and the largest that it may be once it is compiled.
const MAX_PATTERN: (usize, usize) = (1024, 256 * 1024);

/// The most choices, and the most folders.
const MAX_VALUES: usize = 100;

/// A regular expression that a whole value must match. Matching takes time in proportion to the value's length.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    fn new(text: &str) -> Option<Self> {
        if text.len() > MAX_PATTERN.0 {
            return None;
        }
        let whole = format!("\\A(?:{text})\\z");
        let regex = RegexBuilder::new(&whole).size_limit(MAX_PATTERN.1).build();
        // By itself, too: a parenthesis of its own would close ours.
        Regex::new(text).ok()?;
        Some(Self {
            text: text.to_owned(),
            regex: regex.ok()?,
        })
    }

    fn matches(&self, value: &str) -> bool {
        self.regex.is_match(value)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// What a parameter takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `string`: text that people see all of, which can't be an option.
    Text {
        /// The fewest characters.
        min: usize,
        /// The most.
        max: usize,
        /// What all of it must match.
        pattern: Option<Pattern>,
    },
    /// `word` with a pattern.
    Like(Pattern),
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
    /// `path(/prefix)`: an absolute path below one of the folders.
    Path {
        /// Absolute, without a slash at its end; empty for the root.
        folders: Vec<String>,
    },
}

/// A parameter as a configuration declares it.
#[derive(Debug, Clone, Default)]
pub struct Declared<'a> {
    /// `type`.
    pub kind: &'a str,
    /// `pattern`.
    pub pattern: Option<&'a str>,
    /// `values`.
    pub values: Option<&'a [String]>,
    /// `min`.
    pub min: Option<i64>,
    /// `max`.
    pub max: Option<i64>,
}

impl Kind {
    /// Reads a declaration; the error says what is wrong with it.
    pub(super) fn declared(of: &Declared<'_>) -> Result<Self, String> {
        let only = |known: &[&str]| {
            let given = [
                ("pattern", of.pattern.is_some()),
                ("values", of.values.is_some()),
                ("min", of.min.is_some()),
                ("max", of.max.is_some()),
            ];
            match given.iter().find(|(key, given)| *given && !known.contains(key)) {
                Some((key, _)) => Err(format!("`{key}` means nothing for the type `{}`", of.kind)),
                None => Ok(()),
            }
        };
        let pattern = || match of.pattern {
            None => Ok(None),
            Some(text) => Pattern::new(text)
                .map(Some)
                .ok_or_else(|| format!("`pattern` is no regular expression, or too long: `{text}`")),
        };
        let values = of.values.unwrap_or_default();
        if values.len() > MAX_VALUES {
            return Err(format!("`values` has at most {MAX_VALUES}"));
        }
        match of.kind {
            "string" => {
                only(&["pattern", "min", "max"])?;
                let (min, max) = (of.min.unwrap_or(1), of.max.unwrap_or(255));
                let wrong =
                    || format!("`min` and `max` are lengths from 0 to {MAX_TEXT}, the smaller one first");
                if min < 0 || max > MAX_TEXT || min > max {
                    return Err(wrong());
                }
                Ok(Self::Text {
                    min: usize::try_from(min).map_err(|_| wrong())?,
                    max: usize::try_from(max).map_err(|_| wrong())?,
                    pattern: pattern()?,
                })
            }
            "word" => {
                only(&["pattern"])?;
                Ok(pattern()?.map_or(Self::Word, Self::Like))
            }
            "int" => {
                only(&["min", "max"])?;
                let (min, max) = (of.min.unwrap_or(0), of.max.unwrap_or(i64::MAX));
                if min > max {
                    return Err("`min` is larger than `max`".to_owned());
                }
                Ok(Self::Integer { min, max })
            }
            "enum" => {
                only(&["values"])?;
                if values.is_empty() || !values.iter().all(|word| is_word(word)) {
                    let why = "`values` is a list of words (letters, digits and `_.@:-`, a letter, a digit or `_` in front)";
                    return Err(why.to_owned());
                }
                Ok(Self::Enum(values.to_vec()))
            }
            "path" => {
                only(&["values"])?;
                let folders: Option<Vec<String>> = values.iter().map(|path| folder(path)).collect();
                let folders =
                    folders.ok_or("`values` is a list of folders, absolute and without `.` and `..`")?;
                Ok(Self::Path {
                    folders: match folders.is_empty() {
                        true => vec![String::new()],
                        false => folders,
                    },
                })
            }
            other => Err(format!(
                "there is no type `{other}`; use string, word, int, enum or path"
            )),
        }
    }

    /// Values for which rules may differ that compare with them, at most `most`: every choice, both ends of a range; else one of
    /// the type.
    pub(super) fn samples(&self, most: usize) -> Vec<String> {
        match self {
            Self::Word | Self::Like(_) | Self::Text { .. } => vec!["x".to_owned()],
            Self::Integer { min, max } => vec![min.to_string(), max.to_string()],
            Self::Enum(words) => words.iter().take(most).cloned().collect(),
            Self::Path { folders } => folders.iter().take(most).map(|one| format!("{one}/x")).collect(),
        }
    }
}

/// A folder without a slash at its end.
pub(super) fn folder(path: &str) -> Option<String> {
    let bare = path.strip_suffix('/').unwrap_or(path);
    let absolute = bare.is_empty() || bare.strip_prefix('/').is_some_and(is_below);
    (absolute && path.starts_with('/')).then(|| bare.to_owned())
}

impl Kind {
    /// Whether an argument is of this type.
    pub fn takes(&self, argument: &str) -> bool {
        match self {
            Self::Word => is_word(argument),
            Self::Like(pattern) => is_word(argument) && pattern.matches(argument),
            Self::Text { min, max, pattern } => {
                let seen = |c: char| !matches!(c, '\t' | '\n') && characters::may_be_static(c);
                !argument.starts_with('-')
                    && argument.chars().all(seen)
                    && (min..=max).contains(&&argument.chars().count())
                    && pattern.as_ref().is_none_or(|pattern| pattern.matches(argument))
            }
            Self::Integer { min, max } => argument
                .parse()
                .is_ok_and(|number: i64| (min..=max).contains(&&number) && number.to_string() == argument),
            Self::Enum(words) => words.iter().any(|word| word == argument),
            Self::Path { folders } => {
                let is_in = |folder: &String| {
                    let below = argument.strip_prefix(folder.as_str());
                    below
                        .and_then(|below| below.strip_prefix('/'))
                        .is_some_and(is_below)
                };
                argument.len() <= MAX_PATH && folders.iter().any(is_in)
            }
        }
    }

    /// What it takes, in words.
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::Word => "a word (letters, digits and `_.@:-`, no `-`, `.`, `@` or `:` in front)".to_owned(),
            Self::Like(pattern) => format!("a word that matches `{}`", pattern.text),
            Self::Text { min, max, pattern } => {
                let mut told = format!("text of {min} to {max} characters, no `-` in front");
                if let Some(pattern) = pattern {
                    told += &format!(", that matches `{}`", pattern.text);
                }
                told
            }
            Self::Integer { min, max } => format!("a number from {min} to {max}"),
            Self::Enum(words) => format!("one of `{}`", words.join("`, `")),
            Self::Path { folders } => {
                let folders: Vec<String> = folders.iter().map(|one| format!("`{one}/`")).collect();
                format!(
                    "an absolute path below {}, without `.` and `..`",
                    folders.join(" or ")
                )
            }
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
            Self::Like(_) => f.write_str("word"),
            Self::Text { .. } => f.write_str("string"),
            Self::Path { folders } => {
                let folder = |one: &String| {
                    if one.is_empty() {
                        "/".to_owned()
                    } else {
                        one.clone()
                    }
                };
                let folders: Vec<String> = folders.iter().map(folder).collect();
                write!(f, "path({})", folders.join(","))
            }
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
