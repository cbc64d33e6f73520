//! The strict filter in front of both parsers.

/// Characters that are not shown, or shown as something else, beside those that `char` itself knows: those of the
/// general category Cf (format), those that are ignored by default or look like a blank, and private ones.
const UNSEEN: [(char, char); 24] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{e000}', '\u{f8ff}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{ffff}'),
    ('\u{110bd}', '\u{110cd}'),
    ('\u{13430}', '\u{1345f}'),
    ('\u{1bca0}', '\u{1bcaf}'),
];

/// Whether a static line may have this character: blank, tab and newline (outside of words), and what people see.
pub(super) fn may_be_static(c: char) -> bool {
    match c {
        ' ' | '\t' | '\n' => true,
        c if c.is_ascii() => c.is_ascii_graphic(),
        c if c.is_control() || c.is_whitespace() => false,
        // Musical format characters, and the last planes: tags, variation selectors, private use.
        '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{10ffff}' => false,
        c => !UNSEEN.iter().any(|&(first, last)| (first..=last).contains(&c)),
    }
}
