//! Gateway tokens: `gwt_<id, 12 characters>_<secret, 40 characters>`, both of `[0-9A-Za-z]`.
//!
//! The id is public: it names the token in lists, in the audit trail, and as the user name of clients that use SCRAM.
//! Of the secret only SHA-256 is kept, and a SCRAM-SHA-256 verifier of the whole token. The secret has 238 bits of
//! the system's randomness, so a fast hash is as good as a slow one.

mod authenticator;
mod create;
mod mock;
mod scram;

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use gateway_core::secret::Secret;
use zeroize::Zeroizing;

pub use authenticator::TokenAuthenticator;
pub use create::{CreateToken, MAX_TTL, MIN_TTL, TokenError};
pub use mock::MockKey;

pub use crate::names::{MAX_GROUPS, MAX_NAME};

/// What every token begins with.
const PREFIX: &str = "gwt_";
/// Characters of the id.
const ID: usize = 12;
/// Characters of the secret of a new token: 238 bits.
const SECRET: usize = 40;
/// Characters of a secret that is accepted at least: 190 bits.
const MIN_SECRET: usize = 32;
/// Characters of a whole token at most; clients cut longer passwords.
const MAX_TOKEN: usize = 128;

/// A token's two parts, where a text has its form.
pub struct Token<'a> {
    id: &'a str,
    secret: &'a str,
}

impl<'a> Token<'a> {
    /// Takes a token apart; `None` where it has not the form of one.
    pub fn parse(token: &'a Secret) -> Option<Self> {
        let text = token.expose();
        if text.len() > MAX_TOKEN {
            return None;
        }
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let base62 = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric());
        (Self::is_id(id) && secret.len() >= MIN_SECRET && base62(secret)).then_some(Self { id, secret })
    }

    /// Whether `text` has the form of a token's id.
    pub fn is_id(text: &str) -> bool {
        text.len() == ID && text.bytes().all(|b| b.is_ascii_alphanumeric())
    }

    /// Whether a user name is read as a token's id, so that the token is to be proven and not to be sent: of its
    /// form, with a digit, a capital and a small letter, as every id has and hardly any name.
    pub fn names_one(name: &str) -> bool {
        Self::is_id(name) && is_mixed(name)
    }

    /// The public part.
    pub fn id(&self) -> &'a str {
        self.id
    }

    /// SHA-256 of the secret part, in hex, as it is kept.
    pub fn hash(&self) -> String {
        digest(&SHA256, self.secret.as_bytes())
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl Token<'_> {
    /// Makes a token: its id, and the whole of it.
    pub fn generate() -> Result<(String, Secret), TokenError> {
        let id = loop {
            let id = random_base62(ID)?;
            if is_mixed(&id) {
                break id;
            }
        };
        let secret = random_base62(SECRET)?;
        // Made at its final size: growing or shrinking would leave copies behind that nobody wipes.
        let mut token = String::with_capacity(PREFIX.len() + ID + 1 + SECRET);
        for part in [PREFIX, &id, "_", &secret] {
            token.push_str(part);
        }
        Ok((id.to_string(), Secret::new(token)))
    }
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Whether a text has a digit, a capital and a small letter.
fn is_mixed(text: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| text.as_bytes().iter().any(kind);
    has(u8::is_ascii_digit) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase)
}

/// Random bytes from the system.
fn random(bytes: &mut [u8]) -> Result<(), TokenError> {
    SystemRandom::new().fill(bytes).map_err(|_| TokenError::Random)
}

/// `len` characters, each of the 62 as likely as any other.
fn random_base62(len: usize) -> Result<Zeroizing<String>, TokenError> {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    /// The largest multiple of 62 in a byte's range; what is above would favour the first characters.
    const FAIR: u8 = 248;
    let mut text = Zeroizing::new(String::with_capacity(len));
    while text.len() < len {
        let mut bytes = Zeroizing::new([0u8; 64]);
        random(bytes.as_mut_slice())?;
        let fair = bytes.iter().filter(|byte| **byte < FAIR);
        for character in fair
            .filter_map(|byte| ALPHABET.get(usize::from(byte % 62)))
            .take(len - text.len())
        {
            text.push(char::from(*character));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn a_generated_token_has_its_documented_form() {
        let (id, token) = Token::generate().unwrap();
        assert_eq!(token.expose().len(), 57);
        let parsed = Token::parse(&token).unwrap();
        assert_eq!(parsed.id(), id);
        assert!(token.expose().starts_with(&format!("gwt_{id}_")));
        assert!(f64::from(u32::try_from(parsed.secret.len()).unwrap()) * 62f64.log2() >= 190.0);
        assert!(!format!("{parsed:?}").contains(parsed.secret));
    }

    #[test]
    fn tokens_differ_and_use_every_character_about_as_often() {
        let tokens: Vec<String> = (0..2000)
            .map(|_| random_base62(40).unwrap().to_string())
            .collect();
        assert_eq!(tokens.iter().collect::<HashSet<_>>().len(), 2000);
        let mut seen: HashMap<char, u32> = HashMap::new();
        tokens
            .iter()
            .flat_map(|t| t.chars())
            .for_each(|c| *seen.entry(c).or_default() += 1);
        assert_eq!(seen.len(), 62);
        // 1,290 expected of each; five standard deviations are 180.
        assert!(seen.values().all(|n| (1110..1470).contains(n)), "{seen:?}");
    }

    #[test]
    fn every_id_is_told_from_a_name() {
        for _ in 0..500 {
            assert!(Token::names_one(&Token::generate().unwrap().0));
        }
        for name in [
            "",
            "alice",
            "christopher1",
            "alexanderson",
            "ALEXANDERSO1",
            "Alexanderson",
            "Alexander.s1",
            "aB3",
        ] {
            assert!(!Token::names_one(name), "{name}");
        }
        assert!(Token::names_one("Alexanderso1"));
    }

    #[test]
    fn what_has_another_form_is_no_token() {
        let (_, token) = Token::generate().unwrap();
        let good = token.expose();
        for end in 0..good.len() - 8 {
            assert!(
                Token::parse(&Secret::new(good.get(..end).unwrap())).is_none(),
                "{end}"
            );
        }
        let id = "a".repeat(12);
        for bad in [
            String::new(),
            good.to_uppercase(),
            format!(" {good}"),
            format!("{good}\n"),
            format!("{good}_x"),
            format!("{good}é"),
            format!("gwt_{id}_{}", "a".repeat(31)),
            format!("gwt_{id}_{}", "a".repeat(112)),
            format!("gwt_{id}a_{}", "a".repeat(40)),
            format!("gwt_{}-_{}", "a".repeat(11), "a".repeat(40)),
            "x".repeat(1 << 20),
        ] {
            assert!(Token::parse(&Secret::new(bad)).is_none());
        }
        assert!(Token::parse(&Secret::new(format!("gwt_{id}_{}", "a".repeat(111)))).is_some());
    }

    #[test]
    fn the_hash_is_sha256_of_the_secret_part() {
        let token = Secret::new(format!("gwt_{}_{}", "b".repeat(12), "a".repeat(32)));
        // printf a%.0s {1..32} | sha256sum
        assert_eq!(
            Token::parse(&token).unwrap().hash(),
            "3ba3f5f43b92602683c19aee62a20342b084dd5971ddd33808d81a328879a547"
        );
    }
}
