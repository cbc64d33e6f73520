//! Reading a trail: [`verify`] proves that nothing in it was touched, [`search`] finds operations and what became
//! of them, [`export`] copies it. All of them stream, and work while a gateway writes.

mod follow;
mod search;
#[cfg(test)]
mod tests;
mod told;
mod verify;

use std::io::{self, Write};
use std::path::Path;

use super::segments::{self, Line, Lines};
pub use follow::{Follow, FollowError, TrailRecord};
pub use search::{AuditRow, Found, Query, search, search_with};
pub use told::{Told, all_told, told};
pub use verify::{
    Anchor, AnchorReport, DroppedReport, Known, Place, Point, SignedReport, VerifyFailure, VerifyReport,
    verify, verify_anchored, verify_known,
};

/// Copies all whole records, oldest first, as JSON lines; returns how many. Their form is told in
/// [`super::log`].
pub fn export(dir: &Path, out: &mut dyn Write) -> io::Result<u64> {
    let mut records = 0u64;
    for segment in segments::list(dir)? {
        let mut lines = match Lines::open(&segment.path) {
            // Dropped by retention meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            lines => lines?,
        };
        loop {
            match lines.next()? {
                Line::Whole => {
                    out.write_all(lines.line())?;
                    out.write_all(b"\n")?;
                    records += 1;
                }
                Line::TooLong { ended: true } => {
                    let text = format!("`{}`, line {}: too long", segment.path.display(), lines.number());
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                // What is still being written.
                Line::Torn | Line::TooLong { ended: false } => {}
                Line::End => break,
            }
        }
    }
    out.flush()?;
    Ok(records)
}
