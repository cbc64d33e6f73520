//! The two machines of file transfers as one.

use crate::scp::{self, Scp};
use crate::sftp::{Action, Answer, AskId, Event, Peer, Sftp, What};

/// Either machine.
pub(super) enum Machine {
    Sftp(Box<Sftp>),
    Scp(Box<Scp>),
}

/// A side broke the protocol.
pub(super) struct Broken {
    /// Which.
    pub(super) by: Peer,
    /// What it did.
    pub(super) what: String,
}

impl From<crate::sftp::Error> for Broken {
    fn from(error: crate::sftp::Error) -> Self {
        Self {
            by: error.peer,
            what: error.to_string(),
        }
    }
}

impl From<scp::Error> for Broken {
    fn from(error: scp::Error) -> Self {
        Self {
            by: error.peer,
            what: error.to_string(),
        }
    }
}

/// A file that went through ends as one of SFTP does.
fn over(event: scp::Event) -> Event {
    let (path, what, bytes) = match event {
        scp::Event::Withheld { path } => return Event::Withheld { path },
        scp::Event::Transferred { path, what, bytes } => (path, what, bytes),
        scp::Event::Entered { path, what } => (path, what, 0),
    };
    let (read, written) = match what {
        What::Read => (bytes, 0),
        What::Write => (0, bytes),
    };
    Event::Closed { path, read, written }
}

impl Machine {
    pub(super) fn handle_client(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        match self {
            Self::Sftp(machine) => Ok(machine.handle_client(bytes)?),
            Self::Scp(machine) => Ok(machine.handle_client(bytes)?),
        }
    }

    pub(super) fn handle_target(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        match self {
            Self::Sftp(machine) => Ok(machine.handle_target(bytes)?),
            Self::Scp(machine) => Ok(machine.handle_target(bytes)?),
        }
    }

    /// `late`: it has waited for people.
    pub(super) fn handle_answer(&mut self, ask: AskId, answer: Answer, late: bool) -> Result<(), Broken> {
        match self {
            Self::Sftp(machine) if late => Ok(machine.handle_late_answer(ask, answer)?),
            Self::Sftp(machine) => Ok(machine.handle_answer(ask, answer)?),
            // Whoever answered has looked again where it leads.
            Self::Scp(machine) => Ok(machine.handle_answer(ask, answer)?),
        }
    }

    /// Whether the target's program would still do something by name when its input ends.
    pub(super) fn is_in_a_folder(&self) -> bool {
        matches!(self, Self::Scp(machine) if machine.is_in_a_folder())
    }

    /// Whether nothing may go on.
    pub(super) fn is_stopped(&self) -> bool {
        matches!(self, Self::Scp(machine) if machine.is_stopped())
    }

    pub(super) fn handle_end(&mut self, peer: Peer) -> Result<(), Broken> {
        match self {
            Self::Sftp(machine) => Ok(machine.handle_end(peer)?),
            Self::Scp(machine) => Ok(machine.handle_end(peer)?),
        }
    }

    pub(super) fn poll(&mut self) -> Result<Option<Action>, Broken> {
        match self {
            Self::Sftp(machine) => Ok(machine.poll()?),
            Self::Scp(machine) => Ok(machine.poll().map(|action| match action {
                scp::Action::ToClient(bytes) => Action::ToClient(bytes),
                scp::Action::ToTarget(bytes) => Action::ToTarget(bytes),
                scp::Action::Ask(ask) => Action::Ask(ask),
                scp::Action::Event(event) => Action::Event(over(event)),
            })),
        }
    }

    /// Whether its protocol can't refuse in the middle of a file.
    pub(super) fn is_mute(&self) -> bool {
        matches!(self, Self::Scp(_))
    }

    pub(super) fn wants_client(&self) -> bool {
        match self {
            Self::Sftp(machine) => machine.wants_client(),
            Self::Scp(machine) => machine.wants_client(),
        }
    }

    pub(super) fn wants_target(&self) -> bool {
        match self {
            Self::Sftp(machine) => machine.wants_target(),
            Self::Scp(machine) => machine.wants_target(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Sftp(machine) => machine.is_idle(),
            // A line that waits for its answer is an open question.
            Self::Scp(_) => true,
        }
    }

    pub(super) fn finish(&mut self) {
        if let Self::Sftp(machine) = self {
            machine.finish();
        }
    }
}
