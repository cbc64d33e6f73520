//! The corpora of the fuzz targets on masks and recordings, replayed with any toolchain, and a little fuzzing without a fuzzer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs,
    unreachable_pub,
    reason = "a test"
)]

mod masks;
mod recordings;

use std::path::PathBuf;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join("../fuzz/corpus")
        .join(target);
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .map(|file| {
            let data = std::fs::read(&file).unwrap();
            (file, data)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn the_committed_corpora_hold() {
    for (target, body) in masks::TARGETS.into_iter().chain(recordings::TARGETS) {
        let inputs = corpus(target);
        assert!(!inputs.is_empty(), "{target}");
        for (file, data) in inputs {
            let held = std::panic::catch_unwind(|| body(&data));
            assert!(held.is_ok(), "{}", file.display());
        }
    }
}

/// Inputs of the corpora, spliced and changed. `GATEWAY_FUZZ_ROUNDS` makes it longer.
#[test]
fn changed_inputs_hold() {
    let rounds = std::env::var("GATEWAY_FUZZ_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(2_000);
    let mut state = 7_u64;
    let mut roll = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below.max(1)
    };
    for (target, body) in masks::TARGETS.into_iter().chain(recordings::TARGETS) {
        let inputs: Vec<_> = corpus(target).into_iter().map(|(_, data)| data).collect();
        for _ in 0..rounds {
            let mut data = inputs[roll(inputs.len())].clone();
            for _ in 0..=roll(3) {
                let at = roll(data.len() + 1);
                match roll(4) {
                    0 if at < data.len() => data[at] = u8::try_from(roll(256)).unwrap(),
                    1 => data.truncate(at),
                    2 => {
                        let other = &inputs[roll(inputs.len())];
                        let tail = data.split_off(at);
                        data.extend_from_slice(&other[roll(other.len() + 1)..]);
                        data.extend_from_slice(&tail);
                    }
                    _ => data.extend_from_slice(&inputs[roll(inputs.len())]),
                }
            }
            let held = std::panic::catch_unwind(|| body(&data));
            assert!(held.is_ok(), "{target}: \"{}\"", data.escape_ascii());
        }
    }
}
