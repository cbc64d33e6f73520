//! Names of subjects and groups, wherever they come from.

/// The longest subject and group name, in bytes.
pub const MAX_NAME: usize = 256;
/// The most groups of one principal.
pub const MAX_GROUPS: usize = 200;

/// What is wrong with a name, if anything: it has to be some text that policies, logs and lists can show, without
/// control characters, blanks around it, or more than [`MAX_NAME`] bytes.
pub(crate) fn fault(name: &str) -> Option<String> {
    if name.is_empty() {
        Some("is empty".to_owned())
    } else if name.len() > MAX_NAME {
        Some(format!("has {} bytes; the limit is {MAX_NAME}", name.len()))
    } else if name.chars().any(char::is_control) {
        Some("has a control character".to_owned())
    } else if name.trim() != name {
        Some("begins or ends with a blank".to_owned())
    } else {
        None
    }
}
