//! `Authentication`: what the server asks for before it lets somebody in.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::wire::debug::Hidden;
use crate::wire::error::{EncodeError, EncodeFault, Kind, ParseError};
use crate::wire::{put, take};

pub(crate) const KIND: Kind = Kind::backend("Authentication", b'R');

const OK: i32 = 0;
const CLEARTEXT_PASSWORD: i32 = 3;
const MD5_PASSWORD: i32 = 5;
const SASL: i32 = 10;
const SASL_CONTINUE: i32 = 11;
const SASL_FINAL: i32 = 12;

/// A step of the authentication; the messages share a tag and differ by code.
///
/// PostgreSQL documentation, Message Formats, AuthenticationOk (B) and those after it;
/// Start-up.
#[derive(Clone, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// The server is satisfied.
    Ok,
    /// A password in clear is asked for.
    CleartextPassword,
    /// A password hashed with MD5 and this salt is asked for.
    Md5Password {
        /// The salt.
        salt: [u8; 4],
    },
    /// SASL is asked for, with one of these mechanisms.
    Sasl {
        /// The mechanisms' names in the server's order of preference.
        mechanisms: Vec<&'a [u8]>,
    },
    /// The mechanism's next message.
    SaslContinue(&'a [u8]),
    /// The mechanism's last message.
    SaslFinal(&'a [u8]),
    /// Another way: Kerberos V5 (2), GSSAPI (7, 8), SSPI (9), or one that isn't known.
    Other {
        /// Which.
        code: i32,
        /// What came with it.
        data: &'a [u8],
    },
}

impl<'a> Authentication<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A field that is cut short, or bytes behind the last one.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        take::exact(KIND, body, |input| {
            let (input, code) = take::int32(input, "code")?;
            match code {
                OK => Ok((input, Self::Ok)),
                CLEARTEXT_PASSWORD => Ok((input, Self::CleartextPassword)),
                MD5_PASSWORD => {
                    let (input, salt) = take::array(input, "salt")?;
                    Ok((input, Self::Md5Password { salt }))
                }
                SASL => {
                    let (input, mechanisms) = take::cstrs(input, "mechanism")?;
                    Ok((input, Self::Sasl { mechanisms }))
                }
                _ => {
                    let (input, data) = take::rest(input)?;
                    let message = match code {
                        SASL_CONTINUE => Self::SaslContinue(data),
                        SASL_FINAL => Self::SaslFinal(data),
                        _ => Self::Other { code, data },
                    };
                    Ok((input, message))
                }
            }
        })
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// An empty mechanism or one with a NUL, [`Authentication::Other`] with the code of another
    /// variant, or a message too long for a frame.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put::frame(KIND, out, |out| {
            match self {
                Self::Ok => out.put_i32(OK),
                Self::CleartextPassword => out.put_i32(CLEARTEXT_PASSWORD),
                Self::Md5Password { salt } => {
                    out.put_i32(MD5_PASSWORD);
                    out.put_slice(salt);
                }
                Self::Sasl { mechanisms } => {
                    out.put_i32(SASL);
                    put::cstrs(out, mechanisms, "mechanism")?;
                }
                Self::SaslContinue(data) => {
                    out.put_i32(SASL_CONTINUE);
                    out.put_slice(data);
                }
                Self::SaslFinal(data) => {
                    out.put_i32(SASL_FINAL);
                    out.put_slice(data);
                }
                Self::Other { code, data } => {
                    if [
                        OK,
                        CLEARTEXT_PASSWORD,
                        MD5_PASSWORD,
                        SASL,
                        SASL_CONTINUE,
                        SASL_FINAL,
                    ]
                    .contains(code)
                    {
                        return Err(EncodeFault::Invalid("code"));
                    }
                    out.put_i32(*code);
                    out.put_slice(data);
                }
            }
            Ok(())
        })
    }
}

impl fmt::Debug for Authentication<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("Ok"),
            Self::CleartextPassword => f.write_str("CleartextPassword"),
            Self::Md5Password { .. } => f.debug_struct("Md5Password").finish_non_exhaustive(),
            Self::Sasl { mechanisms } => {
                let names: Vec<_> = mechanisms
                    .iter()
                    .map(|name| String::from_utf8_lossy(name))
                    .collect();
                f.debug_struct("Sasl").field("mechanisms", &names).finish()
            }
            Self::SaslContinue(data) => f.debug_tuple("SaslContinue").field(&Hidden(data)).finish(),
            Self::SaslFinal(data) => f.debug_tuple("SaslFinal").field(&Hidden(data)).finish(),
            Self::Other { code, data } => f
                .debug_struct("Other")
                .field("code", code)
                .field("data", &Hidden(data))
                .finish(),
        }
    }
}

#[cfg(any(test, feature = "goldens"))]
pub(crate) const GOLDENS: &[&[u8]] = &[
    b"R\0\0\0\x08\0\0\0\0",
    b"R\0\0\0\x08\0\0\0\x03",
    b"R\0\0\0\x0c\0\0\0\x05\x2a\x3d\x8f\xe0",
    b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0",
    b"R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
    b"R\0\0\0\x15\0\0\0\x0br=ab,s=cd,i=1",
    b"R\0\0\0\x0c\0\0\0\x0cv=ab",
    b"R\0\0\0\x08\0\0\0\x07",
    b"R\0\0\0\x0a\0\0\0\x08\x60\x01",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, encoded, prefixes_refused, prefixes_refused_below};

    #[test]
    fn round_trip() {
        for golden in GOLDENS {
            let message = Authentication::parse(body(golden)).expect("golden");
            assert_eq!(encoded(|out| message.encode(out)), *golden);
        }
    }

    #[test]
    fn every_strict_prefix_is_an_error() {
        for golden in &GOLDENS[..5] {
            prefixes_refused(body(golden), Authentication::parse);
        }
        for golden in &GOLDENS[5..] {
            prefixes_refused_below(body(golden), 4, Authentication::parse);
        }
    }

    #[test]
    fn fields() {
        let parse = |golden: usize| Authentication::parse(body(GOLDENS[golden])).expect("golden");
        assert_eq!(parse(0), Authentication::Ok);
        assert_eq!(
            parse(2),
            Authentication::Md5Password {
                salt: [0x2a, 0x3d, 0x8f, 0xe0]
            }
        );
        let mechanisms = vec![&b"SCRAM-SHA-256-PLUS"[..], b"SCRAM-SHA-256"];
        assert_eq!(parse(4), Authentication::Sasl { mechanisms });
        assert_eq!(parse(6), Authentication::SaslFinal(b"v=ab"));
        assert_eq!(parse(7), Authentication::Other { code: 7, data: b"" });
    }

    #[test]
    fn bytes_behind_the_end_are_errors() {
        for golden in &GOLDENS[..5] {
            assert!(Authentication::parse(&[body(golden), b"\0"].concat()).is_err());
        }
    }

    #[test]
    fn other_does_not_stand_in_for_ok() {
        let message = Authentication::Other { code: 0, data: b"" };
        assert!(message.encode(&mut BytesMut::new()).is_err());
    }
}
