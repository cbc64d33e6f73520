//! `Debug` for payload: how much there is, never what it is.

use std::fmt;

/// Prints as `<5 bytes>`; so a log line of a message holds no payload.
pub(crate) struct Hidden<'a>(pub(crate) &'a [u8]);

impl fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_length_only() {
        assert_eq!(format!("{:?}", Hidden(b"secret")), "<6 bytes>");
    }
}
