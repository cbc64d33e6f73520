//! An audit sink of one's own: everything goes into the trail, and refusals are counted and told besides.

use std::sync::atomic::{AtomicU64, Ordering};

use gateway_core::audit::{AuditError, AuditSink, Event, Receipt};
use jiff::Timestamp;

/// Writes to `inner`, and tells refusals to `tell`.
pub(crate) struct Telling<S, F> {
    inner: S,
    tell: F,
    refused: AtomicU64,
}

impl<S, F> Telling<S, F> {
    /// Around another sink.
    pub(crate) fn new(inner: S, tell: F) -> Self {
        Self {
            inner,
            tell,
            refused: AtomicU64::new(0),
        }
    }
}

impl<S: AuditSink, F: Fn(u64, &str) + Send + Sync> AuditSink for Telling<S, F> {
    fn append(&self, at: Timestamp, event: &Event, durable: bool) -> Result<Receipt, AuditError> {
        // The trail comes first: what it does not take must not run, and is not told as if it had been.
        let receipt = self.inner.append(at, event, durable)?;
        let line = match event {
            Event::Operation {
                principal,
                operation,
                verdict,
                ..
            } if verdict == "deny" => Some(format!("{at} {} was refused: {operation}", principal.subject)),
            Event::LoginRefused { peer, reason, .. } => {
                Some(format!("{at} a login from {peer} was refused: {reason}"))
            }
            _ => None,
        };
        if let Some(line) = line {
            let count = self.refused.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            (self.tell)(count, &line);
        }
        Ok(receipt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_core::embed::Told;

    #[test]
    fn what_the_trail_does_not_take_is_not_told() {
        let refused = Event::LoginRefused {
            peer: ([127, 0, 0, 1], 1).into(),
            protocol: "postgres".to_owned(),
            user: "a@b".to_owned(),
            resource: "b".to_owned(),
            principal: None,
            reason: "the token is unknown".to_owned(),
            correlation: "c0ffee".to_owned(),
        };
        let told = std::sync::Mutex::new(Vec::new());
        let full = Telling::new(
            Told(|_, _: &Event| Err(AuditError::Write("full".to_owned()))),
            |_, line: &str| told.lock().unwrap().push(line.to_owned()),
        );
        assert!(full.append(Timestamp::UNIX_EPOCH, &refused, true).is_err());
        assert!(told.lock().unwrap().is_empty());
        let good = Telling::new(Told(|_, _: &Event| Ok(())), |_, line: &str| {
            told.lock().unwrap().push(line.to_owned());
        });
        assert!(good.append(Timestamp::UNIX_EPOCH, &refused, true).is_ok());
        assert_eq!(told.lock().unwrap().len(), 1);
    }
}
