//! Counters that are there from the start: an alarm on one that stays at 0 has something to look at, and the first event of
//! its kind is an increase.

use metrics::counter;

use crate::config::Config;

/// What is counted for the gateway as a whole.
const OVERALL: [&str; 7] = [
    "audit_dropped_records_total",
    "audit_events_total",
    "audit_export_rejected_total",
    "audit_write_errors_total",
    "gateway_recordings_archive_failed_total",
    "gateway_recordings_archived_total",
    "gateway_recordings_failed_total",
];
/// And for each protocol that is listened for.
const OF_PROTOCOLS: [&str; 6] = [
    "gateway_connections_total",
    "gateway_half_open_refused_total",
    "gateway_logins_refused_total",
    "gateway_operations_refused_total",
    "gateway_panics_total",
    "gateway_sessions_total",
];

/// Shows all of these, with nothing counted yet.
pub(crate) fn from_zero(config: &Config) {
    for name in OVERALL {
        counter!(name).increment(0);
    }
    for protocol in config.listen.adapters.keys() {
        for name in OF_PROTOCOLS {
            counter!(name, "protocol" => protocol.clone()).increment(0);
        }
    }
    for resource in config.resources.keys() {
        counter!("gateway_lease_failures_total", "resource" => resource.clone()).increment(0);
    }
}
