//! Bytes and what they say (RESP2 and RESP3, <https://redis.io/docs/latest/develop/reference/protocol-spec/>). No state but
//! where in a reply one is.

use nom::bytes::streaming::{tag, take, take_while_m_n};
use nom::character::streaming::crlf;
use nom::combinator::{map_opt, verify};
use nom::sequence::{delimited, terminated};
use nom::{IResult, Parser};

/// Arguments of one request.
pub const ARGUMENTS: u32 = 16_384;
/// Longest line in a reply, in bytes: a simple string, an error, a number.
const LINE: usize = 64 * 1024;
/// Longest bulk string in a reply: Redis' own limit.
const BULK: u64 = 512 << 20;
/// Depth to which replies may nest.
const DEPTH: usize = 16;

/// A peer sent what is no RESP. The text completes "sent ...".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// What stands at the front of a client's bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Front<'a> {
    /// Not yet a whole request.
    Incomplete,
    /// A request: its arguments, and how many bytes it has.
    Request(Vec<&'a [u8]>, usize),
}

/// A length after its mark, such as `*3\r\n`: plain digits without leading zeros, so that there is one way to say it.
fn length(mark: u8) -> impl FnMut(&[u8]) -> IResult<&[u8], u32> {
    move |input| {
        let mark = [mark];
        let digits = verify(
            take_while_m_n(1, 9, |b: u8| b.is_ascii_digit()),
            |digits: &[u8]| digits.len() == 1 || digits.first() != Some(&b'0'),
        );
        let number = map_opt(digits, |digits| std::str::from_utf8(digits).ok()?.parse().ok());
        delimited(tag(mark.as_slice()), number, crlf).parse(input)
    }
}

/// Parses one request: an array of bulk strings of at most `limit` bytes together. Inline commands are not RESP and not
/// taken: a line that a browser was tricked into sending is one, too.
pub fn request(input: &[u8], limit: usize) -> Result<Front<'_>, Malformed> {
    match arguments(input, limit) {
        Ok((rest, arguments)) => Ok(Front::Request(arguments, input.len().saturating_sub(rest.len()))),
        Err(nom::Err::Incomplete(_)) if input.len() > limit => Err(Malformed("a request that is too long")),
        Err(nom::Err::Incomplete(_)) => Ok(Front::Incomplete),
        Err(_) => Err(Malformed("what is no array of bulk strings within the limits")),
    }
}

fn arguments(input: &[u8], limit: usize) -> IResult<&[u8], Vec<&[u8]>> {
    let (mut rest, count) = verify(length(b'*'), |n| (1..=ARGUMENTS).contains(n)).parse(input)?;
    let mut room = limit;
    let mut list = Vec::new();
    for _ in 0..count {
        // A length is refused before its bytes are waited for.
        let (after, size) =
            verify(length(b'$'), |n| usize::try_from(*n).is_ok_and(|n| n <= room)).parse(rest)?;
        let (after, argument) = terminated(take(size), crlf).parse(after)?;
        room = room.saturating_sub(argument.len());
        list.push(argument);
        rest = after;
    }
    Ok((rest, list))
}

/// Writes a request.
pub fn encode(arguments: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// How a reply begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// An error.
    Error,
    /// So many elements (of a map: pairs).
    Elements(u64),
    /// A push, which answers nothing.
    Push,
    /// Anything else.
    Other,
}

/// A part of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// How many bytes.
    pub bytes: usize,
    /// How the reply begins, where it begins here.
    pub head: Option<Head>,
    /// Whether the reply ends here.
    pub ends: bool,
}

/// Follows replies, however large, without keeping them.
#[derive(Debug, Default)]
pub struct Replies {
    /// Elements that are still to come, outermost first.
    open: Vec<u64>,
    /// Bytes of a bulk string that are still to come, with its line end.
    bulk: u64,
}

impl Replies {
    /// Whether a reply has begun and not ended.
    pub fn is_inside(&self) -> bool {
        self.bulk > 0 || !self.open.is_empty()
    }

    /// Takes the next part; `None`: more bytes are needed.
    pub fn next(&mut self, input: &[u8]) -> Result<Option<Part>, Malformed> {
        if self.bulk > 0 {
            let bytes = usize::try_from(self.bulk).map_or(input.len(), |bulk| bulk.min(input.len()));
            if bytes == 0 {
                return Ok(None);
            }
            self.bulk = self.bulk.saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
            let ends = self.bulk == 0 && self.element();
            return Ok(Some(Part {
                bytes,
                head: None,
                ends,
            }));
        }
        let Some(end) = input.iter().take(LINE).position(|byte| *byte == b'\n') else {
            return if input.len() >= LINE {
                Err(Malformed("a line that is too long"))
            } else {
                Ok(None)
            };
        };
        let bytes = end.saturating_add(1);
        let line = input.get(..bytes).and_then(|line| line.strip_suffix(b"\r\n"));
        let Some((mark, text)) = line.and_then(<[u8]>::split_first) else {
            return Err(Malformed("a line without its kind or its end"));
        };
        let outermost = !self.is_inside();
        let (head, ends) = self.line(*mark, text)?;
        Ok(Some(Part {
            bytes,
            head: outermost.then_some(head),
            ends,
        }))
    }

    fn line(&mut self, mark: u8, text: &[u8]) -> Result<(Head, bool), Malformed> {
        let number = || -> Result<Option<u64>, Malformed> {
            let text = std::str::from_utf8(text).map_err(|_| Malformed("a length that is no number"))?;
            match text {
                "-1" => Ok(None),
                text => text
                    .parse()
                    .map(Some)
                    .map_err(|_| Malformed("a length that is no number")),
            }
        };
        match mark {
            b'-' => Ok((Head::Error, self.element())),
            b'+' | b':' | b'_' | b'#' | b',' | b'(' => Ok((Head::Other, self.element())),
            b'$' | b'=' | b'!' => match number()? {
                None => Ok((Head::Other, self.element())),
                Some(size) if size <= BULK => {
                    self.bulk = size.saturating_add(2);
                    Ok((if mark == b'!' { Head::Error } else { Head::Other }, false))
                }
                Some(_) => Err(Malformed("a bulk string that is too long")),
            },
            b'*' | b'~' | b'%' | b'>' | b'|' => {
                let Some(count) = number()? else {
                    return Ok((Head::Other, self.element()));
                };
                if count > u64::from(u32::MAX) || self.open.len() >= DEPTH {
                    return Err(Malformed("a reply that is too large or too deep"));
                }
                let (head, children) = match mark {
                    b'>' => (Head::Push, count),
                    b'%' => (Head::Elements(count), count.saturating_mul(2)),
                    // Attributes stand before the element that they belong to.
                    b'|' => (Head::Other, count.saturating_mul(2).saturating_add(1)),
                    _ => (Head::Elements(count), count),
                };
                if children == 0 {
                    return Ok((head, self.element()));
                }
                self.open.push(children);
                Ok((head, false))
            }
            _ => Err(Malformed("a reply of an unknown kind")),
        }
    }

    /// An element is whole; so may be what it is in. Tells whether the reply is.
    fn element(&mut self) -> bool {
        while let Some(left) = self.open.last_mut() {
            *left = left.saturating_sub(1);
            if *left > 0 {
                return false;
            }
            self.open.pop();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_whole_or_waited_for() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n*1\r\n";
        let whole = 23;
        assert_eq!(
            request(bytes, 100),
            Ok(Front::Request(vec![b"GET", b"a\r\nb"], whole))
        );
        for end in 0..whole {
            assert_eq!(request(&bytes[..end], 100), Ok(Front::Incomplete), "{end}");
        }
        assert_eq!(encode(&[b"GET", b"a\r\nb"]), bytes[..whole]);
    }

    #[test]
    fn what_is_no_request_is_refused_at_its_first_wrong_byte() {
        for bytes in [
            &b"PING\r\n"[..],
            b"GET / HTTP/1.1\r\n",
            b"*0\r\n",
            b"*-1\r\n",
            b"*+1\r\n",
            b"*01\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n$+1\r\n",
            b"*1\r\n:1\r\n",
            b"*1\n",
            b"*99999999\r\n",
            b"*1\r\n$101\r\n",
            b"*1\r\n$999999999999",
            b"*1\r\n$1\r\nab\r\n",
            b"*2\r\n$60\r\n111111111122222222223333333333444444444455555555556666666666\r\n$60\r\n",
        ] {
            assert!(
                request(bytes, 100).is_err(),
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    fn parts(bytes: &[u8], step: usize) -> Vec<(usize, bool)> {
        let (mut replies, mut ends, mut from, mut have) = (Replies::default(), Vec::new(), 0, 0);
        while from < bytes.len() {
            match replies.next(&bytes[from..have]).unwrap() {
                Some(part) => {
                    from += part.bytes;
                    if part.ends {
                        ends.push((from, replies.is_inside()));
                    }
                }
                None => have = (have + step).min(bytes.len()),
            }
        }
        ends
    }

    #[test]
    fn a_reply_ends_where_it_ends_however_it_arrives() {
        let one: &[&[u8]] = &[
            b"+OK\r\n",
            b"$5\r\nhel\r\n\r\n",
            b"*2\r\n*1\r\n$0\r\n\r\n%1\r\n+a\r\n~0\r\n",
            b"|1\r\n+ttl\r\n:3\r\n*1\r\n#t\r\n",
            b"*-1\r\n",
            b"!3\r\nERR\r\n",
            b">2\r\n+x\r\n=7\r\ntxt:abc\r\n",
        ];
        let bytes = one.concat();
        let mut expected = Vec::new();
        let mut at = 0;
        for reply in one {
            at += reply.len();
            expected.push((at, false));
        }
        for step in 1..=bytes.len() {
            assert_eq!(parts(&bytes, step), expected, "{step}");
        }
    }

    #[test]
    fn a_hostile_target_is_bounded() {
        let deep = b"*1\r\n".repeat(DEPTH + 1);
        for bytes in [
            &b"?1\r\n"[..],
            b"$x\r\n",
            b"$-2\r\n",
            b"$536870913\r\n",
            b"*4294967296\r\n",
            b"*?\r\n",
            b"\r\n",
            b"+OK\n",
        ] {
            let mut replies = Replies::default();
            assert!(
                replies.next(bytes).is_err(),
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
        let (mut replies, mut from) = (Replies::default(), 0);
        let failed = loop {
            match replies.next(&deep[from..]) {
                Ok(Some(part)) => from += part.bytes,
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        assert!(failed);
        assert!(Replies::default().next(&[b'+'; LINE]).is_err());
    }
}
