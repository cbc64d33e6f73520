//! SFTP version 3 (draft-ietf-secsh-filexfer-02, with OpenSSH's PROTOCOL, section 4) in both directions.
//!
//! A packet is a length, a type, and a body. [`split_frame`] takes one off a buffer; [`Request::parse`] and
//! [`Response::parse`] read exactly one to its end: what is shorter or longer than its fields is an error. Types that are
//! not known stay values. Paths and names are bytes, as they are for the target.

mod attributes;
mod error;
mod extended;
mod name;
mod put;
mod request;
mod response;
mod take;
mod version;

pub use attributes::Attributes;
pub use error::Malformed;
pub use extended::{CopyData, Extended};
pub use name::{Name, Names};
pub use put::{Encoder, TooLong};
pub use request::{Request, RequestBody};
pub use response::{Response, ResponseBody};
pub use version::{Extension, Init, Version};

/// The longest packet without its length field, in bytes: `SFTP_MAX_MSG_LENGTH` of OpenSSH.
pub const MAX_PACKET: usize = 256 * 1024;

/// The longest handle, in bytes (draft, section 6.3).
pub const MAX_HANDLE: usize = 256;

/// The only version that is spoken.
pub const VERSION: u32 = 3;

/// Types of packets (draft, section 3).
#[expect(missing_docs, reason = "the names are the draft's")]
pub mod kind {
    pub const INIT: u8 = 1;
    pub const VERSION: u8 = 2;
    pub const OPEN: u8 = 3;
    pub const CLOSE: u8 = 4;
    pub const READ: u8 = 5;
    pub const WRITE: u8 = 6;
    pub const LSTAT: u8 = 7;
    pub const FSTAT: u8 = 8;
    pub const SETSTAT: u8 = 9;
    pub const FSETSTAT: u8 = 10;
    pub const OPENDIR: u8 = 11;
    pub const READDIR: u8 = 12;
    pub const REMOVE: u8 = 13;
    pub const MKDIR: u8 = 14;
    pub const RMDIR: u8 = 15;
    pub const REALPATH: u8 = 16;
    pub const STAT: u8 = 17;
    pub const RENAME: u8 = 18;
    pub const READLINK: u8 = 19;
    pub const SYMLINK: u8 = 20;
    pub const STATUS: u8 = 101;
    pub const HANDLE: u8 = 102;
    pub const DATA: u8 = 103;
    pub const NAME: u8 = 104;
    pub const ATTRS: u8 = 105;
    pub const EXTENDED: u8 = 200;
    pub const EXTENDED_REPLY: u8 = 201;
}

/// Codes of STATUS (draft, section 7).
#[expect(missing_docs, reason = "the names are the draft's")]
pub mod status {
    pub const OK: u32 = 0;
    pub const EOF: u32 = 1;
    pub const NO_SUCH_FILE: u32 = 2;
    pub const PERMISSION_DENIED: u32 = 3;
    pub const FAILURE: u32 = 4;
    pub const BAD_MESSAGE: u32 = 5;
    pub const NO_CONNECTION: u32 = 6;
    pub const CONNECTION_LOST: u32 = 7;
    pub const OP_UNSUPPORTED: u32 = 8;
}

/// Flags of OPEN (draft, section 6.3).
#[expect(missing_docs, reason = "the names are the draft's")]
pub mod open {
    pub const READ: u32 = 0x01;
    pub const WRITE: u32 = 0x02;
    pub const APPEND: u32 = 0x04;
    pub const CREAT: u32 = 0x08;
    pub const TRUNC: u32 = 0x10;
    pub const EXCL: u32 = 0x20;
    /// All that version 3 has.
    pub const KNOWN: u32 = 0x3f;
}

/// Type and body of a packet, and what follows it.
pub type Frame<'a> = (&'a [u8], &'a [u8]);

/// Takes the first packet off a buffer, or `None` until it is complete.
///
/// # Errors
///
/// A packet that is empty or longer than [`MAX_PACKET`] by its own account, before any of it has to be there.
pub fn split_frame(buffer: &[u8]) -> Result<Option<Frame<'_>>, Malformed> {
    let Some((head, rest)) = buffer.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes(*head)).map_err(|_| Malformed::Length)?;
    if !(1..=MAX_PACKET).contains(&length) {
        return Err(Malformed::Length);
    }
    Ok(rest.split_at_checked(length))
}

#[cfg(test)]
mod tests;
