//! The audit log as `serve` and the commands use it: where it is, signed by the key of the data directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gateway_core::audit::log::{AuditLog, AuditLogOptions, AuditLogParts, AuditOpenError, Exported};
use gateway_core::audit::{AuditError, AuditPublicKey, AuditSink, Event, OperationEvent, Receipt};
use gateway_core::sealing::Sealing;
use jiff::Timestamp;

use crate::config::Config;

/// How long `/readyz` waits for a log that is broken: it tries again at once when it is asked.
const PROBE: Duration = Duration::from_millis(500);
/// How often it looks meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// The file of the key that signs the trail of a data directory.
pub(crate) fn key_file(data_dir: &Path) -> PathBuf {
    data_dir.join("audit.key")
}

/// The file of its public half.
pub(crate) fn public_key_file(data_dir: &Path) -> PathBuf {
    data_dir.join("audit.pub")
}

/// Whether there is any segment of a trail in `dir`.
pub(crate) fn has_segments(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut files| {
        files.any(|file| file.is_ok_and(|file| file.path().extension().is_some_and(|e| e == "jsonl")))
    })
}

/// Opens the trail of a data directory for writing. Blocks on the disk.
pub(crate) fn open(
    data_dir: &Path,
    options: AuditLogOptions,
    exported: Option<Arc<Exported>>,
    sealing: Arc<Sealing>,
) -> Result<AuditLog, AuditOpenError> {
    let parts = AuditLogParts {
        key: Some(key_file(data_dir)),
        exported,
        sealing,
    };
    let dir = Config::audit_dir(data_dir);
    let anew = public_key_file(data_dir).exists() && !has_segments(&dir);
    let log = AuditLog::open_with(&dir, options, parts)?;
    if anew {
        tracing::warn!(
            dir = %dir.display(),
            "a new audit trail begins, though there is the key that signed one before: where nobody moved that away on \
             purpose, it was removed"
        );
    }
    if let Some(key) = log.key() {
        publish(data_dir, &key).map_err(|error| AuditOpenError::Io {
            path: public_key_file(data_dir),
            error,
        })?;
    }
    Ok(log)
}

/// Writes the public half beside the key, where it isn't there already.
pub(crate) fn publish(data_dir: &Path, key: &AuditPublicKey) -> std::io::Result<()> {
    let path = public_key_file(data_dir);
    let pem = key.to_pem();
    if std::fs::read_to_string(&path).is_ok_and(|there| there == pem) {
        return Ok(());
    }
    tracing::info!(
        key = %key, file = %path.display(),
        "the audit trail is signed by this key; keep its public half somewhere else: `gateway audit key`"
    );
    let temporary = path.with_extension("pub.new");
    std::fs::write(&temporary, pem)?;
    std::fs::rename(temporary, path)
}

/// The audit log of a gateway that runs.
pub(crate) struct WatchedLog(AuditLog);

impl WatchedLog {
    /// Watches `log`.
    pub(crate) fn new(log: AuditLog) -> Self {
        Self(log)
    }

    /// Whether events can be written. Leaves nothing in the trail. Where they can't, the writer is made to try again, so
    /// that a gateway which gets no traffic because it is not ready notices that the disk is back.
    pub(crate) async fn ready(&self) -> Result<(), AuditError> {
        let until = tokio::time::Instant::now() + PROBE;
        loop {
            match self.0.check() {
                Err(AuditError::Write(_)) if tokio::time::Instant::now() < until => {
                    tokio::time::sleep(LOOK).await;
                }
                state => return state,
            }
        }
    }

    /// Number of the last record that is on disk for certain.
    pub(crate) fn durable(&self) -> u64 {
        self.0.durable()
    }

    /// Writes all that was taken and ends. Blocks on the disk.
    pub(crate) fn close(&self) -> Result<(), AuditError> {
        self.0.close()
    }
}

impl AuditSink for WatchedLog {
    fn append(&self, at: Timestamp, event: &Event, durable: bool) -> Result<Receipt, AuditError> {
        self.0.append(at, event, durable)
    }

    fn append_operation(
        &self,
        at: Timestamp,
        operation: &OperationEvent<'_>,
        durable: bool,
    ) -> Result<Receipt, AuditError> {
        self.0.append_operation(at, operation, durable)
    }
}
