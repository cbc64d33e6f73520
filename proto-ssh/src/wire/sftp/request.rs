//! What a client asks (draft, section 6).

use super::take;
use super::{Attributes, Encoder, Extended, Malformed, TooLong, kind};

/// A request with the id that its answer will have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// Chosen by the client.
    pub id: u32,
    /// What is asked.
    pub body: RequestBody<'a>,
}

/// What is asked. Paths are bytes; handles have at most 256.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the draft's")]
pub enum RequestBody<'a> {
    Open {
        path: &'a [u8],
        flags: u32,
        attributes: Attributes<'a>,
    },
    Close {
        handle: &'a [u8],
    },
    Read {
        handle: &'a [u8],
        offset: u64,
        length: u32,
    },
    Write {
        handle: &'a [u8],
        offset: u64,
        data: &'a [u8],
    },
    Lstat {
        path: &'a [u8],
    },
    Fstat {
        handle: &'a [u8],
    },
    Setstat {
        path: &'a [u8],
        attributes: Attributes<'a>,
    },
    Fsetstat {
        handle: &'a [u8],
        attributes: Attributes<'a>,
    },
    Opendir {
        path: &'a [u8],
    },
    Readdir {
        handle: &'a [u8],
    },
    Remove {
        path: &'a [u8],
    },
    Mkdir {
        path: &'a [u8],
        attributes: Attributes<'a>,
    },
    Rmdir {
        path: &'a [u8],
    },
    Realpath {
        path: &'a [u8],
    },
    Stat {
        path: &'a [u8],
    },
    Rename {
        old: &'a [u8],
        new: &'a [u8],
    },
    Readlink {
        path: &'a [u8],
    },
    /// In OpenSSH's order, which is not the draft's: first what the link holds, then where it is made.
    Symlink {
        target: &'a [u8],
        link: &'a [u8],
    },
    Extended(Extended<'a>),
    /// A type that version 3 does not have.
    Unknown {
        kind: u8,
        data: &'a [u8],
    },
}

impl<'a> Request<'a> {
    /// Reads type and body to the end.
    ///
    /// # Errors
    ///
    /// Where it does not consist of its fields.
    pub fn parse(packet: &'a [u8]) -> Result<Self, Malformed> {
        let (&kind, body) = packet.split_first().ok_or(Malformed::Short)?;
        let (id, body) = body.split_first_chunk::<4>().ok_or(Malformed::Short)?;
        Ok(Self {
            id: u32::from_be_bytes(*id),
            body: RequestBody::parse(kind, body)?,
        })
    }

    /// Writes the packet.
    ///
    /// # Errors
    ///
    /// Where it is too long.
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let to = Encoder::new(self.body.kind()).u32(self.id);
        self.body.put(to)?.finish()
    }
}

impl<'a> RequestBody<'a> {
    fn parse(kind: u8, body: &'a [u8]) -> Result<Self, Malformed> {
        use take::{handle, string, u32, u64, whole};
        Ok(match kind {
            kind::OPEN => {
                let (path, flags, attributes) = whole(body, (string, u32, Attributes::take))?;
                Self::Open {
                    path,
                    flags,
                    attributes,
                }
            }
            kind::CLOSE => Self::Close {
                handle: whole(body, handle)?,
            },
            kind::READ => {
                let (handle, offset, length) = whole(body, (handle, u64, u32))?;
                Self::Read {
                    handle,
                    offset,
                    length,
                }
            }
            kind::WRITE => {
                let (handle, offset, data) = whole(body, (handle, u64, string))?;
                Self::Write { handle, offset, data }
            }
            kind::LSTAT => Self::Lstat {
                path: whole(body, string)?,
            },
            kind::FSTAT => Self::Fstat {
                handle: whole(body, handle)?,
            },
            kind::SETSTAT => {
                let (path, attributes) = whole(body, (string, Attributes::take))?;
                Self::Setstat { path, attributes }
            }
            kind::FSETSTAT => {
                let (handle, attributes) = whole(body, (handle, Attributes::take))?;
                Self::Fsetstat { handle, attributes }
            }
            kind::OPENDIR => Self::Opendir {
                path: whole(body, string)?,
            },
            kind::READDIR => Self::Readdir {
                handle: whole(body, handle)?,
            },
            kind::REMOVE => Self::Remove {
                path: whole(body, string)?,
            },
            kind::MKDIR => {
                let (path, attributes) = whole(body, (string, Attributes::take))?;
                Self::Mkdir { path, attributes }
            }
            kind::RMDIR => Self::Rmdir {
                path: whole(body, string)?,
            },
            kind::REALPATH => Self::Realpath {
                path: whole(body, string)?,
            },
            kind::STAT => Self::Stat {
                path: whole(body, string)?,
            },
            kind::RENAME => {
                let (old, new) = whole(body, (string, string))?;
                Self::Rename { old, new }
            }
            kind::READLINK => Self::Readlink {
                path: whole(body, string)?,
            },
            kind::SYMLINK => {
                let (target, link) = whole(body, (string, string))?;
                Self::Symlink { target, link }
            }
            kind::EXTENDED => Self::Extended(Extended::take(body)?),
            kind => Self::Unknown { kind, data: body },
        })
    }

    /// The type of the packet.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Open { .. } => kind::OPEN,
            Self::Close { .. } => kind::CLOSE,
            Self::Read { .. } => kind::READ,
            Self::Write { .. } => kind::WRITE,
            Self::Lstat { .. } => kind::LSTAT,
            Self::Fstat { .. } => kind::FSTAT,
            Self::Setstat { .. } => kind::SETSTAT,
            Self::Fsetstat { .. } => kind::FSETSTAT,
            Self::Opendir { .. } => kind::OPENDIR,
            Self::Readdir { .. } => kind::READDIR,
            Self::Remove { .. } => kind::REMOVE,
            Self::Mkdir { .. } => kind::MKDIR,
            Self::Rmdir { .. } => kind::RMDIR,
            Self::Realpath { .. } => kind::REALPATH,
            Self::Stat { .. } => kind::STAT,
            Self::Rename { .. } => kind::RENAME,
            Self::Readlink { .. } => kind::READLINK,
            Self::Symlink { .. } => kind::SYMLINK,
            Self::Extended(_) => kind::EXTENDED,
            Self::Unknown { kind, .. } => *kind,
        }
    }

    fn put(&self, to: Encoder) -> Result<Encoder, TooLong> {
        match self {
            Self::Open {
                path,
                flags,
                attributes,
            } => attributes.put(to.string(path)?.u32(*flags)),
            Self::Close { handle } | Self::Fstat { handle } | Self::Readdir { handle } => to.string(handle),
            Self::Read {
                handle,
                offset,
                length,
            } => Ok(to.string(handle)?.u64(*offset).u32(*length)),
            Self::Write { handle, offset, data } => to.string(handle)?.u64(*offset).string(data),
            Self::Setstat { path, attributes } | Self::Mkdir { path, attributes } => {
                attributes.put(to.string(path)?)
            }
            Self::Fsetstat { handle, attributes } => attributes.put(to.string(handle)?),
            Self::Lstat { path }
            | Self::Opendir { path }
            | Self::Remove { path }
            | Self::Rmdir { path }
            | Self::Realpath { path }
            | Self::Stat { path }
            | Self::Readlink { path } => to.string(path),
            Self::Rename { old, new } => to.string(old)?.string(new),
            Self::Symlink { target, link } => to.string(target)?.string(link),
            Self::Extended(extended) => extended.put(to),
            Self::Unknown { data, .. } => Ok(to.raw(data)),
        }
    }
}
