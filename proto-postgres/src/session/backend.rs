//! What the target sends.

use std::collections::VecDeque;

use bytes::BytesMut;
use gateway_core::machine::{End, Fault, Outbound, Outcome, Parsed, Peer};
use gateway_core::verdict::Decision;

use super::failing::stopped;
use super::masked::MAX_MASKED;
use super::names::Change;
use super::own::Question;
use super::pending::{Expect, Pending, Running, Step};
use super::texts;
use super::{Copy, Message, Session, encode_into};
use crate::rewrite;
use crate::wire::backend::{self, ErrorBuilder, Severity, TransactionStatus, sqlstate};
use crate::wire::frame::{self, HEADER_LEN};
use crate::wire::frontend::Terminate;

/// Longest message of a target that is not a row: errors, descriptions, notices.
const MAX_MESSAGE: usize = 16 << 20;
/// Room for what the server owes that is kept while it owes nothing.
const KEPT_PENDING: usize = 64;
/// Longest row.
pub(super) const MAX_ROW: usize = 1 << 30;

/// What becomes of one message of the target.
pub(super) enum Fate {
    /// It goes to the client as it is.
    Pass,
    /// It does not.
    Drop,
}

pub(super) fn unexpected(what: &str) -> Fault {
    Fault::target(format!("sent {what} that nothing asked for"))
}

impl Session {
    pub(crate) fn parse_target(
        &mut self,
        input: &[u8],
        out: &mut Outbound,
    ) -> Result<Parsed<Message>, Fault> {
        if self.pass_target > 0 {
            let n = self.pass_target.min(input.len());
            self.pass_target = self.pass_target.saturating_sub(n);
            self.count_bytes(n);
            return Ok(if n == 0 {
                Parsed::Incomplete
            } else {
                Parsed::Forward(n)
            });
        }
        if !self.deferred.is_empty() {
            out.to_client.extend_from_slice(&self.deferred);
            self.deferred.clear();
        }
        let run = self.rows(input)?;
        if run > 0 {
            return Ok(Parsed::Forward(run));
        }
        let masked = self.masked_rows(input, out)?;
        if masked > 0 {
            return Ok(Parsed::Consumed(masked));
        }
        let header = frame::header(input, MAX_ROW)
            .map_err(|e| Fault::target(format!("sent a malformed frame: {e}")))?;
        let Some(header) = header else {
            return Ok(Parsed::Incomplete);
        };
        if header.len > MAX_MASKED && matches!(header.tag, b'D' | b'd') && self.is_masked() {
            return Err(Fault::target(format!(
                "sent a row of {} bytes; one in which something is masked may have {MAX_MASKED}",
                header.len
            )));
        }
        if header.len > MAX_MESSAGE && !matches!(header.tag, b'D' | b'V') {
            return Err(Fault::target(format!("sent a message of {} bytes", header.len)));
        }
        let Some(whole) = input.get(..header.len) else {
            return Ok(Parsed::Incomplete);
        };
        let body = whole.get(HEADER_LEN..).unwrap_or_default();
        let message =
            backend::Message::parse(header.tag, body).map_err(|e| Fault::target(format!("sent a {e}")))?;
        match self.target_message(&message, whole.len(), out)? {
            Fate::Pass => {
                self.count_bytes(header.len);
                Ok(Parsed::Forward(header.len))
            }
            Fate::Drop => Ok(Parsed::Consumed(header.len)),
        }
    }

    /// The run of rows at the front that goes to the client untouched, in bytes: no row is looked into where nothing of
    /// the result is masked. A long last one goes through as it comes.
    fn rows(&mut self, input: &[u8]) -> Result<usize, Fault> {
        let Some(front) = self.pending.front_mut() else {
            return Ok(0);
        };
        let Some(running) = front
            .expect
            .running()
            .filter(|running| running.masked().is_none())
        else {
            return Ok(0);
        };
        let mut taken: usize = 0;
        let mut rows: u64 = 0;
        while let Some(rest) = input.get(taken..) {
            let header = frame::header(rest, MAX_ROW)
                .map_err(|e| Fault::target(format!("sent a malformed frame: {e}")))?;
            let Some(header) = header else { break };
            // Both carry one row; CopyData only while the server copies out, which is when it sends any.
            if !matches!(header.tag, b'D' | b'd') {
                break;
            }
            let budget = running.budget.map(|budget| budget.saturating_sub(running.rows));
            if running.overrun || budget.is_some_and(|left| rows >= left) {
                break;
            }
            rows = rows.saturating_add(1);
            if rest.len() < header.len {
                self.pass_target = header.len.saturating_sub(rest.len());
                taken = input.len();
                break;
            }
            taken = taken.saturating_add(header.len);
        }
        running.rows = running.rows.saturating_add(rows);
        self.count_bytes(taken);
        Ok(taken)
    }

    pub(super) fn count_bytes(&mut self, n: usize) {
        let n = u64::try_from(n).unwrap_or(u64::MAX);
        if let Some(running) = self
            .pending
            .front_mut()
            .and_then(|pending| pending.expect.running())
        {
            running.bytes = running.bytes.saturating_add(n);
        }
    }

    fn target_message(
        &mut self,
        message: &backend::Message<'_>,
        len: usize,
        out: &mut Outbound,
    ) -> Result<Fate, Fault> {
        use backend::Message as M;
        match message {
            M::ParameterStatus(status) => {
                self.parameter_status(status.name, status.value);
                Ok(Fate::Pass)
            }
            M::NoticeResponse(notice) => {
                if self.is_own() {
                    return Ok(Fate::Drop);
                }
                let texts = self.texts();
                Ok(texts.shown(&notice.fields).map_or(Fate::Pass, |fields| {
                    let fields = texts::borrowed(&fields);
                    encode_into(&mut out.to_client, |to| {
                        backend::NoticeResponse { fields }.encode(to)
                    });
                    Fate::Drop
                }))
            }
            M::NotificationResponse(notification) => {
                let mut found = BytesMut::new();
                let (detect, key) = (&self.settings.detect, &self.settings.mask_key);
                if !detect.rewrite(notification.payload, key, &mut found) {
                    return Ok(Fate::Pass);
                }
                let notification = backend::NotificationResponse {
                    payload: &found,
                    ..*notification
                };
                encode_into(&mut out.to_client, |to| notification.encode(to));
                Ok(Fate::Drop)
            }
            M::ErrorResponse(error) => {
                let texts = self.texts();
                let fate = self.target_error(error, out)?;
                let shown = match fate {
                    Fate::Pass => texts.shown(&error.fields),
                    Fate::Drop => None,
                };
                Ok(shown.map_or(fate, |fields| {
                    let fields = texts::borrowed(&fields);
                    encode_into(&mut out.to_client, |to| {
                        backend::ErrorResponse { fields }.encode(to)
                    });
                    Fate::Drop
                }))
            }
            M::ReadyForQuery(ready) => self.ready(ready.status, len, out),
            M::DataRow(row) => self.row(row),
            M::CopyData(_) => self.copied_row(),
            M::ParseComplete(_) => self.step(Step::Parse, "ParseComplete"),
            M::BindComplete(_) => self.step(Step::Bind, "BindComplete"),
            M::CloseComplete(_) => self.step(Step::Close, "CloseComplete"),
            M::ParameterDescription(description) => match self.front() {
                Some(Expect::Describe(described)) => {
                    // A second description of the same statement is the same.
                    if let Some(described) = described {
                        let _ = described.set(description.types.clone());
                    }
                    Ok(Fate::Pass)
                }
                _ => Err(unexpected("ParameterDescription")),
            },
            M::RowDescription(_) | M::NoData(_) => {
                let description = match message {
                    M::RowDescription(description) => Some(description),
                    _ => None,
                };
                match self.front() {
                    Some(Expect::Describe(_)) => {
                        self.done();
                        Ok(Fate::Pass)
                    }
                    Some(Expect::Layout) => {
                        self.done();
                        self.described(description);
                        Ok(Fate::Drop)
                    }
                    Some(Expect::Query(_)) if description.is_some() => {
                        self.described(description);
                        match self.front() {
                            Some(Expect::Query(running)) if running.overrun => Ok(Fate::Drop),
                            _ => Ok(Fate::Pass),
                        }
                    }
                    _ => Err(unexpected("RowDescription")),
                }
            }
            M::CommandComplete(complete) => self.complete(Some(complete), out),
            M::EmptyQueryResponse(_) => self.complete(None, out),
            M::PortalSuspended(_) => self.suspended(out),
            M::CopyInResponse(_) => self.copy_in(),
            M::CopyOutResponse(response) => {
                if !matches!(self.front(), Some(Expect::Query(_) | Expect::Execute(_))) {
                    return Err(unexpected("CopyOutResponse"));
                }
                Ok(self.copies_out(response))
            }
            M::CopyDone(_) => match self.front() {
                Some(Expect::Query(running) | Expect::Execute(running)) => {
                    Ok(if running.overrun { Fate::Drop } else { Fate::Pass })
                }
                _ => Err(unexpected("CopyDone")),
            },
            M::FunctionCallResponse(_) => match self.front() {
                Some(Expect::Function(_)) => Ok(Fate::Pass),
                _ => Err(unexpected("FunctionCallResponse")),
            },
            M::CopyBothResponse(_) => Err(unexpected("CopyBothResponse")),
            M::Authentication(_) | M::BackendKeyData(_) | M::NegotiateProtocolVersion(_) => {
                Err(unexpected("a message of the login"))
            }
            M::Unknown(unknown) => Err(Fault::target(format!(
                "sent a message of unknown type {:?}",
                char::from(unknown.tag)
            ))),
        }
    }

    fn front(&mut self) -> Option<&mut Expect> {
        self.pending.front_mut().map(|pending| &mut pending.expect)
    }

    pub(super) fn is_own(&self) -> bool {
        matches!(
            self.pending.front().map(|pending| &pending.expect),
            Some(Expect::Own(_))
        )
    }

    /// The front entry has been answered.
    pub(super) fn done(&mut self) -> Option<Pending> {
        let pending = self.pending.pop_front()?;
        if let Some(change) = &pending.change {
            self.names.confirm(change);
            if let Change::Portal(name, _) = change
                && !self.declared.is_empty()
            {
                self.declared.remove(name);
            }
        }
        Some(pending)
    }

    fn step(&mut self, step: Step, what: &'static str) -> Result<Fate, Fault> {
        let fate = match (step, self.front()) {
            (_, Some(Expect::Own(own))) if *own == step => Fate::Drop,
            (Step::Parse, Some(Expect::Parse))
            | (Step::Bind, Some(Expect::Bind))
            | (Step::Close, Some(Expect::Close)) => Fate::Pass,
            _ => return Err(unexpected(what)),
        };
        self.done();
        if matches!(fate, Fate::Drop) && step == Step::Close && !self.is_own() {
            self.own_answered();
        }
        Ok(fate)
    }

    fn row(&mut self, row: &backend::DataRow<'_>) -> Result<Fate, Fault> {
        match self.pending.front_mut().map(|pending| &mut pending.expect) {
            Some(Expect::Own(Step::Execute)) => {
                if let Some(value) = row.columns().next().flatten() {
                    self.own.row(value);
                }
                Ok(Fate::Drop)
            }
            // Only rows over the budget come here: the others went through in `rows`, or in `masked_rows`.
            Some(Expect::Query(running) | Expect::Execute(running)) => {
                if running.masked().is_some() && running.mask.is_none() && !running.overrun {
                    return Err(Fault::target("sent rows without telling their columns"));
                }
                running.overrun = true;
                Ok(Fate::Drop)
            }
            _ => Err(unexpected("DataRow")),
        }
    }

    fn copied_row(&mut self) -> Result<Fate, Fault> {
        match self.front() {
            Some(Expect::Query(running) | Expect::Execute(running)) => {
                if running.masked().is_some() && running.mask.is_none() && !running.overrun {
                    return Err(Fault::target("sent COPY data without telling its columns"));
                }
                running.overrun = true;
                Ok(Fate::Drop)
            }
            _ => Err(unexpected("CopyData")),
        }
    }

    fn complete(
        &mut self,
        complete: Option<&backend::CommandComplete<'_>>,
        out: &mut Outbound,
    ) -> Result<Fate, Fault> {
        let changed = complete.and_then(backend::CommandComplete::rows).unwrap_or(0);
        match self.pending.front_mut().map(|pending| &mut pending.expect) {
            Some(Expect::Own(Step::Execute)) => {
                self.done();
                Ok(Fate::Drop)
            }
            Some(Expect::Query(running)) => {
                let effects = if complete.is_some() {
                    running.effects.complete()
                } else {
                    Vec::new()
                };
                if !is_result(complete) {
                    running.rows = running.rows.saturating_add(changed);
                }
                let fate = if running.overrun { Fate::Drop } else { Fate::Pass };
                running.next_statement();
                self.apply(effects);
                Ok(fate)
            }
            Some(Expect::Execute(running)) => {
                let effects = running.effects.complete();
                if !is_result(complete) {
                    running.rows = running.rows.saturating_add(changed);
                }
                self.apply(effects);
                let Some(Pending {
                    expect: Expect::Execute(mut running),
                    ..
                }) = self.done()
                else {
                    return Ok(Fate::Pass);
                };
                self.copy_ended();
                if running.overrun {
                    // COPY TO takes no row limit: it has run, and only its first rows were passed on.
                    running.error = Some(sqlstate::INSUFFICIENT_PRIVILEGE.to_owned());
                    let error = stopped(&running, &self.settings.session);
                    self.finished(&mut running);
                    return self.stop_execute(error, out);
                }
                self.finished(&mut running);
                Ok(Fate::Pass)
            }
            _ => Err(unexpected("CommandComplete")),
        }
    }

    /// The portal has more rows. Where that is because of a budget, the client is told that it is used up, and the
    /// transaction fails as after any error.
    fn suspended(&mut self, out: &mut Outbound) -> Result<Fate, Fault> {
        let Some(Expect::Execute(running)) = self.front() else {
            return Err(unexpected("PortalSuspended"));
        };
        let used_up = running.overrun;
        let Some(Pending {
            expect: Expect::Execute(mut running),
            ..
        }) = self.done()
        else {
            return Ok(Fate::Drop);
        };
        // A part of it has run.
        self.apply(running.effects.complete());
        self.names.add_rows(&running.portal, running.rows);
        if !used_up {
            self.finished(&mut running);
            return Ok(Fate::Pass);
        }
        running.error = Some(sqlstate::INSUFFICIENT_PRIVILEGE.to_owned());
        let error = stopped(&running, &self.settings.session);
        self.finished(&mut running);
        self.stop_execute(error, out)
    }

    fn copy_in(&mut self) -> Result<Fate, Fault> {
        let simple = matches!(self.front(), Some(Expect::Query(_)));
        match self.front() {
            Some(Expect::Query(running) | Expect::Execute(running)) if running.copy_ins > 0 => {
                running.copy_ins = running.copy_ins.saturating_sub(1);
            }
            _ => return Err(unexpected("CopyInResponse")),
        }
        self.copy = Copy::Active { simple };
        Ok(Fate::Pass)
    }

    fn ready(&mut self, status: TransactionStatus, _: usize, out: &mut Outbound) -> Result<Fate, Fault> {
        let Some(pending) = self.pending.front() else {
            return Err(unexpected("ReadyForQuery"));
        };
        let run = pending.run;
        let fate = match &pending.expect {
            Expect::Own(Step::Sync) => {
                self.done();
                self.own_answered();
                self.ready_status(status, run);
                return Ok(Fate::Drop);
            }
            Expect::Refusal {
                simple: true,
                told: false,
                ..
            } => return Err(Fault::target("ran what is no SQL")),
            Expect::Sync | Expect::Refusal { simple: true, .. } => {
                self.done();
                Fate::Pass
            }
            Expect::Query(_) | Expect::Function(_) => {
                let Some(mut pending) = self.done() else {
                    return Ok(Fate::Drop);
                };
                self.copy_ended();
                let Some(running) = pending.expect.running() else {
                    return Ok(Fate::Drop);
                };
                let mismatch = running.mismatch;
                let overrun = running.overrun.then(|| stopped(running, &self.settings.session));
                if overrun.is_some() {
                    running.error = Some(sqlstate::INSUFFICIENT_PRIVILEGE.to_owned());
                }
                self.finished(running);
                if let (Some(error), true) = (&overrun, mismatch) {
                    // The client may have sent on, so nothing can be put behind it.
                    out.to_client.extend_from_slice(error);
                    self.ready_status(status, run);
                    return Ok(Fate::Pass);
                }
                if let Some(error) = overrun {
                    return Ok(self.overrun(status, run, error, out));
                }
                Fate::Pass
            }
            _ => return Err(unexpected("ReadyForQuery")),
        };
        self.ready_status(status, run);
        Ok(fate)
    }

    pub(super) fn ready_status(&mut self, status: TransactionStatus, run: u64) {
        self.transaction = status;
        if self.pending.is_empty() && self.pending.capacity() > KEPT_PENDING {
            // One long pipeline does not make a session large for ever.
            self.pending = VecDeque::new();
        }
        if status == TransactionStatus::Idle {
            self.state.reverts = false;
            self.names.end_portals(run);
            self.mirror_portals();
            if self.touched {
                self.environment_stale = true;
                self.touched = false;
            }
            if self.defined {
                self.defined = false;
                self.private = None;
                self.private_stale = false;
                self.reading = None;
                self.structure_is_stale();
            }
        }
    }

    pub(super) fn structure_is_stale(&mut self) {
        if let Some(structure) = &self.structure {
            structure.supersede();
        }
        (self.changed.0)();
    }

    pub(super) fn finished(&mut self, running: &mut Running) {
        if running.ticket == gateway_core::gateway::PREPARED {
            return;
        }
        self.outcomes.push_back(Outcome {
            ticket: running.ticket,
            rows: running.rows,
            bytes: running.bytes,
            error: running.error.take(),
        });
    }

    pub(crate) fn notice(&mut self, decision: &Decision, out: &mut Outbound) {
        let notice = ErrorBuilder::new(Severity::Notice, "01000", rewrite::message(decision))
            .detail(decision.to_json())
            .hint(&decision.hint);
        let to = if self.pass_target > 0 {
            &mut self.deferred
        } else {
            &mut out.to_client
        };
        encode_into(to, |to| notice.encode(to));
    }

    pub(crate) fn goodbye(&mut self, why: &End, out: &mut Outbound) {
        // In the middle of a message there is no room for another one: to the target it would be COPY data.
        let target_listens = !matches!(why, End::TargetClosed | End::Broken(Peer::Target, _));
        if self.pass_client == 0 && target_listens {
            encode_into(&mut out.to_target, |to| Terminate.encode(to));
        }
        if self.pass_target == 0
            && !self.fatal_sent
            && let Some(error) = rewrite::goodbye(why, &self.settings.session)
        {
            encode_into(&mut out.to_client, |to| error.encode(to));
        }
    }

    /// Which of the gateway's own questions must be asked next.
    pub(crate) fn own_question(&self) -> Option<Question> {
        if self.reading.is_some() {
            Some(Question::Structure)
        } else if self.private_stale {
            Some(Question::Stamps)
        } else if self.environment_stale {
            Some(Question::Environment)
        } else {
            None
        }
    }
}

/// Whether the count in a CommandComplete counts rows that were sent.
fn is_result(complete: Option<&backend::CommandComplete<'_>>) -> bool {
    complete.is_some_and(|complete| {
        complete.tag.starts_with(b"SELECT")
            || complete.tag.starts_with(b"FETCH")
            || complete.tag.starts_with(b"MOVE")
            || complete.tag.starts_with(b"COPY")
    })
}
