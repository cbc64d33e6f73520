//! The event of an operation, encoded in parts: what is the same for every execution of a decided message is encoded
//! once, with the decision.

use std::sync::Arc;

use serde::Serialize;

use super::{AuditError, Event, Parameter};
use crate::json_text::escape;
use crate::operation::Operations;
use crate::principal::Principal;
use crate::session::SessionId;
use crate::verdict::{Hold, Verdict};

/// What an operation's event says whenever it runs: who, on what, what was asked, and what was decided.
#[derive(Debug)]
pub struct Decided {
    principal: Arc<Principal>,
    resource: Arc<str>,
    operations: Arc<Operations>,
    verdict: &'static str,
    rules: Vec<String>,
    hint: Option<String>,
    masked: Vec<String>,
    policy: Arc<str>,
    /// `None` where it could not be encoded.
    encoded: Option<Encoded>,
}

/// Parts of the event's JSON.
#[derive(Debug)]
struct Encoded {
    /// Between the ticket and the statement.
    before: Box<[u8]>,
    /// From the verdict on.
    after: Box<[u8]>,
}

impl Decided {
    /// A decision on `operations`, by the policies of that version.
    pub fn new(
        principal: &Arc<Principal>,
        resource: &str,
        operations: &Arc<Operations>,
        verdict: &Verdict,
        policy: &Arc<str>,
    ) -> Self {
        let (rules, hint) = match verdict {
            Verdict::Allow { rules, .. } => (rules.clone(), None),
            Verdict::Deny(denial) => (denial.rule.iter().cloned().collect(), Some(denial.hint.clone())),
            Verdict::Hold(hold) => (hold.rules.clone(), None),
        };
        let masked = match verdict {
            Verdict::Allow { obligations, .. } | Verdict::Hold(Hold { obligations, .. }) => {
                obligations.mask.iter().cloned().collect()
            }
            Verdict::Deny(_) => Vec::new(),
        };
        let mut decided = Self {
            principal: principal.clone(),
            resource: resource.into(),
            operations: operations.clone(),
            verdict: verdict.word(),
            rules,
            hint,
            masked,
            policy: policy.clone(),
            encoded: None,
        };
        decided.encoded = decided.encode().ok();
        decided
    }

    fn encode(&self) -> Result<Encoded, serde_json::Error> {
        let mut before = Vec::new();
        field(&mut before, "principal", &self.principal)?;
        field(&mut before, "resource", &self.resource)?;
        field(&mut before, "operation", &self.operations.summary())?;
        field(&mut before, "asked", &self.operations.asked().collect::<Vec<_>>())?;
        let mut after = Vec::new();
        field(&mut after, "verdict", &self.verdict)?;
        field(&mut after, "rules", &self.rules)?;
        if let Some(hint) = &self.hint {
            field(&mut after, "hint", hint)?;
        }
        if !self.masked.is_empty() {
            field(&mut after, "masked", &self.masked)?;
        }
        field(&mut after, "policy", &self.policy)?;
        after.push(b'}');
        Ok(Encoded {
            before: before.into(),
            after: after.into(),
        })
    }
}

/// One execution of what was decided.
#[derive(Debug, Clone, Copy)]
pub struct OperationEvent<'a> {
    /// The session.
    pub session: SessionId,
    /// Number within the session.
    pub ticket: u64,
    /// What was asked and decided.
    pub decided: &'a Decided,
    /// The text, as the trail keeps it.
    pub statement: Option<&'a str>,
    /// Bound parameters, as the trail keeps them.
    pub parameters: &'a [Parameter],
}

impl OperationEvent<'_> {
    /// The same as an [`Event`].
    pub fn event(&self) -> Event {
        let decided = self.decided;
        Event::Operation {
            session: self.session,
            ticket: self.ticket,
            principal: decided.principal.clone(),
            resource: decided.resource.as_ref().to_owned(),
            operation: decided.operations.summary().to_owned(),
            asked: decided.operations.asked().cloned().collect(),
            statement: self.statement.map(str::to_owned),
            parameters: self.parameters.to_vec(),
            verdict: decided.verdict.to_owned(),
            rules: decided.rules.clone(),
            hint: decided.hint.clone(),
            masked: decided.masked.clone(),
            policy: decided.policy.as_ref().to_owned(),
        }
    }

    /// Appends its JSON to `out`: the very bytes that [`Self::event`] gives.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), AuditError> {
        let failed = |e: serde_json::Error| AuditError::Encode(e.to_string());
        let Some(Encoded { before, after }) = &self.decided.encoded else {
            return serde_json::to_writer(out, &self.event()).map_err(failed);
        };
        let length = self.statement.map_or(0, str::len);
        out.reserve(
            before
                .len()
                .saturating_add(after.len())
                .saturating_add(length)
                .saturating_add(160),
        );
        out.extend_from_slice(br#"{"type":"operation""#);
        field(out, "session", &self.session).map_err(failed)?;
        field(out, "ticket", &self.ticket).map_err(failed)?;
        out.extend_from_slice(before);
        if let Some(statement) = self.statement {
            out.extend_from_slice(br#","statement":"#);
            text(out, statement);
        }
        if !self.parameters.is_empty() {
            let mut before = &br#","parameters":["#[..];
            for parameter in self.parameters {
                out.extend_from_slice(std::mem::replace(&mut before, b","));
                match parameter {
                    Some(value) => text(out, value),
                    None => out.extend_from_slice(b"null"),
                }
            }
            out.push(b']');
        }
        out.extend_from_slice(after);
        Ok(())
    }
}

/// Appends the JSON of any event to `out`. An outcome, which every operation has, is put together by hand; the bytes are the same.
pub(super) fn encode(event: &Event, out: &mut Vec<u8>) -> Result<(), AuditError> {
    let Event::Outcome {
        session,
        ticket,
        rows,
        bytes,
        micros,
        error: None,
    } = event
    else {
        return serde_json::to_writer(out, event).map_err(|e| AuditError::Encode(e.to_string()));
    };
    out.extend_from_slice(br#"{"type":"outcome""#);
    field(out, "session", session)
        .and_then(|()| field(out, "ticket", ticket))
        .and_then(|()| field(out, "rows", rows))
        .and_then(|()| field(out, "bytes", bytes))
        .and_then(|()| field(out, "micros", micros))
        .map_err(|e| AuditError::Encode(e.to_string()))?;
    out.push(b'}');
    Ok(())
}

/// Appends a string of JSON.
fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escape(out, text);
    out.push(b'"');
}

/// Appends `,"name":value`.
fn field(out: &mut Vec<u8>, name: &str, value: &impl Serialize) -> Result<(), serde_json::Error> {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    serde_json::to_writer(out, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Operation;
    use crate::verdict::{Denial, Obligations};

    #[test]
    fn an_outcome_is_encoded_as_any_event_would_be() {
        for error in [None, Some("42P01".to_owned())] {
            let event = Event::Outcome {
                session: SessionId::generate(),
                ticket: 1,
                rows: 0,
                bytes: u64::MAX,
                micros: 17,
                error,
            };
            let mut encoded = Vec::new();
            encode(&event, &mut encoded).unwrap();
            assert_eq!(encoded, serde_json::to_vec(&event).unwrap());
        }
    }

    #[test]
    fn the_parts_are_the_very_bytes_of_the_whole() {
        let principal: Arc<Principal> =
            serde_json::from_str(r#"{"subject":"al\"ice","kind":"human","groups":["a","b"]}"#).unwrap();
        let operations = Arc::new(Operations::new(
            vec![Operation::connect("r"), Operation::unmask("pii.email", "r")],
            "connect \"r\"",
        ));
        let allow = Verdict::Allow {
            obligations: Obligations::default(),
            rules: vec!["one".to_owned(), "two".to_owned()],
        };
        let masked = Verdict::Allow {
            obligations: Obligations {
                mask: ["pii.email".to_owned()].into(),
                ..Obligations::default()
            },
            rules: Vec::new(),
        };
        let parameters = [
            Some("x\n".to_owned()),
            None,
            Some("\u{8}\u{7f}/<\u{2028}\"\u{1f}".to_owned()),
        ];
        for verdict in [
            allow,
            masked,
            Verdict::Deny(Denial::new("connect", "ask \"somebody\"")),
        ] {
            let decided = Decided::new(&principal, "r", &operations, &verdict, &Arc::from("v1"));
            for (statement, parameters) in [
                (Some("SELECT 'é' \\ \u{1}"), &parameters[..]),
                (None, &parameters[..0]),
            ] {
                let event = OperationEvent {
                    session: SessionId::generate(),
                    ticket: 7,
                    decided: &decided,
                    statement,
                    parameters,
                };
                let whole = serde_json::to_vec(&event.event()).unwrap();
                let mut encoded = Vec::new();
                event.encode(&mut encoded).unwrap();
                assert_eq!(
                    String::from_utf8(encoded).unwrap(),
                    String::from_utf8(whole).unwrap()
                );
            }
        }
    }
}
