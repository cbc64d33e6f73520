//! What a request of the client becomes: paths to resolve, questions to ask, a packet to send.

use super::path::{Resolving, Unusable};
use super::{Event, Looked, What};
use crate::wire::sftp::{Attributes, Encoder, Extended, RequestBody, TooLong, kind, open, status};

/// A part of the packet that is sent in the end.
#[derive(Debug)]
pub(super) enum Piece {
    Raw(Vec<u8>),
    /// A path as it was resolved.
    Path(usize),
}

/// A path of a request.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) resolving: Resolving,
    pub(super) what: Vec<What>,
    /// Empty until the target has resolved it.
    pub(super) resolved: Vec<u8>,
    /// It is sent with a slash behind it, as it came: the target then takes a folder alone.
    slash: bool,
}

/// What a request may change, so that it keeps its place among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    /// Nothing.
    Looks,
    /// What is in a file.
    Changes,
    /// Where paths lead.
    Moves,
}

impl Effect {
    pub(super) fn of(body: &RequestBody<'_>) -> Self {
        match body {
            RequestBody::Open { flags, .. } if flags & open::CREAT != 0 => Self::Moves,
            RequestBody::Open { flags, .. } if flags & !open::READ != 0 => Self::Changes,
            RequestBody::Write { .. }
            | RequestBody::Fsetstat { .. }
            | RequestBody::Extended(Extended::CopyData(_)) => Self::Changes,
            // Permissions say what can be reached.
            RequestBody::Setstat { .. }
            | RequestBody::Mkdir { .. }
            | RequestBody::Rmdir { .. }
            | RequestBody::Remove { .. }
            | RequestBody::Rename { .. }
            | RequestBody::Symlink { .. }
            | RequestBody::Extended(
                Extended::PosixRename { .. } | Extended::Hardlink { .. } | Extended::Lsetstat { .. },
            ) => Self::Moves,
            _ => Self::Looks,
        }
    }
}

/// Whether a request names a path that is resolved before it is decided.
pub(super) fn names_paths(body: &RequestBody<'_>) -> bool {
    !matches!(Plan::of(body), Err(NoPlan::Other))
}

/// What it is when the target has done it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Done {
    Nothing,
    Opened {
        read: bool,
        write: bool,
        directory: bool,
    },
    Removed,
    DirectoryMade,
    DirectoryRemoved,
    Renamed,
    Symlinked {
        target: Vec<u8>,
    },
    Hardlinked,
    AttributesSet,
}

/// What the target may answer, beside a STATUS that is no success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    Status,
    Handle,
    /// At most so many bytes.
    Data(u32),
    /// Exactly one name.
    OneName,
    Listing,
    Attrs,
    ExtendedReply,
}

/// A request that waits for its paths and answers.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) operation: &'static str,
    kind: u8,
    pieces: Vec<Piece>,
    pub(super) paths: Vec<Asked>,
    pub(super) expect: Expect,
    pub(super) done: Done,
    pub(super) effect: Effect,
    /// What it says beside its paths.
    pub(super) detail: String,
    /// The status that the client gets in place of the target's answer, where all is permitted.
    pub(super) instead: Option<(u32, String)>,
}

#[derive(Debug)]
pub(super) struct Pending {
    pub(super) client_id: u32,
    pub(super) plan: Plan,
    /// Paths that the target has not resolved.
    pub(super) unresolved: usize,
    pub(super) unanswered: usize,
    /// What must not be in what it reads.
    pub(super) looked: Option<Looked>,
    /// It has waited for people: its paths are to be resolved again before it goes on.
    pub(super) again: bool,
    /// Where its paths led when it was decided, while they are resolved again.
    pub(super) decided: Option<Vec<Vec<u8>>>,
}

/// What follows from an answer of the target.
#[derive(Debug)]
pub(super) enum After {
    Nothing,
    Opened {
        path: Vec<u8>,
        read: bool,
        write: bool,
        directory: bool,
        looked: Option<Looked>,
    },
    Read {
        handle: u64,
        offset: u64,
    },
    Written {
        handle: u64,
        bytes: u64,
    },
    Closed {
        handle: u64,
    },
    Event(Event),
}

/// Something that the target has to answer.
#[derive(Debug)]
pub(super) enum Outstanding {
    /// A REALPATH of our own, for one path of a request.
    Resolve { number: u64, path: usize },
    Client {
        client_id: u32,
        expect: Expect,
        after: After,
        effect: Effect,
    },
}

/// Why there is no plan.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoPlan {
    Unusable(Unusable),
    TooLong,
    /// It is not about paths.
    Other,
}

impl From<Unusable> for NoPlan {
    fn from(unusable: Unusable) -> Self {
        Self::Unusable(unusable)
    }
}

impl From<TooLong> for NoPlan {
    fn from(_: TooLong) -> Self {
        Self::TooLong
    }
}

const FOLLOWS: bool = true;
const STAYS: bool = false;

impl Plan {
    fn new(operation: &'static str, kind: u8, expect: Expect, done: Done) -> Self {
        Self {
            operation,
            kind,
            pieces: Vec::new(),
            paths: Vec::new(),
            expect,
            done,
            effect: Effect::Looks,
            detail: String::new(),
            instead: None,
        }
    }

    fn saying(mut self, detail: String) -> Self {
        self.detail = detail;
        self
    }

    /// Both paths, where there are two, as people read them.
    pub(super) fn both(&self) -> Option<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (from, to) = match &self.done {
            // As `ln -s` has them: the link leads to what it is given.
            Done::Symlinked { target } => (text(self.resolved(0)), text(target)),
            Done::Renamed | Done::Hardlinked => (text(self.resolved(0)), text(self.resolved(1))),
            _ => return None,
        };
        Some(format!("{from} to {to}"))
    }

    fn path(mut self, path: &[u8], follows: bool, what: &[What]) -> Result<Self, Unusable> {
        let resolving = Resolving::of(path, follows)?;
        self.pieces.push(Piece::Path(self.paths.len()));
        self.paths.push(Asked {
            resolving,
            what: what.to_vec(),
            resolved: Vec::new(),
            slash: false,
        });
        Ok(self)
    }

    /// The name of what is removed or gets another name: a link there stays one, also with a slash behind it, and what is no
    /// folder is refused with one.
    fn name(self, path: &[u8]) -> Result<Self, Unusable> {
        let mut plan = self.path(path, STAYS, &[What::Write])?;
        if let Some(asked) = plan.paths.last_mut() {
            asked.slash = asked.resolving.last.is_some() && path.ends_with(b"/");
        }
        Ok(plan)
    }

    fn raw(mut self, bytes: Vec<u8>) -> Self {
        self.pieces.push(Piece::Raw(bytes));
        self
    }

    /// The plan of a request that names paths. The table of what is read and what is written.
    pub(super) fn of(body: &RequestBody<'_>) -> Result<Self, NoPlan> {
        let mut plan = Self::by_table(body)?;
        plan.effect = Effect::of(body);
        Ok(plan)
    }

    fn by_table(body: &RequestBody<'_>) -> Result<Self, NoPlan> {
        use What::{Read, Write};
        let one = |operation, expect, done| Self::new(operation, body.kind(), expect, done);
        Ok(match body {
            RequestBody::Open {
                path,
                flags,
                attributes,
            } => return Self::open(path, *flags, attributes),
            RequestBody::Opendir { path } => {
                let done = Done::Opened {
                    read: true,
                    write: false,
                    directory: true,
                };
                one("OPENDIR", Expect::Handle, done).path(path, FOLLOWS, &[Read])?
            }
            RequestBody::Stat { path } => {
                one("STAT", Expect::Attrs, Done::Nothing).path(path, FOLLOWS, &[Read])?
            }
            RequestBody::Lstat { path } => {
                one("LSTAT", Expect::Attrs, Done::Nothing).path(path, path.ends_with(b"/"), &[Read])?
            }
            RequestBody::Readlink { path } => {
                one("READLINK", Expect::OneName, Done::Nothing).path(path, path.ends_with(b"/"), &[Read])?
            }
            RequestBody::Setstat { path, attributes } => one("SETSTAT", Expect::Status, Done::AttributesSet)
                .path(path, FOLLOWS, &[Write])?
                .raw(bytes_of(attributes)?)
                .saying(told(attributes)),
            RequestBody::Mkdir { path, attributes } => one("MKDIR", Expect::Status, Done::DirectoryMade)
                .path(path, STAYS, &[Write])?
                .raw(bytes_of(attributes)?)
                .saying(told(attributes)),
            RequestBody::Rmdir { path } => one("RMDIR", Expect::Status, Done::DirectoryRemoved).name(path)?,
            RequestBody::Remove { path } => one("REMOVE", Expect::Status, Done::Removed).name(path)?,
            RequestBody::Rename { old, new } => one("RENAME", Expect::Status, Done::Renamed)
                .name(old)?
                .name(new)?,
            RequestBody::Symlink { target, link } => {
                super::path::check(target)?;
                one(
                    "SYMLINK",
                    Expect::Status,
                    Done::Symlinked {
                        target: target.to_vec(),
                    },
                )
                .raw(string(target)?)
                .path(link, STAYS, &[Write])?
            }
            RequestBody::Extended(extended) => return Self::extended(extended),
            RequestBody::Close { .. }
            | RequestBody::Read { .. }
            | RequestBody::Write { .. }
            | RequestBody::Fstat { .. }
            | RequestBody::Fsetstat { .. }
            | RequestBody::Readdir { .. }
            | RequestBody::Realpath { .. }
            | RequestBody::Unknown { .. } => return Err(NoPlan::Other),
        })
    }

    /// Any flag but READ is a write. Without WRITE the target opens for reading, whatever else is set or not.
    fn open(path: &[u8], flags: u32, attributes: &Attributes<'_>) -> Result<Self, NoPlan> {
        let read = flags & open::READ != 0 || flags & open::WRITE == 0;
        let write = flags & !open::READ != 0;
        let mut what = Vec::new();
        if read {
            what.push(What::Read);
        }
        if write {
            what.push(What::Write);
        }
        // With CREAT and EXCL a link in the last place is an error of the target, whatever it points to.
        let follows = flags & (open::CREAT | open::EXCL) != open::CREAT | open::EXCL;
        let done = Done::Opened {
            read,
            write: flags & open::WRITE != 0,
            directory: false,
        };
        let mut rest = flags.to_be_bytes().to_vec();
        rest.extend(bytes_of(attributes)?);
        let words = [
            (open::READ, " read"),
            (open::WRITE, " write"),
            (open::APPEND, " append"),
            (open::CREAT, " create"),
            (open::TRUNC, " truncate"),
            (open::EXCL, " exclusive"),
        ];
        let set = words.iter().filter(|(flag, _)| flags & flag != 0);
        let words: String = set.map(|(_, word)| *word).collect();
        let mut plan = Self::new("OPEN", kind::OPEN, Expect::Handle, done)
            .path(path, follows, &what)?
            .raw(rest)
            .saying(words + &told(attributes));
        if flags & !open::KNOWN != 0 {
            plan.instead = Some((
                status::OP_UNSUPPORTED,
                "a flag of OPEN is not part of version 3".to_owned(),
            ));
        }
        Ok(plan)
    }

    fn extended(extended: &Extended<'_>) -> Result<Self, NoPlan> {
        use What::{Read, Write};
        let named = |operation, expect, done| {
            Ok::<_, TooLong>(Self::new(operation, kind::EXTENDED, expect, done).raw(string(extended.name())?))
        };
        Ok(match extended {
            Extended::PosixRename { old, new } => {
                named("posix-rename@openssh.com", Expect::Status, Done::Renamed)?
                    .name(old)?
                    .name(new)?
            }
            Extended::Hardlink { old, new } => {
                named("hardlink@openssh.com", Expect::Status, Done::Hardlinked)?
                    .path(old, FOLLOWS, &[Read])?
                    .path(new, STAYS, &[Write])?
            }
            Extended::Statvfs { path } => named("statvfs@openssh.com", Expect::ExtendedReply, Done::Nothing)?
                .path(path, FOLLOWS, &[Read])?,
            Extended::Lsetstat { path, attributes } => {
                named("lsetstat@openssh.com", Expect::Status, Done::AttributesSet)?
                    .path(path, STAYS, &[Write])?
                    .raw(bytes_of(attributes)?)
                    .saying(told(attributes))
            }
            Extended::Fstatvfs { .. }
            | Extended::Fsync { .. }
            | Extended::Limits
            | Extended::ExpandPath { .. }
            | Extended::CopyData(_)
            | Extended::HomeDirectory { .. }
            | Extended::UsersGroupsById { .. }
            | Extended::Unknown { .. } => return Err(NoPlan::Other),
        })
    }

    /// The packet with the paths as they were resolved.
    pub(super) fn encode(&self, id: u32) -> Result<Vec<u8>, TooLong> {
        let mut packet = Encoder::new(self.kind).u32(id);
        for piece in &self.pieces {
            packet = match piece {
                Piece::Raw(bytes) => packet.raw(bytes),
                Piece::Path(place) => match self.paths.get(*place) {
                    Some(path) if path.slash => packet.string(&[&path.resolved[..], b"/"].concat())?,
                    _ => packet.string(self.resolved(*place))?,
                },
            };
        }
        packet.finish()
    }

    fn resolved(&self, place: usize) -> &[u8] {
        self.paths.get(place).map_or(b"", |path| &path.resolved)
    }

    /// What is to be done when the target has done it.
    pub(super) fn after(&self, looked: Option<Looked>) -> After {
        let path = self.resolved(0).to_vec();
        match &self.done {
            Done::Nothing => After::Nothing,
            &Done::Opened {
                read,
                write,
                directory,
            } => After::Opened {
                path,
                read,
                write,
                directory,
                looked,
            },
            Done::Removed => After::Event(Event::Removed { path }),
            Done::DirectoryMade => After::Event(Event::DirectoryMade { path }),
            Done::DirectoryRemoved => After::Event(Event::DirectoryRemoved { path }),
            Done::Renamed => After::Event(Event::Renamed {
                old: path,
                new: self.resolved(1).to_vec(),
            }),
            Done::Symlinked { target } => After::Event(Event::Symlinked {
                target: target.clone(),
                link: path,
            }),
            Done::Hardlinked => After::Event(Event::Hardlinked {
                old: path,
                new: self.resolved(1).to_vec(),
            }),
            Done::AttributesSet => After::Event(Event::AttributesSet { path }),
        }
    }
}

/// Attributes as people read them.
fn told(attributes: &Attributes<'_>) -> String {
    let mut text = String::new();
    if let Some(size) = attributes.size {
        text.push_str(&format!(" size={size}"));
    }
    if let Some((user, group)) = attributes.owner {
        text.push_str(&format!(" owner={user}:{group}"));
    }
    if let Some(mode) = attributes.permissions {
        text.push_str(&format!(" mode={:04o}", mode & 0o7777));
    }
    if let Some((_, changed)) = attributes.times {
        text.push_str(&format!(" time={changed}"));
    }
    if attributes.extended.is_some() {
        text.push_str(" and more");
    }
    text
}

/// The bytes of attributes, to be sent as they were read.
fn bytes_of(attributes: &Attributes<'_>) -> Result<Vec<u8>, TooLong> {
    attributes.put(Encoder::new(0))?.fields()
}

fn string(bytes: &[u8]) -> Result<Vec<u8>, TooLong> {
    Encoder::new(0).string(bytes)?.fields()
}
