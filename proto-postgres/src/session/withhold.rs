//! Texts of the target that may carry tagged values though the statement reads none: what triggers and functions say,
//! and the DETAIL of a violated constraint, which quotes the row.

use crate::wire::backend::field;

/// Where the error arose: the calling functions, or the row of a COPY.
const WHERE: u8 = b'W';
/// The server's own function that reported it.
const ROUTINE: u8 = b'R';
/// The query of a function that failed.
const INTERNAL_QUERY: u8 = b'q';

/// What stands in for a text that is withheld.
const WITHHELD: &[u8] = b"text withheld: it comes from a function of the database and may carry tagged data";

/// What stands in for a text about a statement that works on tagged data.
const ABOUT_DATA: &[u8] = b"text withheld: it may quote tagged data; the code tells what happened";

/// The fields as somebody may see them who may not unmask all tags of the resource; `None`: as they are.
/// `touches_tags`: they are about a statement that works on tagged data.
pub(crate) fn withheld<'a>(fields: &[(u8, &'a [u8])], touches_tags: bool) -> Option<Vec<(u8, &'a [u8])>> {
    let get = |wanted: u8| {
        fields
            .iter()
            .find(|(code, _)| *code == wanted)
            .map(|(_, text)| *text)
    };
    let from_function = get(WHERE).is_some_and(|context| !context.starts_with(b"COPY "))
        || get(ROUTINE).is_some_and(|routine| routine == b"exec_stmt_raise");
    if from_function {
        let kept = fields.iter().filter_map(|(code, text)| match *code {
            field::MESSAGE => Some((*code, WITHHELD)),
            field::DETAIL | field::HINT | WHERE | INTERNAL_QUERY => None,
            _ => Some((*code, *text)),
        });
        return Some(kept.collect());
    }
    let class = get(field::CODE).and_then(|code| code.get(..2));
    if touches_tags
        && !matches!(
            class,
            Some(
                b"23" | b"25" | b"26" | b"34" | b"3F" | b"40" | b"42" | b"53" | b"54" | b"55" | b"57" | b"58"
            )
        )
    {
        // Names of the schema, table, column, type and constraint stay: they are structure.
        let kept = fields.iter().filter_map(|(code, text)| match *code {
            field::MESSAGE => Some((*code, ABOUT_DATA)),
            field::DETAIL | field::HINT | WHERE | INTERNAL_QUERY => None,
            _ => Some((*code, *text)),
        });
        return Some(kept.collect());
    }
    let quotes_rows = matches!(class, Some(b"22" | b"23"));
    let detailed = get(field::DETAIL).is_some();
    (quotes_rows && detailed).then(|| {
        fields
            .iter()
            .filter(|(code, _)| *code != field::DETAIL)
            .copied()
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(fields: &[(u8, &[u8])]) -> String {
        fields
            .iter()
            .map(|(_, text)| String::from_utf8_lossy(text).into_owned())
            .collect::<Vec<_>>()
            .join("|")
    }

    #[test]
    fn what_a_trigger_says_is_withheld() {
        let raised: &[(u8, &[u8])] = &[
            (b'C', b"00000"),
            (b'M', b"ticket for u001.heron@mailfort.test"),
            (b'W', b"PL/pgSQL function greet_ticket() line 1 at RAISE"),
            (b'R', b"exec_stmt_raise"),
        ];
        let shown = texts(&withheld(raised, false).unwrap());
        assert!(!shown.contains("heron") && shown.contains("00000"), "{shown}");
    }

    #[test]
    fn the_row_of_a_violated_constraint_is_withheld() {
        let violated: &[(u8, &[u8])] = &[
            (b'C', b"23502"),
            (b'M', b"null value in column \"id\" violates not-null constraint"),
            (b'D', b"Failing row contains (null, 3, t3.osprey@partners.test)."),
        ];
        let shown = texts(&withheld(violated, false).unwrap());
        assert!(!shown.contains("osprey") && shown.contains("not-null"), "{shown}");
    }

    /// The server quotes the value that it could not read.
    #[test]
    fn a_text_about_tagged_data_is_withheld_and_its_code_and_names_stay() {
        let failed: &[(u8, &[u8])] = &[
            (b'C', b"22P02"),
            (
                b'M',
                b"invalid input syntax for type integer: \"u001.heron@mailfort.test\"",
            ),
            (b'n', b"customers_pkey"),
        ];
        let shown = texts(&withheld(failed, true).unwrap());
        assert!(
            !shown.contains("heron") && shown.contains("22P02") && shown.contains("customers_pkey"),
            "{shown}"
        );
        assert!(withheld(failed, false).is_none());
        let unknown: &[(u8, &[u8])] = &[(b'C', b"42P01"), (b'M', b"relation \"x\" does not exist")];
        assert!(withheld(unknown, true).is_none());
    }

    #[test]
    fn other_texts_stay_as_they_are() {
        let copied: &[(u8, &[u8])] = &[
            (b'C', b"22P02"),
            (b'M', b"invalid input syntax"),
            (b'W', b"COPY t, line 1, column a: \"x\""),
        ];
        assert!(withheld(copied, false).is_none());
        let unknown: &[(u8, &[u8])] = &[(b'C', b"42P01"), (b'M', b"no such relation"), (b'D', b"detail")];
        assert!(withheld(unknown, false).is_none());
    }
}
