//! What holds for the readers of recordings, whatever they are given: the bodies of their fuzz targets.

use std::io::Cursor;
use std::sync::Arc;

use gateway_core::audit::read::Told;
use gateway_core::recording::{Fault, Reading, Verified, cast};
use gateway_core::sealing::{SealKey, Sealing};
use gateway_core::session::SessionId;

pub type Body = fn(&[u8]);

pub const TARGETS: [(&str, Body); 2] = [("recording-file", file), ("recording-line", line)];

/// Whose recordings the corpus has.
const SESSION: &str = "01937000-0000-7000-8000-000000000001";

type Read = (Vec<Vec<u8>>, Result<Verified, Fault>);

fn session() -> SessionId {
    SESSION.parse().expect("a session's id")
}

fn read(data: &[u8], sealing: &Arc<Sealing>, told: Option<Told>) -> Read {
    let mut reading = Reading::of(Cursor::new(data.to_vec()), session(), 1, sealing.clone(), told);
    let mut chunks = Vec::new();
    loop {
        match reading.next_chunk() {
            Ok(Some((_, lines))) => chunks.push(lines),
            Ok(None) => return (chunks, Ok(reading.verified())),
            Err(fault) => {
                // Nothing more comes behind a fault.
                assert_eq!(reading.next_chunk(), Err(fault.clone()));
                return (chunks, Err(fault));
            }
        }
    }
}

/// A file: it reads alike twice, gives out nothing that is not in it, and a trail that knows another end makes no more of it good.
pub fn file(data: &[u8]) {
    let key = SealKey::new(&[7; 32]).expect("a key");
    let sealing = Arc::new(Sealing::new(vec![key], false));
    let (chunks, end) = read(data, &sealing, None);
    let given: usize = chunks.iter().map(Vec::len).sum();
    assert!(given <= data.len());
    assert_eq!(read(data, &sealing, None), (chunks.clone(), end.clone()));
    // Without opening it, it is whole wherever it is whole opened.
    let mut reading = Reading::of(Cursor::new(data.to_vec()), session(), 1, Arc::default(), None);
    let whole = reading.verify();
    assert!(end.is_err() || whole == end, "{whole:?} {end:?}");
    let told = Told {
        started: true,
        hashes: std::iter::once((0, "00".repeat(32))).collect(),
        ..Told::default()
    };
    let (proven, end) = read(data, &sealing, Some(told));
    assert!(proven.is_empty() && end.is_err(), "the trail has another hash");
    for lines in &chunks {
        lines.split(|byte| *byte == b'\n').for_each(line);
    }
}

/// A line: what it says is a time that passes, and data that came out of it.
pub fn line(data: &[u8]) {
    if let Some(line) = cast::parse(data) {
        assert!(line.interval.is_finite() && line.interval >= 0.0);
        assert!(line.data.len() <= data.len());
        assert_eq!(cast::parse(data), Some(line));
    }
}
