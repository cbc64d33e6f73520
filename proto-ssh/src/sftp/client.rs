//! Requests of the client.

use super::Action;
use super::path::Unusable;
use super::plan::{After, Effect, Expect, NoPlan, Outstanding, Pending, Plan, names_paths};
use super::{Ask, AskId, Event, Fault, MAX_HANDLES, MAX_WAITING, Phase, Sftp, inside, is_first, with_id};
use crate::wire::sftp::{CopyData, Extended, Init, Request, RequestBody, VERSION, status};

/// What a request on a handle needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Any,
    Read,
    Write,
    Listing,
}

impl Sftp {
    /// A whole packet of the client.
    pub(super) fn handle_packet(&mut self, packet: Vec<u8>) -> Result<(), Fault> {
        if self.phase == Phase::Init {
            let init = Init::parse(inside(&packet))
                .map_err(Fault::Malformed)?
                .ok_or(Fault::Start)?;
            if init.version < VERSION {
                return Err(Fault::Version(init.version));
            }
            // Without the client's extensions: nobody judged what a target does with them.
            let packet = Init {
                version: VERSION,
                extensions: Vec::new(),
            }
            .encode()
            .map_err(|_| Fault::TooLong)?;
            self.phase = Phase::Version;
            self.send_target(packet);
            return Ok(());
        }
        if is_first(&packet) {
            return Err(Fault::Start);
        }
        self.handle_request(packet)
    }

    fn handle_request(&mut self, packet: Vec<u8>) -> Result<(), Fault> {
        let Request { id, body } = Request::parse(inside(&packet)).map_err(Fault::Malformed)?;
        let effect = Effect::of(&body);
        if self.ended.is_none() && self.has_to_wait(effect, names_paths(&body)) {
            self.waiting = Some(packet);
            return Ok(());
        }
        self.open = self.open.saturating_add(1);
        if let Some(text) = self.ended.clone()
            && !matches!(body, RequestBody::Close { .. })
        {
            return self.answer_status(id, status::PERMISSION_DENIED, &text);
        }
        let (handle, needs, expect) = match &body {
            RequestBody::Close { handle } => return self.close(id, handle.to_vec(), packet),
            RequestBody::Write { handle, data, .. } => {
                let bytes = u64::try_from(data.len()).map_err(|_| Fault::TooLong)?;
                return match self.granted(handle, Needs::Write) {
                    Ok(handle) => self.forward(packet, id, Expect::Status, After::Written { handle, bytes }),
                    Err((code, text)) => self.answer_status(id, code, text),
                };
            }
            &RequestBody::Read {
                handle,
                offset,
                length,
            } => {
                return match self.granted(handle, Needs::Read) {
                    Ok(handle) => {
                        let after = After::Read { handle, offset };
                        self.forward(packet, id, Expect::Data(length), after)
                    }
                    Err((code, text)) => self.answer_status(id, code, text),
                };
            }
            RequestBody::Fsetstat { handle, .. } => {
                let after = self.handles.find(handle).map(|handle| Event::AttributesSet {
                    path: handle.path.clone(),
                });
                return match self.granted(handle, Needs::Write) {
                    Ok(_) => self.forward(
                        packet,
                        id,
                        Expect::Status,
                        after.map_or(After::Nothing, After::Event),
                    ),
                    Err((code, text)) => self.answer_status(id, code, text),
                };
            }
            RequestBody::Fstat { handle } => (handle, Needs::Any, Expect::Attrs),
            RequestBody::Readdir { handle } => (handle, Needs::Listing, Expect::Listing),
            RequestBody::Extended(extended) => match self.extension(id, extended)? {
                Some(Extended::Fstatvfs { handle }) => (handle, Needs::Any, Expect::ExtendedReply),
                Some(Extended::Fsync { handle }) => (handle, Needs::Write, Expect::Status),
                Some(Extended::Limits) => {
                    return self.forward(packet, id, Expect::ExtendedReply, After::Nothing);
                }
                Some(Extended::ExpandPath { path }) => return self.realpath(id, path.to_vec(), packet),
                Some(Extended::CopyData(copy)) => {
                    return match self.copied(copy) {
                        Ok(after) => self.forward(packet, id, Expect::Status, After::Event(after)),
                        Err((code, text)) => self.answer_status(id, code, text),
                    };
                }
                Some(_) => return self.plan(id, &body, packet.len()),
                None => return Ok(()),
            },
            RequestBody::Realpath { path } => return self.realpath(id, path.to_vec(), packet),
            RequestBody::Unknown { .. } => {
                return self.answer_status(
                    id,
                    status::OP_UNSUPPORTED,
                    "this request is not part of version 3",
                );
            }
            _ => return self.plan(id, &body, packet.len()),
        };
        match self.granted(handle, needs) {
            Ok(_) => self.forward(packet, id, expect, After::Nothing),
            Err((code, text)) => self.answer_status(id, code, text),
        }
    }

    /// Requests reach the target as if each was sent when it came: what changes nothing may pass others of its kind, and nothing
    /// else passes anything. And no path is resolved while the target still does what may change where it leads: the answer
    /// would be of before, and be decided and used after.
    pub(super) fn has_to_wait(&self, effect: Effect, names_paths: bool) -> bool {
        let passes = |pending: &Pending| effect == Effect::Looks && pending.plan.effect == Effect::Looks;
        let moves = |outstanding: &Outstanding| {
            matches!(
                outstanding,
                Outstanding::Client {
                    effect: Effect::Moves,
                    ..
                }
            )
        };
        !self.pending.values().all(passes) || names_paths && self.outstanding.values().any(moves)
    }

    /// The extended request back where it is decided here and the target has it; else it is answered.
    fn extension<'a, 'b>(
        &mut self,
        id: u32,
        extended: &'b Extended<'a>,
    ) -> Result<Option<&'b Extended<'a>>, Fault> {
        if self.extensions.contains(&extended.name()) {
            return Ok(Some(extended));
        }
        self.answer_status(id, status::OP_UNSUPPORTED, "this extension is not supported")?;
        Ok(None)
    }

    /// The number of a handle that is granted for this, or what the client is told.
    fn granted(&self, handle: &[u8], needs: Needs) -> Result<u64, (u32, &'static str)> {
        let Some(handle) = self.handles.find(handle) else {
            return Err((status::FAILURE, "this handle is not open"));
        };
        let granted = match needs {
            Needs::Any => true,
            Needs::Read => handle.read && !handle.directory,
            Needs::Write => handle.write && !handle.directory,
            Needs::Listing => handle.directory,
        };
        if granted {
            Ok(handle.number)
        } else {
            Err((status::PERMISSION_DENIED, "this handle was not opened for that"))
        }
    }

    fn copied(&self, copy: &CopyData<'_>) -> Result<Event, (u32, &'static str)> {
        self.granted(copy.from, Needs::Read)?;
        self.granted(copy.to, Needs::Write)?;
        let path = |handle| {
            self.handles
                .find(handle)
                .map(|handle| handle.path.clone())
                .unwrap_or_default()
        };
        Ok(Event::Copied {
            from: path(copy.from),
            to: path(copy.to),
            length: copy.length,
        })
    }

    fn close(&mut self, id: u32, handle: Vec<u8>, packet: Vec<u8>) -> Result<(), Fault> {
        // From here on the handle is nobody's: the target may give it again.
        match self.handles.remove(&handle) {
            Some(handle) => self.forward(
                packet,
                id,
                Expect::Status,
                After::Closed {
                    handle: handle.number,
                },
            ),
            None => self.answer_status(id, status::FAILURE, "this handle is not open"),
        }
    }

    /// REALPATH and `expand-path` tell what is where; they read nothing and are asked by every client at its start.
    fn realpath(&mut self, id: u32, path: Vec<u8>, packet: Vec<u8>) -> Result<(), Fault> {
        if !self.settings.realpath {
            return self.answer_status(id, status::PERMISSION_DENIED, "no SFTP is permitted here");
        }
        match super::path::check(&path) {
            Ok(()) => self.forward(packet, id, Expect::OneName, After::Nothing),
            Err(unusable) => self.answer_unusable(id, unusable),
        }
    }

    fn answer_unusable(&mut self, id: u32, unusable: Unusable) -> Result<(), Fault> {
        match unusable {
            Unusable::Empty => self.answer_status(id, status::NO_SUCH_FILE, "the path is empty"),
            Unusable::Nul => self.answer_status(id, status::PERMISSION_DENIED, "the path has a NUL"),
            Unusable::TooLong => self.answer_status(id, status::FAILURE, "the path is too long"),
        }
    }

    /// Sends a packet of the client under an id of ours.
    fn forward(
        &mut self,
        packet: Vec<u8>,
        client_id: u32,
        expect: Expect,
        after: After,
    ) -> Result<(), Fault> {
        let id = self.id();
        self.outstanding.insert(
            id,
            Outstanding::Client {
                client_id,
                expect,
                after,
                // Of those that name no path none moves anything.
                effect: Effect::Looks,
            },
        );
        self.send_target(with_id(packet, id));
        Ok(())
    }

    /// A request that names paths: they are resolved first.
    fn plan(&mut self, client_id: u32, body: &RequestBody<'_>, length: usize) -> Result<(), Fault> {
        let plan = match Plan::of(body) {
            Ok(plan) if length <= MAX_WAITING => plan,
            Ok(_) | Err(NoPlan::TooLong) => {
                return self.answer_status(client_id, status::FAILURE, "the request is too long");
            }
            Err(NoPlan::Unusable(unusable)) => return self.answer_unusable(client_id, unusable),
            Err(NoPlan::Other) => {
                return self.answer_status(
                    client_id,
                    status::OP_UNSUPPORTED,
                    "this request is not supported",
                );
            }
        };
        let number = self.number();
        self.pending.insert(
            number,
            Pending {
                client_id,
                plan,
                unresolved: 0,
                unanswered: 0,
                looked: None,
                again: false,
                decided: None,
            },
        );
        self.resolve(number)
    }

    /// Asks the target where the paths of a request lead.
    fn resolve(&mut self, number: u64) -> Result<(), Fault> {
        let Some(pending) = self.pending.get_mut(&number) else {
            return Ok(());
        };
        pending.unresolved = pending.plan.paths.len();
        let queries: Vec<_> = pending
            .plan
            .paths
            .iter()
            .map(|path| path.resolving.query.clone())
            .collect();
        for (path, query) in queries.iter().enumerate() {
            let id = self.id();
            let body = RequestBody::Realpath { path: query };
            let packet = Request { id, body }.encode().map_err(|_| Fault::TooLong)?;
            self.outstanding.insert(id, Outstanding::Resolve { number, path });
            self.send_target(packet);
        }
        Ok(())
    }

    /// All paths of a request are known.
    pub(super) fn resolved(&mut self, number: u64) -> Result<(), Fault> {
        let Some(pending) = self.pending.get_mut(&number) else {
            return Ok(());
        };
        let Some(decided) = pending.decided.take() else {
            return self.ask(number);
        };
        let paths = pending.plan.paths.iter();
        if paths.map(|path| &path.resolved).eq(&decided) {
            self.go_on(number);
        } else {
            let text = "the path leads elsewhere than when this was asked for: ask again";
            self.give_up(number, status::PERMISSION_DENIED, text);
        }
        Ok(())
    }

    /// The questions of a request go out.
    fn ask(&mut self, number: u64) -> Result<(), Fault> {
        let Some(pending) = self.pending.get_mut(&number) else {
            return Ok(());
        };
        let exact = pending.plan.encode(0).map_err(|_| Fault::TooLong)?;
        let (both, detail) = (pending.plan.both(), pending.plan.detail.clone());
        let mut asks = Vec::new();
        for path in &pending.plan.paths {
            for &what in &path.what {
                asks.push((what, path.resolved.clone(), pending.plan.operation));
            }
        }
        pending.unanswered = asks.len();
        for (what, path, operation) in asks {
            let id = AskId(self.number());
            self.asks.insert(id, number);
            self.actions.push_back(Action::Ask(Ask {
                id,
                what,
                path,
                operation,
                both: both.clone(),
                detail: detail.clone(),
                exact: exact.clone(),
            }));
        }
        Ok(())
    }

    /// One question of a request is answered with yes.
    pub(super) fn allowed(&mut self, number: u64) -> Result<(), Fault> {
        let Some(pending) = self.pending.get_mut(&number) else {
            return Ok(());
        };
        pending.unanswered = pending.unanswered.saturating_sub(1);
        if pending.unanswered > 0 || pending.unresolved > 0 {
            return Ok(());
        }
        if std::mem::take(&mut pending.again) {
            let paths = pending.plan.paths.iter();
            pending.decided = Some(paths.map(|path| path.resolved.clone()).collect());
            return self.resolve(number);
        }
        self.go_on(number);
        Ok(())
    }

    /// A request that is permitted goes to the target.
    fn go_on(&mut self, number: u64) {
        let Some(pending) = self.pending.get_mut(&number) else {
            return;
        };
        if let Some((code, text)) = pending.plan.instead.take() {
            return self.give_up(number, code, &text);
        }
        if pending.plan.expect == Expect::Handle && self.handles_to_come() >= MAX_HANDLES {
            return self.give_up(number, status::FAILURE, "too many handles are open");
        }
        let id = self.id();
        let Some(pending) = self.pending.remove(&number) else {
            return;
        };
        let Pending {
            client_id,
            plan,
            looked,
            ..
        } = pending;
        match plan.encode(id) {
            Ok(packet) => {
                let (expect, after, effect) = (plan.expect, plan.after(looked), plan.effect);
                self.outstanding.insert(
                    id,
                    Outstanding::Client {
                        client_id,
                        expect,
                        after,
                        effect,
                    },
                );
                self.send_target(packet);
            }
            Err(_) => {
                // A status with a short text fits into a packet.
                let _ = self.answer_status(client_id, status::FAILURE, "the request is too long");
            }
        }
    }

    /// Handles that are open or asked for.
    fn handles_to_come(&self) -> usize {
        let opening = |outstanding: &&Outstanding| {
            matches!(
                outstanding,
                Outstanding::Client {
                    after: After::Opened { .. },
                    ..
                }
            )
        };
        self.handles
            .len()
            .saturating_add(self.outstanding.values().filter(opening).count())
    }
}
