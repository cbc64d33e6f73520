//! Channels that a target opens: to where it listens for a client, to the client's agent, to its display.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::recording::Recording;
use parking_lot::Mutex;
use russh::{ChannelId, ChannelOpenFailure, server};
use tokio::task::JoinSet;

use crate::flow::Flow;
use crate::pipe::{Message, Pipe};
use crate::pump::{Counts, Ends, pump};
use crate::target::{Offer, Offered};

/// How long a client may take to answer the opening of a channel.
const OPENING: Duration = Duration::from_secs(20);

/// What comes from a client on channels that were opened towards it. A pipe is here from the moment at which the client says
/// yes, so that nothing that follows is lost.
pub(crate) struct Backs {
    pipes: Mutex<HashMap<ChannelId, Arc<Pipe>>>,
    flow: Arc<Flow>,
    /// What carries them. It ends by itself where its target connection does, since the client must be told of it; and with
    /// the client's connection.
    tasks: Mutex<JoinSet<()>>,
}

impl Backs {
    /// None yet; what comes counts in `flow`.
    pub(crate) fn new(flow: Arc<Flow>) -> Arc<Self> {
        Arc::new(Self {
            pipes: Mutex::default(),
            flow,
            tasks: Mutex::default(),
        })
    }

    /// Carries a channel to its end.
    pub(crate) fn spawn(&self, carried: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(carried);
    }

    /// The client is gone.
    pub(crate) fn end(&self) {
        self.tasks.lock().abort_all();
        self.pipes.lock().clear();
    }

    /// The client has accepted that channel. Whoever opened it may hear of it before the handler does, or behind it.
    pub(crate) fn accepted(&self, id: ChannelId) -> Arc<Pipe> {
        let mut pipes = self.pipes.lock();
        pipes
            .entry(id)
            .or_insert_with(|| Pipe::new(self.flow.clone()))
            .clone()
    }

    /// What comes on that channel.
    pub(crate) fn pipe(&self, id: ChannelId) -> Option<Arc<Pipe>> {
        self.pipes.lock().get(&id).cloned()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.pipes.lock().len()
    }

    /// The channel is closed.
    pub(crate) fn closed(&self, id: ChannelId) {
        if let Some(pipe) = self.pipes.lock().remove(&id) {
            pipe.message(Message::Close);
        }
    }
}

/// Takes up a channel that a target opens: opens one towards the client, and carries both to their end.
pub(crate) async fn carry(offer: Offer, backs: Arc<Backs>, connection: server::Handle, flow: Arc<Flow>) {
    let Offer {
        what,
        channel,
        down,
        reply,
    } = offer;
    let opening = async {
        match what {
            Offered::Agent => connection.channel_open_agent().await,
            Offered::X11 { originator } => connection.channel_open_x11(originator.0, originator.1).await,
            Offered::Tcpip {
                address,
                port,
                originator,
            } => {
                connection
                    .channel_open_forwarded_tcpip(address, port, originator.0, originator.1)
                    .await
            }
            Offered::Streamlocal { path } => connection.channel_open_forwarded_streamlocal(path).await,
        }
    };
    let opened = match tokio::time::timeout(OPENING, opening).await {
        Ok(Ok(opened)) => opened,
        _ => {
            down.shut();
            return reply.reject(ChannelOpenFailure::ConnectFailed).await;
        }
    };
    let id = opened.id();
    let (_, client) = opened.split();
    let (_, target) = channel.split();
    let up = backs.accepted(id);
    reply.accept().await;
    // What goes through has no screen; that it was opened is in the trail.
    let record = Recording::off();
    let ends = Ends {
        up: &up,
        client: &client,
        connection: &connection,
        down: &down,
        target: &target,
        flow: &flow,
        record: &record,
        shown: None,
    };
    pump(&ends, &Arc::<Counts>::default()).await;
    up.shut();
    down.shut();
    let _ = client.close().await;
    let _ = target.close().await;
    backs.closed(id);
}
