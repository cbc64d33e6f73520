//! Texts as the inside of strings of JSON, eight bytes at a time: most have nothing to escape.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Marks the first of eight bytes, the lowest first, that can't stand in a string of JSON as it is: `"`, `\`, and all below 0x20. Bytes
/// behind it may be marked too.
fn needs_escape(word: u64) -> u64 {
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
    control | zero(word ^ (ONES * 0x22)) | zero(word ^ (ONES * 0x5c))
}

/// How many bytes at the beginning can stand as they are.
fn plain_run(bytes: &[u8]) -> usize {
    let (mut words, mut run) = (bytes.chunks_exact(8), 0_usize);
    for word in &mut words {
        let word = <[u8; 8]>::try_from(word).map_or(0, u64::from_le_bytes);
        // Of none of them: all eight.
        let plain = usize::try_from(needs_escape(word).trailing_zeros() / 8).unwrap_or(0);
        run = run.saturating_add(plain);
        if plain < 8 {
            return run;
        }
    }
    let rest = words.remainder();
    let more = rest.iter().position(|b| matches!(b, 0..=0x1f | b'"' | b'\\'));
    run.saturating_add(more.unwrap_or(rest.len()))
}

/// Writes a text as the inside of a string of JSON (RFC 8259, section 7).
pub(crate) fn escape(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    loop {
        let (run, more) = rest.split_at_checked(plain_run(rest)).unwrap_or((rest, &[]));
        out.extend_from_slice(run);
        let Some((byte, more)) = more.split_first() else {
            return;
        };
        let short = match byte {
            b'"' | b'\\' => *byte,
            0x08 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            0x0c => b'f',
            b'\r' => b'r',
            _ => {
                let digit = |four: u8| HEX.get(usize::from(four)).copied().unwrap_or(b'0');
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
                rest = more;
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
        rest = more;
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";
