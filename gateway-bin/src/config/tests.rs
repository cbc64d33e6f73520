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
