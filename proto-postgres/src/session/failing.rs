//! What fails: errors of the target, what they leave undone, and results that end early.

use bytes::BytesMut;
use gateway_core::machine::{Fault, Outbound};
use gateway_core::verdict::{Code, Denial};

use super::Session;
use super::backend::{Fate, unexpected};
use super::names::{Change, Undone};
use super::pending::{Expect, Running, Step};
use crate::rewrite;
use crate::wire::backend::{self, TransactionStatus, field, sqlstate};

/// How an operation ended that was sent and not answered when its session ended.
const UNANSWERED: &str = "the session ended before the target answered: it may have run";

impl Session {
    pub(super) fn target_error(
        &mut self,
        error: &backend::ErrorResponse<'_>,
        out: &mut Outbound,
    ) -> Result<Fate, Fault> {
        let severity = error
            .get(field::SEVERITY_NONLOCALIZED)
            .or_else(|| error.get(field::SEVERITY));
        if matches!(severity, Some(b"FATAL" | b"PANIC")) {
            self.fatal_sent = true;
            return Ok(Fate::Pass);
        }
        let code = error
            .get(field::CODE)
            .map(|code| String::from_utf8_lossy(code).into_owned());
        self.note_failure();
        match self.pending.front_mut().map(|pending| &mut pending.expect) {
            None => Err(unexpected("an error")),
            Some(Expect::Query(running) | Expect::Function(running)) => {
                running.error = code.or_else(|| Some(sqlstate::INTERNAL_ERROR.to_owned()));
                running.effects.clear();
                running.copy_ins = 0;
                let (cancelled, overrun) = (running.cancelled.take(), running.overrun);
                self.copy_ended();
                if let Some(frame) = cancelled {
                    out.to_client.extend_from_slice(&frame);
                    return Ok(Fate::Drop);
                }
                Ok(if overrun { Fate::Drop } else { Fate::Pass })
            }
            Some(Expect::Refusal {
                simple: true,
                error,
                told,
            }) => {
                if !*told {
                    out.to_client.extend_from_slice(error);
                    *told = true;
                }
                Ok(Fate::Drop)
            }
            Some(Expect::Refusal {
                simple: false, error, ..
            }) => {
                out.to_client.extend_from_slice(error);
                self.skip_to_sync(Undone::Refused);
                Ok(Fate::Drop)
            }
            Some(Expect::Own(Step::Sync)) => Err(unexpected("an error")),
            Some(Expect::Own(_)) => Ok(self.own_failed()),
            Some(Expect::Execute(running)) => {
                running.error = code.or_else(|| Some(sqlstate::INTERNAL_ERROR.to_owned()));
                let cancelled = running.cancelled.take();
                self.skip_to_sync(Undone::Refused);
                if let Some(frame) = cancelled {
                    out.to_client.extend_from_slice(&frame);
                    return Ok(Fate::Drop);
                }
                Ok(Fate::Pass)
            }
            Some(
                Expect::Parse
                | Expect::Bind
                | Expect::Describe(_)
                | Expect::Layout
                | Expect::Close
                | Expect::Sync,
            ) => {
                self.skip_to_sync(Undone::Refused);
                Ok(Fate::Pass)
            }
        }
    }

    /// The gateway's own question has failed. Where it ran in a run of the client's, that run has failed.
    pub(super) fn own_failed(&mut self) -> Fate {
        self.own.failed = true;
        while self.is_own() {
            if matches!(
                self.pending.front().map(|p| &p.expect),
                Some(Expect::Own(Step::Sync))
            ) {
                self.own_answered();
                return Fate::Drop;
            }
            self.done();
        }
        self.own_answered();
        self.skip_to_sync(Undone::Skipped);
        Fate::Pass
    }

    /// After an error in the extended protocol the server skips all up to the next Sync: what was forwarded is not
    /// answered, and what comes is not forwarded. `front`: what became of the first of these.
    pub(super) fn skip_to_sync(&mut self, front: Undone) {
        let mut skipped = Vec::new();
        while let Some(pending) = self.pending.pop_front() {
            if matches!(pending.expect, Expect::Sync) {
                self.pending.push_front(pending);
                break;
            }
            skipped.push(pending);
        }
        if !self
            .pending
            .iter()
            .any(|pending| matches!(pending.expect, Expect::Sync))
        {
            self.skipping = true;
        }
        while let Some(pending) = skipped.pop() {
            if let Some(change) = pending.change {
                let why = if skipped.is_empty() {
                    front
                } else {
                    Undone::Skipped
                };
                self.undo(change, why);
            }
            if let Expect::Query(mut running) | Expect::Execute(mut running) | Expect::Function(mut running) =
                pending.expect
            {
                running.error.get_or_insert_with(|| "skipped".to_owned());
                self.finished(&mut running);
            }
        }
        self.copy_ended();
    }

    pub(super) fn undo(&mut self, change: Change, why: Undone) {
        self.names.undo(&change, why);
        match change {
            // SQL has no word for what is unnamed.
            Change::Statement(name, _) | Change::Portal(name, _) if name.is_empty() => {}
            Change::Statement(name, _) => self.mirror_statement(&name),
            Change::Portal(name, _) => {
                if let Some(portal) = self.names.portal(&name) {
                    self.state.cursors.insert(name, portal.analyzed.cursor());
                } else if let Some(cursor) = self.declared.get(&name) {
                    self.state.cursors.insert(name, cursor.clone());
                } else {
                    self.state.cursors.remove(&name);
                }
            }
        }
    }

    /// gateway-sql sees the same portals.
    pub(crate) fn mirror_portals(&mut self) {
        let (names, declared) = (&self.names, &self.declared);
        self.state
            .cursors
            .retain(|name, _| declared.contains_key(name) || names.portal(name).is_some());
    }

    /// gateway-sql sees the same statements.
    pub(crate) fn mirror_statement(&mut self, name: &str) {
        match self.names.statement(name) {
            Some(prepared) => {
                let statement = gateway_sql::PreparedStatement {
                    sql: prepared.sql.clone(),
                    types: prepared.declared.clone().unwrap_or_default(),
                    meant: prepared.meant.clone(),
                };
                self.state.prepared.insert(name.to_owned(), statement);
            }
            None => {
                self.state.prepared.remove(name);
            }
        }
    }

    /// An error may have undone what the transaction changed.
    pub(crate) fn note_failure(&mut self) {
        if self.touched {
            self.environment_stale = true;
        }
        if self.defined {
            self.private_is_stale();
        }
    }

    /// The structure that this transaction sees is another one now.
    pub(crate) fn private_is_stale(&mut self) {
        self.private_stale = true;
        self.reading = None;
    }

    /// A Query gave what it may not. The client is told so in the end, and a transaction that it is in fails.
    pub(super) fn overrun(
        &mut self,
        status: TransactionStatus,
        run: u64,
        error: BytesMut,
        out: &mut Outbound,
    ) -> Fate {
        if status == TransactionStatus::InTransaction {
            self.ready_status(status, run);
            // Nothing was forwarded behind it, so the failure is the next thing that the server sees.
            self.refuse(true, error, out);
            return Fate::Drop;
        }
        out.to_client.extend_from_slice(&error);
        self.ready_status(status, run);
        Fate::Pass
    }

    /// Tells the client why an Execute ends early. Nothing was forwarded behind one with a budget, so the failure is the
    /// next thing that the server reads. Behind one whose columns are others than was known something may have been: a
    /// Sync, and the error is in its place before the answer to that; anything else would be answered as if all was well,
    /// so the session ends.
    pub(super) fn stop_execute(&mut self, error: BytesMut, out: &mut Outbound) -> Result<Fate, Fault> {
        match self.pending.front().map(|pending| &pending.expect) {
            None => self.refuse(false, error, out),
            Some(Expect::Sync) => out.to_client.extend_from_slice(&error),
            Some(_) => return Err(Fault::target("gave other columns than the gateway knows")),
        }
        Ok(Fate::Drop)
    }

    /// The server will not answer these: what they did is not known.
    pub(crate) fn unanswered(&mut self) {
        while let Some(mut pending) = self.pending.pop_front() {
            if let Some(running) = pending.expect.running() {
                running.error.get_or_insert_with(|| UNANSWERED.to_owned());
                self.finished(running);
            }
        }
    }
}

/// Why the rest of a result is not passed on.
pub(super) fn stopped(running: &Running, session: &str) -> BytesMut {
    let correlation = format!("{session}/{}", running.ticket);
    if running.mismatch {
        let writes = running.analyzed.as_ref().is_some_and(|analyzed| analyzed.writes);
        let again = match writes {
            true => "it has run: look before you send it again",
            false => "try once more",
        };
        let denial = Denial::new(
            "read",
            format!(
                "the target gives other columns than the gateway knows, so it can't tell what to mask and withholds the \
                 result; the structure is read again: {again}"
            ),
        );
        return rewrite::refusal(&denial.decision(correlation), None);
    }
    let (most, by) = running.most.as_deref().map_or((0, None), |(most, by)| {
        (*most, by.as_ref().and_then(|by| by.rows.as_deref()))
    });
    let denial = Denial {
        code: Code::BudgetExhausted,
        rule: by.map(str::to_owned),
        operation: "read".to_owned(),
        hint: format!("policy gives at most {most} rows for this; ask for fewer, for example with LIMIT"),
    };
    rewrite::refusal(&denial.decision(correlation), None)
}
