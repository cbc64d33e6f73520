//! russh's callbacks, one by one.

use russh::keys::Certificate;
use russh::server::{self, Auth, ChannelOpenHandle, Msg, Response};
use russh::{Channel, ChannelId, ChannelOpenFailure, Pty, Sig};
use tokio::task::JoinSet;

use super::{
    Client, ClientError, Entry, Granted, Handled, REASON, TRICKLE, VARIABLES, WINDOW, is_dangerous,
    is_variable,
};
use crate::flow::STEP;
use crate::forward::Destination;
use crate::lane::{Display, Prepared, Program, Terminal};
use crate::login::Offer;
use crate::pipe::{Message, Pipe};

impl server::Handler for Client {
    type Error = ClientError;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, ClientError> {
        self.login.other_method(user);
        Ok(Auth::reject())
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, ClientError> {
        let welcome = self.login.secret(user, password).await;
        self.welcomed(welcome)
    }

    // A key that is offered proves nobody: only the signature does (GHSA-3cjp, CVE-2024-45337). Of a certificate its key is offered.
    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: server::PublicKeyOffer<'_>,
    ) -> Result<Auth, ClientError> {
        let key = offer.public_key.key_data();
        match self.login.offered(user, key, offer.algorithm).await {
            Offer::Known => Ok(Auth::Accept),
            Offer::Unknown => Ok(Auth::reject()),
            Offer::Enough => Err(ClientError::Tries),
        }
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: server::VerifiedPublicKey<'_>,
    ) -> Result<Auth, ClientError> {
        let welcome = self.login.key(user, key.public_key.key_data()).await;
        self.welcomed(welcome)
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, ClientError> {
        let welcome = self.login.certificate(user, certificate).await;
        self.welcomed(welcome)
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
        let welcome = match answers {
            (Some(answer), None) => match std::str::from_utf8(&answer) {
                Ok(secret) => self.login.answered(user, secret).await,
                Err(_) => self.login.malformed(user),
            },
            _ => self.login.malformed(user),
        };
        self.welcomed(welcome)
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
        refuse(reply).await
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
        refuse(reply).await
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
        let mut fine = term.len() <= VARIABLES.1 && !term.chars().any(char::is_control);
        if let Some(own) = &self.session
            && let Some(missing) = own.permits.lacks_pty()
        {
            own.lacking("pty-req", missing).await;
            fine = false;
        }
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
        match &self.session {
            Some(own) => Ok(self.remote.cancel(own, address, port).await),
            None => Ok(false),
        }
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
        match &self.session {
            Some(own) => Ok(self.remote.cancel_unix(own, path).await),
            None => Ok(false),
        }
    }
}

/// Only a gateway opens such channels.
async fn refuse(reply: ChannelOpenHandle) -> Handled {
    reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
    Ok(())
}
