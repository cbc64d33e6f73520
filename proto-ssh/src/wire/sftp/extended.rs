//! EXTENDED: the requests that OpenSSH adds (its PROTOCOL, sections 4.3 to 4.11; `copy-data` and `home-directory` are of
//! draft-ietf-secsh-filexfer-extensions-00).

use super::take::{self, Taken};
use super::{Attributes, Encoder, Malformed, TooLong};

/// An extended request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are OpenSSH's")]
pub enum Extended<'a> {
    /// `posix-rename@openssh.com`: replaces what is there.
    PosixRename { old: &'a [u8], new: &'a [u8] },
    /// `hardlink@openssh.com`.
    Hardlink { old: &'a [u8], new: &'a [u8] },
    /// `statvfs@openssh.com`.
    Statvfs { path: &'a [u8] },
    /// `fstatvfs@openssh.com`.
    Fstatvfs { handle: &'a [u8] },
    /// `fsync@openssh.com`.
    Fsync { handle: &'a [u8] },
    /// `lsetstat@openssh.com`: SETSTAT that does not follow a link.
    Lsetstat {
        path: &'a [u8],
        attributes: Attributes<'a>,
    },
    /// `limits@openssh.com`.
    Limits,
    /// `expand-path@openssh.com`: REALPATH that knows `~`.
    ExpandPath { path: &'a [u8] },
    /// `copy-data`.
    CopyData(CopyData<'a>),
    /// `home-directory`.
    HomeDirectory { user: &'a [u8] },
    /// `users-groups-by-id@openssh.com`: two strings, each a list of `uint32`.
    UsersGroupsById { users: &'a [u8], groups: &'a [u8] },
    /// Any other.
    Unknown { name: &'a [u8], data: &'a [u8] },
}

/// A copy that the server makes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyData<'a> {
    /// The handle that is read.
    pub from: &'a [u8],
    /// Where reading begins.
    pub from_offset: u64,
    /// How much is read; 0: to the end.
    pub length: u64,
    /// The handle that is written.
    pub to: &'a [u8],
    /// Where writing begins.
    pub to_offset: u64,
}

impl<'a> Extended<'a> {
    /// Its name on the wire.
    pub fn name(&self) -> &'a [u8] {
        match self {
            Self::PosixRename { .. } => b"posix-rename@openssh.com",
            Self::Hardlink { .. } => b"hardlink@openssh.com",
            Self::Statvfs { .. } => b"statvfs@openssh.com",
            Self::Fstatvfs { .. } => b"fstatvfs@openssh.com",
            Self::Fsync { .. } => b"fsync@openssh.com",
            Self::Lsetstat { .. } => b"lsetstat@openssh.com",
            Self::Limits => b"limits@openssh.com",
            Self::ExpandPath { .. } => b"expand-path@openssh.com",
            Self::CopyData(_) => b"copy-data",
            Self::HomeDirectory { .. } => b"home-directory",
            Self::UsersGroupsById { .. } => b"users-groups-by-id@openssh.com",
            Self::Unknown { name, .. } => name,
        }
    }

    /// Name and fields; each known name has to be followed by exactly its fields.
    pub(super) fn take(input: &'a [u8]) -> Result<Self, Malformed> {
        let (data, name) = match take::string(input) {
            Ok(taken) => taken,
            Err(_) => return Err(Malformed::Short),
        };
        Ok(match name {
            b"posix-rename@openssh.com" => {
                let (old, new) = take::whole(data, two_strings)?;
                Self::PosixRename { old, new }
            }
            b"hardlink@openssh.com" => {
                let (old, new) = take::whole(data, two_strings)?;
                Self::Hardlink { old, new }
            }
            b"statvfs@openssh.com" => Self::Statvfs {
                path: take::whole(data, take::string)?,
            },
            b"fstatvfs@openssh.com" => Self::Fstatvfs {
                handle: take::whole(data, take::handle)?,
            },
            b"fsync@openssh.com" => Self::Fsync {
                handle: take::whole(data, take::handle)?,
            },
            b"lsetstat@openssh.com" => {
                let (path, attributes) = take::whole(data, (take::string, Attributes::take))?;
                Self::Lsetstat { path, attributes }
            }
            b"limits@openssh.com" if data.is_empty() => Self::Limits,
            b"limits@openssh.com" => return Err(Malformed::Trailing),
            b"expand-path@openssh.com" => Self::ExpandPath {
                path: take::whole(data, take::string)?,
            },
            b"copy-data" => {
                let fields = (take::handle, take::u64, take::u64, take::handle, take::u64);
                let (from, from_offset, length, to, to_offset) = take::whole(data, fields)?;
                Self::CopyData(CopyData {
                    from,
                    from_offset,
                    length,
                    to,
                    to_offset,
                })
            }
            b"home-directory" => Self::HomeDirectory {
                user: take::whole(data, take::string)?,
            },
            b"users-groups-by-id@openssh.com" => {
                let (users, groups) = take::whole(data, two_strings)?;
                Self::UsersGroupsById { users, groups }
            }
            name => Self::Unknown { name, data },
        })
    }

    pub(super) fn put(&self, to: Encoder) -> Result<Encoder, TooLong> {
        let to = to.string(self.name())?;
        match self {
            Self::PosixRename { old, new } | Self::Hardlink { old, new } => to.string(old)?.string(new),
            Self::Statvfs { path } | Self::ExpandPath { path } => to.string(path),
            Self::Fstatvfs { handle } | Self::Fsync { handle } => to.string(handle),
            Self::Lsetstat { path, attributes } => attributes.put(to.string(path)?),
            Self::Limits => Ok(to),
            Self::CopyData(copy) => {
                let to = to.string(copy.from)?.u64(copy.from_offset).u64(copy.length);
                Ok(to.string(copy.to)?.u64(copy.to_offset))
            }
            Self::HomeDirectory { user } => to.string(user),
            Self::UsersGroupsById { users, groups } => to.string(users)?.string(groups),
            Self::Unknown { data, .. } => Ok(to.raw(data)),
        }
    }
}

fn two_strings(input: &[u8]) -> Taken<'_, (&[u8], &[u8])> {
    let (input, first) = take::string(input)?;
    let (input, second) = take::string(input)?;
    Ok((input, (first, second)))
}
