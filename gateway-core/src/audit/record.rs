//! One record as a line: how it is written, read and proven. The format is documented in [`super::log`].

use std::io::Write;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::key::{AuditPublicKey, SigningKey};

/// The longest record, in bytes, its line end included.
pub(super) const MAX_RECORD: usize = 64 * 1024 * 1024;

/// What stands between a record's event and the digits of its hash.
const HASH_KEY: &[u8] = br#","hash":""#;
/// What follows the digits, before the line end.
const CLOSE: &[u8] = br#""}"#;
/// Length of all that follows the bytes which the hash covers: key, 64 digits, close.
const SEAL: usize = HASH_KEY.len() + 64 + CLOSE.len();

/// What stands between a signed event's other fields and the digits of its signature.
const SIGNATURE_KEY: &[u8] = br#","signature":""#;
/// Length of all that follows the bytes which a signature covers: key, 128 digits, close of the event, seal.
const SIGNED_SEAL: usize = SIGNATURE_KEY.len() + 128 + CLOSE.len() + SEAL;

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
    // A vector takes all that it is given.
    let _ = write!(out, r#"{{"seq":{},"at":"{at}","prev":""#, head.next);
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

/// Does as [`write`] with an event that `key` signs. `event` is its JSON without the signature, which becomes its last
/// field; it covers all that stands before it in the line.
pub(super) fn write_signed(
    out: &mut Vec<u8>,
    head: &mut Head,
    at: Timestamp,
    event: &[u8],
    key: &SigningKey,
) {
    let open = event.strip_suffix(b"}").unwrap_or(event);
    let mut covered = Vec::new();
    write(&mut covered, &mut head.clone(), at, open);
    // What precedes the seal and the line end is what the signature covers.
    covered.truncate(covered.len().saturating_sub(SEAL + 1));
    let mut event = open.to_vec();
    event.extend_from_slice(SIGNATURE_KEY);
    push_hex(&mut event, &key.sign(&covered));
    event.extend_from_slice(CLOSE);
    write(out, head, at, &event);
}

/// Whether the line of a signed event ends in a signature by `key` over all that stands before it.
pub(super) fn is_signed(line: &[u8], key: &AuditPublicKey) -> bool {
    let Some((covered, seal)) = line.split_at_checked(line.len().saturating_sub(SIGNED_SEAL)) else {
        return false;
    };
    let signature = seal
        .strip_prefix(SIGNATURE_KEY)
        .and_then(|rest| rest.split_at_checked(128))
        .filter(|(_, rest)| rest.starts_with(CLOSE))
        .and_then(|(digits, _)| parse_hex_bytes(digits));
    signature.is_some_and(|signature| key.signed(covered, &signature))
}

/// A record as its line tells it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record<'a> {
    /// Its number, from 1.
    pub(super) seq: u64,
    /// When it happened.
    pub(super) at: Timestamp,
    /// Hash of the record before it, in hex.
    #[serde(borrow)]
    pub(super) prev: &'a str,
    /// The event's JSON, as written.
    #[serde(borrow)]
    pub(super) event: &'a RawValue,
    /// Its hash, in hex.
    #[serde(borrow)]
    pub(super) hash: &'a str,
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
    // Without a table or a branch: two of each record's parts are digits.
    let digit = |nibble: u8| nibble.wrapping_add(if nibble > 9 { b'a' - 10 } else { b'0' });
    for chunk in bytes.chunks(size_of::<Hash>()) {
        let mut digits = [0; 2 * size_of::<Hash>()];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(chunk) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        let length = chunk.len().saturating_mul(2);
        out.extend_from_slice(digits.get(..length).unwrap_or_default());
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
    parse_hex_bytes(text.as_bytes())?.try_into().ok()
}

/// Reads lower-case hex digits.
fn parse_hex_bytes(digits: &[u8]) -> Option<Vec<u8>> {
    fn nibble(digit: u8) -> Option<u8> {
        match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        }
    }
    let pair = |pair: &[u8]| match pair {
        &[high, low] => Some((nibble(high)? << 4) | nibble(low)?),
        _ => None,
    };
    digits.chunks(2).map(pair).collect()
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
