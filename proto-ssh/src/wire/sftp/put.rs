//! Packets into bytes.

use super::MAX_PACKET;

/// A packet would be longer than [`MAX_PACKET`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the packet would be longer than 262144 bytes")]
pub struct TooLong;

/// Writes one packet: its length is filled in at the end.
#[derive(Debug)]
pub struct Encoder(Vec<u8>);

impl Encoder {
    /// Begins a packet of this type.
    pub fn new(kind: u8) -> Self {
        Self(vec![0, 0, 0, 0, kind])
    }

    /// A `uint32`.
    #[must_use]
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A `uint64`.
    #[must_use]
    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Bytes as they are.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A `string`: its length and its bytes.
    ///
    /// # Errors
    ///
    /// Where it can't be part of a packet.
    pub fn string(self, bytes: &[u8]) -> Result<Self, TooLong> {
        let length = u32::try_from(bytes.len()).map_err(|_| TooLong)?;
        if bytes.len() > MAX_PACKET {
            return Err(TooLong);
        }
        Ok(self.u32(length).raw(bytes))
    }

    /// The fields alone, without length and type: a part of another packet.
    ///
    /// # Errors
    ///
    /// Where they are too long for a packet.
    pub fn fields(mut self) -> Result<Vec<u8>, TooLong> {
        let fields = self.0.split_off(5);
        if fields.len() > MAX_PACKET {
            Err(TooLong)
        } else {
            Ok(fields)
        }
    }

    /// The packet with its length.
    ///
    /// # Errors
    ///
    /// Where it is longer than [`MAX_PACKET`].
    pub fn finish(mut self) -> Result<Vec<u8>, TooLong> {
        let length = self.0.len().saturating_sub(4);
        if length > MAX_PACKET {
            return Err(TooLong);
        }
        let length = u32::try_from(length).map_err(|_| TooLong)?;
        if let Some(head) = self.0.first_chunk_mut::<4>() {
            *head = length.to_be_bytes();
        }
        Ok(self.0)
    }
}
