//! The fields of an OpenSSH user certificate (PROTOCOL.certkeys): those that say whether it may be used at all.
//!
//! No signature is verified here. What this is for is to refuse, before a library verifies anything, what is not exactly
//! a user certificate that is understood whole: host certificates, certificates that are signed by certificates
//! (CVE-2025-49825), critical options that are not known, SHA-1.

use nom::combinator::all_consuming;
use nom::multi::{length_data, many0};
use nom::number::complete::{be_u32, be_u64};
use nom::{IResult, Parser};

/// The longest certificate, in bytes.
pub const MAX_CERTIFICATE: usize = 16 * 1024;

/// The most principals, as in OpenSSH.
pub const MAX_PRINCIPALS: usize = 256;

/// The end of the name of each type of certificate.
const SUFFIX: &str = "-cert-v01@openssh.com";

/// Plain types of keys: how many strings the public key consists of, and the algorithms that its signatures may have.
const KEYS: [(&str, usize, &[&str]); 7] = [
    ("ssh-ed25519", 1, &["ssh-ed25519"]),
    ("ecdsa-sha2-nistp256", 2, &["ecdsa-sha2-nistp256"]),
    ("ecdsa-sha2-nistp384", 2, &["ecdsa-sha2-nistp384"]),
    ("ecdsa-sha2-nistp521", 2, &["ecdsa-sha2-nistp521"]),
    // Never `ssh-rsa`, which is SHA-1.
    ("ssh-rsa", 2, &["rsa-sha2-256", "rsa-sha2-512"]),
    ("sk-ssh-ed25519@openssh.com", 2, &["sk-ssh-ed25519@openssh.com"]),
    (
        "sk-ecdsa-sha2-nistp256@openssh.com",
        3,
        &["sk-ecdsa-sha2-nistp256@openssh.com"],
    ),
];

/// A certificate of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCertificate<'a> {
    /// The type of the key that is certified, without `-cert-v01@openssh.com`.
    pub key_type: &'static str,
    /// Chosen by the CA.
    pub serial: u64,
    /// Chosen by the CA, for logs.
    pub key_id: &'a str,
    /// The logins that it is for; at least one.
    pub principals: Vec<&'a str>,
    /// In seconds since 1970, included.
    pub valid_after: u64,
    /// In seconds since 1970, not included.
    pub valid_before: u64,
    /// `force-command`
    pub force_command: Option<&'a str>,
    /// `source-address`: addresses and networks, parted by commas.
    pub source_address: Option<&'a str>,
    /// `verify-required`: a security key has to verify its user.
    pub verify_required: bool,
    /// The names of the extensions (`permit-pty`).
    pub extensions: Vec<&'a str>,
    /// The public key of the CA, a plain key.
    pub signature_key: &'a [u8],
    /// What is signed: everything up to the signature.
    pub signed: &'a [u8],
    /// Algorithm and signature.
    pub signature: &'a [u8],
}

/// Why a certificate is not even verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It does not consist of its fields, or is too long.
    #[error("certificate is malformed")]
    Malformed,
    /// Its key is of a type that is not known, or it is no certificate.
    #[error("certificate is of an unknown type")]
    Type,
    /// It certifies a host.
    #[error("certificate is one of a host")]
    Host,
    /// A certificate signed it.
    #[error("certificate is signed by a certificate")]
    Nested,
    /// The key of the CA, or its signature, is of a type that is not known, or they do not fit.
    #[error("certificate is signed by an unknown type of key or signature")]
    Signature,
    /// It is for no login, or for too many.
    #[error("certificate names no principals, or too many")]
    Principals,
    /// It is valid at no time.
    #[error("certificate ends before it begins")]
    Time,
    /// A critical option that is not known, comes twice, or is out of order.
    #[error("certificate has a critical option that is not known or not in order")]
    CriticalOption,
    /// Extensions come twice or are out of order.
    #[error("certificate has extensions that are not in order")]
    Extension,
}

impl<'a> UserCertificate<'a> {
    /// Reads the blob of a certificate, to its end.
    ///
    /// # Errors
    ///
    /// For whatever is not a user certificate that is understood whole.
    pub fn parse(blob: &'a [u8]) -> Result<Self, Refused> {
        if blob.len() > MAX_CERTIFICATE {
            return Err(Refused::Malformed);
        }
        let (rest, name) = string(blob).map_err(|_| Refused::Malformed)?;
        let plain = text(name)?.strip_suffix(SUFFIX);
        // The names of security keys have their domain behind it.
        let plain = plain.map(|plain| {
            if plain.starts_with("sk-") {
                [plain, "@openssh.com"].concat()
            } else {
                plain.to_owned()
            }
        });
        let plain = plain.ok_or(Refused::Type)?;
        let &(key_type, strings, _) = KEYS.iter().find(|(key, ..)| *key == plain).ok_or(Refused::Type)?;

        let (fields, signature) = all_consuming(|input| fields(input, strings))
            .parse(rest)
            .map(|(_, fields)| fields)
            .map_err(|_: nom::Err<nom::error::Error<&[u8]>>| Refused::Malformed)?;
        match fields.kind {
            1 => {}
            2 => return Err(Refused::Host),
            _ => return Err(Refused::Type),
        }
        if fields.valid_after >= fields.valid_before {
            return Err(Refused::Time);
        }
        let principals = whole(fields.principals, string)?;
        if principals.is_empty()
            || principals.len() > MAX_PRINCIPALS
            || principals.iter().any(|name| name.is_empty())
        {
            return Err(Refused::Principals);
        }
        check_signature(fields.signature_key, signature)?;
        let signed = blob
            .len()
            .checked_sub(signature.len())
            .and_then(|length| length.checked_sub(4));
        let mut certificate = Self {
            key_type,
            serial: fields.serial,
            key_id: text(fields.key_id)?,
            principals: principals.into_iter().map(text).collect::<Result<_, _>>()?,
            valid_after: fields.valid_after,
            valid_before: fields.valid_before,
            force_command: None,
            source_address: None,
            verify_required: false,
            extensions: Vec::new(),
            signature_key: fields.signature_key,
            signed: signed
                .and_then(|length| blob.get(..length))
                .ok_or(Refused::Malformed)?,
            signature,
        };
        certificate.critical_options(fields.critical_options)?;
        let extensions = whole(fields.extensions, pair)?;
        if !in_order(&extensions) {
            return Err(Refused::Extension);
        }
        certificate.extensions = extensions
            .into_iter()
            .map(|(name, _)| text(name))
            .collect::<Result<_, _>>()?;
        Ok(certificate)
    }

    /// Whether it is valid at a time, in seconds since 1970.
    pub fn is_valid_at(&self, seconds: u64) -> bool {
        (self.valid_after..self.valid_before).contains(&seconds)
    }

    fn critical_options(&mut self, options: &'a [u8]) -> Result<(), Refused> {
        let options = whole(options, pair)?;
        if !in_order(&options) {
            return Err(Refused::CriticalOption);
        }
        for (name, data) in options {
            let value = || match string(data) {
                Ok(([], value)) => text(value),
                _ => Err(Refused::Malformed),
            };
            match name {
                b"force-command" => self.force_command = Some(value()?),
                b"source-address" => self.source_address = Some(value()?),
                b"verify-required" if data.is_empty() => self.verify_required = true,
                _ => return Err(Refused::CriticalOption),
            }
        }
        Ok(())
    }
}

/// Whether the blob of a public key is a certificate, of whatever version.
pub fn is_certificate(key: &[u8]) -> bool {
    string(key).is_ok_and(|(_, name)| name.windows(6).any(|part| part == b"-cert-"))
}

/// The fields between the public key and the signature.
struct Fields<'a> {
    serial: u64,
    kind: u32,
    key_id: &'a [u8],
    principals: &'a [u8],
    valid_after: u64,
    valid_before: u64,
    critical_options: &'a [u8],
    extensions: &'a [u8],
    signature_key: &'a [u8],
}

fn string(input: &[u8]) -> IResult<&[u8], &[u8]> {
    length_data(be_u32).parse(input)
}

type Pair<'a> = (&'a [u8], &'a [u8]);

fn pair(input: &[u8]) -> IResult<&[u8], Pair<'_>> {
    (string, string).parse(input)
}

fn fields(input: &[u8], key_strings: usize) -> IResult<&[u8], (Fields<'_>, &[u8])> {
    // The nonce, and the public key.
    let (mut input, _) = string(input)?;
    for _ in 0..key_strings {
        (input, _) = string(input)?;
    }
    let (input, (serial, kind, key_id, principals)) = (be_u64, be_u32, string, string).parse(input)?;
    let (input, (valid_after, valid_before)) = (be_u64, be_u64).parse(input)?;
    let (input, (critical_options, extensions)) = (string, string).parse(input)?;
    let (input, (_reserved, signature_key, signature)) = (string, string, string).parse(input)?;
    let fields = Fields {
        serial,
        kind,
        key_id,
        principals,
        valid_after,
        valid_before,
        critical_options,
        extensions,
        signature_key,
    };
    Ok((input, (fields, signature)))
}

/// A list to its end.
fn whole<'a, T>(list: &'a [u8], item: impl Fn(&'a [u8]) -> IResult<&'a [u8], T>) -> Result<Vec<T>, Refused> {
    match all_consuming(many0(item)).parse(list) {
        Ok((_, items)) => Ok(items),
        Err(_) => Err(Refused::Malformed),
    }
}

/// Names have to rise, so that none comes twice (PROTOCOL.certkeys, "Critical options").
fn in_order(pairs: &[Pair<'_>]) -> bool {
    pairs
        .iter()
        .zip(pairs.iter().skip(1))
        .all(|(before, after)| before.0 < after.0)
}

fn text(bytes: &[u8]) -> Result<&str, Refused> {
    let text = std::str::from_utf8(bytes).map_err(|_| Refused::Malformed)?;
    if text.contains('\0') {
        Err(Refused::Malformed)
    } else {
        Ok(text)
    }
}

/// The key of the CA is plain and known, and the signature is of an algorithm of that key.
fn check_signature(key: &[u8], signature: &[u8]) -> Result<(), Refused> {
    if is_certificate(key) {
        return Err(Refused::Nested);
    }
    let (_, name) = string(key).map_err(|_| Refused::Malformed)?;
    let (_, algorithm) = string(signature).map_err(|_| Refused::Malformed)?;
    let known = KEYS.iter().find(|(key, ..)| key.as_bytes() == name);
    let fits =
        known.is_some_and(|(_, _, algorithms)| algorithms.iter().any(|known| known.as_bytes() == algorithm));
    if fits { Ok(()) } else { Err(Refused::Signature) }
}

#[cfg(test)]
mod tests;
