//! The corpus of the fuzz target `config`, replayed with any toolchain; and where its seeds come from.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test"
)]

#[path = "config_text/mod.rs"]
mod config_text;

use std::path::{Path, PathBuf};

fn root(path: &str) -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join("..")
        .join(path)
}

fn corpus() -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root("fuzz/corpus/config"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let text = std::fs::read(&file).unwrap();
            (file, text)
        })
        .collect()
}

#[test]
fn the_committed_corpus_holds() {
    let inputs = corpus();
    assert!(inputs.len() >= 10, "{}", inputs.len());
    for (file, data) in inputs {
        let held = std::panic::catch_unwind(|| config_text::input(&data));
        assert!(held.is_ok(), "{}", file.display());
    }
}

/// A line of one seed in the place of a line of another, and lines that are left out: what is nearly a configuration.
#[test]
fn changed_configurations_hold() {
    let inputs = corpus();
    let texts: Vec<&str> = inputs
        .iter()
        .filter_map(|(_, data)| std::str::from_utf8(data).ok())
        .collect();
    let lines: Vec<&str> = texts.iter().flat_map(|text| text.lines()).collect();
    let rounds = std::env::var("GATEWAY_FUZZ_ROUNDS").ok();
    let rounds: usize = rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(200);
    let mut state = 1_u64;
    let mut roll = |sides: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % sides
    };
    for _ in 0..rounds {
        let mut text: Vec<&str> = texts[roll(texts.len())].lines().collect();
        for _ in 0..=roll(3) {
            let at = roll(text.len() + 1);
            let other = lines[roll(lines.len())];
            match text.get_mut(at) {
                Some(line) if roll(3) > 0 => *line = other,
                _ if roll(2) == 0 => text.truncate(at),
                _ => text.insert(at, other),
            }
        }
        let text = text.join("\n");
        let held = std::panic::catch_unwind(|| config_text::input(text.as_bytes()));
        assert!(held.is_ok(), "{text}");
    }
}

/// The examples of the book and the configurations of the other tests are the seeds; `GATEWAY_SEED_CORPUS=1` writes them.
#[test]
fn seed() {
    if std::env::var_os("GATEWAY_SEED_CORPUS").is_none() {
        return;
    }
    let put = |name: &str, text: &str| std::fs::write(root("fuzz/corpus/config").join(name), text).unwrap();
    std::fs::create_dir_all(root("fuzz/corpus/config")).unwrap();
    for page in std::fs::read_dir(root("docs/src")).unwrap() {
        let page = page.unwrap().path();
        if page.extension().is_none_or(|kind| kind != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&page).unwrap();
        let stem = page.file_stem().unwrap().to_string_lossy().into_owned();
        for (n, example) in text.split("```toml\n").skip(1).enumerate() {
            put(
                &format!("book-{stem}-{n:02}"),
                example.split("```").next().unwrap(),
            );
        }
    }
    let sections = [
        ("empty", ""),
        ("not-toml", "[listen"),
        (
            "unknown",
            "[listn]\npostgres = \"127.0.0.1:1\"\n[limits]\nidel = \"5m\"\n",
        ),
        (
            "same-address",
            "[listen]\npostgres = \"127.0.0.1:1\"\ncontrol = \"127.0.0.1:1\"\n",
        ),
        (
            "wrong-types",
            "listen = 1\ntls = []\nidentity = true\nresource = { a = 1 }\n[limits]\nidle = 5\n",
        ),
        (
            "audit",
            "[audit]\nmode = \"batched\"\nliterals = false\nbatched = \"written\"\nretain = \"365d\"\n\
             retain_bytes = 1000000000\nsegment_age = \"0s\"\ncheckpoint_interval = \"5s\"\n\
             [[audit.export]]\nkind = \"file\"\npath = \"trail.jsonl\"\n\
             [[audit.export]]\nkind = \"syslog\"\naddress = \"logs.example:6514\"\ntls = \"disable\"\n\
             [[audit.export]]\nkind = \"otlp\"\nname = \"siem\"\nurl = \"https://siem.example:4318\"\n\
             headers = { authorization = { env = \"SIEM\" } }\n",
        ),
        (
            "resource",
            "[[resource]]\nname = \"orders\"\nprotocol = \"postgres\"\naddress = \"127.0.0.1:5432\"\n\
             labels = { env = \"prod\" }\naudit = \"durable\"\ntls = \"disable\"\ndatabase = \"orders\"\n\
             credential = { kind = \"static\", username = \"u\", password = { file = \"pw\" } }\n\
             [[resource.tag]]\ntag = \"pii\"\ncolumns = [\"public.customer.email\"]\n",
        ),
        (
            "issuer",
            "[[identity.oidc]]\nname = \"corp\"\nissuer = \"https://a.example\"\naudience = [\"gateway\"]\n\
             required_claims = { hd = \"example.com\" }\nca = \"corp.pem\"\nclock_skew = \"1m\"\n",
        ),
        ("no-number", "[audit]\nretain = inf\n[tls]\ncert = nan\n"),
        ("adapter", "[postgres]\nnonsense = 1\n[mysql]\n[gopher]\n"),
    ];
    for (name, text) in sections {
        put(&format!("part-{name}"), text);
    }
}
