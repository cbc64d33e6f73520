//! Rows of COPY TO STDOUT. The server sends one row a message; a message that is not one whole row is not passed on.

use bytes::{BufMut, BytesMut};
use gateway_core::mask::MaskKey;
use gateway_sql::{CopyForm, OutputColumn};

use super::plan::Columns;
use super::row::Mismatch;
use super::value::{ColumnMask, put};
use crate::wire::Format;

/// What stands at the start of binary COPY data (PostgreSQL documentation, COPY, Binary Format).
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// The masks of one COPY TO STDOUT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyMask {
    masks: Vec<Option<ColumnMask>>,
    form: CopyForm,
    /// The first message, with the names or the signature, has come.
    begun: bool,
    /// Room to work in: a value without escapes, and what becomes of it.
    value: BytesMut,
    masked: BytesMut,
}

impl CopyMask {
    /// Puts masks, columns and form together; `formats` are those that the server has told.
    pub fn new(
        columns: &Columns,
        outputs: &[OutputColumn],
        form: &CopyForm,
        format: u8,
        formats: &[Format],
        iso: bool,
    ) -> Result<Self, Mismatch> {
        let binary = *form == CopyForm::Binary;
        let as_told = (format == 1) == binary && formats.iter().all(|one| (*one == Format::BINARY) == binary);
        let masks_fit = columns.masks.is_empty() || columns.masks.len() == formats.len();
        if !masks_fit || outputs.len() != formats.len() || !as_told {
            return Err(Mismatch);
        }
        let form_of = if binary { Format::BINARY } else { Format::TEXT };
        let masks = outputs.iter().enumerate().map(|(at, output)| {
            let plan = columns.masks.get(at).and_then(Option::as_ref);
            ColumnMask::of_named_type(plan, columns.detect.as_ref(), &output.type_name, form_of, iso)
        });
        Ok(Self {
            masks: masks.collect(),
            form: form.clone(),
            begun: false,
            value: BytesMut::new(),
            masked: BytesMut::new(),
        })
    }

    /// Appends what becomes of the data of one message; whether it is a row.
    pub fn apply(&mut self, data: &[u8], key: &MaskKey, out: &mut BytesMut) -> Result<bool, Mismatch> {
        let first = !std::mem::replace(&mut self.begun, true);
        match self.form.clone() {
            CopyForm::Binary => self.binary(data, first, key, out),
            CopyForm::Text { header: true, .. } | CopyForm::Csv { header: true, .. } if first => {
                out.extend_from_slice(data);
                Ok(false)
            }
            CopyForm::Text { delimiter, null, .. } => {
                self.text(data, delimiter, null.as_bytes(), key, out)?;
                Ok(true)
            }
            CopyForm::Csv {
                delimiter,
                null,
                quote,
                escape,
                ..
            } => {
                self.csv(data, [delimiter, quote, escape], null.as_bytes(), key, out)?;
                Ok(true)
            }
        }
    }

    fn text(
        &mut self,
        data: &[u8],
        delimiter: u8,
        null: &[u8],
        key: &MaskKey,
        out: &mut BytesMut,
    ) -> Result<(), Mismatch> {
        let line = data.strip_suffix(b"\n").ok_or(Mismatch)?;
        let mut rest = line;
        for (at, mask) in self.masks.iter().enumerate() {
            let end = unescaped(rest, delimiter).ok_or(Mismatch)?;
            let (raw, after) = rest.split_at_checked(end).ok_or(Mismatch)?;
            match mask {
                Some(mask) => {
                    self.value.clear();
                    unescape(raw, &mut self.value);
                    let value = (raw != null).then_some(&self.value[..]);
                    self.masked.clear();
                    if mask.apply(value, key, &mut self.masked) {
                        escape(&self.masked, delimiter, out);
                    } else {
                        out.extend_from_slice(null);
                    }
                }
                None => out.extend_from_slice(raw),
            }
            rest = self.behind(at, after, delimiter, out)?;
        }
        out.put_u8(b'\n');
        Ok(())
    }

    fn csv(
        &mut self,
        data: &[u8],
        [delimiter, quote, escape]: [u8; 3],
        null: &[u8],
        key: &MaskKey,
        out: &mut BytesMut,
    ) -> Result<(), Mismatch> {
        let line = data.strip_suffix(b"\n").ok_or(Mismatch)?;
        let mut rest = line;
        for (at, mask) in self.masks.iter().enumerate() {
            self.value.clear();
            let (end, quoted) = csv_field(rest, delimiter, quote, escape, &mut self.value).ok_or(Mismatch)?;
            let (raw, after) = rest.split_at_checked(end).ok_or(Mismatch)?;
            match mask {
                Some(mask) => {
                    let value = (quoted || raw != null).then_some(&self.value[..]);
                    self.masked.clear();
                    if mask.apply(value, key, &mut self.masked) {
                        out.put_u8(quote);
                        for &byte in &self.masked {
                            if byte == quote || byte == escape {
                                out.put_u8(escape);
                            }
                            out.put_u8(byte);
                        }
                        out.put_u8(quote);
                    } else {
                        out.extend_from_slice(null);
                    }
                }
                None => out.extend_from_slice(raw),
            }
            rest = self.behind(at, after, delimiter, out)?;
        }
        out.put_u8(b'\n');
        Ok(())
    }

    /// What is behind the value at this place: a delimiter and the next value, or, behind the last one, nothing.
    fn behind<'a>(
        &self,
        at: usize,
        after: &'a [u8],
        delimiter: u8,
        out: &mut BytesMut,
    ) -> Result<&'a [u8], Mismatch> {
        let is_last = at.saturating_add(1) == self.masks.len();
        match after.split_first() {
            Some((_, after)) if !is_last => {
                out.put_u8(delimiter);
                Ok(after)
            }
            None if is_last => Ok(after),
            _ => Err(Mismatch),
        }
    }

    fn binary(
        &mut self,
        data: &[u8],
        first: bool,
        key: &MaskKey,
        out: &mut BytesMut,
    ) -> Result<bool, Mismatch> {
        let mut rest = data;
        if first {
            let after = rest.strip_prefix(SIGNATURE).ok_or(Mismatch)?;
            let (_flags, after) = after.split_first_chunk::<4>().ok_or(Mismatch)?;
            let (extension, after) = after.split_first_chunk::<4>().ok_or(Mismatch)?;
            if i32::from_be_bytes(*extension) != 0 {
                return Err(Mismatch);
            }
            let header = rest.len().saturating_sub(after.len());
            out.extend_from_slice(rest.get(..header).unwrap_or_default());
            rest = after;
            if rest.is_empty() {
                return Ok(false);
            }
        }
        let (count, mut rest) = rest.split_first_chunk::<2>().ok_or(Mismatch)?;
        let count = i16::from_be_bytes(*count);
        out.put_i16(count);
        if count == -1 {
            return if rest.is_empty() { Ok(false) } else { Err(Mismatch) };
        }
        if usize::try_from(count) != Ok(self.masks.len()) {
            return Err(Mismatch);
        }
        for mask in &self.masks {
            let (len, after) = rest.split_first_chunk::<4>().ok_or(Mismatch)?;
            rest = after;
            let value = match usize::try_from(i32::from_be_bytes(*len)) {
                Ok(len) => {
                    let (value, after) = rest.split_at_checked(len).ok_or(Mismatch)?;
                    rest = after;
                    Some(value)
                }
                Err(_) => None,
            };
            put(mask.as_ref(), value, key, out)?;
        }
        // The end of all data may come with the last row.
        match rest {
            [] => {}
            [0xff, 0xff] => out.put_i16(-1),
            _ => return Err(Mismatch),
        }
        Ok(true)
    }
}

/// Where the value at the front ends: at the first delimiter that no backslash stands before, or at the end.
fn unescaped(line: &[u8], delimiter: u8) -> Option<usize> {
    let mut at = 0_usize;
    while let Some(byte) = line.get(at) {
        if *byte == b'\\' {
            at = at.checked_add(2)?;
        } else if *byte == delimiter {
            return Some(at);
        } else {
            at = at.checked_add(1)?;
        }
    }
    (at == line.len()).then_some(at)
}

fn unescape(raw: &[u8], out: &mut BytesMut) {
    let mut bytes = raw.iter();
    while let Some(&byte) = bytes.next() {
        if byte != b'\\' {
            out.put_u8(byte);
            continue;
        }
        out.put_u8(match bytes.next() {
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'v') => 11,
            Some(&other) => other,
            None => return,
        });
    }
}

fn escape(value: &[u8], delimiter: u8, out: &mut BytesMut) {
    for &byte in value {
        let letter = match byte {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            b'\\' => b'\\',
            byte if byte == delimiter => byte,
            _ => {
                out.put_u8(byte);
                continue;
            }
        };
        out.put_u8(b'\\');
        out.put_u8(letter);
    }
}

/// Reads the value at the front without its quotes. Where it ends, and whether some of it was quoted.
fn csv_field(
    line: &[u8],
    delimiter: u8,
    quote: u8,
    escape: u8,
    value: &mut BytesMut,
) -> Option<(usize, bool)> {
    let mut at = 0_usize;
    let mut inside = false;
    let mut quoted = false;
    while let Some(&byte) = line.get(at) {
        let next = line.get(at.checked_add(1)?).copied();
        if inside && byte == escape && next.is_some_and(|next| next == quote || next == escape) {
            value.put_u8(next?);
            at = at.checked_add(2)?;
            continue;
        }
        if byte == quote {
            inside = !inside;
            quoted = true;
        } else if !inside && byte == delimiter {
            return Some((at, quoted));
        } else {
            value.put_u8(byte);
        }
        at = at.checked_add(1)?;
    }
    (!inside).then_some((at, quoted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::plan::ColumnPlan;
    use gateway_core::resource::Mask;

    fn mask(form: CopyForm, masks: &[Option<Mask>], types: &[&str]) -> CopyMask {
        let outputs: Vec<_> = types
            .iter()
            .map(|name| OutputColumn {
                type_name: format!("pg_catalog.{name}"),
                ..OutputColumn::default()
            })
            .collect();
        let binary = form == CopyForm::Binary;
        let format = if binary { Format::BINARY } else { Format::TEXT };
        let formats = vec![format; masks.len()];
        let masks = masks.iter().map(|mask| mask.map(ColumnPlan::from)).collect();
        let columns = Columns { masks, detect: None };
        CopyMask::new(&columns, &outputs, &form, u8::from(binary), &formats, true).unwrap()
    }

    fn run(mask: &mut CopyMask, data: &[u8]) -> Result<String, Mismatch> {
        let mut out = BytesMut::new();
        mask.apply(data, &MaskKey::new(&[7; 32]), &mut out)?;
        Ok(String::from_utf8(out.to_vec()).unwrap())
    }

    const TEXT: CopyForm = CopyForm::Text {
        delimiter: b'\t',
        null: String::new(),
        header: false,
    };

    #[test]
    fn values_of_a_line_are_masked_and_others_stay_as_they_are() {
        let form = CopyForm::Text {
            delimiter: b'\t',
            null: "\\N".to_owned(),
            header: false,
        };
        let mut mask = mask(
            form,
            &[None, Some(Mask::Partial), Some(Mask::Redact)],
            &["int4", "text", "int4"],
        );
        assert_eq!(run(&mut mask, b"1\t12345678\t7\n").unwrap(), "1\t****5678\t\\N\n");
        assert_eq!(run(&mut mask, b"\\N\t\\N\t\\N\n").unwrap(), "\\N\t\\N\t\\N\n");
        // Escapes are characters of the value, and of what is left of it.
        assert_eq!(
            run(&mut mask, b"a\\tb\tsecret\\t\\\\\\nx\t7\n").unwrap(),
            "a\\tb\t****\\t\\\\\\nx\t\\N\n"
        );
        for wrong in [&b"1\t2\n"[..], b"1\t2\t3\t4\n", b"1\t2\t3", b"1\t2\t3\\\n", b""] {
            assert_eq!(run(&mut mask, wrong), Err(Mismatch), "{wrong:?}");
        }
    }

    #[test]
    fn quoted_values_are_masked_whole() {
        let form = CopyForm::Csv {
            delimiter: b',',
            null: String::new(),
            header: true,
            quote: b'"',
            escape: b'"',
        };
        let mut mask = mask(form, &[Some(Mask::Partial), None], &["text", "text"]);
        assert_eq!(run(&mut mask, b"card,\"a,b\"\n").unwrap(), "card,\"a,b\"\n");
        assert_eq!(
            run(&mut mask, b"\"secret,\"\"\nx y\"\"\",\"q,q\"\n").unwrap(),
            "\"****x y\"\"\",\"q,q\"\n"
        );
        assert_eq!(run(&mut mask, b",x\n").unwrap(), ",x\n");
        assert_eq!(run(&mut mask, b"\"\",x\n").unwrap(), "\"****\",x\n");
        for wrong in [&b"\"a,b\n"[..], b"a\n", b"a,b,c\n"] {
            assert_eq!(run(&mut mask, wrong), Err(Mismatch), "{wrong:?}");
        }
    }

    #[test]
    fn binary_rows_are_masked_with_the_signature_before_and_the_end_behind() {
        let mut mask = mask(CopyForm::Binary, &[Some(Mask::Redact), None], &["text", "text"]);
        let mut data = SIGNATURE.to_vec();
        data.extend([0; 8]);
        for (count, values) in [(2_i16, [&b"secret"[..], b"open"])] {
            data.extend(count.to_be_bytes());
            for value in values {
                data.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
                data.extend(value);
            }
        }
        let key = MaskKey::new(&[7; 32]);
        let mut out = BytesMut::new();
        assert_eq!(mask.apply(&data, &key, &mut out), Ok(true));
        assert!(out.ends_with(b"\0\0\0\x0a[redacted]\0\0\0\x04open"), "{out:?}");
        assert_eq!(mask.apply(b"\xff\xff", &key, &mut out), Ok(false));
        for wrong in [
            &b"\0\x01\0\0\0\x01x"[..],
            b"\0\x02\0\0\0\x09x",
            b"\xff\xffx",
            b"\0",
        ] {
            assert_eq!(mask.apply(wrong, &key, &mut out), Err(Mismatch), "{wrong:?}");
        }
    }

    /// The server copies in another form than the statement says: nothing can be told apart in it.
    #[test]
    fn another_form_than_was_said_is_a_mismatch() {
        let columns = Columns {
            masks: vec![Some(ColumnPlan::from(Mask::Redact))],
            detect: None,
        };
        let outputs = [OutputColumn::default()];
        for (format, formats) in [(1, vec![Format::BINARY]), (0, vec![]), (0, vec![Format::BINARY])] {
            assert_eq!(
                CopyMask::new(&columns, &outputs, &TEXT, format, &formats, true),
                Err(Mismatch)
            );
        }
    }
}
