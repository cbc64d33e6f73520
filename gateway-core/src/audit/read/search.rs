//! Finding operations, and what became of them.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::super::record;
use super::super::segments::{self, Line, Lines};
use super::super::{Event, Parameter};
use super::TrailRecord;
use crate::principal::Principal;
use crate::recording::OnFailure;
use crate::session::SessionId;

/// What to look for; what is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Of this session.
    pub session: Option<SessionId>,
    /// Of the principal with this subject, or on whose behalf it acted.
    pub principal: Option<String>,
    /// On this resource.
    pub resource: Option<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
    /// With this verdict: `allow`, `deny`, `hold`.
    pub verdict: Option<String>,
    /// Of this type, as [`AuditRow::kind`] tells it.
    pub kind: Option<String>,
    /// With this text in operation, statement, parameters or another text, in any case of letters.
    pub text: Option<String>,
    /// The newest so many only.
    pub limit: Option<usize>,
}

/// One thing that happened; an operation together with its outcome.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct AuditRow {
    /// Number of the record.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What: `operation`, `session_started`, `session_ended`, `login_refused`, `cancel`, `operator`, `started`,
    /// `stopped`, `reloaded`, `recording_started`, `recording_sealed`, `checkpoint`, `signing_key`, `dropped`, and so on.
    pub kind: &'static str,
    /// The session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The operation's number in the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<u64>,
    /// Whose subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// For whom it acted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
    /// On what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// From where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The operation in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Its full text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// Its bound parameters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// `allow`, `deny` or `hold`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// The determining policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// The version of the policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What else there is to say: why it was refused or ended, what an operator did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Rows; `None` on an operation whose end is not in the trail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Bytes sent to the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How long it took, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micros: Option<u64>,
    /// The target's error code, or why a reload was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl AuditRow {
    /// An event as a row that is not in the trail yet, so without a number.
    pub fn of_event(at: Timestamp, event: Event) -> Self {
        Self { at, ..row(event) }
    }

    /// A record as a row, without its outcome; `None` where this version does not know the event.
    pub fn of(record: &TrailRecord<'_>) -> Option<Self> {
        let event = serde_json::from_str(record.event).ok()?;
        Some(Self {
            seq: record.seq,
            at: record.at,
            ..row(event)
        })
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// Newest last.
    pub rows: Vec<AuditRow>,
    /// Lines that could not be read; `gateway audit verify` tells what is wrong with them.
    pub unreadable: u64,
}

/// Searches the trail in `dir`. Reads it once; keeps no more rows than the query's limit. Proves nothing: the
/// hashes are not checked.
pub fn search(dir: &Path, query: &Query) -> io::Result<Found> {
    search_with(dir, query, &mut |_| true)
}

/// The same; of what the query finds, `keep` takes or leaves each row, and may cut what it takes. So a search is bounded in
/// memory that shows only some events, and not all of their texts.
pub fn search_with(
    dir: &Path,
    query: &Query,
    keep: &mut dyn FnMut(&mut AuditRow) -> bool,
) -> io::Result<Found> {
    let mut search = Search {
        query,
        keep,
        needle: query.session.map(|id| id.to_string()),
        text: query.text.as_ref().map(|text| text.to_lowercase()),
        sessions: HashMap::new(),
        open: HashMap::new(),
        rows: VecDeque::new(),
        dropped: 0,
        unreadable: 0,
    };
    for segment in segments::list(dir)? {
        let mut lines = match Lines::open(&segment.path) {
            // Dropped by retention meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            lines => lines?,
        };
        loop {
            match lines.next()? {
                Line::Whole => search.line(lines.line()),
                Line::TooLong { ended: true } => search.unreadable += 1,
                Line::Torn | Line::TooLong { ended: false } => {}
                Line::End => break,
            }
        }
    }
    Ok(Found {
        rows: search.rows.into(),
        unreadable: search.unreadable,
    })
}

struct Search<'a> {
    query: &'a Query,
    keep: &'a mut dyn FnMut(&mut AuditRow) -> bool,
    /// The session's id, as every record of it has it.
    needle: Option<String>,
    text: Option<String>,
    /// Whose the running sessions are: their ends tell only their ids.
    sessions: HashMap<SessionId, (Arc<Principal>, String)>,
    /// Operations among the rows that have no outcome yet; the index counts from the first row ever kept.
    open: HashMap<(SessionId, u64), usize>,
    rows: VecDeque<AuditRow>,
    dropped: usize,
    unreadable: u64,
}

impl Search<'_> {
    fn line(&mut self, line: &[u8]) {
        if self
            .needle
            .as_ref()
            .is_some_and(|id| memchr::memmem::find(line, id.as_bytes()).is_none())
        {
            return;
        }
        let parsed = record::parse_unproven(line).ok().and_then(|record| {
            Some((
                record.seq,
                record.at,
                serde_json::from_str(record.event.get()).ok()?,
            ))
        });
        match parsed {
            Some((seq, at, event)) => self.event(seq, at, event),
            None => self.unreadable += 1,
        }
    }

    fn event(&mut self, seq: u64, at: Timestamp, event: Event) {
        match &event {
            // No session outlives the gateway.
            Event::Started { .. } => {
                self.sessions.clear();
                self.open.clear();
            }
            Event::SessionStarted {
                session,
                principal,
                resource,
                ..
            } => {
                self.sessions
                    .insert(*session, (Arc::clone(principal), resource.clone()));
            }
            Event::Outcome {
                session,
                ticket,
                rows,
                bytes,
                micros,
                error,
            } => {
                let row = self.open.remove(&(*session, *ticket)).and_then(|index| {
                    let index = index.checked_sub(self.dropped)?;
                    self.rows.get_mut(index)
                });
                if let Some(row) = row {
                    row.rows = Some(*rows);
                    row.bytes = Some(*bytes);
                    row.micros = Some(*micros);
                    row.error.clone_from(error);
                }
                return;
            }
            _ => {}
        }
        let mut row = AuditRow {
            seq,
            at,
            ..row(event)
        };
        if let Some(session) = row.session {
            let known = if row.kind == "session_ended" {
                self.sessions.remove(&session)
            } else {
                self.sessions.get(&session).cloned()
            };
            if let (None, Some((principal, resource))) = (&row.principal, known) {
                row.principal = Some(principal.subject.clone());
                row.on_behalf_of.clone_from(&principal.on_behalf_of);
                row.resource = Some(resource);
            }
        }
        if !self.wanted(&row) || self.query.limit == Some(0) || !(self.keep)(&mut row) {
            return;
        }
        if let ("operation", Some(session), Some(ticket)) = (row.kind, row.session, row.ticket) {
            self.open
                .insert((session, ticket), self.dropped + self.rows.len());
        }
        // The log's own records are shown to whoever asks for them.
        if matches!(row.kind, "checkpoint" | "recording_chunks") && self.query.kind.is_none() {
            return;
        }
        self.rows.push_back(row);
        if self.query.limit.is_some_and(|limit| self.rows.len() > limit)
            && let Some(old) = self.rows.pop_front()
        {
            if let (Some(session), Some(ticket)) = (old.session, old.ticket)
                && self.open.get(&(session, ticket)) == Some(&self.dropped)
            {
                self.open.remove(&(session, ticket));
            }
            self.dropped += 1;
        }
    }

    fn wanted(&self, row: &AuditRow) -> bool {
        let query = self.query;
        let is = |wanted: &Option<String>, value: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| value == Some(wanted))
        };
        query.session.is_none_or(|id| row.session == Some(id))
            && (is(&query.principal, row.principal.as_deref())
                || is(&query.principal, row.on_behalf_of.as_deref()))
            && is(&query.resource, row.resource.as_deref())
            && query.since.is_none_or(|since| row.at >= since)
            && query.until.is_none_or(|until| row.at <= until)
            && is(&query.verdict, row.verdict.as_deref())
            && is(&query.kind, Some(row.kind))
            && self.text.as_ref().is_none_or(|text| has_text(row, text))
    }
}

fn has_text(row: &AuditRow, text: &str) -> bool {
    [
        &row.operation,
        &row.statement,
        &row.detail,
        &row.error,
        &row.principal,
        &row.resource,
        &row.peer,
    ]
    .into_iter()
    .chain(&row.parameters)
    .flatten()
    .chain(&row.rules)
    .any(|value| value.to_lowercase().contains(text))
}

/// An event as a row, without what the record tells.
#[expect(clippy::too_many_lines, reason = "one arm per event")]
fn row(event: Event) -> AuditRow {
    let base = AuditRow::default();
    let who = |kind, principal: Option<&Arc<Principal>>| AuditRow {
        kind,
        principal: principal.map(|p| p.subject.clone()),
        on_behalf_of: principal.and_then(|p| p.on_behalf_of.clone()),
        ..AuditRow::default()
    };
    match event {
        Event::Started { version, policy } => AuditRow {
            kind: "started",
            policy: Some(policy),
            detail: Some(format!("version {version}")),
            ..base
        },
        Event::Stopped {} => AuditRow {
            kind: "stopped",
            ..base
        },
        Event::Reloaded { policy, error } => AuditRow {
            kind: "reloaded",
            policy: Some(policy),
            error,
            ..base
        },
        Event::LoginRefused {
            peer,
            protocol,
            user,
            resource,
            principal,
            reason,
            correlation,
        } => AuditRow {
            resource: Some(resource),
            peer: Some(peer.to_string()),
            verdict: Some("deny".to_owned()),
            detail: Some(format!(
                "{protocol} login of `{user}` refused: {reason} (correlation {correlation})"
            )),
            ..who("login_refused", principal.as_ref())
        },
        Event::SessionStarted {
            session,
            principal,
            credential,
            resource,
            protocol,
            detail,
            peer,
            rules,
        } => AuditRow {
            session: Some(session),
            resource: Some(resource),
            peer: Some(peer.to_string()),
            rules,
            detail: Some(match detail {
                Some(detail) => format!("{protocol}, credential {credential}, {detail}"),
                None => format!("{protocol}, credential {credential}"),
            }),
            ..who("session_started", Some(&principal))
        },
        Event::Operation {
            session,
            ticket,
            principal,
            resource,
            operation,
            asked: _,
            statement,
            parameters,
            verdict,
            rules,
            hint,
            masked: _,
            policy,
        } => AuditRow {
            session: Some(session),
            ticket: Some(ticket),
            resource: Some(resource),
            operation: Some(operation),
            statement,
            parameters,
            verdict: Some(verdict),
            rules,
            detail: hint,
            policy: Some(policy),
            ..who("operation", Some(&principal))
        },
        Event::Outcome {
            session,
            ticket,
            rows,
            bytes,
            micros,
            error,
        } => AuditRow {
            kind: "outcome",
            session: Some(session),
            ticket: Some(ticket),
            rows: Some(rows),
            bytes: Some(bytes),
            micros: Some(micros),
            error,
            ..base
        },
        Event::Cancel { session, peer } => AuditRow {
            kind: "cancel",
            session,
            peer: Some(peer.to_string()),
            ..base
        },
        Event::CredentialLeased {
            session,
            lease,
            kind,
            login,
            expires,
        } => AuditRow {
            kind: "credential_leased",
            session: Some(session),
            detail: Some(format!(
                "{kind} {lease}: login `{login}`, until {expires} unless renewed"
            )),
            ..base
        },
        Event::CredentialRevoked { session, lease } => AuditRow {
            kind: "credential_revoked",
            session: Some(session),
            detail: Some(lease),
            ..base
        },
        Event::SessionEnded {
            session,
            reason,
            // It is in the reason.
            by: _,
            operations,
            refused,
            rows,
            bytes,
        } => AuditRow {
            kind: "session_ended",
            session: Some(session),
            detail: Some(format!("{reason}; {operations} operations, {refused} refused")),
            rows: Some(rows),
            bytes: Some(bytes),
            ..base
        },
        Event::RecordingStarted { .. }
        | Event::RecordingChunks { .. }
        | Event::RecordingFailed { .. }
        | Event::RecordingSealed { .. }
        | Event::RecordingArchived { .. }
        | Event::RecordingsRemoved { .. } => recording(event),
        Event::Approval {
            id,
            what,
            by,
            resource,
            operation,
            approved_by,
            reason,
            correlation,
            ..
        } => AuditRow {
            kind: "approval",
            principal: Some(by),
            resource: Some(resource),
            operation: Some(operation),
            session: correlation.and_then(|text| text.split_once('/')?.0.parse().ok()),
            detail: Some({
                let mut detail = format!("{id} {what}");
                if !approved_by.is_empty() {
                    detail.push_str(&format!(", approved by {}", approved_by.join(", ")));
                }
                if let Some(reason) = reason {
                    detail.push_str(&format!(": {reason}"));
                }
                detail
            }),
            ..base
        },
        Event::Operator { by, action, subject } => AuditRow {
            kind: "operator",
            principal: Some(by),
            detail: Some(format!("{action} {subject}")),
            ..base
        },
        Event::Checkpoint(checkpoint) => AuditRow {
            kind: "checkpoint",
            detail: serde_json::to_value(checkpoint.reason)
                .ok()
                .and_then(|reason| Some(format!("{}, {} records", reason.as_str()?, checkpoint.records))),
            ..base
        },
        Event::SigningKey { key, previous, .. } => AuditRow {
            kind: "signing_key",
            detail: Some(match previous {
                Some(previous) => format!("{key} follows {previous}"),
                None => key.to_string(),
            }),
            ..base
        },
        Event::Dropped(dropped) => AuditRow {
            kind: "dropped",
            detail: Some(format!(
                "records {} to {} ({} segments, {} bytes), for their {}",
                dropped.first, dropped.last, dropped.segments, dropped.bytes, dropped.why
            )),
            ..base
        },
    }
}

/// An event of recordings as a row.
fn recording(event: Event) -> AuditRow {
    let base = AuditRow::default();
    match event {
        Event::RecordingStarted {
            session,
            recording,
            kind,
            title,
            channel,
            resource,
        } => AuditRow {
            kind: "recording_started",
            session: Some(session),
            resource: Some(resource),
            detail: Some(format!("recording {recording}: {kind} on {channel}: {title}")),
            ..base
        },
        Event::RecordingChunks {
            session,
            recording,
            first,
            hashes,
        } => AuditRow {
            kind: "recording_chunks",
            session: Some(session),
            detail: Some(format!(
                "recording {recording}, from chunk {first}: {}",
                hashes.join(", ")
            )),
            ..base
        },
        Event::RecordingFailed {
            session,
            recording,
            resource,
            why,
            then,
        } => AuditRow {
            kind: "recording_failed",
            session: Some(session),
            resource: Some(resource),
            detail: Some(match then {
                OnFailure::Stop => format!("recording {recording}: the session ends"),
                OnFailure::Spill => format!("recording {recording}: it goes on in the second place"),
            }),
            error: Some(why),
            ..base
        },
        Event::RecordingSealed {
            session,
            recording,
            resource,
            seal,
        } => AuditRow {
            kind: "recording_sealed",
            session: Some(session),
            resource: Some(resource),
            bytes: Some(seal.bytes),
            micros: Some(seal.micros),
            detail: Some({
                let mut detail = format!("recording {recording}: {}, {} chunks", seal.end, seal.chunks);
                if let Some(cut) = &seal.cut {
                    detail.push_str(&format!(", {} bytes over its limit", cut.bytes));
                }
                if !seal.complete {
                    detail.push_str(", NOT COMPLETE");
                }
                detail
            }),
            ..base
        },
        Event::RecordingArchived {
            session,
            recording,
            object,
            bytes,
            sha256,
        } => AuditRow {
            kind: "recording_archived",
            session: Some(session),
            bytes: Some(bytes),
            detail: Some(format!("recording {recording}: `{object}`, SHA-256 {sha256}")),
            ..base
        },
        Event::RecordingsRemoved { session, why } => AuditRow {
            kind: "recordings_removed",
            session: Some(session),
            detail: Some(why),
            ..base
        },
        _ => base,
    }
}
