//! The bodies of the fuzz targets; `fuzz/` calls them, and `fuzz_bodies.rs` replays the corpora with them.

use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use gateway_core::policy::{PolicyEngine, SchemaPart, Vocabulary, core_part};
use gateway_sql::{Catalog, SessionState};
use proto_postgres::wire::{backend, frame, frontend};

pub use super::turns::session;

/// What a target does with its input.
pub type Body = fn(&[u8]);

/// The targets by their names.
pub const TARGETS: [(&str, Body); 7] = [
    ("frame", frame),
    ("frontend", frontend),
    ("backend", backend),
    ("startup", startup),
    ("session", session),
    ("analyze", analyze),
    ("policy", policy),
];

/// Frames are split alike however they arrive.
pub fn frame(data: &[u8]) {
    const MAX: usize = 4096;
    match frame::split(data, MAX) {
        Ok(Some((frame, rest))) => {
            assert_eq!(frame.whole.len() + rest.len(), data.len());
            assert_eq!(frame.whole.len(), frame.body.len() + frame::HEADER_LEN);
            assert!(frame.whole.len() <= MAX);
            for end in 0..frame.whole.len() {
                assert!(matches!(frame::split(&data[..end], MAX), Ok(None)));
            }
        }
        Ok(None) => assert!(data.len() < MAX),
        Err(_) => {
            let header = &data[..frame::HEADER_LEN];
            assert!(
                frame::split(header, MAX).is_err(),
                "known as soon as the header is there"
            );
        }
    }
}

/// A client's message that parses encodes to the same bytes.
pub fn frontend(data: &[u8]) {
    let [tag, body @ ..] = data else { return };
    if let Ok(message) = frontend::Message::parse(*tag, body) {
        let _ = (format!("{message:?}"), message.name());
        let mut out = BytesMut::new();
        message.encode(&mut out).expect("what parses encodes");
        assert_eq!(&out[frame::HEADER_LEN..], body);
    }
}

/// A server's message that parses encodes to the same bytes.
pub fn backend(data: &[u8]) {
    let [tag, body @ ..] = data else { return };
    if let Ok(message) = backend::Message::parse(*tag, body) {
        let _ = (format!("{message:?}"), message.name());
        let mut out = BytesMut::new();
        message.encode(&mut out).expect("what parses encodes");
        assert_eq!(&out[frame::HEADER_LEN..], body);
    }
}

/// A first packet that parses encodes to the same bytes.
pub fn startup(body: &[u8]) {
    if let Ok(packet) = frontend::StartupPacket::parse(body) {
        let _ = format!("{packet:?}");
        let mut out = BytesMut::new();
        packet.encode(&mut out).expect("what parses encodes");
        assert_eq!(&out[frame::STARTUP_HEADER_LEN..], body);
    }
}

pub(super) fn catalog() -> &'static Catalog {
    static CATALOG: OnceLock<Catalog> = OnceLock::new();
    CATALOG.get_or_init(|| super::server::catalog(super::server::TABLES.iter().copied()))
}

/// The analyzer answers every text, twice alike, within the text.
pub fn analyze(data: &[u8]) {
    let Ok(sql) = std::str::from_utf8(data) else {
        return;
    };
    let mut state = SessionState::default();
    for conforming in [true, false] {
        state.standard_conforming_strings = conforming;
        let analysis = gateway_sql::analyze(sql, catalog(), &state);
        for statement in &analysis.statements {
            assert!(statement.location <= sql.len());
            assert!(statement.summary.chars().count() <= 200, "{}", statement.summary);
        }
        let again = gateway_sql::analyze(sql, catalog(), &state);
        assert_eq!(format!("{analysis:?}"), format!("{again:?}"));
    }
    let _ = gateway_sql::normalise(sql);
}

fn vocabulary() -> Arc<Vocabulary> {
    static VOCABULARY: OnceLock<Arc<Vocabulary>> = OnceLock::new();
    let merged = || {
        let sql = SchemaPart::parse("postgres", gateway_sql::VOCABULARY).expect("a schema");
        Arc::new(Vocabulary::merge(vec![core_part(), sql]).expect("one vocabulary"))
    };
    VOCABULARY.get_or_init(merged).clone()
}

/// A policy file loads, and then again as the same policies; or its faults are told, each with its place in the file.
pub fn policy(data: &[u8]) {
    let own = format!(
        "gateway-policy-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    );
    let dir = std::env::temp_dir().join(own);
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("one.cedar"), data).expect("a file");
    let opened = PolicyEngine::open(&dir, vocabulary());
    match &opened {
        Ok(engine) => {
            assert_eq!(engine.list().len(), engine.policies());
            let again = engine.reload().expect("it was loaded before");
            assert!(!again.changed);
            assert_eq!(again.version, engine.status().version);
        }
        Err(errors) => {
            assert!(!errors.0.is_empty());
            let lines = data.iter().filter(|&&byte| byte == b'\n').count() + 1;
            for error in &errors.0 {
                assert!(error.line <= lines, "{error}");
                assert!(!error.message.is_empty());
            }
        }
    }
    std::fs::remove_dir_all(&dir).expect("it is there");
}
