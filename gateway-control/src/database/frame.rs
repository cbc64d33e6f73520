//! Frames, measured and looked through before `pgwire` decodes them.
//!
//! `pgwire` takes frames of up to a gigabyte, reads counts that a body need not hold, and replaces what is no UTF-8. So
//! each frame is bounded here before it is waited for, and its inner lengths must add up (PostgreSQL, "Message Formats").

/// Tag and length.
const HEADER: usize = 5;
/// Longest frame, in bytes, its tag and length included.
pub(super) const FRAME_BYTES: usize = 64 * 1024;

/// What stands at the front of the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Front {
    /// More bytes are needed.
    Incomplete,
    /// A whole frame of so many bytes that is well formed.
    Frame(usize),
    /// Terminate.
    Goodbye,
}

/// Looks at the front of the input. The error completes "the client sent ...".
pub(super) fn front(input: &[u8]) -> Result<Front, &'static str> {
    let Some((&tag, rest)) = input.split_first() else {
        return Ok(Front::Incomplete);
    };
    if !b"QPBEDCSHX".contains(&tag) {
        return Err("a message that the operators' database does not know");
    }
    let Some(length) = rest.first_chunk::<4>() else {
        return Ok(Front::Incomplete);
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    let total = length.saturating_add(1);
    if total < HEADER {
        return Err("a message whose length is less than that of its header");
    }
    if total > FRAME_BYTES {
        return Err("a message that is longer than 64 KiB");
    }
    let Some(body) = input.get(HEADER..total) else {
        return Ok(Front::Incomplete);
    };
    if tag == b'X' {
        return Ok(Front::Goodbye);
    }
    let mut body = Body(body);
    match body.check(tag) {
        Some(()) if body.0.is_empty() => Ok(Front::Frame(total)),
        _ => Err("a malformed message"),
    }
}

/// What is left of a body.
struct Body<'a>(&'a [u8]);

impl Body<'_> {
    /// Walks the body of a message; `None` where it does not hold what it says.
    fn check(&mut self, tag: u8) -> Option<()> {
        match tag {
            b'Q' => self.text(),
            b'P' => {
                self.text()?;
                self.text()?;
                let types = self.count()?;
                self.take(types.checked_mul(4)?)
            }
            b'B' => {
                self.text()?;
                self.text()?;
                let formats = self.formats()?;
                let values = self.count()?;
                if formats > 1 && formats != values {
                    return None;
                }
                for _ in 0..values {
                    let (length, rest) = self.0.split_first_chunk::<4>()?;
                    self.0 = rest;
                    match i32::from_be_bytes(*length) {
                        -1 => {}
                        length => self.take(usize::try_from(length).ok()?)?,
                    }
                }
                self.formats().map(|_| ())
            }
            b'E' => {
                self.text()?;
                self.take(4)
            }
            b'D' | b'C' => {
                let (kind, rest) = self.0.split_first()?;
                self.0 = rest;
                b"SP".contains(kind).then(|| self.text())?
            }
            b'S' | b'H' => Some(()),
            _ => None,
        }
    }

    fn take(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }

    fn count(&mut self) -> Option<usize> {
        let (count, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(usize::from(u16::from_be_bytes(*count)))
    }

    /// Format codes: each 0 or 1.
    fn formats(&mut self) -> Option<usize> {
        let count = self.count()?;
        for _ in 0..count {
            let (code, rest) = self.0.split_first_chunk::<2>()?;
            self.0 = rest;
            if u16::from_be_bytes(*code) > 1 {
                return None;
            }
        }
        Some(count)
    }

    /// A text that ends in a zero byte.
    fn text(&mut self) -> Option<()> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (text, rest) = self.0.split_at_checked(end)?;
        std::str::from_utf8(text).ok()?;
        self.0 = rest.get(1..)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    fn good() -> Vec<Vec<u8>> {
        vec![
            frame(b'Q', b"SHOW SESSIONS\0"),
            frame(b'P', b"s\0KILL $1\0\0\x01\0\0\0\x19"),
            frame(
                b'B',
                b"\0s\0\0\x01\0\x01\0\x02\0\0\0\x01a\xff\xff\xff\xff\0\x01\0\x01",
            ),
            frame(b'E', b"\0\0\0\0\x07"),
            frame(b'D', b"Ss\0"),
            frame(b'C', b"P\0"),
            frame(b'S', b""),
            frame(b'H', b""),
        ]
    }

    #[test]
    fn a_whole_frame_is_taken_and_every_strict_prefix_waits() {
        for frame in good() {
            assert_eq!(front(&frame), Ok(Front::Frame(frame.len())), "{frame:?}");
            for end in 0..frame.len() {
                assert_eq!(front(&frame[..end]), Ok(Front::Incomplete), "{frame:?}");
            }
        }
        assert_eq!(front(&frame(b'X', b"")), Ok(Front::Goodbye));
    }

    #[test]
    fn inner_lengths_that_do_not_add_up_never_reach_the_decoder() {
        for whole in good() {
            let body = &whole[HEADER..];
            for end in 0..body.len() {
                assert!(front(&frame(whole[0], &body[..end])).is_err(), "{whole:?} {end}");
            }
            let long = [body, b"\0"].concat();
            assert!(front(&frame(whole[0], &long)).is_err(), "{whole:?}");
        }
        // Counts of 65535, a negative length, a format code of 2, two formats for three values, no UTF-8.
        for (tag, body) in [
            (b'P', &b"\0\0\xff\xff"[..]),
            (b'B', b"\0\0\xff\xff"),
            (b'B', b"\0\0\0\0\xff\xff"),
            (b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
            (b'B', b"\0\0\0\x01\0\x02\0\0\0\0"),
            (
                b'B',
                b"\0\0\0\x02\0\0\0\0\0\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0",
            ),
            (b'Q', b"\xff\0"),
            (b'D', b"X\0"),
        ] {
            assert!(front(&frame(tag, body)).is_err(), "{tag} {body:?}");
        }
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_waited_for() {
        assert!(front(b"Q\0\x01\0\0").is_err());
        assert!(front(b"Q\xff\xff\xff\xff").is_err());
        assert!(front(b"Q\0\0\0\x03").is_err());
        assert!(front(b"p").is_err());
        assert!(front(b"\x16").is_err());
    }
}
