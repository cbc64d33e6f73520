//! Texts of the target that may carry tagged values though the statement reads none: what triggers and functions say,
//! the DETAIL of a violated constraint, which quotes the row, and whatever a statement over tagged data fails with.

use crate::wire::backend::field;

/// Where the error arose: the calling functions, or the row of a COPY.
const WHERE: u8 = b'W';
/// The server's own function that reported it.
const ROUTINE: u8 = b'R';
/// The query of a function that failed, and where in it.
const INTERNAL_QUERY: u8 = b'q';
const INTERNAL_POSITION: u8 = b'p';
/// Where in the client's text the error is.
pub(super) const POSITION: u8 = b'P';

/// What stands in for a text that is withheld.
const WITHHELD: &[u8] = b"text withheld: it comes from a function of the database and may carry tagged data";

/// What stands in for a text about a statement that works on tagged data.
const ABOUT_DATA: &[u8] = b"text withheld: it may quote tagged data; the code tells what happened";

/// How a statement that texts are about works on tagged data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tagged {
    /// Not at all.
    No,
    /// It reads none, and is about a table that has some.
    Touched,
    /// It reads some: what it computes of it may fail.
    Read,
}

/// Whether a message of this code never quotes what a statement has read. Those of class 42 and their like name what the
/// text of the statement names; but a function takes names from values as well (`code::regclass`,
/// `current_setting(code)`), and its errors are of the same classes.
fn is_of_structure(code: &[u8], tagged: Tagged, in_text: bool) -> bool {
    match code.get(..2) {
        Some(b"23" | b"25" | b"26" | b"40" | b"53" | b"57") => true,
        Some(b"34" | b"3F" | b"42" | b"54" | b"55" | b"58") => {
            tagged == Tagged::Touched || in_text && code.starts_with(b"42") || code == b"55P03"
        }
        _ => false,
    }
}

/// The fields as somebody may see them who may not unmask all tags of the resource; `None`: as they are.
pub(crate) fn withheld<'a>(fields: &[(u8, &'a [u8])], tagged: Tagged) -> Option<Vec<(u8, &'a [u8])>> {
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
            // Where in a value that was read as a name.
            INTERNAL_POSITION | POSITION if tagged == Tagged::Read => None,
            _ => Some((*code, *text)),
        });
        return Some(kept.collect());
    }
    let code = get(field::CODE).unwrap_or_default();
    let class = code.get(..2);
    // The server says where in the statement's text an error is when it reads the text, before it reads any value. Of
    // texts that it comes by later it says so in other fields.
    let in_text = get(POSITION).is_some() && get(INTERNAL_QUERY).is_none() && get(WHERE).is_none();
    if tagged != Tagged::No && !is_of_structure(code, tagged, in_text) {
        // Names of the schema, table, column, type and constraint stay: they are structure.
        let kept = fields.iter().filter_map(|(code, text)| match *code {
            field::MESSAGE => Some((*code, ABOUT_DATA)),
            field::DETAIL | field::HINT | WHERE | INTERNAL_QUERY | INTERNAL_POSITION => None,
            _ => Some((*code, *text)),
        });
        return Some(kept.collect());
    }
    // Of memory and space it says how much was wanted.
    let quotes_rows = matches!(class, Some(b"22" | b"23")) || tagged == Tagged::Read && class == Some(b"53");
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
        let shown = texts(&withheld(raised, Tagged::No).unwrap());
        assert!(!shown.contains("heron") && shown.contains("00000"), "{shown}");
    }

    #[test]
    fn the_row_of_a_violated_constraint_is_withheld() {
        let violated: &[(u8, &[u8])] = &[
            (b'C', b"23502"),
            (b'M', b"null value in column \"id\" violates not-null constraint"),
            (b'D', b"Failing row contains (null, 3, t3.osprey@partners.test)."),
        ];
        let shown = texts(&withheld(violated, Tagged::No).unwrap());
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
        let shown = texts(&withheld(failed, Tagged::Touched).unwrap());
        assert!(
            !shown.contains("heron") && shown.contains("22P02") && shown.contains("customers_pkey"),
            "{shown}"
        );
        assert!(withheld(failed, Tagged::No).is_none());
        let unknown: &[(u8, &[u8])] = &[(b'C', b"42P01"), (b'M', b"relation \"x\" does not exist")];
        assert!(withheld(unknown, Tagged::Touched).is_none());
    }

    /// Functions take names from values, and their errors quote them.
    #[test]
    fn a_name_that_a_value_was_taken_for_is_withheld() {
        let places: [&[u8]; 4] = [b"", b"P", b"q", b"W"];
        let [nowhere, in_text, in_query, in_function] = places;
        for (code, place, message, tagged, shown) in [
            // current_setting(code), code::regclass, code::regrole, code::regnamespace
            (
                "42704",
                nowhere,
                "unrecognized configuration parameter",
                Tagged::Read,
                false,
            ),
            ("42P01", nowhere, "relation does not exist", Tagged::Read, false),
            ("3F000", nowhere, "schema does not exist", Tagged::Read, false),
            ("34000", nowhere, "cursor does not exist", Tagged::Read, false),
            ("54000", nowhere, "row is too big", Tagged::Read, false),
            (
                "55000",
                nowhere,
                "currval is not yet defined",
                Tagged::Read,
                false,
            ),
            ("58P01", nowhere, "could not open file", Tagged::Read, false),
            ("55P03", nowhere, "could not obtain lock", Tagged::Read, true),
            ("57014", nowhere, "canceling statement", Tagged::Read, true),
            // What the server finds in the client's own text.
            ("42803", in_text, "must appear in GROUP BY", Tagged::Read, true),
            ("22P02", in_text, "invalid input syntax", Tagged::Read, false),
            // query_to_xml(code, ...), code::regtype
            ("42601", in_query, "syntax error", Tagged::Read, false),
            ("42601", in_function, "syntax error", Tagged::Read, false),
            // ALTER TABLE of one that has tagged columns
            ("42701", nowhere, "column already exists", Tagged::Touched, true),
            (
                "42704",
                nowhere,
                "unrecognized configuration parameter",
                Tagged::No,
                true,
            ),
        ] {
            let mut fields: Vec<(u8, &[u8])> = vec![(b'C', code.as_bytes()), (b'M', message.as_bytes())];
            match place {
                b"P" => fields.push((b'P', b"8")),
                b"q" => fields.extend([(b'q', &b"quokka-001"[..]), (b'p', b"7")]),
                b"W" => fields.extend([(b'W', &b"invalid type name \"quokka-001\""[..]), (b'P', b"7")]),
                _ => {}
            }
            let kept = withheld(&fields, tagged);
            let text = texts(kept.as_deref().unwrap_or(&fields));
            assert_eq!(text.contains(message), shown, "{code} {message}: {text}");
            assert!(text.contains(code) && !text.contains("quokka"), "{text}");
            if !shown {
                assert_eq!(text.contains("|8"), place == b"P", "{text}");
                assert!(!text.ends_with("|7"), "{text}");
            }
        }
    }

    #[test]
    fn other_texts_stay_as_they_are() {
        let copied: &[(u8, &[u8])] = &[
            (b'C', b"22P02"),
            (b'M', b"invalid input syntax"),
            (b'W', b"COPY t, line 1, column a: \"x\""),
        ];
        assert!(withheld(copied, Tagged::No).is_none());
        let unknown: &[(u8, &[u8])] = &[(b'C', b"42P01"), (b'M', b"no such relation"), (b'D', b"detail")];
        assert!(withheld(unknown, Tagged::No).is_none());
    }
}
