//! From what happened, as the audit trail has it, to what receivers are told.

use gateway_core::approval::Approval;
use gateway_core::audit::{Event, Parameter};
use gateway_core::machine::Kill;
use gateway_core::operation::truncate;
use gateway_core::services::{ApprovalStore, Store, StoreError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Include, Kind};

/// Things that one message lists of what is tried.
const ASKED: usize = 50;
/// Longest text in a message, in bytes.
const TEXT: usize = 4 * 1024;
/// Longest statement, and so much of all parameters together.
const STATEMENT: usize = 64 * 1024;

/// A record of the audit trail that somebody may be told of.
#[derive(Debug, Clone)]
pub struct Happened {
    /// The record's hash, in hex: what is told of it has an id that is made of this, so that it is told once however often
    /// it is read.
    pub hash: String,
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: Event,
}

impl Happened {
    /// Reads an event of the trail; `None`: nobody is told of its like. Events of operations, of which there may be very
    /// many, are not parsed for that.
    pub fn read(hash: &str, at: Timestamp, event: &str) -> Option<Self> {
        let told = [r#"{"type":"approval","#, r#"{"type":"session_ended","#];
        if !told.iter().any(|start| event.starts_with(start)) {
            return None;
        }
        let event: Event = serde_json::from_str(event).ok()?;
        if matches!(&event, Event::SessionEnded { reason, .. } if !reason.starts_with(Kill::WORDS)) {
            return None;
        }
        Some(Self {
            hash: hash.to_owned(),
            at,
            event,
        })
    }
}

/// What one message is: the document that is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Document {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) timestamp: Timestamp,
    pub(super) data: Data,
}

/// All that is told. What does not belong to an event, or is not known, is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Data {
    /// Of the approval, the request for access, or the session.
    pub(super) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<String>,
    pub(super) requester: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) on_behalf_of: Option<String>,
    pub(super) resource: String,
    /// In one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) operation: Option<String>,
    /// Each thing that it tries: an action and an object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) operations: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) groups: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) approvers: Option<u32>,
    /// About how many rows it would touch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) estimate: Option<u64>,
    /// Why, as the requester said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// Who did what is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) by: Option<String>,
    /// Why, as that one said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) approved_by: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) statement: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) parameters: Vec<Parameter>,
    /// Statement or parameters are longer than what is told of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) cut: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<Timestamp>,
    /// Where people look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
}

/// What happened, with all that is known of it.
#[derive(Debug, Clone)]
pub(super) struct News {
    pub(super) kind: Kind,
    at: Timestamp,
    data: Data,
    statement: Option<String>,
    parameters: Vec<Parameter>,
}

impl News {
    /// `None`: nobody is told of this.
    pub(super) async fn of(
        happened: &Happened,
        approvals: &dyn ApprovalStore,
        sessions: &dyn Store,
        url: &str,
    ) -> Result<Option<Self>, StoreError> {
        match &happened.event {
            Event::Approval { id, .. } => {
                let approval = approvals.approval(id).await?.map(|kept| kept.approval);
                Ok(of_approval(happened, approval, url))
            }
            Event::SessionEnded {
                session, reason, by, ..
            } => {
                let found = sessions.session(*session).await?;
                Ok(found.map(|record| Self {
                    kind: Kind::SessionKilled,
                    at: happened.at,
                    data: Data {
                        id: session.to_string(),
                        requester: record.principal.subject.clone(),
                        kind: Some(record.principal.kind.to_string()),
                        on_behalf_of: record.principal.on_behalf_of.clone(),
                        resource: record.resource,
                        note: Some(reason.clone()),
                        by: by.clone(),
                        created: Some(record.started),
                        ..Data::default()
                    },
                    statement: None,
                    parameters: Vec::new(),
                }))
            }
            _ => Ok(None),
        }
    }

    /// The document for a receiver.
    pub(super) fn document(&self, include: Include) -> Result<String, serde_json::Error> {
        let mut data = self.data.clone();
        if include == Include::Statement {
            data.cut = fill(&mut data, self.statement.clone(), &self.parameters);
        } else {
            // It tells of data that the requester may not see.
            data.estimate = None;
        }
        serde_json::to_string(&Document {
            kind: self.kind.to_string(),
            timestamp: self.at,
            data,
        })
    }
}

/// Puts text and parameters in, as far as there is room; whether any of it was left out.
fn fill(data: &mut Data, statement: Option<String>, parameters: &[Parameter]) -> bool {
    let mut cut = false;
    data.statement = statement.map(|mut text| {
        cut = text.len() > STATEMENT;
        truncate(&mut text, STATEMENT);
        text
    });
    let mut left = STATEMENT;
    for parameter in parameters {
        let size = parameter.as_ref().map_or(4, String::len);
        let Some(rest) = left.checked_sub(size) else {
            return true;
        };
        left = rest;
        data.parameters.push(parameter.clone());
    }
    cut
}

fn of_approval(happened: &Happened, approval: Option<Approval>, url: &str) -> Option<News> {
    let Event::Approval {
        id,
        what,
        by,
        principal,
        on_behalf_of,
        resource,
        operation,
        groups,
        approved_by,
        reason,
        ..
    } = &happened.event
    else {
        return None;
    };
    let access = approval.as_ref().is_some_and(|one| one.grant.is_some());
    let given = approval.as_ref().is_some_and(|one| one.is_carried(|_| true));
    let (kind, state) = match (what.as_str(), access) {
        ("opened", false) => (Kind::ApprovalOpened, "open"),
        ("approved", false) => (Kind::ApprovalDecided, "approved"),
        ("denied", false) => (Kind::ApprovalDecided, "denied"),
        ("expired", false) => (Kind::ApprovalExpired, "expired"),
        ("used", false) => (Kind::ApprovalUsed, "used"),
        ("opened", true) => (Kind::AccessRequested, "requested"),
        ("approved", true) => (Kind::AccessGranted, "active"),
        ("denied", true) => (Kind::AccessRefused, "denied"),
        ("expired", true) if given => (Kind::AccessEnded, "ended"),
        ("expired", true) => (Kind::AccessRefused, "expired"),
        ("revoked", true) if given => (Kind::AccessEnded, "revoked"),
        ("revoked", true) => (Kind::AccessRefused, "revoked"),
        _ => return None,
    };
    let opened = what == "opened";
    let mut data = Data {
        id: id.clone(),
        state: Some(state.to_owned()),
        requester: principal.clone(),
        on_behalf_of: on_behalf_of.clone(),
        resource: resource.clone(),
        operation: Some(operation.clone()),
        groups: groups.clone(),
        by: (!opened).then(|| by.clone()),
        note: reason.clone().filter(|_| !opened),
        approved_by: approved_by.clone(),
        url: (!url.is_empty()).then(|| format!("{url}/approvals/{id}")),
        ..Data::default()
    };
    let (mut statement, mut parameters) = (None, Vec::new());
    if let Some(approval) = approval {
        data.kind = Some(approval.principal.kind.to_string());
        data.reason = approval.reason;
        data.estimate = approval.estimate;
        data.approvers = Some(approval.approvers);
        data.operations = approval.asked.into_iter().take(ASKED).collect();
        data.created = Some(approval.created);
        data.expires = Some(approval.expires);
        data.note = data.note.or(approval.note.filter(|_| !opened));
        statement = approval.statement;
        parameters = approval.parameters;
    }
    let texts = [&mut data.operation, &mut data.reason, &mut data.note];
    for text in texts.into_iter().flatten().chain(&mut data.operations) {
        truncate(text, TEXT);
    }
    Some(News {
        kind,
        at: happened.at,
        data,
        statement,
        parameters,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(reason: &str) -> String {
        let event = Event::SessionEnded {
            session: gateway_core::session::SessionId::generate(),
            reason: reason.to_owned(),
            by: None,
            operations: 0,
            refused: 0,
            rows: 0,
            bytes: 0,
        };
        serde_json::to_string(&event).unwrap()
    }

    #[test]
    fn of_sessions_only_those_are_told_that_an_operator_ended() {
        let read = |event: &str| Happened::read("ab", Timestamp::UNIX_EPOCH, event);
        let killed = gateway_core::machine::End::Killed(Box::default());
        assert!(read(&ended(&killed.reason())).is_some());
        assert!(read(&ended("client closed")).is_none());
        assert!(read(r#"{"type":"stopped"}"#).is_none());
    }

    #[test]
    fn texts_and_values_are_told_only_where_they_are_asked_for_and_are_cut() {
        let news = News {
            kind: Kind::ApprovalOpened,
            at: Timestamp::UNIX_EPOCH,
            data: Data::default(),
            statement: Some("ü".repeat(STATEMENT)),
            parameters: vec![Some("zeppelin".to_owned()), Some("x".repeat(STATEMENT)), None],
        };
        let summary = news.document(Include::Summary).unwrap();
        assert!(!summary.contains("zeppelin") && !summary.contains('ü'));
        let all: Document = serde_json::from_str(&news.document(Include::Statement).unwrap()).unwrap();
        assert!(all.data.cut);
        assert_eq!(all.data.statement.unwrap().len(), STATEMENT);
        assert_eq!(all.data.parameters, [Some("zeppelin".to_owned())]);
    }
}
