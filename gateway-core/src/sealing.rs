//! Sealing: what must be kept, and is nobody's to read, is kept encrypted and authenticated.
//!
//! A sealed value is the text `gwe1:<key>:<bytes>`: the first 16 hex digits of the key's own fingerprint, then unpadded
//! base64url of a random nonce of 12 bytes and what AES-256-GCM-SIV (RFC 8452) makes of the value. Where it belongs (table,
//! column and row, or the file's name) is authenticated with it, so that a value moved elsewhere does not open. That mode was
//! chosen because all gateways of a store draw nonces under one key for years: one that is drawn twice tells at most that two values
//! are equal.

mod file;

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::secret::Secret;

pub(crate) use file::about;
pub use file::{KEY_FILE, KeptFile, Resealed};

/// What every sealed value begins with.
pub const PREFIX: &str = "gwe1:";
/// Characters of a key's name.
const NAME: usize = 16;
/// Bytes of a tag.
const TAG: usize = 16;
/// The most keys of one configuration.
pub const MOST_KEYS: usize = 16;

/// Why a value was not sealed, or does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No key is configured.
    #[error("it is sealed with the key `{0}`, and no key is configured: set `secrets.keys`")]
    NoKey(String),
    /// None of the keys is the one.
    #[error(
        "it is sealed with the key `{0}`, which is not among `secrets.keys`: put that key back behind the first"
    )]
    UnknownKey(String),
    /// It is not what was sealed, or not there.
    #[error("it is sealed, and was changed or moved since")]
    Broken,
    /// It is not sealed, and must be.
    #[error(
        "it is not sealed, and `secrets.require` is set: run `gateway secrets rotate` without that, or find out who wrote it"
    )]
    Plain,
    /// Nothing could be sealed.
    #[error("it can't be sealed")]
    Failed,
}

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be 32 random bytes, as 64 hex digits or in base64; `gateway secrets key` prints one")]
pub struct NoSealKey;

/// A key. `Debug` shows its name only.
pub struct SealKey {
    name: String,
    key: LessSafeKey,
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({})", self.name)
    }
}

impl SealKey {
    /// From 32 random bytes. Both its name and what encrypts are derived from them, so that neither tells of them.
    ///
    /// # Errors
    ///
    /// Never with this size of key.
    pub fn new(bytes: &[u8; 32]) -> Result<Self, NoSealKey> {
        let root = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let name = hmac::sign(&root, b"gateway sealing: name");
        let encrypts = hmac::sign(&root, b"gateway sealing: AES-256-GCM-SIV");
        let key = UnboundKey::new(&AES_256_GCM_SIV, encrypts.as_ref()).map_err(|_| NoSealKey)?;
        Ok(Self {
            name: name
                .as_ref()
                .iter()
                .take(NAME / 2)
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            key: LessSafeKey::new(key),
        })
    }

    /// From a text: 64 hex digits, or base64 of 32 bytes.
    ///
    /// # Errors
    ///
    /// It is neither. The error repeats nothing of it.
    pub fn parse(text: &Secret) -> Result<Self, NoSealKey> {
        let text = text.expose().trim();
        let bytes = match text.len() {
            64 => hex(text),
            _ => STANDARD.decode(text).ok().map(Zeroizing::new),
        };
        let bytes = bytes.ok_or(NoSealKey)?;
        let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(bytes.as_slice().try_into().map_err(|_| NoSealKey)?);
        Self::new(&bytes)
    }

    /// A new key, as [`Self::parse`] reads it.
    ///
    /// # Errors
    ///
    /// The system gave no random bytes.
    pub fn generate() -> Result<Secret, SealError> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        aws_lc_rs::rand::fill(bytes.as_mut_slice()).map_err(|_| SealError::Failed)?;
        Ok(Secret::new(STANDARD.encode(bytes.as_slice())))
    }

    /// What values that are sealed with it say.
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(32));
    for pair in text.as_bytes().chunks_exact(2) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        bytes.push(u8::try_from(digit(0)? * 16 + digit(1)?).ok()?);
    }
    Some(bytes)
}

/// The keys that are in force: the first seals, all open. Without any, values are kept as they are.
#[derive(Debug, Default)]
pub struct Sealing {
    keys: Vec<SealKey>,
    require: bool,
}

impl Sealing {
    /// With these keys. `require`: what is not sealed is refused.
    pub fn new(keys: Vec<SealKey>, require: bool) -> Self {
        Self { keys, require }
    }

    /// Whether new values are sealed.
    pub fn is_on(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The name of the key that seals.
    pub fn active(&self) -> Option<&str> {
        self.keys.first().map(SealKey::name)
    }

    /// Names of all keys, the one that seals first.
    pub fn names(&self) -> Vec<&str> {
        self.keys.iter().map(SealKey::name).collect()
    }

    /// A value as it is kept at `place`.
    ///
    /// # Errors
    ///
    /// The system gave no random bytes.
    pub fn seal<'a>(&self, place: &str, value: &'a str) -> Result<Cow<'a, str>, SealError> {
        match self.keys.first() {
            None => Ok(Cow::Borrowed(value)),
            Some(key) => self.seal_bytes(key, place, value.as_bytes()).map(Cow::Owned),
        }
    }

    /// Bytes as one line, for files that grow: as [`Self::seal`], with a line end.
    ///
    /// # Errors
    ///
    /// The system gave no random bytes.
    pub fn seal_line(&self, place: &str, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        let Some(key) = self.keys.first() else {
            return Ok(bytes.to_vec());
        };
        let mut nonce = [0_u8; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| SealError::Failed)?;
        // It is long: sealed where it is copied to, and that copy is no secret afterwards.
        let mut sealed = Vec::with_capacity(NONCE_LEN.saturating_add(bytes.len()).saturating_add(TAG));
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(bytes);
        let text = sealed.get_mut(NONCE_LEN..).unwrap_or_default();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(place), text)
            .map_err(|_| SealError::Failed)?;
        sealed.extend_from_slice(tag.as_ref());
        let room = base64_simd::URL_SAFE_NO_PAD.encoded_length(sealed.len());
        let mut line = Vec::with_capacity(room.saturating_add(PREFIX.len() + NAME + 2));
        line.extend_from_slice(PREFIX.as_bytes());
        line.extend_from_slice(key.name.as_bytes());
        line.push(b':');
        base64_simd::URL_SAFE_NO_PAD.encode_append(&sealed, &mut line);
        line.push(b'\n');
        Ok(line)
    }

    /// The bytes of such a line; what is not sealed is given as it is, unless all must be.
    ///
    /// # Errors
    ///
    /// [`SealError`], which says what to do.
    pub fn open_line(&self, place: &str, line: &[u8]) -> Result<Vec<u8>, SealError> {
        if !line.starts_with(PREFIX.as_bytes()) {
            return match self.require && self.is_on() {
                true => Err(SealError::Plain),
                false => Ok(line.to_vec()),
            };
        }
        let kept = std::str::from_utf8(line).map_err(|_| SealError::Broken)?;
        let kept = kept.strip_suffix('\n').ok_or(SealError::Broken)?;
        self.open_bytes(place, kept).map(|bytes| bytes.to_vec())
    }

    fn seal_bytes(&self, key: &SealKey, place: &str, value: &[u8]) -> Result<String, SealError> {
        let mut nonce = [0_u8; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| SealError::Failed)?;
        let mut sealed = Zeroizing::new(value.to_vec());
        let tag = key
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place),
                sealed.as_mut_slice(),
            )
            .map_err(|_| SealError::Failed)?;
        let mut bytes = nonce.to_vec();
        bytes.extend_from_slice(&sealed);
        bytes.extend_from_slice(tag.as_ref());
        Ok(format!("{PREFIX}{}:{}", key.name, URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// What was kept at `place`.
    ///
    /// # Errors
    ///
    /// [`SealError`], which says what to do.
    pub fn open<'a>(&self, place: &str, kept: &'a str) -> Result<Cow<'a, str>, SealError> {
        if !kept.starts_with(PREFIX) {
            return match self.require && self.is_on() {
                true => Err(SealError::Plain),
                false => Ok(Cow::Borrowed(kept)),
            };
        }
        let bytes = self.open_bytes(place, kept)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| SealError::Broken)?;
        Ok(Cow::Owned(text.to_owned()))
    }

    fn open_bytes(&self, place: &str, kept: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (name, text) = kept
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once(':'))
            .ok_or(SealError::Broken)?;
        if name.len() != NAME || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(SealError::Broken);
        }
        let Some(key) = self.keys.iter().find(|key| key.name == name) else {
            return Err(match self.keys.is_empty() {
                true => SealError::NoKey(name.to_owned()),
                false => SealError::UnknownKey(name.to_owned()),
            });
        };
        let mut bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map(Zeroizing::new)
            .map_err(|_| SealError::Broken)?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN).ok_or(SealError::Broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Broken)?;
        let opened = key
            .key
            .open_in_place(nonce, Aad::from(place), sealed)
            .map_err(|_| SealError::Broken)?;
        Ok(Zeroizing::new(opened.to_vec()))
    }

    /// Whether a kept value says of itself that it is as a new one would be. Anybody can write that: it is known once it
    /// was opened.
    pub fn is_current(&self, kept: &str) -> bool {
        key_of(kept) == self.active()
    }
}

/// The name of the key with which a kept value says that it is sealed; `None`: it is a plain one.
pub fn key_of(kept: &str) -> Option<&str> {
    let (name, _) = kept.strip_prefix(PREFIX)?.split_once(':')?;
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealKey {
        SealKey::new(&[byte; 32]).unwrap()
    }

    fn with(bytes: &[u8]) -> Sealing {
        Sealing::new(bytes.iter().map(|byte| key(*byte)).collect(), false)
    }

    #[test]
    fn a_value_opens_where_it_was_sealed_and_nowhere_else() {
        let sealing = with(&[1]);
        let kept = sealing.seal("tokens.scram/a", "zeppelin").unwrap().into_owned();
        assert!(kept.starts_with(PREFIX) && !kept.contains("zeppelin"), "{kept}");
        assert_eq!(sealing.open("tokens.scram/a", &kept).unwrap(), "zeppelin");
        assert_eq!(sealing.open("tokens.scram/b", &kept), Err(SealError::Broken));
        assert_eq!(sealing.open("tokens.hash/a", &kept), Err(SealError::Broken));
        // Two of the same value are not alike.
        assert_ne!(kept, sealing.seal("tokens.scram/a", "zeppelin").unwrap());
    }

    #[test]
    fn any_changed_character_and_any_cut_is_noticed() {
        let sealing = with(&[1]);
        let kept = sealing.seal("a", "zeppelin").unwrap().into_owned();
        for at in 0..kept.len() {
            let mut other = kept.clone().into_bytes();
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            let other = String::from_utf8(other).unwrap();
            let opened = sealing.open("a", &other);
            // What no longer begins like a sealed value is a plain one, which only `require` refuses.
            assert_ne!(opened.as_deref(), Ok("zeppelin"), "{other}");
            if at >= PREFIX.len() {
                assert!(opened.is_err(), "{other}");
            }
            if at > PREFIX.len() {
                assert!(sealing.open("a", kept.get(..at).unwrap()).is_err(), "{at}");
            }
        }
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let (old, both, new) = (with(&[1]), with(&[2, 1]), with(&[2]));
        let kept = old.seal("a", "zeppelin").unwrap().into_owned();
        assert_eq!(both.open("a", &kept).unwrap(), "zeppelin");
        assert!(!both.is_current(&kept) && old.is_current(&kept));
        let again = both.seal("a", "zeppelin").unwrap().into_owned();
        assert_eq!(new.open("a", &again).unwrap(), "zeppelin");
        let gone = key(1).name().to_owned();
        assert_eq!(new.open("a", &kept), Err(SealError::UnknownKey(gone.clone())));
        assert_eq!(Sealing::default().open("a", &kept), Err(SealError::NoKey(gone)));
    }

    #[test]
    fn without_keys_values_are_as_they_are_and_with_require_they_are_refused() {
        let none = Sealing::default();
        assert_eq!(none.seal("a", "zeppelin").unwrap(), "zeppelin");
        assert_eq!(none.open("a", "zeppelin").unwrap(), "zeppelin");
        assert_eq!(with(&[1]).open("a", "zeppelin").unwrap(), "zeppelin");
        let strict = Sealing::new(vec![key(1)], true);
        assert_eq!(strict.open("a", "zeppelin"), Err(SealError::Plain));
        assert!(none.is_current("zeppelin") && !strict.is_current("zeppelin"));
    }

    #[test]
    fn keys_are_read_in_both_forms_and_never_printed() {
        let made = SealKey::generate().unwrap();
        let read = SealKey::parse(&made).unwrap();
        assert!(!format!("{read:?}").contains(made.expose()));
        let hex = Secret::new("0f".repeat(32));
        assert_eq!(SealKey::parse(&hex).unwrap().name(), key(15).name());
        for bad in ["", "zeppelin", "0f0f", &"0g".repeat(32), &"A".repeat(88)] {
            let error = SealKey::parse(&Secret::new(bad)).unwrap_err();
            assert!(!error.to_string().contains("zeppelin"));
        }
    }

    /// Made by another implementation (Python's `cryptography`): key of 32 bytes of 7, nonce 0 to 11.
    #[test]
    fn the_format_is_kept_so_that_later_versions_open_what_this_one_sealed() {
        let kept = "gwe1:da841b5ab615f16a:AAECAwQFBgcICQoLNZfF4j-RB62H_b_Mz3gsmZLO4kZOhyAW";
        assert_eq!(with(&[7]).open("tokens.scram/a", kept).unwrap(), "zeppelin");
        assert!(with(&[7]).is_current(kept));
    }
}
