//! Verifiers for tokens that do not exist, so that nobody learns which do.

use std::fmt;

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::{TokenError, random, scram};

/// What the verifiers of unknown tokens are derived from. It must outlive the process and be the same for all
/// gateways that share a store: a salt that changes tells that there is no token, since a real one keeps its salt.
pub struct MockKey(hmac::Key);

impl MockKey {
    /// Its bytes, as they are kept.
    pub const LEN: usize = 32;

    /// From the bytes that were kept.
    pub fn new(bytes: &[u8; Self::LEN]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// Fresh bytes, to be kept.
    pub fn generate() -> Result<Zeroizing<[u8; Self::LEN]>, TokenError> {
        let mut bytes = Zeroizing::new([0; Self::LEN]);
        random(bytes.as_mut_slice())?;
        Ok(bytes)
    }

    /// The verifier of an id: of the shape of a real one, and the same each time. Nothing matches it, since its keys
    /// are no hashes of anything that is known.
    pub(super) fn verifier(&self, id: &str) -> String {
        let derive = |what: &[u8]| hmac::sign(&self.0, &[what, id.as_bytes()].concat());
        let salt = derive(b"salt ");
        let (salt, _) = salt.as_ref().split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
        scram::text(
            salt,
            derive(b"stored key ").as_ref(),
            derive(b"server key ").as_ref(),
        )
    }
}

impl fmt::Debug for MockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MockKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mock_verifier_looks_like_a_real_one_and_keeps_its_salt() {
        let key = MockKey::new(&[7; 32]);
        let shape = |verifier: &str| -> Vec<usize> { verifier.split(['$', ':']).map(str::len).collect() };
        let mock = key.verifier("Alexanderso1");
        assert_eq!(shape(&mock), shape(&scram::verifier("gwt_x_y", &[1; 16])));
        assert_eq!(mock, MockKey::new(&[7; 32]).verifier("Alexanderso1"));
        assert_ne!(mock, key.verifier("Alexanderso2"));
        assert_ne!(mock, MockKey::new(&[8; 32]).verifier("Alexanderso1"));
        assert_ne!(*MockKey::generate().unwrap(), *MockKey::generate().unwrap());
    }
}
