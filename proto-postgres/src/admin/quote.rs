//! Names and texts, written into statements so that they stay names and texts.

/// What can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotQuotable {
    /// PostgreSQL has no such text.
    #[error("it has a NUL character")]
    Nul,
    /// PostgreSQL has no such name.
    #[error("a name is empty")]
    Empty,
    /// PostgreSQL would cut it, and it would be another name.
    #[error("a name is longer than 63 bytes")]
    Long,
}

/// Longest name of a server that was built as usual.
const NAME_BYTES: usize = 63;

/// A name in double quotes.
pub(crate) fn identifier(name: &str) -> Result<String, NotQuotable> {
    if name.is_empty() {
        return Err(NotQuotable::Empty);
    }
    if name.contains('\0') {
        return Err(NotQuotable::Nul);
    }
    if name.len() > NAME_BYTES {
        return Err(NotQuotable::Long);
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

/// Schema and name.
pub(crate) fn qualified(schema: &str, name: &str) -> Result<String, NotQuotable> {
    Ok(format!("{}.{}", identifier(schema)?, identifier(name)?))
}

/// A text in quotes; the same whatever `standard_conforming_strings` is.
pub(crate) fn literal(text: &str) -> Result<String, NotQuotable> {
    if text.contains('\0') {
        return Err(NotQuotable::Nul);
    }
    let quoted = text.replace('\'', "''");
    Ok(if quoted.contains('\\') {
        format!(" E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_a_name() {
        assert_eq!(identifier("t").unwrap(), "\"t\"");
        assert_eq!(
            identifier("a\"; DROP TABLE t; --").unwrap(),
            "\"a\"\"; DROP TABLE t; --\""
        );
        assert_eq!(qualified("Größe", "o'x").unwrap(), "\"Größe\".\"o'x\"");
        let longest = "ü".repeat(31) + "x";
        assert_eq!(longest.len(), NAME_BYTES);
        assert!(identifier(&longest).is_ok());
        assert_eq!(identifier(&"ü".repeat(32)), Err(NotQuotable::Long));
        assert_eq!(identifier(""), Err(NotQuotable::Empty));
        assert_eq!(identifier("a\0b"), Err(NotQuotable::Nul));
    }

    #[test]
    fn a_text_stays_a_text() {
        assert_eq!(literal("it's").unwrap(), "'it''s'");
        assert_eq!(literal("a\\' OR 1").unwrap(), " E'a\\\\'' OR 1'");
        assert_eq!(literal("a\0"), Err(NotQuotable::Nul));
    }
}
