//! How much of what was read from a connection is still to be taken, and the brake on reading more.
//!
//! russh hands every packet to a handler at once and cannot be told to wait, so what bounds memory is how fast its socket is
//! read. [`Gated`] stands between russh and the socket and reads as its [`Flow`] allows: freely below `soft`, a packet every
//! few milliseconds above it (requests and window adjustments of the peer still get through), not at all above the ceiling.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::io::poll_read_buf;

/// Between two reads of a connection that is slowed: with windows of a few bytes this bounds what trickles in.
pub(crate) const PACE: Duration = Duration::from_millis(5);
/// The smallest room worth a packet; with less left a connection is slowed.
pub(crate) const STEP: usize = 32 << 10;
/// Most that is read from a socket at once.
const CHUNK: usize = 64 << 10;

/// The bytes read from one connection that nobody has taken yet.
#[derive(Debug)]
pub(crate) struct Flow {
    queued: AtomicUsize,
    /// Above this the connection is slowed.
    soft: usize,
    /// Above this it is not read.
    ceiling: AtomicUsize,
    dead: AtomicBool,
    waker: AtomicWaker,
}

impl Flow {
    /// Nothing queued yet; the ceiling is at `soft` until it is moved.
    pub(crate) fn new(soft: usize) -> Arc<Self> {
        Arc::new(Self {
            queued: AtomicUsize::new(0),
            soft,
            ceiling: AtomicUsize::new(soft),
            dead: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        })
    }

    /// Bytes that wait.
    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Ordering::SeqCst)
    }

    /// Room below `soft`.
    pub(crate) fn room(&self) -> usize {
        self.soft.saturating_sub(self.queued())
    }

    /// Moves the ceiling to `soft` and so much more.
    pub(crate) fn allow_above(&self, margin: usize) {
        self.ceiling
            .store(self.soft.saturating_add(margin), Ordering::SeqCst);
        self.waker.wake();
    }

    /// Ends the connection, whatever it waits for.
    pub(crate) fn end(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Counts `bytes` until what is returned is dropped.
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.queued.fetch_add(bytes, Ordering::SeqCst);
        Held {
            flow: self.clone(),
            bytes,
        }
    }

    fn release(&self, bytes: usize) {
        let before = self.queued.fetch_sub(bytes, Ordering::SeqCst);
        let half = self.soft / 2;
        if before > half && before.saturating_sub(bytes) <= half {
            self.waker.wake();
        }
    }

    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        self.waker.register(cx.waker());
        match self.dead.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::ConnectionAborted.into()),
            false => Ok(()),
        }
    }
}

/// Bytes that are counted in a flow for as long as this lives.
#[derive(Debug)]
pub(crate) struct Held {
    flow: Arc<Flow>,
    bytes: usize,
}

impl Held {
    /// Counts more.
    pub(crate) fn grow(&mut self, bytes: usize) {
        self.flow.queued.fetch_add(bytes, Ordering::SeqCst);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.flow.release(self.bytes);
    }
}

/// Ends the connection of a flow when its owner ends.
#[derive(Debug)]
pub(crate) struct EndOnDrop(pub(crate) Arc<Flow>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A stream that is read as its flow allows.
pub(crate) struct Gated<S> {
    inner: S,
    flow: Arc<Flow>,
    /// What russh has not taken; no memory where there is nothing, since most connections are idle.
    buffer: BytesMut,
    rest: Option<Pin<Box<Sleep>>>,
    /// So many bytes of what is written next have been written before.
    written: usize,
    /// How long a peer may stay above the ceiling.
    patience: Option<Duration>,
    above: Option<Pin<Box<Sleep>>>,
}

impl<S> Gated<S> {
    /// Wraps a stream.
    pub(crate) fn new(inner: S, flow: Arc<Flow>) -> Self {
        Self {
            inner,
            flow,
            buffer: BytesMut::new(),
            rest: None,
            written: 0,
            patience: None,
            above: None,
        }
    }

    /// Wraps a stream of which `read` has been read already; the first `written` bytes that are written to it are there already.
    pub(crate) fn resumed(inner: S, flow: Arc<Flow>, read: BytesMut, written: usize) -> Self {
        Self {
            buffer: read,
            written,
            ..Self::new(inner, flow)
        }
    }

    /// For a peer that stays below the ceiling as long as it keeps to its windows. One that stays above it for so long is cut off: while
    /// it is not read nobody would see that it has left.
    pub(crate) fn within(self, patience: Duration) -> Self {
        Self {
            patience: Some(patience),
            ..self
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gated<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if me.buffer.is_empty() {
            me.flow.check(cx)?;
            let queued = me.flow.queued();
            if queued > me.flow.ceiling.load(Ordering::SeqCst) {
                // Whoever takes bytes, moves the ceiling or ends the connection wakes it.
                let Some(patience) = me.patience else {
                    return Poll::Pending;
                };
                let above = me
                    .above
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
                ready!(above.as_mut().poll(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            me.above = None;
            if queued.saturating_add(STEP) > me.flow.soft {
                let rest = me.rest.get_or_insert_with(|| Box::pin(tokio::time::sleep(PACE)));
                ready!(rest.as_mut().poll(cx));
            }
            me.buffer.reserve(CHUNK);
            let read = poll_read_buf(Pin::new(&mut me.inner), cx, &mut me.buffer);
            if !matches!(read, Poll::Ready(Ok(1..))) {
                me.buffer = BytesMut::new();
            }
            ready!(read)?;
            me.rest = None;
        }
        let taken = me.buffer.len().min(out.remaining());
        out.put_slice(&me.buffer.split_to(taken));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gated<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.flow.check(cx)?;
        let known = self.written.min(data.len());
        if known > 0 {
            self.written = self.written.saturating_sub(known);
            return Poll::Ready(Ok(known));
        }
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flow.check(cx)?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_connection_is_not_read_above_its_ceiling_and_read_again_below() {
        let (mut peer, ours) = tokio::io::duplex(1 << 20);
        let flow = Flow::new(STEP);
        let mut gated = Gated::new(ours, flow.clone());
        let held = flow.hold(STEP + 1);
        peer.write_all(b"x").await.unwrap();
        let mut byte = [0];
        let moment = Duration::from_millis(100);
        assert!(tokio::time::timeout(moment, gated.read(&mut byte)).await.is_err());
        drop(held);
        assert_eq!(gated.read(&mut byte).await.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_stays_above_its_ceiling_is_cut_off_and_none_that_comes_down() {
        let (mut peer, ours) = tokio::io::duplex(1 << 20);
        let flow = Flow::new(STEP);
        let mut gated = Gated::new(ours, flow.clone()).within(Duration::from_secs(5));
        let mut byte = [0];
        for _ in 0..3 {
            let held = flow.hold(STEP + 1);
            peer.write_all(b"x").await.unwrap();
            let waits = tokio::time::timeout(Duration::from_secs(3), gated.read(&mut byte));
            assert!(waits.await.is_err());
            drop(held);
            assert_eq!(gated.read(&mut byte).await.unwrap(), 1);
        }
        let _held = flow.hold(STEP + 1);
        let error = gated.read(&mut byte).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn what_was_read_and_written_before_is_not_read_and_written_again() {
        let (mut peer, ours) = tokio::io::duplex(64);
        let mut gated = Gated::resumed(ours, Flow::new(STEP), BytesMut::from(&b"ab"[..]), 3);
        peer.write_all(b"c").await.unwrap();
        gated.write_all(b"id\nnext").await.unwrap();
        let (mut read, mut told) = ([0; 3], [0; 4]);
        gated.read_exact(&mut read).await.unwrap();
        peer.read_exact(&mut told).await.unwrap();
        assert_eq!((&read, &told), (b"abc", b"next"));
    }

    #[tokio::test]
    async fn a_connection_whose_owner_ends_fails_whatever_it_waits_for() {
        let (_peer, ours) = tokio::io::duplex(64);
        let flow = Flow::new(STEP);
        let mut gated = Gated::new(ours, flow.clone());
        let reading = tokio::spawn(async move { gated.read(&mut [0]).await });
        tokio::task::yield_now().await;
        drop(EndOnDrop(flow));
        assert!(reading.await.unwrap().is_err());
    }
}
