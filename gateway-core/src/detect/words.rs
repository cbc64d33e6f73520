//! E-mail addresses.

use std::ops::Range;

use memchr::memchr_iter;

use super::{is_at, run};

/// Longest local part and longest domain, in bytes (RFC 5321, 4.5.3.1).
const LOCAL: usize = 64;
const DOMAIN: usize = 255;

/// A character of a local part. Bytes of other scripts count (RFC 6531).
fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80 || b".!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

fn is_domain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80 || matches!(byte, b'-' | b'.')
}

pub(super) fn email(text: &[u8], from: usize) -> Option<Range<usize>> {
    let rest = text.get(from..)?;
    memchr_iter(b'@', rest).find_map(|at| around(text, from, from.checked_add(at)?))
}

/// The address around the `@` at this place, no part of it before `from`.
fn around(text: &[u8], from: usize, at: usize) -> Option<Range<usize>> {
    let before = text.get(from..at)?;
    let local = before
        .iter()
        .rev()
        .take(LOCAL)
        .take_while(|&&byte| is_local(byte))
        .count();
    let mut start = at.checked_sub(local)?;
    // What quotes or separates an address stands before it.
    while is_at(text, Some(start), |byte| b".'`/=&?{|}~*".contains(&byte)) && start < at {
        start = start.saturating_add(1);
    }
    let domain = at.checked_add(1)?;
    let mut end = run(text, domain, DOMAIN, is_domain);
    while end > domain && is_at(text, end.checked_sub(1), |byte| matches!(byte, b'.' | b'-')) {
        end = end.saturating_sub(1);
    }
    let labels = text.get(domain..end)?;
    let dot = labels.iter().rposition(|&byte| byte == b'.')?;
    let top = labels.get(dot.checked_add(1)?..)?;
    let is_name = top.len() >= 2 && !top.iter().all(u8::is_ascii_digit);
    let empty = labels.first() == Some(&b'.') || labels.windows(2).any(|pair| pair == b"..");
    // `git@host:repository` is nobody's address, and `image@2x.png` no address at all.
    let is_place = text.get(start..at) == Some(b"git") && text.get(end) == Some(&b':');
    let is_scale = labels.len() >= 3
        && labels.get(1..3) == Some(b"x.")
        && is_at(labels, Some(0), |byte| byte.is_ascii_digit());
    (start < at && is_name && !empty && !is_place && !is_scale).then_some(start..end)
}
