//! Texts of one shape share an analysis, so a shape that gathers statements which are not alike is a way around policy.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::string_slice,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a test"
)]

#[path = "shape/mod.rs"]
mod shape;

use proptest::prelude::*;
use shape::{Choices, assert_alike, text};

fn rounds() -> u32 {
    let rounds = std::env::var("GATEWAY_FUZZ_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok());
    rounds.unwrap_or(400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: rounds(), max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A shape shares an analysis between texts that are alike only: else it is a way around policy.
    #[test]
    fn texts_of_one_shape_are_one_statement(
        made in prop::collection::vec(any::<u8>(), 40..400),
        others in prop::collection::vec(any::<u8>(), 30),
    ) {
        assert_alike(&text(&mut Choices::of(&made)), &mut Choices::of(&others));
    }
}

/// The grammar makes enough texts that are compared, and enough whose analysis is shared: else nothing is shown.
#[test]
fn the_grammar_makes_texts_with_shapes() {
    let (mut compared, mut shared) = (0, 0);
    let mut state = 1_u64;
    for _ in 0..300 {
        let bytes: Vec<u8> = (0..300)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        let (one, two) = assert_alike(&text(&mut Choices::of(&bytes)), &mut Choices::of(&bytes[200..]));
        compared += u32::from(one);
        shared += u32::from(two);
    }
    eprintln!("compared {compared}, shared {shared}");
    assert!(
        compared > 20 && shared > 10,
        "compared {compared}, shared {shared}"
    );
}

/// The corpus of the fuzz target, replayed.
#[test]
fn the_committed_corpus_holds() {
    // Where the sources are now: a test that was built in another place is not built again for that.
    let corpus = std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/../fuzz/corpus/shape";
    let files: Vec<_> = std::fs::read_dir(corpus)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    assert!(!files.is_empty());
    for file in files {
        let data = std::fs::read(&file).unwrap();
        for choice in 0..40 {
            let held = std::panic::catch_unwind(|| match data.split_first() {
                Some((0, text)) => {
                    let choices: Vec<u8> = (choice..choice + 20).collect();
                    assert_alike(std::str::from_utf8(text).unwrap(), &mut Choices::of(&choices));
                }
                _ => shape::input(&data),
            });
            assert!(held.is_ok(), "{}", file.display());
        }
    }
}
