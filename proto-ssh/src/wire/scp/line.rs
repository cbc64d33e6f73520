//! Lines of a source and answers of a sink.

use super::MAX_LINE;
use nom::bytes::complete::{tag, take_while_m_n, take_while1};
use nom::character::complete::{char, u64 as number};
use nom::combinator::all_consuming;
use nom::{IResult, Parser};

/// Why a line can't be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No newline within [`MAX_LINE`].
    #[error("line is longer than 4160 bytes")]
    TooLong,
    /// None of the lines of the protocol.
    #[error("line is none of the protocol")]
    Line,
    /// A name that is empty, `.` or `..`, or that has a slash, NUL or control character.
    #[error("name leads elsewhere")]
    Name,
    /// A size over 2^63 - 1.
    #[error("size is no size of a file")]
    Size,
    /// An answer that begins with none of 0, 1 and 2.
    #[error("answer is none of 0, 1 and 2")]
    Reply,
}

/// A line of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// `C0644 12 name`: a file of so many bytes follows.
    File {
        /// Permissions.
        mode: u32,
        /// In bytes, at most 2^63 - 1.
        size: u64,
        /// Without its folder.
        name: &'a [u8],
    },
    /// `D0755 0 name`: what follows is in this folder.
    Directory {
        /// Permissions.
        mode: u32,
        /// Without its folder.
        name: &'a [u8],
    },
    /// `E`: the end of a folder.
    Leave,
    /// `T1700000000 0 1700000000 0`: times of what follows.
    Times {
        /// Last change, in seconds since 1970.
        change: u64,
        /// Last access.
        access: u64,
    },
    /// 1 and text: something is left out.
    Warning(&'a [u8]),
    /// 2 and text: the end.
    Fatal(&'a [u8]),
}

/// An answer of a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// 0
    Ok,
    /// 1 and text: not this one.
    Warning(&'a [u8]),
    /// 2 and text: the end.
    Fatal(&'a [u8]),
}

/// What was taken off a buffer, and what follows it.
pub type Split<'a> = (&'a [u8], &'a [u8]);

/// Takes the first line off a buffer: with its newline, and what follows; `None` until it is there.
///
/// # Errors
///
/// Where no newline comes in time.
pub fn split_line(buffer: &[u8]) -> Result<Option<Split<'_>>, Malformed> {
    let within = buffer.get(..MAX_LINE).unwrap_or(buffer);
    match within.iter().position(|&byte| byte == b'\n') {
        Some(at) => Ok(buffer.split_at_checked(at.saturating_add(1))),
        None if buffer.len() >= MAX_LINE => Err(Malformed::TooLong),
        None => Ok(None),
    }
}

/// Takes the first answer of a sink off a buffer: its bytes, and what follows; `None` until it is there.
///
/// # Errors
///
/// Where it is none, or its text does not end in time.
pub fn split_reply(buffer: &[u8]) -> Result<Option<Split<'_>>, Malformed> {
    match buffer.first() {
        None => Ok(None),
        Some(0) => Ok(buffer.split_at_checked(1)),
        Some(1 | 2) => split_line(buffer),
        Some(_) => Err(Malformed::Reply),
    }
}

impl<'a> Line<'a> {
    /// Reads a line with its newline.
    ///
    /// # Errors
    ///
    /// Where it is not exactly of the form that OpenSSH writes.
    pub fn parse(line: &'a [u8]) -> Result<Self, Malformed> {
        let line = line.strip_suffix(b"\n").ok_or(Malformed::Line)?;
        let (kind, fields) = line.split_first().ok_or(Malformed::Line)?;
        match kind {
            b'C' => {
                let (mode, size, name) = entry(fields)?;
                Ok(Self::File { mode, size, name })
            }
            b'D' => {
                let (mode, _, name) = entry(fields)?;
                Ok(Self::Directory { mode, name })
            }
            b'E' if fields.is_empty() => Ok(Self::Leave),
            b'T' => match all_consuming(times).parse(fields) {
                Ok((_, (change, access))) => Ok(Self::Times { change, access }),
                Err(_) => Err(Malformed::Line),
            },
            1 => Ok(Self::Warning(fields)),
            2 => Ok(Self::Fatal(fields)),
            _ => Err(Malformed::Line),
        }
    }
}

impl<'a> Reply<'a> {
    /// Reads what [`split_reply`] took.
    ///
    /// # Errors
    ///
    /// Where it is none.
    pub fn parse(reply: &'a [u8]) -> Result<Self, Malformed> {
        match reply.split_first() {
            Some((0, [])) => Ok(Self::Ok),
            Some((1, text)) => text
                .strip_suffix(b"\n")
                .map(Self::Warning)
                .ok_or(Malformed::Reply),
            Some((2, text)) => text.strip_suffix(b"\n").map(Self::Fatal).ok_or(Malformed::Reply),
            _ => Err(Malformed::Reply),
        }
    }
}

fn entry(fields: &[u8]) -> Result<(u32, u64, &[u8]), Malformed> {
    let (name, (mode, size)) = head(fields).map_err(|_| Malformed::Line)?;
    if i64::try_from(size).is_err() {
        return Err(Malformed::Size);
    }
    let leads_elsewhere =
        matches!(name, b"" | b"." | b"..") || name.iter().any(|&byte| byte == b'/' || byte < b' ');
    if leads_elsewhere {
        return Err(Malformed::Name);
    }
    Ok((mode, size, name))
}

/// `0644 12 `, and the name is left.
fn head(input: &[u8]) -> IResult<&[u8], (u32, u64)> {
    let is_octal = |byte: u8| (b'0'..b'8').contains(&byte);
    let (input, digits) = take_while_m_n(4, 4, is_octal).parse(input)?;
    let mode = digits
        .iter()
        .fold(0_u32, |mode, digit| (mode << 3) | u32::from(digit & 7));
    let (input, _) = char(' ').parse(input)?;
    let (input, size) = decimal(input)?;
    let (input, _) = char(' ').parse(input)?;
    Ok((input, (mode, size)))
}

fn times(input: &[u8]) -> IResult<&[u8], (u64, u64)> {
    let (input, change) = decimal(input)?;
    let (input, _) = tag(" 0 ".as_bytes()).parse(input)?;
    let (input, access) = decimal(input)?;
    let (input, _) = tag(" 0".as_bytes()).parse(input)?;
    Ok((input, (change, access)))
}

/// Digits and nothing else, within 64 bits.
fn decimal(input: &[u8]) -> IResult<&[u8], u64> {
    let (after, digits) = take_while1(|byte: u8| byte.is_ascii_digit()).parse(input)?;
    let (_, value) = all_consuming(number::<&[u8], nom::error::Error<&[u8]>>).parse(digits)?;
    Ok((after, value))
}
