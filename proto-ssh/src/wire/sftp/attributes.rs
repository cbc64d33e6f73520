//! ATTRS (draft, section 5).

use super::take::{self, Taken};
use super::{Encoder, Malformed, TooLong};

const SIZE: u32 = 0x1;
const UIDGID: u32 = 0x2;
const PERMISSIONS: u32 = 0x4;
const ACMODTIME: u32 = 0x8;
const EXTENDED: u32 = 0x8000_0000;

/// The attributes of a file; each group may be absent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes<'a> {
    /// The size, in bytes.
    pub size: Option<u64>,
    /// User and group.
    pub owner: Option<(u32, u32)>,
    /// Type and permissions, as `st_mode` has them.
    pub permissions: Option<u32>,
    /// Last access and last change, in seconds since 1970.
    pub times: Option<(u32, u32)>,
    /// Pairs of type and data, not understood; bounded by the packet.
    pub extended: Option<Vec<(&'a [u8], &'a [u8])>>,
}

impl<'a> Attributes<'a> {
    pub(super) fn take(input: &'a [u8]) -> Taken<'a, Self> {
        let (mut input, flags) = take::u32(input)?;
        if flags & !(SIZE | UIDGID | PERMISSIONS | ACMODTIME | EXTENDED) != 0 {
            return Err(nom::Err::Failure(Malformed::Flags));
        }
        let mut attributes = Self::default();
        if flags & SIZE != 0 {
            let (rest, size) = take::u64(input)?;
            (input, attributes.size) = (rest, Some(size));
        }
        if flags & UIDGID != 0 {
            let (rest, pair) = pair_of_u32(input)?;
            (input, attributes.owner) = (rest, Some(pair));
        }
        if flags & PERMISSIONS != 0 {
            let (rest, permissions) = take::u32(input)?;
            (input, attributes.permissions) = (rest, Some(permissions));
        }
        if flags & ACMODTIME != 0 {
            let (rest, pair) = pair_of_u32(input)?;
            (input, attributes.times) = (rest, Some(pair));
        }
        if flags & EXTENDED != 0 {
            let (rest, count) = take::u32(input)?;
            input = rest;
            let mut pairs = Vec::new();
            // No room is made for a count: each pair has to be there.
            for _ in 0..count {
                let (rest, kind) = take::string(input)?;
                let (rest, data) = take::string(rest)?;
                pairs.push((kind, data));
                input = rest;
            }
            attributes.extended = Some(pairs);
        }
        Ok((input, attributes))
    }

    /// Writes them behind other fields.
    ///
    /// # Errors
    ///
    /// Where the extended pairs are too long for a packet.
    pub fn put(&self, mut to: Encoder) -> Result<Encoder, TooLong> {
        let flag = |there: bool, flag: u32| if there { flag } else { 0 };
        to = to.u32(
            flag(self.size.is_some(), SIZE)
                | flag(self.owner.is_some(), UIDGID)
                | flag(self.permissions.is_some(), PERMISSIONS)
                | flag(self.times.is_some(), ACMODTIME)
                | flag(self.extended.is_some(), EXTENDED),
        );
        if let Some(size) = self.size {
            to = to.u64(size);
        }
        if let Some((user, group)) = self.owner {
            to = to.u32(user).u32(group);
        }
        if let Some(permissions) = self.permissions {
            to = to.u32(permissions);
        }
        if let Some((access, change)) = self.times {
            to = to.u32(access).u32(change);
        }
        if let Some(extended) = &self.extended {
            to = to.u32(u32::try_from(extended.len()).map_err(|_| TooLong)?);
            for (kind, data) in extended {
                to = to.string(kind)?.string(data)?;
            }
        }
        Ok(to)
    }
}

fn pair_of_u32(input: &[u8]) -> Taken<'_, (u32, u32)> {
    let (input, first) = take::u32(input)?;
    let (input, second) = take::u32(input)?;
    Ok((input, (first, second)))
}
