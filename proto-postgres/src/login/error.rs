//! Why a login at the target failed, and who can mend it.

use crate::wire::EncodeError;

/// The login at the target failed. No text holds a secret, or what the target sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The target asks for a password and none is there.
    #[error("target asks for a password and none is configured")]
    NoPassword,
    /// The target asks for the password in clear, and [`Options::allow_clear`](super::Options) is off.
    #[error("target asks for the password in clear, which is not allowed on this connection")]
    ClearRefused,
    /// The target asks for MD5, and [`Options::allow_md5`](super::Options) is off.
    #[error("target asks for an MD5 password, which is not allowed")]
    Md5Refused,
    /// Channel binding is required and the target's way has none.
    #[error("target does not offer SCRAM-SHA-256-PLUS, and channel binding is required")]
    NoChannelBinding,
    /// GSSAPI, SSPI, Kerberos, or a way that isn't known.
    #[error("target asks for authentication of unsupported kind {0}")]
    UnsupportedMethod(i32),
    /// SASL without a mechanism of ours.
    #[error("target offers no supported SASL mechanism")]
    UnsupportedMechanism,
    /// A password that can't be put into a message, such as one with a NUL.
    #[error("configured password cannot be sent: {0}")]
    Password(EncodeError),
    /// A message that doesn't follow from the one before.
    #[error("target sent an authentication message out of order")]
    OutOfOrder,
    /// `AuthenticationOk` before the target proved that it knows the password.
    #[error("target ended SCRAM without proving that it knows the password")]
    NotProven,
    /// A malformed SCRAM message, or a nonce that isn't a continuation of ours.
    #[error("target sent a malformed SCRAM message")]
    MalformedScram,
    /// An iteration count of zero, or above [`MAX_ITERATIONS`](super::MAX_ITERATIONS).
    #[error("target asks for {0} SCRAM iterations, out of bounds")]
    Iterations(u64),
    /// The target's last SCRAM message is an error.
    #[error("target refused the SCRAM proof")]
    ScramRefused,
    /// The target's signature is wrong: it doesn't know the password.
    #[error("target's SCRAM signature is wrong")]
    WrongSignature,
}

/// Who can mend a failed login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The gateway's configuration: the password, or what is allowed.
    Configuration,
    /// The target, which broke the protocol or isn't who it should be.
    Upstream,
}

impl LoginError {
    /// Who can mend it.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::NoPassword
            | Self::ClearRefused
            | Self::Md5Refused
            | Self::NoChannelBinding
            | Self::UnsupportedMethod(_)
            | Self::UnsupportedMechanism
            | Self::Password(_)
            | Self::ScramRefused => Blame::Configuration,
            Self::OutOfOrder
            | Self::NotProven
            | Self::MalformedScram
            | Self::Iterations(_)
            | Self::WrongSignature => Blame::Upstream,
        }
    }
}
