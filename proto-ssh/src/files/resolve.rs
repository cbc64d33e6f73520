//! Where paths lead on a target.

use std::collections::HashMap;
use std::sync::Arc;

use russh::ChannelWriteHalf;
use russh::client::Msg;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::authority::Granted;
use crate::lane::reach;
use crate::pipe::{Item, Message};
use crate::session::Session;
use crate::sftp::resolver::{Resolved, Resolver, Ticket};
use crate::target::{Accepts, Target, Unreachable};

/// Questions that may wait at the same time.
const WAITING: usize = 16;

type Told = Result<Resolved, Unreachable>;

struct Asked {
    path: Vec<u8>,
    tell: oneshot::Sender<Told>,
}

/// Asks a target where paths lead, on a connection of its own: scp itself has no word for asking. The connection ends with
/// this.
pub(crate) struct Paths {
    ask: mpsc::Sender<Asked>,
    limit: std::time::Duration,
    _task: JoinSet<()>,
}

impl Paths {
    /// Reaches the target's SFTP.
    pub(crate) async fn open(session: &Session) -> Result<Self, Unreachable> {
        let limit = session.gateway.limits().connect;
        let reached = async {
            let target = reach(session, Accepts::default(), &Granted::default()).await?;
            let (_, half) = target.handle.channel_open_session().await?.split();
            half.request_subsystem(true, "sftp").await?;
            Ok((target, half))
        };
        let (target, half) = tokio::time::timeout(limit, reached)
            .await
            .unwrap_or(Err(Unreachable::Time))?;
        let (ask, asked) = mpsc::channel(WAITING);
        let mut task = JoinSet::new();
        task.spawn(answer(target, half, asked));
        Ok(Self {
            ask,
            limit,
            _task: task,
        })
    }

    /// Where `path` leads, through a link in its last component, too.
    pub(crate) async fn lead(&self, path: &[u8]) -> Told {
        let (tell, told) = oneshot::channel();
        let path = path.to_vec();
        let asking = async {
            let gone = || Unreachable::Path("the target has no SFTP to resolve it with".to_owned());
            self.ask.send(Asked { path, tell }).await.map_err(|_| gone())?;
            told.await.map_err(|_| gone())?
        };
        tokio::time::timeout(self.limit, asking)
            .await
            .unwrap_or(Err(Unreachable::Time))
    }
}

/// Answers until nobody asks any more, or the target says something that it should not.
async fn answer(target: Target, half: ChannelWriteHalf<Msg>, mut asked: mpsc::Receiver<Asked>) {
    let wrong = |what: &dyn std::fmt::Display| Unreachable::Path(what.to_string());
    let mut resolver = Resolver::new();
    let mut open: HashMap<Ticket, oneshot::Sender<Told>> = HashMap::new();
    loop {
        let bytes = resolver.take_bytes();
        if !bytes.is_empty() && half.data_bytes(bytes).await.is_err() {
            return;
        }
        while let Some((ticket, resolved)) = resolver.poll() {
            if let Some(tell) = open.remove(&ticket) {
                let _ = tell.send(resolved.map_err(|e| wrong(&e)));
            }
        }
        tokio::select! {
            next = asked.recv() => {
                let Some(Asked { path, tell }) = next else { return };
                match resolver.ask(&path, true) {
                    Ok(ticket) => {
                        open.insert(ticket, tell);
                    }
                    Err(why) => {
                        let _ = tell.send(Err(wrong(&why)));
                    }
                }
            }
            (item, _held) = target.down.pop() => match item {
                Item::Data(0, data) => {
                    if let Err(why) = resolver.handle_target(&data) {
                        tracing::info!(error = %why, "a target can't say where paths lead");
                        return;
                    }
                }
                Item::Message(Message::Close | Message::Lost | Message::Eof | Message::Failure) => return,
                _ => {}
            },
        }
    }
}

/// A way to ask that several questions share.
pub(crate) type SharedPaths = Arc<Paths>;
