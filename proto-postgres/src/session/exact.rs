//! What an approval binds beside a statement's text and the parameters as people see them.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use gateway_core::audit::Parameter;
use gateway_core::machine::{Bound, Estimate};
use gateway_sql::StatementKind;

use super::client::KEPT_PARAMETER;
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exact {
    /// Which of the first 64 came in the binary format.
    binary: u64,
    /// The types that the statement's Parse has declared.
    types: Option<Arc<[u32]>>,
    /// Those that the server has described; for people alone.
    described: Option<Described>,
    /// Of the exact values, where one was cut or is no UTF-8, or there are too many to count their formats.
    digest: Option<[u8; 32]>,
}

impl Exact {
    /// Of a Bind, to a statement whose Parse has declared `types`.
    pub(crate) fn of(bind: &Bind<'_>, types: Option<Arc<[u32]>>, described: Option<Described>) -> Self {
        let (mut binary, mut inexact) = (0_u64, false);
        for (place, value) in bind.parameters.iter().enumerate() {
            let text = Format::of(&bind.parameter_formats, place) == Some(Format::TEXT);
            if !text {
                match u32::try_from(place)
                    .ok()
                    .and_then(|place| 1_u64.checked_shl(place))
                {
                    Some(bit) => binary |= bit,
                    None => inexact = true,
                }
            }
            if let Some(value) = value {
                inexact |= value.len() > KEPT_PARAMETER || text && std::str::from_utf8(value).is_err();
            }
        }
        Self {
            binary,
            types,
            described,
            digest: inexact.then(|| digest(bind)),
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
        let bits = u32::try_from(place)
            .ok()
            .and_then(|place| self.binary.checked_shr(place));
        bits.unwrap_or_default() & 1 == 1
    }

    /// The parameters with binary values as people read them, where their types are known. The trail has the bytes.
    fn readable(&self, shown: &[Parameter]) -> Vec<Parameter> {
        let declared = self.types.as_deref().unwrap_or_default();
        let described = self.described.as_ref().and_then(|types| types.get());
        let readable = |(place, shown): (usize, &Parameter)| {
            let text = shown.as_ref()?;
            if !self.is_binary(place) {
                return Some(text.clone());
            }
            // A type of 0 is for the server to find.
            let oid = declared.get(place).copied().filter(|oid| *oid != 0);
            let oid = oid.or(described.and_then(|types| types.get(place).copied()));
            let value = oid.and_then(|oid| text_of(oid, &bytes(text)?));
            Some(value.unwrap_or_else(|| text.clone()))
        };
        shown.iter().enumerate().map(readable).collect()
    }

    fn write(&self, to: &mut Vec<u8>) {
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
                stands_for = self.prepared_in(&analyzed.sql);
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
            sql: analyzed.sql.clone(),
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
        named || !self.state.cursors.is_empty() && analyzed.sql.to_ascii_lowercase().contains("current")
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
        let of = |bind: &Bind<'_>| Exact::of(bind, None, None);
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
        // What is shown exactly costs no digest.
        assert!(of(&bind(&[0, 1], vec![Some(b"a"), None])).digest.is_none());
        let typed = Exact::of(&text, Some(Arc::from([25_u32])), None);
        assert_ne!(typed, of(&text));
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
        let exact = Exact::of(&bind, types, Some(described.clone()));
        let shown = super::super::client::parameters(&bind);
        let some = |text: &str| Some(text.to_owned());
        // The second is not described yet, the third is no text: NUL is in none.
        let read = exact.readable(&shown);
        assert_eq!((read[0].clone(), read[1].clone()), (some("7"), some("\\xc3a9")));
        described.set(vec![23, 25, 25, 25, 25]).unwrap();
        let read = exact.readable(&shown);
        assert_eq!(
            (read[1].clone(), read[3].clone(), read[4].clone()),
            (some("é"), some("\\x31"), None)
        );
        // What binds an approval is what was sent, however it is read.
        assert_eq!(
            exact.values(&shown).unwrap()[0],
            (Format::BINARY, Some(seven.to_vec()))
        );
    }
}
