//! One session, sans-IO: what the client may have is forwarded, what it may not have is answered here, each in its place.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use gateway_core::machine::{
    Bound, End, Fault, Inspection, Outbound, Outcome, Parsed, Peer, ProtocolSession,
};
use gateway_core::verdict::{Code, Decision, Denial, Ruling};

use crate::commands::{self, Command};
use crate::wire::{self, Front, Head, Replies};

/// Commands whose replies are owed. A client that sends more waits.
const PIPELINE: usize = 4096;

/// A client's command on its way.
#[derive(Debug)]
pub struct Message {
    bytes: Vec<u8>,
    command: Command,
}

/// What the client gets next.
#[derive(Debug)]
enum Owed {
    /// The target's reply.
    Reply {
        ticket: u64,
        /// At most so many elements.
        rows: Option<u64>,
        /// Stands in the reply's place.
        instead: Option<Vec<u8>>,
    },
    /// A reply of our own.
    Own(Vec<u8>),
}

/// What is known of a reply that has begun.
#[derive(Debug, Default)]
struct Running {
    rows: u64,
    bytes: u64,
    error: Option<String>,
    push: bool,
    hidden: bool,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    resource: String,
    request_bytes: usize,
    owed: VecDeque<Owed>,
    replies: Replies,
    running: Running,
    outcomes: VecDeque<Outcome>,
    /// Between MULTI and its end; whether one of its commands was refused.
    transaction: Option<bool>,
}

impl Session {
    /// A session that has just logged in.
    pub fn new(resource: &str, request_bytes: usize) -> Self {
        Self {
            resource: resource.to_owned(),
            request_bytes,
            owed: VecDeque::new(),
            replies: Replies::default(),
            running: Running::default(),
            outcomes: VecDeque::new(),
            transaction: None,
        }
    }

    /// Answers in the place of the target, after all that is owed.
    fn answer(&mut self, reply: Vec<u8>, out: &mut Outbound) {
        if self.owed.is_empty() && !self.replies.is_inside() {
            out.to_client.extend_from_slice(&reply);
        } else {
            self.owed.push_back(Owed::Own(reply));
        }
    }

    fn own_replies_follow(&self) -> bool {
        matches!(self.owed.front(), Some(Owed::Own(_)))
    }

    fn flush(&mut self, out: &mut Outbound) {
        while self.own_replies_follow() {
            if let Some(Owed::Own(reply)) = self.owed.pop_front() {
                out.to_client.extend_from_slice(&reply);
            }
        }
    }

    fn parse_client(&mut self, input: &[u8]) -> Result<Parsed<Message>, Fault> {
        if self.owed.len() >= PIPELINE {
            return Ok(Parsed::Blocked);
        }
        let front = wire::request(input, self.request_bytes)
            .map_err(|malformed| Fault::client(format!("sent {malformed}")))?;
        Ok(match front {
            Front::Incomplete => Parsed::Incomplete,
            Front::Request(arguments, consumed) => Parsed::Inspect {
                consumed,
                message: Message {
                    command: commands::look_up(&self.resource, &arguments),
                    bytes: input.get(..consumed).unwrap_or_default().to_vec(),
                },
            },
        })
    }

    fn parse_target(&mut self, input: &[u8], out: &mut Outbound) -> Result<Parsed<Message>, Fault> {
        let fault = |malformed: wire::Malformed| Fault::target(format!("sent {malformed}"));
        let Some(part) = self.replies.next(input).map_err(fault)? else {
            return Ok(Parsed::Incomplete);
        };
        let bytes = input.get(..part.bytes).unwrap_or_default();
        if let Some(head) = part.head {
            self.begin(head, bytes, out)?;
        }
        let hidden = self.running.hidden;
        self.running.bytes = self
            .running
            .bytes
            .saturating_add(u64::try_from(part.bytes).unwrap_or(u64::MAX));
        if !part.ends {
            return Ok(if hidden {
                Parsed::Consumed(part.bytes)
            } else {
                Parsed::Forward(part.bytes)
            });
        }
        let ended = std::mem::take(&mut self.running);
        if !ended.push
            && let Some(Owed::Reply { ticket, .. }) = self.owed.pop_front()
        {
            self.outcomes.push_back(Outcome {
                ticket,
                rows: ended.rows,
                bytes: ended.bytes,
                error: ended.error,
            });
        }
        if hidden {
            self.flush(out);
            return Ok(Parsed::Consumed(part.bytes));
        }
        if self.own_replies_follow() {
            // These come after the bytes that are forwarded here, so those go first.
            out.to_client.extend_from_slice(bytes);
            self.flush(out);
            return Ok(Parsed::Consumed(part.bytes));
        }
        Ok(Parsed::Forward(part.bytes))
    }

    /// A reply begins: whose is it, and does the client get it?
    fn begin(&mut self, head: Head, line: &[u8], out: &mut Outbound) -> Result<(), Fault> {
        self.running = Running::default();
        if head == Head::Push {
            self.running.push = true;
            return Ok(());
        }
        let Some(Owed::Reply {
            ticket,
            rows,
            instead,
        }) = self.owed.front_mut()
        else {
            return Err(Fault::target("sent a reply that nobody asked for"));
        };
        if let Some(instead) = instead.take() {
            out.to_client.extend_from_slice(&instead);
            self.running.hidden = true;
            self.running.error = Some("EXECABORT".to_owned());
            return Ok(());
        }
        match head {
            Head::Elements(count) => {
                self.running.rows = count;
                if let Some(most) = rows
                    && count > *most
                {
                    let hint = format!("policy gives {most} elements; ask for fewer");
                    let denial = Denial {
                        code: Code::BudgetExhausted,
                        ..Denial::new("reply", hint)
                    };
                    out.to_client
                        .extend_from_slice(&refusal(&denial.decision(ticket.to_string())));
                    self.running.hidden = true;
                    self.running.rows = 0;
                    self.running.error = Some("NOPERM".to_owned());
                }
            }
            Head::Error => {
                let word = line
                    .get(1..)
                    .unwrap_or_default()
                    .split(|byte| !byte.is_ascii_uppercase())
                    .next();
                self.running.error = Some(commands::shown(word.unwrap_or_default()));
            }
            Head::Other => self.running.rows = 1,
            Head::Push => {}
        }
        Ok(())
    }

    fn run(&mut self, message: Message, rows: Option<u64>, ticket: u64, out: &mut Outbound) {
        let mut bytes = message.bytes;
        let mut instead = None;
        if message.command.name == "EXEC" && self.transaction.take() == Some(true) {
            // As the server does it when a command of a transaction was wrong.
            bytes = wire::encode(&[b"DISCARD"]);
            instead = Some(b"-EXECABORT Transaction discarded because of a refused command\r\n".to_vec());
        }
        match message.command.name.as_str() {
            "MULTI" => {
                self.transaction.get_or_insert(false);
            }
            "DISCARD" => self.transaction = None,
            _ if self.transaction.is_some() && rows.is_some() => {
                // Its reply comes within EXEC's, where it could not be counted.
                self.transaction = Some(true);
                let denial = Denial::new(
                    message.command.name,
                    "policy limits its rows, which can't be kept in MULTI",
                );
                self.answer(refusal(&denial.decision(ticket.to_string())), out);
                self.outcomes.push_back(Outcome {
                    ticket,
                    rows: 0,
                    bytes: 0,
                    error: Some("NOPERM".to_owned()),
                });
                return;
            }
            _ => {}
        }
        out.to_target.extend_from_slice(&bytes);
        self.owed.push_back(Owed::Reply {
            ticket,
            rows,
            instead,
        });
    }
}

/// A refusal as Redis would tell it, with the decision object. JSON has no line ends in it.
pub fn refusal(decision: &Decision) -> Vec<u8> {
    let operation = commands::shown(decision.operation.as_bytes());
    format!("-NOPERM {operation}: {}\r\n", decision.to_json()).into_bytes()
}

impl ProtocolSession for Session {
    type Message = Message;
    type Need = Infallible;
    type Provision = Infallible;

    fn parse(
        &mut self,
        from: Peer,
        input: &[u8],
        out: &mut Outbound,
        _: Instant,
    ) -> Result<Parsed<Message>, Fault> {
        match from {
            Peer::Client => self.parse_client(input),
            Peer::Target => self.parse_target(input, out),
        }
    }

    fn inspect(
        &mut self,
        message: &mut Message,
        _: &mut Outbound,
        _: Instant,
    ) -> Result<Inspection<Infallible>, Fault> {
        Ok(match &message.command.asked {
            Ok(question) => Inspection::Ask(question.clone()),
            Err(denial) => Inspection::Refuse(denial.clone(), Some(message.command.statement.clone())),
        })
    }

    fn rewrite(&mut self, message: Message, ruling: &Ruling, out: &mut Outbound) -> Result<(), Fault> {
        match ruling {
            Ruling::Run { obligations, ticket } => self.run(message, obligations.rows, *ticket, out),
            Ruling::Refuse { decision, .. } => {
                if let Some(failed) = &mut self.transaction {
                    *failed = true;
                }
                self.answer(refusal(decision), out);
            }
        }
        Ok(())
    }

    fn bound(&self, message: &Message) -> Bound {
        Bound {
            parameters: None,
            exact: message.bytes.clone(),
            stands_for: Vec::new(),
            estimate: None,
        }
    }

    fn held(&mut self, _: &mut Message, _: &Decision, _: &mut Outbound) {
        // RESP has no notice; the client waits.
    }

    fn is_void(&self, _: &Message) -> bool {
        // Each command is answered for itself.
        false
    }

    fn provide(&mut self, never: Infallible) {
        match never {}
    }

    fn out_of_time(&mut self, _: u64, _: Decision) {
        // Nothing can be cancelled alone; the driver ends the session.
    }

    fn poll_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    fn is_quiet(&self) -> bool {
        self.owed.is_empty() && !self.replies.is_inside() && self.transaction.is_none()
    }

    fn end(&mut self, why: &End, out: &mut Outbound) {
        let told = match why {
            End::Expired => "the session has expired: log in again with a fresh token",
            End::Killed(_) => "the session was ended by an operator of the gateway",
            End::Shutdown => "the gateway is shutting down",
            End::Idle => "the session was idle for too long",
            End::TooLong => "the session lasted too long",
            End::OutOfTime => "the command took longer than policy allows",
            End::Fault(fault) if fault.peer == Peer::Client => "Protocol error: no array of bulk strings",
            _ => return,
        };
        // In the middle of a reply it would be part of that.
        if !self.replies.is_inside() {
            out.to_client
                .extend_from_slice(format!("-ERR {told}\r\n").as_bytes());
        }
    }

    fn abandon(&mut self) {
        let under_way = std::mem::take(&mut self.running);
        let mut given = (under_way.rows, under_way.bytes);
        for owed in self.owed.drain(..) {
            if let Owed::Reply { ticket, .. } = owed {
                let (rows, bytes) = std::mem::take(&mut given);
                self.outcomes.push_back(Outcome {
                    ticket,
                    rows,
                    bytes,
                    error: Some("the session ended before the target answered: it may have run".to_owned()),
                });
            }
        }
    }
}

/// The decision object of a refusal made here, for tests and for whoever reads the wire.
pub fn decision_in(reply: &[u8]) -> Option<Arc<Decision>> {
    let text = std::str::from_utf8(reply).ok()?;
    let json = text.get(text.find('{')?..)?.trim_end();
    serde_json::from_str(json).ok()
}
