//! Texts that others wrote, for people: what can't be seen, or moves what is around it, is spelt out.

/// Control characters, marks of direction, and what has no width.
pub(crate) fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The text with all that steers spelt out as `\u{..}`, but for what `stays`.
pub(crate) fn spelt(text: &str, stays: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) && !stays(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_width_or_moves_others_is_spelt_out() {
        assert_eq!(spelt("a\u{202e}b\nc", |c| c == '\n'), "a\\u{202e}b\nc");
        for c in [
            '\u{fff0}',
            '\u{1bca0}',
            '\u{1d173}',
            '\u{e0100}',
            '\u{2065}',
            '\u{1b}',
        ] {
            assert!(steers(c), "{c:?}");
        }
        assert!("é שלום 漢字 — ok".chars().all(|c| !steers(c)));
    }
}
