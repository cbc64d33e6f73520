//! The driver: pumps bytes between two peers through a [`ProtocolSession`].
//!
//! One task a session. Each turn parses what has arrived, judges, forwards runs of untouched messages as one
//! slice and writes once per burst. It stops reading from a peer whose bytes the other one does not take
//! (backpressure), and a verdict may take as long as it likes while both sockets are served.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::buffers;
use crate::gateway::{Before, Judged, Opening, SessionScope, Woken};
use crate::limits::Limits;
use crate::machine::{End, Inspection, Outbound, Parsed, Peer, ProtocolSession, Provider};
use crate::transport::Transport;
use crate::verdict::{LimitedBy, Ruling};

mod bell;
mod last;

use bell::Bell;
use last::{LastAnswers, Leave};

/// Room for one read; and where one read was not enough.
const READ_BYTES: usize = 16 * 1024;
const LONG_READ_BYTES: usize = 64 * 1024;
/// While so much waits to be written to a peer, nothing more is parsed for it; nor from a client that does not take
/// its answers.
const HIGH_WATER: usize = 128 * 1024;
/// While a message is decided, or a peer must wait for the other, it may send so much ahead.
const AHEAD_BYTES: usize = 1024 * 1024;
/// A goodbye must be taken within this time.
const GOODBYE: Duration = Duration::from_secs(5);
/// How long the alarm sleeps where no limit of time is near.
const NOTHING_NEAR: Duration = Duration::from_secs(3600);
/// How long what used up its time may go on after it was told to stop; then its session ends.
const GRACE: Duration = Duration::from_secs(5);
/// Messages that one turn handles before it lets other sessions run.
const TURN_MESSAGES: usize = 256;

enum Work<S: ProtocolSession> {
    Free,
    /// To be inspected (again), once a peer has answered.
    Inspect(S::Message),
    Providing(S::Message, BoxFuture<'static, S::Provision>),
    Judging(S::Message, BoxFuture<'static, Ruling>),
    /// It is being seen to that people can decide, or that they have.
    Opening(S::Message, Before, BoxFuture<'static, Opening>),
    /// People decide.
    Held(S::Message, Before, BoxFuture<'static, Woken>),
}

/// Which of the limits of time comes next.
#[derive(Debug, Clone, Copy)]
enum Alarm {
    Expired,
    Idle,
    TooLong,
    Statement,
}

/// Until when an operation may run.
struct Deadline {
    at: Instant,
    ticket: u64,
    /// The `@id` of the policy that gives no more.
    by: Option<std::sync::Arc<LimitedBy>>,
    /// It was told to stop already.
    told: bool,
}

/// One session between its two sockets.
pub struct Relay<'a, S: ProtocolSession, P> {
    scope: &'a mut SessionScope,
    session: S,
    provider: std::sync::Arc<P>,
    client: Transport,
    target: Transport,
    from_client: BytesMut,
    from_target: BytesMut,
    out: Outbound,
    work: Work<S>,
    /// Rung by what rarely happens: stop, drain, the alarm, the answer to an interrupt.
    bell: Bell,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    drain: Pin<Box<WaitForCancellationFutureOwned>>,
    draining: bool,
    started: Instant,
    active: Instant,
    expires: Option<Instant>,
    idle: Option<Duration>,
    longest: Option<Duration>,
    deadlines: Vec<Deadline>,
    interrupting: Option<BoxFuture<'static, bool>>,
    /// The alarm was moved and must be polled before the task sleeps.
    alarm_moved: bool,
    alarm: Pin<Box<tokio::time::Sleep>>,
    client_gone: bool,
    target_gone: bool,
    /// What the target's connection broke with, told once the client has all that came before.
    broke: Option<String>,
    /// The machine wants the other peer to answer before it parses more.
    client_blocked: bool,
    target_blocked: bool,
    /// What the target sent waits for room towards the client.
    target_behind: bool,
    client_unflushed: bool,
    target_unflushed: bool,
}

/// Bytes that were read with the login's last message and belong to the session.
#[derive(Debug, Default)]
pub struct Leftover {
    /// From the client.
    pub client: BytesMut,
    /// From the target.
    pub target: BytesMut,
}

impl<'a, S, P> Relay<'a, S, P>
where
    S: ProtocolSession + Unpin,
    S::Message: Unpin,
    P: Provider<S> + Sync + 'static,
    S::Need: 'static,
    S::Provision: 'static,
{
    /// Joins a session to its sockets. `out` is what is to be sent first.
    pub fn new(
        scope: &'a mut SessionScope,
        session: S,
        provider: P,
        client: Transport,
        target: Transport,
        leftover: Leftover,
        out: Outbound,
    ) -> Self {
        let now = clock();
        let limits = scope.gateway().limits().clone();
        let expires = scope.remaining().and_then(|left| now.checked_add(left));
        let stop = Box::pin(scope.control().stop.clone().cancelled_owned());
        let drain = Box::pin(scope.control().drain.clone().cancelled_owned());
        Self {
            scope,
            session,
            provider: std::sync::Arc::new(provider),
            client,
            target,
            from_client: leftover.client,
            from_target: leftover.target,
            out,
            work: Work::Free,
            bell: Bell::new(),
            stop,
            drain,
            draining: false,
            started: now,
            active: now,
            expires,
            idle: Limits::optional(limits.idle),
            longest: Limits::optional(limits.session),
            deadlines: Vec::new(),
            interrupting: None,
            alarm_moved: false,
            alarm: Box::pin(tokio::time::sleep(Duration::ZERO)),
            client_gone: false,
            target_gone: false,
            broke: None,
            client_blocked: false,
            target_blocked: false,
            target_behind: false,
            client_unflushed: false,
            target_unflushed: false,
        }
    }

    /// Runs the session to its end, says goodbye to both peers, and writes the end into the trail.
    pub fn run(self) -> impl Future<Output = End> + Send + use<'a, S, P> {
        // A future keeps the room of what was moved into it, and of what it will need: by boxes a session has its state
        // once, and nothing of its end before that comes.
        Box::new(self).run_boxed()
    }

    async fn run_boxed(mut self: Box<Self>) -> End {
        let end = std::future::poll_fn(|cx| self.poll(cx)).await;
        Box::pin(self.close(end)).await
    }

    /// Says goodbye to both peers, and writes the end into the trail.
    async fn close(mut self: Box<Self>, end: End) -> End {
        if matches!(self.work, Work::Judging(..) | Work::Opening(..) | Work::Held(..)) {
            // What was still undecided runs never: nothing runs without a live client.
            self.scope.withdraw();
        }
        self.work = Work::Free;
        let leave = Leave::of(&end);
        let cut = leave != Leave::Finish && !self.out.to_target.is_empty();
        if cut {
            // What has not left yet does not run any more.
            self.out.to_target.clear();
        }
        self.session.end(&end, &mut self.out);
        if cut {
            // The target may stand within a message: another one would be taken for its rest.
            self.out.to_target.clear();
        }
        let Self {
            scope,
            session,
            provider,
            mut client,
            mut target,
            from_target,
            out: Outbound { to_client, to_target },
            ..
        } = *self;
        let to_client = async move {
            let _ = client.write_all(&to_client).await;
            let _ = client.shutdown().await;
        };
        let to_target = async move {
            let _ = tokio::time::timeout(GOODBYE, target.write_all(&to_target)).await;
            let mut last = LastAnswers {
                scope,
                session,
                target,
                from_target,
            };
            last.hear(leave, &*provider).await;
            last.session.abandon();
            last.note_outcomes();
            last.scope.finish(&end);
            let _ = tokio::time::timeout(GOODBYE, last.target.shutdown()).await;
            end
        };
        let (_, end) = tokio::join!(tokio::time::timeout(GOODBYE, to_client), to_target);
        end
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.buffers().for_each(buffers::lend);
        let polled = self.poll_session(cx);
        self.buffers().for_each(buffers::give_back);
        polled
    }

    fn buffers(&mut self) -> impl Iterator<Item = &mut BytesMut> {
        let Outbound { to_client, to_target } = &mut self.out;
        [&mut self.from_client, &mut self.from_target, to_client, to_target].into_iter()
    }

    fn poll_session(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let now = clock();
        if self.bell.has_rung(cx)
            && let Poll::Ready(end) = self.poll_rare(now)
        {
            return Poll::Ready(end);
        }
        match self.poll_bytes(cx, now) {
            Poll::Ready(Ok(())) => {
                // More to do, but other sessions come first.
                cx.waker().wake_by_ref();
            }
            Poll::Ready(Err(end)) => return Poll::Ready(end),
            Poll::Pending => {}
        }
        if std::mem::take(&mut self.alarm_moved)
            && let Poll::Ready(end) = self.poll_alarms(now)
        {
            return Poll::Ready(end);
        }
        // What waits for people has not begun, and a retry attaches: it does not keep the gateway from stopping.
        let undone = matches!(self.work, Work::Free) || self.waits_for_people();
        if self.draining && undone && self.session.is_quiet() {
            return Poll::Ready(End::Shutdown);
        }
        Poll::Pending
    }

    /// What rarely happens. Each of these wakes the task by the bell, so that bytes alone cost none of it.
    fn poll_rare(&mut self, now: Instant) -> Poll<End> {
        let bell = self.bell.waker();
        let cx = &mut Context::from_waker(&bell);
        if self.stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(self.scope.control().reason());
        }
        if !self.draining && self.drain.as_mut().poll(cx).is_ready() {
            self.draining = true;
        }
        self.poll_alarms(now)
    }

    /// `Ready(Ok)`: it stopped though there was more to do.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<(), End>> {
        for _ in 0..16 {
            let mut progress = self.poll_work(cx, now)?;
            progress |= self.parse_target(now)?;
            progress |= self.parse_client(now)?;
            while let Some(outcome) = self.session.poll_outcome() {
                self.scope.outcome(&outcome, now);
            }
            progress |= self.poll_write(cx, now)?;
            // A client that sends no more and does not read waits for nothing but what can't come.
            let told = self.out.to_client.is_empty() || self.broke.is_some() && self.client_gone;
            if self.target_gone && !progress && told {
                let broken = self.broke.take().map(|why| End::Broken(Peer::Target, why));
                return Poll::Ready(Err(broken.unwrap_or(End::TargetClosed)));
            }
            // What a client sent whole before it closed still runs, unless a person would have to decide (nothing runs
            // without a live client), or it must wait for answers of the target.
            let busy = !matches!(self.work, Work::Free) && !self.waits_for_people();
            let stalled = self.out.to_client.len() >= HIGH_WATER && !self.from_client.is_empty();
            if self.client_gone && !progress && !busy && !stalled && self.out.to_target.is_empty() {
                return Poll::Ready(Err(End::ClientClosed));
            }
            let read = self.poll_read(cx)?;
            if progress || read {
                self.active = now;
            } else {
                return Poll::Pending;
            }
            if !read && self.is_at_rest() {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether nothing can be done before a peer sends something: all that came has been dealt with. Both sockets were
    /// polled then, since nothing waits that would have kept them from it.
    fn is_at_rest(&self) -> bool {
        let Outbound { to_client, to_target } = &self.out;
        let empty = [&self.from_client, &self.from_target, to_client, to_target];
        matches!(self.work, Work::Free)
            && empty.iter().all(|buffer| buffer.is_empty())
            && !(self.client_gone || self.target_gone || self.client_unflushed || self.target_unflushed)
    }

    fn poll_work(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, End> {
        if matches!(self.work, Work::Free) {
            return Ok(false);
        }
        match std::mem::replace(&mut self.work, Work::Free) {
            Work::Free => Ok(false),
            Work::Inspect(message) => {
                // Asked again after each answer; it costs little, and only while the machine waits.
                let waiting_before = self.out.to_target.len();
                self.inspect(message, now)?;
                Ok(!matches!(self.work, Work::Inspect(_)) || self.out.to_target.len() != waiting_before)
            }
            Work::Providing(message, mut answer) => match answer.as_mut().poll(cx) {
                Poll::Ready(provision) => {
                    self.session.provide(provision);
                    self.inspect(message, now)?;
                    Ok(true)
                }
                Poll::Pending => {
                    self.work = Work::Providing(message, answer);
                    Ok(false)
                }
            },
            Work::Judging(message, mut answer) => match answer.as_mut().poll(cx) {
                Poll::Ready(ruling) => {
                    self.scope.ruled(&ruling);
                    self.rewrite(message, &ruling, now)?;
                    Ok(true)
                }
                Poll::Pending => {
                    self.work = Work::Judging(message, answer);
                    Ok(false)
                }
            },
            Work::Opening(mut message, before, mut opening) => match opening.as_mut().poll(cx) {
                Poll::Ready(Opening::Ruled(ruling)) => {
                    self.scope.ruled(&ruling);
                    self.rewrite(message, &ruling, now)?;
                    Ok(true)
                }
                Poll::Ready(Opening::Held(notice, woken)) => {
                    self.session.held(&mut message, &notice, &mut self.out);
                    self.work = Work::Held(message, before, woken);
                    Ok(true)
                }
                Poll::Pending => {
                    self.work = Work::Opening(message, before, opening);
                    Ok(false)
                }
            },
            Work::Held(message, before, _) if self.session.is_void(&message) => {
                self.scope.woken(before);
                self.inspect(message, now)?;
                Ok(true)
            }
            Work::Held(message, before, mut woken) => match woken.as_mut().poll(cx) {
                Poll::Ready(Woken::Ruled(ruling)) => {
                    self.scope.ruled(&ruling);
                    self.rewrite(message, &ruling, now)?;
                    Ok(true)
                }
                Poll::Ready(Woken::Again) => {
                    // What it means may have changed while it waited.
                    self.scope.woken(before);
                    self.inspect(message, now)?;
                    Ok(true)
                }
                Poll::Pending => {
                    self.work = Work::Held(message, before, woken);
                    Ok(false)
                }
            },
        }
    }

    /// Whether the client waits until people decide: it may leave then, and is not idle.
    fn waits_for_people(&self) -> bool {
        matches!(self.work, Work::Opening(..) | Work::Held(..))
    }

    fn inspect(&mut self, mut message: S::Message, now: Instant) -> Result<(), End> {
        match self
            .session
            .inspect(&mut message, &mut self.out, now)
            .map_err(End::Fault)?
        {
            Inspection::Wait => self.work = Work::Inspect(message),
            Inspection::Needs(need) => {
                let provider = self.provider.clone();
                self.work = Work::Providing(message, Box::pin(async move { provider.provide(need).await }));
            }
            Inspection::Refuse(denial, statement) => {
                let ruling = self.scope.refuse_unasked(&denial, statement);
                self.rewrite(message, &ruling, now)?;
            }
            Inspection::Ask(question) => {
                let session = &self.session;
                match self.scope.judge(&question, || session.bound(&message), now) {
                    Judged::Now(ruling) => self.rewrite(message, &ruling, now)?,
                    Judged::Later(ruling) => self.work = Work::Judging(message, ruling),
                    Judged::Opening(before, opening) => self.work = Work::Opening(message, before, opening),
                }
            }
        }
        Ok(())
    }

    fn rewrite(&mut self, message: S::Message, ruling: &Ruling, now: Instant) -> Result<(), End> {
        if let Ruling::Run { obligations, ticket } = ruling
            && let Some(at) = obligations.timeout.and_then(|time| now.checked_add(time))
        {
            self.deadlines.push(Deadline {
                at,
                ticket: *ticket,
                by: obligations.by.clone(),
                told: false,
            });
            // The alarm may be set for later than this.
            self.alarm.as_mut().reset(now.into());
            self.alarm_moved = true;
        }
        self.session
            .rewrite(message, ruling, &mut self.out)
            .map_err(End::Fault)
    }

    fn parse_client(&mut self, now: Instant) -> Result<bool, End> {
        let mut progress = false;
        for _ in 0..TURN_MESSAGES {
            if !matches!(self.work, Work::Free)
                || self.from_client.is_empty()
                || self.out.to_target.len() >= HIGH_WATER
                || self.out.to_client.len() >= HIGH_WATER
            {
                break;
            }
            let parsed = self
                .session
                .parse(Peer::Client, &self.from_client, &mut self.out, now);
            let parsed = parsed.map_err(End::Fault)?;
            self.client_blocked = matches!(parsed, Parsed::Blocked);
            match parsed {
                Parsed::Incomplete | Parsed::Blocked => break,
                Parsed::Forward(n) => forward(&mut self.from_client, n, &mut self.out.to_target),
                Parsed::Consumed(n) => self.from_client.advance(n.min(self.from_client.len())),
                Parsed::Goodbye(_) => {
                    // What comes after it is never looked at.
                    self.from_client.clear();
                    self.client_gone = true;
                }
                Parsed::Inspect { consumed, message } => {
                    self.from_client.advance(consumed.min(self.from_client.len()));
                    self.inspect(message, now)?;
                }
            }
            progress = true;
        }
        Ok(progress)
    }

    fn parse_target(&mut self, now: Instant) -> Result<bool, End> {
        let mut progress = false;
        while !self.from_target.is_empty() && self.out.to_client.len() < HIGH_WATER {
            let parsed = self
                .session
                .parse(Peer::Target, &self.from_target, &mut self.out, now);
            let parsed = parsed.map_err(End::Fault)?;
            self.target_blocked = matches!(parsed, Parsed::Blocked);
            match parsed {
                Parsed::Incomplete | Parsed::Blocked => break,
                Parsed::Forward(n) => forward(&mut self.from_target, n, &mut self.out.to_client),
                Parsed::Consumed(n) => self.from_target.advance(n.min(self.from_target.len())),
                // Only a client's messages are inspected; a machine that says otherwise is broken.
                Parsed::Inspect { .. } | Parsed::Goodbye(_) => {
                    return Err(End::Fault(crate::machine::Fault::target(
                        "sent a message that asks something",
                    )));
                }
            }
            progress = true;
        }
        self.target_behind = !self.from_target.is_empty() && self.out.to_client.len() >= HIGH_WATER;
        Ok(progress)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, End> {
        let mut progress = false;
        let broken = |peer, error: io::Error| End::Broken(peer, error.to_string());
        if !self.target_gone {
            match write_some(
                &mut self.target,
                &mut self.out.to_target,
                &mut self.target_unflushed,
                cx,
            ) {
                Ok(written) => progress |= written,
                Err(error) => {
                    self.last_words(cx, now)?;
                    return Err(broken(Peer::Target, error));
                }
            }
        }
        progress |= write_some(
            &mut self.client,
            &mut self.out.to_client,
            &mut self.client_unflushed,
            cx,
        )
        .map_err(|e| broken(Peer::Client, e))?;
        Ok(progress)
    }

    /// A target that takes no more may have said why: what has arrived from it still reaches the client.
    fn last_words(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), End> {
        while self.out.to_client.len() < HIGH_WATER
            && let Poll::Ready(Ok(1..)) = read_some(&mut self.target, &mut self.from_target, cx)
        {
            let parsed = self.parse_target(now)?;
            if !parsed && self.from_target.len() >= AHEAD_BYTES {
                break;
            }
        }
        Ok(())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut progress = false;
        let waits =
            !matches!(self.work, Work::Free) || self.client_blocked || self.out.to_client.len() >= HIGH_WATER;
        let ahead = waits && self.from_client.len() >= AHEAD_BYTES;
        if !self.client_gone && !ahead && self.out.to_target.len() < HIGH_WATER && self.wants_client_bytes() {
            match read_some(&mut self.client, &mut self.from_client, cx) {
                Poll::Ready(Ok(0)) => {
                    self.client_gone = true;
                    progress = true;
                }
                Poll::Ready(Ok(_)) => progress = true,
                Poll::Ready(Err(error)) => return Err(End::Broken(Peer::Client, error.to_string())),
                Poll::Pending => {}
            }
        }
        // A read may bring more than goes on in one turn: what is there goes first, or it would pile up. While it waits for
        // room, the kernel keeps what comes behind it.
        let ahead = self.target_blocked && self.from_target.len() >= AHEAD_BYTES;
        let behind = self.target_behind || self.out.to_client.len() >= HIGH_WATER;
        if !self.target_gone && !ahead && !behind {
            match read_some(&mut self.target, &mut self.from_target, cx) {
                Poll::Ready(Ok(0)) => {
                    self.target_gone = true;
                    progress = true;
                }
                Poll::Ready(Ok(_)) => progress = true,
                Poll::Ready(Err(error)) => {
                    self.target_gone = true;
                    self.broke = Some(error.to_string());
                    progress = true;
                }
                Poll::Pending => {}
            }
        }
        Ok(progress)
    }

    /// No message is larger than the limits: beyond the bound nothing more is read.
    fn wants_client_bytes(&self) -> bool {
        let limits = self.scope.gateway().limits();
        let largest = limits.statement_bytes.max(limits.parameter_bytes);
        self.from_client.len() <= largest.saturating_add(AHEAD_BYTES)
    }

    fn poll_alarms(&mut self, now: Instant) -> Poll<End> {
        let bell = self.bell.waker();
        let cx = &mut Context::from_waker(&bell);
        if let Some(interrupt) = self.interrupting.as_mut()
            && let Poll::Ready(done) = interrupt.as_mut().poll(cx)
        {
            self.interrupting = None;
            if !done {
                return Poll::Ready(End::OutOfTime);
            }
        }
        // The alarm is not moved at every message: it rings at the earliest time that matters and looks.
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let now = now.max(clock());
            let mut next: Option<(Instant, Alarm)> = None;
            let mut consider = |at: Option<Instant>, alarm: Alarm| {
                if let Some(at) = at
                    && next.is_none_or(|(earliest, _)| at < earliest)
                {
                    next = Some((at, alarm));
                }
            };
            consider(self.expires, Alarm::Expired);
            let active = if self.waits_for_people() { now } else { self.active };
            consider(self.idle.and_then(|idle| active.checked_add(idle)), Alarm::Idle);
            consider(
                self.longest.and_then(|longest| self.started.checked_add(longest)),
                Alarm::TooLong,
            );
            let scope = &self.scope;
            self.deadlines
                .retain(|deadline| scope.is_running(deadline.ticket));
            consider(
                self.deadlines.iter().map(|deadline| deadline.at).min(),
                Alarm::Statement,
            );
            match next {
                Some((at, alarm)) if at <= now => match alarm {
                    Alarm::Expired => return Poll::Ready(End::Expired),
                    Alarm::Idle => return Poll::Ready(End::Idle),
                    Alarm::TooLong => return Poll::Ready(End::TooLong),
                    Alarm::Statement => {
                        for deadline in self.deadlines.iter_mut().filter(|deadline| deadline.at <= now) {
                            if deadline.told {
                                return Poll::Ready(End::OutOfTime);
                            }
                            deadline.told = true;
                            deadline.at = now + GRACE;
                            let decision = {
                                let by = deadline.by.as_ref().and_then(|by| by.timeout.as_deref());
                                self.scope.out_of_time(deadline.ticket, by)
                            };
                            self.session.out_of_time(deadline.ticket, decision);
                        }
                        let provider = self.provider.clone();
                        let mut interrupt: BoxFuture<'static, bool> =
                            Box::pin(async move { provider.interrupt().await });
                        match interrupt.as_mut().poll(cx) {
                            Poll::Ready(true) => {}
                            Poll::Ready(false) => return Poll::Ready(End::OutOfTime),
                            Poll::Pending => self.interrupting = Some(interrupt),
                        }
                    }
                },
                Some((at, _)) => self.alarm.as_mut().reset(at.into()),
                None => self.alarm.as_mut().reset((now + NOTHING_NEAR).into()),
            }
        }
    }
}

/// The clock that the alarm rings by, so that tests can stop it.
fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Moves the first `n` bytes; where they are all there is and nothing waits, without copying.
fn forward(from: &mut BytesMut, n: usize, to: &mut BytesMut) {
    if to.is_empty() && n >= from.len() {
        std::mem::swap(from, to);
    } else if let Some(run) = from.get(..n) {
        to.extend_from_slice(run);
        from.advance(n);
    } else {
        to.extend_from_slice(from);
        from.clear();
    }
}

fn read_some(from: &mut Transport, into: &mut BytesMut, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    if into.is_empty() && into.capacity() > 2 * LONG_READ_BYTES {
        // One large message does not make a session large for ever.
        *into = BytesMut::new();
    }
    into.reserve(if into.len() >= READ_BYTES {
        LONG_READ_BYTES
    } else {
        READ_BYTES
    });
    tokio_util::io::poll_read_buf(Pin::new(from), cx, into)
}

fn write_some(
    to: &mut Transport,
    bytes: &mut BytesMut,
    unflushed: &mut bool,
    cx: &mut Context<'_>,
) -> io::Result<bool> {
    let mut progress = false;
    while !bytes.is_empty() {
        match Pin::new(&mut *to).poll_write(cx, bytes) {
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(n)) => {
                bytes.advance(n);
                *unflushed = true;
                progress = true;
            }
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => return Ok(progress),
        }
    }
    if *unflushed && Pin::new(to).poll_flush(cx)?.is_ready() {
        *unflushed = false;
    }
    Ok(progress)
}
