//! Why a token of an issuer proves nothing: for the audit trail and the log. The client is told none of it.

use gateway_core::services::AuthError;

use super::jws::MAX_TOKEN;

/// Why a token is refused. No text of the token is in it but what is cut and escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not three parts of base64url.
    #[error("it has not the form of a token")]
    Form,
    /// It is longer than the gateway reads.
    #[error("it is longer than {MAX_TOKEN} bytes")]
    TooLong,
    /// A part is no JSON object, or has a name twice.
    #[error("its {0} is no JSON object, or has a name twice")]
    Json(&'static str),
    /// The header asks for what is not done here.
    #[error("its header is refused: {0}")]
    Header(&'static str),
    /// The algorithm is unknown, symmetric, none, or not one that this issuer may use.
    #[error("its algorithm `{0}` is not one that is accepted of its issuer")]
    Algorithm(String),
    /// Nobody trusts its issuer.
    #[error("its issuer `{0}` is none of `[[identity.oidc]]`")]
    Issuer(String),
    /// The issuer publishes no such key.
    #[error("its issuer publishes no key of its id")]
    UnknownKey,
    /// The key is of another kind than the algorithm, or meant for another.
    #[error("the key of its id is not for its algorithm")]
    KeyMismatch,
    /// More than one key may be meant.
    #[error("more than one key of its issuer may be meant")]
    AmbiguousKey,
    /// The signature is not by that key.
    #[error("its signature is wrong")]
    Signature,
    /// It has ended.
    #[error("it has expired")]
    Expired,
    /// Its time has not come.
    #[error("its `{0}` is in the future")]
    NotYet(&'static str),
    /// It is for somebody else.
    #[error("its audience is another")]
    Audience,
    /// It was given to a client that is not accepted.
    #[error("it was issued to a party that is not one of `authorized_parties`")]
    Party,
    /// A claim is absent, of another type, or says what is not accepted.
    #[error("its claim `{claim}` {why}")]
    Claim {
        /// Which.
        claim: String,
        /// What is wrong with it.
        why: String,
    },
    /// The issuer was never reached, or not for too long.
    #[error("the keys of the issuer `{0}` are not known: it cannot be reached")]
    Unreachable(String),
}

impl Refusal {
    /// A claim that is not as it has to be.
    pub(super) fn claim(claim: &str, why: impl Into<String>) -> Self {
        Self::Claim {
            claim: shown(claim),
            why: why.into(),
        }
    }
}

impl From<Refusal> for AuthError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Form => Self::Form,
            Refusal::Expired => Self::Expired,
            Refusal::Unreachable(_) => Self::Unavailable(refusal.to_string()),
            other => Self::Rejected(other.to_string()),
        }
    }
}

/// Text of a token as it may be written down.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(128).flat_map(char::escape_debug).collect()
}
