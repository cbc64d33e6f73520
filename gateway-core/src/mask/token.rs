//! Tokens: values of the same form that stand for the real ones, and lead back to them with the key.
//!
//! A token is deterministic, so that equality, grouping and joins over masked data mean what they mean over the data. A
//! number stays a number of as many digits, a card stays valid by Luhn's sum, an e-mail address stays one (in the domain
//! `token.invalid`, which RFC 2606 keeps from ever being delivered to), a uuid stays one; any other text becomes `tok_` and letters.
//!
//! Digits are encrypted with FF1 (NIST SP 800-38G), texts with AES-SIV (RFC 5297), each under keys of one tag of one
//! resource. A token of a text is authentic: another text is no token. Of digits every number is a token of another one.

use std::fmt;

use aes::Aes256;
use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use bytes::{BufMut, BytesMut};
use fpe::ff1::{FF1, FlexibleNumeralString};
use zeroize::Zeroizing;

use super::{MaskKey, REDACTED};
use crate::detect;

/// What a token of a text begins with.
const PREFIX: &[u8] = b"tok_";
/// Where addresses that are tokens are.
pub(crate) const DOMAIN: &[u8] = b".token.invalid";
/// Longest text that gets a token; a longer one is redacted.
const MAX_TEXT: usize = 64 << 10;
/// Longest address that stays one: its token must fit into a name of the DNS.
const MAX_ADDRESS: usize = 128;
/// Longest local part and label of an address that is a token.
const LABEL: usize = 48;
/// Fewest digits that FF1 can permute: a million values (SP 800-38G, revision 1).
const MIN_DIGITS: usize = 6;
/// Most digits that are taken for a number.
const MAX_DIGITS: usize = 40;
/// Numbers of the cards for which Luhn's sum is kept.
const CARD: std::ops::RangeInclusive<usize> = 12..=19;
/// Rounds of a permutation that is walked until its result fits: each fits with a chance of a tenth or more.
const MAX_ROUNDS: usize = 2_000;
/// Numbers below this have tokens below this, whatever their length.
const SMALL: u64 = 1_000_000_000;
const SMALL_DIGITS: usize = 9;

/// Makes and reads the tokens of one tag in one resource.
pub struct Tokens {
    class: Box<str>,
    siv: Zeroizing<[u8; 64]>,
    digits: Option<FF1<Aes256>>,
    nibbles: Option<FF1<Aes256>>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("class", &self.class)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Tokens {
    fn eq(&self, other: &Self) -> bool {
        self.class == other.class && *self.siv == *other.siv
    }
}

impl Eq for Tokens {}

/// Which way a value goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From the value to its token.
    Hide,
    /// Back.
    Reveal,
}

impl Tokens {
    /// Those of the tag in the resource under the key.
    pub fn new(key: &MaskKey, resource: &str, tag: &str) -> Self {
        let derive = |use_of: &str| {
            let label = format!("token\0{use_of}\0{resource}\0{tag}");
            Zeroizing::new(key.digest(label.as_bytes()))
        };
        let mut siv = Zeroizing::new([0; 64]);
        let halves = [derive("siv mac"), derive("siv enc")];
        for (to, from) in siv.iter_mut().zip(halves.iter().flat_map(|half| half.iter())) {
            *to = *from;
        }
        let ff1 = |use_of, radix| FF1::<Aes256>::new(derive(use_of).as_slice(), radix).ok();
        Self {
            class: format!("{resource}/{tag}").into(),
            siv,
            digits: ff1("digits", 10),
            nibbles: ff1("nibbles", 16),
        }
    }

    /// Appends the token of a text.
    pub fn text(&self, value: &[u8], out: &mut BytesMut) {
        if self.number(value, Way::Hide, out) {
            return;
        }
        let sealed = (value.len() <= MAX_TEXT).then(|| self.seal(value)).flatten();
        let Some(sealed) = sealed else {
            out.extend_from_slice(REDACTED.as_bytes());
            return;
        };
        if value.len() <= MAX_ADDRESS && detect::is_email(value) {
            let (local, mut rest) = sealed.split_at(LABEL.min(sealed.len() / 2));
            out.extend_from_slice(local);
            let mut before = b'@';
            while !rest.is_empty() {
                let (label, after) = rest.split_at(LABEL.min(rest.len()));
                out.put_u8(before);
                out.extend_from_slice(label);
                before = b'.';
                rest = after;
            }
            out.extend_from_slice(DOMAIN);
        } else {
            out.extend_from_slice(PREFIX);
            out.extend_from_slice(&sealed);
        }
    }

    /// Appends the text that a token stands for. `false`: it is none, and nothing is appended.
    pub fn reveal_text(&self, token: &[u8], out: &mut BytesMut) -> bool {
        if self.number(token, Way::Reveal, out) {
            return true;
        }
        let sealed: Vec<u8> = if let Some(sealed) = token.strip_prefix(PREFIX) {
            sealed.to_vec()
        } else if let Some(address) = token.strip_suffix(DOMAIN) {
            address
                .iter()
                .copied()
                .filter(|byte| !matches!(byte, b'@' | b'.'))
                .collect()
        } else {
            return false;
        };
        match self.open(&sealed) {
            Some(text) => {
                out.extend_from_slice(&text);
                true
            }
            None => false,
        }
    }

    /// The token of an integer of a type whose largest value is `most`: of as many digits, or of at most nine where it
    /// has no more. `None`: it has none.
    pub fn integer(&self, value: i64, most: i64) -> Option<i64> {
        self.integer_way(value, most, Way::Hide)
    }

    /// The integer that a token stands for.
    pub fn reveal_integer(&self, token: i64, most: i64) -> Option<i64> {
        self.integer_way(token, most, Way::Reveal)
    }

    fn integer_way(&self, value: i64, most: i64, way: Way) -> Option<i64> {
        let most = u64::try_from(most).ok().filter(|most| *most >= SMALL)?;
        let size = value.unsigned_abs();
        if size > most {
            return None;
        }
        let text = if size < SMALL {
            format!("{size:0SMALL_DIGITS$}")
        } else {
            size.to_string()
        };
        let number = |digits: &[u16]| {
            digits.iter().try_fold(0_u64, |number, digit| {
                number.checked_mul(10)?.checked_add(u64::from(*digit))
            })
        };
        let digits: Vec<u16> = text.bytes().map(|byte| u16::from(byte & 15)).collect();
        let fits = |digits: &[u16]| {
            let one_of = number(digits);
            one_of.is_some_and(|one| {
                one <= most && (size < SMALL || one >= SMALL && digits.first() != Some(&0))
            })
        };
        let other = number(&permute(self.digits.as_ref()?, b"integer", digits, way, fits)?)?;
        let other = i64::try_from(other).ok()?;
        Some(if value < 0 { other.saturating_neg() } else { other })
    }

    /// Appends the token of a decimal number as text: of the same digits before and behind the point. `false`: it has
    /// none, and nothing is appended.
    pub fn decimal(&self, value: &[u8], out: &mut BytesMut) -> bool {
        self.decimal_way(value, Way::Hide, out)
    }

    /// Appends the number that such a token stands for.
    pub fn reveal_decimal(&self, token: &[u8], out: &mut BytesMut) -> bool {
        self.decimal_way(token, Way::Reveal, out)
    }

    fn decimal_way(&self, value: &[u8], way: Way, out: &mut BytesMut) -> bool {
        let plain = value.strip_prefix(b"-").unwrap_or(value);
        let whole = plain.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let is_number = match plain.get(whole..) {
            Some([]) => true,
            Some([b'.', rest @ ..]) => rest.iter().all(u8::is_ascii_digit),
            _ => false,
        };
        if whole == 0 || !is_number {
            return false;
        }
        let long = whole > 1;
        let fits = move |digits: &[u16]| !long || digits.first() != Some(&0);
        self.digits_of(value, b"decimal", way, fits, out)
    }

    /// The token of a uuid: version and variant stay (RFC 9562, 4).
    pub fn uuid(&self, value: [u8; 16]) -> Option<[u8; 16]> {
        self.uuid_way(value, Way::Hide)
    }

    /// The uuid that a token stands for.
    pub fn reveal_uuid(&self, token: [u8; 16]) -> Option<[u8; 16]> {
        self.uuid_way(token, Way::Reveal)
    }

    fn uuid_way(&self, mut value: [u8; 16], way: Way) -> Option<[u8; 16]> {
        let kept = |at: usize| matches!(at, 12 | 16);
        let nibbles = value.iter().flat_map(|byte| [byte >> 4, byte & 15]).enumerate();
        let free: Vec<u16> = nibbles
            .filter(|(at, _)| !kept(*at))
            .map(|(_, nibble)| u16::from(nibble))
            .collect();
        let mut other = permute(self.nibbles.as_ref()?, b"uuid", free, way, |_| true)?.into_iter();
        for (at, byte) in value.iter_mut().enumerate() {
            let mut nibble = |place: usize, old: u8| {
                if kept(place) {
                    Some(old)
                } else {
                    other.next().and_then(|nibble| u8::try_from(nibble).ok())
                }
            };
            let place = at.saturating_mul(2);
            let high = nibble(place, *byte >> 4)?;
            let low = nibble(place.saturating_add(1), *byte & 15)?;
            *byte = high << 4 | low;
        }
        Some(value)
    }

    /// A text that is a number of some kind (a card, an account, a telephone): its digits change, what is between them
    /// stays, and so does whether Luhn's sum holds.
    fn number(&self, value: &[u8], way: Way, out: &mut BytesMut) -> bool {
        let others = value.iter().filter(|byte| !byte.is_ascii_digit());
        let count = value.iter().filter(|byte| byte.is_ascii_digit()).count();
        let plain = others.clone().all(|byte| b" -./()+".contains(byte));
        if !plain || others.count() > count {
            return false;
        }
        let luhn = |digits: &[u16]| {
            let digits = digits
                .iter()
                .map(|digit| u8::try_from(*digit).unwrap_or_default());
            CARD.contains(&digits.len()) && detect::luhn(digits)
        };
        let digits: Vec<u16> = digits(value).collect();
        let valid = luhn(&digits);
        self.digits_of(value, b"number", way, |digits| luhn(digits) == valid, out)
    }

    /// Appends a text with its digits permuted.
    fn digits_of(
        &self,
        value: &[u8],
        tweak: &[u8],
        way: Way,
        fits: impl Fn(&[u16]) -> bool,
        out: &mut BytesMut,
    ) -> bool {
        let digits: Vec<u16> = digits(value).collect();
        if !(MIN_DIGITS..=MAX_DIGITS).contains(&digits.len()) {
            return false;
        }
        let permuted = self
            .digits
            .as_ref()
            .and_then(|ff1| permute(ff1, tweak, digits, way, fits));
        let Some(permuted) = permuted else { return false };
        let mut permuted = permuted.into_iter().filter_map(|digit| u8::try_from(digit).ok());
        for &byte in value {
            out.put_u8(if byte.is_ascii_digit() {
                permuted.next().map_or(b'0', |digit| b'0' | digit)
            } else {
                byte
            });
        }
        true
    }

    fn seal(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut siv = Aes256Siv::new_from_slice(self.siv.as_slice()).ok()?;
        let sealed = siv.encrypt([b"text"], value).ok()?;
        Some(base32(&sealed))
    }

    fn open(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        if sealed.len() > MAX_TEXT.saturating_mul(2) {
            return None;
        }
        let sealed = unbase32(sealed)?;
        let mut siv = Aes256Siv::new_from_slice(self.siv.as_slice()).ok()?;
        siv.decrypt([b"text"], &sealed).ok().map(Zeroizing::new)
    }
}

fn digits(value: &[u8]) -> impl Iterator<Item = u16> {
    let digits = value.iter().filter(|byte| byte.is_ascii_digit());
    digits.map(|byte| u16::from(byte & 15))
}

/// Permutes the numerals until the result `fits`, as the value itself does: a permutation of those that fit.
fn permute(
    ff1: &FF1<Aes256>,
    tweak: &[u8],
    mut numerals: Vec<u16>,
    way: Way,
    fits: impl Fn(&[u16]) -> bool,
) -> Option<Vec<u16>> {
    if !fits(&numerals) {
        return None;
    }
    for _ in 0..MAX_ROUNDS {
        let text = FlexibleNumeralString::from(numerals);
        let next = match way {
            Way::Hide => ff1.encrypt(tweak, &text),
            Way::Reveal => ff1.decrypt(tweak, &text),
        };
        numerals = next.ok()?.into();
        if fits(&numerals) {
            return Some(numerals);
        }
    }
    None
}

/// RFC 4648, 6, in small letters and without padding.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

fn base32(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len().saturating_mul(8).div_ceil(5));
    let (mut bits, mut count) = (0_u32, 0_u32);
    let mut put = |five: u32| {
        let letter = usize::try_from(five & 31).ok().and_then(|at| ALPHABET.get(at));
        text.extend(letter);
    };
    for &byte in bytes {
        bits = (bits << 8 | u32::from(byte)) & 0xfff;
        count = count.saturating_add(8);
        while count >= 5 {
            count = count.saturating_sub(5);
            put(bits >> count);
        }
    }
    if count > 0 {
        put(bits << 5_u32.saturating_sub(count));
    }
    text
}

fn unbase32(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len().saturating_mul(5) / 8);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for byte in text {
        let at = ALPHABET
            .iter()
            .position(|letter| *letter == byte.to_ascii_lowercase())?;
        bits = (bits << 5 | u32::try_from(at).ok()?) & 0xfff;
        count = count.saturating_add(5);
        if count >= 8 {
            count = count.saturating_sub(8);
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    // What is left over must be nothing, so that one value has one token.
    let rest = bits & (1_u32 << count).saturating_sub(1);
    (count < 5 && rest == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(tag: &str) -> Tokens {
        Tokens::new(&MaskKey::new(&[7; 32]), "orders-db", tag)
    }

    fn hidden(tokens: &Tokens, value: &str) -> String {
        let mut out = BytesMut::new();
        tokens.text(value.as_bytes(), &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn revealed(tokens: &Tokens, token: &str) -> Option<String> {
        let mut out = BytesMut::new();
        let there = tokens.reveal_text(token.as_bytes(), &mut out);
        there.then(|| String::from_utf8(out.to_vec()).unwrap())
    }

    #[test]
    fn a_token_leads_back_and_keeps_the_form() {
        let tokens = tokens("pii");
        for value in [
            "heron@mailfort.test",
            "a.very.long.address.of.somebody.with.many.names+and+more@subdomain.of.a.long.example.company.test",
            "4929123456700037",
            "4929 1234 5670 0038",
            "4929123456700038",
            "+44 7700 900123",
            "917-46-0001",
            "Ada Lovelace",
            "päßwörtchén",
            "12345",
            "",
            "x",
        ] {
            let token = hidden(&tokens, value);
            assert_ne!(token, value);
            assert_eq!(revealed(&tokens, &token).as_deref(), Some(value), "{token}");
            assert_eq!(hidden(&tokens, value), token);
            if value.contains('@') {
                assert!(detect::is_email(token.as_bytes()), "{token}");
                assert!(
                    token.len() < 250 && token.split(['@', '.']).all(|label| label.len() < 64),
                    "{token}"
                );
            }
        }
    }

    #[test]
    fn digits_stay_digits_and_a_card_stays_valid() {
        let tokens = tokens("pci");
        for (value, valid) in [
            ("4929123456700038", true),
            ("4111111111111112", false),
            ("123456789012", false),
        ] {
            let luhn = |text: &str| detect::luhn(text.bytes().map(|byte| byte & 15));
            assert_eq!(luhn(value), valid, "{value}");
            let token = hidden(&tokens, value);
            assert_eq!(token.len(), value.len());
            assert!(token.bytes().all(|byte| byte.is_ascii_digit()), "{token}");
            assert_eq!(luhn(&token), valid, "{token}");
        }
        let token = hidden(&tokens, "4929-1234-5670-0038");
        assert!(
            token
                .bytes()
                .enumerate()
                .all(|(at, byte)| (byte == b'-') == matches!(at, 4 | 9 | 14)),
            "{token}"
        );
    }

    /// A token is one for its tag alone, and a text that was changed is none.
    #[test]
    fn tokens_of_another_tag_or_changed_ones_reveal_nothing() {
        let (one, other) = (tokens("a"), tokens("b"));
        for value in ["heron@mailfort.test", "Ada Lovelace"] {
            let token = hidden(&one, value);
            assert_ne!(token, hidden(&other, value));
            assert_eq!(revealed(&other, &token), None);
            for at in 0..token.len() {
                let mut changed = token.clone().into_bytes();
                changed[at] ^= 1;
                let changed = String::from_utf8(changed).unwrap();
                assert_ne!(revealed(&one, &changed).as_deref(), Some(value), "{changed}");
            }
            assert_eq!(revealed(&one, value), None);
        }
    }

    #[test]
    fn integers_keep_their_type_their_sign_and_their_length() {
        let tokens = tokens("id");
        let (int4, int8) = (i64::from(i32::MAX), i64::MAX);
        for (value, most) in [
            (0, int4),
            (1, int8),
            (-7, int4),
            (999_999_999, int4),
            (1_000_000_000, int4),
            (i64::from(i32::MAX), int4),
            (4_929_123_456_700_037, int8),
            (i64::MAX, int8),
            (-i64::MAX, int8),
        ] {
            let token = tokens.integer(value, most).unwrap();
            assert!(
                token.abs() <= most && (token < 0) == (value < 0 && token != 0),
                "{value} {token}"
            );
            if value.abs() >= 1_000_000_000 {
                assert_eq!(token.to_string().len(), value.to_string().len());
            } else {
                assert!(token.abs() < 1_000_000_000);
            }
            assert_eq!(tokens.reveal_integer(token, most), Some(value), "{token}");
        }
        assert_eq!(tokens.integer(i64::MIN, int8), None);
        assert_eq!(tokens.integer(5, i64::from(i16::MAX)), None);
    }

    #[test]
    fn decimals_and_uuids_keep_their_form() {
        let tokens = tokens("n");
        for value in ["98765.00", "-1234567.5", "0.123456", "100000"] {
            let (mut token, mut back) = (BytesMut::new(), BytesMut::new());
            assert!(tokens.decimal(value.as_bytes(), &mut token), "{value}");
            assert_eq!(token.len(), value.len());
            assert!(tokens.reveal_decimal(&token, &mut back));
            assert_eq!(&back[..], value.as_bytes());
        }
        for value in ["5", "NaN", "1e10", "12345", ".5", "1.2.3456", ""] {
            assert!(!tokens.decimal(value.as_bytes(), &mut BytesMut::new()), "{value}");
        }
        let uuid = *b"\x55\x0e\x84\x00\xe2\x9b\x41\xd4\xa7\x16\x44\x66\x55\x44\x00\x00";
        let token = tokens.uuid(uuid).unwrap();
        assert_ne!(token, uuid);
        assert_eq!((token[6] >> 4, token[8] >> 4), (4, 0xa));
        assert_eq!(tokens.reveal_uuid(token), Some(uuid));
    }

    #[test]
    fn a_text_that_is_too_long_is_redacted() {
        assert_eq!(hidden(&tokens("t"), &"x".repeat(MAX_TEXT + 1)), REDACTED);
    }
}
