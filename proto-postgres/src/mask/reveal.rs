//! Tokens that come back: literals and parameters which meet a column whose values the client sees as tokens.
//!
//! Whether a text is a token can be told; of digits, uuids and numbers every value is one. So whoever sees tokens of these
//! speaks in tokens throughout.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use gateway_core::mask::token::Tokens;
use gateway_core::resource::Mask;
use gateway_sql::{Catalog, ColumnId, Given, Matched, StatementAnalysis, parameter_uses, replace_literals};

use super::array::{binary_array, text_elements};
use crate::tags::{Place, TagIndex};
use crate::wire::frontend::Bind;
use crate::wire::{Format, numeric};

/// What kind of value a column has, as far as tokens go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A text.
    Text,
    /// An integer of a type with this largest value.
    Integer(i64),
    /// A numeric.
    Decimal,
    /// A uuid.
    Uuid,
}

/// Something given that may be a token.
#[derive(Debug, Clone)]
pub struct Token {
    /// What is given.
    pub given: Given,
    /// The tag whose token it would be.
    pub tag: String,
    shape: Shape,
    tokens: Arc<Tokens>,
}

/// What in the statements of a text meets columns that become tokens, and nothing else. What is used elsewhere, too, is
/// left as it is: revealed, it would show there.
pub fn tokens_in(
    sql: &str,
    statements: &[StatementAnalysis],
    catalog: &Catalog,
    tags: &TagIndex,
) -> Vec<Token> {
    let mut found: Vec<Token> = Vec::new();
    if !tags.has_tokens() {
        return found;
    }
    let matched = || statements.iter().flat_map(|statement| &statement.matched);
    let mut uses = None;
    for one in matched() {
        let Some(token) = Token::of(one, catalog, tags) else {
            continue;
        };
        let same: Vec<_> = matched()
            .filter(|other| is_same(&one.value, &other.value))
            .collect();
        let alike = same
            .iter()
            .all(|other| Token::of(other, catalog, tags).is_some_and(|other| other.tag == token.tag));
        let alone = match &one.value {
            Given::Literal { .. } => true,
            Given::Parameter { number, .. } => {
                let uses = uses.get_or_insert_with(|| parameter_uses(sql));
                let mut places: Vec<_> = same.iter().map(|other| place(&other.value)).collect();
                places.sort_unstable();
                places.dedup();
                uses.get(number) == Some(&places.len())
            }
        };
        // Code that is not understood may look at the text that it is called from.
        let shown = statements.iter().any(|statement| {
            statement.shows_texts || statement.opaque_call || !statement.opaque_functions.is_empty()
        });
        let text = matches!(one.value, Given::Literal { .. });
        let known = found.iter().any(|known| is_same(&known.given, &one.value));
        if alike && alone && !known && !(text && shown) {
            found.push(token);
        }
    }
    found
}

/// Whether it is the same literal or parameter.
fn is_same(one: &Given, other: &Given) -> bool {
    match (one, other) {
        (Given::Literal { start, .. }, Given::Literal { start: other, .. }) => start == other,
        (Given::Parameter { number, .. }, Given::Parameter { number: other, .. }) => number == other,
        _ => false,
    }
}

fn place(given: &Given) -> usize {
    match given {
        Given::Literal { start, .. } | Given::Parameter { start, .. } => *start,
    }
}

impl Token {
    fn of(matched: &Matched, catalog: &Catalog, tags: &TagIndex) -> Option<Self> {
        matched.columns.iter().find_map(|column| {
            let (rule, _) = tags
                .rules_of(column)
                .find(|(rule, place)| rule.mask == Mask::Token && *place == Place::Whole)?;
            let shape = Shape::of_column(column, catalog)?;
            shape.takes(matched.cast.as_deref()).then_some(())?;
            Some(Token {
                given: matched.value.clone(),
                tag: rule.tag.clone(),
                shape,
                tokens: rule.tokens.clone()?,
            })
        })
    }

    /// Whether a parameter that the client declares to be of this type is one of the column's own kind.
    fn takes_declared(&self, types: &[u32]) -> bool {
        let Given::Parameter { number, .. } = self.given else {
            return true;
        };
        let declared = usize::from(number)
            .checked_sub(1)
            .and_then(|at| types.get(at))
            .copied()
            .unwrap_or(0);
        // Nothing, unknown; then text, varchar and arrays of them; int8, int4; numeric; uuid.
        match self.shape {
            Shape::Text => matches!(declared, 0 | 705 | 25 | 1043 | 1009 | 1015),
            Shape::Integer(_) => matches!(declared, 0 | 705 | 20 | 23),
            Shape::Decimal => matches!(declared, 0 | 705 | 1700),
            Shape::Uuid => matches!(declared, 0 | 705 | 2950),
        }
    }
}

/// The types that a Parse declares, by name, for an EXECUTE of it.
pub fn declared(types: &[u32]) -> Arc<[String]> {
    let name = |oid: &u32| match oid {
        0 | 705 => "",
        25 => "text",
        1043 => "varchar",
        1009 => "_text",
        1015 => "_varchar",
        20 => "int8",
        23 => "int4",
        1700 => "numeric",
        2950 => "uuid",
        _ => "?",
    };
    types.iter().map(|oid| name(oid).to_owned()).collect()
}

/// Those of the tags under which a parameter of types like these may be a token; `None`: none.
pub fn hidden_for(
    found: &[Token],
    types: &[u32],
    hidden: &BTreeSet<String>,
) -> Option<Arc<BTreeSet<String>>> {
    if found.is_empty() {
        return None;
    }
    let mut kept = hidden.clone();
    for token in found.iter().filter(|token| !token.takes_declared(types)) {
        kept.remove(&token.tag);
    }
    (!kept.is_empty()).then(|| Arc::new(kept))
}

/// The text with its tokens revealed, those of these tags alone; `None`: there are none.
pub fn revealed_text(sql: &str, found: &[Token], hidden: &BTreeSet<String>) -> Option<String> {
    let mut values = Vec::new();
    for token in found.iter().filter(|token| hidden.contains(&token.tag)) {
        let Given::Literal { start, value, number } = &token.given else {
            continue;
        };
        if *number && token.shape == Shape::Text {
            continue;
        }
        let mut out = BytesMut::new();
        let known = values.iter().any(|(known, _)| known == start);
        if !known
            && token
                .shape
                .reveal(&token.tokens, value.as_bytes(), false, &mut out)
        {
            values.push((*start, String::from_utf8(out.to_vec()).ok()?));
        }
    }
    if values.is_empty() {
        return None;
    }
    replace_literals(sql, &values)
}

/// The frame of a Bind with its tokens revealed; `None`: there are none.
pub fn revealed_bind(bind: &Bind<'_>, found: &[Token], hidden: &BTreeSet<String>) -> Option<BytesMut> {
    let mut values: Vec<(usize, BytesMut)> = Vec::new();
    for token in found.iter().filter(|token| hidden.contains(&token.tag)) {
        let Given::Parameter { number, .. } = token.given else {
            continue;
        };
        let at = usize::from(number).checked_sub(1)?;
        let known = values.iter().any(|(known, _)| *known == at);
        let Some(Some(value)) = bind.parameters.get(at).filter(|_| !known) else {
            continue;
        };
        let binary = Format::of(&bind.parameter_formats, at) == Some(Format::BINARY);
        let mut out = BytesMut::new();
        if token.shape.reveal(&token.tokens, value, binary, &mut out) {
            values.push((at, out));
        }
    }
    if values.is_empty() {
        return None;
    }
    let mut changed = bind.clone();
    for (at, value) in &values {
        *changed.parameters.get_mut(*at)? = Some(value);
    }
    let mut frame = BytesMut::new();
    changed.encode(&mut frame).ok()?;
    Some(frame)
}

impl Shape {
    /// Whether a value of this kind may be cast to this type without being cut, and without failing for some values.
    fn takes(self, cast: Option<&str>) -> bool {
        let Some(cast) = cast else { return true };
        match self {
            Self::Text => matches!(cast, "text" | "varchar" | "_text" | "_varchar"),
            Self::Integer(most) if most > i64::from(i32::MAX) => cast == "int8",
            Self::Integer(_) => matches!(cast, "int4" | "int8"),
            Self::Decimal => cast == "numeric",
            Self::Uuid => cast == "uuid",
        }
    }

    fn of_column(column: &ColumnId, catalog: &Catalog) -> Option<Self> {
        if !column.path.is_empty() {
            return Some(Self::Text);
        }
        let relation = catalog.relation(&column.schema, &column.table)?;
        let known = relation
            .columns
            .iter()
            .find(|known| known.name == column.column)?;
        let mut name = known.type_name.clone();
        // A domain's values are those of what it is made of; domains of domains are few.
        for _ in 0..16 {
            let Some((schema, own)) = name.split_once('.').filter(|(schema, _)| *schema != "pg_catalog")
            else {
                break;
            };
            name = catalog.user_type(schema, own)?.base.clone()?;
        }
        match name.strip_prefix("pg_catalog.")? {
            "text" | "varchar" | "bpchar" | "name" | "_text" | "_varchar" | "_bpchar" => Some(Self::Text),
            "int4" => Some(Self::Integer(i64::from(i32::MAX))),
            "int8" => Some(Self::Integer(i64::MAX)),
            "numeric" => Some(Self::Decimal),
            "uuid" => Some(Self::Uuid),
            _ => None,
        }
    }

    /// Appends the token of a value that is no text. `false`: it has none; what was appended is worth nothing.
    pub(super) fn hide(self, tokens: &Tokens, value: &[u8], binary: bool, out: &mut BytesMut) -> bool {
        self.turn(value, binary, out, |value| match (self, value) {
            (Self::Integer(most), Value::Integer(number)) => tokens.integer(number, most).map(Value::Integer),
            (Self::Uuid, Value::Uuid(uuid)) => tokens.uuid(uuid).map(Value::Uuid),
            (Self::Decimal, Value::Decimal(text)) => {
                let mut room = BytesMut::new();
                let there = tokens.decimal(text.as_bytes(), &mut room);
                there
                    .then(|| String::from_utf8(room.to_vec()).ok())
                    .flatten()
                    .map(Value::Decimal)
            }
            _ => None,
        })
    }

    /// Appends the value that a token stands for. `false`: it is none, and nothing is appended.
    fn reveal(self, tokens: &Tokens, token: &[u8], binary: bool, out: &mut BytesMut) -> bool {
        let start = out.len();
        let done = match self {
            Self::Text => reveal_texts(tokens, token, binary, out),
            _ => self.turn(token, binary, out, |value| match (self, value) {
                (Self::Integer(most), Value::Integer(number)) => {
                    tokens.reveal_integer(number, most).map(Value::Integer)
                }
                (Self::Uuid, Value::Uuid(uuid)) => tokens.reveal_uuid(uuid).map(Value::Uuid),
                (Self::Decimal, Value::Decimal(text)) => {
                    let mut room = BytesMut::new();
                    let there = tokens.reveal_decimal(text.as_bytes(), &mut room);
                    there
                        .then(|| String::from_utf8(room.to_vec()).ok())
                        .flatten()
                        .map(Value::Decimal)
                }
                _ => None,
            }),
        };
        if !done {
            out.truncate(start);
        }
        done
    }

    /// Reads a value, turns it, and writes it again in its format.
    fn turn(
        self,
        value: &[u8],
        binary: bool,
        out: &mut BytesMut,
        turn: impl FnOnce(Value) -> Option<Value>,
    ) -> bool {
        let read = if binary {
            self.read_binary(value)
        } else {
            std::str::from_utf8(value)
                .ok()
                .and_then(|text| self.read_text(text.trim()))
        };
        match read.and_then(turn) {
            Some(Value::Integer(number)) if binary => {
                let bytes = number.to_be_bytes();
                let fits = value.len() == 8 || i32::try_from(number).is_ok();
                out.extend_from_slice(
                    bytes
                        .get(8_usize.saturating_sub(value.len())..)
                        .unwrap_or_default(),
                );
                fits
            }
            Some(Value::Integer(number)) => {
                out.extend_from_slice(number.to_string().as_bytes());
                true
            }
            Some(Value::Uuid(uuid)) if binary => {
                out.extend_from_slice(&uuid);
                true
            }
            Some(Value::Uuid(uuid)) => {
                for (at, byte) in uuid.iter().enumerate() {
                    if matches!(at, 4 | 6 | 8 | 10) {
                        out.put_u8(b'-');
                    }
                    out.extend_from_slice(format!("{byte:02x}").as_bytes());
                }
                true
            }
            Some(Value::Decimal(text)) if binary => numeric::from_text(&text, out),
            Some(Value::Decimal(text)) => {
                out.extend_from_slice(text.as_bytes());
                true
            }
            None => false,
        }
    }

    fn read_binary(self, value: &[u8]) -> Option<Value> {
        match (self, value.len()) {
            (Self::Integer(_), 4) => {
                let number = i32::from_be_bytes(*value.first_chunk()?);
                Some(Value::Integer(i64::from(number)))
            }
            (Self::Integer(_), 8) => Some(Value::Integer(i64::from_be_bytes(*value.first_chunk()?))),
            (Self::Uuid, 16) => Some(Value::Uuid(*value.first_chunk()?)),
            (Self::Decimal, _) => numeric::to_text(value).map(Value::Decimal),
            _ => None,
        }
    }

    fn read_text(self, text: &str) -> Option<Value> {
        match self {
            Self::Integer(_) => text.parse().ok().map(Value::Integer),
            Self::Decimal => Some(Value::Decimal(text.to_owned())),
            Self::Uuid => {
                // With hyphens anywhere, in braces, in any case, as the server reads them.
                let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
                let others = text.bytes().filter(|byte| !byte.is_ascii_hexdigit());
                if digits.len() != 32 || !others.into_iter().all(|byte| b"-{}".contains(&byte)) {
                    return None;
                }
                let mut uuid = [0; 16];
                for (byte, pair) in uuid.iter_mut().zip(digits.chunks(2)) {
                    *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
                }
                Some(Value::Uuid(uuid))
            }
            Self::Text => None,
        }
    }
}

/// A value that is no text.
enum Value {
    Integer(i64),
    Decimal(String),
    Uuid([u8; 16]),
}

/// A text, or an array of texts.
fn reveal_texts(tokens: &Tokens, given: &[u8], binary: bool, out: &mut BytesMut) -> bool {
    if tokens.reveal_text(given, out) {
        return true;
    }
    let any = std::cell::Cell::new(false);
    let one = |item: &[u8], out: &mut BytesMut| {
        if tokens.reveal_text(item, out) {
            any.set(true);
        } else {
            out.extend_from_slice(item);
        }
        true
    };
    let whole = if binary {
        // text, varchar, bpchar
        let element = given.get(8..).and_then(|rest| rest.first_chunk::<4>());
        let element = element.map(|bytes| u32::from_be_bytes(*bytes));
        match element.filter(|oid| matches!(oid, 25 | 1043 | 1042)) {
            Some(element) if given.starts_with(&[0, 0, 0]) => binary_array(element, given, out, one),
            _ => false,
        }
    } else {
        given.starts_with(b"{") && text_elements(given, out, one).is_some()
    };
    whole && any.get()
}
