//! The first packet of a connection (RFC 4253, sections 6 and 7.1), before anything is encrypted: what its sender can speak.

use nom::bytes::streaming::{tag, take};
use nom::combinator::verify;
use nom::multi::length_data;
use nom::number::streaming::{be_u8, be_u32};
use nom::{IResult, Parser};

/// The longest packet that everybody must take, in bytes (RFC 4253, section 6.1).
pub const MAX_PACKET: usize = 35_000;

/// `SSH_MSG_KEXINIT`.
const KEXINIT: u8 = 20;
/// The length of its cookie, in bytes.
const COOKIE: usize = 16;

/// What the sender of a `SSH_MSG_KEXINIT` can speak, as lists of names parted by commas, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KexInit<'a> {
    /// `encryption_algorithms_client_to_server`
    pub ciphers_to_server: &'a [u8],
    /// `encryption_algorithms_server_to_client`
    pub ciphers_to_client: &'a [u8],
}

impl<'a> KexInit<'a> {
    /// Reads the packet at the beginning of `bytes`, as far as its ciphers; what is behind them is not looked at.
    ///
    /// # Errors
    ///
    /// [`nom::Err::Incomplete`] where the packet goes on behind `bytes`, another one where it is none: a packet of another type, longer
    /// than [`MAX_PACKET`], or one whose lists are longer than it is.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, nom::Err<nom::error::Error<&'a [u8]>>> {
        let (_, packet) = length_data(verify(be_u32, short)).parse(bytes)?;
        // It is there whole: what goes on behind it is wrong.
        let (_, found) = Self::fields(packet).map_err(|e| match e {
            nom::Err::Incomplete(_) => {
                nom::Err::Error(nom::error::Error::new(bytes, nom::error::ErrorKind::Eof))
            }
            wrong => wrong,
        })?;
        Ok(found)
    }

    fn fields(packet: &'a [u8]) -> IResult<&'a [u8], Self> {
        let list = || length_data(be_u32);
        let head = (be_u8, tag(&[KEXINIT][..]), take(COOKIE));
        let (rest, (_, _kex, _keys, ciphers_to_server, ciphers_to_client)) =
            (head, list(), list(), list(), list()).parse(packet)?;
        Ok((
            rest,
            Self {
                ciphers_to_server,
                ciphers_to_client,
            },
        ))
    }

    /// Whether its sender can be spoken to in this cipher, both ways.
    pub fn speaks(&self, cipher: &str) -> bool {
        let has = |list: &[u8]| {
            list.split(|byte| *byte == b',')
                .any(|name| name == cipher.as_bytes())
        };
        has(self.ciphers_to_server) && has(self.ciphers_to_client)
    }
}

fn short(length: &u32) -> bool {
    usize::try_from(*length).is_ok_and(|length| length <= MAX_PACKET)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(lists: &[&str]) -> Vec<u8> {
        let mut payload = vec![4, KEXINIT];
        payload.extend_from_slice(&[7; COOKIE]);
        for list in lists {
            payload.extend_from_slice(&u32::try_from(list.len()).unwrap().to_be_bytes());
            payload.extend_from_slice(list.as_bytes());
        }
        let mut packet = u32::try_from(payload.len()).unwrap().to_be_bytes().to_vec();
        packet.extend_from_slice(&payload);
        packet
    }

    #[test]
    fn its_ciphers_are_found_and_names_are_whole() {
        let bytes = packet(&[
            "k",
            "h",
            "a,aes128-gcm@openssh.com",
            "aes128-gcm@openssh.com",
            "m",
        ]);
        let found = KexInit::parse(&bytes).unwrap();
        assert!(found.speaks("aes128-gcm@openssh.com"));
        assert!(!found.speaks("a") && !found.speaks("aes128-gcm"));
    }

    #[test]
    fn it_is_not_there_before_its_last_byte() {
        let bytes = packet(&["k", "h", "a", "a", "m"]);
        for end in 0..bytes.len() {
            let found = KexInit::parse(&bytes[..end]);
            assert!(matches!(found, Err(nom::Err::Incomplete(_))), "{end}: {found:?}");
        }
        assert!(KexInit::parse(&bytes).is_ok());
    }

    #[test]
    fn what_is_none_is_refused() {
        let mut other = packet(&["k", "h", "a", "a"]);
        other[5] = 21;
        let long = 35_001_u32.to_be_bytes().to_vec();
        let mut cut = packet(&["k", "h", "a", "a"]);
        cut[25] = 0xff;
        for wrong in [other, long, cut, packet(&["k", "h", "a"])] {
            assert!(
                matches!(KexInit::parse(&wrong), Err(nom::Err::Error(_))),
                "{wrong:?}"
            );
        }
    }
}
