//! The parts that bodies are made of, written. A length is a `try_from`, never a cast: a length that
//! wraps turns payload into messages (RUSTSEC-2024-0363).

use bytes::{BufMut, BytesMut};

use super::error::{EncodeError, EncodeFault, Kind};
use super::format::Format;

/// Appends one whole frame whose body `write` appends. On error nothing is left in `out`.
pub(crate) fn frame(
    kind: Kind,
    out: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut) -> Result<(), EncodeFault>,
) -> Result<(), EncodeError> {
    let start = out.len();
    try_frame(kind.tag, out, write).map_err(|what| {
        out.truncate(start);
        EncodeError {
            message: kind.name,
            what,
        }
    })
}

fn try_frame(
    tag: Option<u8>,
    out: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut) -> Result<(), EncodeFault>,
) -> Result<(), EncodeFault> {
    if let Some(tag) = tag {
        out.put_u8(tag);
    }
    let at = out.len();
    out.put_i32(0);
    write(out)?;
    let length = i32::try_from(out.len() - at).map_err(|_| EncodeFault::Length("message"))?;
    if let Some(place) = out.get_mut(at..).and_then(|bytes| bytes.first_chunk_mut::<4>()) {
        *place = length.to_be_bytes();
    }
    Ok(())
}

/// A frame without a body.
pub(crate) fn empty(kind: Kind, out: &mut BytesMut) -> Result<(), EncodeError> {
    frame(kind, out, |_| Ok(()))
}

pub(crate) fn cstr(out: &mut BytesMut, text: &[u8], field: &'static str) -> Result<(), EncodeFault> {
    if text.contains(&0) {
        return Err(EncodeFault::Nul(field));
    }
    out.put_slice(text);
    out.put_u8(0);
    Ok(())
}

/// Strings and the empty one that ends their list, so none of them can be empty.
pub(crate) fn cstrs(out: &mut BytesMut, list: &[&[u8]], field: &'static str) -> Result<(), EncodeFault> {
    for text in list {
        if text.is_empty() {
            return Err(EncodeFault::Invalid(field));
        }
        cstr(out, text, field)?;
    }
    out.put_u8(0);
    Ok(())
}

pub(crate) fn value(
    out: &mut BytesMut,
    value: Option<&[u8]>,
    field: &'static str,
) -> Result<(), EncodeFault> {
    match value {
        None => out.put_i32(-1),
        Some(bytes) => {
            out.put_i32(i32::try_from(bytes.len()).map_err(|_| EncodeFault::Length(field))?);
            out.put_slice(bytes);
        }
    }
    Ok(())
}

pub(crate) fn count(out: &mut BytesMut, count: usize, field: &'static str) -> Result<(), EncodeFault> {
    out.put_u16(u16::try_from(count).map_err(|_| EncodeFault::Count(field))?);
    Ok(())
}

pub(crate) fn formats(out: &mut BytesMut, codes: &[Format], field: &'static str) -> Result<(), EncodeFault> {
    count(out, codes.len(), field)?;
    for code in codes {
        out.put_i16(code.0);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind::frontend("Test", b't');

    #[test]
    fn a_frame_counts_itself() {
        let mut out = BytesMut::from(&b"before"[..]);
        frame(KIND, &mut out, |out| cstr(out, b"ab", "text")).expect("fits");
        assert_eq!(&out[..], b"beforet\0\0\0\x07ab\0");
    }

    #[test]
    fn an_error_leaves_nothing_behind() {
        let mut out = BytesMut::from(&b"before"[..]);
        let error = frame(KIND, &mut out, |out| cstr(out, b"a\0b", "text")).expect_err("holds a NUL");
        assert_eq!(error.what, EncodeFault::Nul("text"));
        assert_eq!(&out[..], b"before");
    }

    #[test]
    fn counts_do_not_wrap() {
        let mut out = BytesMut::new();
        assert_eq!(count(&mut out, 0x1_0000, "item"), Err(EncodeFault::Count("item")));
        assert_eq!(count(&mut out, 0xffff, "item"), Ok(()));
    }
}
