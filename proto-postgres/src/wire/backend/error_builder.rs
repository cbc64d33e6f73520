//! Errors and notices that the gateway itself sends.

use std::fmt;

use bytes::BytesMut;

use super::{ErrorResponse, NoticeResponse, field};
use crate::wire::error::EncodeError;

/// Longest text of one field; the rest of a longer one is cut off.
const MAX_TEXT: usize = 8192;

/// SQLSTATE codes that a gateway has reason to send.
///
/// PostgreSQL documentation, Appendix A, PostgreSQL Error Codes.
pub mod sqlstate {
    /// `sqlclient_unable_to_establish_sqlconnection`: the target can't be reached.
    pub const UNABLE_TO_CONNECT: &str = "08001";
    /// `connection_failure`: the target went away.
    pub const CONNECTION_FAILURE: &str = "08006";
    /// `protocol_violation`: a malformed or unexpected message.
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    /// `feature_not_supported`: a message that the gateway doesn't serve.
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    /// `invalid_authorization_specification`: who isn't known.
    pub const INVALID_AUTHORIZATION: &str = "28000";
    /// `invalid_password`: who can't prove it.
    pub const INVALID_PASSWORD: &str = "28P01";
    /// `insufficient_privilege`: denied by policy.
    pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
    /// `too_many_connections`: a limit of sessions.
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    /// `program_limit_exceeded`: a message above its size limit.
    pub const PROGRAM_LIMIT_EXCEEDED: &str = "54000";
    /// `query_canceled`: cancelled, or an approval's time ran out.
    pub const QUERY_CANCELED: &str = "57014";
    /// `admin_shutdown`: the session was ended, or the gateway drains.
    pub const ADMIN_SHUTDOWN: &str = "57P01";
    /// `cannot_connect_now`: the gateway isn't ready.
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
    /// `internal_error`: our own mistake.
    pub const INTERNAL_ERROR: &str = "XX000";
}

/// How bad it is.
///
/// PostgreSQL documentation, Error and Notice Message Fields, `S`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The statement failed; the session goes on.
    Error,
    /// The session ends.
    Fatal,
    /// A notice that something may be wrong.
    Warning,
    /// A notice.
    Notice,
}

impl Severity {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
        }
    }
}

/// An [`ErrorResponse`] of our own, or a [`NoticeResponse`] where the severity is that of a notice.
///
/// Whatever the texts hold, the frame is well formed: a NUL becomes U+FFFD, and a text above 8 KiB is
/// cut off.
///
/// ```
/// use proto_postgres::wire::backend::{ErrorBuilder, Severity, sqlstate};
///
/// let frame = ErrorBuilder::new(Severity::Error, sqlstate::INSUFFICIENT_PRIVILEGE, "denied by policy")
///     .hint("ask for a grant")
///     .to_frame()?;
/// assert_eq!(frame.first(), Some(&b'E'));
/// # Ok::<(), proto_postgres::wire::EncodeError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ErrorBuilder {
    severity: Severity,
    code: &'static str,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl ErrorBuilder {
    /// A severity, a [`sqlstate`] code and the message in one line.
    #[must_use]
    pub fn new(severity: Severity, code: &'static str, message: impl AsRef<str>) -> Self {
        Self {
            severity,
            code,
            message: sanitise(message.as_ref()),
            detail: None,
            hint: None,
        }
    }

    /// Says more about it.
    #[must_use]
    pub fn detail(mut self, text: impl AsRef<str>) -> Self {
        self.detail = Some(sanitise(text.as_ref()));
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, text: impl AsRef<str>) -> Self {
        self.hint = Some(sanitise(text.as_ref()));
        self
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// None that the texts can cause; a code which holds a NUL.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let severity = self.severity.as_str().as_bytes();
        let mut fields = vec![
            (field::SEVERITY, severity),
            (field::SEVERITY_NONLOCALIZED, severity),
            (field::CODE, self.code.as_bytes()),
            (field::MESSAGE, self.message.as_bytes()),
        ];
        fields.extend(self.detail.as_ref().map(|text| (field::DETAIL, text.as_bytes())));
        fields.extend(self.hint.as_ref().map(|text| (field::HINT, text.as_bytes())));
        match self.severity {
            Severity::Error | Severity::Fatal => ErrorResponse { fields }.encode(out),
            Severity::Warning | Severity::Notice => NoticeResponse { fields }.encode(out),
        }
    }

    /// The whole frame.
    ///
    /// # Errors
    ///
    /// As [`ErrorBuilder::encode`].
    pub fn to_frame(&self) -> Result<BytesMut, EncodeError> {
        let mut out = BytesMut::new();
        self.encode(&mut out)?;
        Ok(out)
    }
}

impl fmt::Debug for ErrorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorBuilder")
            .field("severity", &self.severity)
            .field("code", &self.code)
            .finish_non_exhaustive()
    }
}

fn sanitise(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(MAX_TEXT));
    for char in text.chars() {
        let char = if char == '\0' {
            char::REPLACEMENT_CHARACTER
        } else {
            char
        };
        if clean.len() + char.len_utf8() > MAX_TEXT {
            break;
        }
        clean.push(char);
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame;

    #[test]
    fn golden() {
        let frame = ErrorBuilder::new(Severity::Fatal, sqlstate::INVALID_PASSWORD, "no")
            .hint("h")
            .detail("d")
            .to_frame()
            .expect("encodes");
        assert_eq!(&frame[..], b"E\0\0\0\x24SFATAL\0VFATAL\0C28P01\0Mno\0Dd\0Hh\0\0");
    }

    #[test]
    fn hostile_texts_stay_inside_their_field() {
        let frame = ErrorBuilder::new(Severity::Error, sqlstate::INTERNAL_ERROR, "a\0\0Z\0\0\0\x05I")
            .detail("é".repeat(10_000))
            .to_frame()
            .expect("encodes");
        let (frame, rest) = frame::split(&frame, usize::MAX)
            .expect("valid")
            .expect("complete");
        assert!(rest.is_empty());
        let message = ErrorResponse::parse(frame.body).expect("well formed");
        let text = std::str::from_utf8(message.get(field::MESSAGE).expect("there")).expect("UTF-8");
        assert_eq!(text, "a\u{fffd}\u{fffd}Z\u{fffd}\u{fffd}\u{fffd}\x05I");
        assert_eq!(message.get(field::DETAIL).expect("there").len(), MAX_TEXT);
    }

    #[test]
    fn notices_have_their_own_tag() {
        let frame = ErrorBuilder::new(Severity::Notice, "00000", "hello")
            .to_frame()
            .expect("encodes");
        assert_eq!(frame.first(), Some(&b'N'));
    }
}
