//! The inside of the seam: a session as a sans-IO machine whose verbs are *parse, inspect, rewrite*.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::audit::Parameter;
use crate::operation::Operations;
use crate::verdict::{Decision, Denial, Ruling};

/// One of the two ends of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Whoever connected to the gateway.
    Client,
    /// The resource.
    Target,
}

/// Bytes that a machine wants to have sent. Everything goes out in order, one write per burst.
#[derive(Debug, Default)]
pub struct Outbound {
    /// To the client.
    pub to_client: BytesMut,
    /// To the target.
    pub to_target: BytesMut,
}

/// What stands at the front of an input.
#[derive(Debug)]
pub enum Parsed<M> {
    /// Not yet a whole message: more bytes are needed.
    Incomplete,
    /// The first `n` bytes were parsed and go to the other peer as they are.
    Forward(usize),
    /// The first `n` bytes were parsed and do not go on; what the machine wrote instead (perhaps nothing) is
    /// in the [`Outbound`].
    Consumed(usize),
    /// The first `consumed` bytes are a message that must be decided; nothing of it has been forwarded.
    Inspect {
        /// Its length.
        consumed: usize,
        /// The message, taken out of the input.
        message: M,
    },
    /// The first `n` bytes are the client's goodbye: the session ends once what came before has been forwarded.
    Goodbye(usize),
    /// There may be a message, but the other peer must answer first; nothing was consumed.
    Blocked,
}

/// What a message asks.
#[derive(Debug, Clone)]
pub struct Question {
    /// For policy.
    pub operations: Arc<Operations>,
    /// For the audit trail and for approvers.
    pub statement: Option<Statement>,
    /// Whether it changes something at the target, so that its audit event is durable by default.
    pub writes: bool,
    /// Whether it runs now, or is only prepared.
    pub stage: Stage,
}

/// How far a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It runs when it is forwarded: it is decided, held and audited.
    Run,
    /// It prepares what will be asked again when it runs: a refusal is told at once and audited, a hold waits
    /// until then.
    Prepare {
        /// Preparing may already run something (a function that is evaluated when a plan is made): what would be
        /// held is refused.
        runs: bool,
    },
}

/// A statement's text with its parameters.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Its text.
    pub text: Arc<Text>,
    /// Bound parameters.
    pub parameters: Parameters,
}

impl Statement {
    /// A text without parameters.
    pub fn new(exact: impl Into<Arc<str>>, normalised: impl Into<Arc<str>>) -> Self {
        Self {
            text: Arc::new(Text {
                exact: exact.into(),
                normalised: normalised.into(),
            }),
            parameters: Parameters::default(),
        }
    }
}

/// Bound parameters, once for all who keep them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(Option<Arc<[Parameter]>>);

impl From<Vec<Parameter>> for Parameters {
    fn from(list: Vec<Parameter>) -> Self {
        Self((!list.is_empty()).then(|| list.into()))
    }
}

impl std::ops::Deref for Parameters {
    type Target = [Parameter];

    fn deref(&self) -> &[Parameter] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// A statement's text. One that runs again and again is kept with what it belongs to, and counted there: the counts of what
/// sessions share are places in memory that every processor would write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// As it was sent.
    pub exact: Arc<str>,
    /// Without literals, for `[audit] literals = false`.
    pub normalised: Arc<str>,
}

/// What an approval of a message binds beside its [`Question`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bound {
    /// For the digest.
    pub exact: Vec<u8>,
    /// The statement's parameters as the approver reads them, where that differs from how the trail has them.
    pub parameters: Option<Vec<Parameter>>,
    /// Names in the text that stand for something in this session, with what they stand for; for the approver.
    pub stands_for: Vec<(String, String)>,
    /// How many rows it would touch, where the target can be asked without running anything; for the approver. It is not
    /// bound.
    pub estimate: Option<Estimate>,
}

/// A question to the target of how many rows an operation would touch. Asking it runs nothing.
#[derive(Clone)]
pub struct Estimate(Arc<dyn Fn() -> BoxFuture<'static, Option<u64>> + Send + Sync>);

impl Estimate {
    /// `ask` asks the target, within bounds of its own; `None`: it is not known.
    pub fn new(ask: impl Fn() -> BoxFuture<'static, Option<u64>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// Asks.
    pub fn ask(&self) -> BoxFuture<'static, Option<u64>> {
        (self.0)()
    }
}

impl std::fmt::Debug for Estimate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Estimate")
    }
}

/// It tells nothing of what an operation is.
impl PartialEq for Estimate {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Estimate {}

/// The result of looking at a message.
#[derive(Debug)]
pub enum Inspection<N> {
    /// Decide this.
    Ask(Question),
    /// No policy can permit this: it is refused, and that is audited.
    Refuse(Denial, Option<Statement>),
    /// Something that the machine cannot know by itself is needed first; the driver gets it and inspects again.
    Needs(N),
    /// The machine has asked a peer (its question is in the [`Outbound`]); inspect again when a peer answered.
    Wait,
}

/// How one decided operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The number that its [`Ruling`] carried.
    pub ticket: u64,
    /// Rows returned or changed.
    pub rows: u64,
    /// Bytes sent to the client.
    pub bytes: u64,
    /// The target's error code.
    pub error: Option<String>,
}

/// Why a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The client closed or said goodbye.
    ClientClosed,
    /// The target closed.
    TargetClosed,
    /// What proved the principal has ended or was revoked.
    Expired,
    /// The access for a time that let it in, or let run what it ran, has ended or was taken back.
    AccessEnded,
    /// The rights of its login at the target could not be fitted to what policy permits by now.
    CredentialLost,
    /// What it does could not be recorded any more.
    Unrecorded,
    /// An operator ended it. Boxed: every step of a session returns an `End` where it fails.
    Killed(Box<Kill>),
    /// The gateway stops.
    Shutdown,
    /// Nothing happened for longer than the configured limit.
    Idle,
    /// It ran longer than the configured limit.
    TooLong,
    /// An operation took longer than policy gives, and could not be cancelled alone.
    OutOfTime,
    /// A peer broke the protocol.
    Fault(Fault),
    /// The connection to a peer broke.
    Broken(Peer, String),
}

impl End {
    /// One word or sentence for the audit trail.
    pub fn reason(&self) -> String {
        match self {
            Self::ClientClosed => "client closed".to_owned(),
            Self::TargetClosed => "target closed".to_owned(),
            Self::Expired => "session expired".to_owned(),
            Self::AccessEnded => "access for a time ended".to_owned(),
            Self::CredentialLost => "its rights at the target could not be fitted to policy".to_owned(),
            Self::Unrecorded => "the recorder failed".to_owned(),
            Self::Killed(kill) => {
                let by = kill.by.as_deref().unwrap_or("an operator");
                match &kill.reason {
                    Some(reason) => format!("{}{by}: {reason}", Kill::WORDS),
                    None => format!("{}{by}", Kill::WORDS),
                }
            }
            Self::Shutdown => "gateway shutdown".to_owned(),
            Self::Idle => "idle limit".to_owned(),
            Self::TooLong => "session limit".to_owned(),
            Self::OutOfTime => "operation out of time".to_owned(),
            Self::Fault(fault) => fault.to_string(),
            Self::Broken(Peer::Client, why) => format!("client connection broke: {why}"),
            Self::Broken(Peer::Target, why) => format!("target connection broke: {why}"),
        }
    }
}

/// Who ended a session, and why, as far as that was said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// The operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Kill {
    /// How [`End::reason`] begins for what an operator ended.
    pub const WORDS: &'static str = "killed by ";

    /// What the client is told.
    pub fn told(&self) -> String {
        let text = "the session was ended by an operator of the gateway";
        match &self.reason {
            Some(reason) => format!("{text}: {reason}"),
            None => text.to_owned(),
        }
    }
}

/// A peer broke the protocol: the session can't go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} {what}", match peer { Peer::Client => "client", Peer::Target => "target" })]
pub struct Fault {
    /// Whose fault it is.
    pub peer: Peer,
    /// What it did, as the rest of a sentence: "sent a malformed Bind: ...".
    pub what: String,
}

impl Fault {
    /// The client's fault.
    pub fn client(what: impl Into<String>) -> Self {
        Self {
            peer: Peer::Client,
            what: what.into(),
        }
    }

    /// The target's fault.
    pub fn target(what: impl Into<String>) -> Self {
        Self {
            peer: Peer::Target,
            what: what.into(),
        }
    }
}

/// One session of a byte-stream protocol, sans-IO: no sockets, no clock, no async.
///
/// The driver ([`crate::relay`]) owns the sockets and calls:
///
/// 1. [`parse`](Self::parse) with what has arrived from a peer, again and again until it wants more;
/// 2. [`inspect`](Self::inspect) with each message that must be decided: *what does it try?*
/// 3. [`rewrite`](Self::rewrite) with the ruling: the message's own bytes, or a refusal in its place.
///
/// The same bytes give the same actions however they are split. No method has a default that permits.
pub trait ProtocolSession: Send {
    /// A client's message that must be decided before it is forwarded.
    type Message: Send;
    /// What `inspect` can need from outside; [`Infallible`] where it never needs anything.
    type Need: Send;
    /// The answer to a need.
    type Provision: Send;

    /// Parses the front of `input`, which `from` has sent. Forwarding is for the driver; what replaces
    /// something goes into `out`.
    fn parse(
        &mut self,
        from: Peer,
        input: &[u8],
        out: &mut Outbound,
        now: Instant,
    ) -> Result<Parsed<Self::Message>, Fault>;

    /// Says what a message tries.
    fn inspect(
        &mut self,
        message: &mut Self::Message,
        out: &mut Outbound,
        now: Instant,
    ) -> Result<Inspection<Self::Need>, Fault>;

    /// Puts the message, or its refusal, where it belongs.
    fn rewrite(&mut self, message: Self::Message, ruling: &Ruling, out: &mut Outbound) -> Result<(), Fault>;

    /// What an approval of the message binds beside the statement's text and the parameters as people see them: the
    /// parameters' exact bytes and types where these say more, and settings of the session that the text's meaning hangs
    /// on. Two messages for which this and the question are equal do the same. Asked only of a message that is held.
    fn bound(&self, message: &Self::Message) -> Bound;

    /// Tells the client that its message is held; it goes on waiting. The message is inspected again before it can run.
    fn held(&mut self, message: &mut Self::Message, notice: &Decision, out: &mut Outbound);

    /// Whether a message that is held has become void: a failure before it means that the target would skip it, and its
    /// client waits for nothing. It is inspected again then, and asks nothing.
    fn is_void(&self, message: &Self::Message) -> bool;

    /// Takes what `inspect` needed.
    fn provide(&mut self, provision: Self::Provision);

    /// The operation of that ticket has used up its time and is being cancelled at the target: what the target
    /// says of it becomes `decision`.
    fn out_of_time(&mut self, ticket: u64, decision: Decision);

    /// The next operation that has ended, if any.
    fn poll_outcome(&mut self) -> Option<Outcome>;

    /// Whether nothing is under way: a session that can be ended without harm.
    fn is_quiet(&self) -> bool;

    /// Writes the goodbye that the protocol has for `why`. After it nothing is parsed but what the target still answers,
    /// so that it is known how operations ended; what that would write is sent to nobody.
    fn end(&mut self, why: &End, out: &mut Outbound);

    /// The target will answer no more: each operation whose end is not known ends here, with an [`Outcome`] that says so.
    fn abandon(&mut self);
}

/// Gets what a machine needs from outside.
#[async_trait::async_trait]
pub trait Provider<S: ProtocolSession>: Send {
    /// Answers one need. It never fails: a provision can say that there is none.
    async fn provide(&self, need: S::Need) -> S::Provision;

    /// Asks the target, on a way of its own, to cancel what the session runs; `false`: there is no such way,
    /// and the session is ended instead.
    async fn interrupt(&self) -> bool;
}

/// The provider of machines that never need anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct NothingNeeded;

#[async_trait::async_trait]
impl<S> Provider<S> for NothingNeeded
where
    S: ProtocolSession<Need = Infallible>,
{
    async fn provide(&self, need: Infallible) -> S::Provision {
        match need {}
    }

    async fn interrupt(&self) -> bool {
        false
    }
}
