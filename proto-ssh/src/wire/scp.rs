//! The old scp protocol, which has no specification but OpenSSH's `scp.c`.
//!
//! One side runs `scp -f` (source) or `scp -t` (sink) by exec. The source sends lines, and the bytes of files; the sink
//! answers each with one byte 0, or with 1 or 2 and a line of text.

mod command;
mod line;

pub use command::{Direction, ScpCommand};
pub use line::{Line, Malformed, Reply, Split, split_line, split_reply};

/// The longest line of either side, in bytes with its newline: the longest name (PATH_MAX of Linux) and numbers.
pub const MAX_LINE: usize = 4096 + 64;

#[cfg(test)]
mod tests;
