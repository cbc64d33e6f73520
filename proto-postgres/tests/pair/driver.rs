//! What `gateway-core`'s relay does, without sockets, with a clock that stands and a policy that is a function.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, BytesMut};
use gateway_core::gateway::PREPARED;
use gateway_core::machine::{
    End, Inspection, Outbound, Outcome, Parsed, Peer, ProtocolSession, Question, Stage,
};
use gateway_core::verdict::{Code, Denial, Obligations, Ruling};
use gateway_sql::Catalog;
use proto_postgres::session::{Changed, Message, Need, Provision, Session, Settings};
use proto_postgres::structure::Structure;

/// What policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Run,
    Rows(u64),
    Deny,
    /// After so many ticks it runs.
    Later(u32),
    /// Held for so many ticks; then approved, or not.
    Hold(u32, bool),
}

/// A question that policy was asked, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub text: String,
    pub operations: Vec<String>,
    pub stage: Stage,
    pub runs: bool,
}

type Policy = Box<dyn FnMut(&Question, &[String]) -> Answer>;

enum Work {
    Free,
    Inspect(Message),
    Providing(Message),
    Judging(Message, Ruling, u32),
    /// As judging, and a person decides: nobody does any more when the client has gone.
    Held(Message, Ruling, u32),
}

/// One session, driven by hand.
pub struct Driver {
    session: Session,
    pub from_client: BytesMut,
    pub from_target: BytesMut,
    pub out: Outbound,
    work: Work,
    now: Instant,
    policy: Policy,
    /// The structure that the provider would read.
    pub catalog: Catalog,
    structure: Option<Arc<Structure>>,
    ticket: u64,
    pub asked: Vec<Asked>,
    pub outcomes: Vec<Outcome>,
    pub end: Option<End>,
    client_gone: bool,
    target_gone: bool,
}

/// Limits of the sessions under test.
pub const STATEMENT_BYTES: usize = 4096;

impl Driver {
    pub fn new(catalog: Catalog, policy: Policy) -> Self {
        let settings = Settings {
            resource: "r".to_owned(),
            database: "d".to_owned(),
            login: "login".to_owned(),
            statement_bytes: STATEMENT_BYTES,
            parameter_bytes: STATEMENT_BYTES,
            withhold: false,
            detect: gateway_core::detect::Detectors::default(),
            mask_key: gateway_core::mask::MaskKey::new(&[0; 32]),
            nonce: "gateway-nonce".to_owned(),
            session: "session".to_owned(),
        };
        let parameters = [
            (b"client_encoding".to_vec(), b"UTF8".to_vec()),
            (b"server_encoding".to_vec(), b"UTF8".to_vec()),
            (b"standard_conforming_strings".to_vec(), b"on".to_vec()),
        ];
        Self {
            session: Session::new(settings, &parameters, Changed(Arc::new(|| {}))),
            from_client: BytesMut::new(),
            from_target: BytesMut::new(),
            out: Outbound::default(),
            work: Work::Free,
            now: Instant::now(),
            policy,
            catalog,
            structure: None,
            ticket: PREPARED,
            asked: Vec::new(),
            outcomes: Vec::new(),
            end: None,
            client_gone: false,
            target_gone: false,
        }
    }

    /// Whether nothing is under way and nothing waits.
    pub fn is_quiet(&self) -> bool {
        matches!(self.work, Work::Free) && self.from_client.is_empty() && self.session.is_quiet()
    }

    /// Whether a verdict is on its way.
    pub fn is_judging(&self) -> bool {
        matches!(self.work, Work::Judging(..) | Work::Held(..))
    }

    /// Time goes on for verdicts.
    pub fn tick(&mut self) {
        if let Work::Judging(_, _, left) | Work::Held(_, _, left) = &mut self.work {
            *left = left.saturating_sub(1);
        }
    }

    /// Does all that can be done now.
    pub fn pump(&mut self) {
        while self.end.is_none() {
            let progress = self
                .work()
                .and_then(|a| Ok(a | self.target()?))
                .and_then(|a| Ok(a | self.client()?));
            while let Some(outcome) = self.session.poll_outcome() {
                self.outcomes.push(outcome);
            }
            match progress {
                Ok(true) => {}
                Ok(false) => {
                    self.end = self.gone();
                    return;
                }
                Err(end) => self.end = Some(end),
            }
        }
    }

    /// That peer sends no more; what it has sent whole counts.
    pub fn close(&mut self, peer: Peer) {
        match peer {
            Peer::Client => self.client_gone = true,
            Peer::Target => self.target_gone = true,
        }
    }

    /// Why the session ends where all that came has been dealt with, if a peer has gone.
    fn gone(&self) -> Option<End> {
        let waits = !matches!(self.work, Work::Free | Work::Held(..));
        if self.target_gone {
            Some(End::TargetClosed)
        } else {
            (self.client_gone && !waits).then_some(End::ClientClosed)
        }
    }

    /// Says goodbye.
    pub fn goodbye(&mut self, why: &End) {
        self.session.end(why, &mut self.out);
    }

    /// Parses what the target has sent, and nothing else.
    pub fn pump_target(&mut self) {
        if self.end.is_none()
            && let Err(end) = self.target()
        {
            self.end = Some(end);
        }
    }

    fn work(&mut self) -> Result<bool, End> {
        match std::mem::replace(&mut self.work, Work::Free) {
            Work::Free => Ok(false),
            Work::Inspect(message) => {
                let before = self.out.to_target.len();
                self.inspect(message)?;
                Ok(!matches!(self.work, Work::Inspect(_)) || self.out.to_target.len() != before)
            }
            Work::Providing(message) => {
                let structure = match self.structure.take().filter(|known| !known.is_superseded()) {
                    Some(known) => known,
                    None => Arc::new(Structure::new(self.catalog.clone(), Arc::default())),
                };
                self.structure = Some(structure.clone());
                self.session.provide(Provision::Structure(Ok(structure)));
                self.inspect(message)?;
                Ok(true)
            }
            Work::Judging(message, ruling, 0) | Work::Held(message, ruling, 0) => {
                self.rewrite(message, &ruling)?;
                Ok(true)
            }
            judging => {
                self.work = judging;
                Ok(false)
            }
        }
    }

    fn inspect(&mut self, mut message: Message) -> Result<(), End> {
        let inspected = self
            .session
            .inspect(&mut message, &mut self.out, self.now)
            .map_err(End::Fault)?;
        match inspected {
            Inspection::Wait => self.work = Work::Inspect(message),
            Inspection::Needs(Need::Structure(_)) => self.work = Work::Providing(message),
            Inspection::Refuse(denial, _) => {
                let ruling = self.refusal(&denial);
                self.rewrite(message, &ruling)?;
            }
            Inspection::Ask(question) => self.judge(message, &question)?,
        }
        Ok(())
    }

    fn refusal(&mut self, denial: &Denial) -> Ruling {
        self.ticket += 1;
        Ruling::Refuse {
            decision: Arc::new(denial.decision("c")),
            ticket: self.ticket,
        }
    }

    fn judge(&mut self, mut message: Message, question: &Question) -> Result<(), End> {
        let operations: Vec<String> = question
            .operations
            .list()
            .iter()
            .map(|o| format!("{} {}", o.action.as_str(), o.object.entity.id))
            .collect();
        let answer = (self.policy)(question, &operations);
        let prepare = matches!(question.stage, Stage::Prepare { .. });
        let runs_early = matches!(question.stage, Stage::Prepare { runs: true });
        let (mut runs, mut ticks, mut held, mut obligations) = (true, 0, false, Obligations::default());
        match answer {
            Answer::Run => {}
            Answer::Rows(rows) => obligations.rows = Some(rows),
            Answer::Deny => runs = false,
            Answer::Later(n) => ticks = n,
            Answer::Hold(..) if prepare => runs = !runs_early,
            Answer::Hold(n, approved) => (runs, ticks, held) = (approved, n, true),
        }
        self.asked.push(Asked {
            text: question
                .statement
                .as_ref()
                .map(|s| s.text.exact.to_string())
                .unwrap_or_default(),
            operations,
            stage: question.stage,
            runs,
        });
        let denial = Denial::new(question.operations.summary(), "not here");
        let ruling = if !runs {
            self.refusal(&denial)
        } else if prepare {
            Ruling::Run {
                obligations: Obligations::default(),
                ticket: PREPARED,
            }
        } else {
            self.ticket += 1;
            Ruling::Run {
                obligations,
                ticket: self.ticket,
            }
        };
        if held {
            let mut notice = denial.decision("c");
            notice.code = Code::ApprovalPending;
            self.session.held(&mut message, &notice, &mut self.out);
        }
        if held {
            self.work = Work::Held(message, ruling, ticks);
            return Ok(());
        }
        if ticks > 0 {
            self.work = Work::Judging(message, ruling, ticks);
            return Ok(());
        }
        self.rewrite(message, &ruling)
    }

    fn rewrite(&mut self, message: Message, ruling: &Ruling) -> Result<(), End> {
        self.session
            .rewrite(message, ruling, &mut self.out)
            .map_err(End::Fault)
    }

    fn client(&mut self) -> Result<bool, End> {
        let mut progress = false;
        while matches!(self.work, Work::Free) && !self.from_client.is_empty() {
            let parsed = self
                .session
                .parse(Peer::Client, &self.from_client, &mut self.out, self.now);
            match parsed.map_err(End::Fault)? {
                Parsed::Incomplete | Parsed::Blocked => break,
                Parsed::Forward(n) => {
                    let run = self.from_client.split_to(n);
                    self.out.to_target.extend_from_slice(&run);
                }
                Parsed::Consumed(n) => self.from_client.advance(n),
                Parsed::Goodbye(_) => {
                    self.from_client.clear();
                    return Err(End::ClientClosed);
                }
                Parsed::Inspect { consumed, message } => {
                    self.from_client.advance(consumed);
                    self.inspect(message)?;
                }
            }
            progress = true;
        }
        Ok(progress)
    }

    fn target(&mut self) -> Result<bool, End> {
        let mut progress = false;
        while !self.from_target.is_empty() {
            let parsed = self
                .session
                .parse(Peer::Target, &self.from_target, &mut self.out, self.now);
            match parsed.map_err(End::Fault)? {
                Parsed::Incomplete | Parsed::Blocked => break,
                Parsed::Forward(n) => {
                    let run = self.from_target.split_to(n);
                    self.out.to_client.extend_from_slice(&run);
                }
                Parsed::Consumed(n) => self.from_target.advance(n),
                Parsed::Inspect { .. } | Parsed::Goodbye(_) => panic!("only a client's message is inspected"),
            }
            progress = true;
        }
        Ok(progress)
    }
}
