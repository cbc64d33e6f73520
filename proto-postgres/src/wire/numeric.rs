//! `numeric` in binary format, from and to decimal text (`numeric_send` and `numeric_recv` of the server): a count of
//! digits of base 10,000, the weight of the first, sign, digits behind the point, then the digits.

use bytes::{BufMut, BytesMut};

const NEGATIVE: u16 = 0x4000;
const BASE: u16 = 10_000;
/// Most decimal digits on either side of the point.
const MOST: usize = 64;

/// The number as text. `None`: it has none of moderate length (not a number, infinite, or long).
pub(crate) fn to_text(value: &[u8]) -> Option<String> {
    let mut input = value;
    let mut next = || {
        let (number, rest) = input.split_first_chunk::<2>()?;
        input = rest;
        Some(*number)
    };
    let count = usize::from(u16::from_be_bytes(next()?));
    let weight = i32::from(i16::from_be_bytes(next()?));
    let sign = u16::from_be_bytes(next()?);
    let scale = usize::from(u16::from_be_bytes(next()?));
    if !matches!(sign, 0 | NEGATIVE) || scale > MOST || !(-16..16).contains(&weight) || count > MOST {
        return None;
    }
    let mut digits = Vec::with_capacity(count);
    for _ in 0..count {
        digits.push(u16::from_be_bytes(next()?));
    }
    if !input.is_empty() || digits.iter().any(|digit| *digit >= BASE) {
        return None;
    }
    let at = |place: i32| {
        let place = usize::try_from(weight.checked_sub(place)?).ok()?;
        digits.get(place).copied()
    };
    let mut whole = String::new();
    for place in (0..=weight.max(0)).rev() {
        whole.push_str(&format!("{:04}", at(place).unwrap_or(0)));
    }
    let whole = whole.trim_start_matches('0');
    let mut text = String::new();
    if sign == NEGATIVE {
        text.push('-');
    }
    text.push_str(if whole.is_empty() { "0" } else { whole });
    if scale > 0 {
        let mut fraction = String::new();
        let mut place = -1;
        while fraction.len() < scale {
            fraction.push_str(&format!("{:04}", at(place).unwrap_or(0)));
            place -= 1;
        }
        fraction.truncate(scale);
        text.push('.');
        text.push_str(&fraction);
    }
    Some(text)
}

/// Appends the number that a text is. `false`: it is none of moderate length.
pub(crate) fn from_text(text: &str, out: &mut BytesMut) -> bool {
    let Some(value) = encoded(text) else { return false };
    out.extend_from_slice(&value);
    true
}

fn encoded(text: &str) -> Option<BytesMut> {
    let (sign, plain) = match text.strip_prefix('-') {
        Some(plain) => (NEGATIVE, plain),
        None => (0, text),
    };
    let (whole, fraction) = plain.split_once('.').unwrap_or((plain, ""));
    let all_digits = |text: &str| text.len() <= MOST && text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    // Groups of four on both sides of the point.
    let left = format!("{whole:0>width$}", width = whole.len().next_multiple_of(4));
    let right = format!("{fraction:0<width$}", width = fraction.len().next_multiple_of(4));
    let groups = [left.as_bytes(), right.as_bytes()].concat();
    let mut digits: Vec<u16> = groups
        .chunks(4)
        .map(|four| {
            four.iter()
                .fold(0, |number, byte| number * 10 + u16::from(byte & 15))
        })
        .collect();
    let mut weight = i16::try_from(left.len() / 4).ok()?.checked_sub(1)?;
    let leading = digits.iter().take_while(|digit| **digit == 0).count();
    digits.drain(..leading);
    weight = weight.checked_sub(i16::try_from(leading).ok()?)?;
    while digits.last() == Some(&0) {
        digits.pop();
    }
    if digits.is_empty() {
        weight = 0;
    }
    let mut value = BytesMut::new();
    value.put_u16(u16::try_from(digits.len()).ok()?);
    value.put_i16(weight);
    value.put_u16(if digits.is_empty() { 0 } else { sign });
    value.put_u16(u16::try_from(fraction.len()).ok()?);
    for digit in digits {
        value.put_u16(digit);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_there_and_back() {
        for text in [
            "0",
            "1",
            "98765.00",
            "-1234567.5",
            "0.0001",
            "0.123456",
            "10000",
            "100000000.000010",
            "7.10",
        ] {
            let mut out = BytesMut::new();
            assert!(from_text(text, &mut out), "{text}");
            assert_eq!(to_text(&out).as_deref(), Some(text));
        }
        // 98765.00 as the server sends it.
        let mut out = BytesMut::new();
        from_text("98765.00", &mut out);
        assert_eq!(&out[..], b"\0\x02\0\x01\0\0\0\x02\0\x09\x22\x3d");
        for wrong in ["", "x", "1e5", ".5", "NaN", "--1"] {
            assert!(!from_text(wrong, &mut BytesMut::new()), "{wrong}");
        }
        for wrong in [
            &b""[..],
            b"\0\0\0\0\xc0\0\0\0",
            b"\0\x01\0\0\0\0\0\0",
            b"\0\0\x7f\xff\0\0\0\0",
        ] {
            assert_eq!(to_text(wrong), None, "{wrong:?}");
        }
    }
}
