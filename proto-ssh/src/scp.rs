//! The sans-IO machine between a client of the old scp protocol and `scp -f` or `scp -t` on a target.
//!
//! ```text
//! source: `C0644 12 name` ─▶ Ask ─▶ Allow ─▶ sink: 0 ─▶ source: 12 bytes, 0 ─▶ sink: 0
//!                              └──▶ Deny ──▶ both are told: not this one
//! ```
//!
//! Each file and folder is asked for when its line comes; the line is held until the answer, and nothing of the source
//! behind it is read. The protocol is kept strictly: a source has to wait for the sink as OpenSSH's does, and no answer
//! passes that is not owed, so that no side can run ahead of a decision.
//!
//! The path that is asked is made of the path of the command and the names of the lines. The protocol has no request
//! that resolves a path, so whoever answers has to have it
//! resolved before it is decided: [`crate::sftp::resolver`].

mod error;
mod source;

use std::collections::VecDeque;

use crate::contents::Contents;
pub use crate::sftp::{Answer, Ask, AskId, Looked, Peer, What};
use crate::wire::scp::{Direction, ScpCommand};
pub use error::{Error, Fault};
use source::{Awaited, Source};

/// What is asked where a file comes, where a folder comes, and where one is left.
pub const FILE: &str = "scp";
/// See [`FILE`].
pub const FOLDER: &str = "scp folder";
/// See [`FILE`]: whether it is still the folder that was entered.
pub const LEAVE: &str = "leave";

/// How deep folders go.
pub const MAX_DEPTH: usize = 128;

/// A path that the command names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// As the target resolved it.
    pub path: Vec<u8>,
    /// Whether it is a folder on the target, where that is known. Where it is not, a sink is asked for both what it
    /// would write: the path itself, and the name below it.
    pub directory: Option<bool>,
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send bytes to the target.
    ToTarget(Vec<u8>),
    /// Send bytes to the client.
    ToClient(Vec<u8>),
    /// Decide, and call [`Scp::handle_answer`].
    Ask(Ask),
    /// Write it down.
    Event(Event),
}

/// Something that was done, with the path that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A file went through whole.
    Transferred {
        /// The path on the target.
        path: Vec<u8>,
        /// Read or written on the target.
        what: What,
        /// Its length.
        bytes: u64,
    },
    /// A folder was entered; a sink makes it where it is not there.
    Entered {
        /// The path on the target.
        path: Vec<u8>,
        /// Read or written on the target.
        what: What,
    },
    /// Something was found in a file that must not be read. Nothing more goes on: the protocol has no way to end a file before
    /// its length.
    Withheld {
        /// The path on the target.
        path: Vec<u8>,
    },
}

/// The line that waits for its answers.
#[derive(Debug)]
struct Held {
    /// The line with the times of it, where a source has sent one.
    times: Vec<u8>,
    line: Vec<u8>,
    then: Awaited,
    asks: Vec<AskId>,
    contents: Option<Contents>,
}

/// The machine of one command.
#[derive(Debug)]
pub struct Scp {
    direction: Direction,
    failed: Option<Error>,
    /// What the source sent and was not read.
    from_source: VecDeque<u8>,
    /// What the sink sent and was not read.
    from_sink: Vec<u8>,
    source: Source,
    /// What the sink has to answer.
    awaited: Awaited,
    held: Option<Held>,
    /// What a source has said of the times of what comes next.
    times: Vec<u8>,
    /// What must not be in the file that is read.
    contents: Option<Contents>,
    /// A side said that this is the end.
    over: bool,
    stopped: bool,
    actions: VecDeque<Action>,
    next_ask: u64,
}

/// How many bytes of a file are sent on in one piece.
const PIECE: usize = 32 * 1024;

impl Scp {
    /// A command that was permitted and is about to start. A sink has one base; the bases of a source are in the order
    /// of the command.
    pub fn new(direction: Direction, bases: Vec<Base>) -> Self {
        Self::begin(direction, bases.into_iter().map(|base| (base, None)).collect())
    }

    /// The same, with the command as the client wrote it and the base of each of its paths. A client takes only the
    /// names that it asked for: it reads those in place of the ones that the resolved paths have (`latest.log`, which
    /// is a link to `app.log`). So what the target is to run is [`ScpCommand::words`] with the resolved paths.
    pub fn of(command: &ScpCommand, bases: Vec<Base>) -> Self {
        let written = command.paths.iter().map(|path| {
            let name = source::last(path.as_bytes());
            (!matches!(name, b"" | b"." | b"..")).then(|| name.to_vec())
        });
        let written = written.chain(std::iter::repeat(None));
        Self::begin(command.direction, bases.into_iter().zip(written).collect())
    }

    fn begin(direction: Direction, bases: Vec<(Base, Option<Vec<u8>>)>) -> Self {
        Self {
            direction,
            failed: None,
            from_source: VecDeque::new(),
            from_sink: Vec::new(),
            source: Source::new(direction, bases),
            awaited: Awaited::Start,
            held: None,
            times: Vec::new(),
            contents: None,
            over: false,
            stopped: false,
            actions: VecDeque::new(),
            next_ask: 0,
        }
    }

    /// Takes bytes of the client. All are kept: who calls it while [`Self::wants_client`] is false has to bound them.
    ///
    /// # Errors
    ///
    /// Where a side broke the protocol; the command has to end, and every later call fails alike.
    pub fn handle_client(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.push(Peer::Client, bytes);
        self.advance()
    }

    /// Takes bytes of the target. All are kept: who calls it while [`Self::wants_target`] is false has to bound them.
    ///
    /// # Errors
    ///
    /// As [`Self::handle_client`].
    pub fn handle_target(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.push(Peer::Target, bytes);
        self.advance()
    }

    /// Takes the answer to a question.
    ///
    /// # Errors
    ///
    /// As [`Self::handle_client`]; and where there is no such question, which is the caller's fault.
    pub fn handle_answer(&mut self, ask: AskId, answer: Answer) -> Result<(), Error> {
        self.failed.map_or(Ok(()), Err)?;
        let Some(mut held) = self.held.take() else {
            // Another question of the same line was answered with no.
            return if ask.0 <= self.next_ask {
                Ok(())
            } else {
                Err(self.fail(Peer::Gateway, Fault::NoSuchQuestion))
            };
        };
        let before = held.asks.len();
        held.asks.retain(|other| *other != ask);
        if held.asks.len() == before {
            self.held = Some(held);
            return if ask.0 <= self.next_ask {
                Ok(())
            } else {
                Err(self.fail(Peer::Gateway, Fault::NoSuchQuestion))
            };
        }
        match answer {
            Answer::Deny { text } if held.then == Awaited::Leave => {
                self.stop(&text);
                return self.advance();
            }
            Answer::Deny { text } => {
                self.refuse(&text);
                return self.advance();
            }
            Answer::AllowLooked(looked) => held.contents = Some(Contents::new(looked)),
            Answer::Allow => {}
        }
        if held.asks.is_empty() {
            self.contents = held.contents;
            if held.times.is_empty() {
                self.send(self.sink(), held.line);
                self.awaited = held.then;
            } else {
                self.send(self.sink(), held.times);
                self.awaited = Awaited::TimesOf {
                    line: held.line,
                    then: Box::new(held.then),
                };
            }
        } else {
            self.held = Some(held);
        }
        self.advance()
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether more bytes of the client are of use now.
    pub fn wants_client(&self) -> bool {
        self.wants(Peer::Client)
    }

    /// Whether more bytes of the target are of use now.
    pub fn wants_target(&self) -> bool {
        self.wants(Peer::Target)
    }

    /// A side has ended its stream.
    ///
    /// # Errors
    ///
    /// Where a source ended inside a file or a line, or a sink inside an answer.
    pub fn handle_end(&mut self, peer: Peer) -> Result<(), Error> {
        self.failed.map_or(Ok(()), Err)?;
        let inside = if peer == self.from() {
            self.source.is_inside() || !self.from_source.is_empty() || self.is_in_a_folder()
        } else {
            !self.from_sink.is_empty()
        };
        if inside && !self.over && !self.is_withheld() {
            Err(self.fail(peer, Fault::Truncated))
        } else {
            Ok(())
        }
    }

    /// Which side sends the files.
    fn from(&self) -> Peer {
        match self.direction {
            Direction::Source => Peer::Target,
            Direction::Sink => Peer::Client,
        }
    }

    fn sink(&self) -> Peer {
        match self.direction {
            Direction::Source => Peer::Client,
            Direction::Sink => Peer::Target,
        }
    }

    /// Whether the target is in a folder that it would give its mode and times, by its name, where the client's bytes end here.
    pub fn is_in_a_folder(&self) -> bool {
        let entering = matches!(self.awaited, Awaited::Directory { .. });
        let leaving = self.stopped || self.held.as_ref().is_some_and(|held| held.then == Awaited::Leave);
        // Within a file an end is an end to the target's scp, too.
        self.direction == Direction::Sink
            && !self.source.is_inside()
            && (entering || leaving || self.source.depth() > 0)
    }

    fn is_withheld(&self) -> bool {
        self.contents.as_ref().is_some_and(Contents::is_withheld)
    }

    fn wants(&self, peer: Peer) -> bool {
        self.failed.is_none()
            && !self.stopped
            && !self.is_withheld()
            && (peer != self.from() || (self.held.is_none() && self.from_source.len() < PIECE))
    }

    fn push(&mut self, peer: Peer, bytes: &[u8]) {
        if peer == self.from() {
            self.from_source.extend(bytes);
        } else {
            self.from_sink.extend_from_slice(bytes);
        }
    }

    fn send(&mut self, to: Peer, bytes: Vec<u8>) {
        self.actions.push_back(if to == Peer::Target {
            Action::ToTarget(bytes)
        } else {
            Action::ToClient(bytes)
        });
    }

    fn fail(&mut self, peer: Peer, fault: Fault) -> Error {
        let error = Error { peer, fault };
        *self.failed.get_or_insert(error)
    }

    fn advance(&mut self) -> Result<(), Error> {
        self.failed.map_or(Ok(()), Err)?;
        loop {
            // All that the source may send before the next answer, so that how bytes arrive makes no difference.
            while self
                .step_source()
                .map_err(|fault| self.fail(self.from(), fault))?
            {}
            if !self.step_sink().map_err(|fault| self.fail(self.sink(), fault))? {
                return Ok(());
            }
        }
    }

    /// A folder that the target is in leads elsewhere by now: nothing goes on.
    fn stop(&mut self, text: &str) {
        let plain: String = text.chars().filter(|c| !c.is_control()).take(1024).collect();
        self.send(Peer::Client, format!("\x02scp: {plain}\n").into_bytes());
        self.stopped = true;
    }

    /// Whether the command must be ended, since what it would do next is not permitted.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// A line is not permitted: the source leaves it out, as if the sink had said so, and the client reads why.
    fn refuse(&mut self, text: &str) {
        let plain: String = text.chars().filter(|c| !c.is_control()).take(1024).collect();
        let warning = format!("\x01scp: {plain}\n").into_bytes();
        self.send(self.from(), warning.clone());
        if self.direction == Direction::Source {
            self.send(Peer::Client, warning);
        }
    }
}

#[cfg(test)]
mod tests;
