//! The wire format as two other implementations read it: what is accepted here they read alike, and what is refused here
//! and accepted there has a reason.
//!
//! Their readers are looser: they put replacement characters for what is no UTF-8, pass over what follows a message, and
//! panic on some short bodies. A message is read alike if it is written again with the same bytes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a test"
)]

#[path = "pair/mod.rs"]
mod pair;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use pair::play::Dice;
use pgwire::messages::{DecodeContext, PgWireBackendMessage, PgWireFrontendMessage, ProtocolVersion};
use postgres_protocol::message::backend as other;
use proto_postgres::wire::{backend, frontend};

/// What another implementation makes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Theirs {
    /// It reads it whole, and writes the same bytes again.
    Alike,
    /// It reads something else.
    Otherwise,
    Refused,
    Panicked,
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Their panics are expected, and not shown.
fn quietly<T>(read: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let shown = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                shown(panic);
            }
        }));
    });
    QUIET.set(true);
    let read = catch_unwind(AssertUnwindSafe(read)).ok();
    QUIET.set(false);
    read
}

fn context(version: ProtocolVersion) -> DecodeContext {
    let mut context = DecodeContext::new(version);
    context.awaiting_frontend_ssl = false;
    context.awaiting_frontend_startup = false;
    context
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag], &len[..], body].concat()
}

/// What pgwire makes of a frame.
fn pgwire(client: bool, frame: &[u8]) -> Theirs {
    let versions = [ProtocolVersion::PROTOCOL3_0, ProtocolVersion::PROTOCOL3_2];
    let tries = versions.map(|version| {
        let read = quietly(|| {
            let context = context(version);
            let mut input = BytesMut::from(frame);
            let mut out = BytesMut::new();
            let read = if client {
                let message = PgWireFrontendMessage::decode(&mut input, &context).ok()??;
                message.encode(&mut out)
            } else {
                let message = PgWireBackendMessage::decode(&mut input, &context).ok()??;
                message.encode(&mut out)
            };
            read.ok().map(|()| input.is_empty() && out == frame)
        });
        match read {
            Some(Some(true)) => Theirs::Alike,
            Some(Some(false)) => Theirs::Otherwise,
            Some(None) => Theirs::Refused,
            None => Theirs::Panicked,
        }
    });
    tries.into_iter().min().unwrap()
}

fn seeds(client: bool) -> Vec<(u8, Vec<u8>)> {
    let name = if client { "frontend" } else { "backend" };
    let corpus = format!(
        "{}/../fuzz/corpus/{name}",
        std::env::var("CARGO_MANIFEST_DIR").unwrap()
    );
    let mut files: Vec<_> = std::fs::read_dir(corpus)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let read = |file| {
        let bytes = std::fs::read(file).unwrap();
        bytes.split_first().map(|(&tag, body)| (tag, body.to_vec()))
    };
    files.into_iter().filter_map(read).collect()
}

/// A seed with a few bytes changed, so that its lengths and counts are nearly right.
fn changed(dice: &mut Dice, seeds: &[(u8, Vec<u8>)]) -> (u8, Vec<u8>) {
    let (mut tag, mut body) = seeds[dice.roll(seeds.len())].clone();
    for _ in 0..dice.roll(4) {
        let at = dice.roll(body.len() + 1);
        match dice.roll(8) {
            0 => body.truncate(at),
            1 => body.insert(at, 0),
            2 => body.extend_from_slice(&[0, 1, b'x'][..=dice.roll(3)]),
            3 if dice.roll(8) == 0 => tag = seeds[dice.roll(seeds.len())].0,
            4 if at < body.len() => body[at] = [0, 1, 2, 0x7f, 0x80, 0xff][dice.roll(6)],
            5 if at < body.len() => {
                body.remove(at);
            }
            6 if at < body.len() => body[at] = body[at].wrapping_add(1),
            _ if at < body.len() => body[at] = u8::try_from(dice.roll(256)).unwrap(),
            _ => {}
        }
    }
    (tag, body)
}

fn rounds() -> usize {
    let rounds = std::env::var("GATEWAY_FUZZ_ROUNDS").ok();
    rounds.and_then(|n| n.parse().ok()).unwrap_or(20_000)
}

/// Why the same bytes may be read in two ways, as `who reads it: message: what`.
type Reasons = BTreeMap<String, (usize, String)>;

fn note(reasons: &mut Reasons, reason: String, frame: &[u8]) {
    let example = || (0, frame.escape_ascii().to_string());
    reasons.entry(reason).or_insert_with(example).0 += 1;
}

fn compared(client: bool) -> (usize, Reasons) {
    let seeds = seeds(client);
    let mut dice = Dice::new(11);
    let mut reasons = Reasons::new();
    let mut alike = 0;
    for round in 0..rounds() {
        let (tag, body) = match seeds.get(round) {
            Some(seed) => seed.clone(),
            None => changed(&mut dice, &seeds),
        };
        let whole = frame(tag, &body);
        let ours = if client {
            frontend::Message::parse(tag, &body)
                .map(|message| (message.name(), matches!(message, frontend::Message::Unknown(_))))
                .map_err(|error| error.to_string())
        } else {
            backend::Message::parse(tag, &body)
                .map(|message| (message.name(), matches!(message, backend::Message::Unknown(_))))
                .map_err(|error| error.to_string())
        };
        let theirs = pgwire(client, &whole);
        match (ours, theirs) {
            (Ok((_, true)), _) => {}
            (Ok(_), Theirs::Alike) => alike += 1,
            (Ok(_), _) if std::str::from_utf8(&body).is_err() && theirs == Theirs::Otherwise => {}
            (Ok((name, _)), theirs) => note(&mut reasons, format!("accepted, {theirs:?}: {name}"), &whole),
            (Err(error), Theirs::Alike) => {
                note(&mut reasons, format!("refused, {theirs:?}: {error}"), &whole)
            }
            (Err(_), _) => {}
        }
    }
    (alike, reasons)
}

/// Fails where there is a difference that is not listed.
fn assert_listed(client: bool, listed: &[&str]) {
    let (alike, reasons) = compared(client);
    assert!(alike > rounds() / 10, "only {alike} were read by both");
    let unlisted: Vec<_> = reasons
        .iter()
        .filter(|(reason, _)| !listed.contains(&reason.as_str()))
        .collect();
    assert!(unlisted.is_empty(), "{alike} alike; {unlisted:#?}");
}

/// What a server says, read with postgres-protocol, in words.
fn in_their_words(frame: &[u8]) -> Option<String> {
    let mut input = BytesMut::from(frame);
    let message = quietly(|| other::Message::parse(&mut input).ok().flatten())??;
    if !input.is_empty() {
        return None;
    }
    Some(match message {
        other::Message::RowDescription(body) => {
            let field = |field: other::Field<'_>| {
                let sizes = (field.type_size(), field.type_modifier(), field.format());
                let place = (field.table_oid(), field.column_id(), field.type_oid());
                Ok(format!("{:?}{place:?}{sizes:?}", field.name().as_bytes()))
            };
            body.fields().map(field).collect::<Vec<_>>().ok()?.join(",")
        }
        other::Message::DataRow(body) => {
            let value =
                |range: Option<std::ops::Range<usize>>| Ok(range.map(|range| body.buffer()[range].to_vec()));
            let values = quietly(|| body.ranges().map(value).collect::<Vec<_>>().ok())??;
            format!("{values:?}")
        }
        other::Message::ErrorResponse(body) => {
            let field = |field: other::ErrorField<'_>| Ok((field.type_(), field.value_bytes().to_vec()));
            format!("{:?}", body.fields().map(field).collect::<Vec<_>>().ok()?)
        }
        other::Message::ParameterDescription(body) => {
            format!("{:?}", body.parameters().collect::<Vec<_>>().ok()?)
        }
        other::Message::CommandComplete(body) => format!("{:?}", body.tag().ok()?.as_bytes()),
        _ => return None,
    })
}

/// The same, read here.
fn in_our_words(message: &backend::Message<'_>) -> Option<String> {
    Some(match message {
        backend::Message::RowDescription(message) => {
            let field = |field: &backend::FieldDescription<'_>| {
                let sizes = (field.type_size, field.type_modifier, field.format.0);
                let place = (field.table, field.column, field.type_oid);
                format!("{:?}{place:?}{sizes:?}", field.name)
            };
            message.fields.iter().map(field).collect::<Vec<_>>().join(",")
        }
        backend::Message::DataRow(message) => format!("{:?}", message.columns().collect::<Vec<_>>()),
        backend::Message::ErrorResponse(message) => format!("{:?}", message.fields),
        backend::Message::ParameterDescription(message) => format!("{:?}", message.types),
        backend::Message::CommandComplete(message) => format!("{:?}", message.tag),
        _ => return None,
    })
}

#[test]
fn a_targets_messages_are_read_as_postgres_protocol_reads_them() {
    let seeds = seeds(false);
    let mut dice = Dice::new(5);
    let mut alike = 0;
    for round in 0..rounds() {
        let (tag, body) = match seeds.get(round) {
            Some(seed) => seed.clone(),
            None => changed(&mut dice, &seeds),
        };
        let Ok(message) = backend::Message::parse(tag, &body) else {
            continue;
        };
        let whole = frame(tag, &body);
        match (in_our_words(&message), in_their_words(&whole)) {
            (Some(ours), Some(theirs)) => {
                assert_eq!(ours, theirs, "{}", whole.escape_ascii());
                alike += 1;
            }
            (Some(_), None) => assert!(
                std::str::from_utf8(&body).is_err(),
                "refused by them: {}",
                whole.escape_ascii()
            ),
            (None, _) => {}
        }
    }
    assert!(alike > rounds() / 10, "only {alike} were read by both");
}

#[test]
fn a_clients_messages_are_read_as_pgwire_reads_them() {
    assert_listed(
        true,
        &[
            // It does not know the message.
            "accepted, Refused: FunctionCall",
            // It takes any byte for a statement or a portal; the server does not.
            "refused, Alike: malformed Close: target is invalid",
            "refused, Alike: malformed Describe: target is invalid",
        ],
    );
}

#[test]
fn a_targets_messages_are_read_as_pgwire_reads_them() {
    assert_listed(
        false,
        &[
            // It does not know the message.
            "accepted, Refused: FunctionCallResponse",
            // Kinds that the gateway hands on unread: it knows few of them, and what follows none.
            "accepted, Refused: Authentication",
            "accepted, Otherwise: Authentication",
            // It keeps the values of a row unread.
            "refused, Alike: malformed DataRow: bytes follow its end",
            "refused, Alike: malformed DataRow: column count exceeds message",
            "refused, Alike: malformed DataRow: column length exceeds message",
            "refused, Alike: malformed DataRow: column length is negative",
            "refused, Alike: malformed DataRow: message ends inside column length",
            "refused, Alike: malformed DataRow: message ends inside column",
        ],
    );
}
