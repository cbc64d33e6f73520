//! Results in which something is masked, and texts that are not passed on.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use gateway_core::machine::{Fault, Outbound};
use gateway_sql::StatementKind;

use super::Session;
use super::backend::{Fate, MAX_ROW};
use super::pending::{Expect, Running};
use super::texts::Texts;
use super::withhold::Tagged;
use crate::mask::copy::CopyMask;
use crate::mask::row::{Masking, Mismatch, RowMask};
use crate::wire::backend;
use crate::wire::frame::{self, HEADER_LEN};

/// Longest row in which something is masked: it is held whole.
pub(super) const MAX_MASKED: usize = 64 << 20;
/// Bytes of masked rows that are written before others get their turn.
const MASKED_BURST: usize = 256 << 10;

impl Session {
    /// Whether something is masked in the result that is under way.
    pub(super) fn is_masked(&mut self) -> bool {
        let running = self.pending.front_mut().and_then(|front| front.expect.running());
        running.is_some_and(|running| running.masked().is_some())
    }

    /// The run of whole rows at the front of a result in which something is masked, in bytes; what the client gets of
    /// them is appended. Rows of which the columns are not known, or that may not be given, are not taken.
    pub(super) fn masked_rows(&mut self, input: &[u8], out: &mut Outbound) -> Result<usize, Fault> {
        let key = &self.settings.mask_key;
        let Some(running) = self
            .pending
            .front_mut()
            .and_then(|front| front.expect.running())
            .filter(|running| !running.overrun)
        else {
            return Ok(0);
        };
        let Some(mask) = running.mask.as_mut() else {
            return Ok(0);
        };
        let before = out.to_client.len();
        let mut taken: usize = 0;
        let mut rows: u64 = 0;
        while let Some(rest) = input.get(taken..) {
            let header = frame::header(rest, MAX_ROW)
                .map_err(|e| Fault::target(format!("sent a malformed frame: {e}")))?;
            let tag = match mask {
                Masking::Rows(_) => b'D',
                Masking::Copy(_) => b'd',
            };
            let Some(header) = header.filter(|header| header.tag == tag) else {
                break;
            };
            let left = running.budget.map(|budget| budget.saturating_sub(running.rows));
            let Some(body) = rest.get(HEADER_LEN..header.len) else {
                break;
            };
            if left.is_some_and(|left| rows >= left) || header.len > MAX_MASKED {
                break;
            }
            let done = match mask {
                Masking::Rows(mask) => {
                    let row = backend::DataRow::parse(body);
                    let row = row.map_err(|e| Fault::target(format!("sent a {e}")))?;
                    mask.apply(&row, key, &mut out.to_client).map(|()| true)
                }
                Masking::Copy(mask) => {
                    let to = &mut out.to_client;
                    to.put_u8(b'd');
                    let at = to.len();
                    to.put_i32(0);
                    let row = mask.apply(body, key, to);
                    row.and_then(|row| {
                        if patch_frame(to, at) {
                            Ok(row)
                        } else {
                            Err(Mismatch)
                        }
                    })
                }
            };
            match done {
                Ok(true) => rows = rows.saturating_add(1),
                Ok(false) => {}
                Err(Mismatch) => {
                    return Err(Fault::target("sent a row that is not what it described"));
                }
            }
            taken = taken.saturating_add(header.len);
            if out.to_client.len().saturating_sub(before) >= MASKED_BURST {
                break;
            }
        }
        running.rows = running.rows.saturating_add(rows);
        self.count_bytes(out.to_client.len().saturating_sub(before));
        Ok(taken)
    }

    /// The server tells the columns of the result that comes: how it is masked, and whether they are those that the
    /// analysis knows. If they are not, nothing of it is passed on.
    pub(super) fn described(&mut self, description: Option<&backend::RowDescription<'_>>) {
        let (iso, withhold) = (self.iso_dates, self.withholds());
        let has_temp = !self.state.temp.is_empty();
        let structure = self.structure().cloned();
        let Some(running) = self.pending.front_mut().and_then(|front| front.expect.running()) else {
            return;
        };
        let fields = description.map_or(&[][..], |description| &description.fields);
        if running
            .statement()
            .is_some_and(|statement| statement.kind == StatementKind::CopyOut)
        {
            // Its columns are told when it begins.
            return;
        }
        let mut mismatch = false;
        if let Some(columns) = running.masked() {
            match RowMask::new(columns, fields, iso) {
                Ok(mask) => running.mask = Some(Masking::Rows(mask)),
                Err(_) => mismatch = true,
            }
        }
        if withhold && let Some(structure) = structure {
            let analyzed = running.analyzed.as_ref();
            let outputs = running
                .statement()
                .map_or(&[][..], |statement| statement.outputs.as_slice());
            // A table or column that is not known: the structure has changed since it was looked at. Or the message has made it
            // itself: then what comes out was followed, and is masked by that.
            let followed = |at: usize| running.has_defined() && at < outputs.len();
            mismatch |= running.touches_tags()
                && fields.iter().enumerate().any(|(at, field)| {
                    !structure.knows(field.table, field.column, has_temp) && !followed(at)
                });
            mismatch |= fields.iter().enumerate().any(|(at, field)| {
                let Some(column) = structure.tagged_column(field.table, field.column) else {
                    return false;
                };
                let known = outputs
                    .get(at)
                    .is_some_and(|output| output.carries.contains(column));
                // What policy has shown to this principal need not be masked wherever it comes out.
                let shown = |tag| analyzed.is_some_and(|analyzed| analyzed.unmasked.contains(tag));
                !known && !structure.tags.of_column(column).all(shown)
            });
        }
        if mismatch {
            self.disagrees();
        }
    }

    /// COPY TO STDOUT begins.
    pub(super) fn copies_out(&mut self, response: &backend::CopyOutResponse) -> Fate {
        let iso = self.iso_dates;
        let Some(running) = self.pending.front_mut().and_then(|front| front.expect.running()) else {
            return Fate::Drop;
        };
        if let Some(columns) = running.masked() {
            let mask = running.statement().ok_or(Mismatch).and_then(|statement| {
                let form = statement.copy_form.as_ref().ok_or(Mismatch)?;
                let (format, formats) = (response.format, &response.columns);
                CopyMask::new(columns, &statement.outputs, form, format, formats, iso)
            });
            match mask {
                Ok(mask) => running.mask = Some(Masking::Copy(Box::new(mask))),
                Err(Mismatch) => {
                    self.disagrees();
                    return Fate::Drop;
                }
            }
        }
        match self.pending.front_mut().and_then(|front| front.expect.running()) {
            Some(running) if !running.overrun => Fate::Pass,
            _ => Fate::Drop,
        }
    }

    /// The result that is under way has other columns than the analysis says: nothing of it is passed on.
    pub(super) fn disagrees(&mut self) {
        if let Some(running) = self.pending.front_mut().and_then(|front| front.expect.running()) {
            running.mismatch = true;
            running.overrun = true;
        }
        tracing::warn!(
            resource = self.settings.resource,
            "the target's columns are not those that the analysis knows; the result is withheld"
        );
        self.structure_is_stale();
    }

    /// Whether texts and columns are looked at: the principal may not see every tag, or something is masked for it now,
    /// since policy has changed.
    pub(super) fn withholds(&self) -> bool {
        let masks = |running: &Running| running.plan.is_some();
        self.settings.withhold
            || match self.pending.front().map(|pending| &pending.expect) {
                Some(Expect::Query(running) | Expect::Execute(running)) => masks(running),
                _ => false,
            }
    }

    /// How texts of the target about what runs now are shown.
    pub(super) fn texts(&self) -> Texts {
        let running = match self.pending.front().map(|pending| &pending.expect) {
            Some(Expect::Query(running) | Expect::Execute(running)) => Some(running),
            _ => None,
        };
        Texts {
            withholds: self.withholds(),
            tagged: self.tagged(),
            revealed: self.texts_revealed,
            detect: running
                .and_then(|running| running.masked()?.detect.clone())
                .or_else(|| {
                    let detect = &self.settings.detect;
                    (!detect.is_empty()).then(|| Arc::new(detect.clone()))
                }),
            key: self.settings.mask_key.clone(),
        }
    }

    /// How what runs now works on tagged data. Parse, Bind and Describe read no tables, and what a function says that
    /// they evaluate is known by itself.
    fn tagged(&self) -> Tagged {
        match self.pending.front().map(|pending| &pending.expect) {
            Some(Expect::Query(running) | Expect::Execute(running) | Expect::Function(running)) => {
                running.tagged()
            }
            _ => Tagged::No,
        }
    }
}

/// Writes the length of the frame that began with its tag right before `at`, where four bytes stand for it.
fn patch_frame(frame: &mut BytesMut, at: usize) -> bool {
    let Ok(len) = i32::try_from(frame.len().saturating_sub(at)) else {
        return false;
    };
    match frame.get_mut(at..).and_then(|bytes| bytes.first_chunk_mut::<4>()) {
        Some(place) => {
            *place = len.to_be_bytes();
            true
        }
        None => false,
    }
}
