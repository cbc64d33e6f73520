//! The parts that bodies are made of, read with nom.
//!
//! PostgreSQL documentation, Message Data Types.

use nom::bytes::complete::{take, take_until};
use nom::error::ErrorKind;
use nom::number::complete::{be_i16, be_i32, be_u16, be_u32, u8 as any_u8};
use nom::{Err, IResult, Parser};

use super::error::{Kind, ParseError, ParseFault};
use super::format::Format;

/// What a part's parser gives: the rest and the value.
pub(crate) type Parsed<'a, T> = IResult<&'a [u8], T, Fault>;

/// A [`ParseFault`] in nom's error place.
#[derive(Debug)]
pub(crate) struct Fault(ParseFault);

impl<I> nom::error::ParseError<I> for Fault {
    fn from_error_kind(_: I, _: ErrorKind) -> Self {
        Self(ParseFault::Truncated("a field"))
    }

    fn append(_: I, _: ErrorKind, other: Self) -> Self {
        other
    }
}

pub(crate) fn fault<T>(what: ParseFault) -> Result<T, Err<Fault>> {
    Err(Err::Error(Fault(what)))
}

/// Runs `parser` over exactly `body`: what it leaves over is an error.
pub(crate) fn exact<'a, T>(
    kind: Kind,
    body: &'a [u8],
    parser: impl FnOnce(&'a [u8]) -> Parsed<'a, T>,
) -> Result<T, ParseError> {
    let what = match parser(body) {
        Ok(([], value)) => return Ok(value),
        Ok(_) => ParseFault::Trailing,
        Err(Err::Error(Fault(what)) | Err::Failure(Fault(what))) => what,
        Err(Err::Incomplete(_)) => ParseFault::Truncated("a field"),
    };
    Err(ParseError {
        message: kind.name,
        peer: kind.peer,
        what,
    })
}

/// A body that has nothing in it.
pub(crate) fn empty(kind: Kind, body: &[u8]) -> Result<(), ParseError> {
    exact(kind, body, |input| Ok((input, ())))
}

fn named<'a, T>(field: &'static str, result: Parsed<'a, T>) -> Parsed<'a, T> {
    result.or_else(|_| fault(ParseFault::Truncated(field)))
}

pub(crate) fn byte<'a>(input: &'a [u8], field: &'static str) -> Parsed<'a, u8> {
    named(field, any_u8(input))
}

pub(crate) fn int16<'a>(input: &'a [u8], field: &'static str) -> Parsed<'a, i16> {
    named(field, be_i16(input))
}

pub(crate) fn int32<'a>(input: &'a [u8], field: &'static str) -> Parsed<'a, i32> {
    named(field, be_i32(input))
}

pub(crate) fn uint32<'a>(input: &'a [u8], field: &'static str) -> Parsed<'a, u32> {
    named(field, be_u32(input))
}

pub(crate) fn format<'a>(input: &'a [u8], field: &'static str) -> Parsed<'a, Format> {
    named(field, be_i16(input)).map(|(rest, code)| (rest, Format(code)))
}

/// Exactly `N` bytes.
pub(crate) fn array<'a, const N: usize>(input: &'a [u8], field: &'static str) -> Parsed<'a, [u8; N]> {
    match input.split_first_chunk::<N>() {
        Some((value, rest)) => Ok((rest, *value)),
        None => fault(ParseFault::Truncated(field)),
    }
}

/// A string up to its NUL, without it.
pub(crate) fn cstr<'a>(input: &'a [u8], field: &'static str) -> Parsed<'a, &'a [u8]> {
    let nul: &[u8] = &[0];
    let mut parser = nom::sequence::terminated(take_until(nul), take(1_usize));
    parser
        .parse(input)
        .or_else(|_: Err<Fault>| fault(ParseFault::Unterminated(field)))
}

/// Strings up to an empty one, which is the list's terminator.
pub(crate) fn cstrs<'a>(mut input: &'a [u8], field: &'static str) -> Parsed<'a, Vec<&'a [u8]>> {
    let mut list = Vec::new();
    loop {
        let (rest, one) = cstr(input, field)?;
        input = rest;
        if one.is_empty() {
            return Ok((input, list));
        }
        list.push(one);
    }
}

/// All that is left.
pub(crate) fn rest(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (value, end) = input.split_at(input.len());
    Ok((end, value))
}

/// A value behind its length; -1 is NULL.
pub(crate) fn value<'a>(input: &'a [u8], field: &'static str) -> Parsed<'a, Option<&'a [u8]>> {
    let (input, length) = int32(input, field)?;
    if length == -1 {
        return Ok((input, None));
    }
    let Ok(length) = usize::try_from(length) else {
        return fault(ParseFault::Negative(field));
    };
    let (input, bytes) = take(length)(input).or_else(|_: Err<Fault>| fault(ParseFault::Length(field)))?;
    Ok((input, Some(bytes)))
}

/// A 16-bit count, which the server and libpq read as unsigned, checked against what is left of the
/// body when an item has at least `size` bytes.
pub(crate) fn count<'a>(input: &'a [u8], field: &'static str, size: usize) -> Parsed<'a, u16> {
    let (input, count) = named(field, be_u16(input))?;
    check_count(input, usize::from(count), field, size)?;
    Ok((input, count))
}

fn check_count(input: &[u8], count: usize, field: &'static str, size: usize) -> Result<(), Err<Fault>> {
    match count.checked_mul(size) {
        Some(needed) if needed <= input.len() => Ok(()),
        _ => fault(ParseFault::Count(field)),
    }
}

/// A list behind a 16-bit count; each item has at least `size` bytes.
pub(crate) fn list<'a, T>(
    input: &'a [u8],
    field: &'static str,
    size: usize,
    item: impl Fn(&'a [u8], &'static str) -> Parsed<'a, T>,
) -> Parsed<'a, Vec<T>> {
    let (input, count) = count(input, field, size)?;
    nom::multi::count(|input| item(input, field), usize::from(count)).parse(input)
}

/// A list behind a 32-bit count; each item has at least `size` bytes.
pub(crate) fn long_list<'a, T>(
    input: &'a [u8],
    field: &'static str,
    size: usize,
    item: impl Fn(&'a [u8], &'static str) -> Parsed<'a, T>,
) -> Parsed<'a, Vec<T>> {
    let (input, count) = uint32(input, field)?;
    let Ok(count) = usize::try_from(count) else {
        return fault(ParseFault::Count(field));
    };
    check_count(input, count, field, size)?;
    nom::multi::count(|input| item(input, field), count).parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind::frontend("Test", b't');

    fn what<T: std::fmt::Debug>(result: Result<T, ParseError>) -> ParseFault {
        result.expect_err("must be refused").what
    }

    #[test]
    fn strings_end_at_their_nul() {
        assert_eq!(exact(KIND, b"ab\0", |input| cstr(input, "name")), Ok(&b"ab"[..]));
        assert_eq!(
            what(exact(KIND, b"ab", |input| cstr(input, "name"))),
            ParseFault::Unterminated("name")
        );
        assert_eq!(
            what(exact(KIND, b"a\0b", |input| cstr(input, "name"))),
            ParseFault::Trailing
        );
        assert_eq!(
            exact(KIND, b"a\0b\0\0", |input| cstrs(input, "name")),
            Ok(vec![&b"a"[..], b"b"])
        );
        assert_eq!(
            what(exact(KIND, b"a\0", |input| cstrs(input, "name"))),
            ParseFault::Unterminated("name")
        );
    }

    #[test]
    fn values_are_null_or_within_the_message() {
        let read = |body| exact(KIND, body, |input| value(input, "value"));
        assert_eq!(read(b"\xff\xff\xff\xff"), Ok(None));
        assert_eq!(read(b"\0\0\0\0"), Ok(Some(&b""[..])));
        assert_eq!(read(b"\0\0\0\x01x"), Ok(Some(&b"x"[..])));
        assert_eq!(what(read(b"\xff\xff\xff\xfe")), ParseFault::Negative("value"));
        assert_eq!(what(read(b"\x7f\xff\xff\xffx")), ParseFault::Length("value"));
        assert_eq!(what(read(b"\0\0\0")), ParseFault::Truncated("value"));
    }

    #[test]
    fn counts_are_checked_before_anything_is_allocated() {
        let read = |body| exact(KIND, body, |input| list(input, "item", 4, int32));
        assert_eq!(read(b"\0\x01\0\0\0\x07"), Ok(vec![7]));
        assert_eq!(what(read(b"\xff\xff\0\0\0\x07")), ParseFault::Count("item"));
        let read = |body| exact(KIND, body, |input| long_list(input, "item", 1, cstr));
        assert_eq!(read(b"\0\0\0\x01a\0"), Ok(vec![&b"a"[..]]));
        assert_eq!(what(read(b"\xff\xff\xff\xffa\0")), ParseFault::Count("item"));
    }
}
