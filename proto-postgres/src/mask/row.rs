//! Rows, written again with the values that are masked.

use bytes::{BufMut, BytesMut};
use gateway_core::mask::MaskKey;

use super::copy::CopyMask;
use super::plan::Columns;
use super::value::{ColumnMask, put};
use crate::wire::backend::{DataRow, FieldDescription};

/// How what is under way is masked.
#[derive(Debug)]
pub enum Masking {
    /// Rows of a query.
    Rows(RowMask),
    /// Rows of COPY TO STDOUT.
    Copy(Box<CopyMask>),
}

/// The masks of one result whose columns are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowMask(Vec<Option<ColumnMask>>);

/// The server gives other columns than the analysis says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch;

impl RowMask {
    /// Puts masks and columns together. `iso`: the session writes dates in ISO style.
    pub fn new(columns: &Columns, fields: &[FieldDescription<'_>], iso: bool) -> Result<Self, Mismatch> {
        if !columns.masks.is_empty() && columns.masks.len() != fields.len() {
            return Err(Mismatch);
        }
        let masks = fields.iter().enumerate().map(|(at, field)| {
            let plan = columns.masks.get(at).and_then(Option::as_ref);
            ColumnMask::new(plan, columns.detect.as_ref(), field.type_oid, field.format, iso)
        });
        Ok(Self(masks.collect()))
    }

    /// Appends the row's frame with its values masked.
    pub fn apply(&self, row: &DataRow<'_>, key: &MaskKey, out: &mut BytesMut) -> Result<(), Mismatch> {
        if row.len() != self.0.len() {
            return Err(Mismatch);
        }
        let count = u16::try_from(self.0.len()).map_err(|_| Mismatch)?;
        out.put_u8(b'D');
        let frame = out.len();
        out.put_i32(0);
        out.put_u16(count);
        for (value, mask) in row.columns().zip(&self.0) {
            put(mask.as_ref(), value, key, out)?;
        }
        let len = out.len().saturating_sub(frame);
        let len = i32::try_from(len).map_err(|_| Mismatch)?;
        match out
            .get_mut(frame..)
            .and_then(|bytes| bytes.first_chunk_mut::<4>())
        {
            Some(place) => *place = len.to_be_bytes(),
            None => return Err(Mismatch),
        }
        Ok(())
    }
}
