//! What a client is told of a decision: a line for people and a JSON line for programs, on stderr.

use std::fmt::Write as _;

use bytes::Bytes;
use gateway_core::plain::plain;
use gateway_core::verdict::{Code, Decision};

/// Exit status of what is refused, and of what can't be reached.
pub(crate) const REFUSED: u32 = 77;
/// Exit status of what still waits for people when the window is over.
pub(crate) const PENDING: u32 = 75;
/// Longest text of a line for people, in bytes.
const LINE: usize = 600;

/// The exit status that tells of a refusal.
pub(crate) fn status(decision: &Decision) -> u32 {
    match decision.code {
        Code::ApprovalPending => PENDING,
        _ => REFUSED,
    }
}

/// The two lines. A terminal needs its line ends whole.
pub(crate) fn lines(decision: &Decision, pty: bool) -> Bytes {
    let what = match decision.code {
        Code::Denied => "denied",
        Code::ApprovalPending => "waits for an approval",
        Code::ApprovalRefused => "the approval was refused",
        Code::ApprovalExpired => "the approval expired",
        Code::BudgetExhausted => "used up what policy gives",
        Code::SessionExpired => "the session has expired",
        Code::Malformed => "malformed",
    };
    let mut line = format!("gateway: {}: {what}", plain(&decision.operation));
    if !decision.hint.is_empty() {
        let _ = write!(line, "; {}", plain(&decision.hint));
    }
    if let Some(approval) = &decision.approval {
        let _ = write!(line, " ({} {})", plain(&approval.id), plain(&approval.url));
    }
    gateway_core::operation::truncate(&mut line, LINE);
    let end = if pty { "\r\n" } else { "\n" };
    Bytes::from(format!("{line}{end}{}{end}", decision.to_json()))
}

/// One line that is no decision.
pub(crate) fn note(text: &str, pty: bool) -> Bytes {
    let end = if pty { "\r\n" } else { "\n" };
    Bytes::from(format!("gateway: {text}{end}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_core::verdict::Denial;

    #[test]
    fn a_refusal_is_a_line_and_a_json_line_and_moves_no_cursor() {
        let decision = Denial::new("exec \u{1b}[2Jrm", "ask\nothers").decision("c");
        let text = String::from_utf8(lines(&decision, false).to_vec()).unwrap();
        let all: Vec<_> = text.lines().collect();
        assert_eq!(all.len(), 2);
        assert!(all[0].starts_with("gateway: exec \\u{1b}[2Jrm: denied"), "{text}");
        let json: serde_json::Value = serde_json::from_str(all[1]).unwrap();
        assert_eq!(json["code"], "denied");
        assert!(lines(&decision, true).ends_with(b"\r\n"));
        assert_eq!(status(&decision), REFUSED);
    }
}
