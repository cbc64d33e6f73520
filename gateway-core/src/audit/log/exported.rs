//! How far the trail was exported: what no sink has taken yet is not dropped.

use std::sync::atomic::{AtomicU64, Ordering};

/// The last record that each sink has taken. Before a sink has said so, it has taken none.
#[derive(Debug)]
pub struct Exported(Vec<AtomicU64>);

impl Exported {
    /// For so many sinks.
    pub fn new(sinks: usize) -> Self {
        Self((0..sinks).map(|_| AtomicU64::new(0)).collect())
    }

    /// Sink number `sink`, from 0, has taken all up to record `seq`, durably.
    pub fn taken(&self, sink: usize, seq: u64) {
        if let Some(taken) = self.0.get(sink) {
            taken.fetch_max(seq, Ordering::AcqRel);
        }
    }

    /// The last record that all sinks have taken.
    pub(super) fn all(&self) -> u64 {
        let all = self.0.iter().map(|taken| taken.load(Ordering::Acquire));
        all.min().unwrap_or(u64::MAX)
    }
}
