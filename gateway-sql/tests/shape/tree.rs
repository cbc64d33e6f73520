//! A syntax tree in words, without the values of its constants and without places in the text. The modifiers of types
//! are no values: they stay.

use pg_query::protobuf::ParseResult;

/// What stands before a value, and what stands for it.
const VALUES: [(&str, &str); 3] = [
    ("Sval(String { sval: ", "Sval(String { sval: _"),
    ("Fval(Float { fval: ", "Fval(Float { fval: _"),
    ("Ival(Integer { ival: ", "Ival(Integer { ival: _"),
];
const PLACES: [&str; 4] = ["location: ", "stmt_len: ", "list_start: ", "list_end: "];
const MODIFIERS: &str = "typmods: [";

/// The tree in words.
pub(super) fn without_values(tree: &ParseResult) -> String {
    let words = format!("{tree:?}");
    let mut rest = words.as_str();
    let mut out = String::with_capacity(words.len());
    let mut depth = 0_usize;
    let mut modifiers = None;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix(MODIFIERS) {
            modifiers = modifiers.or(Some(depth));
            depth += 1;
            out.push_str(MODIFIERS);
            rest = after;
            continue;
        }
        if let Some(place) = PLACES.iter().find(|place| rest.starts_with(**place)) {
            out.push_str(place);
            rest = after_token(&rest[place.len()..]);
            continue;
        }
        let value = VALUES.iter().find(|(before, _)| rest.starts_with(before));
        if let (Some((before, instead)), None) = (value, modifiers) {
            out.push_str(instead);
            rest = after_token(&rest[before.len()..]);
            continue;
        }
        match first {
            '[' => depth += 1,
            ']' => {
                depth -= 1;
                if modifiers == Some(depth) {
                    modifiers = None;
                }
            }
            _ => {}
        }
        let token = if first == '"' {
            rest.len() - after_token(rest).len()
        } else {
            first.len_utf8()
        };
        out.push_str(&rest[..token]);
        rest = &rest[token..];
    }
    out
}

/// What follows a number or a quoted string.
fn after_token(text: &str) -> &str {
    let Some(quoted) = text.strip_prefix('"') else {
        return text.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit());
    };
    let mut escaped = false;
    let end = quoted.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    &quoted[end.unwrap() + 1..]
}
