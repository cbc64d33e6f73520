//! What runs on one channel of a client: decided first, then carried to a target connection of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use gateway_core::verdict::Decision;
use russh::client::Msg as TargetMsg;
use russh::server::{self, Msg};
use russh::{ChannelWriteHalf, Pty};
use tokio::sync::oneshot;

use crate::authority::Granted;
use crate::back::{self, Backs};
use crate::command::quote;
use crate::inspect::{self, Look};
use crate::pipe::Pipe;
use crate::pump::{Counts, Ends, How, pump};
use crate::scp::Base;
use crate::session::{Answer, Permitted, Session};
use crate::target::{Accepts, Target, Unreachable};
use crate::tell;
use crate::wire::scp::ScpCommand;

mod reaching;
mod recorded;

pub(crate) use reaching::{reach, unreached};

/// Channels that a target may have open towards one client at the same time.
pub(crate) const BACK_CHANNELS: usize = 64;

/// A terminal as it was asked for (`pty-req`).
#[derive(Debug, Clone)]
pub(crate) struct Terminal {
    /// `TERM`.
    pub(crate) term: String,
    /// Columns, rows, and pixels.
    pub(crate) size: [u32; 4],
    /// Its modes.
    pub(crate) modes: Vec<(Pty, u32)>,
}

/// A display as it was asked for (`x11-req`).
#[derive(Debug, Clone)]
pub(crate) struct Display {
    /// One connection only.
    pub(crate) single: bool,
    /// The protocol and the cookie.
    pub(crate) auth: (String, String),
    /// The screen.
    pub(crate) screen: u32,
}

/// What was asked for, and granted, before a program is started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prepared {
    /// A terminal.
    pub(crate) terminal: Option<Terminal>,
    /// Variables.
    pub(crate) env: Vec<(String, String)>,
    /// The client's agent.
    pub(crate) agent: bool,
    /// A display.
    pub(crate) display: Option<Display>,
}

impl Prepared {
    /// What an approval binds of it: the login is bound with the session.
    pub(crate) fn bound(&self, login: &str) -> Vec<u8> {
        let mut bound = Vec::new();
        let mut part = |text: &str| {
            bound.extend_from_slice(text.len().to_string().as_bytes());
            bound.push(b':');
            bound.extend_from_slice(text.as_bytes());
        };
        part(login);
        part(if self.terminal.is_some() { "pty" } else { "" });
        part(if self.agent { "agent" } else { "" });
        part(if self.display.is_some() { "x11" } else { "" });
        for (name, value) in &self.env {
            part(name);
            part(value);
        }
        bound
    }
}

/// What is started.
#[derive(Debug)]
pub(crate) enum Program {
    /// A login shell.
    Shell,
    /// A command line.
    Exec(Vec<u8>),
    /// A subsystem.
    Subsystem(String),
}

/// A channel on which something is started.
pub(crate) struct Lane {
    /// The session.
    pub(crate) session: Arc<Session>,
    /// What comes from the client.
    pub(crate) up: Arc<Pipe>,
    /// The way to it.
    pub(crate) client: ChannelWriteHalf<Msg>,
    /// Its connection.
    pub(crate) connection: server::Handle,
    /// Channels that go the other way.
    pub(crate) backs: Arc<Backs>,
    /// What was granted before.
    pub(crate) prepared: Prepared,
}

/// An operation that runs; however its task ends, its end is in the trail.
pub(crate) struct Running {
    session: Arc<Session>,
    ticket: u64,
    counts: Arc<Counts>,
    done: bool,
}

impl Running {
    /// It begins.
    pub(crate) fn new(session: &Arc<Session>, ticket: u64) -> Self {
        Self {
            session: session.clone(),
            ticket,
            counts: Arc::default(),
            done: false,
        }
    }

    /// What has gone through.
    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// It has ended.
    pub(crate) async fn end(mut self, error: Option<String>) {
        self.done = true;
        let bytes = self.counts.down.load(Ordering::Relaxed);
        self.session.outcome(self.ticket, bytes, error).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // Its task was cut off: the client closed, or the session ended.
        let (session, ticket) = (self.session.clone(), self.ticket);
        let bytes = self.counts.down.load(Ordering::Relaxed);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                session
                    .outcome(ticket, bytes, Some("client closed".to_owned()))
                    .await
            });
        }
    }
}

/// Tells when it is known whether something starts: `true` once it does or waits for people, `false` where it is refused.
pub(crate) type Started = oneshot::Sender<bool>;

impl Lane {
    fn pty(&self) -> bool {
        self.prepared.terminal.is_some()
    }

    /// Tells the client a refusal, and with it that nothing runs.
    async fn refuse(&self, decision: &Decision) {
        let _ = self
            .client
            .extended_data_bytes(1, tell::lines(decision, self.pty()))
            .await;
        let _ = self.client.exit_status(tell::status(decision)).await;
        let _ = self.client.eof().await;
    }

    /// Runs the channel to its end. `started` is told where the client's request is still to be answered.
    pub(crate) async fn run(self, program: Program, started: Option<Started>) {
        let _busy = self.session.busy();
        self.carry(program, started).await;
        // What nobody takes would slow the other channels.
        self.up.shut();
        let _ = self.client.close().await;
    }

    async fn carry(&self, program: Program, started: Option<Started>) {
        let look = inspect::look(&self.session, &program, self.pty());
        let (question, command) = match look {
            Look::Ask { question, command } => (question, command),
            Look::Malformed { operation, why } => {
                let decision = self.session.malformed(&operation, &why).await;
                if let Some(started) = started {
                    let _ = started.send(false);
                    return;
                }
                return self.refuse(&decision).await;
            }
        };
        let mut started = started;
        let answer: Answer = {
            let bound = self.prepared.bound(&self.session.place.login);
            let told = |decision: Decision| {
                if let Some(started) = started.take() {
                    let _ = started.send(true);
                }
                async move {
                    let lines = tell::lines(&decision, self.pty());
                    self.client.extended_data_bytes(1, lines).await.is_ok()
                }
            };
            self.session.ask(&question, &bound, told).await
        };
        match (answer, started) {
            (Ok(permitted), started) => {
                if let Some(started) = started {
                    let _ = started.send(true);
                }
                self.start(command, permitted, question.operations.summary())
                    .await;
            }
            (Err(_), Some(started)) => {
                let _ = started.send(false);
            }
            (Err(decision), None) => self.refuse(&decision).await,
        }
    }

    async fn start(&self, command: inspect::Command, permitted: Permitted, summary: &str) {
        let running = Running::new(&self.session, permitted.ticket);
        let record = match recorded::start(self, &command, summary).await {
            Ok(record) => record,
            Err(why) => {
                self.refuse(&recorded::refused(&self.session, &why, summary, permitted.ticket))
                    .await;
                return running.end(Some("not recorded".to_owned())).await;
            }
        };
        let accepts = Accepts {
            forwards: false,
            agent: self.prepared.agent,
            x11: self.prepared.display.is_some(),
        };
        let mut command = command;
        let (mut target, bases, paths) = match self.lead(&mut command, accepts).await {
            Ok(reached) => reached,
            Err(failure) => {
                self.refuse(&unreached(&self.session, &failure, summary, permitted.ticket))
                    .await;
                record.finish("target not reached".to_owned(), None).await;
                return running.end(Some("target not reached".to_owned())).await;
            }
        };
        let opened = self.open(&target, &command).await;
        let half = match opened {
            Ok(half) => half,
            Err(error) => {
                tracing::warn!(session = %self.session.id, %error, "the target opens no channel");
                let failure = Unreachable::Ssh(error);
                self.refuse(&unreached(&self.session, &failure, summary, permitted.ticket))
                    .await;
                record.finish("refused by the target".to_owned(), None).await;
                return running.end(Some("refused by the target".to_owned())).await;
            }
        };
        let ends = Ends {
            up: &self.up,
            client: &self.client,
            connection: &self.connection,
            down: &target.down,
            target: &half,
            flow: &target.flow,
            record: &record,
        };
        let counts = running.counts().clone();
        let carried = async {
            match &command {
                inspect::Command::Sftp => crate::files::sftp(&self.session, &ends, &counts).await,
                inspect::Command::Scp(scp) => match paths {
                    Some(paths) => {
                        crate::files::scp(&self.session, &ends, &counts, scp.direction, bases, paths).await
                    }
                    None => How::Closed,
                },
                _ => pump(&ends, &counts).await,
            }
        };
        let offers = &mut target.offers;
        let taken = async {
            while let Some(offer) = offers.recv().await {
                let connection = self.connection.clone();
                let carried = back::carry(offer, self.backs.clone(), connection, target.flow.clone());
                self.backs.spawn(carried);
            }
            std::future::pending::<()>().await;
        };
        let limited = async {
            match permitted.obligations.timeout {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        let how = tokio::select! {
            how = carried => how,
            _ = record.failed() => How::Unrecorded,
            () = taken => How::Closed,
            () = self.session.ended() => {
                self.refuse(&self.session.expired(summary)).await;
                record.finish("session expired".to_owned(), None).await;
                return running.end(Some("session_expired".to_owned())).await;
            }
            () = limited => {
                let by = permitted.obligations.by.as_ref().and_then(|by| by.timeout.as_deref());
                let decision = self.session.out_of_time(permitted.ticket, by).await;
                self.refuse(&decision).await;
                record.finish("used up what policy gives".to_owned(), None).await;
                return running.end(Some("budget_exhausted".to_owned())).await;
            }
        };
        if how == How::Refused {
            let text = tell::note("the target refused the request", self.pty());
            let _ = self.client.extended_data_bytes(1, text).await;
            let _ = self.client.exit_status(255).await;
            let _ = self.client.eof().await;
        }
        if how == How::Unrecorded {
            let decision =
                recorded::refused(&self.session, &record.failed().await, summary, permitted.ticket);
            self.refuse(&decision).await;
            running.end(how.error()).await;
            return self.session.unrecorded().await;
        }
        record.finish(how.told(), how.status()).await;
        running.end(how.error()).await;
    }

    /// The way to the target, with the paths that the command names as the target has resolved them.
    async fn lead(
        &self,
        command: &mut inspect::Command,
        accepts: Accepts,
    ) -> Result<(Target, Vec<Base>, Option<crate::files::SharedPaths>), Unreachable> {
        // What is sent names the paths that were judged, not those that lead there.
        let mut bases = Vec::new();
        let mut paths = None;
        if let inspect::Command::Scp(scp) = &mut *command {
            let asks = crate::files::Paths::open(&self.session).await?;
            for path in &scp.paths {
                let resolved = asks.lead(path.as_bytes()).await?;
                bases.push(Base {
                    path: resolved.path,
                    directory: resolved.directory,
                });
            }
            paths = Some(Arc::new(asks));
            let named = |base: &Base| String::from_utf8(base.path.clone());
            scp.paths = bases
                .iter()
                .map(named)
                .collect::<Result<_, _>>()
                .map_err(|_| Unreachable::Path("it is no UTF-8".to_owned()))?;
        }
        let granted = self.granted(command);
        Ok((reach(&self.session, accepts, &granted).await?, bases, paths))
    }

    /// What a certificate lets the connection do.
    fn granted(&self, command: &inspect::Command) -> Granted {
        Granted {
            pty: self.pty(),
            agent: self.prepared.agent,
            x11: self.prepared.display.is_some(),
            forwarding: false,
            command: match command {
                inspect::Command::Exec(line) => Some(line.clone()),
                inspect::Command::Scp(scp) => Some(scp_line(scp).into_bytes()),
                _ => None,
            },
        }
    }

    /// Opens the channel at the target, with what was granted, and starts the program.
    async fn open(
        &self,
        target: &Target,
        command: &inspect::Command,
    ) -> Result<ChannelWriteHalf<TargetMsg>, russh::Error> {
        let (_, half) = target.handle.channel_open_session().await?.split();
        for (name, value) in &self.prepared.env {
            half.set_env(false, name.as_str(), value.as_str()).await?;
        }
        if self.prepared.agent {
            half.agent_forward(false).await?;
        }
        if let Some(display) = &self.prepared.display {
            let (protocol, cookie) = &display.auth;
            half.request_x11(
                false,
                display.single,
                protocol.as_str(),
                cookie.as_str(),
                display.screen,
            )
            .await?;
        }
        if let Some(terminal) = &self.prepared.terminal {
            let [columns, rows, width, height] = terminal.size;
            half.request_pty(
                false,
                &terminal.term,
                columns,
                rows,
                width,
                height,
                &terminal.modes,
            )
            .await?;
        }
        match command {
            inspect::Command::Shell => half.request_shell(true).await?,
            inspect::Command::Exec(line) => half.exec(true, line.as_slice()).await?,
            inspect::Command::Subsystem(name) => half.request_subsystem(true, name.as_str()).await?,
            inspect::Command::Sftp => half.request_subsystem(true, "sftp").await?,
            inspect::Command::Scp(scp) => half.exec(true, scp_line(scp)).await?,
        }
        Ok(half)
    }
}

/// The command line that starts scp at the target.
fn scp_line(scp: &ScpCommand) -> String {
    let words: Vec<String> = scp.words(&scp.paths).iter().map(|word| quote(word)).collect();
    words.join(" ")
}
