//! The audit log as `serve` uses it: it remembers whether the log can be written, for `/readyz`.

use gateway_core::audit::log::AuditLog;
use gateway_core::audit::{AuditError, AuditSink, Event, OperationEvent, Receipt};
use jiff::Timestamp;
use parking_lot::Mutex;

/// The audit log, with the last failure.
pub(crate) struct WatchedLog {
    log: AuditLog,
    failing: Mutex<Option<String>>,
}

impl WatchedLog {
    /// Watches `log`.
    pub(crate) fn new(log: AuditLog) -> Self {
        Self {
            log,
            failing: Mutex::new(None),
        }
    }

    /// Whether events can be written. While they can't, this tries, so that a gateway which gets no traffic because
    /// it is not ready notices that the disk is back; the trail then says that it was away.
    pub(crate) async fn ready(&self) -> Result<(), AuditError> {
        let Some(why) = self.failing.lock().clone() else {
            return Ok(());
        };
        let event = Event::Operator {
            by: "gateway".to_owned(),
            action: "audit trail written again".to_owned(),
            subject: why,
        };
        self.append(Timestamp::now(), &event, true)?.settled().await
    }

    /// Writes all that was taken and ends. Blocks on the disk.
    pub(crate) fn close(&self) -> Result<(), AuditError> {
        self.log.close()
    }
}

impl AuditSink for WatchedLog {
    fn append(&self, at: Timestamp, event: &Event, durable: bool) -> Result<Receipt, AuditError> {
        self.watch(self.log.append(at, event, durable))
    }

    fn append_operation(
        &self,
        at: Timestamp,
        operation: &OperationEvent<'_>,
        durable: bool,
    ) -> Result<Receipt, AuditError> {
        self.watch(self.log.append_operation(at, operation, durable))
    }
}

impl WatchedLog {
    fn watch(&self, result: Result<Receipt, AuditError>) -> Result<Receipt, AuditError> {
        match &result {
            Ok(_) => *self.failing.lock() = None,
            // An event that can't be encoded says nothing of the disk.
            Err(AuditError::Encode(_)) => {}
            Err(error) => *self.failing.lock() = Some(error.to_string()),
        }
        result
    }
}
