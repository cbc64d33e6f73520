//! Answers of the target.

use super::handles::Handle;
use super::plan::{After, Expect, Outstanding};
use super::{Action, Event, Fault, Phase, Sftp, inside, with_id};
use crate::wire::sftp::{Extension, Names, Response, ResponseBody, VERSION, Version, status};

/// What is decided here and may be announced, with the version that is understood.
const EXTENSIONS: [(&[u8], &[u8]); 9] = [
    (b"posix-rename@openssh.com", b"1"),
    (b"statvfs@openssh.com", b"2"),
    (b"fstatvfs@openssh.com", b"2"),
    (b"hardlink@openssh.com", b"1"),
    (b"fsync@openssh.com", b"1"),
    (b"lsetstat@openssh.com", b"1"),
    (b"limits@openssh.com", b"1"),
    (b"expand-path@openssh.com", b"1"),
    (b"copy-data", b"1"),
];

impl Sftp {
    /// A whole packet of the target.
    pub(super) fn handle_response(&mut self, packet: Vec<u8>) -> Result<(), Fault> {
        match self.phase {
            Phase::Init => Err(Fault::Start),
            Phase::Version => self.handle_version(&packet),
            Phase::Open if super::is_first(&packet) => Err(Fault::Start),
            Phase::Open => self.handle_reply(packet),
        }
    }

    fn handle_version(&mut self, packet: &[u8]) -> Result<(), Fault> {
        let announced = Version::parse(inside(packet))
            .map_err(Fault::Malformed)?
            .ok_or(Fault::Start)?;
        if announced.version != VERSION {
            return Err(Fault::Version(announced.version));
        }
        let mut extensions = Vec::new();
        for (name, data) in EXTENSIONS {
            if announced.extensions.contains(&Extension { name, data }) {
                self.extensions.push(name);
                extensions.push(Extension { name, data });
            }
        }
        let packet = Version {
            version: VERSION,
            extensions,
        }
        .encode()
        .map_err(|_| Fault::TooLong)?;
        self.phase = Phase::Open;
        self.send_client(packet);
        Ok(())
    }

    fn handle_reply(&mut self, packet: Vec<u8>) -> Result<(), Fault> {
        let Response { id, body } = Response::parse(inside(&packet)).map_err(Fault::Malformed)?;
        match self.outstanding.remove(&id).ok_or(Fault::Unsolicited)? {
            Outstanding::Resolve { number, path } => self.handle_resolved(number, path, &body),
            Outstanding::Client {
                client_id,
                expect,
                after,
                effect: _,
            } => {
                check(expect, &body)?;
                if let (&After::Read { handle, offset }, ResponseBody::Data { data }) = (&after, &body)
                    && let Some((text, event)) = self.handles.withheld(handle, offset, data)
                {
                    self.answer_status(client_id, status::PERMISSION_DENIED, &text)?;
                    self.actions.extend(event.map(Action::Event));
                    return Ok(());
                }
                let events = self.after(after, &body)?;
                self.answer(with_id(packet, client_id));
                self.actions.extend(events.map(Action::Event));
                Ok(())
            }
        }
    }

    /// The answer to a REALPATH of our own.
    fn handle_resolved(&mut self, number: u64, path: usize, body: &ResponseBody<'_>) -> Result<(), Fault> {
        check(Expect::OneName, body)?;
        // Gone where another path of the same request could not be resolved.
        let Some(pending) = self.pending.get_mut(&number) else {
            return Ok(());
        };
        let asked = pending.plan.paths.get_mut(path).ok_or(Fault::Names)?;
        let resolved = match body {
            ResponseBody::Name(Names(names)) => asked
                .resolving
                .resolved(names.first().ok_or(Fault::Names)?.filename),
            ResponseBody::Status { code, message, .. } => {
                let (code, text) = (*code, String::from_utf8_lossy(message).into_owned());
                let Some(written) = asked.resolving.as_written() else {
                    self.give_up(number, code, &text);
                    return Ok(());
                };
                pending.plan.instead.get_or_insert((code, text));
                Some(written)
            }
            _ => return Err(Fault::WrongType),
        };
        let Some(resolved) = resolved else {
            self.give_up(
                number,
                status::PERMISSION_DENIED,
                "the target did not resolve the path",
            );
            return Ok(());
        };
        asked.resolved = resolved;
        pending.unresolved = pending.unresolved.saturating_sub(1);
        if pending.unresolved == 0 {
            return self.resolved(number);
        }
        Ok(())
    }

    /// What follows, and what is reported.
    fn after(&mut self, after: After, body: &ResponseBody<'_>) -> Result<Option<Event>, Fault> {
        let done = matches!(body, ResponseBody::Status { code: status::OK, .. });
        Ok(match (after, body) {
            (
                After::Opened {
                    path,
                    read,
                    write,
                    directory,
                    looked,
                },
                ResponseBody::Handle { handle },
            ) => {
                let number = self.number();
                if !self.handles.insert(
                    handle,
                    Handle {
                        number,
                        path: path.clone(),
                        read,
                        write,
                        directory,
                    },
                    looked,
                ) {
                    return Err(Fault::HandleTwice);
                }
                Some(Event::Opened {
                    path,
                    read,
                    write,
                    directory,
                })
            }
            (After::Read { handle, .. }, ResponseBody::Data { data }) => {
                self.handles
                    .read(handle, u64::try_from(data.len()).map_err(|_| Fault::Data)?);
                None
            }
            (After::Written { handle, bytes }, _) if done => {
                self.handles.written(handle, bytes);
                None
            }
            // Also where closing failed: the handle is gone (POSIX leaves it open or not, nobody may use it again).
            (After::Closed { handle }, _) => self.handles.closed(handle),
            (After::Event(event), _) if done => Some(event),
            _ => None,
        })
    }
}

/// Whether a request can be answered so.
fn check(expect: Expect, body: &ResponseBody<'_>) -> Result<(), Fault> {
    match (expect, body) {
        (Expect::Status, ResponseBody::Status { .. })
        | (Expect::Handle, ResponseBody::Handle { .. })
        | (Expect::Attrs, ResponseBody::Attrs(_))
        | (Expect::ExtendedReply, ResponseBody::ExtendedReply { .. }) => Ok(()),
        (_, ResponseBody::Status { code, .. }) if *code != status::OK => Ok(()),
        (Expect::Data(most), ResponseBody::Data { data }) => {
            if u32::try_from(data.len()).is_ok_and(|length| length <= most) {
                Ok(())
            } else {
                Err(Fault::Data)
            }
        }
        (Expect::OneName, ResponseBody::Name(Names(names))) => {
            if names.len() == 1 {
                Ok(())
            } else {
                Err(Fault::Names)
            }
        }
        // A name with a slash would lead the client out of the folder that was permitted (CVE-2019-6111).
        (Expect::Listing, ResponseBody::Name(Names(names))) => {
            let is_name = |name: &[u8]| !name.is_empty() && !name.contains(&b'/') && !name.contains(&0);
            if names.iter().all(|name| is_name(name.filename)) {
                Ok(())
            } else {
                Err(Fault::Names)
            }
        }
        _ => Err(Fault::WrongType),
    }
}
