//! What the target still answers when a session has ended: it tells how operations ended, and nobody else hears it.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};

use super::{GOODBYE, clock};
use crate::gateway::SessionScope;
use crate::machine::{End, Outbound, Parsed, Peer, ProtocolSession, Provider};
use crate::transport::Transport;

/// How long the answers to a client that has left are waited for.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// A target that happened to run nothing when it was told to stop is told again after this time.
const TELL_AGAIN: Duration = Duration::from_millis(250);

/// What becomes of that which runs at the target when a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// An operator, the clock or a target that breaks the protocol ends it: it must not go on.
    Stop,
    /// The client has left, or breaks the protocol: what it sent before that has the server's own behaviour.
    Finish,
    /// The target is not there, or did not heed it.
    Lost,
}

impl Leave {
    pub(super) fn of(end: &End) -> Self {
        match end {
            End::Expired
            | End::AccessEnded
            | End::CredentialLost
            | End::Unrecorded
            | End::Killed(_)
            | End::Shutdown
            | End::Idle
            | End::TooLong => Self::Stop,
            End::Fault(fault) if fault.peer == Peer::Target => Self::Stop,
            End::ClientClosed | End::Broken(Peer::Client, _) | End::Fault(_) => Self::Finish,
            // Who is out of time was interrupted already.
            End::TargetClosed | End::OutOfTime | End::Broken(Peer::Target, _) => Self::Lost,
        }
    }
}

/// A session whose client is not served any more.
pub(super) struct LastAnswers<'a, S> {
    pub(super) scope: &'a mut SessionScope,
    pub(super) session: S,
    pub(super) target: Transport,
    pub(super) from_target: BytesMut,
}

impl<S: ProtocolSession> LastAnswers<'_, S> {
    /// Waits, for a bounded time, until the target has answered all that it was sent; has it stop first where it must.
    pub(super) async fn hear(&mut self, leave: Leave, provider: &impl Provider<S>) {
        let mut stop = leave == Leave::Stop;
        let longest = match leave {
            Leave::Stop => GOODBYE,
            Leave::Finish => LAST_ANSWERS,
            Leave::Lost => return,
        };
        let mut until = Instant::now() + longest;
        self.note_outcomes();
        while self.scope.is_busy() && Instant::now() < until {
            if stop {
                match timeout_at(until, provider.interrupt()).await {
                    Ok(true) => {}
                    Ok(false) => {
                        stop = false;
                        until = until.min(Instant::now() + LAST_ANSWERS);
                    }
                    Err(_) => return,
                }
            }
            let round = if stop {
                until.min(Instant::now() + TELL_AGAIN)
            } else {
                until
            };
            if timeout_at(round, self.answers()).await.is_ok() {
                return;
            }
        }
    }

    /// Reads answers until nothing runs, or no more can come.
    async fn answers(&mut self) {
        let mut nobody = Outbound::default();
        loop {
            while !self.from_target.is_empty() {
                let parsed = self
                    .session
                    .parse(Peer::Target, &self.from_target, &mut nobody, clock());
                nobody.to_client.clear();
                nobody.to_target.clear();
                match parsed {
                    Ok(Parsed::Forward(n) | Parsed::Consumed(n)) => {
                        self.from_target.advance(n.min(self.from_target.len()));
                    }
                    Ok(Parsed::Incomplete) => break,
                    // Nobody is left to answer it.
                    Ok(Parsed::Blocked | Parsed::Inspect { .. } | Parsed::Goodbye(_)) | Err(_) => return,
                }
                self.note_outcomes();
            }
            if !self.scope.is_busy() {
                return;
            }
            match self.target.read_buf(&mut self.from_target).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
        }
    }

    pub(super) fn note_outcomes(&mut self) {
        while let Some(outcome) = self.session.poll_outcome() {
            self.scope.outcome(&outcome, clock());
        }
    }
}
