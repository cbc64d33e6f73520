//! Cards, bank accounts, social security and telephone numbers.

use std::ops::Range;

use memchr::memchr_iter;

use super::{is_at, run};

/// Digits of a card (ISO/IEC 7812-1).
const CARD: std::ops::RangeInclusive<usize> = 12..=19;
/// Digits of a telephone number (ITU-T E.164): at most 15. Shorter ones than this are taken for other numbers.
const PHONE: std::ops::RangeInclusive<usize> = 8..=15;
/// Characters of an IBAN (ISO 13616).
const IBAN: std::ops::RangeInclusive<usize> = 15..=34;

/// Luhn's sum of digits, the last of which is the check digit.
pub(crate) fn luhn(digits: impl DoubleEndedIterator<Item = u8>) -> bool {
    let sum = digits.rev().enumerate().fold(0_u32, |sum, (at, digit)| {
        let digit = u32::from(digit);
        let worth = match (at % 2, digit) {
            (0, _) => digit,
            (_, 0..=4) => digit.saturating_mul(2),
            _ => digit.saturating_mul(2).saturating_sub(9),
        };
        sum.saturating_add(worth)
    });
    sum % 10 == 0
}

pub(super) fn card(text: &[u8], from: usize) -> Option<Range<usize>> {
    let mut at = from;
    loop {
        at = at.checked_add(text.get(at..)?.iter().position(u8::is_ascii_digit)?)?;
        let inside = is_at(text, at.checked_sub(1), |byte| {
            byte.is_ascii_alphanumeric() || byte == b'.'
        });
        if !inside && let Some(end) = card_at(text, at) {
            return Some(at..end);
        }
        // The next group of digits.
        at = run(text, at, usize::MAX, |byte| byte.is_ascii_digit());
    }
}

/// The end of the card that begins here, at the end of a group of digits.
fn card_at(text: &[u8], start: usize) -> Option<usize> {
    // Major industries of cards that pay; 1 is kept for airlines, 7 to 9 and 0 for others.
    if !is_at(text, Some(start), |byte| (b'2'..=b'6').contains(&byte)) {
        return None;
    }
    let mut digits = [0_u8; 19];
    let mut count = 0_usize;
    let mut at = start;
    let mut found = None;
    loop {
        let end = run(text, at, 20, |byte| byte.is_ascii_digit());
        for &byte in text.get(at..end)? {
            match digits.get_mut(count) {
                Some(digit) => *digit = byte & 15,
                None => return found,
            }
            count = count.saturating_add(1);
        }
        let known = digits.get(..count)?;
        let apart = !is_at(text, Some(end), |byte| byte.is_ascii_alphanumeric());
        let same = known.iter().all(|digit| Some(digit) == known.first());
        if apart && !same && CARD.contains(&count) && luhn(known.iter().copied()) {
            found = Some(end);
        }
        let next = end.checked_add(1)?;
        let joined = is_at(text, Some(end), |byte| matches!(byte, b' ' | b'-'));
        if !joined || !is_at(text, Some(next), |byte| byte.is_ascii_digit()) {
            return found;
        }
        at = next;
    }
}

/// Lengths by country (the SWIFT registry of IBAN formats).
fn iban_length(country: [u8; 2]) -> Option<usize> {
    Some(match &country {
        b"NO" => 15,
        b"BE" => 16,
        b"DK" | b"FI" | b"FO" | b"GL" | b"NL" | b"SD" => 18,
        b"MK" | b"SI" => 19,
        b"AT" | b"BA" | b"EE" | b"KZ" | b"LT" | b"LU" | b"XK" => 20,
        b"CH" | b"HR" | b"LI" | b"LV" => 21,
        b"BG" | b"BH" | b"CR" | b"DE" | b"GB" | b"GE" | b"IE" | b"ME" | b"RS" | b"VA" => 22,
        b"AE" | b"GI" | b"IL" | b"IQ" | b"OM" | b"TL" | b"SO" => 23,
        b"AD" | b"CZ" | b"ES" | b"MD" | b"PK" | b"RO" | b"SA" | b"SE" | b"SK" | b"TN" | b"VG" => 24,
        b"LY" | b"PT" | b"ST" => 25,
        b"IS" | b"TR" => 26,
        b"BI" | b"DJ" | b"FR" | b"GR" | b"IT" | b"MC" | b"MR" | b"SM" => 27,
        b"AL" | b"AZ" | b"BY" | b"CY" | b"DO" | b"GT" | b"HU" | b"LB" | b"NI" | b"PL" | b"SV" => 28,
        b"BR" | b"EG" | b"PS" | b"QA" | b"UA" => 29,
        b"JO" | b"KW" | b"MU" => 30,
        b"MT" | b"SC" => 31,
        b"LC" => 32,
        b"RU" => 33,
        _ => return None,
    })
}

pub(super) fn iban(text: &[u8], from: usize) -> Option<Range<usize>> {
    let mut at = from;
    loop {
        let rest = text.get(at..)?;
        // Two letters, then two digits.
        at = at.checked_add(rest.windows(4).position(|four| {
            four.iter().take(2).all(u8::is_ascii_alphabetic) && four.iter().skip(2).all(u8::is_ascii_digit)
        })?)?;
        let inside = is_at(text, at.checked_sub(1), |byte| byte.is_ascii_alphanumeric());
        if !inside && let Some(end) = iban_at(text, at) {
            return Some(at..end);
        }
        at = at.checked_add(1)?;
    }
}

fn iban_at(text: &[u8], start: usize) -> Option<usize> {
    let mut chars = [0_u8; 34];
    let country = *text.get(start..)?.first_chunk::<2>()?;
    let length = iban_length(country.map(|byte| byte.to_ascii_uppercase()))?;
    debug_assert!(IBAN.contains(&length));
    let mut at = start;
    for place in chars.get_mut(..length)? {
        // Groups are separated by one blank each.
        let blank = at > start && is_at(text, Some(at), |byte| byte == b' ');
        let byte = *text.get(at.checked_add(usize::from(blank))?)?;
        if !byte.is_ascii_alphanumeric() {
            return None;
        }
        *place = byte.to_ascii_uppercase();
        at = at.checked_add(1)?.checked_add(usize::from(blank))?;
    }
    if is_at(text, Some(at), |byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let chars = chars.get(..length)?;
    let (head, account) = chars.split_at_checked(4)?;
    let remainder = account.iter().chain(head).fold(0_u32, |rest, &byte| {
        let (worth, width) = if byte.is_ascii_digit() {
            (u32::from(byte & 15), 10)
        } else {
            (u32::from(byte.saturating_sub(b'A')).saturating_add(10), 100)
        };
        rest.saturating_mul(width).saturating_add(worth) % 97
    });
    (remainder == 1).then_some(at)
}

/// `ddd-dd-dddd`, or with blanks. Area 000 and 666, group 00 and serial 0000 are never given out (SSA, POMS RM 10201.035);
/// areas from 900 on are taxpayer numbers of the same form.
pub(super) fn ssn(text: &[u8], from: usize) -> Option<Range<usize>> {
    let mut at = from;
    loop {
        let rest = text.get(at..)?;
        at = at.checked_add(rest.windows(11).position(|form| {
            form.iter().enumerate().all(|(place, byte)| match place {
                3 => matches!(byte, b'-' | b' '),
                6 => form.get(3) == Some(byte),
                _ => byte.is_ascii_digit(),
            })
        })?)?;
        let end = at.checked_add(11)?;
        let part = |range: Range<usize>| text.get(at..)?.get(range);
        let given = part(0..3).is_some_and(|area| area != b"000" && area != b"666")
            && part(4..6).is_some_and(|group| group != b"00")
            && part(7..11).is_some_and(|serial| serial != b"0000");
        let more = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if given && !is_at(text, at.checked_sub(1), more) && !is_at(text, Some(end), more) {
            return Some(at..end);
        }
        at = at.checked_add(1)?;
    }
}

pub(super) fn phone(text: &[u8], from: usize) -> Option<Range<usize>> {
    let rest = text.get(from..)?;
    memchr_iter(b'+', rest).find_map(|at| phone_at(text, from.checked_add(at)?))
}

fn phone_at(text: &[u8], start: usize) -> Option<Range<usize>> {
    if is_at(text, start.checked_sub(1), |byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let first = start.checked_add(1)?;
    // No country code begins with 0.
    if !is_at(text, Some(first), |byte| (b'1'..=b'9').contains(&byte)) {
        return None;
    }
    let (mut at, mut end, mut count, mut between) = (first, first, 0_usize, 0_usize);
    while let Some(&byte) = text.get(at) {
        at = at.saturating_add(1);
        match byte {
            b'0'..=b'9' => {
                count = count.saturating_add(1);
                between = 0;
                end = at;
            }
            // `+1 (555) 010-9999`: at most two of them between digits.
            b' ' | b'-' | b'.' | b'(' | b')' | b'/' if between < 2 => between = between.saturating_add(1),
            _ => break,
        }
        if count > *PHONE.end() {
            return None;
        }
    }
    let more = is_at(text, Some(end), |byte| byte.is_ascii_alphanumeric());
    (PHONE.contains(&count) && !more).then_some(start..end)
}
