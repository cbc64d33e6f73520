//! An issuer's keys: RFC 7517, of which only public signature keys are taken.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;

use super::algorithm::{Algorithm, KeyType};
use super::jws::MAX_KEY_ID;
use super::refusal::Refusal;

/// The most keys of one issuer.
const MAX_KEYS: usize = 100;
/// Sizes of RSA moduli, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// The longest RSA exponent, in bytes.
const MAX_EXPONENT: usize = 5;

/// One public key.
pub(super) struct Key {
    id: Option<String>,
    /// The one algorithm that it is for, where its issuer says so.
    algorithm: Option<Algorithm>,
    key_type: KeyType,
    key: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.key_type, self.id)
    }
}

/// The keys of one issuer.
#[derive(Debug, Default)]
pub(super) struct KeySet(Vec<Arc<Key>>);

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a key set. Keys of other kinds and for other uses are left out (RFC 7517, section 5); a document that
    /// is none, or has too many, is an error.
    pub(super) fn read(document: &[u8]) -> Result<Self, String> {
        let RawSet { keys } =
            serde_json::from_slice(document).map_err(|_| "the key set is no JSON with `keys`".to_owned())?;
        if keys.len() > MAX_KEYS {
            return Err(format!(
                "the key set has {} keys; the limit is {MAX_KEYS}",
                keys.len()
            ));
        }
        let keys = keys
            .into_iter()
            .filter_map(|key| serde_json::from_value::<RawKey>(key).ok())
            .filter_map(RawKey::public_key)
            .map(Arc::new);
        Ok(Self(keys.collect()))
    }

    /// How many keys are of use.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The one key that may have signed a token; [`Refusal::UnknownKey`] where a newer set may have it.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Arc<Key>, Refusal> {
        let fits = |key: &&Arc<Key>| {
            key.key_type == algorithm.key_type() && key.algorithm.is_none_or(|only| only == algorithm)
        };
        // A token without a key id is understood where only one key can be meant.
        let of_id = |key: &&Arc<Key>| id.is_none() || key.id.as_deref() == id;
        let mut found = self.0.iter().filter(of_id).filter(fits);
        match (found.next(), found.next()) {
            (Some(key), None) => Ok(key.clone()),
            (Some(_), Some(_)) => Err(Refusal::AmbiguousKey),
            (None, _) if id.is_some() && self.0.iter().any(|key| of_id(&key)) => Err(Refusal::KeyMismatch),
            (None, _) => Err(Refusal::UnknownKey),
        }
    }
}

impl Key {
    /// Whether `signature` (base64url) is this key's over `message`.
    pub(super) fn verifies(&self, signature: &str, message: &str, algorithm: Algorithm) -> bool {
        // The set gave the key for this algorithm; a caller that mixes them up gets no.
        self.key_type == algorithm.key_type()
            && jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.key, algorithm.of_library())
                .unwrap_or(false)
    }
}

impl RawKey {
    fn public_key(self) -> Option<Key> {
        let for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self
                .key_ops
                .as_ref()
                .is_none_or(|all| all.iter().any(|op| op == "verify"));
        if !for_signatures || self.kid.as_ref().is_some_and(|id| id.len() > MAX_KEY_ID) {
            return None;
        }
        let algorithm = match &self.alg {
            None => None,
            Some(name) => Some(Algorithm::named(name)?),
        };
        let (key_type, key) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => (KeyType::Rsa, rsa(self.n.as_deref()?, self.e.as_deref()?)?),
            ("EC", Some("P-256")) => (KeyType::P256, ec(self.x.as_deref()?, self.y.as_deref()?, 32)?),
            ("EC", Some("P-384")) => (KeyType::P384, ec(self.x.as_deref()?, self.y.as_deref()?, 48)?),
            ("OKP", Some("Ed25519")) => (KeyType::Ed25519, ed25519(self.x.as_deref()?)?),
            _ => return None,
        };
        if algorithm.is_some_and(|only| only.key_type() != key_type) {
            return None;
        }
        Some(Key {
            id: self.kid,
            algorithm,
            key_type,
            key,
        })
    }
}

fn rsa(n: &str, e: &str) -> Option<DecodingKey> {
    let significant = |bytes: Vec<u8>| -> Vec<u8> { bytes.into_iter().skip_while(|b| *b == 0).collect() };
    let modulus = significant(decode(n)?);
    let exponent = significant(decode(e)?);
    let bits = (modulus.len() * 8).checked_sub(usize::try_from(modulus.first()?.leading_zeros()).ok()?)?;
    let small = exponent == [1] || exponent.last().is_none_or(|last| last % 2 == 0);
    if !RSA_BITS.contains(&bits) || exponent.len() > MAX_EXPONENT || small {
        return None;
    }
    Some(DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

fn ec(x: &str, y: &str, length: usize) -> Option<DecodingKey> {
    let right = |part: &str| decode(part).is_some_and(|bytes| bytes.len() == length);
    if !right(x) || !right(y) {
        return None;
    }
    // That the point is on the curve is seen when a signature is checked.
    DecodingKey::from_ec_components(x, y).ok()
}

fn ed25519(x: &str) -> Option<DecodingKey> {
    if decode(x)?.len() != 32 {
        return None;
    }
    DecodingKey::from_ed_components(x).ok()
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests;
