//! Fields of packets, by nom.

use nom::combinator::all_consuming;
use nom::error::{ErrorKind, ParseError};
use nom::multi::length_data;
use nom::number::complete::{be_u32, be_u64};
use nom::{Err, IResult, Parser};

use super::{MAX_HANDLE, Malformed};

/// What a parser of a field gives.
pub(super) type Taken<'a, T> = IResult<&'a [u8], T, Malformed>;

impl ParseError<&[u8]> for Malformed {
    fn from_error_kind(_: &[u8], kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Eof => Self::Trailing,
            _ => Self::Short,
        }
    }

    fn append(_: &[u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

pub(super) fn u32(input: &[u8]) -> Taken<'_, u32> {
    be_u32(input)
}

pub(super) fn u64(input: &[u8]) -> Taken<'_, u64> {
    be_u64(input)
}

pub(super) fn string(input: &[u8]) -> Taken<'_, &[u8]> {
    length_data(be_u32).parse(input)
}

pub(super) fn handle(input: &[u8]) -> Taken<'_, &[u8]> {
    let (rest, handle) = string(input)?;
    if handle.len() > MAX_HANDLE {
        return Err(Err::Failure(Malformed::Handle));
    }
    Ok((rest, handle))
}

/// Reads all of a body.
pub(super) fn whole<'a, T>(
    body: &'a [u8],
    parser: impl Parser<&'a [u8], Output = T, Error = Malformed>,
) -> Result<T, Malformed> {
    match all_consuming(parser).parse(body) {
        Ok((_, value)) => Ok(value),
        Err(Err::Error(fault) | Err::Failure(fault)) => Err(fault),
        Err(Err::Incomplete(_)) => Err(Malformed::Short),
    }
}
