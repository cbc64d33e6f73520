//! Texts of others as people are shown them.

/// A text that moves no cursor and reorders nothing: control characters, and marks that hide text or turn it around, are
/// written as escapes. For what clients, targets or approvers wrote, wherever a terminal may show it.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_format(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// Marks that reorder or hide text.
fn is_format(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn what_moves_a_cursor_or_turns_text_around_is_an_escape() {
        assert_eq!(
            plain("no\u{1b}[31m\r\nERROR:\u{202e} é 日"),
            "no\\u{1b}[31m\\r\\nERROR:\\u{202e} é 日"
        );
        assert_eq!(plain("\u{e0041}\u{ad}"), "\\u{e0041}\\u{ad}");
    }
}
