//! The forms that others read, and sinks that break.

use serde_json::Value;

use super::sink::{append, host_and_port, lines, url};
use super::*;

fn record(event: &str) -> Record {
    let line =
        format!(r#"{{"seq":7,"at":"2026-03-01T10:00:00.123456789Z","prev":"p","event":{event},"hash":"h"}}"#);
    let row = AuditRow {
        kind: "operation",
        principal: Some("eve\"]\\\n<evil> ü".into()),
        verdict: Some("deny".into()),
        rules: vec!["a".into(), "b".into()],
        ..AuditRow::default()
    };
    Record {
        seq: 7,
        at: "2026-03-01T10:00:00.123456789Z".parse().unwrap(),
        hash: "h".into(),
        line,
        row: Some(row),
    }
}

#[test]
fn a_syslog_message_is_rfc_5424_with_everything_escaped() {
    let message = syslog::message(&record("{}"), "gw 1\n");
    assert!(
        message.starts_with(
            "<108>1 2026-03-01T10:00:00.123456Z gw1 gateway - operation [audit@32473 seq=\"7\" hash=\"h\" kind=\"operation\" \
             principal=\"eve\\\"\\]\\\\ <evil> ü\" verdict=\"deny\" rules=\"a,b\"] \u{feff}{\"seq\":7,"
        ),
        "{message}"
    );
    assert!(!message.contains('\n'));
}

#[test]
fn a_syslog_frame_counts_octets_not_characters() {
    let frame = syslog::frame(&record(r#"{"x":"äöü"}"#), "");
    let blank = frame.iter().position(|b| *b == b' ').unwrap();
    let count: usize = std::str::from_utf8(&frame[..blank]).unwrap().parse().unwrap();
    assert_eq!(count, frame.len() - blank - 1);
    assert!(
        std::str::from_utf8(&frame)
            .unwrap()
            .contains(" - gateway - operation ")
    );
}

#[test]
fn what_is_too_long_is_cut_between_characters_and_says_so() {
    let long = record(&format!(r#"{{"x":"{}"}}"#, "ä".repeat(OTLP_BYTES)));
    let message = syslog::message(&long, "h");
    assert!(message.len() < SYSLOG_BYTES + 2 * VALUE_BYTES);
    assert!(message.contains(&format!("truncated_from=\"{}\"", long.line.len())));
    let request = otlp::request(&[long], "h", Timestamp::UNIX_EPOCH);
    assert!(request.to_string().len() < OTLP_BYTES + 4096);
    assert!(request.to_string().contains("gateway.audit.truncated_from"));
}

#[test]
fn an_otlp_request_has_the_names_and_types_of_the_protocol() {
    let request = otlp::request(&[record("{}")], "gw1", Timestamp::UNIX_EPOCH);
    let logs = &request["resourceLogs"][0];
    assert_eq!(
        logs["resource"]["attributes"][0]["value"]["stringValue"],
        "gateway"
    );
    let log = &logs["scopeLogs"][0]["logRecords"][0];
    assert_eq!(log["timeUnixNano"], "1772359200123456789");
    assert_eq!(
        (&log["severityNumber"], &log["severityText"]),
        (&13.into(), &"WARN".into())
    );
    assert_eq!(log["body"]["stringValue"], record("{}").line);
    let attribute = |key: &str| -> Value {
        let all = log["attributes"].as_array().unwrap();
        all.iter().find(|a| a["key"] == key).unwrap()["value"].clone()
    };
    assert_eq!(attribute("gateway.audit.seq")["intValue"], "7");
    assert_eq!(attribute("gateway.audit.rules")["stringValue"], "a,b");
    assert_eq!(
        otlp::rejected(br#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"no"}}"#),
        Some((3, "no".to_owned()))
    );
    assert_eq!(otlp::rejected(b"{\"partialSuccess\":{}}"), None);
    assert_eq!(otlp::rejected(b"{}"), None);
}

#[test]
fn lines_of_a_file_are_whole_also_after_a_crash_tore_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.jsonl");
    let batch = lines(&[record("{}"), record("{}")], Format::Jsonl).unwrap();
    append(&path, &batch).unwrap();
    append(&path, &batch).unwrap();
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(whole, [batch.as_slice(), &batch].concat());
    for torn in [1, 20, batch.len() / 2] {
        std::fs::write(&path, &whole[..whole.len() - torn]).unwrap();
        append(&path, &batch).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.lines().all(|line| line == record("{}").line), "{torn}");
    }
    std::fs::write(&path, &batch[..40]).unwrap();
    append(&path, &batch).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), batch);
    std::fs::write(&path, "somebody else's").unwrap();
    assert!(append(&path, &batch).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "somebody else's");
}

#[test]
fn addresses_of_receivers_are_read() {
    assert_eq!(
        host_and_port("logs.example:6514"),
        Some(("logs.example".into(), 6514))
    );
    assert_eq!(host_and_port("[::1]:514"), Some(("::1".into(), 514)));
    for bad in [
        "", "host", ":1", "h:0", "h:x", "::1:5", "a b:1", "u@h:1", "h/x:1", "[::1:5",
    ] {
        assert_eq!(host_and_port(bad), None, "{bad}");
    }
    let path = |text| url(text).map(|(tls, host, port, path)| format!("{tls} {host} {port} {path}"));
    assert_eq!(path("https://h:4318/v1/logs").unwrap(), "true h 4318 /v1/logs");
    assert_eq!(path("http://h").unwrap(), "false h 80 /v1/logs");
    assert_eq!(path("https://[::1]/x").unwrap(), "true ::1 443 /x");
    for bad in ["h:1", "ftp://h", "https://u:p@h/", "https://h/a b", "https://"] {
        assert_eq!(path(bad), None, "{bad}");
    }
}
