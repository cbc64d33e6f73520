//! Arrays, element by element, in both formats.

use bytes::{BufMut, BytesMut};

use super::value::patch;

/// Each element rewritten by `one` (`false`: to NULL). The dimensions stay, so an array of several is none of ours: it
/// becomes NULL.
pub(super) fn binary_array(
    element: u32,
    value: &[u8],
    out: &mut BytesMut,
    one: impl Fn(&[u8], &mut BytesMut) -> bool,
) -> bool {
    let mut input = value;
    let mut int = || take(&mut input);
    let (Some(dimensions), Some(nulls), Some(of)) = (int(), int(), int()) else {
        return false;
    };
    if u32::try_from(of) != Ok(element) || !(0..=1).contains(&dimensions) {
        return false;
    }
    out.put_i32(dimensions);
    out.put_i32(nulls);
    out.put_i32(of);
    if dimensions == 0 {
        return true;
    }
    let (Some(count), Some(lower)) = (int(), int()) else {
        return false;
    };
    out.put_i32(count);
    out.put_i32(lower);
    for _ in 0..count.max(0) {
        let Some(len) = take(&mut input) else { return false };
        let Ok(len) = usize::try_from(len) else {
            out.put_i32(-1);
            continue;
        };
        let Some((item, rest)) = input.split_at_checked(len) else {
            return false;
        };
        input = rest;
        let at = out.len();
        out.put_i32(-1);
        if one(item, out) && !patch(out, at) {
            return false;
        }
    }
    true
}

/// The same in text (PostgreSQL documentation, 8.15.6 Array Input and Output Syntax).
pub(super) fn text_elements(
    value: &[u8],
    out: &mut BytesMut,
    one: impl Fn(&[u8], &mut BytesMut) -> bool,
) -> Option<()> {
    let mut rest = value.strip_prefix(b"{")?.strip_suffix(b"}")?;
    out.put_u8(b'{');
    let mut item = BytesMut::new();
    let mut masked = BytesMut::new();
    while !rest.is_empty() {
        item.clear();
        let quoted = rest.first() == Some(&b'"');
        let mut at = usize::from(quoted);
        loop {
            match rest.get(at) {
                Some(b'"') if quoted => {
                    at = at.checked_add(1)?;
                    break;
                }
                Some(b'\\') => {
                    at = at.checked_add(1)?;
                    item.put_u8(*rest.get(at)?);
                }
                Some(b',') | None if !quoted => break,
                // An array in it, or what is none.
                Some(b'{' | b'}' | b'"') if !quoted => return None,
                Some(byte) => item.put_u8(*byte),
                None => return None,
            }
            at = at.checked_add(1)?;
        }
        masked.clear();
        if (!quoted && &item[..] == b"NULL") || !one(&item, &mut masked) {
            out.extend_from_slice(b"NULL");
        } else {
            out.put_u8(b'"');
            for &byte in &masked {
                if matches!(byte, b'"' | b'\\') {
                    out.put_u8(b'\\');
                }
                out.put_u8(byte);
            }
            out.put_u8(b'"');
        }
        match rest.get(at) {
            None => rest = b"",
            Some(b',') => {
                out.put_u8(b',');
                rest = rest.get(at.checked_add(1)?..).filter(|rest| !rest.is_empty())?;
            }
            Some(_) => return None,
        }
    }
    out.put_u8(b'}');
    Some(())
}

fn take(input: &mut &[u8]) -> Option<i32> {
    let (number, rest) = input.split_first_chunk::<4>()?;
    *input = rest;
    Some(i32::from_be_bytes(*number))
}
