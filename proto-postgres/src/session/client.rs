//! What the client sends.

use std::borrow::Cow;
use std::time::Instant;

use bytes::BytesMut;
use gateway_core::audit::Parameter;
use gateway_core::machine::{Fault, Outbound, Parameters, Parsed};

use super::exact::Exact;
use super::names::{Portal, Space};
use super::pending::{Expect, Pending};
use super::text::ClientEncoding;
use super::{Copy, Improper, Message, Session, Wrong, encode_into};
use crate::mask::reveal::revealed_bind;
use crate::structure::CHECK_EVERY;
use crate::wire::frame::{self, HEADER_LEN, SMALL_MESSAGE_LIMIT};
use crate::wire::frontend::{self, Bind, FunctionCall, Target};
use crate::wire::{Format, ParseError};

/// Longest frame that the protocol has room for here: PostgreSQL's own limit of 1 GiB.
const MAX_FRAME: usize = 1 << 30;
/// Answers that the server may owe before a client's next message waits for them.
const MAX_PENDING: usize = 4096;
/// Bytes of one parameter that are kept for the trail; the rest is counted.
pub(super) const KEPT_PARAMETER: usize = 8 * 1024;

fn malformed(error: &ParseError) -> Fault {
    Fault::client(format!("sent a {error}"))
}

impl Session {
    pub(crate) fn parse_client(
        &mut self,
        input: &[u8],
        out: &mut Outbound,
        now: Instant,
    ) -> Result<Parsed<Message>, Fault> {
        if self.pass_client > 0 {
            let n = self.pass_client.min(input.len());
            self.pass_client = self.pass_client.saturating_sub(n);
            return Ok(if n == 0 {
                Parsed::Incomplete
            } else {
                Parsed::Forward(n)
            });
        }
        if self.drop_client > 0 {
            let n = self.drop_client.min(input.len());
            self.drop_client = self.drop_client.saturating_sub(n);
            return Ok(if n == 0 {
                Parsed::Incomplete
            } else {
                Parsed::Consumed(n)
            });
        }
        let header = frame::header(input, MAX_FRAME)
            .map_err(|e| Fault::client(format!("sent a malformed frame: {e}")))?;
        let Some(header) = header else {
            return Ok(Parsed::Incomplete);
        };
        if self.pending.len() >= MAX_PENDING && header.tag != b'X' {
            // What the server owes is remembered, and its own buffers take megabytes of messages of a few bytes each.
            self.flush(out);
            return Ok(Parsed::Blocked);
        }
        if header.tag == b'd' {
            return self.copy_data(input, header.len);
        }
        // What a message has beside what is limited: a text's end; names and types; names and formats.
        let (limit, beside) = match header.tag {
            b'Q' => (self.settings.statement_bytes, 1),
            b'P' => (self.settings.statement_bytes, SMALL_MESSAGE_LIMIT),
            b'B' | b'F' => (self.settings.parameter_bytes, SMALL_MESSAGE_LIMIT),
            _ => (SMALL_MESSAGE_LIMIT, 0),
        };
        if header.len > limit.saturating_add(beside).saturating_add(HEADER_LEN) {
            return self.too_long(header.tag, header.len, limit, input, out);
        }
        let Some(whole) = input.get(..header.len) else {
            return Ok(Parsed::Incomplete);
        };
        let body = whole.get(HEADER_LEN..).unwrap_or_default();
        let message = frontend::Message::parse(header.tag, body).map_err(|e| malformed(&e))?;
        if let frontend::Message::Parse(parse) = &message
            && parse.sql.len() > limit
        {
            return self.too_long(header.tag, header.len, limit, input, out);
        }
        self.message(message, whole, out, now)
    }

    /// CopyData goes through as it comes, however long: its rows are the client's own.
    fn copy_data(&mut self, input: &[u8], len: usize) -> Result<Parsed<Message>, Fault> {
        let there = len.min(input.len());
        let rest = len.saturating_sub(there);
        match self.copy {
            Copy::Active { .. } => {
                self.pass_client = rest;
                Ok(Parsed::Forward(there))
            }
            Copy::Expected => Ok(Parsed::Blocked),
            // After an error the server drops what is still on its way; so do we.
            Copy::None => {
                self.drop_client = rest;
                Ok(Parsed::Consumed(there))
            }
        }
    }

    fn too_long(
        &mut self,
        tag: u8,
        len: usize,
        limit: usize,
        input: &[u8],
        out: &mut Outbound,
    ) -> Result<Parsed<Message>, Fault> {
        if !matches!(tag, b'Q' | b'P' | b'B' | b'F') {
            return Err(Fault::client(format!(
                "sent a message of {len} bytes where {limit} are the most"
            )));
        }
        if matches!(self.copy, Copy::Active { .. }) {
            return Err(Fault::client(
                "sent another message while it had to send COPY data",
            ));
        }
        if self.must_wait(out) {
            return Ok(Parsed::Blocked);
        }
        let there = len.min(input.len());
        self.drop_client = len.saturating_sub(there);
        if self.skipping {
            return Ok(Parsed::Consumed(there));
        }
        let simple = matches!(tag, b'Q' | b'F');
        let message = Message::Improper(Improper {
            what: Wrong::TooLong(limit),
            simple,
        });
        Ok(Parsed::Inspect {
            consumed: there,
            message,
        })
    }

    /// Whether a message that asks something must wait for the server's answers first.
    fn must_wait(&mut self, out: &mut Outbound) -> bool {
        if self.copy == Copy::Expected
            || self.own.is_asking()
            || self.meaning_is_pending()
            || self.meaning_may_revert()
            || self.budget_is_pending()
        {
            self.flush(out);
            return true;
        }
        false
    }

    fn message(
        &mut self,
        message: frontend::Message<'_>,
        whole: &[u8],
        out: &mut Outbound,
        now: Instant,
    ) -> Result<Parsed<Message>, Fault> {
        use frontend::Message as M;
        if let Copy::Active { simple } = self.copy {
            return self.during_copy(&message, whole.len(), simple);
        }
        match message {
            M::Sync(_) => return Ok(self.sync(whole.len(), out)),
            M::Terminate(_) => return Ok(Parsed::Goodbye(whole.len())),
            // Out of place: the server drops them silently, too.
            M::CopyDone(_) | M::CopyFail(_) if self.copy == Copy::None => {
                return Ok(Parsed::Consumed(whole.len()));
            }
            M::Credential(_) => return Err(Fault::client("sent a password outside of the login")),
            M::Unknown(unknown) => {
                return Err(Fault::client(format!(
                    "sent a message of unknown type {:?}",
                    char::from(unknown.tag)
                )));
            }
            _ => {}
        }
        if self.skipping {
            return Ok(Parsed::Consumed(whole.len()));
        }
        if let M::Flush(_) = message {
            self.flushed = true;
            return Ok(Parsed::Forward(whole.len()));
        }
        if self.must_wait(out) {
            return Ok(Parsed::Blocked);
        }
        let consumed = whole.len();
        let simple = matches!(message, M::Query(_) | M::FunctionCall(_));
        let improper = |what| {
            Ok(Parsed::Inspect {
                consumed,
                message: Message::Improper(Improper { what, simple }),
            })
        };
        if !self.names.has_room() && matches!(message, M::Parse(_) | M::Bind(_)) {
            return improper(Wrong::TooManyNames);
        }
        match message {
            M::Query(query) => {
                let Some(sql) = self.decode(query.sql) else {
                    return improper(Wrong::Encoding);
                };
                let message = Message::Query {
                    sql: sql.as_ref().into(),
                    frame: BytesMut::from(whole),
                    arrived: now,
                    refreshed: false,
                    analyzed: None,
                };
                Ok(Parsed::Inspect { consumed, message })
            }
            M::Parse(parse) => {
                let (Some(name), Some(sql)) = (self.decode(parse.statement), self.decode(parse.sql)) else {
                    return improper(Wrong::Encoding);
                };
                if !self.names.is_settled(Space::Statement, &name, self.run) && !name.is_empty() {
                    self.flush(out);
                    return Ok(Parsed::Blocked);
                }
                let types = &parse.parameter_types;
                let types = (!types.is_empty()).then(|| types.as_slice().into());
                let message = Message::Parse {
                    types,
                    name: name.into_owned(),
                    sql: sql.as_ref().into(),
                    frame: BytesMut::from(whole),
                    arrived: now,
                    refreshed: false,
                    analyzed: None,
                };
                Ok(Parsed::Inspect { consumed, message })
            }
            M::Bind(bind) => self.bind(&bind, whole, out, now),
            M::Execute(execute) => {
                let Some(portal) = self.decode(execute.portal) else {
                    return improper(Wrong::Encoding);
                };
                if !self.names.is_settled(Space::Portal, &portal, self.run) {
                    self.flush(out);
                    return Ok(Parsed::Blocked);
                }
                let message = Message::Execute {
                    portal: portal.into_owned(),
                    max_rows: execute.max_rows,
                    held: false,
                    frame: BytesMut::from(whole),
                    analyzed: None,
                };
                Ok(Parsed::Inspect { consumed, message })
            }
            M::Describe(describe) => Ok(self.named(describe.target, describe.name, false, consumed, out)),
            M::Close(close) => Ok(self.named(close.target, close.name, true, consumed, out)),
            M::FunctionCall(call) => {
                let parameters = arguments(&call, self.encoding).into();
                let message = Message::FunctionCall {
                    oid: call.function,
                    parameters,
                    frame: BytesMut::from(whole),
                };
                Ok(Parsed::Inspect { consumed, message })
            }
            // Copy::Expected was dealt with by `must_wait`, the others above.
            M::CopyData(_)
            | M::CopyDone(_)
            | M::CopyFail(_)
            | M::Sync(_)
            | M::Flush(_)
            | M::Terminate(_)
            | M::Credential(_)
            | M::Unknown(_) => Err(Fault::client("sent a message out of place")),
        }
    }

    /// Describe, or Close, of a statement or portal.
    fn named(
        &mut self,
        target: Target,
        name: &[u8],
        close: bool,
        consumed: usize,
        out: &mut Outbound,
    ) -> Parsed<Message> {
        let Some(name) = self.decode(name).map(Cow::into_owned) else {
            let wrong = Improper {
                what: Wrong::Encoding,
                simple: false,
            };
            return Parsed::Inspect {
                consumed,
                message: Message::Improper(wrong),
            };
        };
        if !self.is_settled(target, &name) {
            self.flush(out);
            return Parsed::Blocked;
        }
        if !close {
            let described = match target {
                Target::Statement => self.names.describe(&name),
                Target::Portal => None,
            };
            self.extended(Expect::Describe(described), None);
            return Parsed::Forward(consumed);
        }
        let change = match target {
            Target::Statement => {
                self.state.prepared.remove(&name);
                self.names.set_statement(&name, None, self.run)
            }
            Target::Portal => {
                self.state.cursors.remove(&name);
                self.names.set_portal(&name, None, self.run)
            }
        };
        self.extended(Expect::Close, Some(change));
        Parsed::Forward(consumed)
    }

    fn is_settled(&self, target: Target, name: &str) -> bool {
        let space = match target {
            Target::Statement => Space::Statement,
            Target::Portal => Space::Portal,
        };
        self.names.is_settled(space, name, self.run)
    }

    /// While the server takes COPY data. It ignores Flush and Sync then, and so they stop here.
    fn during_copy(
        &mut self,
        message: &frontend::Message<'_>,
        len: usize,
        simple: bool,
    ) -> Result<Parsed<Message>, Fault> {
        match message {
            frontend::Message::CopyDone(_) | frontend::Message::CopyFail(_) => {
                let more = simple
                    && self.pending.front().is_some_and(
                        |pending| matches!(&pending.expect, Expect::Query(running) if running.copy_ins > 0),
                    );
                self.copy = if more { Copy::Expected } else { Copy::None };
                Ok(Parsed::Forward(len))
            }
            frontend::Message::Sync(_) | frontend::Message::Flush(_) => Ok(Parsed::Consumed(len)),
            frontend::Message::Terminate(_) => Ok(Parsed::Goodbye(len)),
            _ => Err(Fault::client(
                "sent another message while it had to send COPY data",
            )),
        }
    }

    fn sync(&mut self, len: usize, out: &mut Outbound) -> Parsed<Message> {
        if self.copy == Copy::Expected || self.own.is_asking() || self.budget_is_pending() {
            self.flush(out);
            return Parsed::Blocked;
        }
        self.skipping = false;
        self.pending.push_back(Pending {
            expect: Expect::Sync,
            run: self.run,
            change: None,
        });
        self.end_run();
        Parsed::Forward(len)
    }

    /// What follows belongs to another run of messages.
    pub(crate) fn end_run(&mut self) {
        self.run = self.run.wrapping_add(1);
        self.open_run = false;
        self.flushed = true;
    }

    /// A message of the extended protocol goes on.
    pub(crate) fn extended(&mut self, expect: Expect, change: Option<super::names::Change>) {
        self.pending.push_back(Pending {
            expect,
            run: self.run,
            change,
        });
        self.open_run = true;
        self.flushed = false;
    }

    fn bind(
        &mut self,
        bind: &Bind<'_>,
        whole: &[u8],
        out: &mut Outbound,
        now: Instant,
    ) -> Result<Parsed<Message>, Fault> {
        let consumed = whole.len();
        let improper = |what| {
            Ok(Parsed::Inspect {
                consumed,
                message: Message::Improper(Improper { what, simple: false }),
            })
        };
        let (Some(portal), Some(statement)) = (self.decode(bind.portal), self.decode(bind.statement)) else {
            return improper(Wrong::Encoding);
        };
        let settled = self.names.is_settled(Space::Statement, &statement, self.run)
            && (portal.is_empty() || self.names.is_settled(Space::Portal, &portal, self.run));
        if !settled {
            self.flush(out);
            return Ok(Parsed::Blocked);
        }
        let Some(prepared) = self.names.statement(&statement).cloned() else {
            return improper(Wrong::NoStatement);
        };
        let (parameters, plain) = parameters(bind, self.encoding);
        let parameters = Parameters::from(parameters);
        let (types, described) = (prepared.types.clone(), prepared.described.clone());
        let exact = match plain {
            true => Exact::plain(types, described),
            false => Exact::of(bind, types, described, self.encoding),
        };
        if prepared.epoch != self.epoch() || self.names_may_differ() || self.structure_is_old(now) {
            let message = Message::Bind {
                portal: portal.into_owned(),
                statement: statement.into_owned(),
                parameters,
                exact: Box::new(exact),
                frame: BytesMut::from(whole),
                arrived: now,
                refreshed: false,
                analyzed: None,
            };
            return Ok(Parsed::Inspect { consumed, message });
        }
        self.bind_portal(&portal, prepared.analyzed.clone(), parameters, exact);
        if let Some(hidden) = &prepared.hidden
            && let Some(frame) = revealed_bind(bind, &prepared.analyzed.tokens, hidden)
        {
            Self::forward(&frame, out);
            return Ok(Parsed::Consumed(consumed));
        }
        Ok(Parsed::Forward(consumed))
    }

    /// Whether the structure was looked at so long ago that it has to be looked at again.
    pub(crate) fn structure_is_old(&self, now: Instant) -> bool {
        self.private.is_none()
            && self
                .structure_at
                .is_none_or(|at| now.saturating_duration_since(at) >= CHECK_EVERY)
    }

    /// Whether what names mean has to be asked for before the next statement.
    pub(crate) fn names_may_differ(&self) -> bool {
        self.environment_stale
            || self.private_stale
            || self
                .structure()
                .is_none_or(|structure| structure.is_superseded() && self.private.is_none())
    }

    /// A Bind goes on: its portal stands for that now.
    pub(crate) fn bind_portal(
        &mut self,
        portal: &str,
        analyzed: crate::analyzed::Analyzed,
        parameters: Parameters,
        exact: Exact,
    ) {
        // Where the name is taken the server refuses the message, skips what follows, and this is undone. Only the
        // server knows whether it is taken: the end of a transaction or of a savepoint frees names.
        if !portal.is_empty() {
            self.state.cursors.insert(portal.to_owned(), analyzed.cursor());
        }
        let value = Portal {
            analyzed,
            parameters,
            exact,
            rows: 0,
            run: self.run,
            epoch: self.epoch(),
        };
        let change = self.names.set_portal(portal, Some(value), self.run);
        self.extended(Expect::Bind, Some(change));
    }

    fn decode<'a>(&self, bytes: &'a [u8]) -> Option<Cow<'a, str>> {
        self.encoding.decode(bytes)
    }

    /// Lets a message go on to the target.
    pub(crate) fn forward(frame: &[u8], out: &mut Outbound) {
        out.to_target.extend_from_slice(frame);
    }

    /// Puts a message that is sure to fail in the place of a refused one.
    pub(crate) fn refuse(&mut self, simple: bool, error: BytesMut, out: &mut Outbound) {
        let text = super::REFUSED.as_bytes();
        if simple {
            encode_into(&mut out.to_target, |to| frontend::Query { sql: text }.encode(to));
            let expect = Expect::Refusal {
                simple,
                error,
                told: false,
            };
            self.pending.push_back(Pending {
                expect,
                run: self.run,
                change: None,
            });
            self.end_run();
        } else {
            let name = self.settings.nonce.clone();
            let parse = frontend::Parse {
                statement: name.as_bytes(),
                sql: text,
                parameter_types: Vec::new(),
            };
            encode_into(&mut out.to_target, |to| parse.encode(to));
            self.extended(
                Expect::Refusal {
                    simple,
                    error,
                    told: false,
                },
                None,
            );
            self.flush(out);
            self.skipping = true;
        }
    }
}

/// The parameters of a Bind as the trail keeps them, and whether these are all that there is to them: text in UTF-8, uncut.
pub(super) fn parameters(bind: &Bind<'_>, encoding: ClientEncoding) -> (Vec<Parameter>, bool) {
    let formats = &bind.parameter_formats;
    let mut plain = true;
    let mut list = Vec::with_capacity(bind.parameters.len());
    for (i, value) in bind.parameters.iter().enumerate() {
        let (shown, is_plain) = shown(*value, Format::of(formats, i), encoding);
        plain &= is_plain;
        list.push(shown);
    }
    (list, plain)
}

fn arguments(call: &FunctionCall<'_>, encoding: ClientEncoding) -> Vec<Parameter> {
    let formats = &call.argument_formats;
    call.arguments
        .iter()
        .enumerate()
        .map(|(i, value)| shown(*value, Format::of(formats, i), encoding).0)
        .collect()
}

/// The text that the server makes of a value in text format; `None`: it is none in the client's encoding. A value that is cut
/// within a character is a text.
pub(super) fn text_value(kept: &[u8], encoding: ClientEncoding) -> Option<Cow<'_, str>> {
    if !matches!(encoding, ClientEncoding::Utf8) {
        return encoding.decode(kept);
    }
    match std::str::from_utf8(kept) {
        Ok(text) => Some(Cow::Borrowed(text)),
        Err(error) if kept.len() == KEPT_PARAMETER && kept.len().saturating_sub(error.valid_up_to()) < 4 => {
            Some(String::from_utf8_lossy(kept))
        }
        Err(_) => None,
    }
}

/// Text as it is; binary, and what is no text, as `\x` and hex digits; a long value cut, with its length. Beside it, whether
/// it is the value itself, as UTF-8 in text format.
fn shown(value: Option<&[u8]>, format: Option<Format>, encoding: ClientEncoding) -> (Parameter, bool) {
    let is_text = format == Some(Format::TEXT);
    let Some(value) = value else {
        return (None, is_text);
    };
    let plain = is_text && matches!(encoding, ClientEncoding::Utf8);
    let kept = value.get(..KEPT_PARAMETER).unwrap_or(value);
    let (mut text, plain) = match std::str::from_utf8(kept) {
        Ok(text) if plain => (text.to_owned(), true),
        _ => (unusual(kept, is_text, encoding), false),
    };
    if kept.len() < value.len() {
        text.push_str(&format!("... ({} bytes)", value.len()));
        return (Some(text), false);
    }
    (Some(text), plain)
}

/// What is not simply UTF-8 in text format.
#[cold]
fn unusual(kept: &[u8], is_text: bool, encoding: ClientEncoding) -> String {
    if let Some(text) = is_text.then(|| text_value(kept, encoding)).flatten() {
        return text.into_owned();
    }
    let mut hex = String::with_capacity(kept.len().saturating_mul(2).saturating_add(2));
    hex.push_str("\\x");
    for byte in kept {
        let digits = [byte >> 4, byte & 0xf].map(|digit| char::from_digit(digit.into(), 16));
        hex.extend(digits.into_iter().flatten());
    }
    hex
}
