//! Standard output, whose reader may leave: `gateway audit search | head`.
//!
//! The standard library's `println!` panics then, which looks like a fault. These two, in its place in this crate, end the process as
//! the signal that a pipe without a reader sends would, and say what is wrong where it is something else (a full disk).

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write as _};

/// What a shell says of a process that SIGPIPE ended.
const NO_READER: i32 = 128 + 13;

macro_rules! println {
    () => { $crate::out::write(format_args!("\n")) };
    ($($arg:tt)*) => { $crate::out::write(format_args!("{}\n", format_args!($($arg)*))) };
}

macro_rules! print {
    ($($arg:tt)*) => { $crate::out::write(format_args!($($arg)*)) };
}

/// Writes a text; does not return where it can't be written.
pub(crate) fn write(text: Arguments<'_>) {
    let Err(error) = io::stdout().lock().write_fmt(text) else {
        return;
    };
    let status = match error.kind() {
        ErrorKind::BrokenPipe => NO_READER,
        _ => {
            let _ = writeln!(
                io::stderr(),
                "gateway: standard output cannot be written: {error}"
            );
            1
        }
    };
    std::process::exit(status);
}
