//! Where paths lead on a target, for what has no request of its own to find out: the old scp protocol.
//!
//! A sans-IO client of a target's `sftp-server`, on a channel of the gateway's own. Each path costs a REALPATH and a
//! STAT of what it resolves to.

use std::collections::{BTreeMap, VecDeque};

use super::buffer::Buffer;
use super::path::{Resolving, Unusable};
use super::{Error, Fault, MAX_OPEN, Peer};
use crate::wire::sftp::{
    Init, Names, Request, RequestBody, Response, ResponseBody, VERSION, Version, status,
};

/// The type of a file in its permissions, and the one of a folder (`S_IFMT`, `S_IFDIR`).
const TYPE: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Absolute, without links (except for a last one that was not to be followed), `.`, `..` and empty components.
    pub path: Vec<u8>,
    /// Whether a folder is there; `None` where the target does not say.
    pub directory: Option<bool>,
}

/// Why it is not known where a path leads. Whoever decides has to refuse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// It is empty, too long, or has a NUL.
    #[error("no target has such a path")]
    Unusable,
    /// Too many are asked for.
    #[error("too many paths are being resolved")]
    TooMany,
    /// The target can't or won't resolve it: a code of STATUS.
    #[error("the target did not resolve the path")]
    Refused(u32),
}

/// The number of a path that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u32);

#[derive(Debug)]
enum Waiting {
    Realpath(Resolving),
    Stat(Vec<u8>),
}

/// The client.
#[derive(Debug)]
pub struct Resolver {
    begun: bool,
    failed: Option<Error>,
    from_target: Buffer,
    /// Bytes for the target; until VERSION has come only INIT is sent.
    ready: Vec<u8>,
    held: Vec<u8>,
    waiting: BTreeMap<u32, Waiting>,
    answers: VecDeque<(Ticket, Result<Resolved, Unresolved>)>,
    next: u32,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new()
    }
}

impl Resolver {
    /// Begins; the first bytes are ready.
    pub fn new() -> Self {
        // INIT without extensions fits into a packet.
        let ready = Init {
            version: VERSION,
            extensions: Vec::new(),
        }
        .encode()
        .unwrap_or_default();
        Self {
            begun: false,
            failed: None,
            from_target: Buffer::default(),
            ready,
            held: Vec::new(),
            waiting: BTreeMap::new(),
            answers: VecDeque::new(),
            next: 0,
        }
    }

    /// Asks where a path leads; `follows`: also through a link in its last component.
    ///
    /// # Errors
    ///
    /// Where it is not even asked.
    pub fn ask(&mut self, path: &[u8], follows: bool) -> Result<Ticket, Unresolved> {
        if self.waiting.len() >= MAX_OPEN {
            return Err(Unresolved::TooMany);
        }
        let resolving = Resolving::of(path, follows).map_err(|_: Unusable| Unresolved::Unusable)?;
        self.next = self.next.wrapping_add(1);
        let body = RequestBody::Realpath {
            path: &resolving.query,
        };
        let packet = Request { id: self.next, body }
            .encode()
            .map_err(|_| Unresolved::Unusable)?;
        self.send(&packet);
        self.waiting.insert(self.next, Waiting::Realpath(resolving));
        Ok(Ticket(self.next))
    }

    /// Takes bytes of the target.
    ///
    /// # Errors
    ///
    /// Where the target broke the protocol: nothing that is not answered yet is known.
    pub fn handle_target(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.failed.map_or(Ok(()), Err)?;
        self.from_target.push(bytes);
        loop {
            let packet = self
                .from_target
                .take()
                .map_err(|malformed| self.fail(Fault::Malformed(malformed)))?;
            let Some(packet) = packet else { return Ok(()) };
            self.handle_packet(super::inside(&packet))
                .map_err(|fault| self.fail(fault))?;
        }
    }

    /// The bytes that are to be sent to the target; empty where there are none.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ready)
    }

    /// The next path that is known.
    pub fn poll(&mut self) -> Option<(Ticket, Result<Resolved, Unresolved>)> {
        self.answers.pop_front()
    }

    fn send(&mut self, packet: &[u8]) {
        if self.begun {
            &mut self.ready
        } else {
            &mut self.held
        }
        .extend_from_slice(packet);
    }

    fn fail(&mut self, fault: Fault) -> Error {
        *self.failed.get_or_insert(Error {
            peer: Peer::Target,
            fault,
        })
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), Fault> {
        if !self.begun {
            let version = Version::parse(packet)
                .map_err(Fault::Malformed)?
                .ok_or(Fault::Start)?
                .version;
            if version != VERSION {
                return Err(Fault::Version(version));
            }
            self.begun = true;
            self.ready.append(&mut self.held);
            return Ok(());
        }
        let Response { id, body } = Response::parse(packet).map_err(Fault::Malformed)?;
        let answer = match (self.waiting.remove(&id).ok_or(Fault::Unsolicited)?, body) {
            (Waiting::Realpath(resolving), ResponseBody::Name(Names(names))) => {
                let [name] = names.as_slice() else {
                    return Err(Fault::Names);
                };
                let Some(path) = resolving.resolved(name.filename) else {
                    self.answers
                        .push_back((Ticket(id), Err(Unresolved::Refused(status::FAILURE))));
                    return Ok(());
                };
                let body = RequestBody::Stat { path: &path };
                let packet = Request { id, body }.encode().map_err(|_| Fault::TooLong)?;
                self.send(&packet);
                self.waiting.insert(id, Waiting::Stat(path));
                return Ok(());
            }
            (Waiting::Realpath(_), ResponseBody::Status { code, .. }) if code != status::OK => {
                Err(Unresolved::Refused(code))
            }
            (Waiting::Stat(path), ResponseBody::Attrs(attributes)) => {
                let directory = attributes.permissions.map(|mode| mode & TYPE == FOLDER);
                Ok(Resolved { path, directory })
            }
            (Waiting::Stat(path), ResponseBody::Status { code, .. }) if code != status::OK => {
                let directory = (code == status::NO_SUCH_FILE).then_some(false);
                Ok(Resolved { path, directory })
            }
            _ => return Err(Fault::WrongType),
        };
        self.answers.push_back((Ticket(id), answer));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
