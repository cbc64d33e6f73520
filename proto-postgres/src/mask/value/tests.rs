//! Masks of values of every kind, in both formats.

use super::*;

fn masked(mask: Mask, oid: u32, format: Format, value: &[u8]) -> Option<Vec<u8>> {
    let key = MaskKey::new(&[7; 32]);
    let mut out = BytesMut::new();
    let plan = ColumnPlan::from(mask);
    let mask = ColumnMask::new(Some(&plan), None, oid, format, true).unwrap();
    let there = mask.apply(Some(value), &key, &mut out);
    assert!(there || out.is_empty(), "NULL, and yet bytes");
    there.then(|| out.to_vec())
}

const BINARY: Format = Format::BINARY;
const TEXT: Format = Format::TEXT;

#[test]
fn a_text_is_masked_alike_in_both_formats() {
    for format in [TEXT, BINARY] {
        assert_eq!(
            masked(Mask::Partial, 25, format, b"4929123456700037").as_deref(),
            Some(&b"****0037"[..])
        );
        assert_eq!(
            masked(Mask::Redact, 1043, format, b"x").as_deref(),
            Some(REDACTED.as_bytes())
        );
        assert_eq!(masked(Mask::Null, 25, format, b"x"), None);
    }
}

/// A mask that a type has no room for is no reason to show the value.
#[test]
fn a_mask_without_meaning_for_the_type_is_null() {
    for (mask, oid) in [
        (Mask::Partial, 23),
        (Mask::Redact, 1700),
        (Mask::Redact, 16),
        (Mask::Redact, 2950),
        (Mask::Year, 23),
        (Mask::Redact, 99_999),
        (Mask::Hash, 1700),
        (Mask::Redact, 1007),
    ] {
        for format in [TEXT, BINARY] {
            assert_eq!(masked(mask, oid, format, b"12345678"), None, "{mask:?} {oid}");
        }
    }
}

#[test]
fn the_elements_of_an_array_in_text_are_masked_each() {
    for (array, expected) in [
        (
            r#"{abcdefgh,NULL,"NULL","a,\\b\"cdefgh"}"#,
            Some(r#"{"****efgh",NULL,"****LL","****efgh"}"#),
        ),
        (r#"{"secret 1\"\\"}"#, Some(r#"{"**** 1\"\\"}"#)),
        ("{}", Some("{}")),
        ("{{a,b},{c,d}}", None),
        ("[0:1]={a,b}", None),
        ("{a,}", None),
        (r#"{"a}"#, None),
        (r#"{"a"b}"#, None),
    ] {
        let found = masked(Mask::Partial, 1009, TEXT, array.as_bytes());
        let found = found.map(|found| String::from_utf8(found).unwrap());
        assert_eq!(found.as_deref(), expected, "{array}");
    }
}

/// For which values something made of them is NULL tells what they are.
#[test]
fn what_is_made_of_values_is_masked_alike_whether_it_is_null_or_not() {
    let key = MaskKey::new(&[7; 32]);
    for oid in [25, 114, 3802, 23, 1009, 2950, 1082] {
        for format in [TEXT, BINARY] {
            let plan = ColumnPlan {
                made: true,
                ..ColumnPlan::from(Mask::Redact)
            };
            let mask = ColumnMask::new(Some(&plan), None, oid, format, true).unwrap();
            let (mut some, mut none) = (BytesMut::new(), BytesMut::new());
            let there = mask.apply(Some(b"x"), &key, &mut some);
            assert_eq!(mask.apply(None, &key, &mut none), there, "{oid}");
            assert_eq!(some, none, "{oid}");
        }
    }
}

#[test]
fn json_stays_json() {
    assert_eq!(
        masked(Mask::Redact, 114, TEXT, b"{}").as_deref(),
        Some(&b"\"[redacted]\""[..])
    );
    assert_eq!(
        masked(Mask::Partial, 3802, BINARY, b"\x01{}").as_deref(),
        Some(&b"\x01\"[redacted]\""[..])
    );
}

#[test]
fn a_year_is_its_first_day() {
    assert_eq!(
        masked(Mask::Year, 1082, TEXT, b"1984-06-17").as_deref(),
        Some(&b"1984-01-01"[..])
    );
    assert_eq!(
        masked(Mask::Year, 1184, TEXT, b"2024-02-29 12:34:56+00").as_deref(),
        Some(&b"2024-01-01 00:00:00+00"[..])
    );
    // 2001-02-01 is day 397, 2001-01-01 day 366; 1999-12-31 is day -1, 1999-01-01 day -365.
    for (day, first) in [(397_i32, 366_i32), (-1, -365), (0, 0)] {
        assert_eq!(
            masked(Mask::Year, 1082, BINARY, &day.to_be_bytes()).as_deref(),
            Some(&first.to_be_bytes()[..])
        );
    }
    let noon = (397 * 86_400_000_000_i64 + 43_200_000_000).to_be_bytes();
    let first = (366 * 86_400_000_000_i64).to_be_bytes();
    assert_eq!(
        masked(Mask::Year, 1114, BINARY, &noon).as_deref(),
        Some(&first[..])
    );
    for (value, format) in [
        (&b"0044-03-15 BC"[..], TEXT),
        (b"infinity", TEXT),
        (&i32::MAX.to_be_bytes(), BINARY),
        (&i32::MIN.to_be_bytes(), BINARY),
        (b"17/06/1984", TEXT),
    ] {
        assert_eq!(masked(Mask::Year, 1082, format, value), None, "{value:?}");
    }
}

#[test]
fn a_hash_has_the_form_of_its_type() {
    let text = String::from_utf8(masked(Mask::Hash, 2950, TEXT, b"x").unwrap()).unwrap();
    assert_eq!(text.len(), 36);
    assert_eq!(masked(Mask::Hash, 2950, BINARY, b"x").unwrap().len(), 16);
    assert_eq!(masked(Mask::Hash, 23, BINARY, b"\0\0\0\x01").unwrap().len(), 4);
    let number = String::from_utf8(masked(Mask::Hash, 21, TEXT, b"7").unwrap()).unwrap();
    assert!(number.parse::<i16>().unwrap() >= 0);
}

#[test]
fn the_elements_of_a_binary_array_are_masked_each() {
    let mut array = Vec::new();
    for number in [1_i32, 1, 25, 2, 1] {
        array.extend(number.to_be_bytes());
    }
    array.extend(8_i32.to_be_bytes());
    array.extend(b"abcdefgh");
    array.extend((-1_i32).to_be_bytes());
    let out = masked(Mask::Partial, 1009, BINARY, &array).unwrap();
    assert!(out.windows(8).any(|part| part == b"****efgh"));
    assert!(!out.windows(4).any(|part| part == b"abcd"));
    assert_eq!(&out[out.len() - 4..], (-1_i32).to_be_bytes());
    // What is cut short, or of another type than was told, is none.
    assert_eq!(masked(Mask::Partial, 1009, BINARY, &array[..30]), None);
    assert_eq!(masked(Mask::Partial, 1015, BINARY, &array), None);
}
