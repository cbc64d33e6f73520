//! *Rewrite*: what a ruling makes of a message, and how a decision looks on the wire.

use bytes::BytesMut;
use gateway_core::gateway::PREPARED;
use gateway_core::machine::{End, Fault, Outbound, Outcome, Peer};
use gateway_core::verdict::{Code, Decision, Obligations, Ruling};

use crate::analyzed::Analyzed;
use crate::mask::reveal::{declared, hidden_for, revealed_bind, revealed_text};
use crate::session::names::Prepared;
use crate::session::pending::{Effects, Expect, Pending, Running};
use crate::session::text::ClientEncoding;
use crate::session::{Message, Session, Wrong};
use crate::wire::backend::{ErrorBuilder, Severity, sqlstate};
use crate::wire::frontend::{Bind, Describe, Execute, Parse, Query, Target};

/// The SQLSTATE of an approval that is still open when the hold window is over.
pub const APPROVAL_PENDING: &str = "PA001";

/// So many missing names are told.
const MOST_MISSING: usize = 4;

/// The one line that says what happened.
pub(crate) fn message(decision: &Decision) -> String {
    let what = match decision.code {
        Code::Denied => "denied by policy",
        Code::ApprovalPending if decision.cancelled => "no longer waiting for approval",
        Code::ApprovalPending => "held for approval",
        Code::ApprovalRefused => "approval refused",
        Code::ApprovalExpired => "approval expired",
        Code::BudgetExhausted => "budget exhausted",
        Code::SessionExpired => "session expired",
        Code::Malformed => "malformed",
    };
    format!("{what}: {}", decision.operation)
}

/// The SQLSTATE of a decision.
pub(crate) fn sqlstate_of(decision: &Decision) -> &'static str {
    match decision.code {
        // As PostgreSQL answers a statement that its client has cancelled.
        Code::ApprovalPending if decision.cancelled => "57014",
        Code::Denied | Code::ApprovalRefused | Code::ApprovalExpired | Code::BudgetExhausted => {
            sqlstate::INSUFFICIENT_PRIVILEGE
        }
        Code::ApprovalPending => APPROVAL_PENDING,
        Code::SessionExpired => sqlstate::ADMIN_SHUTDOWN,
        Code::Malformed => sqlstate::PROTOCOL_VIOLATION,
    }
}

/// An ERROR with the decision object in DETAIL and its hint in HINT.
pub(crate) fn refusal(decision: &Decision, wrong: Option<Wrong>) -> BytesMut {
    let (code, text) = match wrong {
        Some(wrong) => (wrong.sqlstate(), wrong.text()),
        None => (sqlstate_of(decision), message(decision)),
    };
    let mut error = ErrorBuilder::new(Severity::Error, code, text).detail(decision.to_json());
    if wrong.is_none() {
        error = error.hint(&decision.hint);
    }
    // A frame without texts that could be too long always encodes.
    error.to_frame().unwrap_or_default()
}

/// The FATAL with which a session ends, if the client is to be told one.
pub(crate) fn goodbye(why: &End, session: &str) -> Option<ErrorBuilder> {
    let fatal = |code, text: &str| Some(ErrorBuilder::new(Severity::Fatal, code, text));
    let told = |code: Code, text: &str, hint: &str, state| {
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
        fatal(state, text).map(|error| error.detail(decision.to_json()).hint(hint))
    };
    match why {
        End::ClientClosed | End::TargetClosed | End::Broken(Peer::Client, _) => None,
        End::Expired => told(
            Code::SessionExpired,
            "session expired: what proved your identity has ended",
            "log in again with a fresh token",
            sqlstate::ADMIN_SHUTDOWN,
        ),
        End::AccessEnded => told(
            Code::SessionExpired,
            "session expired: the access for a time that it stood on has ended",
            "ask for access again (`gateway access request`), then connect",
            sqlstate::ADMIN_SHUTDOWN,
        ),
        End::CredentialLost => told(
            Code::SessionExpired,
            "session expired: its rights at the target could not be fitted to the policy in force",
            "connect again",
            sqlstate::ADMIN_SHUTDOWN,
        ),
        End::Killed(kill) => fatal(sqlstate::ADMIN_SHUTDOWN, &kill.told()),
        End::Unrecorded => fatal(
            sqlstate::ADMIN_SHUTDOWN,
            "what this session does can't be recorded any more",
        ),
        End::Shutdown => fatal(sqlstate::ADMIN_SHUTDOWN, "the gateway is shutting down"),
        End::Idle => fatal("57P05", "the session was idle for longer than the gateway allows"),
        End::TooLong => fatal(
            sqlstate::ADMIN_SHUTDOWN,
            "the session lasted longer than the gateway allows",
        ),
        End::OutOfTime => told(
            Code::BudgetExhausted,
            "budget exhausted: the operation took longer than policy allows",
            "make the operation smaller",
            sqlstate::ADMIN_SHUTDOWN,
        ),
        End::Fault(fault) if fault.peer == Peer::Client => told(
            Code::Malformed,
            &format!("malformed: the client {}", fault.what),
            "this is no valid PostgreSQL protocol at this point",
            sqlstate::PROTOCOL_VIOLATION,
        ),
        End::Fault(_) => fatal(sqlstate::CONNECTION_FAILURE, "the target broke the protocol"),
        End::Broken(Peer::Target, _) => {
            fatal(sqlstate::CONNECTION_FAILURE, "the connection to the target broke")
        }
    }
}

impl Wrong {
    /// The SQLSTATE that PostgreSQL gives it.
    pub(crate) fn sqlstate(self) -> &'static str {
        match self {
            Self::TooLong(_) => sqlstate::PROGRAM_LIMIT_EXCEEDED,
            Self::Encoding => "22021",
            Self::TooManyNames => "53400",
            Self::NoStatement => "26000",
            Self::NoPortal => "34000",
        }
    }

    /// What is wrong, in one sentence.
    pub(crate) fn text(self) -> String {
        match self {
            Self::TooLong(limit) => format!("the message is longer than the limit of {limit} bytes"),
            Self::Encoding => "the text is not valid in the client's encoding".to_owned(),
            Self::TooManyNames => "the session holds too many prepared statements or portals".to_owned(),
            Self::NoStatement => "the prepared statement does not exist".to_owned(),
            Self::NoPortal => "the portal does not exist".to_owned(),
        }
    }
}

impl Message {
    /// The mistake in a text that was refused, if there seems to be one: the parser refused it, or it names what is not
    /// there.
    fn mistake(&self, hint: &str) -> Option<String> {
        let (Self::Query { analyzed, .. } | Self::Parse { analyzed, .. }) = self else {
            return None;
        };
        mistake_in(analyzed.as_ref()?, hint)
    }

    /// Whether ReadyForQuery follows an error in its place.
    fn is_simple(&self) -> bool {
        match self {
            Self::Query { .. } | Self::FunctionCall { .. } => true,
            Self::Parse { .. } | Self::Bind { .. } | Self::Execute { .. } => false,
            Self::Improper(improper) => improper.simple,
        }
    }
}

/// The hint that names it. What is missing was looked for in the structure as it is now.
fn mistake_in(analyzed: &Analyzed, hint: &str) -> Option<String> {
    let mut statements = analyzed.statements.iter();
    if let Some(why) = statements.find_map(|statement| statement.syntax_error.as_deref()) {
        return Some(format!("the text was not understood: {why}"));
    }
    let lost = analyzed
        .statements
        .iter()
        .filter(|statement| statement.unresolved);
    let missing: Vec<&str> = lost
        .flat_map(|statement| statement.missing.iter().map(String::as_str))
        .take(MOST_MISSING)
        .collect();
    (!missing.is_empty()).then(|| format!("no {} is known here; {hint}", missing.join(", no ")))
}

impl Session {
    pub(crate) fn rewrite_message(
        &mut self,
        message: Message,
        ruling: &Ruling,
        out: &mut Outbound,
    ) -> Result<(), Fault> {
        if self.skipping {
            // An error has come in the meantime: the server would skip it.
            if let Ruling::Run { ticket, .. } = ruling
                && *ticket != PREPARED
            {
                let error = Some("skipped".to_owned());
                self.outcomes.push_back(Outcome {
                    ticket: *ticket,
                    rows: 0,
                    bytes: 0,
                    error,
                });
            }
            return Ok(());
        }
        match ruling {
            Ruling::Refuse { decision, .. } => {
                let wrong = match &message {
                    Message::Improper(improper) => Some(improper.what),
                    _ => None,
                };
                let frame = match message.mistake(&decision.hint) {
                    Some(hint) => refusal(
                        &Decision {
                            hint,
                            ..Decision::clone(decision)
                        },
                        wrong,
                    ),
                    None => refusal(decision, wrong),
                };
                self.refuse(message.is_simple(), frame, out);
                Ok(())
            }
            Ruling::Run { obligations, ticket } => self.run(message, obligations, *ticket, out),
        }
    }

    fn run(
        &mut self,
        message: Message,
        obligations: &Obligations,
        ticket: u64,
        out: &mut Outbound,
    ) -> Result<(), Fault> {
        match message {
            Message::Query {
                frame,
                analyzed: Some(analyzed),
                ..
            } => {
                let running = self.running(ticket, &analyzed, obligations, obligations.rows);
                self.push(Expect::Query(running));
                self.end_run();
                match self.revealed(&analyzed, obligations) {
                    None => Self::forward(&frame, out),
                    Some(sql) => {
                        let query = Query { sql: sql.as_bytes() };
                        let encoded = query.encode(&mut out.to_target);
                        encoded.map_err(|error| Fault::client(error.to_string()))?;
                    }
                }
            }
            Message::Parse {
                frame,
                name,
                types,
                analyzed: Some(analyzed),
                ..
            } => {
                // Where the name is taken the server refuses the message, skips what follows, and this is undone.
                // Only the server knows whether it is taken: code that runs there can have freed it.
                let prepared = Prepared {
                    declared: types.as_deref().map(declared),
                    hidden: hidden_for(
                        &analyzed.tokens,
                        types.as_deref().unwrap_or_default(),
                        &obligations.mask,
                    ),
                    types,
                    described: None,
                    sql: analyzed.sql().clone(),
                    analyzed: analyzed.clone(),
                    epoch: self.epoch(),
                    meant: self.meant(&analyzed),
                };
                let change = self.names.set_statement(&name, Some(prepared), self.run);
                if !name.is_empty() {
                    self.mirror_statement(&name);
                }
                self.extended(Expect::Parse, Some(change));
                match self.revealed(&analyzed, obligations) {
                    None => Self::forward(&frame, out),
                    Some(sql) => parse_instead(&frame, &sql, out)?,
                }
            }
            Message::Bind {
                frame,
                portal,
                statement,
                parameters,
                exact,
                analyzed: Some(analyzed),
                ..
            } => {
                let hidden = self
                    .names
                    .statement(&statement)
                    .and_then(|known| known.hidden.clone());
                let revealed = hidden.and_then(|hidden| {
                    let body = frame.get(crate::wire::frame::HEADER_LEN..)?;
                    revealed_bind(&Bind::parse(body).ok()?, &analyzed.tokens, &hidden)
                });
                self.bind_portal(&portal, analyzed, parameters, *exact);
                Self::forward(revealed.as_ref().unwrap_or(&frame), out);
            }
            Message::Execute {
                frame,
                portal,
                max_rows,
                analyzed: Some(analyzed),
                ..
            } => {
                let given = self.names.portal(&portal).map_or(0, |known| known.rows);
                let budget = obligations.rows.map(|rows| rows.saturating_sub(given));
                let mut running = self.running(ticket, &analyzed, obligations, budget);
                running.portal.clone_from(&portal);
                if running.plan.is_some() || self.settings.withhold && analyzed.touches_tags {
                    // What the client has been told of the portal's columns, if anything, binds nobody.
                    let describe = Describe {
                        target: Target::Portal,
                        name: frame_portal(&frame),
                    };
                    let encoded = describe.encode(&mut out.to_target);
                    encoded.map_err(|error| Fault::client(error.to_string()))?;
                    self.extended(Expect::Layout, None);
                }
                self.extended(Expect::Execute(running), None);
                match limited(max_rows, budget) {
                    None => Self::forward(&frame, out),
                    Some(max_rows) => {
                        let execute = Execute {
                            portal: frame_portal(&frame),
                            max_rows,
                        };
                        let encoded = execute.encode(&mut out.to_target);
                        encoded.map_err(|error| Fault::client(error.to_string()))?;
                    }
                }
            }
            Message::FunctionCall { frame, .. } => {
                self.push(Expect::Function(Box::new(Running {
                    ticket,
                    ..Running::default()
                })));
                self.end_run();
                Self::forward(&frame, out);
            }
            // None of these comes out of `inspect` with a question.
            Message::Improper(_)
            | Message::Query { .. }
            | Message::Parse { .. }
            | Message::Bind { .. }
            | Message::Execute { .. } => return Err(Fault::client("sent a message that was not inspected")),
        }
        Ok(())
    }

    /// The text with the tokens in it revealed, where there are some.
    fn revealed(&mut self, analyzed: &Analyzed, obligations: &Obligations) -> Option<String> {
        if analyzed.tokens.is_empty() || obligations.mask.is_empty() {
            return None;
        }
        let text = revealed_text(analyzed.sql(), &analyzed.tokens, &obligations.mask)?;
        // In other encodings than this one the frame can be made anew of ASCII alone; a token then stays one.
        let fits = self.encoding == ClientEncoding::Utf8 || text.is_ascii();
        // From now on the server can tell of a text that the client has not sent.
        self.texts_revealed |= fits;
        fits.then_some(text)
    }

    fn push(&mut self, expect: Expect) {
        self.pending.push_back(Pending {
            expect,
            run: self.run,
            change: None,
        });
    }

    fn running(
        &mut self,
        ticket: u64,
        analyzed: &Analyzed,
        obligations: &Obligations,
        budget: Option<u64>,
    ) -> Box<Running> {
        if analyzed.copy_ins > 0 {
            self.expect_copy();
        }
        for statement in &analyzed.statements {
            for effect in &statement.effects {
                if let gateway_sql::Effect::Planned { name, path, names } = effect {
                    self.planned(name, *path, *names);
                }
            }
        }
        // In a box: a queue of what is owed is moved about, and long.
        Box::new(Running {
            ticket,
            budget,
            most: obligations
                .rows
                .map(|rows| Box::new((rows, obligations.by.clone()))),
            effects: Effects::of(analyzed),
            copy_ins: analyzed.copy_ins,
            plan: analyzed.plan(&obligations.mask),
            analyzed: Some(analyzed.clone()),
            ..Running::default()
        })
    }
}

/// The row limit to send, where the client's own does not do: one more than the budget, so that a result of exactly
/// that many rows ends as it should and a longer one shows itself.
fn limited(max_rows: i32, budget: Option<u64>) -> Option<i32> {
    let budget = i32::try_from(budget?).ok()?.checked_add(1)?;
    (max_rows <= 0 || max_rows > budget).then_some(budget)
}

/// Sends a Parse with another text.
fn parse_instead(frame: &[u8], sql: &str, out: &mut Outbound) -> Result<(), Fault> {
    let body = frame.get(crate::wire::frame::HEADER_LEN..).unwrap_or_default();
    let parse = Parse::parse(body).map_err(|error| Fault::client(error.to_string()))?;
    let parse = Parse {
        sql: sql.as_bytes(),
        ..parse
    };
    let encoded = parse.encode(&mut out.to_target);
    encoded.map_err(|error| Fault::client(error.to_string()))
}

/// The portal's name in an Execute frame, in the client's own bytes.
fn frame_portal(frame: &[u8]) -> &[u8] {
    let body = frame.get(crate::wire::frame::HEADER_LEN..).unwrap_or_default();
    body.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gateway_core::resource::Resource;
    use gateway_sql::{Catalog, SessionState};

    use super::*;
    use crate::structure::Structure;
    use crate::tags::TagIndex;

    #[test]
    fn a_refusal_names_the_mistake_that_may_be_its_cause() {
        let resource: Resource = serde_json::from_value(serde_json::json!({
            "name": "db", "protocol": "postgres", "address": "127.0.0.1:1",
            "credential": { "kind": "static", "username": "x" },
        }))
        .unwrap();
        let mut builder = Catalog::builder();
        builder.table("public", "customers", &["id", "email"]);
        let tags = Arc::new(TagIndex::of(&resource).unwrap());
        let structure = Structure::new(builder.build(), tags);
        for (sql, hint) in [
            ("SELECT id FROM customers", None),
            ("DELETE FROM customers", None),
            (
                "SELECT * FROM custmers",
                Some("no table custmers is known here; ask"),
            ),
            (
                "SELECT * FROM hr.custmers",
                Some("no table hr.custmers is known here; ask"),
            ),
            (
                "SELECT emial FROM customers",
                Some("no column emial is known here; ask"),
            ),
            (
                "SELECT lenght(email) FROM customers",
                Some("no function lenght is known here; ask"),
            ),
            (
                "SELECT emial FROM customers; SELECT 1 FROM custmers",
                Some("no column emial, no table custmers is known here; ask"),
            ),
            (
                "SELEC 1",
                Some("the text was not understood: Invalid statement: syntax error at or near \"SELEC\""),
            ),
        ] {
            let analyzed = Analyzed::new(Arc::from(sql), &structure, &SessionState::default(), "db");
            assert_eq!(mistake_in(&analyzed, "ask").as_deref(), hint, "{sql}");
        }
    }
}
