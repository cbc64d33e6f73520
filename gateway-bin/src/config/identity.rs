//! `[[identity.oidc]]`: the issuers whose tokens are taken.

use gateway_identity::oidc::OidcSettings;
use serde_json::{Map, Value};

use super::keys::{join, refuse_unknown};
use super::{Problems, Raw};

/// Checks all issuers.
pub(super) fn check(raw: &Raw, value: Option<Value>, problems: &mut Problems) -> Vec<OidcSettings> {
    let list = match value {
        None => return Vec::new(),
        Some(Value::Array(list)) => list,
        Some(_) => {
            problems.push("identity.oidc", "must be a list: `[[identity.oidc]]`");
            return Vec::new();
        }
    };
    let mut good: Vec<(String, OidcSettings)> = Vec::new();
    for (index, value) in list.into_iter().enumerate() {
        // Faults are told by its name, where it has one.
        let path = match value.get("name").and_then(Value::as_str) {
            Some(name) if is_plain(name) => format!("identity.oidc.{name}"),
            _ => format!("identity.oidc[{index}]"),
        };
        let Value::Object(table) = value else {
            problems.push(&path, "must be a table");
            continue;
        };
        if let Some(mut settings) = one(&path, table, problems) {
            if let Some(ca) = &mut settings.ca {
                *ca = raw.resolve(&*ca);
            }
            for (key, what) in settings.problems() {
                problems.push(&join(&path, key), what);
            }
            good.push((path, settings));
        }
    }
    let (paths, all): (Vec<String>, Vec<OidcSettings>) = good.into_iter().unzip();
    for (index, key, what) in OidcSettings::clashes(&all) {
        let path = paths.get(index).map_or("identity.oidc", String::as_str);
        problems.push(&join(path, key), what);
    }
    all
}

/// One issuer, where every key has a value of its type. Each is tried by itself, so that each fault is told with its key.
fn one(path: &str, mut table: Map<String, Value>, problems: &mut Problems) -> Option<OidcSettings> {
    let before = problems.0.len();
    refuse_unknown(path, &mut table, &OidcSettings::KEYS, problems);
    for key in ["name", "issuer", "audience"] {
        if !table.contains_key(key) {
            problems.push(&join(path, key), "is missing");
        }
    }
    let sound = serde_json::to_value(OidcSettings::new("name", "https://issuer.example", "audience"));
    if let Ok(Value::Object(sound)) = sound {
        for (key, value) in &table {
            let mut tried = sound.clone();
            tried.insert(key.clone(), value.clone());
            if let Err(error) = serde_json::from_value::<OidcSettings>(Value::Object(tried)) {
                problems.push(&join(path, key), error);
            }
        }
    }
    if problems.0.len() > before {
        return None;
    }
    match serde_json::from_value(Value::Object(table)) {
        Ok(settings) => Some(settings),
        Err(error) => {
            problems.push(path, error);
            None
        }
    }
}

/// Whether a name can be a part of a path that is shown.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
