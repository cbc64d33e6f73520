//! One session, sans-IO: both directions, from the client's first message after login to the goodbye.
//!
//! ```text
//! client ─▶ client.rs ──▶ inspect.rs ──▶ (policy, audit) ──▶ rewrite.rs ─▶ target
//!              names.rs: what a name stands for        pending.rs: what the server owes
//! client ◀─ backend.rs ◀──────────────────────────────────────────────── target
//!              own.rs: the gateway's own questions on the session's connection
//! ```
//!
//! **A refusal has its place.** The server answers in order, and a refused message must be answered in its turn, leave
//! a transaction failed, and make the server skip to the next Sync where it would have. So a refused message is
//! replaced by one that is sure to fail ([`REFUSED`]), and the server's error for it becomes the refusal. Nothing of
//! the refused text reaches the server.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use gateway_core::detect::Detectors;
use gateway_core::machine::{
    Bound, End, Fault, Inspection, Outbound, Outcome, Parameters, Parsed, Peer, ProtocolSession,
};
use gateway_core::mask::MaskKey;
use gateway_core::verdict::{Decision, Ruling};
use gateway_sql::{Outdated, SessionState, Stamps};

use crate::analyzed::{Analyzed, SharedState};
use crate::estimate::Estimator;
use crate::structure::Structure;
use crate::wire::backend::TransactionStatus;

mod backend;
mod client;
mod effects;
pub mod exact;
mod failing;
mod masked;
pub mod names;
pub(crate) mod own;
pub mod pending;
pub mod text;
mod texts;
mod withhold;

use exact::Exact;
use names::{Epoch, Names};
use own::Own;
use pending::Pending;
use text::ClientEncoding;

/// The text that stands in for a refused one: no SQL in any version, also in a failed transaction.
pub const REFUSED: &str = "REFUSED BY THE GATEWAY";

/// What a session is told when it begins.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The resource's name, for the ids of objects.
    pub resource: String,
    /// The database.
    pub database: String,
    /// The login at the target.
    pub login: String,
    /// Longest Query or Parse, in bytes.
    pub statement_bytes: usize,
    /// Longest Bind or FunctionCall, in bytes.
    pub parameter_bytes: usize,
    /// Whether the principal may not unmask every tag of the resource: texts of the target that may carry tagged
    /// values are then withheld.
    pub withhold: bool,
    /// What is looked for in texts of the target, since the principal may not see it.
    pub detect: Detectors,
    /// The key of keyed masks.
    pub mask_key: MaskKey,
    /// A suffix that no client can guess, for the names of the gateway's own statements.
    pub nonce: String,
    /// The session's id, to find what the client is told of its end in the trail and the log.
    pub session: String,
}

/// A message of the client that must be decided.
#[derive(Debug)]
pub enum Message {
    /// Query.
    Query {
        /// The frame.
        frame: BytesMut,
        /// Its text.
        sql: Arc<str>,
        /// When it came.
        arrived: Instant,
        /// The structure was read again for it already.
        refreshed: bool,
        /// What it does.
        analyzed: Option<Analyzed>,
    },
    /// Parse.
    Parse {
        /// The frame.
        frame: BytesMut,
        /// The statement's name.
        name: String,
        /// Its text.
        sql: Arc<str>,
        /// The types that it declares for parameters; `None`: none.
        types: Option<Arc<[u32]>>,
        /// When it came.
        arrived: Instant,
        /// The structure was read again for it already.
        refreshed: bool,
        /// What it does.
        analyzed: Option<Analyzed>,
    },
    /// Bind of a statement whose analysis may no longer hold.
    Bind {
        /// The frame.
        frame: BytesMut,
        /// The portal's name.
        portal: String,
        /// The statement's name.
        statement: String,
        /// For the trail.
        parameters: Parameters,
        /// What these do not tell.
        exact: Box<Exact>,
        /// When it came.
        arrived: Instant,
        /// The structure was read again for it already.
        refreshed: bool,
        /// What it does.
        analyzed: Option<Analyzed>,
    },
    /// Execute.
    Execute {
        /// The frame.
        frame: BytesMut,
        /// The portal's name.
        portal: String,
        /// Most rows that the client wants; 0: all.
        max_rows: i32,
        /// It has been held since it came: what it means may have changed.
        held: bool,
        /// What it does.
        analyzed: Option<Analyzed>,
    },
    /// FunctionCall.
    FunctionCall {
        /// The frame.
        frame: BytesMut,
        /// The function.
        oid: u32,
        /// For the trail.
        parameters: Parameters,
    },
    /// What can't be a question of policy.
    Improper(Improper),
}

/// Why a message can't be a question of policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Improper {
    /// What is wrong.
    pub what: Wrong,
    /// Whether it stands in the simple protocol (ReadyForQuery follows its error).
    pub simple: bool,
}

/// What is wrong with a message that can't be a question of policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// Longer than the limit, in bytes.
    TooLong(usize),
    /// Not in the client's encoding.
    Encoding,
    /// Too many names.
    TooManyNames,
    /// No such statement.
    NoStatement,
    /// No such portal.
    NoPortal,
}

/// What inspecting can need from outside.
#[derive(Debug, Clone, Copy)]
pub enum Need {
    /// The structure of the database, looked at after that time.
    Structure(Option<Instant>),
}

/// The answer.
#[derive(Debug)]
pub enum Provision {
    /// The structure, or why there is none (for operators).
    Structure(Result<Arc<Structure>, String>),
}

/// What takes COPY data from the client is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copy {
    /// Nothing.
    None,
    /// A statement that will ask for data has been forwarded; the server has not asked yet.
    Expected,
    /// The server has asked; `simple`: in the simple protocol.
    Active {
        /// Whether by Query.
        simple: bool,
    },
}

/// One session.
#[derive(Debug)]
pub struct Session {
    pub(crate) settings: Arc<Settings>,
    /// Called when the session has changed the structure for all.
    pub(crate) changed: Changed,
    /// Asks the target about what is held, for approvers.
    pub(crate) estimator: Option<Estimator>,
    pub(crate) structure: Option<Arc<Structure>>,
    pub(crate) structure_at: Option<Instant>,
    pub(crate) structure_failed: bool,
    /// A message waited for people: the structure is looked at before the next is judged.
    pub(crate) has_been_held: bool,
    /// The structure as this transaction alone sees it, after DDL of its own.
    pub(crate) private: Option<Arc<Structure>>,
    pub(crate) state: SessionState,
    pub(crate) shared: SharedState,
    pub(crate) environment: u64,
    pub(crate) environment_stale: bool,
    pub(crate) private_stale: bool,
    /// What of it must be read again, and as of when.
    pub(crate) reading: Option<(Stamps, Outdated)>,
    /// The running transaction has changed what names mean.
    pub(crate) touched: bool,
    /// The running transaction has changed the structure.
    pub(crate) defined: bool,
    pub(crate) names: Names,
    /// Cursors that DECLARE has opened; `state.cursors` has these and the portals.
    pub(crate) declared: HashMap<String, gateway_sql::Cursor>,
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) run: u64,
    /// Messages of the extended protocol have been forwarded since the last Sync.
    pub(crate) open_run: bool,
    /// A Flush has been sent since the last of them.
    pub(crate) flushed: bool,
    /// The server skips to the next Sync, and so do we.
    pub(crate) skipping: bool,
    pub(crate) copy: Copy,
    pub(crate) own: Own,
    pub(crate) transaction: TransactionStatus,
    pub(crate) encoding: ClientEncoding,
    server_utf8: bool,
    /// Whether the session writes dates in ISO style.
    pub(crate) iso_dates: bool,
    /// How the server reads dates, times and intervals, as it reports that.
    pub(crate) reads_times: [String; 3],
    /// Bytes of a long message that still go through untouched, by direction.
    pub(crate) pass_target: usize,
    pub(crate) pass_client: usize,
    /// Bytes of a message that was refused by its header and still arrive.
    pub(crate) drop_client: usize,
    /// Notices that wait for the end of a long message.
    pub(crate) deferred: BytesMut,
    /// A statement has gone to the server with a token revealed in its text.
    pub(crate) texts_revealed: bool,
    /// Operations that have ended.
    pub(crate) outcomes: VecDeque<Outcome>,
    pub(crate) fatal_sent: bool,
}

/// Told when a session's DDL has changed the structure for everyone.
#[derive(Clone)]
pub struct Changed(pub Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Changed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Changed")
    }
}

impl Session {
    /// The same session, with which the target can be asked about what is held.
    #[must_use]
    pub fn with_estimator(self, estimator: Estimator) -> Self {
        Self {
            estimator: Some(estimator),
            ..self
        }
    }

    /// A session that has just logged in to the target. `parameters` are the target's ParameterStatus messages.
    pub fn new(settings: Settings, parameters: &[(Vec<u8>, Vec<u8>)], changed: Changed) -> Self {
        let state = SessionState {
            database: settings.database.clone(),
            current_user: settings.login.clone(),
            ..SessionState::default()
        };
        let shared = SharedState {
            path: state.search_path.clone().into(),
            database: settings.database.as_str().into(),
        };
        let mut session = Self {
            settings: Arc::new(settings),
            changed,
            estimator: None,
            structure: None,
            structure_at: None,
            structure_failed: false,
            has_been_held: false,
            private: None,
            state,
            shared,
            environment: 0,
            environment_stale: true,
            private_stale: false,
            reading: None,
            touched: false,
            defined: false,
            names: Names::default(),
            declared: HashMap::new(),
            pending: VecDeque::new(),
            run: 1,
            open_run: false,
            flushed: true,
            skipping: false,
            copy: Copy::None,
            own: Own::default(),
            transaction: TransactionStatus::Idle,
            encoding: ClientEncoding::Utf8,
            server_utf8: true,
            iso_dates: false,
            reads_times: Default::default(),
            pass_target: 0,
            pass_client: 0,
            drop_client: 0,
            deferred: BytesMut::new(),
            texts_revealed: false,
            outcomes: VecDeque::new(),
            fatal_sent: false,
        };
        for (name, value) in parameters {
            session.parameter_status(name, value);
        }
        session
    }

    /// The structure that statements are analysed under.
    pub(crate) fn structure(&self) -> Option<&Arc<Structure>> {
        self.private.as_ref().or(self.structure.as_ref())
    }

    pub(crate) fn epoch(&self) -> Epoch {
        Epoch {
            structure: self.structure().map_or(0, |structure| structure.version),
            environment: self.environment,
        }
    }

    /// Whether a client's message must wait until the server has answered what changes meaning.
    fn meaning_is_pending(&self) -> bool {
        self.pending.iter().any(|pending| match &pending.expect {
            pending::Expect::Query(running) | pending::Expect::Execute(running) => running.changes_meaning(),
            _ => false,
        })
    }

    /// Whether what the transaction has changed of names may be undone before the server reads the client's next
    /// message: an earlier run of messages, whose end can be the transaction's, is not answered.
    fn meaning_may_revert(&self) -> bool {
        (self.touched || self.defined) && self.earlier_run_is_open()
    }

    /// Whether an earlier run of messages is not answered. What changes something waits for it: once a session is ended
    /// and what it runs is cancelled, the server goes on with the next run that it was sent.
    pub(crate) fn earlier_run_is_open(&self) -> bool {
        self.pending
            .front()
            .is_some_and(|pending| pending.run != self.run)
    }

    /// Whether the server may still refuse a change of a name in an earlier run, or that run's end, which takes
    /// portals away, is not answered.
    pub(crate) fn names_are_unsettled(&self) -> bool {
        self.pending.iter().any(|pending| {
            let changes = pending.change.is_some() || matches!(pending.expect, pending::Expect::Sync);
            changes && pending.run != self.run
        })
    }

    /// A COPY has ended, or will not begin; another one may have been forwarded behind it.
    pub(crate) fn copy_ended(&mut self) {
        let expected = self.pending.iter_mut().any(|pending| {
            pending
                .expect
                .running()
                .is_some_and(|running| running.copy_ins > 0)
        });
        self.copy = if expected { Copy::Expected } else { Copy::None };
    }

    /// A statement that takes COPY data goes on.
    pub(crate) fn expect_copy(&mut self) {
        self.copy = Copy::Expected;
    }

    /// Whether a statement runs that may give only so many rows: what follows waits, so that a failure has its place.
    fn budget_is_pending(&mut self) -> bool {
        self.pending
            .iter_mut()
            .any(|pending| pending.expect.running().is_some_and(|r| r.budget.is_some()))
    }

    /// Makes the server send what it has, so that waiting for it comes to an end.
    pub(crate) fn flush(&mut self, out: &mut Outbound) {
        if self.open_run && !self.flushed {
            self.flushed = true;
            encode_into(&mut out.to_target, |to| crate::wire::frontend::Flush.encode(to));
        }
    }

    fn parameter_status(&mut self, name: &[u8], value: &[u8]) {
        let value = String::from_utf8_lossy(value);
        match name {
            b"client_encoding" => {
                let encoding = ClientEncoding::from_name(&value).unwrap_or(ClientEncoding::AsciiOnly);
                self.encoding = match encoding {
                    // The server takes such texts as they are, in its own encoding.
                    ClientEncoding::AsciiOnly if &*value == "SQL_ASCII" && self.server_utf8 => {
                        ClientEncoding::Utf8
                    }
                    other => other,
                };
            }
            b"server_encoding" => self.server_utf8 = &*value == "UTF8",
            b"DateStyle" => {
                self.iso_dates = value.starts_with("ISO");
                self.reads_times[0] = value.into_owned();
            }
            b"IntervalStyle" => self.reads_times[1] = value.into_owned(),
            b"TimeZone" => self.reads_times[2] = value.into_owned(),
            b"standard_conforming_strings" => self.state.standard_conforming_strings = &*value != "off",
            _ => {}
        }
    }
}

/// Appends a message of ours. What we write ourselves always encodes; if it did not, the session would miss a message
/// and end with a fault of the peer that waits for it, so nothing is let through by it.
fn encode_into(
    to: &mut BytesMut,
    encode: impl FnOnce(&mut BytesMut) -> Result<(), crate::wire::EncodeError>,
) {
    if let Err(error) = encode(to) {
        tracing::error!(%error, "a message of the gateway's own could not be encoded");
    }
}

impl ProtocolSession for Session {
    type Message = Message;
    type Need = Need;
    type Provision = Provision;

    fn parse(
        &mut self,
        from: Peer,
        input: &[u8],
        out: &mut Outbound,
        now: Instant,
    ) -> Result<Parsed<Message>, Fault> {
        match from {
            Peer::Client => self.parse_client(input, out, now),
            Peer::Target => self.parse_target(input, out),
        }
    }

    fn inspect(
        &mut self,
        message: &mut Message,
        out: &mut Outbound,
        now: Instant,
    ) -> Result<Inspection<Need>, Fault> {
        self.inspect_message(message, out, now)
    }

    fn rewrite(&mut self, message: Message, ruling: &Ruling, out: &mut Outbound) -> Result<(), Fault> {
        self.rewrite_message(message, ruling, out)
    }

    fn bound(&self, message: &Message) -> Bound {
        self.bound_of(message)
    }

    fn held(&mut self, message: &mut Message, notice: &Decision, out: &mut Outbound) {
        // While it waits others may change the structure: it is looked at again, and may be read again for it, once.
        self.has_been_held = true;
        match message {
            Message::Query { refreshed, .. } => *refreshed = false,
            Message::Execute { held, .. } => *held = true,
            Message::Parse { .. }
            | Message::Bind { .. }
            | Message::FunctionCall { .. }
            | Message::Improper(_) => {}
        }
        self.notice(notice, out);
    }

    fn is_void(&self, _: &Message) -> bool {
        self.skipping
    }

    fn provide(&mut self, provision: Provision) {
        let Provision::Structure(structure) = provision;
        match structure {
            Ok(structure) => {
                self.structure_failed = false;
                let known = self.structure.as_ref();
                if known.is_some_and(|known| !Arc::ptr_eq(known, &structure)) {
                    // Schemas may have come or gone, or the rights to them: names may mean something else without a
                    // word of this session.
                    self.environment_stale = true;
                }
                self.structure = Some(structure);
            }
            Err(error) => {
                tracing::warn!(error, resource = self.settings.resource, "no structure");
                self.structure_failed = true;
            }
        }
        self.structure_at = None;
    }

    fn out_of_time(&mut self, ticket: u64, decision: Decision) {
        let frame = crate::rewrite::refusal(&decision, None);
        for pending in &mut self.pending {
            if let Some(running) = pending.expect.running()
                && running.ticket == ticket
            {
                running.cancelled = Some(frame);
                return;
            }
        }
    }

    fn poll_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    fn is_quiet(&self) -> bool {
        self.pending.is_empty()
            && self.transaction == TransactionStatus::Idle
            && self.copy == Copy::None
            && !self.open_run
            && self.pass_target == 0
    }

    fn end(&mut self, why: &End, out: &mut Outbound) {
        self.goodbye(why, out);
    }

    fn abandon(&mut self) {
        self.unanswered();
    }
}
