//! RFC 5424 messages, and octet-counted frames (RFC 6587, section 3.4.1; RFC 5425, section 4.3) of them.

use std::fmt::Write;

use super::{Record, SYSLOG_BYTES, cut, fields};

/// Facility 13, log audit.
const FACILITY: u8 = 13;
/// The structured data's id; 32473 is the enterprise number that IANA keeps for examples and documentation (RFC 5612).
const SD_ID: &str = "audit@32473";

/// One message. Control characters in parameters become blanks, so that no relay makes two lines of it; the message
/// itself is the record's line as it stands in the trail, which has none.
pub(super) fn message(record: &Record, host: &str) -> String {
    let verdict = record.row.as_ref().and_then(|row| row.verdict.as_deref());
    // Warning, or informational.
    let severity = if verdict == Some("deny") { 4 } else { 6 };
    let kind = record.row.as_ref().map_or("unknown", |row| row.kind);
    let mut out = format!(
        "<{}>1 {:.6} {} gateway - {} [{SD_ID} seq=\"{}\" hash=\"{}\"",
        FACILITY * 8 + severity,
        record.at,
        header(host, 255),
        header(kind, 32),
        record.seq,
        record.hash,
    );
    for (name, value) in record.row.iter().flat_map(fields) {
        parameter(&mut out, name, &value);
    }
    let line = cut(&record.line, SYSLOG_BYTES);
    if line.len() < record.line.len() {
        parameter(&mut out, "truncated_from", &record.line.len().to_string());
    }
    // MSG in UTF-8 begins with a byte order mark (section 6.4).
    let _ = write!(out, "] \u{feff}{}", plain(line));
    out
}

/// One frame: length, blank, message.
pub(super) fn frame(record: &Record, host: &str) -> Vec<u8> {
    let message = message(record, host);
    format!("{} {message}", message.len()).into_bytes()
}

/// A field of the header: printable ASCII without blanks, of a largest length; `-` where nothing is left.
fn header(text: &str, most: usize) -> String {
    let out: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if out.is_empty() { "-".to_owned() } else { out }
}

/// A parameter, its value escaped as section 6.3.3 has it.
fn parameter(out: &mut String, name: &str, value: &str) {
    out.push(' ');
    out.push_str(name);
    out.push_str("=\"");
    for c in plain(value).chars() {
        if matches!(c, '"' | '\\' | ']') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
