//! How operations and the session end, in the trail and in the store.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use super::SessionScope;
use crate::audit::Event;
use crate::machine::{End, Outcome};
use crate::verdict::{Code, Decision, Denial};

/// Room for operations that run which is kept while none does.
const KEPT_RUNNING: usize = 64;

impl SessionScope {
    /// Puts how an operation ended into the trail.
    pub fn outcome(&mut self, outcome: &Outcome, now: std::time::Instant) {
        let since = self.ended(outcome.ticket);
        let micros = since.map_or(0, |since| {
            u64::try_from(now.saturating_duration_since(since).as_micros()).unwrap_or(u64::MAX)
        });
        self.counters
            .counters
            .rows
            .fetch_add(outcome.rows, Ordering::Relaxed);
        self.counters
            .counters
            .bytes
            .fetch_add(outcome.bytes, Ordering::Relaxed);
        self.gateway.note(&Event::Outcome {
            session: self.id,
            ticket: outcome.ticket,
            rows: outcome.rows,
            bytes: outcome.bytes,
            micros,
            error: outcome.error.clone(),
        });
    }

    /// The decision object of an operation that used up its time.
    /// `by`: the policy that gives it no more.
    pub fn out_of_time(&self, ticket: u64, by: Option<&str>) -> Decision {
        let denial = Denial {
            code: Code::BudgetExhausted,
            rule: by.map(str::to_owned),
            operation: "operation".to_owned(),
            hint: "the operation took longer than policy allows; make it smaller".to_owned(),
        };
        denial.decision(self.correlation(ticket))
    }

    /// Whether the operation of that ticket still runs.
    pub fn is_running(&self, ticket: u64) -> bool {
        self.running.iter().any(|(running, _)| *running == ticket)
    }

    /// Whether an operation has begun and not ended.
    pub(crate) fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// The operation that was begun last never runs: it was still undecided when its session ended.
    pub(crate) fn withdraw(&mut self) {
        if let Some((ticket, _)) = self.running.back().copied() {
            self.ended(ticket);
        }
    }

    /// An operation has ended: since when it ran. They mostly end in order.
    pub(super) fn ended(&mut self, ticket: u64) -> Option<std::time::Instant> {
        self.counters.granted.over(ticket);
        let place = self.running.iter().position(|(running, _)| *running == ticket)?;
        let (_, since) = self.running.remove(place)?;
        if self.running.is_empty() && self.running.capacity() > KEPT_RUNNING {
            // One long pipeline does not make a session large for ever.
            self.running = VecDeque::new();
        }
        Some(since)
    }

    /// Ends the session in the trail and in the store.
    pub fn finish(&mut self, why: &End) {
        let by = match why {
            End::Killed(kill) => kill.by.clone(),
            _ => None,
        };
        self.finish_with(&why.reason(), by);
    }

    /// Ends a session that never came to its target.
    pub fn finish_because(&mut self, reason: &str) {
        self.finish_with(reason, None);
    }

    /// Takes back a session whose start is not in the trail: it never was.
    pub(in super::super) fn never_began(&mut self) {
        self.finished = true;
        self.leave();
    }

    fn leave(&self) {
        self.gateway.live.leave(self.id);
        metrics::gauge!("gateway_sessions", "protocol" => self.protocol).decrement(1.0);
    }

    fn finish_with(&mut self, reason: &str, by: Option<String>) {
        if self.finished {
            return;
        }
        self.finished = true;
        self.leave();
        let counters = &self.counters.counters;
        self.gateway.note(&Event::SessionEnded {
            session: self.id,
            reason: reason.to_owned(),
            by,
            operations: counters.operations.load(Ordering::Relaxed),
            refused: counters.refused.load(Ordering::Relaxed),
            rows: counters.rows.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
        });
        self.store_record(Some(reason.to_owned()));
        if let Some(lease) = self.lease.take() {
            self.gateway.give_back(lease);
        }
    }

    /// Sessions in the store are for lists; the audit trail is what proves. So this does not hold anyone up.
    pub(in super::super) fn store_record(&self, ended: Option<String>) {
        let mut record = self.counters.record();
        if let Some(reason) = ended {
            record.ended = Some(self.gateway.now());
            record.reason = Some(reason);
        }
        let store = self.gateway.parts.store.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = store.put_session(&record).await {
                    tracing::error!(%error, session = %record.id, "a session is not in the store");
                }
            });
        }
    }
}

impl Drop for SessionScope {
    fn drop(&mut self) {
        // Only a panic or an early return of an adapter comes here unfinished.
        let reason = if std::thread::panicking() {
            "the session's task panicked"
        } else {
            "ended before it began"
        };
        self.finish_with(reason, None);
    }
}
