//! What a sensitive value becomes. How values look on the wire is the adapter's; what a text, whole, becomes is told here,
//! so that one tag means the same on every protocol.

use std::fmt;
use std::io;
use std::sync::Arc;

use aws_lc_rs::hmac;
use bytes::BytesMut;
use zeroize::Zeroizing;

use crate::resource::Mask;

pub mod json;
pub mod token;

/// What stands in the place of a redacted text.
pub const REDACTED: &str = "[redacted]";
/// What stands before the characters that a partial mask leaves; its length says nothing of the value's.
const HIDDEN: &[u8] = b"****";
/// Most characters that a partial mask leaves.
const LEFT: usize = 4;

/// The key of masks that are keyed. Equal values give equal results under one key, and nobody without it can try values.
#[derive(Clone)]
pub struct MaskKey(Arc<hmac::Key>);

impl fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaskKey(..)")
    }
}

impl MaskKey {
    /// Its bytes, as they are kept.
    pub const LEN: usize = 32;

    /// Fresh bytes, to be kept where equal values shall have equal hashes after a restart.
    ///
    /// # Errors
    ///
    /// The system gives no random numbers.
    pub fn generate() -> io::Result<Zeroizing<[u8; Self::LEN]>> {
        let mut bytes = Zeroizing::new([0; Self::LEN]);
        aws_lc_rs::rand::fill(bytes.as_mut_slice())
            .map_err(|_| io::Error::other("the system gives no random numbers"))?;
        Ok(bytes)
    }

    /// A key that ends with the process.
    ///
    /// # Errors
    ///
    /// The system gives no random numbers.
    pub fn ephemeral() -> io::Result<Self> {
        Ok(Self::new(&*Self::generate()?))
    }

    /// From bytes that were kept. They are as secret as the values.
    pub fn new(bytes: &[u8; Self::LEN]) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    /// The keyed digest of a value (HMAC-SHA-256).
    pub fn digest(&self, value: &[u8]) -> [u8; 32] {
        let tag = hmac::sign(&self.0, value);
        let mut digest = [0; 32];
        for (to, from) in digest.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        digest
    }
}

impl Mask {
    /// Of several masks of one value, the one that leaves least of it.
    #[must_use]
    pub fn strictest(self, other: Self) -> Self {
        if self.strictness() >= other.strictness() {
            self
        } else {
            other
        }
    }

    fn strictness(self) -> u8 {
        match self {
            Self::Partial => 0,
            Self::Year => 1,
            Self::Token => 2,
            Self::Hash => 3,
            Self::Redact => 4,
            Self::Null => 5,
        }
    }

    /// What it makes of a text, appended to `out`. `false`: NULL, and nothing is appended.
    ///
    /// A text that is no UTF-8 has no characters that could be told apart, and is redacted where some would stay.
    pub fn text(self, value: &[u8], key: &MaskKey, out: &mut BytesMut) -> bool {
        match self {
            Self::Null => return false,
            Self::Partial => match std::str::from_utf8(value) {
                Ok(text) => partial(text, out),
                Err(_) => out.extend_from_slice(REDACTED.as_bytes()),
            },
            Self::Hash => {
                for byte in key.digest(value).iter().take(16) {
                    out.extend_from_slice(&hex(*byte));
                }
            }
            Self::Year => match value.first_chunk::<5>() {
                Some([year @ .., b'-']) if year.iter().all(u8::is_ascii_digit) => {
                    out.extend_from_slice(year);
                }
                _ => out.extend_from_slice(REDACTED.as_bytes()),
            },
            Self::Redact | Self::Token => out.extend_from_slice(REDACTED.as_bytes()),
        }
        true
    }
}

/// The last characters, but never more than half of them.
fn partial(text: &str, out: &mut BytesMut) {
    out.extend_from_slice(HIDDEN);
    // A text of eight characters leaves four; counting further would tell nothing more.
    let count = text.chars().take(LEFT.saturating_mul(2)).count();
    let left = LEFT.min(count / 2);
    if let Some((start, _)) = left
        .checked_sub(1)
        .and_then(|at| text.char_indices().rev().nth(at))
    {
        out.extend_from_slice(text.get(start..).unwrap_or_default().as_bytes());
    }
}

fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [byte >> 4, byte & 15].map(|nibble| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(mask: Mask, value: &str) -> Option<String> {
        let key = MaskKey::new(&[7; 32]);
        let mut out = BytesMut::new();
        let there = mask.text(value.as_bytes(), &key, &mut out);
        there.then(|| String::from_utf8(out.to_vec()).unwrap())
    }

    #[test]
    fn a_partial_mask_leaves_at_most_four_characters_and_at_most_half() {
        for (value, expected) in [
            ("4929123456700037", "****0037"),
            ("12345678", "****5678"),
            ("1234567", "****567"),
            ("ab", "****b"),
            ("a", "****"),
            ("", "****"),
            ("päßwörtchén", "****chén"),
        ] {
            assert_eq!(masked(Mask::Partial, value).as_deref(), Some(expected), "{value}");
        }
        let key = MaskKey::new(&[7; 32]);
        let mut out = BytesMut::new();
        assert!(Mask::Partial.text(b"secret \xff", &key, &mut out));
        assert_eq!(&out[..], REDACTED.as_bytes());
    }

    #[test]
    fn a_hash_is_the_same_for_the_same_value_and_key_alone() {
        let one = masked(Mask::Hash, "a@b.test").unwrap();
        assert_eq!(one.len(), 32);
        assert_eq!(masked(Mask::Hash, "a@b.test").unwrap(), one);
        assert_ne!(masked(Mask::Hash, "a@b.tesu").unwrap(), one);
        assert_ne!(
            MaskKey::new(&[8; 32]).digest(b"a@b.test"),
            MaskKey::new(&[7; 32]).digest(b"a@b.test")
        );
    }

    #[test]
    fn a_year_is_left_of_a_date_and_nothing_of_another_text() {
        assert_eq!(masked(Mask::Year, "1984-06-01").as_deref(), Some("1984"));
        assert_eq!(masked(Mask::Year, "1 June 1984").as_deref(), Some(REDACTED));
        assert_eq!(masked(Mask::Null, "x"), None);
    }

    #[test]
    fn of_two_masks_the_one_that_leaves_less_holds() {
        assert_eq!(Mask::Partial.strictest(Mask::Redact), Mask::Redact);
        assert_eq!(Mask::Null.strictest(Mask::Hash), Mask::Null);
        assert_eq!(Mask::Hash.strictest(Mask::Year), Mask::Hash);
    }
}
