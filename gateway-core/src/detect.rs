//! Content detectors: sensitive values by what they look like, wherever they are. A second line behind tags on columns:
//! they find what no tag names (an address in a free text, a key in a log line), and what has no such form they do not
//! find.
//!
//! Each is validated as far as its form allows (a card by Luhn's sum, an IBAN by its remainder), so that ordinary numbers
//! and words pass.

use std::ops::Range;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use crate::mask::MaskKey;
use crate::resource::{DetectRule, Mask};

mod block;
mod numbers;
mod secrets;
mod stream;
mod words;

pub(crate) use numbers::luhn;
pub use stream::Stream;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An e-mail address (RFC 5321, without quoted local parts).
    Email,
    /// The number of a payment card (ISO/IEC 7812): 12 to 19 digits, in groups or not, with Luhn's check digit.
    Card,
    /// An international bank account number (ISO 13616), in groups or not, with remainder 1 modulo 97.
    Iban,
    /// A US social security or taxpayer number, written `123-45-6789`.
    Ssn,
    /// A telephone number in international form (E.164), `+` first.
    Phone,
    /// A JSON Web Token (RFC 7519) in compact form.
    Jwt,
    /// A PEM block (RFC 7468), to its end or to the end of the text.
    Pem,
    /// A key of a cloud or a service that has a known prefix.
    CloudKey,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Email,
        Self::Card,
        Self::Iban,
        Self::Ssn,
        Self::Phone,
        Self::Jwt,
        Self::Pem,
        Self::CloudKey,
    ];

    /// The first one at or behind `from`.
    fn find(self, text: &[u8], from: usize) -> Option<Range<usize>> {
        match self {
            Self::Email => {
                let mut from = from;
                // What stands for an address is none.
                loop {
                    let found = words::email(text, from)?;
                    if !text.get(found.clone())?.ends_with(crate::mask::token::DOMAIN) {
                        return Some(found);
                    }
                    from = found.end;
                }
            }
            Self::Card => numbers::card(text, from),
            Self::Iban => numbers::iban(text, from),
            Self::Ssn => numbers::ssn(text, from),
            Self::Phone => numbers::phone(text, from),
            Self::Jwt => secrets::jwt(text, from),
            Self::Pem => secrets::pem(text, from),
            Self::CloudKey => secrets::cloud_key(text, from),
        }
    }
}

/// One thing to look for, and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detector {
    /// What is looked for.
    pub kind: Kind,
    /// What becomes of it.
    pub mask: Mask,
}

/// Several detectors that look through a text together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detectors(Vec<Detector>);

impl Detectors {
    /// Puts detectors together; of two for one kind the stricter mask holds.
    pub fn new(detectors: Vec<Detector>) -> Self {
        let mut one_each: Vec<Detector> = Vec::new();
        for detector in detectors {
            match one_each.iter_mut().find(|known| known.kind == detector.kind) {
                Some(known) => known.mask = known.mask.strictest(detector.mask),
                None => one_each.push(detector),
            }
        }
        Self(one_each)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether something is found.
    pub fn finds(&self, text: &[u8]) -> bool {
        self.0
            .iter()
            .any(|detector| detector.kind.find(text, 0).is_some())
    }

    /// Those of a resource's rules whose tags are hidden.
    pub fn of(rules: &[DetectRule], is_hidden: impl Fn(&str) -> bool) -> Self {
        let hidden = rules.iter().filter(|rule| is_hidden(&rule.tag));
        let of = |rule: &DetectRule| {
            let mask = rule.mask;
            let kinds = rule.find.clone();
            kinds.into_iter().map(move |kind| Detector { kind, mask })
        };
        Self::new(hidden.flat_map(of).collect())
    }

    /// Appends the text with what is found masked. `false`: nothing is found, and nothing is appended.
    pub fn rewrite(&self, text: &[u8], key: &MaskKey, out: &mut BytesMut) -> bool {
        let (mut copied, mut any) = (0, false);
        self.each(text, |_, mask, found| {
            any = true;
            out.extend_from_slice(text.get(copied..found.start).unwrap_or_default());
            mask.text(text.get(found.clone()).unwrap_or_default(), key, out);
            copied = found.end;
        });
        if any {
            out.extend_from_slice(text.get(copied..).unwrap_or_default());
        }
        any
    }

    /// Whether this is looked for.
    fn has(&self, kind: Kind) -> bool {
        self.0.iter().any(|detector| detector.kind == kind)
    }

    /// Tells what is found, in the order of the text; none overlaps another.
    fn each(&self, text: &[u8], mut tell: impl FnMut(Kind, Mask, Range<usize>)) {
        let mut next: [Option<Range<usize>>; Kind::ALL.len()] = Default::default();
        for (detector, next) in self.0.iter().zip(&mut next) {
            *next = detector.kind.find(text, 0);
        }
        // The first of all; of several at one place the longest.
        while let Some((detector, found)) = self
            .0
            .iter()
            .zip(&next)
            .filter_map(|(detector, next)| Some((*detector, next.clone()?)))
            .min_by_key(|(_, found)| (found.start, usize::MAX.saturating_sub(found.end)))
        {
            let copied = found.end;
            tell(detector.kind, detector.mask, found);
            for (detector, next) in self.0.iter().zip(&mut next) {
                if next.as_ref().is_some_and(|next| next.start < copied) {
                    *next = detector.kind.find(text, copied);
                }
            }
        }
    }
}

/// A text without what is no UTF-8 in it, in whose place NULs stand; `None`: it is no text, since it has NULs, or more than one in
/// eight of its bytes is no UTF-8.
pub fn legible(bytes: &[u8]) -> Option<std::borrow::Cow<'_, [u8]>> {
    if bytes.contains(&0) {
        return None;
    }
    if std::str::from_utf8(bytes).is_ok() {
        return Some(bytes.into());
    }
    let (mut text, mut invalid) = (Vec::with_capacity(bytes.len()), 0_usize);
    for chunk in bytes.utf8_chunks() {
        text.extend_from_slice(chunk.valid().as_bytes());
        invalid = invalid.saturating_add(chunk.invalid().len());
        text.extend(chunk.invalid().iter().map(|_| 0));
    }
    (invalid.saturating_mul(8) <= bytes.len()).then_some(text.into())
}

/// Whether a text is one e-mail address and nothing else.
pub(crate) fn is_email(text: &[u8]) -> bool {
    words::email(text, 0) == Some(0..text.len())
}

/// Whether the byte at a place is one of these; none is there before the start and behind the end.
fn is_at(text: &[u8], at: Option<usize>, one: impl Fn(u8) -> bool) -> bool {
    at.and_then(|at| text.get(at)).is_some_and(|&byte| one(byte))
}

/// The end of the run of bytes from `from` for which `keep` holds, of at most `most` bytes.
fn run(text: &[u8], from: usize, most: usize, keep: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    let len = rest.iter().take(most).take_while(|&&byte| keep(byte)).count();
    from.saturating_add(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mask: Mask) -> Detectors {
        Detectors::new(Kind::ALL.map(|kind| Detector { kind, mask }).to_vec())
    }

    fn rewritten(text: &str) -> Option<String> {
        let mut out = BytesMut::new();
        let any = all(Mask::Redact).rewrite(text.as_bytes(), &MaskKey::new(&[7; 32]), &mut out);
        any.then(|| String::from_utf8(out.to_vec()).unwrap())
    }

    #[test]
    fn what_is_found_is_replaced_where_it_stands() {
        for (text, expected) in [
            (
                "write to <Heron.x+1@mail-fort.co.test>, or not",
                "write to <[redacted]>, or not",
            ),
            ("a@b.de,c@d.de", "[redacted],[redacted]"),
            ("card 4929 1234 5670 0038 ok", "card [redacted] ok"),
            ("4111-1111-1111-1111", "[redacted]"),
            ("ids 12, 4111111111111111, 34", "ids 12, [redacted], 34"),
            ("pay DE89 3704 0044 0532 0130 00 now", "pay [redacted] now"),
            ("GB82WEST12345698765432.", "[redacted]."),
            ("ssn 917-46-0001;", "ssn [redacted];"),
            ("call +44 7700 900123 today", "call [redacted] today"),
            ("call +1 (555) 010-9999.", "call [redacted]."),
            (
                "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl rest",
                "Bearer [redacted] rest",
            ),
            (
                "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\nx",
                "[redacted]\nx",
            ),
            ("-----BEGIN EC PRIVATE KEY-----\ncut short", "[redacted]"),
            ("id=AKIAIOSFODNN7EXAMPLE!", "id=[redacted]!"),
            ("ghp_0123456789abcdefghijABCDEFGHIJ012345 x", "[redacted] x"),
        ] {
            assert_eq!(rewritten(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn ordinary_texts_pass() {
        for text in [
            "",
            "a @ b",
            "abc@def.token.invalid",
            "user@localhost",
            "@handle and x@",
            "4111111111111112",
            "1234567890123456789012345",
            "order 2024-01-15 10:00:00",
            "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
            "DE89370400440532013001",
            "000-12-3456",
            "123-45-67890",
            "1+1 = 2, +5",
            "eyJ",
            "AKIA",
            "0123456789abcdef0123456789abcdef",
            "-----BEGIN",
            "550e8400-e29b-41d4-a716-446655440000",
        ] {
            assert_eq!(rewritten(text), None, "{text}");
        }
    }

    #[test]
    fn a_part_may_be_left_of_what_is_found() {
        let detectors = Detectors::new(vec![Detector {
            kind: Kind::Card,
            mask: Mask::Partial,
        }]);
        let mut out = BytesMut::new();
        assert!(detectors.rewrite(b"x 4929123456700038 y", &MaskKey::new(&[7; 32]), &mut out));
        assert_eq!(&out[..], b"x ****0038 y");
    }

    /// Whatever the text: what is found is taken out in time that grows with it, and stays within it.
    #[test]
    fn hostile_texts_take_no_longer() {
        for piece in [
            "@",
            "a@",
            "1 ",
            "1-",
            "+1",
            "eyJ.",
            "eyJa.eyJa",
            "-----BEGIN A",
            "DE89",
            "D E",
            "AKIA",
            "a.",
            "1",
        ] {
            let text = piece.repeat(200_000);
            let began = std::time::Instant::now();
            let mut out = BytesMut::new();
            all(Mask::Redact).rewrite(text.as_bytes(), &MaskKey::new(&[7; 32]), &mut out);
            assert!(began.elapsed().as_secs() < 5, "{piece}: {:?}", began.elapsed());
        }
    }
}
