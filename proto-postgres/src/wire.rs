//! Bytes and types of the protocol, version 3; no state and no I/O.
//!
//! Sources name sections of the chapter "Frontend/Backend Protocol" of PostgreSQL's documentation by title,
//! since their numbers differ between releases.
//!
//! The way of a message: [`frame::split`] (or [`frame::header`] and the caller's own buffer) cuts
//! exactly one frame out of the bytes received, against a limit of the caller. Then
//! [`frontend::Message::parse`] or [`backend::Message::parse`] reads the body to its very end; bytes
//! left over are an error. Types borrow from the body. SQL text and values stay bytes, since their
//! encoding is the client's.
//!
//! Every message type has `parse(body)`, which takes the body without tag and length, and
//! `encode(&self, out)`, which appends the whole frame. For everything that parses, encoding it gives
//! back the very same bytes.
//!
//! `Debug` of a message shows no payload: SQL text, values, passwords, keys and error texts print as
//! their length.
//!
//! ```
//! use proto_postgres::wire::{frame, frontend};
//!
//! let received = b"Q\0\0\0\x0dSELECT 1\0S\0\0\0\x04";
//! let (frame, rest) = frame::split(received, 1024)?.ok_or("not complete yet")?;
//! let message = frontend::Message::parse(frame.tag, frame.body)?;
//! assert!(matches!(message, frontend::Message::Query(query) if query.sql == b"SELECT 1"));
//! assert_eq!(rest, b"S\0\0\0\x04");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod backend;
pub mod frame;
pub mod frontend;

mod debug;
mod error;
mod format;
#[cfg(any(test, feature = "goldens"))]
mod goldens;
pub(crate) mod numeric;
mod put;
mod take;
#[cfg(test)]
mod testing;
pub(crate) mod value;

pub use error::{EncodeError, EncodeFault, FrameError, ParseError, ParseFault, Peer};
pub use format::{Format, Oid};
#[cfg(any(test, feature = "goldens"))]
pub use goldens::{Framing, Golden, goldens};
