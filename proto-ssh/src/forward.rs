//! Forwards: connections that the target makes for a client, and those that it takes for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::recording::Recording;
use russh::server::{self, ChannelOpenHandle, Msg};
use russh::{ChannelOpenFailure, ChannelWriteHalf};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::authority::Granted;
use crate::back::{self, Backs};
use crate::lane::{Running, reach, unreached};
use crate::operations::{malformed_endpoint, malformed_socket, question};
use crate::pipe::Pipe;
use crate::pump::{Ends, pump};
use crate::session::Session;
use crate::target::{Accepts, Target};

/// Places at which a target may listen for one client.
const LISTENERS: usize = 16;

/// What the trail says where it does not.
const NOT_LISTENING: &str = "the target does not listen";
/// For how long a target that did not answer in time is not asked again.
const MUTE: Duration = Duration::from_secs(60);
/// How long a target may take to stop listening.
const CANCEL: Duration = Duration::from_secs(5);
/// How long a target may take to connect: its own system gives up later than that where nobody answers.
const OPENING: Duration = Duration::from_secs(60);

/// Where a client wants to be connected to.
pub(crate) enum Destination {
    /// A host and a port, as the client sent them.
    Tcp {
        /// The host.
        host: String,
        /// The port.
        port: u32,
        /// Who asks, as the client says.
        originator: (String, u32),
    },
    /// A Unix socket.
    Unix {
        /// Its path.
        path: String,
    },
}

impl Destination {
    fn summary(&self) -> String {
        match self {
            Self::Tcp { host, port, .. } => format!("forward {host}:{port}"),
            Self::Unix { path } => format!("forward unix:{path}"),
        }
    }

    fn wrong(&self) -> Option<&'static str> {
        match self {
            Self::Tcp { host, .. } if host.is_empty() => Some("no host is named"),
            Self::Tcp { host, port, .. } => malformed_endpoint(host, *port, 1),
            Self::Unix { path } => malformed_socket(path),
        }
    }
}

/// Decides a forward, has the target connect, and carries it to its end. The channel is open to the client only once the
/// target has connected.
pub(crate) async fn open(
    session: Arc<Session>,
    destination: Destination,
    up: Arc<Pipe>,
    client: ChannelWriteHalf<Msg>,
    connection: server::Handle,
    reply: ChannelOpenHandle,
) {
    let _busy = session.busy();
    let summary = destination.summary();
    if let Some(why) = destination.wrong() {
        up.shut();
        session.malformed("forward", why).await;
        return reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
    }
    let operation = match &destination {
        Destination::Tcp { host, port, .. } => session.place.forward(host, *port),
        Destination::Unix { path } => session.place.forward_unix(path),
    };
    let question = question(vec![operation], summary.clone(), &summary, true);
    // There is no stderr to say on that it waits: the client waits for its channel.
    let answer = session.ask(&question, &[], |_| std::future::ready(true)).await;
    let Ok(permitted) = answer else {
        up.shut();
        return reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
    };
    let running = Running::new(&session, permitted.ticket);
    let granted = Granted::forwarding();
    let reached = tokio::select! {
        biased;
        // Nothing is connected for a session that ends.
        (_, why) = session.ended(&summary) => {
            up.shut();
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return running.end(Some(why)).await;
        }
        reached = reach(&session, Accepts::default(), &granted) => reached,
    };
    let target = match reached {
        Ok(target) => target,
        Err(failure) => {
            up.shut();
            unreached(&session, &failure, &summary, permitted.ticket);
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return running.end(Some("target not reached".to_owned())).await;
        }
    };
    let opening = async {
        match destination {
            Destination::Tcp {
                host,
                port,
                originator: (from, from_port),
            } => {
                target
                    .handle
                    .channel_open_direct_tcpip(host, port, from, from_port)
                    .await
            }
            Destination::Unix { path } => target.handle.channel_open_direct_streamlocal(path).await,
        }
    };
    let opened = tokio::select! {
        opened = tokio::time::timeout(OPENING, opening) => opened,
        (_, why) = session.ended(&summary) => {
            up.shut();
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return running.end(Some(why)).await;
        }
    };
    let half = match opened {
        Ok(Ok(channel)) => channel.split().1,
        failed => {
            let error = failed.err().map_or("refused", |_| "no answer in time");
            tracing::debug!(session = %session.id, error, "the target does not connect");
            up.shut();
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return running.end(Some("the target does not connect".to_owned())).await;
        }
    };
    reply.accept().await;
    // What goes through has no screen; that it was opened is in the trail.
    let record = Recording::off();
    let ends = Ends {
        up: &up,
        client: &client,
        connection: &connection,
        down: &target.down,
        target: &half,
        flow: &target.flow,
        record: &record,
        shown: None,
    };
    let counts = running.counts().clone();
    let limited = async {
        match permitted.obligations.timeout {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let error = tokio::select! {
        how = pump(&ends, &counts) => how.error(),
        (_, why) = session.ended(&summary) => Some(why),
        () = limited => Some("budget_exhausted".to_owned()),
    };
    up.shut();
    let _ = client.close().await;
    running.end_both(error).await;
}

/// Where the target listens for a client: one connection to it, made at the first.
#[derive(Default)]
pub(crate) struct Remote(Mutex<State>);

#[derive(Default)]
struct State {
    listening: Option<Listening>,
    /// Until when nothing is asked of it: it did not answer in time. What a client asks is answered in its turn, and while
    /// that waits nothing else of the client is read, not even that it has left.
    mute_until: Option<Instant>,
}

impl State {
    /// What the target answers to something, in time and before the session ends; else what the trail says.
    async fn answer<T>(
        &mut self,
        session: &Session,
        limit: Duration,
        asked: impl AsyncFnOnce(&mut Option<Listening>) -> Option<T>,
    ) -> Result<T, String> {
        let refused = || NOT_LISTENING.to_owned();
        if self.mute_until.is_some_and(|until| Instant::now() < until) {
            return Err(refused());
        }
        let answered = tokio::select! {
            biased;
            (_, why) = session.ended("remote-forward") => return Err(why),
            answered = tokio::time::timeout(limit, asked(&mut self.listening)) => answered,
        };
        if answered.is_err() {
            self.mute_until = Some(Instant::now() + MUTE);
        }
        answered.ok().flatten().ok_or_else(refused)
    }
}

struct Listening {
    target: Target,
    places: BTreeSet<(String, u32)>,
    /// What carries the connections; it ends with this.
    _task: JoinSet<()>,
}

impl Remote {
    async fn decide(session: &Arc<Session>, host: &str, port: u32) -> Option<Running> {
        let summary = format!("remote-forward {host}:{port}");
        let operation = session.place.remote_forward(host, port);
        let question = question(vec![operation], summary.clone(), &summary, true);
        // A global request is answered in its turn: what people must decide is refused for now.
        let permitted = session.ask_now(&question, &[]).await.ok()?;
        Some(Running::new(session, permitted.ticket))
    }

    /// Where the target listens now; none: it does not.
    pub(crate) async fn listen(
        &self,
        session: &Arc<Session>,
        backs: &Arc<Backs>,
        connection: server::Handle,
        address: &str,
        port: u32,
    ) -> Option<u32> {
        if let Some(why) = malformed_endpoint(address, port, 0) {
            session.malformed("remote-forward", why).await;
            return None;
        }
        let running = Self::decide(session, address, port).await?;
        let asked = async |listening: &mut Option<Listening>| {
            let all = Self::connected(listening, session, backs, connection).await?;
            let given = all.target.handle.tcpip_forward(address, port).await.ok()?;
            let port = if port == 0 { given } else { port };
            all.places.insert((address.to_owned(), port));
            Some(port)
        };
        let limit = session.gateway.limits().connect;
        let listens = self.0.lock().await.answer(session, limit, asked).await;
        running.end(listens.as_ref().err().cloned()).await;
        listens.ok()
    }

    /// Whether the target listens on that socket now.
    pub(crate) async fn listen_unix(
        &self,
        session: &Arc<Session>,
        backs: &Arc<Backs>,
        connection: server::Handle,
        path: &str,
    ) -> bool {
        if let Some(why) = malformed_socket(path) {
            session.malformed("remote-forward", why).await;
            return false;
        }
        let host = format!("unix:{path}");
        let Some(running) = Self::decide(session, &host, 0).await else {
            return false;
        };
        let asked = async |listening: &mut Option<Listening>| {
            let all = Self::connected(listening, session, backs, connection).await?;
            all.target.handle.streamlocal_forward(path).await.ok()?;
            all.places.insert((host, 0));
            Some(())
        };
        let limit = session.gateway.limits().connect;
        let listens = self.0.lock().await.answer(session, limit, asked).await;
        running.end(listens.as_ref().err().cloned()).await;
        listens.is_ok()
    }

    async fn connected<'a>(
        listening: &'a mut Option<Listening>,
        session: &Arc<Session>,
        backs: &Arc<Backs>,
        connection: server::Handle,
    ) -> Option<&'a mut Listening> {
        if listening
            .as_ref()
            .is_some_and(|all| all.places.len() >= LISTENERS)
        {
            return None;
        }
        if listening.as_ref().is_none_or(|all| all.target.handle.is_closed()) {
            let accepts = Accepts {
                forwards: true,
                ..Accepts::default()
            };
            let mut target = match reach(session, accepts, &Granted::forwarding()).await {
                Ok(target) => target,
                Err(failure) => {
                    unreached(session, &failure, "remote-forward", 0);
                    return None;
                }
            };
            let (nobody, offers) = tokio::sync::mpsc::channel(1);
            drop(nobody);
            let mut offers = std::mem::replace(&mut target.offers, offers);
            let (backs, flow, session) = (backs.clone(), target.flow.clone(), session.clone());
            let mut task = JoinSet::new();
            task.spawn(async move {
                loop {
                    let offer = tokio::select! {
                        offer = offers.recv() => offer,
                        _ = session.ended("remote-forward") => None,
                    };
                    let Some(offer) = offer else { return };
                    let (busy, ended) = (session.busy(), session.clone());
                    let carried = back::carry(offer, backs.clone(), connection.clone(), flow.clone());
                    backs.spawn(async move {
                        // Nothing goes on behind a token that has ended.
                        tokio::select! {
                            () = carried => {}
                            _ = ended.ended("remote-forward") => {}
                        }
                        drop(busy);
                    });
                }
            });
            *listening = Some(Listening {
                target,
                places: BTreeSet::new(),
                _task: task,
            });
        }
        listening.as_mut()
    }

    /// The target listens there no more; `false`: it did not.
    pub(crate) async fn cancel(&self, session: &Session, address: &str, port: u32) -> bool {
        let asked = async |listening: &mut Option<Listening>| {
            let all = listening.as_mut()?;
            all.places.remove(&(address.to_owned(), port)).then_some(())?;
            all.target.handle.cancel_tcpip_forward(address, port).await.ok()
        };
        self.0.lock().await.answer(session, CANCEL, asked).await.is_ok()
    }

    /// The same on a socket.
    pub(crate) async fn cancel_unix(&self, session: &Session, path: &str) -> bool {
        let asked = async |listening: &mut Option<Listening>| {
            let all = listening.as_mut()?;
            all.places.remove(&(format!("unix:{path}"), 0)).then_some(())?;
            all.target.handle.cancel_streamlocal_forward(path).await.ok()
        };
        self.0.lock().await.answer(session, CANCEL, asked).await.is_ok()
    }
}
