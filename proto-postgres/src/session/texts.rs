//! Texts of the target as the client may see them.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::BytesMut;
use gateway_core::detect::Detectors;
use gateway_core::mask::MaskKey;

use super::withhold::{POSITION, Tagged, withheld};
use crate::wire::backend::field;

/// A field of an error or notice.
type Field<'a> = (u8, Cow<'a, [u8]>);

/// How texts about what runs now are shown.
pub(super) struct Texts {
    /// Whether the principal may not see all tags.
    pub(super) withholds: bool,
    /// How what runs works on tagged data.
    pub(super) tagged: Tagged,
    /// The server has been given texts in which tokens are revealed: a position in one says how long a value is.
    pub(super) revealed: bool,
    /// What is looked for in them.
    pub(super) detect: Option<Arc<Detectors>>,
    /// The key of keyed masks.
    pub(super) key: MaskKey,
}

impl Texts {
    /// The fields of an error or notice where they are not shown as they are.
    pub(super) fn shown<'a>(&self, fields: &[(u8, &'a [u8])]) -> Option<Vec<Field<'a>>> {
        let kept = if self.withholds {
            withheld(fields, self.tagged)
        } else {
            None
        };
        let mut changed = kept.is_some();
        let mut kept = kept.unwrap_or_else(|| fields.to_vec());
        if self.revealed {
            let before = kept.len();
            kept.retain(|(code, _)| *code != POSITION);
            changed |= kept.len() < before;
        }
        let mut shown: Vec<Field<'a>> = Vec::with_capacity(kept.len());
        for (code, text) in kept {
            let mut found = BytesMut::new();
            let detect = self.detect.as_ref().filter(|_| is_free(code));
            if detect.is_some_and(|detect| detect.rewrite(text, &self.key, &mut found)) {
                changed = true;
                shown.push((code, Cow::Owned(found.to_vec())));
            } else {
                shown.push((code, Cow::Borrowed(text)));
            }
        }
        changed.then_some(shown)
    }
}

/// Whether a field is a free text, not a code or a name.
fn is_free(code: u8) -> bool {
    matches!(code, field::MESSAGE | field::DETAIL | field::HINT | b'W' | b'q')
}

/// The same, to be encoded.
pub(super) fn borrowed<'a>(fields: &'a [Field<'_>]) -> Vec<(u8, &'a [u8])> {
    fields.iter().map(|(code, text)| (*code, text.as_ref())).collect()
}
