//! Bytes until they are packets.

use crate::wire::sftp::{Malformed, split_frame};

/// From how many bytes on the read part is moved away.
const COMPACT: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        } else if self.start >= COMPACT {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.start)
    }

    /// The next packet with its length, once it is complete.
    pub(super) fn take(&mut self) -> Result<Option<Vec<u8>>, Malformed> {
        let rest = self.bytes.get(self.start..).unwrap_or_default();
        let Some((_, after)) = split_frame(rest)? else {
            return Ok(None);
        };
        let packet = rest.split_at(rest.len().saturating_sub(after.len())).0.to_vec();
        self.start = self.start.saturating_add(packet.len());
        Ok(Some(packet))
    }

    /// Whether what is left is no whole number of packets.
    pub(super) fn ends_inside(&self) -> bool {
        let mut rest = self.bytes.get(self.start..).unwrap_or_default();
        while let Ok(Some((_, after))) = split_frame(rest) {
            rest = after;
        }
        !rest.is_empty()
    }
}
