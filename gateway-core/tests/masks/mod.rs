//! What holds for masks of JSON, detectors and tokens, whatever they are given: the bodies of the fuzz targets of these
//! names, and of the tests that replay their corpora.

use bytes::BytesMut;
use gateway_core::detect::{Detector, Detectors, Kind, Stream};
use gateway_core::mask::MaskKey;
use gateway_core::mask::json::{Part, Step, parse_path, rewrite};
use gateway_core::mask::token::Tokens;
use gateway_core::resource::Mask;
use serde_json::Value;

pub type Body = fn(&[u8]);

pub const TARGETS: [(&str, Body); 3] = [("json", json), ("detect", detect), ("token", token)];

fn key() -> MaskKey {
    MaskKey::new(&[7; 32])
}

fn all() -> Detectors {
    let detector = |kind| Detector {
        kind,
        mask: Mask::Redact,
    };
    Detectors::new(Kind::ALL.map(detector).to_vec())
}

/// The values that a path leads to. Arrays on the way are gone through whether the path says so or not: a mask may hide
/// more than it was told to, never less.
fn at<'v>(value: &'v Value, steps: &[Step], found: &mut Vec<&'v Value>) {
    let Some((step, rest)) = steps.split_first() else {
        found.push(value);
        return;
    };
    match (step, value) {
        (Step::Key(name), Value::Object(members)) => {
            if let Some(member) = members.get(name) {
                at(member, rest, found);
            }
        }
        (Step::Element, Value::Array(elements)) => elements.iter().for_each(|one| at(one, rest, found)),
        (Step::Any, Value::Object(members)) => members.values().for_each(|one| at(one, rest, found)),
        (Step::Any, Value::Array(elements)) => elements.iter().for_each(|one| at(one, rest, found)),
        _ => {}
    }
}

/// A path in the first line, a document in the rest.
pub fn json(data: &[u8]) {
    let end = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let document = data.get(end + 1..).unwrap_or_default();
    let path = std::str::from_utf8(&data[..end])
        .ok()
        .and_then(|path| parse_path(path).ok());
    let valid: Option<Value> = serde_json::from_slice(document).ok();

    let mut out = BytesMut::new();
    let untouched = rewrite(document, &[], None, &key(), &mut out);
    assert!(valid.is_none() || untouched.is_ok(), "JSON is refused");
    assert!(
        untouched.is_err() || out == document,
        "what no part names is changed"
    );

    let Some(path) = path else { return };
    for mask in [Mask::Redact, Mask::Null, Mask::Partial, Mask::Token] {
        let part = Part {
            path: path.clone(),
            mask,
            tokens: (mask == Mask::Token).then(|| Tokens::new(&key(), "r", "t").into()),
        };
        let mut out = BytesMut::new();
        let done = rewrite(document, &[part], Some(&all()), &key(), &mut out);
        let Some(before) = &valid else { continue };
        assert!(done.is_ok(), "JSON is refused");
        let after: Value = serde_json::from_slice(&out).expect("a masked document is one");
        let mut left = Vec::new();
        at(before, &path, &mut left);
        let mut right = Vec::new();
        at(&after, &path, &mut right);
        assert!(
            left.len() == right.len() || mask != Mask::Redact && mask != Mask::Null,
            "a masked value is gone, or another has come"
        );
        let hidden: &dyn Fn(&Value) -> bool = match mask {
            Mask::Null => &Value::is_null,
            _ => &|value| value.is_null() || value.as_str().is_some_and(|text| text == "[redacted]"),
        };
        if matches!(mask, Mask::Redact | Mask::Null) {
            assert!(
                right.iter().copied().all(hidden),
                "a value is shown: {mask:?} {right:?}"
            );
        }
    }
}

/// A text.
pub fn detect(data: &[u8]) {
    let detectors = all();
    let mut out = BytesMut::new();
    let found = detectors.rewrite(data, &key(), &mut out);
    assert_eq!(
        found,
        detectors.finds(data),
        "what is found is not what is masked"
    );
    if found {
        assert_ne!(out, data, "what is found stays");
    } else {
        assert!(out.is_empty(), "nothing is found, and something is written");
    }
    output(data);
}

/// The same as the output of a program, in pieces.
fn output(data: &[u8]) {
    let Some((&size, text)) = data.split_first() else {
        return;
    };
    let (detectors, key) = (all(), key());
    let shown = |size: usize, flushes: bool| {
        let (mut stream, mut out) = (Stream::default(), BytesMut::new());
        for piece in text.chunks(size) {
            stream.push(&detectors, &key, piece, &mut out);
            if flushes {
                stream.flush(&detectors, &key, &mut out);
            }
        }
        stream.flush(&detectors, &key, &mut out);
        assert!(!stream.is_holding(), "something is held behind a flush");
        out
    };
    let size = usize::from(size) + 1;
    let whole = shown(usize::MAX, false);
    assert_eq!(whole, shown(size, false), "pieces make a difference");
    // What comes slowly may be masked where the whole line holds nothing: it looked like a value as far as it had come.
    drop(shown(size, true));
    let is_plain = text
        .iter()
        .all(|&byte| byte >= 0x20 && byte != 0x7f || byte == b'\n');
    let mut lines = text.split(|&byte| byte == b'\n');
    if is_plain && !lines.any(|line| detectors.finds(line)) {
        assert_eq!(whole, text, "what is nothing is changed");
    }
}

/// A value of some kind.
pub fn token(data: &[u8]) {
    let tokens = Tokens::new(&key(), "r", "t");
    let (mut hidden, mut back) = (BytesMut::new(), BytesMut::new());
    tokens.text(data, &mut hidden);
    if *hidden != *b"[redacted]" {
        assert!(tokens.reveal_text(&hidden, &mut back), "a token is not read");
        assert_eq!(back, data, "a token is another value");
    }
    // Whatever comes back as if it were a token.
    let _ = tokens.reveal_text(data, &mut BytesMut::new());

    let (mut hidden, mut back) = (BytesMut::new(), BytesMut::new());
    if tokens.decimal(data, &mut hidden) {
        assert!(tokens.reveal_decimal(&hidden, &mut back), "a token is not read");
        assert_eq!(back, data, "a token is another number");
    }
    if let Some(&bytes) = data.first_chunk::<8>() {
        let value = i64::from_le_bytes(bytes);
        for most in [i64::from(i32::MAX), i64::MAX] {
            if let Some(token) = tokens.integer(value, most) {
                assert_eq!(tokens.reveal_integer(token, most), Some(value));
                assert!(token.unsigned_abs() <= most.unsigned_abs());
            }
        }
    }
    if let Some(&bytes) = data.first_chunk::<16>()
        && let Some(token) = tokens.uuid(bytes)
    {
        assert_eq!(tokens.reveal_uuid(token), Some(bytes));
    }
}
