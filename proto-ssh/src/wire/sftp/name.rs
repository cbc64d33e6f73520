//! NAME (draft, section 7): the answer to READDIR, REALPATH and READLINK.

use super::take::{self, Taken};
use super::{Attributes, Encoder, TooLong};

/// One name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name<'a> {
    /// A name without its folder (READDIR), or a path.
    pub filename: &'a [u8],
    /// What `ls -l` would show.
    pub longname: &'a [u8],
    /// Its attributes; dummies for REALPATH and READLINK.
    pub attributes: Attributes<'a>,
}

/// The names of an answer; as many as it counts, and bounded by the packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names<'a>(pub Vec<Name<'a>>);

impl<'a> Names<'a> {
    pub(super) fn take(input: &'a [u8]) -> Taken<'a, Self> {
        let (mut input, count) = take::u32(input)?;
        // No room is made for a count: each name has to be there, and costs twelve bytes at least.
        let mut names = Vec::new();
        for _ in 0..count {
            let (rest, filename) = take::string(input)?;
            let (rest, longname) = take::string(rest)?;
            let (rest, attributes) = Attributes::take(rest)?;
            names.push(Name {
                filename,
                longname,
                attributes,
            });
            input = rest;
        }
        Ok((input, Self(names)))
    }

    pub(super) fn put(&self, to: Encoder) -> Result<Encoder, TooLong> {
        let mut to = to.u32(u32::try_from(self.0.len()).map_err(|_| TooLong)?);
        for name in &self.0 {
            to = name
                .attributes
                .put(to.string(name.filename)?.string(name.longname)?)?;
        }
        Ok(to)
    }
}
