//! Small values that several messages share.

/// An object identifier of the target's catalogue; 0 means none or unspecified.
pub type Oid = u32;

/// A format code: how a value is represented. Unknown codes survive as values.
///
/// PostgreSQL documentation, Formats and Format Codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Format(pub i16);

impl Format {
    /// Text format, in the client's encoding.
    pub const TEXT: Self = Self(0);
    /// Binary format, in network byte order.
    pub const BINARY: Self = Self(1);

    /// The format of the value at `index` in a list of format codes, as the server reads it: an empty
    /// list is all text, one code is for all values, else one code for each value.
    ///
    /// `None` where a longer list has no code for `index`.
    #[must_use]
    pub fn of(codes: &[Self], index: usize) -> Option<Self> {
        match codes {
            [] => Some(Self::TEXT),
            [one] => Some(*one),
            many => many.get(index).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_the_server_reads_it() {
        assert_eq!(Format::of(&[], 3), Some(Format::TEXT));
        assert_eq!(Format::of(&[Format::BINARY], 3), Some(Format::BINARY));
        assert_eq!(Format::of(&[Format::BINARY, Format::TEXT], 1), Some(Format::TEXT));
        assert_eq!(Format::of(&[Format::BINARY, Format::TEXT], 2), None);
    }
}
