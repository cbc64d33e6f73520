//! `[audit]`.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Duration;

use gateway_core::audit::AuditMode;
use gateway_core::audit::log::{AuditLogOptions, Retain};
use gateway_core::gateway::AuditOptions;
use gateway_core::limits::duration;
use gateway_core::tls::{ClientTls, TargetTls};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Checker;
use super::keys::with_suggestion;
use crate::export::config::ExportConfig;

/// The most exports.
const MAX_EXPORTS: usize = 16;

/// What a batched event waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Batched {
    /// For nothing: it is queued.
    Queued,
    /// For the kernel to have it.
    Written,
}

/// `[audit]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AuditSection {
    /// When an event must be on disk; absent: durable for writes and held ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<AuditMode>,
    /// Whether texts are kept as they are.
    literals: bool,
    /// Size of a segment.
    segment_bytes: u64,
    /// Age of a segment, such as `1d`; `0s`: only its size counts.
    segment_age: String,
    /// How long a batched event may wait, such as `50ms`.
    flush: String,
    /// What a batched event waits for before its operation is forwarded.
    batched: Batched,
    /// A checkpoint is signed after so many records.
    checkpoint_records: u64,
    /// And after so much time.
    checkpoint_interval: String,
    /// How long records are kept; absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retain: Option<String>,
    /// How large the trail may grow; absent: without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retain_bytes: Option<u64>,
    /// Where it is exported to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    export: Vec<ExportConfig>,
    /// What the texts say.
    #[serde(skip)]
    log: AuditLogOptions,
}

impl Default for AuditSection {
    fn default() -> Self {
        let log = AuditLogOptions::default();
        Self {
            mode: None,
            literals: true,
            segment_bytes: log.segment_bytes,
            segment_age: duration::format(log.segment_age.unwrap_or_default()),
            flush: duration::format(log.flush_interval),
            batched: Batched::Queued,
            checkpoint_records: log.checkpoint_records,
            checkpoint_interval: duration::format(log.checkpoint_interval),
            retain: None,
            retain_bytes: None,
            export: Vec::new(),
            log,
        }
    }
}

impl AuditSection {
    /// For the pipeline.
    pub(crate) fn options(&self) -> AuditOptions {
        AuditOptions {
            mode: self.mode,
            literals: self.literals,
        }
    }

    /// For the log.
    pub(crate) fn log_options(&self) -> AuditLogOptions {
        self.log
    }

    /// Where the trail is exported to.
    pub(crate) fn exports(&self) -> &[ExportConfig] {
        &self.export
    }
}

impl Checker<'_> {
    /// Checks the section; what is wrong is among the problems.
    pub(super) fn audit(&mut self, value: Option<Value>) -> Option<AuditSection> {
        let mut table = self.table("audit", value);
        let exports = table.remove("export");
        let mut audit = self.flat(
            "audit",
            Some(Value::Object(table)),
            AuditSection::default(),
            &["mode", "retain", "retain_bytes", "export"],
        );
        audit.export = self.exports(exports);
        if audit.segment_bytes < 4096 {
            self.push("audit.segment_bytes", "must be at least 4096");
        }
        if !(1..=1_000_000).contains(&audit.checkpoint_records) {
            self.push("audit.checkpoint_records", "must be from 1 to 1000000");
        }
        if audit.retain_bytes.is_some_and(|most| most < audit.segment_bytes) {
            self.push(
                "audit.retain_bytes",
                "must be at least `segment_bytes`: only whole segments are dropped",
            );
        }
        let second = Duration::from_secs(1);
        let flush = self.duration(
            "audit.flush",
            &audit.flush,
            Duration::from_millis(1)..=10 * second,
        );
        let interval = self.duration(
            "audit.checkpoint_interval",
            &audit.checkpoint_interval,
            second..=3600 * second,
        );
        let age = self.duration(
            "audit.segment_age",
            &audit.segment_age,
            Duration::ZERO..=Duration::MAX,
        );
        let retain = match &audit.retain {
            Some(text) => Some(self.duration("audit.retain", text, second..=Duration::MAX)?),
            None => None,
        };
        audit.log = AuditLogOptions {
            segment_bytes: audit.segment_bytes,
            flush_interval: flush?,
            write_first: audit.batched == Batched::Written,
            segment_age: age.filter(|age| !age.is_zero()),
            checkpoint_records: audit.checkpoint_records,
            checkpoint_interval: interval?,
            retain: Retain {
                age: retain,
                bytes: audit.retain_bytes,
            },
            ..AuditLogOptions::default()
        };
        Some(audit)
    }

    fn duration(
        &mut self,
        path: &str,
        text: &str,
        range: std::ops::RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let told: Box<dyn Display> = match duration::parse(text) {
            Ok(found) if range.contains(&found) => return Some(found),
            Ok(_) if *range.end() == Duration::MAX => {
                Box::new(format!("must be at least {}", duration::format(*range.start())))
            }
            Ok(_) => Box::new(format!(
                "must be from {} to {}",
                duration::format(*range.start()),
                duration::format(*range.end())
            )),
            Err(error) => Box::new(error),
        };
        self.push(path, told);
        None
    }

    /// `[[audit.export]]`.
    fn exports(&mut self, value: Option<Value>) -> Vec<ExportConfig> {
        let list = match value {
            None => return Vec::new(),
            Some(Value::Array(list)) if list.len() <= MAX_EXPORTS => list,
            Some(Value::Array(_)) => {
                self.push("audit.export", format!("there may be {MAX_EXPORTS} at most"));
                return Vec::new();
            }
            Some(_) => {
                self.push("audit.export", "must be a list: `[[audit.export]]`");
                return Vec::new();
            }
        };
        let mut names = BTreeSet::new();
        let mut exports = Vec::new();
        for (index, value) in list.into_iter().enumerate() {
            let path = format!("audit.export[{index}]");
            let mut export: ExportConfig = match serde_json::from_value(value) {
                Ok(export) => export,
                Err(error) => {
                    let told = with_suggestion(&path, &error.to_string(), &[]);
                    self.push(&path, told);
                    continue;
                }
            };
            for file in [&mut export.path, &mut export.ca].into_iter().flatten() {
                *file = self.raw.resolve(&*file);
            }
            if let Err((key, why)) = export.sink() {
                self.push(&format!("{path}.{key}"), why);
            }
            if let Some(ca) = &export.ca
                && let Err(error) = ClientTls::new(TargetTls {
                    ca: Some(ca),
                    ..TargetTls::default()
                })
            {
                self.push(&format!("{path}.ca"), error);
            }
            if !names.insert(export.name().to_owned()) {
                let why = format!(
                    "two exports are named `{}`; give each a `name` of its own",
                    export.name()
                );
                self.push(&format!("{path}.name"), why);
            }
            exports.push(export);
        }
        exports
    }
}
