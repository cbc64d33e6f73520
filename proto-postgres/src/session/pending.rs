//! What the server still owes: one entry for each message that was forwarded and will be answered.

use std::sync::Arc;

use bytes::BytesMut;
use gateway_core::verdict::LimitedBy;
use gateway_sql::{Effect, StatementAnalysis};

use super::names::Change;
use super::withhold::Tagged;
use crate::analyzed::Analyzed;
use crate::mask::plan::{Columns, Plan};
use crate::mask::row::Masking;

/// One forwarded message.
#[derive(Debug)]
pub struct Pending {
    /// Which.
    pub expect: Expect,
    /// The run of messages (up to a Sync or Query) that it belongs to.
    pub run: u64,
    /// A name that it changes.
    pub change: Option<Change>,
}

/// What the server will answer.
#[derive(Debug)]
pub enum Expect {
    /// Query: results up to ReadyForQuery.
    Query(Box<Running>),
    /// Parse: ParseComplete.
    Parse,
    /// Bind: BindComplete.
    Bind,
    /// Describe: ParameterDescription (of a statement, and where it is kept), then RowDescription or NoData.
    Describe(Option<super::names::Described>),
    /// The gateway's own Describe of a portal before its Execute, which follows: RowDescription or NoData, and neither is
    /// the client's.
    Layout,
    /// Execute: rows, then CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute(Box<Running>),
    /// Close: CloseComplete.
    Close,
    /// Sync: ReadyForQuery.
    Sync,
    /// FunctionCall: FunctionCallResponse, then ReadyForQuery.
    Function(Box<Running>),
    /// A message that is sure to fail, in the place of a refused one: its error becomes the refusal. In the
    /// simple protocol ReadyForQuery follows.
    Refusal {
        /// Whether it was sent as Query.
        simple: bool,
        /// The refusal as a whole frame.
        error: BytesMut,
        /// The client was told already.
        told: bool,
    },
    /// A step of one of the gateway's own questions; the client sees nothing of it.
    Own(Step),
}

/// Steps of the gateway's own question on the session's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Parse.
    Parse,
    /// Bind.
    Bind,
    /// Execute.
    Execute,
    /// Close.
    Close,
    /// Sync.
    Sync,
}

/// An operation that runs.
#[derive(Debug, Default)]
pub struct Running {
    /// The ticket of its ruling.
    pub ticket: u64,
    /// Rows so far.
    pub rows: u64,
    /// Bytes sent to the client for it.
    pub bytes: u64,
    /// The error that it ended with.
    pub error: Option<String>,
    /// Rows that it may still give.
    pub budget: Option<u64>,
    /// The most rows that policy gives, and who sets it.
    pub most: Option<Box<(u64, Option<Arc<LimitedBy>>)>>,
    /// It gave more than it may, or other columns than it should: the rest is not passed on.
    pub overrun: bool,
    /// It gave other columns than the analysis says.
    pub mismatch: bool,
    /// What it does.
    pub analyzed: Option<Analyzed>,
    /// The statement of it that gives its result now.
    pub at: usize,
    /// What is masked in its results.
    pub plan: Option<Arc<Plan>>,
    /// How, in the result that is under way.
    pub mask: Option<Masking>,
    /// Effects of its statements that have not completed yet.
    pub effects: Effects,
    /// COPY FROM STDIN statements that have not begun yet.
    pub copy_ins: usize,
    /// The portal, where it is an Execute.
    pub portal: String,
    /// What the client is told if the target cancels it for us.
    pub cancelled: Option<BytesMut>,
}

impl Running {
    /// What is masked in the result that is under way, or comes next.
    pub fn masked(&self) -> Option<&Arc<Columns>> {
        self.plan.as_ref()?.of_statement(self.at)
    }

    /// How it works on data that has a tag.
    pub fn tagged(&self) -> Tagged {
        match self.analyzed.as_ref() {
            Some(analyzed) if !analyzed.touches_tags => Tagged::No,
            Some(analyzed) if !analyzed.reads_tags => Tagged::Touched,
            _ => Tagged::Read,
        }
    }

    /// Whether texts of the target about it may quote data that has a tag.
    pub fn touches_tags(&self) -> bool {
        self.tagged() != Tagged::No
    }

    /// The statement that gives its result.
    pub fn statement(&self) -> Option<&StatementAnalysis> {
        self.analyzed.as_ref()?.statements.get(self.at)
    }

    /// Whether a statement of the same message has defined something before the one that gives its result, and none has run what
    /// may define things that nobody followed.
    pub fn has_defined(&self) -> bool {
        let defines = |effect: &Effect| {
            matches!(
                effect,
                Effect::CatalogChanged | Effect::TempCreated { .. } | Effect::TempChanged
            )
        };
        let statements = self
            .analyzed
            .as_ref()
            .map_or(&[][..], |analyzed| &analyzed.statements);
        let before = || statements.iter().take(self.at);
        let opaque =
            |statement: &StatementAnalysis| statement.opaque_call || !statement.opaque_functions.is_empty();
        before().flat_map(|statement| &statement.effects).any(defines) && !before().any(opaque)
    }

    /// The statement that gave its result has completed.
    pub fn next_statement(&mut self) {
        self.at = self.at.saturating_add(1);
        self.mask = None;
    }

    /// Whether a later message may mean something else once this has run.
    pub fn changes_meaning(&self) -> bool {
        self.effects.left().any(changes_meaning)
    }
}

/// Effects of the statements of a message, one statement after the other.
#[derive(Debug, Default)]
pub struct Effects {
    of: Option<Analyzed>,
    next: usize,
}

impl Effects {
    /// Those of a text whose statements all have still to complete.
    pub fn of(analyzed: &Analyzed) -> Self {
        let any = analyzed
            .statements
            .iter()
            .any(|statement| !statement.effects.is_empty());
        Self {
            of: any.then(|| analyzed.clone()),
            next: 0,
        }
    }

    /// The next statement has completed: its effects.
    pub fn complete(&mut self) -> Vec<Effect> {
        let Some(analyzed) = &self.of else {
            return Vec::new();
        };
        let effects = analyzed
            .statements
            .get(self.next)
            .map(|statement| statement.effects.clone());
        self.next = self.next.saturating_add(1);
        effects.unwrap_or_default()
    }

    /// The statements that are left will not run.
    pub fn clear(&mut self) {
        self.of = None;
    }

    /// Effects of the statements that have not completed.
    pub fn left(&self) -> impl Iterator<Item = &Effect> {
        let statements = self
            .of
            .iter()
            .flat_map(|analyzed| analyzed.statements.iter().skip(self.next));
        statements.flat_map(|statement| &statement.effects)
    }
}

/// Whether what follows may mean something else after this effect.
pub fn changes_meaning(effect: &Effect) -> bool {
    !matches!(
        effect,
        Effect::Begin | Effect::Savepoint(_) | Effect::CopyIn | Effect::CopyOut
    )
}

impl Expect {
    /// The operation that it runs.
    pub fn running(&mut self) -> Option<&mut Running> {
        match self {
            Self::Query(running) | Self::Execute(running) | Self::Function(running) => Some(running),
            _ => None,
        }
    }
}
