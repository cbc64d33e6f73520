//! INIT and VERSION (draft, section 4): the first packet of either side. They have no id.

use super::take::{self, Taken};
use super::{Encoder, Malformed, TooLong, kind};

/// An extension that a side announces: its name and its data, which OpenSSH uses as a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension<'a> {
    /// `name@domain`, or a registered name.
    pub name: &'a [u8],
    /// `1` for most of OpenSSH's.
    pub data: &'a [u8],
}

/// The client's first packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init<'a> {
    /// The highest version that it speaks.
    pub version: u32,
    /// Extensions, bounded by the packet.
    pub extensions: Vec<Extension<'a>>,
}

/// The server's first packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version<'a> {
    /// The version that is spoken from here.
    pub version: u32,
    /// Extensions, bounded by the packet.
    pub extensions: Vec<Extension<'a>>,
}

impl<'a> Init<'a> {
    /// Reads type and body; `None` for another type.
    ///
    /// # Errors
    ///
    /// Where it does not consist of its fields.
    pub fn parse(packet: &'a [u8]) -> Result<Option<Self>, Malformed> {
        let parsed = parse(packet, kind::INIT)?;
        Ok(parsed.map(|(version, extensions)| Self { version, extensions }))
    }

    /// Writes the packet.
    ///
    /// # Errors
    ///
    /// Where it is too long.
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        encode(kind::INIT, self.version, &self.extensions)
    }
}

impl<'a> Version<'a> {
    /// Reads type and body; `None` for another type.
    ///
    /// # Errors
    ///
    /// Where it does not consist of its fields.
    pub fn parse(packet: &'a [u8]) -> Result<Option<Self>, Malformed> {
        let parsed = parse(packet, kind::VERSION)?;
        Ok(parsed.map(|(version, extensions)| Self { version, extensions }))
    }

    /// Writes the packet.
    ///
    /// # Errors
    ///
    /// Where it is too long.
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        encode(kind::VERSION, self.version, &self.extensions)
    }
}

type Fields<'a> = (u32, Vec<Extension<'a>>);

fn parse(packet: &[u8], kind: u8) -> Result<Option<Fields<'_>>, Malformed> {
    match packet.split_first() {
        None => Err(Malformed::Short),
        Some((first, body)) if *first == kind => take::whole(body, fields).map(Some),
        Some(_) => Ok(None),
    }
}

fn fields(input: &[u8]) -> Taken<'_, Fields<'_>> {
    let (mut input, version) = take::u32(input)?;
    let mut extensions = Vec::new();
    while !input.is_empty() {
        let (rest, name) = take::string(input)?;
        let (rest, data) = take::string(rest)?;
        extensions.push(Extension { name, data });
        input = rest;
    }
    Ok((input, (version, extensions)))
}

fn encode(kind: u8, version: u32, extensions: &[Extension<'_>]) -> Result<Vec<u8>, TooLong> {
    let mut packet = Encoder::new(kind).u32(version);
    for extension in extensions {
        packet = packet.string(extension.name)?.string(extension.data)?;
    }
    packet.finish()
}
