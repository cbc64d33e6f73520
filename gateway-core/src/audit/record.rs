//! One record as a line: how it is written, read and proven. The format is documented in [`super::log`].

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The longest record, in bytes, its line end included.
pub(super) const MAX_RECORD: usize = 64 * 1024 * 1024;

/// What stands between a record's event and the digits of its hash.
const HASH_KEY: &[u8] = br#","hash":""#;
/// What follows the digits, before the line end.
const CLOSE: &[u8] = br#""}"#;
/// Length of all that follows the bytes which the hash covers: key, 64 digits, close.
const SEAL: usize = HASH_KEY.len() + 64 + CLOSE.len();

/// A SHA-256 digest.
pub(super) type Hash = [u8; 32];

/// The chain's end: what the next record must carry on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Number of the next record.
    pub(super) next: u64,
    /// Hash of the last record; zeros before the first.
    pub(super) prev: Hash,
}

impl Head {
    /// Before the first record.
    pub(super) const START: Self = Self {
        next: 1,
        prev: [0; 32],
    };
}

/// Appends the line of one record to `out` and moves the head on.
pub(super) fn write(out: &mut Vec<u8>, head: &mut Head, at: Timestamp, event: &[u8]) {
    let start = out.len();
    out.extend_from_slice(format!(r#"{{"seq":{},"at":"{at}","prev":""#, head.next).as_bytes());
    push_hex(out, &head.prev);
    out.extend_from_slice(br#"","event":"#);
    out.extend_from_slice(event);
    let hash = sha256(out.get(start..).unwrap_or_default());
    out.extend_from_slice(HASH_KEY);
    push_hex(out, &hash);
    out.extend_from_slice(CLOSE);
    out.push(b'\n');
    *head = Head {
        next: head.next.saturating_add(1),
        prev: hash,
    };
}

/// A record as its line tells it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record<'a> {
    /// Its number, from 1.
    pub(super) seq: u64,
    /// When it happened.
    pub(super) at: Timestamp,
    #[serde(borrow)]
    prev: &'a str,
    /// The event's JSON, as written.
    #[serde(borrow)]
    pub(super) event: &'a RawValue,
    #[serde(borrow)]
    hash: &'a str,
}

/// A line whose form is that of a record.
#[derive(Debug)]
pub(super) struct Parsed<'a> {
    /// Its fields.
    pub(super) record: Record<'a>,
    /// The hash of the record before it, as it tells.
    pub(super) prev: Hash,
    /// Its hash, as it tells.
    pub(super) hash: Hash,
    /// Whether that is the hash of its bytes.
    pub(super) sound: bool,
}

/// Reads a line (without its line end); `Err` tells what is wrong with its form.
pub(super) fn parse(line: &[u8]) -> Result<Parsed<'_>, String> {
    let record = parse_unproven(line).map_err(|e| e.to_string())?;
    let prev = parse_hex(record.prev).ok_or("`prev` is not 64 lower-case hex digits")?;
    let hash = parse_hex(record.hash).ok_or("`hash` is not 64 lower-case hex digits")?;
    let (covered, seal) = line
        .split_at_checked(line.len().saturating_sub(SEAL))
        .unwrap_or_default();
    // The seal is where writers put it, else a record could tell one hash and be covered by another.
    let sealed = seal.starts_with(HASH_KEY)
        && seal.ends_with(CLOSE)
        && seal.get(HASH_KEY.len()..HASH_KEY.len() + 64) == Some(record.hash.as_bytes());
    let sound = sealed && sha256(covered) == hash;
    Ok(Parsed {
        record,
        prev,
        hash,
        sound,
    })
}

/// Reads a line's fields, without proving them.
pub(super) fn parse_unproven(line: &[u8]) -> Result<Record<'_>, serde_json::Error> {
    serde_json::from_slice(line)
}

/// SHA-256.
fn sha256(bytes: &[u8]) -> Hash {
    let mut hash = [0; 32];
    for (to, from) in hash.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *to = *from;
    }
    hash
}

fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    for byte in bytes {
        out.push(digit(byte >> 4));
        out.push(digit(byte & 15));
    }
}

/// The hash as 64 hex digits.
pub(super) fn hex(hash: &Hash) -> String {
    let mut out = Vec::with_capacity(64);
    push_hex(&mut out, hash);
    out.into_iter().map(char::from).collect()
}

/// Reads 64 lower-case hex digits.
pub(super) fn parse_hex(text: &str) -> Option<Hash> {
    fn nibble(digit: u8) -> Option<u8> {
        match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        }
    }
    if text.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (to, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *to = (nibble(high)? << 4) | nibble(low)?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Timestamp {
        "2026-03-01T10:00:00.25Z".parse().unwrap()
    }

    #[test]
    fn a_record_has_exactly_the_documented_bytes() {
        let mut out = Vec::new();
        let mut head = Head::START;
        write(&mut out, &mut head, at(), br#"{"type":"stopped"}"#);
        let covered = format!(
            r#"{{"seq":1,"at":"2026-03-01T10:00:00.25Z","prev":"{}","event":{{"type":"stopped"}}"#,
            "0".repeat(64)
        );
        let hash = hex(&sha256(covered.as_bytes()));
        // Computed with sha256sum over the covered bytes.
        assert_eq!(
            hash,
            "23a2a457954de9df56f4b7992b26d64e669a00d2d2bcecce8b48a8aed6c74788"
        );
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!("{covered},\"hash\":\"{hash}\"}}\n")
        );
        assert_eq!((head.next, hex(&head.prev)), (2, hash));
    }

    #[test]
    fn every_strict_prefix_is_no_record_and_every_changed_byte_is_seen() {
        let mut out = Vec::new();
        let mut head = Head::START;
        write(&mut out, &mut head, at(), br#"{"type":"stopped"}"#);
        let line = &out[..out.len() - 1];
        assert!(parse(line).unwrap().sound);
        for end in 0..line.len() {
            assert!(parse(&line[..end]).is_err(), "{end}");
        }
        for place in 0..line.len() {
            for flip in [1u8, 2, 0x20] {
                let mut bad = line.to_vec();
                bad[place] ^= flip;
                assert!(!parse(&bad).is_ok_and(|p| p.sound), "{place}");
            }
        }
    }

    #[test]
    fn a_second_hash_or_space_is_not_sound() {
        let mut out = Vec::new();
        write(&mut out, &mut Head::START.clone(), at(), b"{}");
        let text = String::from_utf8(out).unwrap();
        let line = text.trim_end();
        for bad in [
            line.replace("\"}", "\" }"),
            line.replace("{\"seq", "{\"hash\":\"\",\"seq"),
            format!("{line} "),
        ] {
            assert!(!parse(bad.as_bytes()).is_ok_and(|p| p.sound), "{bad}");
        }
    }

    #[test]
    fn hex_reads_back() {
        let hash = sha256(b"x");
        assert_eq!(parse_hex(&hex(&hash)), Some(hash));
        assert_eq!(parse_hex(&hex(&hash).to_uppercase()), None);
        assert_eq!(parse_hex("00"), None);
    }
}
