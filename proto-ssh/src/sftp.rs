//! The sans-IO machine between an SFTP client and the `sftp-server` of a target.
//!
//! ```text
//!            handle_client                          ToTarget
//! client ────────────────▶ request ─▶ resolve ─▶ Ask ─▶ send ────────▶ target
//!        ◀──────────────── answer ◀───────────────────────── ◀────────
//!            ToClient                               handle_target
//! ```
//!
//! Bytes of either side go in, [`Action`]s come out of [`Sftp::poll`]: bytes for either side, questions, and events for
//! the audit log. No sockets, no clock.
//!
//! **Order.** Requests reach the target in the order in which they came, but that those which change nothing may pass each other
//! while they wait for their questions. No path is resolved while a request is open that may change where it leads. What has
//! waited for people is resolved again before it goes on, and goes on only if it leads where it led.
//!
//! **Paths.** A path is resolved by the target before it is decided: the machine sends a REALPATH of its own, of the whole
//! path where the request follows a link in its last component, else of the folder that the last component is in. What
//! is decided is the resolved path, and it is what is sent. So that holds only as far as the target resolves links in
//! REALPATH, as OpenSSH's server does; and a link that is put in place between the two stays possible.
//! `hardlink` resolves its old path wholly, since systems differ in whether they follow a link there.
//! An absolute path that the target can't resolve is decided as it is written, and if permitted the target's error is
//! the answer: what is not there is refused like what is.
//! A slash at the end has LSTAT and READLINK follow a link, as it does on the target; other requests that don't follow
//! one lose the slash.
//!
//! **Handles** are those of the target. A request is sent only with a handle that was opened here, for what it was
//! granted for. What VERSION announces is cut down to what is decided here.
//!
//! **Errors.** A refusal is a STATUS. Whatever breaks the protocol ends the session: [`Error`] says whose fault it is.

mod action;
mod buffer;
mod client;
mod error;
mod event;
mod handles;
mod path;
mod plan;
pub mod resolver;
mod target;

use std::collections::{BTreeMap, VecDeque};

use crate::wire::sftp::{Request, Response, ResponseBody, kind, status};
pub use action::{Action, Answer, Ask, AskId, Looked, Settings, What};
use buffer::Buffer;
pub use error::{Error, Fault, Peer};
pub use event::Event;
use handles::Handles;
use plan::{Effect, Outstanding, Pending};

/// The most requests of a client that are open at a time; OpenSSH's client sends 64.
pub const MAX_OPEN: usize = 256;

/// The most handles that are open at a time.
pub const MAX_HANDLES: usize = 256;

/// The longest path, in bytes (PATH_MAX of Linux, with its NUL).
pub const MAX_PATH: usize = 4095;

/// The longest request that waits for a decision, in bytes: two paths and some attributes.
const MAX_WAITING: usize = 16 * 1024;

/// How many bytes may wait for [`Sftp::poll`] in one direction before the other side is no longer read.
const MAX_QUEUED: usize = 1024 * 1024;

/// The longest text of a refusal, in bytes.
const MAX_TEXT: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// INIT of the client is awaited.
    Init,
    /// VERSION of the target is awaited.
    Version,
    Open,
}

/// The machine of one session.
#[derive(Debug)]
pub struct Sftp {
    settings: Settings,
    phase: Phase,
    /// Set once; nothing is done any more.
    failed: Option<Error>,
    /// Set once; what every further request is told.
    ended: Option<String>,
    /// Extensions that the target has and that are decided here.
    extensions: Vec<&'static [u8]>,
    from_client: Buffer,
    from_target: Buffer,
    /// A request that has to keep its place: nothing behind it is looked at.
    waiting: Option<Vec<u8>>,
    actions: VecDeque<Action>,
    queued_for_target: usize,
    queued_for_client: usize,
    /// Requests of the client that are not answered.
    open: usize,
    /// Requests that wait for paths or answers, by their number.
    pending: BTreeMap<u64, Pending>,
    /// Open questions, each with the request that waits for it.
    asks: BTreeMap<AskId, u64>,
    /// What was sent to the target, by the id that it was sent with.
    outstanding: BTreeMap<u32, Outstanding>,
    handles: Handles,
    next_number: u64,
    next_id: u32,
}

impl Sftp {
    /// A session that has not begun.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            phase: Phase::Init,
            failed: None,
            ended: None,
            extensions: Vec::new(),
            from_client: Buffer::default(),
            from_target: Buffer::default(),
            waiting: None,
            actions: VecDeque::new(),
            queued_for_target: 0,
            queued_for_client: 0,
            open: 0,
            pending: BTreeMap::new(),
            asks: BTreeMap::new(),
            outstanding: BTreeMap::new(),
            handles: Handles::default(),
            next_number: 0,
            next_id: 0,
        }
    }

    /// Takes bytes of the client. All are kept: who calls it while [`Self::wants_client`] is false has to bound them.
    ///
    /// # Errors
    ///
    /// Where a side broke the protocol; the session has to end, and every later call fails alike.
    pub fn handle_client(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.from_client.push(bytes);
        self.advance()
    }

    /// Takes bytes of the target. All are kept: who calls it while [`Self::wants_target`] is false has to bound them.
    ///
    /// # Errors
    ///
    /// As [`Self::handle_client`].
    pub fn handle_target(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.from_target.push(bytes);
        self.advance()
    }

    /// Takes the answer to a question. It is of no effect where the request has ended without it.
    ///
    /// # Errors
    ///
    /// As [`Self::handle_client`]; and where there never was such a question, which is the caller's fault.
    pub fn handle_answer(&mut self, ask: AskId, answer: Answer) -> Result<(), Error> {
        self.take_answer(ask, answer, false)
    }

    /// The same, for a question that has waited for people: where its paths lead may have changed meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Self::handle_answer`].
    pub fn handle_late_answer(&mut self, ask: AskId, answer: Answer) -> Result<(), Error> {
        self.take_answer(ask, answer, true)
    }

    fn take_answer(&mut self, ask: AskId, answer: Answer, late: bool) -> Result<(), Error> {
        self.alive()?;
        let Some(number) = self.asks.remove(&ask) else {
            // Another question of the same request was answered with no.
            return if ask.0 <= self.next_number {
                Ok(())
            } else {
                Err(self.fail(Peer::Gateway, Fault::NoSuchQuestion))
            };
        };
        if let Some(pending) = self.pending.get_mut(&number) {
            pending.again |= late;
            if let Answer::AllowLooked(looked) = &answer {
                pending.looked = Some(looked.clone());
            }
        }
        match answer {
            Answer::Allow | Answer::AllowLooked(_) => self
                .allowed(number)
                .map_err(|fault| self.fail(Peer::Gateway, fault))?,
            Answer::Deny { text } => self.give_up(number, status::PERMISSION_DENIED, &text),
        }
        self.advance()
    }

    /// From here on every request but CLOSE is refused with this text, also on handles that are open: when the rights
    /// of the session have ended. Requests that were sent are still answered.
    pub fn end_rights(&mut self, text: &str) {
        self.ended = Some(text.to_owned());
        let waiting: Vec<u64> = self.pending.keys().copied().collect();
        for number in waiting {
            self.give_up(number, status::PERMISSION_DENIED, text);
        }
    }

    /// A side has ended its stream.
    ///
    /// # Errors
    ///
    /// Where it ended inside a packet.
    pub fn handle_end(&mut self, peer: Peer) -> Result<(), Error> {
        self.alive()?;
        let buffer = if peer == Peer::Target {
            &self.from_target
        } else {
            &self.from_client
        };
        if buffer.ends_inside() {
            return Err(self.fail(peer, Fault::Truncated));
        }
        Ok(())
    }

    /// The session is over, in whatever way: the handles that are still open come out as events.
    pub fn finish(&mut self) {
        for event in self.handles.close_all() {
            self.actions.push_back(Action::Event(event));
        }
    }

    /// What is to be done next. Taking actions makes room, so bytes that had to wait go on here: it is to be called
    /// until it gives nothing, after each call of another method.
    ///
    /// # Errors
    ///
    /// As [`Self::handle_client`], once all earlier actions were given.
    pub fn poll(&mut self) -> Result<Option<Action>, Error> {
        if self.actions.is_empty() {
            self.advance()?;
        }
        let action = self.actions.pop_front();
        match &action {
            Some(Action::ToTarget(packet)) => {
                self.queued_for_target = self.queued_for_target.saturating_sub(packet.len());
            }
            Some(Action::ToClient(packet)) => {
                self.queued_for_client = self.queued_for_client.saturating_sub(packet.len());
            }
            Some(Action::Ask(_) | Action::Event(_)) | None => {}
        }
        Ok(action)
    }

    /// Whether more bytes of the client are of use now.
    pub fn wants_client(&self) -> bool {
        // Some more than can be looked at now, so that it is seen where the client leaves.
        self.failed.is_none() && self.takes_client() && self.from_client.len() < MAX_QUEUED
    }

    /// Whether more bytes of the target are of use now.
    pub fn wants_target(&self) -> bool {
        self.failed.is_none() && self.takes_target()
    }

    /// Whether nothing is asked, awaited or to be done.
    pub fn is_idle(&self) -> bool {
        self.open == 0 && self.waiting.is_none() && self.actions.is_empty()
    }

    fn takes_client(&self) -> bool {
        self.phase != Phase::Version && self.open < MAX_OPEN && self.queued_for_target < MAX_QUEUED
            // Refusals are written without the target.
            && self.queued_for_client < MAX_QUEUED
    }

    fn takes_target(&self) -> bool {
        self.queued_for_client < MAX_QUEUED && self.queued_for_target < MAX_QUEUED
    }

    fn alive(&self) -> Result<(), Error> {
        self.failed.map_or(Ok(()), Err)
    }

    /// Goes on as far as the buffers and the limits allow.
    fn advance(&mut self) -> Result<(), Error> {
        self.alive()?;
        loop {
            // All that the client may send before the next answer, so that how bytes arrive makes no difference.
            if self.takes_client()
                && let Some(packet) = self.next_request()?
            {
                self.handle_packet(packet)
                    .map_err(|fault| self.fail(Peer::Client, fault))?;
                continue;
            }
            if self.takes_target()
                && let Some(packet) = self.take(Peer::Target)?
            {
                self.handle_response(packet)
                    .map_err(|fault| self.fail(Peer::Target, fault))?;
                continue;
            }
            return Ok(());
        }
    }

    /// The next packet of the client whose turn it is.
    fn next_request(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let Some(packet) = self.waiting.take() else {
            return self.take(Peer::Client);
        };
        let body = Request::parse(inside(&packet)).map(|request| {
            let body = request.body;
            (Effect::of(&body), plan::names_paths(&body))
        });
        match body {
            Ok((effect, names)) if self.ended.is_none() && self.has_to_wait(effect, names) => {
                self.waiting = Some(packet);
                Ok(None)
            }
            _ => Ok(Some(packet)),
        }
    }

    fn take(&mut self, peer: Peer) -> Result<Option<Vec<u8>>, Error> {
        let buffer = if peer == Peer::Target {
            &mut self.from_target
        } else {
            &mut self.from_client
        };
        buffer
            .take()
            .map_err(|malformed| self.fail(peer, Fault::Malformed(malformed)))
    }

    fn fail(&mut self, peer: Peer, fault: Fault) -> Error {
        let error = Error { peer, fault };
        *self.failed.get_or_insert(error)
    }

    fn send_target(&mut self, packet: Vec<u8>) {
        self.queued_for_target = self.queued_for_target.saturating_add(packet.len());
        self.actions.push_back(Action::ToTarget(packet));
    }

    fn send_client(&mut self, packet: Vec<u8>) {
        self.queued_for_client = self.queued_for_client.saturating_add(packet.len());
        self.actions.push_back(Action::ToClient(packet));
    }

    /// The one place where a request of the client is answered.
    fn answer(&mut self, packet: Vec<u8>) {
        self.open = self.open.saturating_sub(1);
        self.send_client(packet);
    }

    fn answer_status(&mut self, id: u32, code: u32, text: &str) -> Result<(), Fault> {
        let end = text.floor_char_boundary(MAX_TEXT);
        let message = text.get(..end).unwrap_or_default().as_bytes();
        let body = ResponseBody::Status {
            code,
            message,
            language: b"",
        };
        let packet = Response { id, body }.encode().map_err(|_| Fault::TooLong)?;
        self.answer(packet);
        Ok(())
    }

    /// Ends a request that still waits, and its questions.
    fn give_up(&mut self, number: u64, code: u32, text: &str) {
        self.asks.retain(|_, other| *other != number);
        if let Some(pending) = self.pending.remove(&number) {
            // A status with a text of 1024 bytes fits into a packet.
            let _ = self.answer_status(pending.client_id, code, text);
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number = self.next_number.wrapping_add(1);
        self.next_number
    }

    /// An id that nothing else waits for.
    fn id(&mut self) -> u32 {
        loop {
            self.next_id = self.next_id.wrapping_add(1);
            if !self.outstanding.contains_key(&self.next_id) {
                return self.next_id;
            }
        }
    }
}

/// Puts another id into a packet that was parsed.
fn with_id(mut packet: Vec<u8>, id: u32) -> Vec<u8> {
    if let Some(place) = packet.get_mut(5..9) {
        place.copy_from_slice(&id.to_be_bytes());
    }
    packet
}

/// Type and body of a whole packet.
fn inside(packet: &[u8]) -> &[u8] {
    packet.get(4..).unwrap_or_default()
}

/// Whether this is a packet that only begins a session.
fn is_first(packet: &[u8]) -> bool {
    matches!(inside(packet).first(), Some(&(kind::INIT | kind::VERSION)))
}

#[cfg(test)]
mod tests;
