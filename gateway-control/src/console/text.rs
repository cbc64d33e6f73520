//! Texts that others wrote, as they are shown: what is invisible or steers a reader is spelt out, and marked.

use askama::Template;
use askama::filters::HtmlSafe;

use crate::visible::steers;

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    /// It stands for a character that can't be seen, or that moves others.
    odd: bool,
    text: String,
}

/// A text that others wrote. Its characters stand in their order, from left to right: letters that are written the other way
/// would move what is between them, and show another statement than the one that runs. It writes itself into a page by the template engine, which escapes each of its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Template)]
#[template(
    ext = "html",
    source = "<bdo dir=\"ltr\">{% for part in parts %}{% if part.odd %}<span class=\"odd\">{{ part.text }}</span>{% else %}{{ part.text }}{% endif %}{% endfor %}</bdo>"
)]
pub(super) struct Text {
    parts: Vec<Part>,
}

impl HtmlSafe for Text {}

/// A text of one line.
pub(super) fn line(text: &str) -> Text {
    text_of(text, |_| false)
}

/// A text whose line ends and tabs stay.
pub(super) fn lines(text: &str) -> Text {
    text_of(text, |c| matches!(c, '\n' | '\t'))
}

/// What may be absent, as a line.
pub(super) fn maybe(text: Option<&str>) -> Option<Text> {
    text.map(line)
}

/// Several, with commas between.
pub(super) fn list<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Text {
    let texts: Vec<T> = texts.into_iter().collect();
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    line(&texts.join(", "))
}

fn text_of(text: &str, stays: impl Fn(char) -> bool) -> Text {
    let mut parts: Vec<Part> = Vec::new();
    for c in text.chars() {
        let odd = steers(c) && !stays(c);
        if parts.last().is_none_or(|part| part.odd != odd) {
            parts.push(Part {
                odd,
                text: String::new(),
            });
        }
        if let Some(part) = parts.last_mut() {
            if odd {
                part.text.extend(c.escape_unicode());
            } else {
                part.text.push(c);
            }
        }
    }
    Text { parts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_invisible_or_steers_is_spelt_out_and_marked() {
        let part = |odd, text: &str| Part {
            odd,
            text: text.to_owned(),
        };
        assert_eq!(
            line("a\u{202e}\u{1b}[2Jé\n").parts,
            [
                part(false, "a"),
                part(true, "\\u{202e}\\u{1b}"),
                part(false, "[2Jé"),
                part(true, "\\u{a}")
            ]
        );
        assert_eq!(
            lines("a\n\tb\r").parts,
            [part(false, "a\n\tb"), part(true, "\\u{d}")]
        );
        assert!(line("").parts.is_empty());
        assert_eq!(
            line("<b>\u{7}").to_string(),
            "<bdo dir=\"ltr\">&#60;b&#62;<span class=\"odd\">\\u{7}</span></bdo>"
        );
    }
}
