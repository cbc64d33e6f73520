//! The OpenTelemetry logs data model in OTLP's JSON: lower camel case, 64-bit numbers as texts.

use serde_json::{Value, json};

use super::{OTLP_BYTES, Record, cut, fields};

/// One `ExportLogsServiceRequest`.
pub(super) fn request(batch: &[Record], host: &str, now: jiff::Timestamp) -> Value {
    let records: Vec<Value> = batch.iter().map(|record| log_record(record, now)).collect();
    json!({
        "resourceLogs": [{
            "resource": { "attributes": [
                text("service.name", "gateway"),
                text("service.version", env!("CARGO_PKG_VERSION")),
                text("host.name", host),
            ] },
            "scopeLogs": [{
                "scope": { "name": "gateway.audit", "version": "1" },
                "logRecords": records,
            }],
        }],
    })
}

fn log_record(record: &Record, now: jiff::Timestamp) -> Value {
    let kind = record.row.as_ref().map_or("unknown", |row| row.kind);
    let denied = record.row.as_ref().and_then(|row| row.verdict.as_deref()) == Some("deny");
    let mut attributes = vec![
        json!({ "key": "gateway.audit.seq", "value": { "intValue": record.seq.to_string() } }),
        text("gateway.audit.hash", &record.hash),
    ];
    for (name, value) in record.row.iter().flat_map(fields) {
        attributes.push(text(&format!("gateway.audit.{name}"), &value));
    }
    let line = cut(&record.line, OTLP_BYTES);
    if line.len() < record.line.len() {
        let bytes = record.line.len().to_string();
        attributes.push(json!({ "key": "gateway.audit.truncated_from", "value": { "intValue": bytes } }));
    }
    json!({
        "timeUnixNano": record.at.as_nanosecond().to_string(),
        "observedTimeUnixNano": now.as_nanosecond().to_string(),
        "severityNumber": if denied { 13 } else { 9 },
        "severityText": if denied { "WARN" } else { "INFO" },
        "eventName": format!("gateway.audit.{kind}"),
        "body": { "stringValue": line },
        "attributes": attributes,
    })
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// How many records a receiver says it did not take, and why, in its answer to a request that it did take.
pub(super) fn rejected(answer: &[u8]) -> Option<(u64, String)> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let partial = answer.get("partialSuccess")?;
    let count = match partial.get("rejectedLogRecords")? {
        Value::String(digits) => digits.parse().ok()?,
        number => number.as_u64()?,
    };
    let why = partial
        .get("errorMessage")
        .and_then(Value::as_str)
        .unwrap_or_default();
    (count > 0).then(|| (count, cut(why, 200).to_owned()))
}
