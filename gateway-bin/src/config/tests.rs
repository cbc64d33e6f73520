//! The table of faults is in `tests/config.rs`, on the binary; here is what that can't see.

use std::time::Duration;

use gateway_core::audit::log::AuditLogOptions;

use super::*;
use crate::cli::{Global, LogFormat};

fn load(text: &str) -> (tempfile::TempDir, anyhow::Result<Config>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.toml");
    std::fs::write(&file, text).unwrap();
    let global = Global {
        config: file,
        data_dir: None,
        log_format: LogFormat::Human,
    };
    let config = Config::load(&global);
    (dir, config)
}

#[test]
fn an_empty_file_is_all_defaults() {
    let (dir, config) = load("");
    let config = config.unwrap();
    assert_eq!(config.data_dir, dir.path().join("data"));
    assert_eq!(config.policy_dir, dir.path().join("policies"));
    assert!(config.listen.adapters.is_empty() && config.listen.control.is_none());
    assert!(config.resources.is_empty());
    assert_eq!(config.audit.log_options(), AuditLogOptions::default());
    assert!(config.audit.options().literals && config.audit.options().mode.is_none());
    assert_eq!(config.limits.sessions, Limits::default().sessions);
}

/// JSON has no such numbers; where they were read as nothing, a prefix that was given would be none.
#[test]
fn numbers_without_end_are_refused_and_not_read_as_absent() {
    let issuer = "[[identity.oidc]]\nname = \"corp\"\nissuer = \"https://a.example\"\naudience = \"g\"\n";
    for (text, key) in [
        ("[audit]\nretain = inf\n".to_owned(), "audit.retain"),
        ("[limits]\nidle = nan\n".to_owned(), "limits.idle"),
        (
            format!("{issuer}group_prefix = -inf\n"),
            "identity.oidc[0].group_prefix",
        ),
        (
            format!("{issuer}authorized_parties = [\"a\", nan]\n"),
            "identity.oidc[0].authorized_parties[1]",
        ),
    ] {
        let told = load(&text).1.err().unwrap().to_string();
        assert!(told.contains(&format!("`{key}`: must be a value")), "{told}");
    }
}

#[test]
fn a_file_that_is_longer_than_any_configuration_is_not_read() {
    let (_dir, config) = load(&"#\n".repeat(3 << 20));
    assert!(config.err().unwrap().to_string().contains("is longer than"));
}

#[test]
fn what_is_shown_can_be_read_again() {
    let (_dir, config) = load("[limits]\nidle = \"5m\"\n[audit]\nmode = \"batched\"\nflush = \"1s\"\n");
    let shown = config.unwrap().to_toml().unwrap();
    let (_dir, again) = load(&shown);
    let again = again.unwrap();
    assert_eq!(again.to_toml().unwrap(), shown);
    assert_eq!(again.limits.idle, Duration::from_secs(300));
    assert_eq!(again.audit.log_options().flush_interval, Duration::from_secs(1));
}

#[test]
fn issuers_are_shown_with_their_defaults_and_reload_without_a_restart() {
    let issuer = "[[identity.oidc]]\nname = \"corp\"\nissuer = \"https://a.example\"\naudience = [\"gateway\"]\n\
                  required_claims = { hd = \"example.com\" }\nca = \"corp.pem\"\n";
    let (dir, config) = load(issuer);
    let config = config.unwrap();
    assert_eq!(
        config.oidc[0].ca.as_deref(),
        Some(dir.path().join("corp.pem").as_path())
    );
    let shown = config.to_toml().unwrap();
    for part in [
        "subject_claim = \"sub\"",
        "groups_claim = \"groups\"",
        "clock_skew = \"30s\"",
        "EdDSA",
        "example.com",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let (_dir, again) = load(&shown);
    assert_eq!(again.unwrap().oidc, config.oidc);
    assert!(config.fixed().get("identity").is_none());
}

#[test]
fn what_the_audit_trail_keeps_and_where_it_goes_is_read() {
    let (dir, config) = load(
        "[audit]\nretain = \"365d\"\nretain_bytes = 1000000000\nsegment_age = \"0s\"\ncheckpoint_interval = \"5s\"\n\
         [[audit.export]]\nkind = \"file\"\npath = \"trail.jsonl\"\n\
         [[audit.export]]\nkind = \"otlp\"\nname = \"siem\"\nurl = \"https://siem.example:4318\"\n\
         headers = { authorization = { env = \"SIEM\" } }\n",
    );
    let config = config.unwrap();
    let options = config.audit.log_options();
    assert_eq!(options.retain.age, Some(Duration::from_secs(365 * 86_400)));
    assert_eq!(options.retain.bytes, Some(1_000_000_000));
    assert_eq!(
        (options.segment_age, options.checkpoint_interval),
        (None, Duration::from_secs(5))
    );
    let names: Vec<&str> = config
        .audit
        .exports()
        .iter()
        .map(|export| export.name())
        .collect();
    assert_eq!(names, ["file", "siem"]);
    assert_eq!(
        config.audit.exports()[0].path,
        Some(dir.path().join("trail.jsonl"))
    );
    let (_dir, again) = load(&config.to_toml().unwrap());
    assert_eq!(again.unwrap().audit.exports().len(), 2);
}

/// Keys of a section with their defaults, as the book's tables have them.
fn documented(book: &str) -> BTreeMap<(String, String), Option<String>> {
    let mut all = BTreeMap::new();
    let (mut section, mut with_default) = (None, false);
    for line in book.lines() {
        if line.starts_with('#') {
            let name = line.split_once("`[").and_then(|(_, rest)| rest.split_once("]`"));
            section = name.map(|(name, _)| name.to_owned());
            continue;
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if cells.get(1) == Some(&"key") {
            with_default = cells.get(2) == Some(&"default");
        }
        let (Some(section), Some(keys)) = (&section, cells.get(1)) else {
            continue;
        };
        for key in keys
            .split(", ")
            .filter_map(|key| key.strip_prefix('`')?.strip_suffix('`'))
        {
            let default = cells[2].strip_prefix('`').and_then(|text| text.strip_suffix('`'));
            let default = default.filter(|_| with_default).map(str::to_owned);
            all.insert((section.clone(), key.to_owned()), default);
        }
    }
    all
}

#[test]
fn the_book_has_every_key_with_its_default() {
    let page = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../docs/src/configuration.md");
    let documented = documented(&std::fs::read_to_string(page).unwrap());
    let (dir, config) = load("");
    let shown: toml::Table = config.unwrap().to_toml().unwrap().parse().unwrap();
    let mut checked = 0;
    for (section, value) in &shown {
        for (key, value) in value.as_table().into_iter().flatten() {
            let place = (section.clone(), key.clone());
            let told = documented.get(&place);
            assert!(
                told.is_some(),
                "docs/src/configuration.md does not have `{section}.{key}`"
            );
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let value = value
                .trim_start_matches(dir.path().to_str().unwrap())
                .trim_start_matches('/');
            assert_eq!(
                told.unwrap().as_deref(),
                Some(value),
                "the default of `{section}.{key}`"
            );
            checked += 1;
        }
    }
    assert!(checked >= 15, "{checked} keys were looked at");
    for ((section, key), default) in &documented {
        // Sections of adapters and lists are shown only where they are written.
        if !shown.contains_key(section) {
            continue;
        }
        let there = shown.get(section).and_then(|table| table.get(key));
        assert!(
            default.is_none() || there.is_some(),
            "the book has `{section}.{key}`, which is no key with a default"
        );
    }
}
