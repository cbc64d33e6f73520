//! The body of the fuzz target `config`; `fuzz/` calls it, and `config_corpus.rs` replays its corpus.

use std::path::Path;

/// Where the text is said to be; relative paths start there, and nothing is there.
const FILE: &str = "/gateway-fuzz/none/gateway.toml";

/// A configuration's text is checked twice alike: it has faults, each with the name of what is wrong, or it is shown; and
/// what is shown can be read again, as the same.
pub fn input(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let read =
        |text: &str| gateway::config::check(Path::new(FILE), text).map_err(|error| format!("{error:#}"));
    let first = read(text);
    assert_eq!(read(text), first, "twice the same text");
    match first {
        // A secret in a wrong place is hidden, and then it is not the same configuration any more.
        Ok(shown) if shown.contains("(hidden)") => {}
        Ok(shown) => assert_eq!(read(&shown), Ok(shown.clone()), "what is shown of {text:?}"),
        Err(told) => names_its_faults(&told),
    }
}

/// `told` begins with the file; where it has a list, each line of it begins with a key.
fn names_its_faults(told: &str) {
    assert!(told.contains(FILE), "{told}");
    let (head, list) = told.split_once('\n').unwrap_or((told, ""));
    let Some((_, count)) = head.split_once(" has ") else {
        assert!(head.contains("is no TOML"), "{told}");
        return;
    };
    let count: usize = count.split(' ').next().unwrap().parse().unwrap();
    // A key of the text may have line ends of its own.
    let faults = list.lines().filter(|line| line.starts_with("  `")).count();
    assert!((1..=faults).contains(&count), "{told}");
}
