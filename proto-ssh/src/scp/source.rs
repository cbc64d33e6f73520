//! What the two sides may send, and what becomes of it.

use super::{
    Action, Ask, AskId, Base, Event, FILE, FOLDER, Fault, Held, LEAVE, MAX_DEPTH, PIECE, Peer, Scp, What,
};
use crate::sftp::MAX_PATH;
use crate::wire::scp::{Direction, Line, MAX_LINE, Reply, split_line, split_reply};

/// What the sink has to answer next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Awaited {
    Nothing,
    /// The first byte of a sink, before anything is sent.
    Start,
    Times,
    /// The times of what is permitted already; the line of that follows.
    TimesOf {
        line: Vec<u8>,
        then: Box<Awaited>,
    },
    /// Where it takes the file, its bytes follow.
    File {
        path: Vec<u8>,
        size: u64,
    },
    Directory {
        path: Vec<u8>,
    },
    /// A file is there.
    End {
        path: Vec<u8>,
        size: u64,
        whole: bool,
    },
    Leave,
}

#[derive(Debug)]
enum State {
    Line,
    /// Bytes of a file that are still to come.
    Data {
        path: Vec<u8>,
        size: u64,
        left: u64,
    },
    /// The byte behind a file, or why it is not whole.
    DataEnd {
        path: Vec<u8>,
        size: u64,
    },
}

/// Paths on the target, and a name that takes the place of another.
type Paths = (Vec<Vec<u8>>, Option<Vec<u8>>);

/// Where the source is.
#[derive(Debug)]
pub(super) struct Source {
    state: State,
    /// What the command names, each with its last component as the client wrote it, where that is a name.
    bases: Vec<(Base, Option<Vec<u8>>)>,
    /// Folders that were entered, as paths on the target.
    folders: Vec<Vec<u8>>,
    what: What,
}

impl Source {
    pub(super) fn new(direction: Direction, bases: Vec<(Base, Option<Vec<u8>>)>) -> Self {
        let what = match direction {
            Direction::Source => What::Read,
            Direction::Sink => What::Write,
        };
        Self {
            state: State::Line,
            bases,
            folders: Vec::new(),
            what,
        }
    }

    /// How many folders it is in.
    pub(super) fn depth(&self) -> usize {
        self.folders.len()
    }

    pub(super) fn is_inside(&self) -> bool {
        !matches!(self.state, State::Line)
    }

    /// The paths on the target that a name stands for, the last of them the one where it ends up, for all we know; and
    /// the name that the client asked for, where the target has another one for it.
    fn paths(&mut self, name: &[u8]) -> Result<Paths, Fault> {
        let mut other = None;
        let paths = match (self.folders.last(), self.what) {
            (Some(folder), _) => vec![below(folder, name)],
            // Each name of the command comes once, in order; some may be left out.
            (None, What::Read) => {
                let named = |(base, written): &(Base, Option<Vec<u8>>)| {
                    last(&base.path) == name || written.as_deref() == Some(name)
                };
                let place = self.bases.iter().position(named).ok_or(Fault::Name)?;
                self.bases.drain(..place);
                let (base, written) = self.bases.remove(0);
                other = written.filter(|written| written != name);
                vec![base.path]
            }
            (None, What::Write) => {
                let (base, _) = self.bases.first().ok_or(Fault::Name)?;
                match base.directory {
                    Some(true) => vec![below(&base.path, name)],
                    Some(false) => vec![base.path.clone()],
                    None => vec![base.path.clone(), below(&base.path, name)],
                }
            }
        };
        if paths.iter().any(|path| path.len() > MAX_PATH) {
            Err(Fault::TooDeep)
        } else {
            Ok((paths, other))
        }
    }
}

/// The last component, without slashes at the end.
pub(super) fn last(path: &[u8]) -> &[u8] {
    let end = path
        .iter()
        .rposition(|&byte| byte != b'/')
        .map_or(0, |at| at.saturating_add(1));
    path.get(..end)
        .and_then(|path| path.rsplit(|&byte| byte == b'/').next())
        .unwrap_or_default()
}

/// A line with another name.
fn renamed(line: &[u8], name: &[u8], other: Option<Vec<u8>>) -> Vec<u8> {
    let head = line.strip_suffix(b"\n").and_then(|line| line.strip_suffix(name));
    match (head, other) {
        (Some(head), Some(other)) => [head, &other, b"\n"].concat(),
        _ => line.to_vec(),
    }
}

fn below(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let folder = folder.strip_suffix(b"/").unwrap_or(folder);
    [folder, b"/", name].concat()
}

impl Scp {
    /// One answer of the sink; whether there was one.
    pub(super) fn step_sink(&mut self) -> Result<bool, Fault> {
        let Some((reply, rest)) = split_reply(&self.from_sink).map_err(Fault::Malformed)? else {
            return Ok(false);
        };
        let (reply, rest) = (reply.to_vec(), rest.to_vec());
        if self.over {
            return Err(Fault::Over);
        }
        let accepted = match Reply::parse(&reply).map_err(Fault::Malformed)? {
            Reply::Ok => true,
            Reply::Warning(_) => false,
            Reply::Fatal(_) => {
                self.over = true;
                false
            }
        };
        if self.awaited == Awaited::Nothing && !self.over {
            return Err(Fault::Unsolicited);
        }
        let what = self.source.what;
        match std::mem::replace(&mut self.awaited, Awaited::Nothing) {
            // The source has had its answer to the times: this one is to the line that follows, or in its place.
            Awaited::TimesOf { line, then } if accepted => {
                self.from_sink = rest;
                self.send(self.sink(), line);
                self.awaited = *then;
                return Ok(true);
            }
            Awaited::File { path, size } if accepted => {
                self.source.state = State::Data {
                    path,
                    size,
                    left: size,
                }
            }
            Awaited::Directory { path } if accepted => {
                self.source.folders.push(path.clone());
                self.actions
                    .push_back(Action::Event(Event::Entered { path, what }));
            }
            Awaited::End { path, size, whole } if accepted && whole => {
                self.actions.push_back(Action::Event(Event::Transferred {
                    path,
                    what,
                    bytes: size,
                }));
            }
            // Not this one: the source goes on with the next.
            _ => {}
        }
        self.from_sink = rest;
        self.send(self.from(), reply);
        Ok(true)
    }

    /// One line or piece of the source; whether there was one.
    pub(super) fn step_source(&mut self) -> Result<bool, Fault> {
        if self.is_withheld() {
            self.from_source.clear();
        }
        if self.held.is_some()
            || self.stopped
            || self.awaited != Awaited::Nothing
            || self.from_source.is_empty()
        {
            return Ok(false);
        }
        if self.over {
            return Err(Fault::Over);
        }
        match std::mem::replace(&mut self.source.state, State::Line) {
            State::Line => self.line(),
            State::Data { path, size, left: 0 } => {
                self.source.state = State::DataEnd { path, size };
                Ok(true)
            }
            State::Data { path, size, left } => {
                let most = usize::try_from(left)
                    .unwrap_or(usize::MAX)
                    .min(PIECE)
                    .min(self.from_source.len());
                let piece: Vec<u8> = self.from_source.drain(..most).collect();
                let offset = size.saturating_sub(left);
                let passes = self
                    .contents
                    .as_mut()
                    .is_none_or(|contents| contents.passes(offset, &piece));
                if !passes {
                    self.actions.push_back(Action::Event(Event::Withheld { path }));
                    return Ok(true);
                }
                let left = left.saturating_sub(u64::try_from(most).unwrap_or(u64::MAX));
                self.source.state = State::Data { path, size, left };
                self.send(self.sink(), piece);
                Ok(true)
            }
            State::DataEnd { path, size } => {
                let waiting = self.peek();
                let Some((end, _)) = split_reply(&waiting).map_err(Fault::Malformed)? else {
                    self.source.state = State::DataEnd { path, size };
                    return Ok(false);
                };
                let whole = Reply::parse(end).map_err(Fault::Malformed)? == Reply::Ok;
                self.from_source.drain(..end.len());
                self.send(self.sink(), end.to_vec());
                self.awaited = Awaited::End { path, size, whole };
                Ok(true)
            }
        }
    }

    /// As much as a line can have.
    fn peek(&self) -> Vec<u8> {
        self.from_source.iter().copied().take(MAX_LINE).collect()
    }

    fn line(&mut self) -> Result<bool, Fault> {
        let waiting = self.peek();
        let Some((line, _)) = split_line(&waiting).map_err(Fault::Malformed)? else {
            return Ok(false);
        };
        let then = match Line::parse(line).map_err(Fault::Malformed)? {
            Line::File { mode, size, name } => {
                let (paths, other) = self.source.paths(name)?;
                let asked = (FILE, format!(" mode={:04o} size={size}", mode & 0o7777));
                self.hold(renamed(line, name, other), &paths, asked, |path| Awaited::File {
                    path,
                    size,
                });
                None
            }
            Line::Directory { mode, name, .. } => {
                if self.source.folders.len() >= MAX_DEPTH {
                    return Err(Fault::TooDeep);
                }
                let (paths, other) = self.source.paths(name)?;
                let asked = (FOLDER, format!(" mode={:04o}", mode & 0o7777));
                self.hold(renamed(line, name, other), &paths, asked, |path| {
                    Awaited::Directory { path }
                });
                None
            }
            Line::Leave => {
                let folder = self.source.folders.pop().ok_or(Fault::Depth)?;
                match self.direction {
                    Direction::Source => Some(Awaited::Leave),
                    // The target gives the folder its mode and times now, by its name: that may lead elsewhere by now.
                    Direction::Sink => {
                        self.hold(line.to_vec(), &[folder], (LEAVE, String::new()), |_| {
                            Awaited::Leave
                        });
                        None
                    }
                }
            }
            Line::Times { .. } if self.direction == Direction::Source => {
                // A source has opened the file by now, and waits. What it has opened is decided when its name comes: so it gets
                // its answer here, and not from a client that can take its time while it changes where the name leads.
                self.times = line.to_vec();
                self.send(Peer::Target, b"\0".to_vec());
                None
            }
            Line::Times { .. } => Some(Awaited::Times),
            Line::Warning(_) => {
                self.times.clear();
                Some(Awaited::Nothing)
            }
            Line::Fatal(_) => {
                self.over = true;
                Some(Awaited::Nothing)
            }
        };
        self.from_source.drain(..line.len());
        if let Some(then) = then {
            self.awaited = then;
            self.send(self.sink(), line.to_vec());
        }
        Ok(true)
    }

    /// Asks for all paths of a line and keeps it until they are answered.
    fn hold(
        &mut self,
        line: Vec<u8>,
        paths: &[Vec<u8>],
        (operation, detail): (&'static str, String),
        then: impl FnOnce(Vec<u8>) -> Awaited,
    ) {
        let what = self.source.what;
        let mut asks = Vec::new();
        for path in paths {
            self.next_ask = self.next_ask.wrapping_add(1);
            let id = AskId(self.next_ask);
            asks.push(id);
            self.actions.push_back(Action::Ask(Ask {
                id,
                what,
                path: path.clone(),
                operation,
                both: None,
                detail: detail.clone(),
                exact: line.clone(),
            }));
        }
        let then = then(paths.last().cloned().unwrap_or_default());
        self.held = Some(Held {
            times: std::mem::take(&mut self.times),
            line,
            then,
            asks,
            contents: None,
        });
    }
}
