//! The contents of a file that is read, looked through piece by piece.

use gateway_core::detect::{Detectors, legible};

/// How much before a piece is looked at together with it, in bytes: no value that is found is longer, but for keys, which are
/// found by how they begin.
const BEFORE: usize = 4 << 10;

/// What must not be in a file that may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// What is looked for.
    pub detectors: Detectors,
    /// What the client is told where it is found.
    pub text: String,
}

/// One file that is being read.
#[derive(Debug)]
pub(crate) struct Contents {
    looked: Looked,
    /// Where the last piece ended, and what came to it in one run.
    next: u64,
    run: Vec<u8>,
    found: bool,
}

impl Contents {
    /// A file of which nothing was read.
    pub(crate) fn new(looked: Looked) -> Self {
        Self {
            looked,
            next: 0,
            run: Vec::new(),
            found: false,
        }
    }

    /// What the client is told where something is found.
    pub(crate) fn text(&self) -> &str {
        &self.looked.text
    }

    /// Whether something has been found.
    pub(crate) fn is_withheld(&self) -> bool {
        self.found
    }

    /// Whether a piece may go on; none does once something was found.
    pub(crate) fn passes(&mut self, offset: u64, data: &[u8]) -> bool {
        if offset != self.next {
            self.run.clear();
        }
        self.run.extend_from_slice(data);
        self.next = offset.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        // What is no text holds no values that are found by how they are written.
        self.found = self.found || legible(&self.run).is_some_and(|text| self.looked.detectors.finds(&text));
        let known = self.run.len().saturating_sub(BEFORE);
        self.run.drain(..known);
        self.run.shrink_to(BEFORE);
        !self.found
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use gateway_core::detect::{Detector, Kind};
    use gateway_core::resource::Mask;

    /// Cards, and nothing else.
    pub(crate) fn looked() -> Looked {
        let (kind, mask) = (Kind::Card, Mask::Redact);
        Looked {
            detectors: Detectors::new(vec![Detector { kind, mask }]),
            text: "it holds cards".to_owned(),
        }
    }

    #[test]
    fn a_value_is_found_across_pieces_and_nothing_goes_on_behind_it() {
        let text = [b"x".repeat(9000).as_slice(), b" 4111 1111 1111 1111 end"].concat();
        for size in [1, 7, 100, 4096, 9001, 9010] {
            let mut contents = Contents::new(looked());
            let mut passed = 0;
            for (number, piece) in text.chunks(size).enumerate() {
                let offset = u64::try_from(number * size).unwrap();
                if contents.passes(offset, piece) {
                    passed += piece.len();
                }
            }
            assert!(contents.is_withheld() && passed < 9020, "{size}: {passed}");
            assert!(!contents.passes(0, b"x"));
        }
    }

    #[test]
    fn what_is_no_text_passes() {
        let mut contents = Contents::new(looked());
        assert!(contents.passes(0, b"\x1f\x8b\x08\0\0 4111 1111 1111 1111"));
        assert!(!Contents::new(looked()).passes(0, b"caf\xe9 and something: 4111 1111 1111 1111"));
    }

    #[test]
    fn pieces_that_do_not_touch_are_no_run() {
        let mut contents = Contents::new(looked());
        assert!(contents.passes(0, b"4111 1111 "));
        assert!(contents.passes(500, b"1111 1111"));
        assert!(!contents.passes(509, b" 5500 0000 0000 0004"));
    }
}
