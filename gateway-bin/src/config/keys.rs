//! Unknown keys, and the known one that was probably meant.

use serde_json::{Map, Value};

use super::Problems;

/// The longest name that may be a slip of a known one.
const MAX_NAME: usize = 128;

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

/// Refuses `inf` and `nan`, wherever they are: the tree has nothing in their place, as if the key were absent.
pub(crate) fn refuse_endless(path: &str, value: &Value, problems: &mut Problems) {
    match value {
        Value::Null => problems.push(path, "must be a value; `inf` and `nan` are none"),
        Value::Object(table) => {
            for (key, value) in table {
                refuse_endless(&join(path, key), value, problems);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                refuse_endless(&format!("{path}[{index}]"), value, problems);
            }
        }
        _ => {}
    }
}

/// The text for an unknown key.
pub(crate) fn unknown(path: &str, key: &str, known: &[&str]) -> String {
    match nearest(key, known) {
        Some(near) => format!("unknown key; did you mean `{}`?", join(path, near)),
        None if known.is_empty() => "unknown key; none is known here".to_owned(),
        None => format!("unknown key; known are {}", list(known)),
    }
}

/// What is wrong as an adapter says it, with the nearest key where it refuses one; `more` are keys that it never sees.
pub(crate) fn with_suggestion(path: &str, text: &str, more: &[&str]) -> String {
    let Some((key, rest)) = text
        .split_once("unknown field `")
        .and_then(|(_, rest)| rest.split_once('`'))
    else {
        return text.to_owned();
    };
    // Between backticks: every other part.
    let mut known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    known.extend(more);
    match nearest(key, &known) {
        Some(_) => format!("`{}` is an {}", join(path, key), unknown(path, key, &known)),
        None => text.to_owned(),
    }
}

/// The name among `known` that `name` is probably meant to be.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    // The distance takes memory for each pair of letters.
    if name.len() > MAX_NAME {
        return None;
    }
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate))
        // A slip changes few of the letters.
        .filter(|(edits, candidate)| edits * 3 <= candidate.len().max(name.len()))
        .min_by_key(|(edits, _)| *edits)
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
        let known = ["statement_bytes", "session", "sessions", "idle"];
        assert_eq!(nearest("sesions", &known), Some("sessions"));
        assert_eq!(nearest("statment_byte", &known), Some("statement_bytes"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest(&"sessions".repeat(100_000), &known), None);
    }

    #[test]
    fn a_slip_that_an_adapter_refuses_finds_its_key_too() {
        let text = "unknown field `databse`, expected one of `tls`, `ca`, `database`";
        assert_eq!(
            with_suggestion("resource.a", text, &["address"]),
            "`resource.a.databse` is an unknown key; did you mean `resource.a.database`?"
        );
        let text = "unknown field `adress`, expected `tls` or `ca`";
        let told = with_suggestion("resource.a", text, &["address"]);
        assert!(told.ends_with("did you mean `resource.a.address`?"), "{told}");
        for other in [
            "unknown field `x`, there are no fields",
            "no host:port",
            "unknown field `x",
        ] {
            assert_eq!(with_suggestion("r", other, &[]), other);
        }
    }
}
