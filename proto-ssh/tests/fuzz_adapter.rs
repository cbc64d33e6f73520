//! The fuzz target of the whole adapter, replayed with any toolchain: its corpus, and scripts that are made up.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::arithmetic_side_effects,
    unreachable_pub,
    missing_docs,
    dead_code,
    reason = "a test"
)]

mod pipes;
mod scripts;
mod seeded;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use seeded::Seeded;

fn corpus() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../fuzz/corpus/ssh-adapter")
}

/// `GATEWAY_SEED_CORPUS=1` writes it.
#[test]
fn the_committed_corpus_holds() {
    if std::env::var_os("GATEWAY_SEED_CORPUS").is_some() {
        fs::create_dir_all(corpus()).unwrap();
        for (name, script) in scripts::seeds() {
            fs::write(corpus().join(name), script).unwrap();
        }
    }
    let mut files: Vec<_> = fs::read_dir(corpus())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let script = fs::read(&file).unwrap();
        let played = std::panic::catch_unwind(|| pipes::adapter(&script));
        assert!(played.is_ok(), "{}", file.display());
    }
}

/// Scripts that are made up, and spoiled. `GATEWAY_FUZZ_ROUNDS` makes it longer, `GATEWAY_FUZZ_SEED` different.
#[test]
fn made_up_scripts_hold() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let rounds = number("GATEWAY_FUZZ_ROUNDS").unwrap_or(2000);
    let first = number("GATEWAY_FUZZ_SEED").unwrap_or(1);
    let mut seen = BTreeMap::new();
    for seed in first..first + rounds {
        let script = scripts::made_up(&mut Seeded(seed));
        let played = std::panic::catch_unwind(|| pipes::adapter(&script));
        if let Ok(played) = &played {
            for (what, often) in played {
                *seen.entry(*what).or_insert(0) += often;
            }
        } else {
            let file = std::env::temp_dir().join(format!("ssh-adapter-{seed}"));
            fs::write(&file, &script).unwrap();
            panic!("GATEWAY_FUZZ_SEED={seed}; the script is in {}", file.display());
        }
    }
    // What never gets anywhere finds nothing.
    for what in [
        "session", "exec", "env", "started", "file", "forward", "listen", "back", "refused", "echo",
    ] {
        assert!(
            rounds < 2000 || seen.get(what).is_some_and(|often| *often > 10),
            "{what}: {seen:?}"
        );
    }
    eprintln!("{rounds} scripts: {seen:?}");
}

/// What the gateway holds of what a peer sends in spite of its windows, while the other side reads nothing: the bounds of
/// `docs/src/ssh.md`, with what the pipes hold.
#[test]
fn what_nobody_takes_is_not_read_without_bounds() {
    let played = |name: &str| pipes::adapter(&fs::read(corpus().join(name)).unwrap());
    let sent = 16 << 20;
    let of_client = played("flood-of-input-that-nobody-reads")["bytes of the client"];
    assert!(
        (8 << 20..10 << 20).contains(&of_client) && of_client < sent,
        "{of_client}"
    );
    let of_target = played("flood-of-output-that-nobody-reads")["bytes of a target"];
    assert!(
        (1 << 20..6 << 20).contains(&of_target) && of_target < sent,
        "{of_target}"
    );
}
