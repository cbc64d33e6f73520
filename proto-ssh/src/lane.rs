//! What runs on one channel of a client: decided first, then carried to a target connection of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use gateway_core::recording::Recording;
use gateway_core::verdict::Decision;
use russh::client::Msg as TargetMsg;
use russh::server::{self, Msg};
use russh::{ChannelWriteHalf, Pty};
use tokio::sync::oneshot;

use crate::authority::Granted;
use crate::back::{self, Backs};
use crate::command::quote;
use crate::inspect::{self, Look};
use crate::pipe::{Item, Message, Pipe};
use crate::pump::{Counts, Ends, How, pump};
use crate::scp::Base;
use crate::session::{Answer, Permitted, Session};
use crate::target::{Accepts, Target, Unreachable};
use crate::tell;
use crate::wire::scp::ScpCommand;

mod reaching;
mod recorded;

pub(crate) use reaching::{reach, unreached};

/// How long a client may take to read why its channel ends.
const LAST_WORD: std::time::Duration = std::time::Duration::from_millis(200);
/// How long scp at the target may take to stop.
const STOPS: std::time::Duration = std::time::Duration::from_secs(2);
/// By how much what is said of a failure comes before it.
const BEFORE_FAILURE: std::time::Duration = std::time::Duration::from_millis(100);
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

/// What has been started at a target.
struct Begun {
    /// As it was asked.
    asked: inspect::Command,
    command: inspect::Command,
    target: Target,
    half: ChannelWriteHalf<TargetMsg>,
    /// Where the paths of scp lead, and who knows.
    bases: Vec<Base>,
    paths: Option<Arc<crate::files::Paths>>,
}

/// The end of a target's program, whatever ends it: also where nobody is left to wait for it.
struct End {
    of: Option<Box<(Target, ChannelWriteHalf<TargetMsg>)>>,
    /// It is scp, in a folder. At the end of its input it would give folders their modes by name, wherever these lead by now.
    deep: AtomicBool,
}

impl Drop for End {
    fn drop(&mut self) {
        if self.deep.load(Ordering::Relaxed)
            && let Some(of) = self.of.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                let (target, half) = &*of;
                let stop = async {
                    // At this word it ends at once. The connection goes only when it has been read.
                    let word = Bytes::from_static(b"\x02gateway: the copy ends here\n");
                    if half.data_bytes(word).await.is_ok() {
                        while !matches!(
                            target.down.pop().await.0,
                            Item::Message(Message::Close | Message::Lost)
                        ) {}
                    }
                };
                let _ = tokio::time::timeout(STOPS, stop).await;
            });
        }
    }
}

/// Why nothing more is carried.
enum Over {
    Carried(How),
    /// The session ended.
    Session(Decision, String),
    /// It has used up its time.
    Time,
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
        session.opened();
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

    /// It has ended, and what went to the target counts, too.
    pub(crate) async fn end_both(self, error: Option<String>) {
        let up = self.counts.up.load(Ordering::Relaxed);
        self.counts.down.fetch_add(up, Ordering::Relaxed);
        self.end(error).await;
    }

    /// It has ended.
    pub(crate) async fn end(mut self, error: Option<String>) {
        self.done = true;
        let bytes = self.counts.down.load(Ordering::Relaxed);
        self.session.outcome_of(self.ticket, bytes, error).await;
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
                let cause = session.cause();
                session.outcome_of(ticket, bytes, Some(cause)).await;
            });
        }
    }
}

/// Tells when it is known whether something starts: `true` once it does or waits for people, `false` where it is refused and the
/// channel will say so.
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

    /// Fails the request that would have started it, and says why before: OpenSSH's client ends with the failure, and shows what came
    /// by then.
    async fn fail(&self, decision: &Decision, started: Started) {
        let _ = started.send(false);
        let text = tell::lines(decision, self.pty());
        let _ = self.client.extended_data_bytes(1, text).await;
        tokio::time::sleep(BEFORE_FAILURE).await;
        let _ = self.connection.channel_failure(self.client.id()).await;
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
                return match started {
                    Some(started) => self.fail(&decision, started).await,
                    None => self.refuse(&decision).await,
                };
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
            (Err(decision), Some(started)) => self.fail(&decision, started).await,
            (Err(decision), None) => self.refuse(&decision).await,
        }
    }

    async fn start(&self, command: inspect::Command, permitted: Permitted, summary: &str) {
        let running = Running::new(&self.session, permitted.ticket);
        if let inspect::Command::Runbooks { json } = command {
            return self.list(running, json).await;
        }
        let record = match recorded::start(self, &command, summary).await {
            Ok(record) => record,
            Err(why) => {
                self.refuse(&recorded::refused(&self.session, &why, summary, permitted.ticket))
                    .await;
                return running.end(Some("not recorded".to_owned())).await;
            }
        };
        let reached = tokio::select! {
            biased;
            // Nothing is started for a session that ends.
            (decision, why) = self.session.ended(summary) => return self.cut_off(&decision, why, record, running).await,
            reached = self.reach(command) => reached,
        };
        match reached {
            Ok(begun) => self.carry_on(begun, permitted, running, record, summary).await,
            Err(failure) => {
                self.refuse(&unreached(&self.session, &failure, summary, permitted.ticket))
                    .await;
                let why = match failure {
                    Unreachable::Ssh(_) => "refused by the target",
                    _ => "target not reached",
                };
                record.finish(why.to_owned(), None).await;
                running.end(Some(why.to_owned())).await;
            }
        }
    }

    /// Reaches the target and has it start the program.
    async fn reach(&self, mut command: inspect::Command) -> Result<Begun, Unreachable> {
        let accepts = Accepts {
            forwards: false,
            agent: self.prepared.agent,
            x11: self.prepared.display.is_some(),
        };
        // What is sent names the paths that were judged, not those that lead there; a client takes the names that it wrote.
        let asked = command.clone();
        let mut bases = Vec::new();
        let mut paths = None;
        if let inspect::Command::Scp(scp) = &mut command {
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
        let granted = self.granted(&command);
        let target = reach(&self.session, accepts, &granted).await?;
        // One that lets the gateway in and then says nothing more holds nobody for ever.
        let limit = self.session.gateway.limits().connect;
        let opened = tokio::time::timeout(limit, self.open(&target, &command)).await;
        let half = opened.map_err(|_| Unreachable::Time)??;
        Ok(Begun {
            asked,
            command,
            target,
            half,
            bases,
            paths,
        })
    }

    /// Carries what runs to its end.
    async fn carry_on(
        &self,
        begun: Begun,
        permitted: Permitted,
        running: Running,
        record: Recording,
        summary: &str,
    ) {
        let Begun {
            asked,
            command,
            target,
            half,
            bases,
            paths,
        } = begun;
        let mut end = End {
            of: Some(Box::new((target, half))),
            deep: AtomicBool::new(false),
        };
        let End { of, deep } = &mut end;
        let Some((target, half)) = of.as_deref_mut() else {
            return;
        };
        let shown = self.session.shown(&permitted.obligations.mask, self.pty());
        let ends = Ends {
            up: &self.up,
            client: &self.client,
            connection: &self.connection,
            down: &target.down,
            target: half,
            flow: &target.flow,
            record: &record,
            shown: shown.as_ref(),
        };
        let counts = running.counts().clone();
        let carried = async {
            match &command {
                inspect::Command::Sftp => crate::files::sftp(&self.session, &ends, &counts).await,
                inspect::Command::Scp(_) => match (&asked, paths) {
                    (inspect::Command::Scp(scp), Some(paths)) => {
                        crate::files::scp(&self.session, &ends, &counts, scp, bases, paths, deep).await
                    }
                    _ => How::Closed,
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
        let over = tokio::select! {
            how = carried => Over::Carried(how),
            _ = record.failed() => Over::Carried(How::Unrecorded),
            () = taken => Over::Carried(How::Closed),
            () = self.warn(command == inspect::Command::Shell) => Over::Carried(How::Closed),
            (decision, why) = self.session.ended(summary) => Over::Session(decision, why),
            () = limited => Over::Time,
        };
        let how = match over {
            Over::Carried(how) => how,
            Over::Session(decision, why) => return self.cut_off(&decision, why, record, running).await,
            Over::Time => {
                let by = permitted
                    .obligations
                    .by
                    .as_ref()
                    .and_then(|by| by.timeout.as_deref());
                let decision = self.session.out_of_time(permitted.ticket, by).await;
                self.refuse(&decision).await;
                record.finish("used up what policy gives".to_owned(), None).await;
                return running.end(Some("budget_exhausted".to_owned())).await;
            }
        };
        if how == How::Unrecorded {
            let decision =
                recorded::refused(&self.session, &record.failed().await, summary, permitted.ticket);
            self.refuse(&decision).await;
            running.end(how.error()).await;
            return self.session.unrecorded().await;
        }
        self.last_word(&how).await;
        record.finish(how.told(), how.status()).await;
        running.end(how.error()).await;
    }

    /// The session ends, and what runs with it.
    async fn cut_off(&self, decision: &Decision, why: String, record: Recording, running: Running) {
        let bounded = tokio::time::timeout(LAST_WORD, self.refuse(decision));
        let _ = bounded.await;
        record.finish(why.clone(), None).await;
        running.end(Some(why)).await;
    }

    /// What the target leaves unsaid.
    async fn last_word(&self, how: &How) {
        let text = match how {
            How::Refused => "the target refused the request",
            How::Lost => "the connection to the target broke",
            _ => return,
        };
        let text = tell::note(text, self.pty());
        let _ = self.client.extended_data_bytes(1, text).await;
        let _ = self.client.exit_status(255).await;
        let _ = self.client.eof().await;
    }

    /// Tells who sits at a shell that the gateway is about to stop, once it is.
    async fn warn(&self, is_shell: bool) {
        self.session.drained().await;
        if is_shell {
            let left = self.session.gateway.limits().drain.as_secs();
            let text = format!("the gateway is shutting down; this shell ends within {left} s");
            let told = tell::note(&text, self.pty());
            let _ = self.client.extended_data_bytes(1, told).await;
        }
        std::future::pending().await
    }

    /// Tells the client which runbooks there are for it.
    async fn list(&self, running: Running, json: bool) {
        let told = self.session.settings.runbooks.listing(&self.session, json);
        let told = if self.pty() {
            told.replace('\n', "\r\n")
        } else {
            told
        };
        running
            .counts()
            .down
            .fetch_add(u64::try_from(told.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let _ = self.client.data_bytes(told).await;
        let _ = self.client.exit_status(0).await;
        let _ = self.client.eof().await;
        running.end(None).await;
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
            // It is told before anything is opened.
            inspect::Command::Runbooks { .. } => half.close().await?,
        }
        Ok(half)
    }
}

/// The command line that starts scp at the target.
fn scp_line(scp: &ScpCommand) -> String {
    let words: Vec<String> = scp.words(&scp.paths).iter().map(|word| quote(word)).collect();
    words.join(" ")
}
