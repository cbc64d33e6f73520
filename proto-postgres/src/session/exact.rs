//! What an approval binds beside a statement's text and the parameters as people see them.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use gateway_core::audit::Parameter;
use gateway_core::machine::{Bound, Estimate};
use gateway_sql::StatementKind;

use super::client::{KEPT_PARAMETER, text_value};
use super::names::Described;
use super::text::ClientEncoding;
use super::{Message, Session};
use crate::analyzed::Analyzed;
use crate::estimate::Asked;
use crate::wire::Format;
use crate::wire::frontend::Bind;
use crate::wire::value::text_of;

/// Names of one session that an approver is shown, and the longest text of one.
const SHOWN_NAMES: usize = 8;
const SHOWN_TEXT: usize = 16 * 1024;

/// What the parameters of a portal as people see them do not tell of the bytes that the server got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exact {
    /// Which of the first 64 came in the binary format.
    binary: u64,
    /// Where texts are not read as UTF-8, or are none.
    odd: Option<Box<Odd>>,
    /// The types that the statement's Parse has declared.
    types: Option<Arc<[u32]>>,
    /// Those that the server has described; for people alone.
    described: Option<Described>,
    /// Of the exact values, where one was cut or is no UTF-8, or there are too many to count their formats.
    digest: Option<Box<[u8; 32]>>,
}

/// Texts that are not read as UTF-8, or are none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Odd {
    /// How the server read them.
    encoding: ClientEncoding,
    /// Which of the first 64 came as text and are none in the encoding.
    no_text: u64,
}

impl Exact {
    /// Of a Bind whose parameters tell all.
    pub(crate) fn plain(types: Option<Arc<[u32]>>, described: Option<Described>) -> Self {
        Self {
            binary: 0,
            odd: None,
            types,
            described,
            digest: None,
        }
    }

    /// Of a Bind, to a statement whose Parse has declared `types`.
    pub(crate) fn of(
        bind: &Bind<'_>,
        types: Option<Arc<[u32]>>,
        described: Option<Described>,
        encoding: ClientEncoding,
    ) -> Self {
        let utf8 = matches!(encoding, ClientEncoding::Utf8);
        let (mut binary, mut no_text, mut inexact) = (0_u64, 0_u64, false);
        for (place, value) in bind.parameters.iter().enumerate() {
            let text = Format::of(&bind.parameter_formats, place) == Some(Format::TEXT);
            if !text {
                match bit(place) {
                    Some(bit) => binary |= bit,
                    None => inexact = true,
                }
            }
            if let Some(value) = value {
                inexact |= value.len() > KEPT_PARAMETER;
                // ASCII is itself everywhere.
                if text && !value.is_ascii() && (!utf8 || std::str::from_utf8(value).is_err()) {
                    // Different bytes can be one text, or none.
                    inexact = true;
                    let kept = value.get(..KEPT_PARAMETER).unwrap_or(value);
                    if text_value(kept, encoding).is_none() {
                        no_text |= bit(place).unwrap_or_default();
                    }
                }
            }
        }
        Self {
            binary,
            odd: (!utf8 || no_text != 0).then(|| Box::new(Odd { encoding, no_text })),
            types,
            described,
            digest: inexact.then(|| Box::new(digest(bind))),
        }
    }

    /// The values as they were sent, from how they are shown; `None` where that does not tell all of them.
    fn values(&self, shown: &[Parameter]) -> Option<Vec<(Format, Option<Vec<u8>>)>> {
        if self.digest.is_some() {
            return None;
        }
        let value = |(place, shown): (usize, &Parameter)| {
            let Some(shown) = shown else {
                return Some((Format::TEXT, None));
            };
            if !self.is_binary(place) {
                return Some((Format::TEXT, Some(shown.as_bytes().to_vec())));
            }
            Some((Format::BINARY, Some(bytes(shown)?)))
        };
        shown.iter().enumerate().map(value).collect()
    }

    fn is_binary(&self, place: usize) -> bool {
        is_set(self.binary, place)
    }

    /// The parameters as an approver reads them: binary values as such, where their types are known. `\x` and hex digits are
    /// bytes; a value that begins with a backslash itself has another one before it, so that none looks like the other.
    fn readable(&self, shown: &[Parameter]) -> Vec<Parameter> {
        let declared = self.types.as_deref().unwrap_or_default();
        let described = self.described.as_ref().and_then(|types| types.get());
        let readable = |(place, shown): (usize, &Parameter)| {
            let text = shown.as_ref()?;
            if is_set(self.odd.as_ref().map_or(0, |odd| odd.no_text), place) {
                return Some(text.clone());
            }
            if !self.is_binary(place) {
                return Some(escaped(text));
            }
            // A type of 0 is for the server to find.
            let oid = declared.get(place).copied().filter(|oid| *oid != 0);
            let oid = oid.or(described.and_then(|types| types.get(place).copied()));
            let encoding = self.odd.as_ref().map_or(ClientEncoding::Utf8, |odd| odd.encoding);
            let value = oid.and_then(|oid| text_of(oid, &bytes(text)?, encoding));
            Some(value.map_or_else(|| text.clone(), |value| escaped(&value)))
        };
        shown.iter().enumerate().map(readable).collect()
    }

    fn write(&self, to: &mut Vec<u8>) {
        if let Some(odd) = &self.odd {
            part(to, format!("{:?}", odd.encoding).as_bytes());
        }
        to.extend_from_slice(&self.binary.to_be_bytes());
        let types = self.types.as_deref().unwrap_or_default();
        part(
            to,
            &types
                .iter()
                .flat_map(|oid| oid.to_be_bytes())
                .collect::<Vec<u8>>(),
        );
        part(to, self.digest.as_ref().map_or(&[][..], |digest| &digest[..]));
    }
}

fn bit(place: usize) -> Option<u64> {
    u32::try_from(place)
        .ok()
        .and_then(|place| 1_u64.checked_shl(place))
}

fn is_set(bits: u64, place: usize) -> bool {
    let bits = u32::try_from(place)
        .ok()
        .and_then(|place| bits.checked_shr(place));
    bits.unwrap_or_default() & 1 == 1
}

fn escaped(text: &str) -> String {
    if text.starts_with('\\') {
        format!("\\{text}")
    } else {
        text.to_owned()
    }
}

/// The bytes that are shown as `\x` and hex digits; `None`: it was cut.
fn bytes(shown: &str) -> Option<Vec<u8>> {
    let digits = shown.strip_prefix("\\x")?.as_bytes();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

fn digest(bind: &Bind<'_>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for (place, value) in bind.parameters.iter().enumerate() {
        let text = Format::of(&bind.parameter_formats, place) == Some(Format::TEXT);
        context.update(&[u8::from(text), u8::from(value.is_some())]);
        let value = value.unwrap_or_default();
        context.update(&u64::try_from(value.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(value);
    }
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    bytes
}

/// Appends bytes with their length before them.
fn part(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend_from_slice(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
    to.extend_from_slice(bytes);
}

impl Session {
    /// See [`gateway_core::machine::ProtocolSession::bound`].
    pub(crate) fn bound_of(&self, message: &Message) -> Bound {
        let mut exact = Vec::new();
        // What a text means hangs on these.
        for schema in &self.state.search_path {
            part(&mut exact, schema.as_bytes());
        }
        part(&mut exact, self.state.current_user.as_bytes());
        exact.push(u8::from(self.state.standard_conforming_strings));
        for setting in &self.reads_times {
            part(&mut exact, setting.as_bytes());
        }
        let (mut stands_for, mut parameters) = (Vec::new(), None);
        let analyzed = match message {
            Message::Query { analyzed, .. } => analyzed.as_ref(),
            Message::Execute { portal, analyzed, .. } => {
                match self.names.portal(portal) {
                    Some(known) => {
                        // Parameters come in the client's encoding.
                        part(&mut exact, format!("{:?}", self.encoding).as_bytes());
                        known.exact.write(&mut exact);
                        parameters = Some(known.exact.readable(&known.parameters));
                    }
                    // A cursor's own portal.
                    None => part(&mut exact, portal.as_bytes()),
                }
                analyzed.as_ref()
            }
            Message::FunctionCall { frame, .. } => {
                part(&mut exact, frame);
                None
            }
            // These prepare, and what prepares is not held.
            Message::Parse { .. } | Message::Bind { .. } | Message::Improper(_) => None,
        };
        if let Some(analyzed) = analyzed {
            if self.is_of_this_session(analyzed) {
                // In another session, or later in this one, the same text may do something else: an approval of it is for
                // this one message. Both stay the same while it waits.
                part(&mut exact, self.settings.nonce.as_bytes());
                exact.extend_from_slice(&self.run.to_be_bytes());
                stands_for = self.prepared_in(analyzed.sql());
            } else if analyzed
                .operations
                .list()
                .iter()
                .any(|o| o.action.as_str() == "temp")
            {
                part(&mut exact, self.settings.nonce.as_bytes());
            }
        }
        Bound {
            exact,
            parameters,
            stands_for,
            estimate: self.estimate_of(message),
        }
    }

    /// How many rows it would touch, to be asked of the target. `None`: the answer would not be of this statement as this
    /// session runs it, or planning it might run code of others.
    fn estimate_of(&self, message: &Message) -> Option<Estimate> {
        let estimator = self.estimator.as_ref()?;
        let (analyzed, portal) = match message {
            Message::Query { analyzed, .. } => (analyzed.as_ref()?, None),
            Message::Execute { portal, analyzed, .. } => {
                (analyzed.as_ref()?, Some(self.names.portal(portal)?))
            }
            _ => return None,
        };
        // What is this session's alone is not there on another connection.
        let own = self.defined || self.touched || self.private.is_some() || !self.state.temp.is_empty();
        if own || !crate::estimate::is_plain(analyzed, self.structure.as_ref()?) {
            return None;
        }
        let (mut types, mut parameters) = (Vec::new(), Vec::new());
        if let Some(portal) = portal.filter(|portal| !portal.parameters.is_empty()) {
            if self.encoding != ClientEncoding::Utf8 {
                return None;
            }
            types = portal
                .exact
                .types
                .iter()
                .flat_map(|all| all.iter().copied())
                .collect();
            parameters = portal.exact.values(&portal.parameters)?;
        }
        Some(estimator.estimate(Asked {
            sql: analyzed.sql().clone(),
            writes: analyzed.writes,
            search_path: self.state.search_path.clone(),
            standard_conforming_strings: self.state.standard_conforming_strings,
            types,
            parameters,
        }))
    }

    /// Whether it names prepared statements or cursors.
    fn is_of_this_session(&self, analyzed: &Analyzed) -> bool {
        let named = analyzed
            .statements
            .iter()
            .any(|s| s.of_session || matches!(s.kind, StatementKind::Execute | StatementKind::Fetch));
        // UPDATE ... WHERE CURRENT OF a cursor.
        named || !self.state.cursors.is_empty() && analyzed.sql().to_ascii_lowercase().contains("current")
    }

    /// The prepared statements whose names stand in a text, for whoever must know what it does.
    fn prepared_in(&self, text: &str) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = self
            .state
            .prepared
            .iter()
            .filter(|(name, _)| !name.is_empty() && text.to_lowercase().contains(&name.to_lowercase()))
            .map(|(name, prepared)| {
                let mut sql = prepared.sql.to_string();
                gateway_core::operation::truncate(&mut sql, SHOWN_TEXT);
                (name.clone(), sql)
            })
            .collect();
        found.sort();
        found.truncate(SHOWN_NAMES);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind<'a>(formats: &[i16], values: Vec<Option<&'a [u8]>>) -> Bind<'a> {
        Bind {
            portal: b"",
            statement: b"",
            parameter_formats: formats.iter().map(|code| Format(*code)).collect(),
            parameters: values,
            result_formats: Vec::new(),
        }
    }

    #[test]
    fn values_that_people_see_alike_are_told_apart() {
        let of = |bind: &Bind<'_>| Exact::of(bind, None, None, ClientEncoding::Utf8);
        // Text `\\x31` and the byte 0x31 are both shown as `\\x31`.
        let text = bind(&[0], vec![Some(b"\\x31")]);
        let binary = bind(&[1], vec![Some(b"1")]);
        assert_ne!(of(&text), of(&binary));
        // Both are cut at the same place, and as long.
        let long = |last: u8| [vec![b'x'; KEPT_PARAMETER], vec![last]].concat();
        let (one, other) = (long(b'a'), long(b'b'));
        assert_ne!(
            of(&bind(&[], vec![Some(&one)])),
            of(&bind(&[], vec![Some(&other)]))
        );
        assert_ne!(
            of(&bind(&[], vec![Some(b"\xff")])),
            of(&bind(&[], vec![Some(b"\xfe")]))
        );
        // The seventieth of many in another format.
        let many = |format: i16| {
            let formats: Vec<i16> = (0..70).map(|n| if n == 69 { format } else { 0 }).collect();
            of(&bind(&formats, vec![Some(b"1"); 70]))
        };
        assert_ne!(many(0), many(1));
        let plain = bind(&[], vec![Some("é".as_bytes()), None]);
        assert!(super::super::client::parameters(&plain, ClientEncoding::Utf8).1);
        assert_eq!(of(&plain), Exact::plain(None, None));
        for other in [
            bind(&[1], vec![None]),
            bind(&[], vec![Some(b"\xff")]),
            bind(&[], vec![Some(&long(b'a'))]),
        ] {
            assert!(!super::super::client::parameters(&other, ClientEncoding::Utf8).1);
        }
        // What is shown exactly costs no digest.
        assert!(of(&bind(&[0, 1], vec![Some(b"a"), None])).digest.is_none());
        let typed = Exact::of(&text, Some(Arc::from([25_u32])), None, ClientEncoding::Utf8);
        assert_ne!(typed, of(&text));
    }

    #[test]
    fn people_read_what_the_server_reads_whatever_the_encoding() {
        let latin = ClientEncoding::from_name("LATIN1").unwrap();
        let read = |bind: &Bind<'_>, types: &[u32], encoding| {
            let exact = Exact::of(bind, Some(Arc::from(types)), None, encoding);
            exact.readable(&super::super::client::parameters(bind, encoding).0)
        };
        // The bytes of a UTF-8 character are two characters of LATIN1, in both formats.
        let bytes = b"A\xc3\xa4";
        let bind = bind(&[0, 1, 1], vec![Some(bytes), Some(bytes), Some(bytes)]);
        let some = |text: &str| Some(text.to_owned());
        let shown = read(&bind, &[25, 25, 17], latin);
        assert_eq!(shown, [some("AÃ¤"), some("AÃ¤"), some("\\x41c3a4")]);
        assert_eq!(
            read(&bind, &[25, 25, 17], ClientEncoding::Utf8)[..2],
            [some("Aä"), some("Aä")]
        );
        let only = ClientEncoding::from_name("EUC_CN").unwrap();
        assert_eq!(read(&bind, &[25, 25, 17], only), vec![some("\\x41c3a4"); 3]);
        // The same bytes under another encoding are another operation.
        let exact = |encoding| Exact::of(&bind, None, None, encoding);
        assert_ne!(exact(latin), exact(ClientEncoding::Utf8));
        assert!(exact(latin).digest.is_some());
    }

    #[test]
    fn people_read_binary_values_by_their_types() {
        let described: Described = Arc::default();
        let seven = 7_i32.to_be_bytes();
        let bind = bind(
            &[1, 1, 1, 0, 1],
            vec![
                Some(&seven),
                Some(b"\xc3\xa9"),
                Some(&seven),
                Some(b"\\x31"),
                None,
            ],
        );
        let types = Some(Arc::from([23_u32, 0, 25, 0, 0]));
        let exact = Exact::of(&bind, types, Some(described.clone()), ClientEncoding::Utf8);
        let (shown, plain) = super::super::client::parameters(&bind, ClientEncoding::Utf8);
        assert!(!plain);
        let some = |text: &str| Some(text.to_owned());
        // The second is not described yet, the third is no text: NUL is in none.
        let read = exact.readable(&shown);
        assert_eq!((read[0].clone(), read[1].clone()), (some("7"), some("\\xc3a9")));
        described.set(vec![23, 25, 25, 25, 25]).unwrap();
        let read = exact.readable(&shown);
        assert_eq!(
            (read[1].clone(), read[3].clone(), read[4].clone()),
            (some("é"), some("\\\\x31"), None)
        );
        // What binds an approval is what was sent, however it is read.
        assert_eq!(
            exact.values(&shown).unwrap()[0],
            (Format::BINARY, Some(seven.to_vec()))
        );
    }
}
