//! Moves both directions of one channel at once, so that neither waits for the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gateway_core::recording::{Recording, Stream};
use russh::{ChannelWriteHalf, client, server};
use tokio::time::Instant;

use crate::flow::{Flow, PACE};
use crate::pipe::{Item, Message, Pipe};
use crate::shown::Shown;
use crate::target::MARGIN;

/// How long an end of output waits for the exit status while the client may still send.
const LINGER: Duration = Duration::from_secs(1);

/// The two ends of a channel.
pub(crate) struct Ends<'a> {
    /// What comes from the client.
    pub(crate) up: &'a Pipe,
    /// The way to the client.
    pub(crate) client: &'a ChannelWriteHalf<server::Msg>,
    /// The client's connection, for what a channel can't say by itself.
    pub(crate) connection: &'a server::Handle,
    /// What comes from the target.
    pub(crate) down: &'a Pipe,
    /// The way to the target.
    pub(crate) target: &'a ChannelWriteHalf<client::Msg>,
    /// The brake of the target's connection.
    pub(crate) flow: &'a Flow,
    /// Takes what goes through, before it does.
    pub(crate) record: &'a Recording,
    /// Looks through what comes down, where policy masks what is found.
    pub(crate) shown: Option<&'a Shown>,
}

impl Ends<'_> {
    /// Sends output to the client, once it is recorded.
    async fn show(&self, stream: u32, data: Bytes) -> Result<(), How> {
        if data.is_empty() {
            return Ok(());
        }
        let shown = if stream == 0 {
            Stream::Output
        } else {
            Stream::Error
        };
        if self.record.write(shown, &data).await.is_err() {
            return Err(How::Unrecorded);
        }
        let sent = match stream {
            0 => self.client.data_bytes(data).await,
            stream => self.client.extended_data_bytes(stream, data).await,
        };
        sent.map_err(|_| How::ClientGone)
    }

    /// Sends what has been held until `now`; `None`: all of it.
    async fn show_held(&self, now: Option<Instant>) -> Result<(), How> {
        for (stream, data) in self.shown.map(|shown| shown.rest(now)).unwrap_or_default() {
            self.show(stream, data).await?;
        }
        Ok(())
    }
}

/// Bytes that went through.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// To the target.
    pub(crate) up: AtomicU64,
    /// To the client.
    pub(crate) down: AtomicU64,
}

impl Counts {
    /// Adds to one of them.
    pub(crate) fn add(count: &AtomicU64, bytes: usize) {
        count.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// How a channel ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum How {
    /// With that status.
    Status(u32),
    /// By that signal.
    Signal(String),
    /// Closed without a word.
    Closed,
    /// The target's connection broke.
    Lost,
    /// The target refused what was asked for.
    Refused,
    /// The client can't be written to.
    ClientGone,
    /// It can't be recorded any more.
    Unrecorded,
}

impl How {
    /// What a recording says of it.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Status(status) => format!("exit status {status}"),
            Self::Closed => "closed".to_owned(),
            other => other.error().unwrap_or_default(),
        }
    }

    /// The exit status.
    pub(crate) fn status(&self) -> Option<u32> {
        match self {
            Self::Status(status) => Some(*status),
            _ => None,
        }
    }

    /// What the trail says of it; `None`: nothing is wrong.
    pub(crate) fn error(&self) -> Option<String> {
        match self {
            Self::Status(0) | Self::Closed => None,
            Self::Status(status) => Some(format!("exit status {status}")),
            Self::Signal(signal) => Some(format!("exit signal {signal}")),
            Self::Lost => Some("the connection to the target broke".to_owned()),
            Self::Refused => Some("refused by the target".to_owned()),
            Self::ClientGone => Some("client closed".to_owned()),
            Self::Unrecorded => Some("not recorded".to_owned()),
        }
    }
}

/// Writes to the target what the client sends, until the client closes the channel. It does not end where the target is
/// lost: what that still said comes down first.
pub(crate) async fn upward(ends: &Ends<'_>, counts: &Counts, done: &AtomicBool) -> How {
    loop {
        let (item, _held) = ends.up.pop().await;
        match &item {
            Item::Message(Message::Close) => return How::ClientGone,
            Item::Message(Message::Eof) => done.store(true, Ordering::SeqCst),
            _ => {}
        }
        let (sent, bytes) = match item {
            // A client has no stderr (RFC 4254, section 5.2).
            Item::Data(0, data) => {
                let (bytes, data) = (data.len(), data.freeze());
                if ends.record.write(Stream::Input, &data).await.is_err() {
                    return How::Unrecorded;
                }
                if let Some(shown) = ends.shown {
                    shown.typed(&data);
                }
                (patiently(ends.flow, ends.target.data_bytes(data)).await, bytes)
            }
            Item::Data(..) => (Ok(()), 0),
            Item::Message(message) => {
                if let Message::WindowChange([columns, rows, ..]) = message
                    && ends.record.resize(columns, rows).await.is_err()
                {
                    return How::Unrecorded;
                }
                (patiently(ends.flow, send(ends.target, message)).await, 0)
            }
        };
        if sent.is_err() {
            return std::future::pending().await;
        }
        Counts::add(&counts.up, bytes);
    }
}

/// A write to the target. Where it waits for a window, the adjustment may lie behind what is not read: reading goes on then,
/// up to the margin.
pub(crate) async fn patiently<T>(flow: &Flow, write: impl Future<Output = T>) -> T {
    let mut write = std::pin::pin!(write);
    match tokio::time::timeout(4 * PACE, &mut write).await {
        Ok(written) => written,
        Err(_) => {
            flow.allow_above(MARGIN);
            let written = write.await;
            flow.allow_above(0);
            written
        }
    }
}

async fn send(target: &ChannelWriteHalf<client::Msg>, message: Message) -> Result<(), russh::Error> {
    match message {
        Message::Eof => target.eof().await,
        Message::Signal(signal) => target.signal(signal).await,
        Message::WindowChange([columns, rows, width, height]) => {
            target.window_change(columns, rows, width, height).await
        }
        _ => Ok(()),
    }
}

/// Writes to the client what the target sends, to the channel's end.
///
/// The exit status goes before the end of output: a client that has nothing more to send closes at that end, and russh says
/// nothing on a channel after that. So the end of output waits for the status: as long as it takes where the client has ended
/// its input, a moment where it may still send.
pub(crate) async fn downward(ends: &Ends<'_>, counts: &Counts, up_done: &AtomicBool) -> How {
    let mut how = How::Closed;
    // Until when the end of output waits, while it does.
    let mut ending: Option<Option<Instant>> = None;
    loop {
        let until = ending.flatten().or_else(|| ends.shown.and_then(Shown::due));
        let next = match until {
            Some(until) => tokio::time::timeout_at(until, ends.down.pop()).await.ok(),
            None => Some(ends.down.pop().await),
        };
        let Some((item, _held)) = next else {
            if ending.take().is_none() {
                if let Err(how) = ends.show_held(Some(Instant::now())).await {
                    return how;
                }
            } else if ends.client.eof().await.is_err() {
                return How::ClientGone;
            }
            continue;
        };
        // No more output follows these.
        if matches!(item, Item::Message(Message::Eof | Message::Close | Message::Lost))
            && let Err(how) = ends.show_held(None).await
        {
            return how;
        }
        let sent = match item {
            Item::Data(stream, data) => {
                Counts::add(&counts.down, data.len());
                let shown = match ends.shown {
                    Some(shown) => {
                        let stream = Shown::stream(stream);
                        ends.show(stream, shown.take(stream, &data)).await
                    }
                    None => ends.show(stream, data.freeze()).await,
                };
                if let Err(how) = shown {
                    return how;
                }
                Ok(())
            }
            Item::Message(Message::Eof) => {
                let may_send = !up_done.load(Ordering::SeqCst);
                ending = Some(may_send.then(|| Instant::now() + LINGER));
                Ok(())
            }
            Item::Message(Message::ExitStatus(status)) => {
                how = How::Status(status);
                let sent = ends.client.exit_status(status).await;
                match (sent, ending.take()) {
                    (Ok(()), Some(_)) => ends.client.eof().await,
                    (sent, _) => sent,
                }
            }
            Item::Message(Message::ExitSignal { signal, core_dumped }) => {
                how = How::Signal(format!("{signal:?}"));
                let id = ends.client.id();
                let told = ends.connection.exit_signal_request(
                    id,
                    signal,
                    core_dumped,
                    String::new(),
                    String::new(),
                );
                let told = told.await.map_err(|()| russh::Error::SendError);
                match (told, ending.take()) {
                    (Ok(()), Some(_)) => ends.client.eof().await,
                    (told, _) => told,
                }
            }
            Item::Message(Message::Failure) => return How::Refused,
            Item::Message(end @ (Message::Close | Message::Lost)) => {
                if ending.is_some() {
                    let _ = ends.client.eof().await;
                }
                return match (how, end) {
                    (How::Closed, Message::Lost) => How::Lost,
                    (how, _) => how,
                };
            }
            Item::Message(Message::Signal(_) | Message::WindowChange(_)) => Ok(()),
        };
        if sent.is_err() {
            return How::ClientGone;
        }
    }
}

/// Both directions, to the channel's end.
pub(crate) async fn pump(ends: &Ends<'_>, counts: &Arc<Counts>) -> How {
    let up_done = AtomicBool::new(false);
    tokio::select! {
        how = upward(ends, counts, &up_done) => how,
        how = downward(ends, counts, &up_done) => how,
    }
}
