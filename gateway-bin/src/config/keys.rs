//! Unknown keys, and the known one that was probably meant.

use serde_json::{Map, Value};

use super::Problems;

/// Takes the keys that are not `known` out of a table; each is a problem that names the nearest known one.
pub(crate) fn refuse_unknown(
    path: &str,
    table: &mut Map<String, Value>,
    known: &[&str],
    problems: &mut Problems,
) {
    table.retain(|key, _| {
        let good = known.contains(&key.as_str());
        if !good {
            problems.push(&join(path, key), unknown(path, key, known));
        }
        good
    });
}

/// The text for an unknown key.
pub(crate) fn unknown(path: &str, key: &str, known: &[&str]) -> String {
    match nearest(key, known) {
        Some(near) => format!("unknown key; did you mean `{}`?", join(path, near)),
        None if known.is_empty() => "unknown key; none is known here".to_owned(),
        None => format!("unknown key; known are {}", list(known)),
    }
}

/// The name among `known` that `name` is probably meant to be.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), *candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// `path.key`, or `key` at the top.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_key_that_was_meant() {
        let known = ["statement_bytes", "sessions", "idle"];
        assert_eq!(nearest("sesions", &known), Some("sessions"));
        assert_eq!(nearest("statment_byte", &known), Some("statement_bytes"));
        assert_eq!(nearest("colour", &known), None);
    }
}
