//! What a stream for a terminal says when nothing in it can command one: its printable text.

/// Takes escape sequences and control characters out of a stream, also where a sequence is split.
#[derive(Debug, Default, Clone)]
pub struct Plain {
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// Behind ESC.
    Escape,
    /// ESC and intermediates: one more character ends it.
    Intermediate,
    /// Behind `ESC [`, up to its final byte.
    Control,
    /// In a string (OSC, DCS, APC, PM, SOS), up to its terminator.
    String,
    /// ESC in a string.
    StringEscape,
}

impl Plain {
    /// Whether the character is text; line feed, carriage return and tab are. What belongs to a sequence is not.
    pub fn is_text(&mut self, c: char) -> bool {
        // What both ends of a terminal agree on: CAN and SUB end a sequence, ESC begins one.
        let (next, text) = match (self.state, c) {
            (State::String, '\u{1b}') => (State::StringEscape, false),
            (State::String, '\u{7}' | '\u{9c}' | '\u{18}' | '\u{1a}') => (State::Text, false),
            (State::String, _) => (State::String, false),
            (State::StringEscape, '\\') => (State::Text, false),
            (_, '\u{1b}') => (State::Escape, false),
            (_, '\u{18}' | '\u{1a}') => (State::Text, false),
            (State::Escape | State::StringEscape, '[') => (State::Control, false),
            (State::Escape | State::StringEscape, ']' | 'P' | 'X' | '^' | '_') => (State::String, false),
            (State::Escape | State::StringEscape | State::Intermediate, ' '..='/') => {
                (State::Intermediate, false)
            }
            (State::Escape | State::StringEscape | State::Intermediate, c) if !c.is_control() => {
                (State::Text, false)
            }
            (State::Control, '\u{40}'..='\u{7e}') => (State::Text, false),
            (State::Text, '\u{9b}') => (State::Control, false),
            (State::Text, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') => (State::String, false),
            (State::Text, c) => (State::Text, matches!(c, '\n' | '\r' | '\t') || !is_odd(c)),
            // Control characters inside of a sequence are done at once.
            (state, c) => (state, matches!(c, '\n' | '\r' | '\t')),
        };
        self.state = next;
        text
    }

    /// Takes a part of the stream of which nobody wants the text.
    pub(super) fn pass(&mut self, part: &str) {
        let mut rest = part;
        loop {
            if self.state == State::Text {
                // Only these begin anything: ESC, and the C1 controls, which all begin with this byte.
                let Some(at) = memchr::memchr2(0x1b, 0xc2, rest.as_bytes()) else {
                    return;
                };
                rest = rest.get(at..).unwrap_or_default();
            }
            let mut chars = rest.chars();
            let Some(c) = chars.next() else { return };
            self.is_text(c);
            rest = chars.as_str();
        }
    }

    /// The text of a part of the stream.
    pub fn text(&mut self, part: &str) -> String {
        part.chars().filter(|c| self.is_text(*c)).collect()
    }
}

/// Characters that are not shown as themselves: control characters, and those that turn the order of text or are not seen.
pub fn is_odd(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_gone_however_they_are_split() {
        let stream = "a\u{1b}[31mb\u{1b}]0;title\u{7}c\u{1b}Pq#0\u{1b}\\d\u{1b}]52;c;eA==\u{1b}\\e\u{9b}2Jf\u{1b}(Bg\u{8}\u{7}h\r\ni\u{202e}";
        let mut whole = Plain::default();
        assert_eq!(whole.text(stream), "abcdefgh\r\ni");
        for at in stream.char_indices().map(|(at, _)| at) {
            let (left, right) = stream.split_at(at);
            let mut plain = Plain::default();
            let joined = plain.text(left) + &plain.text(right);
            assert_eq!(joined, "abcdefgh\r\ni", "{at}");
            // What was passed over counts as much.
            let (mut passed, mut read) = (Plain::default(), Plain::default());
            passed.pass(left);
            read.text(left);
            assert_eq!(passed.state, read.state, "{at}");
        }
    }

    #[test]
    fn a_string_without_an_end_shows_nothing_and_a_cancelled_one_ends() {
        assert_eq!(Plain::default().text("a\u{1b}]0;never\nends"), "a");
        assert_eq!(Plain::default().text("a\u{1b}]0;x\u{18}b"), "ab");
        assert_eq!(Plain::default().text("a\u{1b}[3\u{1b}[4mb"), "ab");
    }
}
