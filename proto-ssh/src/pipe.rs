//! One direction of one channel: data, requests and ends in the order in which they came.
//!
//! Handlers push and never wait; the channel's task takes. What waits is counted in the flow of the connection it was read
//! from.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;
use parking_lot::Mutex;
use russh::Sig;
use tokio::sync::Notify;

use crate::flow::{Flow, Held};

/// Small packets are joined up to this, or their overhead would outgrow the bytes that are counted.
const JOINED: usize = 64 << 10;
/// What a request costs beside its text, so that a flood of them is bounded too.
const MESSAGE_COST: usize = 256;

/// What came.
#[derive(Debug)]
pub(crate) enum Item {
    /// Bytes: stream 0 is the channel's data, others are its extended data (1: stderr).
    Data(u32, BytesMut),
    /// Anything else.
    Message(Message),
}

/// What comes beside data.
#[derive(Debug)]
pub(crate) enum Message {
    /// No more data.
    Eof,
    /// The channel is closed.
    Close,
    /// Its connection is gone, and the channel was not closed.
    Lost,
    /// What was asked for is refused.
    Failure,
    /// `exit-status`.
    ExitStatus(u32),
    /// `exit-signal`.
    ExitSignal {
        /// Which.
        signal: Sig,
        /// Whether a core was dumped.
        core_dumped: bool,
    },
    /// `signal`.
    Signal(Sig),
    /// `window-change`: columns, rows, and pixels.
    WindowChange([u32; 4]),
}

type Queue = VecDeque<(Item, Held)>;

/// The queue.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// None once nobody will take what comes.
    items: Mutex<Option<Queue>>,
    ready: Notify,
    flow: Arc<Flow>,
}

impl Pipe {
    /// An empty pipe whose bytes count in `flow`.
    pub(crate) fn new(flow: Arc<Flow>) -> Arc<Self> {
        Arc::new(Self {
            items: Mutex::new(Some(VecDeque::new())),
            ready: Notify::new(),
            flow,
        })
    }

    /// Adds data.
    pub(crate) fn data(&self, stream: u32, data: &[u8]) {
        let mut items = self.items.lock();
        let Some(queue) = items.as_mut() else { return };
        match queue.back_mut() {
            Some((Item::Data(same, waiting), held))
                if *same == stream && waiting.len().saturating_add(data.len()) <= JOINED =>
            {
                held.grow(data.len());
                waiting.extend_from_slice(data);
            }
            _ => queue.push_back((
                Item::Data(stream, BytesMut::from(data)),
                self.flow.hold(data.len()),
            )),
        }
        drop(items);
        self.ready.notify_one();
    }

    /// Adds a message.
    pub(crate) fn message(&self, message: Message) {
        let mut items = self.items.lock();
        let Some(queue) = items.as_mut() else { return };
        queue.push_back((Item::Message(message), self.flow.hold(MESSAGE_COST)));
        drop(items);
        self.ready.notify_one();
    }

    /// Takes the next item; its bytes count until what comes with it is dropped. Nothing is lost where this is dropped.
    pub(crate) async fn pop(&self) -> (Item, Held) {
        loop {
            if let Some(item) = self.items.lock().as_mut().and_then(VecDeque::pop_front) {
                return item;
            }
            self.ready.notified().await;
        }
    }

    /// Drops what waits and all that comes: nobody will take it, and it must not slow the others.
    pub(crate) fn shut(&self) {
        *self.items.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn order_is_kept_and_bytes_count_until_they_are_taken() {
        let flow = Flow::new(1 << 20);
        let pipe = Pipe::new(flow.clone());
        pipe.data(0, b"ab");
        pipe.data(0, b"c");
        pipe.data(1, b"err");
        pipe.message(Message::Eof);
        assert_eq!(flow.queued(), 6 + MESSAGE_COST);
        let (first, held) = pipe.pop().await;
        assert!(matches!(first, Item::Data(0, data) if &data[..] == b"abc"));
        drop(held);
        assert!(matches!(pipe.pop().await.0, Item::Data(1, data) if &data[..] == b"err"));
        assert!(matches!(pipe.pop().await.0, Item::Message(Message::Eof)));
        assert_eq!(flow.queued(), 0);
    }

    #[tokio::test]
    async fn what_nobody_will_take_counts_no_more() {
        let flow = Flow::new(1 << 20);
        let pipe = Pipe::new(flow.clone());
        pipe.data(0, b"abc");
        pipe.shut();
        pipe.data(0, b"abc");
        assert_eq!(flow.queued(), 0);
    }
}
