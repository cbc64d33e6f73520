//! Tokens and keys.

use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use memchr::memmem;

use super::{is_at, run};

/// Longest part of a token that is read, in bytes.
const TOKEN: usize = 16 << 10;

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Header and payload are JSON objects, so both begin with `{"` in base64url. One without a signature is one, too.
pub(super) fn jwt(text: &[u8], from: usize) -> Option<Range<usize>> {
    let rest = text.get(from..)?;
    memmem::find_iter(rest, b"eyJ").find_map(|at| {
        let start = from.checked_add(at)?;
        if is_at(text, start.checked_sub(1), is_base64url) {
            return None;
        }
        let header = run(text, start, TOKEN, is_base64url);
        let payload = text.get(header..)?.strip_prefix(b".")?;
        if !payload.starts_with(b"eyJ") {
            return None;
        }
        let payload = run(text, header.checked_add(1)?, TOKEN, is_base64url);
        if !is_at(text, Some(payload), |byte| byte == b'.') {
            return None;
        }
        Some(start..run(text, payload.checked_add(1)?, TOKEN, is_base64url))
    })
}

/// From `-----BEGIN` to behind `-----END ...-----`. A block that is cut off goes on to the end of the text.
pub(super) fn pem(text: &[u8], from: usize) -> Option<Range<usize>> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    const END: &[u8] = b"-----END ";
    const DASHES: &[u8] = b"-----";
    let is_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b' ';
    let rest = text.get(from..)?;
    let (start, body) = memmem::find_iter(rest, BEGIN).find_map(|at| {
        let start = from.checked_add(at)?;
        let label = run(text, start.checked_add(BEGIN.len())?, 64, is_label);
        text.get(label..)?.strip_prefix(DASHES)?;
        Some((start, label.checked_add(DASHES.len())?))
    })?;
    let end = memmem::find(text.get(body..)?, END)
        .and_then(|at| {
            let end = body.checked_add(at)?.checked_add(END.len())?;
            let label = run(text, end, 64, is_label);
            text.get(label..)?.strip_prefix(DASHES)?;
            label.checked_add(DASHES.len())
        })
        .unwrap_or(text.len());
    Some(start..end)
}

/// A key that begins with `prefix` and goes on with so many of these characters.
struct Prefixed {
    prefix: &'static [u8],
    least: usize,
    most: usize,
    is_of: fn(u8) -> bool,
}

const fn prefixed(prefix: &'static [u8], least: usize, most: usize, is_of: fn(u8) -> bool) -> Prefixed {
    Prefixed {
        prefix,
        least,
        most,
        is_of,
    }
}

fn is_upper(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// Prefixes that their makers publish, so that leaks can be found.
const PREFIXES: &[Prefixed] = &[
    // AWS: access keys, temporary ones, and ids of users, roles and groups.
    prefixed(b"AKIA", 16, 16, is_upper),
    prefixed(b"ASIA", 16, 16, is_upper),
    prefixed(b"ABIA", 16, 16, is_upper),
    prefixed(b"ACCA", 16, 16, is_upper),
    // Google.
    prefixed(b"AIza", 35, 35, is_base64url),
    prefixed(b"GOCSPX-", 28, 28, is_base64url),
    prefixed(b"ya29.", 20, 2048, is_base64url),
    // Azure storage.
    prefixed(b"AccountKey=", 40, 128, is_base64),
    // GitHub, GitLab.
    prefixed(b"ghp_", 36, 255, is_alphanumeric),
    prefixed(b"gho_", 36, 255, is_alphanumeric),
    prefixed(b"ghu_", 36, 255, is_alphanumeric),
    prefixed(b"ghs_", 36, 255, is_alphanumeric),
    prefixed(b"ghr_", 36, 255, is_alphanumeric),
    prefixed(b"github_pat_", 22, 255, is_base64url),
    prefixed(b"glpat-", 20, 255, is_base64url),
    // Slack, Stripe, SendGrid, npm, PyPI, DigitalOcean.
    prefixed(b"xoxa-", 10, 255, is_base64url),
    prefixed(b"xoxb-", 10, 255, is_base64url),
    prefixed(b"xoxp-", 10, 255, is_base64url),
    prefixed(b"xoxr-", 10, 255, is_base64url),
    prefixed(b"xoxs-", 10, 255, is_base64url),
    prefixed(b"sk_live_", 16, 255, is_alphanumeric),
    prefixed(b"sk_test_", 16, 255, is_alphanumeric),
    prefixed(b"rk_live_", 16, 255, is_alphanumeric),
    prefixed(b"rk_test_", 16, 255, is_alphanumeric),
    prefixed(b"whsec_", 16, 255, is_base64),
    prefixed(b"SG.", 60, 80, |byte| is_base64url(byte) || byte == b'.'),
    prefixed(b"npm_", 36, 36, is_alphanumeric),
    prefixed(b"pypi-", 50, 1024, is_base64url),
    prefixed(b"dop_v1_", 64, 64, is_alphanumeric),
    // Model providers.
    prefixed(b"sk-ant-", 20, 255, is_base64url),
    prefixed(b"sk-proj-", 20, 255, is_base64url),
    prefixed(b"hf_", 30, 64, is_alphanumeric),
    // HashiCorp Vault.
    prefixed(b"hvs.", 20, 255, is_base64url),
];

pub(super) fn cloud_key(text: &[u8], from: usize) -> Option<Range<usize>> {
    // One look for all prefixes, so that a text full of keys takes no longer than its length.
    static AUTOMATON: LazyLock<Option<AhoCorasick>> =
        LazyLock::new(|| AhoCorasick::new(PREFIXES.iter().map(|key| key.prefix)).ok());
    let automaton = AUTOMATON.as_ref()?;
    automaton
        .find_overlapping_iter(text.get(from..)?)
        .find_map(|found| {
            let key = PREFIXES.get(found.pattern().as_usize())?;
            let start = from.checked_add(found.start())?;
            if is_at(text, start.checked_sub(1), is_alphanumeric) {
                return None;
            }
            let body = start.checked_add(key.prefix.len())?;
            let end = run(text, body, key.most.saturating_add(1), key.is_of);
            let len = end.checked_sub(body)?;
            (key.least..=key.most).contains(&len).then_some(start..end)
        })
}

#[cfg(test)]
mod tests {
    /// Without the automaton nothing would be found.
    #[test]
    fn every_prefix_is_looked_for() {
        for key in super::PREFIXES {
            let mut text = b"key: ".to_vec();
            text.extend(key.prefix);
            text.extend(vec![b'A'; key.least]);
            assert_eq!(super::cloud_key(&text, 0), Some(5..text.len()), "{text:?}");
        }
    }
}
