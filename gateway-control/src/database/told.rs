//! What a client is told: errors, and goodbyes.

use gateway_core::machine::{End, Peer};
use gateway_core::verdict::{Code, Decision};
use pgwire::error::{ErrorInfo, PgWireError};

use super::command::{ASK, Unknown};

/// An error or a notice.
pub(super) fn info(
    severity: &str,
    code: &str,
    message: impl Into<String>,
    detail: Option<String>,
    hint: &str,
) -> ErrorInfo {
    let mut info = ErrorInfo::new(severity.to_owned(), code.to_owned(), message.into());
    info.severity_nonlocalized = Some(severity.to_owned());
    info.detail = detail;
    info.hint = (!hint.is_empty()).then(|| hint.to_owned());
    info
}

/// An error that leaves the session alive.
pub(super) fn error(code: &str, message: impl Into<String>, hint: &str) -> PgWireError {
    PgWireError::UserError(Box::new(info("ERROR", code, message, None, hint)))
}

/// What can't be asked.
pub(super) fn unknown(unknown: Unknown) -> PgWireError {
    error(unknown.code, unknown.message, ASK)
}

/// A refusal, with its decision object.
pub(super) fn refusal(decision: &Decision) -> PgWireError {
    let (code, word) = match decision.code {
        Code::ApprovalPending if decision.cancelled => ("57014", "given up waiting for approval"),
        Code::ApprovalPending => ("PA001", "approval pending"),
        Code::ApprovalRefused => ("42501", "approval refused"),
        Code::ApprovalExpired => ("42501", "approval expired"),
        Code::BudgetExhausted => ("42501", "budget exhausted"),
        Code::SessionExpired => ("57P01", "session expired"),
        Code::Malformed => ("08P01", "malformed"),
        Code::Denied => ("42501", "denied"),
    };
    let message = format!("{word}: {}", decision.operation);
    let info = info("ERROR", code, message, Some(decision.to_json()), &decision.hint);
    PgWireError::UserError(Box::new(info))
}

/// The notice of an operation that is held.
pub(super) fn held(decision: &Decision) -> ErrorInfo {
    let message = format!("held for approval: {}", decision.operation);
    info(
        "NOTICE",
        "00000",
        message,
        Some(decision.to_json()),
        &decision.hint,
    )
}

/// The last word of a session.
pub(super) fn goodbye(why: &End, session: &str) -> Option<ErrorInfo> {
    let fatal = |code: &str, message: &str| Some(info("FATAL", code, message, None, ""));
    let decided = |code: Code, state: &str, message: String, hint: &str| {
        let decision = Decision {
            code,
            rule: None,
            operation: "session".to_owned(),
            retry: code == Code::SessionExpired,
            retry_after_s: None,
            approval: None,
            hint: hint.to_owned(),
            correlation: session.to_owned(),
            cancelled: false,
        };
        Some(info("FATAL", state, message, Some(decision.to_json()), hint))
    };
    match why {
        End::Expired => decided(
            Code::SessionExpired,
            "57P01",
            "session expired: what proved your identity has ended".to_owned(),
            "log in again with a fresh token",
        ),
        End::AccessEnded => decided(
            Code::SessionExpired,
            "57P01",
            "session expired: the access for a time that it stood on has ended".to_owned(),
            "ask for access again (`gateway access request`), then connect",
        ),
        End::CredentialLost => decided(
            Code::SessionExpired,
            "57P01",
            "session expired: its rights could not be fitted to the policy in force".to_owned(),
            "connect again",
        ),
        End::Killed(kill) => fatal("57P01", &kill.told()),
        End::Unrecorded => fatal("57P01", "what this session does can't be recorded any more"),
        End::Shutdown => fatal("57P01", "the gateway is shutting down"),
        End::Idle => fatal("57P05", "the session was idle for longer than the gateway allows"),
        End::TooLong => fatal("57P01", "the session lasted longer than the gateway allows"),
        End::Fault(fault) if fault.peer == Peer::Client => decided(
            Code::Malformed,
            "08P01",
            format!("malformed: the client {}", fault.what),
            "this is no valid PostgreSQL protocol at this point",
        ),
        _ => None,
    }
}
