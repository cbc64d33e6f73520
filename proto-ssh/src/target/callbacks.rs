//! What becomes of what a target sends.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use russh::client::{self, ChannelOpenHandle, Msg};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelId, Sig};
use tokio::sync::mpsc;

use crate::flow::Flow;
use crate::host_trust::HostTrust;
use crate::pipe::{Message, Pipe};

/// A channel that a target opens.
pub(crate) enum Offered {
    /// A connection to where it listens for the client.
    Tcpip {
        /// Where it listens.
        address: String,
        /// The port there.
        port: u32,
        /// Who connected.
        originator: (String, u32),
    },
    /// The same on a Unix socket.
    Streamlocal {
        /// Where it listens.
        path: String,
    },
    /// Somebody asks the client's agent.
    Agent,
    /// A program wants to show something.
    X11 {
        /// Who connected.
        originator: (String, u32),
    },
}

/// A channel that a target opens, with its bytes.
pub(crate) struct Offer {
    /// What it is for.
    pub(crate) what: Offered,
    /// The channel.
    pub(crate) channel: Channel<Msg>,
    /// What comes on it.
    pub(crate) down: Arc<Pipe>,
    /// How it is answered.
    pub(crate) reply: ChannelOpenHandle,
}

/// Which channels a target may open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Accepts {
    /// Connections to where it listens.
    pub(crate) forwards: bool,
    /// To the client's agent.
    pub(crate) agent: bool,
    /// To the client's display.
    pub(crate) x11: bool,
}

/// What becomes of what a target sends.
pub(crate) struct Callbacks {
    /// What comes on the channel that is opened first.
    pub(super) down: Arc<Pipe>,
    /// The brake of the connection.
    pub(super) flow: Arc<Flow>,
    /// Whom the target must prove to be.
    pub(super) trust: HostTrust,
    /// Its host, as the configuration names it.
    pub(super) host: String,
    /// When this is.
    pub(super) now: Timestamp,
    /// What it showed instead.
    pub(super) shown: Arc<Mutex<Option<String>>>,
    /// What comes on channels that it opens.
    pub(super) others: HashMap<ChannelId, Arc<Pipe>>,
    /// Which it may open.
    pub(super) accepts: Accepts,
    /// Who takes them up.
    pub(super) offers: mpsc::Sender<Offer>,
}

impl Callbacks {
    fn pipe(&self, id: ChannelId) -> &Pipe {
        self.others.get(&id).unwrap_or(&self.down)
    }

    fn pass(&self, id: ChannelId, message: Message) -> Result<(), russh::Error> {
        self.pipe(id).message(message);
        Ok(())
    }

    async fn offer(
        &mut self,
        permitted: bool,
        what: Offered,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
    ) {
        if !permitted || self.others.len() >= crate::lane::BACK_CHANNELS {
            return refuse(reply).await;
        }
        let down = Pipe::new(self.flow.clone());
        self.others.insert(channel.id(), down.clone());
        // Where nobody takes it, dropping it rejects it.
        let _ = self.offers.try_send(Offer {
            what,
            channel,
            down,
            reply,
        });
    }
}

/// What no target may open.
async fn refuse(reply: ChannelOpenHandle) {
    let why = russh::ChannelOpenFailure::AdministrativelyProhibited;
    reply.reject(why).await;
}

impl Drop for Callbacks {
    fn drop(&mut self) {
        // Where the channels were not closed before, the connection broke.
        self.down.message(Message::Lost);
        for pipe in self.others.values() {
            pipe.message(Message::Lost);
        }
    }
}

impl client::Handler for Callbacks {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let checked = self.trust.check(key, &self.host, self.now);
        let known = checked.is_ok();
        *self.shown.lock() = checked.err().map(|mistrusted| mistrusted.to_string());
        Ok(known)
    }

    async fn data(
        &mut self,
        id: ChannelId,
        data: &[u8],
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        self.pipe(id).data(0, data);
        Ok(())
    }

    async fn extended_data(
        &mut self,
        id: ChannelId,
        stream: u32,
        data: &[u8],
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        self.pipe(id).data(stream.max(1), data);
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut client::Session) -> Result<(), russh::Error> {
        self.pass(id, Message::Eof)
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut client::Session) -> Result<(), russh::Error> {
        match self.others.remove(&id) {
            Some(pipe) => pipe.message(Message::Close),
            None => self.down.message(Message::Close),
        }
        Ok(())
    }

    async fn channel_failure(&mut self, id: ChannelId, _: &mut client::Session) -> Result<(), russh::Error> {
        self.pass(id, Message::Failure)
    }

    async fn exit_status(
        &mut self,
        id: ChannelId,
        status: u32,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        self.pass(id, Message::ExitStatus(status))
    }

    async fn exit_signal(
        &mut self,
        id: ChannelId,
        signal: Sig,
        core_dumped: bool,
        _: &str,
        _: &str,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        self.pass(id, Message::ExitSignal { signal, core_dumped })
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        address: &str,
        port: u32,
        originator: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        let what = Offered::Tcpip {
            address: address.to_owned(),
            port,
            originator: (originator.to_owned(), originator_port),
        };
        self.offer(self.accepts.forwards, what, channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        let what = Offered::Streamlocal {
            path: path.to_owned(),
        };
        self.offer(self.accepts.forwards, what, channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        self.offer(self.accepts.agent, Offered::Agent, channel, reply)
            .await;
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        channel: Channel<Msg>,
        originator: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        let what = Offered::X11 {
            originator: (originator.to_owned(), originator_port),
        };
        self.offer(self.accepts.x11, what, channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        refuse(reply).await;
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        refuse(reply).await;
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        refuse(reply).await;
        Ok(())
    }
}
