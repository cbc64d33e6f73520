//! The gateway's side towards clients: what russh hands over, packet by packet.
//!
//! Nothing here waits for a target: what comes is put into the pipe of its channel. Requests before a program is started are
//! decided at once, because SSH answers requests in their order; a program, and an opened channel, may wait for people.

use std::collections::HashMap;
use std::sync::Arc;

use russh::server::{self, Auth, ChannelOpenHandle, Msg, Response};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Pty, Sig};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::back::Backs;
use crate::flow::{Flow, STEP};
use crate::forward::{self, Destination, Remote};
use crate::lane::{Display, Lane, Prepared, Program, Terminal};
use crate::login::{Login, Welcome};
use crate::operations::question;
use crate::pipe::{Message, Pipe};
use crate::session::Session;

/// The first window of a channel, which can't be taken back.
pub(crate) const WINDOW: u32 = 1 << 20;
/// Queued bytes at which the windows of a connection are down to a trickle.
pub(crate) const LIMIT: usize = 4 << 20;
/// Room above, for what trickles and for clients that ignore windows.
const MARGIN: usize = 4 << 20;
/// The smallest window target at which russh still asks: it adjusts where less than half is left.
const TRICKLE: u32 = 2;
/// Variables that a channel may ask for, and the longest name and value, in bytes.
const VARIABLES: (usize, usize, usize) = (64, 256, 32 << 10);
/// The variable that says why a client is here; the target does not get it.
const REASON: &str = "GATEWAY_REASON";

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The client, or the way to it, broke the protocol.
    #[error(transparent)]
    Ssh(#[from] russh::Error),
}

type Handled = Result<(), ClientError>;

/// A channel.
struct Entry {
    up: Arc<Pipe>,
    /// The way to the client, and what was granted, until something is started.
    waiting: Option<(ChannelWriteHalf<Msg>, Prepared)>,
    /// What runs; it ends with this.
    task: JoinSet<()>,
}

/// A client's connection. Its end drops every channel, and a channel's end its target connection.
pub(crate) struct Client {
    login: Login,
    session: Option<Arc<Session>>,
    flow: Arc<Flow>,
    channels: HashMap<ChannelId, Entry>,
    most: usize,
    backs: Arc<Backs>,
    remote: Remote,
}

impl Client {
    /// A connection that has not logged in.
    pub(crate) fn new(login: Login, flow: Arc<Flow>, most: usize) -> Self {
        Self {
            login,
            session: None,
            backs: Backs::new(flow.clone()),
            flow,
            channels: HashMap::new(),
            most,
            remote: Remote::default(),
        }
    }

    fn fit(&self) {
        let channels = self.channels.len().saturating_add(self.backs.len());
        let first = usize::try_from(WINDOW).unwrap_or(usize::MAX);
        self.flow
            .allow_above(MARGIN.saturating_add(channels.saturating_mul(first)));
    }

    /// Room for another channel. russh tells of no close after ours.
    fn has_room(&mut self) -> bool {
        self.channels
            .retain(|_, entry| entry.waiting.is_some() || entry.task.try_join_next().is_none());
        self.channels.len() < self.most
    }

    async fn welcomed(&mut self, welcome: Welcome) -> Auth {
        match welcome {
            Welcome::In(session) => {
                self.session = Some(session);
                Auth::Accept
            }
            Welcome::Refused => Auth::reject(),
        }
    }

    /// Decides what is asked before a program is started; `None`: there is no such channel any more.
    async fn grant(&self, id: ChannelId, action: Granted<'_>) -> bool {
        let Some(session) = &self.session else {
            return false;
        };
        let Some((_, prepared)) = self.channels.get(&id).and_then(|entry| entry.waiting.as_ref()) else {
            return false;
        };
        let place = &session.place;
        let (operation, summary) = match action {
            Granted::Env(name) => (place.env(name), format!("env {name}")),
            Granted::Agent => (place.agent(), "agent-forward".to_owned()),
            Granted::X11 => (place.x11(), "x11".to_owned()),
        };
        let text = summary.clone();
        let question = question(vec![operation], summary, &text, false);
        match session.ask_now(&question, &prepared.bound(&place.login)).await {
            Ok(permitted) => {
                session.outcome(permitted.ticket, 0, None).await;
                true
            }
            Err(_) => false,
        }
    }

    fn prepared(&mut self, id: ChannelId) -> Option<&mut Prepared> {
        let entry = self.channels.get_mut(&id)?;
        entry.waiting.as_mut().map(|(_, prepared)| prepared)
    }

    /// Starts something on a channel. At most one thing is started on each (RFC 4254, section 6.5).
    async fn start(&mut self, id: ChannelId, program: Program, session: &mut server::Session) -> Handled {
        let Some(own) = self.session.clone() else {
            return Ok(session.channel_failure(id)?);
        };
        let Some(entry) = self.channels.get_mut(&id) else {
            return Ok(session.channel_failure(id)?);
        };
        let Some((client, prepared)) = entry.waiting.take() else {
            return Ok(session.channel_failure(id)?);
        };
        let lane = Lane {
            session: own,
            up: entry.up.clone(),
            client,
            connection: session.handle(),
            backs: self.backs.clone(),
            prepared,
        };
        if let Program::Exec(_) | Program::Shell = program {
            // What is refused says so on its stderr, and by its status; so it begins in any case.
            session.channel_success(id)?;
            entry.task.spawn(lane.run(program, None));
            return Ok(());
        }
        let (tell, told) = oneshot::channel();
        entry.task.spawn(lane.run(program, Some(tell)));
        match told.await {
            Ok(true) => session.channel_success(id)?,
            _ => session.channel_failure(id)?,
        }
        Ok(())
    }

    fn pass(&self, id: ChannelId, message: Message) {
        if let Some(pipe) = self.pipe(id) {
            pipe.message(message);
        }
    }

    fn pipe(&self, id: ChannelId) -> Option<Arc<Pipe>> {
        match self.channels.get(&id) {
            Some(entry) => Some(entry.up.clone()),
            None => self.backs.pipe(id),
        }
    }

    async fn open_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        connection: server::Handle,
        destination: Destination,
    ) {
        let Some(own) = self.session.clone() else {
            return reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        };
        if !self.has_room() {
            return reply.reject(ChannelOpenFailure::ResourceShortage).await;
        }
        let (id, up) = (channel.id(), Pipe::new(self.flow.clone()));
        let (_, client) = channel.split();
        let mut task = JoinSet::new();
        task.spawn(forward::open(
            own,
            destination,
            up.clone(),
            client,
            connection,
            reply,
        ));
        let entry = Entry {
            up,
            waiting: None,
            task,
        };
        self.channels.insert(id, entry);
        self.fit();
    }
}

/// What is granted before a program is started.
#[derive(Clone, Copy)]
enum Granted<'a> {
    Env(&'a str),
    Agent,
    X11,
}

/// Whether a variable could change what a command runs that is decided by its words: no policy can permit these.
fn is_dangerous(name: &str) -> bool {
    const EXACT: &[&str] = &[
        "BASH_ENV",
        "ENV",
        "BASHOPTS",
        "SHELLOPTS",
        "IFS",
        "PS4",
        "PROMPT_COMMAND",
        "GLIBC_TUNABLES",
        "GCONV_PATH",
        "ZDOTDIR",
        "CDPATH",
        "GLOBIGNORE",
    ];
    name.starts_with("LD_")
        || name.starts_with("DYLD_")
        || name.starts_with("BASH_FUNC_")
        || EXACT.contains(&name)
}

/// Whether it can be the name of a variable.
fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl server::Handler for Client {
    type Error = ClientError;

    async fn auth_none(&mut self, _: &str) -> Result<Auth, ClientError> {
        self.login.other_method();
        Ok(Auth::reject())
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, ClientError> {
        let welcome = self.login.secret(user, password).await;
        Ok(self.welcomed(welcome).await)
    }

    // A key that is offered, or that signs, proves nobody here (GHSA-3cjp, CVE-2024-45337).
    async fn auth_publickey_offered(
        &mut self,
        _: &str,
        _: server::PublicKeyOffer<'_>,
    ) -> Result<Auth, ClientError> {
        self.login.other_method();
        Ok(Auth::reject())
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, ClientError> {
        let Some(mut response) = response else {
            self.login.asked(user);
            return Ok(Auth::Partial {
                name: "".into(),
                instructions: "".into(),
                prompts: vec![("Token: ".into(), false)].into(),
            });
        };
        let answers = (response.next(), response.next());
        drop(response);
        let welcome = match answers {
            (Some(answer), None) => match std::str::from_utf8(&answer) {
                Ok(secret) => self.login.answered(user, secret).await,
                Err(_) => self.login.malformed(user),
            },
            _ => self.login.malformed(user),
        };
        Ok(self.welcomed(welcome).await)
    }

    async fn authentication_banner(&mut self) -> Result<Option<String>, ClientError> {
        Ok(self.login.banner())
    }

    fn adjust_window(&mut self, _: ChannelId, _: u32) -> u32 {
        let room = self.flow.room();
        match u32::try_from(room) {
            _ if room < STEP => TRICKLE,
            Ok(room) => room.min(WINDOW),
            Err(_) => WINDOW,
        }
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Handled {
        if !self.has_room() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let (id, up) = (channel.id(), Pipe::new(self.flow.clone()));
        // With its read half gone russh never waits for it.
        let (_, client) = channel.split();
        let entry = Entry {
            up,
            waiting: Some((client, Prepared::default())),
            task: JoinSet::new(),
        };
        self.channels.insert(id, entry);
        self.fit();
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        originator: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        session: &mut server::Session,
    ) -> Handled {
        let destination = Destination::Tcp {
            host: host.to_owned(),
            port,
            originator: (originator.to_owned(), originator_port),
        };
        self.open_forward(channel, reply, session.handle(), destination)
            .await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        session: &mut server::Session,
    ) -> Handled {
        let destination = Destination::Unix {
            path: path.to_owned(),
        };
        self.open_forward(channel, reply, session.handle(), destination)
            .await;
        Ok(())
    }

    async fn channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Handled {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Handled {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _: u32,
        _: u32,
        _: &mut server::Session,
    ) -> Handled {
        self.backs.accepted(id);
        self.fit();
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut server::Session) -> Handled {
        if let Some(pipe) = self.pipe(id) {
            pipe.data(0, data);
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut server::Session) -> Handled {
        self.pass(id, Message::Eof);
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut server::Session) -> Handled {
        self.channels.remove(&id);
        self.backs.closed(id);
        self.fit();
        Ok(())
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(Pty, u32)],
        session: &mut server::Session,
    ) -> Handled {
        // Asked with what uses it: `shell` has it in its context, and approvals of commands bind it.
        let fine = term.len() <= VARIABLES.1 && !term.chars().any(char::is_control);
        match self
            .prepared(id)
            .filter(|prepared| fine && prepared.terminal.is_none())
        {
            Some(prepared) => {
                prepared.terminal = Some(Terminal {
                    term: term.to_owned(),
                    size: [columns, rows, width, height],
                    modes: modes.to_vec(),
                });
                session.channel_success(id)?;
            }
            None => session.channel_failure(id)?,
        }
        Ok(())
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut server::Session,
    ) -> Handled {
        let (most, longest_name, longest_value) = VARIABLES;
        let fits = name.len() <= longest_name && value.len() <= longest_value && !value.contains('\0');
        let room = self
            .prepared(id)
            .is_some_and(|prepared| prepared.env.len() < most);
        if name == REASON
            && fits
            && let Some(own) = &self.session
        {
            own.scope().lock().await.state_reason(value);
            return Ok(session.channel_success(id)?);
        }
        let granted = if !room {
            false
        } else if fits && is_variable(name) && !is_dangerous(name) {
            self.grant(id, Granted::Env(name)).await
        } else {
            if let Some(own) = &self.session {
                let mut name = name.to_owned();
                gateway_core::operation::truncate(&mut name, longest_name);
                let why = "no policy can permit this variable: it changes what commands do, or is none";
                let denial = gateway_core::verdict::Denial::new(format!("env {name}"), why);
                own.refuse(&denial, None).await;
            }
            false
        };
        match self.prepared(id).filter(|_| granted) {
            Some(prepared) => {
                prepared.env.push((name.to_owned(), value.to_owned()));
                session.channel_success(id)?;
            }
            None => session.channel_failure(id)?,
        }
        Ok(())
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        single: bool,
        protocol: &str,
        cookie: &str,
        screen: u32,
        session: &mut server::Session,
    ) -> Handled {
        let plain = |text: &str| text.len() <= 256 && text.bytes().all(|b| b.is_ascii_graphic());
        let granted = plain(protocol) && plain(cookie) && self.grant(id, Granted::X11).await;
        match self.prepared(id).filter(|_| granted) {
            Some(prepared) => {
                prepared.display = Some(Display {
                    single,
                    auth: (protocol.to_owned(), cookie.to_owned()),
                    screen,
                });
                session.channel_success(id)?;
            }
            None => session.channel_failure(id)?,
        }
        Ok(())
    }

    async fn agent_request(&mut self, id: ChannelId, _: &mut server::Session) -> Result<bool, ClientError> {
        let granted = self.grant(id, Granted::Agent).await;
        if let Some(prepared) = self.prepared(id).filter(|_| granted) {
            prepared.agent = true;
            return Ok(true);
        }
        Ok(false)
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut server::Session) -> Handled {
        self.start(id, Program::Shell, session).await
    }

    async fn exec_request(&mut self, id: ChannelId, line: &[u8], session: &mut server::Session) -> Handled {
        self.start(id, Program::Exec(line.to_vec()), session).await
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut server::Session,
    ) -> Handled {
        self.start(id, Program::Subsystem(name.to_owned()), session).await
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        session: &mut server::Session,
    ) -> Handled {
        let size = [columns, rows, width, height];
        match self.prepared(id) {
            Some(prepared) => {
                if let Some(terminal) = &mut prepared.terminal {
                    terminal.size = size;
                }
            }
            None => self.pass(id, Message::WindowChange(size)),
        }
        // Where a reply is wanted although none may be (RFC 4254, section 6.7).
        session.channel_success(id)?;
        Ok(())
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, session: &mut server::Session) -> Handled {
        if self.prepared(id).is_none() {
            self.pass(id, Message::Signal(signal));
        }
        session.channel_success(id)?;
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut server::Session,
    ) -> Result<bool, ClientError> {
        let Some(own) = &self.session else {
            return Ok(false);
        };
        let listening = self
            .remote
            .listen(own, &self.backs, session.handle(), address, *port)
            .await;
        if let Some(listening) = listening {
            *port = listening;
        }
        Ok(listening.is_some())
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _: &mut server::Session,
    ) -> Result<bool, ClientError> {
        Ok(self.remote.cancel(address, port).await)
    }

    async fn streamlocal_forward(
        &mut self,
        path: &str,
        session: &mut server::Session,
    ) -> Result<bool, ClientError> {
        let Some(own) = &self.session else {
            return Ok(false);
        };
        Ok(self
            .remote
            .listen_unix(own, &self.backs, session.handle(), path)
            .await)
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        path: &str,
        _: &mut server::Session,
    ) -> Result<bool, ClientError> {
        Ok(self.remote.cancel_unix(path).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_variable_is_let_through_that_changes_what_a_decided_command_runs() {
        for name in [
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "BASH_ENV",
            "ENV",
            "BASH_FUNC_ls%%",
            "IFS",
            "SHELLOPTS",
        ] {
            assert!(is_dangerous(name) || !is_variable(name), "{name}");
        }
        for name in ["LANG", "LC_ALL", "TERM", "EDITOR", "_X"] {
            assert!(!is_dangerous(name) && is_variable(name), "{name}");
        }
        for name in ["", "1A", "A=B", "A B", "A\0", "É"] {
            assert!(!is_variable(name), "{name}");
        }
    }
}
