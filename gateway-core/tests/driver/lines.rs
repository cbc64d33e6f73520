//! A protocol of lines, as a machine and as an adapter.
//!
//! The client sends `GET k`, `PUT k`, `LOCK k` (nothing more is parsed until it is answered), `ASK k` (the machine
//! asks the target `?k` before it knows what it means), `BYE`, and `PANIC parse|inspect`. The target answers each
//! with a line; lines that begin with `+` belong to an answer that goes on, those with `*` to none, and after `%`
//! nothing more is parsed until the client has sent something.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use bytes::BytesMut;
use gateway_core::adapter::{ConfigProblem, Connection, ProtocolAdapter, ServeError};
use gateway_core::gateway::{Attempt, Gateway};
use gateway_core::machine::{
    Bound, End, Fault, Inspection, Outbound, Outcome, Parsed, Peer, ProtocolSession, Provider, Question,
    Stage,
};
use gateway_core::meaning::Meaning;
use gateway_core::operation::{Action, EntityRef, Object, Operation, Operations};
use gateway_core::policy::SchemaPart;
use gateway_core::relay::{Leftover, Relay};
use gateway_core::resource::Resource;
use gateway_core::secret::Secret;
use gateway_core::transport::Transport;
use gateway_core::verdict::{Decision, Ruling};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What is sent to the client once all before it has been answered.
enum Owed {
    Answer(u64),
    Text(String),
}

#[derive(Default)]
pub(crate) struct Lines {
    owed: VecDeque<Owed>,
    outcomes: VecDeque<Outcome>,
    late: Option<(u64, Decision)>,
    locked: bool,
    target_waits: bool,
    asking: bool,
    answered: bool,
}

impl Lines {
    fn flush(&mut self, out: &mut Outbound) {
        while let Some(Owed::Text(text)) = self.owed.front() {
            out.to_client.extend_from_slice(text.as_bytes());
            self.owed.pop_front();
        }
    }

    fn answer(&mut self, line: &[u8], out: &mut Outbound) -> Result<Parsed<String>, Fault> {
        let consumed = line.len();
        match line[0] {
            b'*' | b'+' => return Ok(Parsed::Forward(consumed)),
            b'%' => {
                self.target_waits = true;
                return Ok(Parsed::Consumed(consumed));
            }
            b'!' if self.asking => {
                self.answered = true;
                return Ok(Parsed::Consumed(consumed));
            }
            _ => {}
        }
        let Some(Owed::Answer(ticket)) = self.owed.pop_front() else {
            return Err(Fault::target("answered what nobody asked"));
        };
        self.locked = false;
        match self.late.take_if(|(late, _)| *late == ticket) {
            Some((_, decision)) => {
                out.to_client
                    .extend_from_slice(format!("DENIED {}\n", decision.to_json()).as_bytes());
            }
            None => out.to_client.extend_from_slice(line),
        }
        self.outcomes.push_back(Outcome {
            ticket,
            rows: 1,
            bytes: u64::try_from(consumed).unwrap(),
            error: None,
        });
        self.flush(out);
        Ok(Parsed::Consumed(consumed))
    }
}

impl ProtocolSession for Lines {
    type Message = String;
    type Need = String;
    type Provision = ();

    fn parse(
        &mut self,
        from: Peer,
        input: &[u8],
        out: &mut Outbound,
        _: Instant,
    ) -> Result<Parsed<String>, Fault> {
        if from == Peer::Client && self.locked || from == Peer::Target && self.target_waits {
            return Ok(Parsed::Blocked);
        }
        let Some(end) = input.iter().position(|b| *b == b'\n') else {
            return Ok(Parsed::Incomplete);
        };
        let line = &input[..=end];
        if from == Peer::Target {
            return self.answer(line, out);
        }
        self.target_waits = false;
        if line == b"BYE\n" {
            return Ok(Parsed::Goodbye(line.len()));
        }
        assert!(line != b"PANIC parse\n", "the parser has a bug");
        if line.starts_with(b"WRONG") {
            return Err(Fault::client("sent what is wrong"));
        }
        let message = String::from_utf8(line.to_vec()).map_err(|_| Fault::client("sent no UTF-8"))?;
        Ok(Parsed::Inspect {
            consumed: line.len(),
            message,
        })
    }

    fn inspect(
        &mut self,
        message: &mut String,
        out: &mut Outbound,
        _: Instant,
    ) -> Result<Inspection<String>, Fault> {
        let text = message.trim_end();
        assert!(text != "PANIC inspect", "the inspector has a bug");
        if let Some(key) = text.strip_prefix("ASK ") {
            if !self.asking {
                self.asking = true;
                out.to_target.extend_from_slice(format!("?{key}\n").as_bytes());
            }
            if !std::mem::take(&mut self.answered) {
                return Ok(Inspection::Wait);
            }
            self.asking = false;
        }
        let asked = Operation::new(Action::new("line"), Object::new(EntityRef::resource("lines-1")));
        Ok(Inspection::Ask(Question {
            operations: Arc::new(Operations::new(vec![asked], text)),
            statement: None,
            writes: text.starts_with("PUT "),
            stage: Stage::Run,
        }))
    }

    fn rewrite(&mut self, message: String, ruling: &Ruling, out: &mut Outbound) -> Result<(), Fault> {
        match ruling {
            Ruling::Run { ticket, .. } => {
                self.locked = message.starts_with("LOCK ");
                self.owed.push_back(Owed::Answer(*ticket));
                out.to_target.extend_from_slice(message.as_bytes());
            }
            Ruling::Refuse { decision, .. } => {
                let text = format!("DENIED {}\n", decision.to_json());
                self.owed.push_back(Owed::Text(text));
                self.flush(out);
            }
        }
        Ok(())
    }

    fn bound(&self, message: &String) -> Bound {
        Bound {
            parameters: None,
            exact: message.clone().into_bytes(),
            stands_for: Vec::new(),
            estimate: None,
        }
    }

    fn held(&mut self, _: &mut String, notice: &Decision, out: &mut Outbound) {
        out.to_client
            .extend_from_slice(format!("HELD {}\n", notice.to_json()).as_bytes());
    }

    fn is_void(&self, message: &String) -> bool {
        message.ends_with("void\n") && self.target_waits
    }

    fn provide(&mut self, (): ()) {}

    fn out_of_time(&mut self, ticket: u64, decision: Decision) {
        self.late = Some((ticket, decision));
    }

    fn poll_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    fn is_quiet(&self) -> bool {
        self.owed.is_empty()
    }

    fn end(&mut self, why: &End, out: &mut Outbound) {
        out.to_client
            .extend_from_slice(format!("END {}\n", why.reason()).as_bytes());
    }

    fn abandon(&mut self) {
        for owed in self.owed.drain(..) {
            if let Owed::Answer(ticket) = owed {
                self.outcomes.push_back(Outcome {
                    ticket,
                    rows: 0,
                    bytes: 0,
                    error: Some("unanswered".to_owned()),
                });
            }
        }
    }
}

/// Counts how often an operation was to be interrupted.
#[derive(Debug, Default)]
pub(crate) struct Interrupts {
    pub(crate) count: AtomicU64,
    pub(crate) impossible: AtomicBool,
}

#[derive(Clone)]
pub(crate) struct LinesProvider(pub(crate) Arc<Interrupts>);

#[async_trait]
impl Provider<Lines> for LinesProvider {
    async fn provide(&self, _: String) {}

    async fn interrupt(&self) -> bool {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        !self.0.impossible.load(Ordering::Relaxed)
    }
}

/// Serves lines: the first is `LOGIN token resource`.
#[derive(Debug, Default)]
pub(crate) struct LinesAdapter {
    pub(crate) interrupts: Arc<Interrupts>,
}

pub(crate) const PROTOCOL: &str = "lines";

impl LinesAdapter {
    async fn login_line(connection: &mut Connection) -> Result<(String, BytesMut), ServeError> {
        let mut input = BytesMut::new();
        loop {
            if let Some(end) = input.iter().position(|b| *b == b'\n') {
                let line = input.split_to(end + 1);
                return Ok((String::from_utf8_lossy(&line).trim_end().to_owned(), input));
            }
            let read = connection.transport.read_buf(&mut input).await;
            if read.map_err(|e| ServeError::Client(e.to_string()))? == 0 {
                return Err(ServeError::Client("closed".into()));
            }
        }
    }
}

#[async_trait]
impl ProtocolAdapter for LinesAdapter {
    fn protocol(&self) -> &'static str {
        PROTOCOL
    }

    fn vocabulary(&self) -> Result<Vec<SchemaPart>, ConfigProblem> {
        Ok(Vec::new())
    }

    fn configure(&mut self, _: serde_json::Value) -> Result<(), ConfigProblem> {
        Ok(())
    }

    fn check_resource(&self, _: &Resource) -> Result<(), ConfigProblem> {
        Ok(())
    }

    async fn meaning(
        &self,
        _: &Arc<Gateway>,
        _: &Arc<Resource>,
        statement: &str,
        _: Option<&str>,
        _: bool,
    ) -> Result<Meaning, ConfigProblem> {
        Ok(Arc::new(Operations::new(Vec::new(), statement)).into())
    }

    async fn serve(self: Arc<Self>, mut connection: Connection) -> Result<(), ServeError> {
        let deadline = connection.deadline;
        let login = async {
            let (line, rest) = Self::login_line(&mut connection).await?;
            let mut words = line.split(' ').skip(1).map(str::to_owned);
            let (token, resource) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let attempt = Attempt {
                peer: connection.peer,
                protocol: PROTOCOL,
                user: resource.clone(),
                resource,
                detail: None,
            };
            let gateway = &connection.gateway;
            let opened = match gateway.authenticate(&attempt, &Secret::new(token)).await {
                Ok(who) => gateway.open_session(&attempt, who, |o| o).await,
                Err(refusal) => Err(refusal),
            };
            match opened {
                Ok(scope) => Ok((scope, rest)),
                Err(refusal) => {
                    let text = format!("REFUSED {refusal}\n");
                    let _ = connection.transport.write_all(text.as_bytes()).await;
                    Err(ServeError::Refused)
                }
            }
        };
        let (mut scope, client) = Connection::in_time(deadline, login).await?;
        drop(connection.half_open.take());
        let target = tokio::net::TcpStream::connect(&scope.resource().address)
            .await
            .map_err(|e| ServeError::Target(e.to_string()))?;
        let leftover = Leftover {
            client,
            target: BytesMut::new(),
        };
        let mut out = Outbound::default();
        out.to_client.extend_from_slice(b"WELCOME\n");
        Relay::new(
            &mut scope,
            Lines::default(),
            LinesProvider(self.interrupts.clone()),
            connection.transport,
            Transport::Tcp(target),
            leftover,
            out,
        )
        .run()
        .await;
        Ok(())
    }
}
