//! The two machines of file transfers as one.

use crate::scp::{self, Scp};
use crate::sftp::{Action, Answer, AskId, Peer, Sftp};

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

    pub(super) fn handle_answer(&mut self, ask: AskId, answer: Answer) -> Result<(), Broken> {
        match self {
            Self::Sftp(machine) => Ok(machine.handle_answer(ask, answer)?),
            Self::Scp(machine) => Ok(machine.handle_answer(ask, answer)?),
        }
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
            Self::Scp(machine) => loop {
                return Ok(match machine.poll() {
                    Some(scp::Action::ToClient(bytes)) => Some(Action::ToClient(bytes)),
                    Some(scp::Action::ToTarget(bytes)) => Some(Action::ToTarget(bytes)),
                    Some(scp::Action::Ask(ask)) => Some(Action::Ask(ask)),
                    // Each file was asked for by itself, and its operation is in the trail.
                    Some(scp::Action::Event(_)) => continue,
                    None => None,
                });
            },
        }
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
