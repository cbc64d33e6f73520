//! Files: SFTP and the old scp between their two ends, every file decided on the path that the target has resolved.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use gateway_core::operation::Operations;
use gateway_core::recording::Stream;
use gateway_core::verdict::{Decision, Denial, Verdict};
use parking_lot::Mutex;

use crate::lane::Running;
use crate::operations::question;
use crate::pipe::{Item, Message};
use crate::pump::{Counts, Ends, How};
use crate::scp::{Base, FILE, FOLDER, LEAVE, Scp};
use crate::session::Session;
use crate::sftp::{Action, Answer, Ask, AskId, Event, Looked, Peer, Settings, Sftp, What};
use crate::target::Unreachable;
use crate::tell;
use crate::wire::scp::ScpCommand;

mod machine;
mod resolve;

use machine::{Broken, Machine};
pub(crate) use resolve::{Paths, SharedPaths};

/// Bytes that wait to be written to one side; above this the machine is asked for nothing more.
const WAITING: usize = 1 << 20;
/// Longest text of a refusal.
const TEXT: usize = 1024;
/// Operations whose end is told with that of a file, at most.
const OPEN: usize = 512;

type Write<'a> = Option<Pin<Box<dyn Future<Output = Result<(), russh::Error>> + Send + 'a>>>;

/// What waits to be written to one side.
#[derive(Default)]
struct Out<'a> {
    packets: VecDeque<Bytes>,
    bytes: usize,
    writing: Write<'a>,
}

impl<'a> Out<'a> {
    fn push(&mut self, packet: Vec<u8>) {
        self.bytes = self.bytes.saturating_add(packet.len());
        self.packets.push_back(Bytes::from(packet));
    }

    /// Begins to write what is next, where nothing is being written.
    fn begin(&mut self, write: impl FnOnce(Bytes) -> Write<'a>) {
        if self.writing.is_none()
            && let Some(packet) = self.packets.pop_front()
        {
            self.bytes = self.bytes.saturating_sub(packet.len());
            self.writing = write(packet);
        }
    }

    fn is_done(&self) -> bool {
        self.writing.is_none() && self.packets.is_empty()
    }
}

/// Waits for a write; for ever where there is none.
async fn written(write: &mut Write<'_>) -> Result<(), russh::Error> {
    match write {
        Some(writing) => {
            let done = writing.await;
            *write = None;
            done
        }
        None => std::future::pending().await,
    }
}

/// The answer to a question.
struct Decided {
    id: AskId,
    answer: Answer,
    /// The operation that goes on where it opens a file, with that file's path.
    opened: Option<(Vec<u8>, Running)>,
    /// It has waited for people.
    late: bool,
}

impl Decided {
    fn refused(id: AskId, decision: &Decision) -> Self {
        let answer = Answer::Deny { text: text(decision) };
        Self {
            id,
            answer,
            opened: None,
            late: false,
        }
    }
}

/// Folders that scp has entered, each with where it led.
type Entered = Mutex<HashMap<Vec<u8>, Vec<u8>>>;
/// Most of them, with those that the target did not make after all.
const ENTERED: usize = 1024;

struct Transfer<'a> {
    session: &'a Arc<Session>,
    ends: &'a Ends<'a>,
    counts: &'a Counts,
    machine: Machine,
    /// Who is asked where a path leads that the machine does not ask about itself.
    paths: Option<SharedPaths>,
    entered: Arc<Entered>,
    /// Says, to whoever ends this from outside, whether the target's program would still do something by name.
    deep: Option<&'a AtomicBool>,
    to_client: Out<'a>,
    to_target: Out<'a>,
    asks: FuturesUnordered<BoxFuture<'a, Decided>>,
    /// Operations that end with the file that they opened, by its path.
    open: HashMap<Vec<u8>, Vec<Running>>,
    /// The client sends no more; and the target was told so.
    client_ended: bool,
    target_told: bool,
    /// How the target ended.
    how: Option<How>,
    target_ended: bool,
    /// Why a transfer can't go on whose protocol has no word for it.
    withheld: Option<Arc<Decision>>,
}

/// Carries an SFTP channel to its end.
pub(crate) async fn sftp(session: &Arc<Session>, ends: &Ends<'_>, counts: &Counts) -> How {
    let settings = Settings {
        realpath: may_transfer(session),
    };
    carry(
        session,
        ends,
        counts,
        Machine::Sftp(Box::new(Sftp::new(settings))),
        None,
    )
    .await
}

/// Carries a channel of the old scp to its end.
pub(crate) async fn scp(
    session: &Arc<Session>,
    ends: &Ends<'_>,
    counts: &Counts,
    command: &ScpCommand,
    bases: Vec<Base>,
    paths: SharedPaths,
    deep: &AtomicBool,
) -> How {
    let machine = Machine::Scp(Box::new(Scp::of(command, bases)));
    carry(session, ends, counts, machine, Some((paths, deep))).await
}

async fn carry(
    session: &Arc<Session>,
    ends: &Ends<'_>,
    counts: &Counts,
    machine: Machine,
    scp: Option<(SharedPaths, &AtomicBool)>,
) -> How {
    let (paths, deep) = scp.unzip();
    let mut transfer = Transfer {
        session,
        ends,
        counts,
        machine,
        paths,
        entered: Arc::default(),
        deep,
        to_client: Out::default(),
        to_target: Out::default(),
        asks: FuturesUnordered::new(),
        open: HashMap::new(),
        client_ended: false,
        target_told: false,
        how: None,
        target_ended: false,
        withheld: None,
    };
    let how = transfer.run().await;
    if let Some(deep) = deep {
        deep.store(transfer.machine.is_in_a_folder(), Ordering::Relaxed);
    }
    transfer.machine.finish();
    while let Ok(Some(action)) = transfer.machine.poll() {
        if let Action::Event(event) = action {
            transfer.event(event).await;
        }
    }
    for (_, left) in std::mem::take(&mut transfer.open) {
        for running in left {
            running.end(None).await;
        }
    }
    how
}

impl<'a> Transfer<'a> {
    async fn run(&mut self) -> How {
        loop {
            if let Err(error) = self.drain().await {
                return self.broken(error).await;
            }
            if let Some(deep) = self.deep {
                deep.store(self.machine.is_in_a_folder(), Ordering::Relaxed);
            }
            if let Some(decision) = self.withheld.take() {
                return refuse(self.ends, &decision).await;
            }
            if self.machine.is_stopped() && self.to_client.is_done() {
                // The client was told in the protocol.
                return end_refused(self.ends).await;
            }
            if self.target_ended && self.to_client.is_done() {
                return self.ended().await;
            }
            let at_rest = self.machine.is_idle() && self.asks.is_empty() && self.to_target.is_done();
            if self.client_ended && !self.target_told && at_rest {
                self.target_told = true;
                if self.ends.target.eof().await.is_err() {
                    return How::Closed;
                }
            }
            let room = self.to_client.bytes < WAITING && self.to_target.bytes < WAITING;
            let from_client = room && self.machine.wants_client() && !self.client_ended;
            let from_target = room && self.machine.wants_target() && !self.target_ended;
            let (ends, counts) = (self.ends, self.counts);
            self.to_client.begin(|packet| {
                Some(Box::pin(async move {
                    Counts::add(&counts.down, packet.len());
                    keep(ends, Stream::ToClient, &packet).await;
                    ends.client.data_bytes(packet).await
                }))
            });
            self.to_target.begin(|packet| {
                Some(Box::pin(async move {
                    Counts::add(&counts.up, packet.len());
                    keep(ends, Stream::ToTarget, &packet).await;
                    crate::pump::patiently(ends.flow, ends.target.data_bytes(packet)).await
                }))
            });
            let step = tokio::select! {
                done = written(&mut self.to_client.writing) => match done {
                    Ok(()) => Ok(()),
                    Err(_) => return How::ClientGone,
                },
                done = written(&mut self.to_target.writing) => match done {
                    Ok(()) => Ok(()),
                    Err(_) => return How::Closed,
                },
                Some(decided) = self.asks.next() => {
                    if let Some((path, running)) = decided.opened {
                        self.opened(path, running).await;
                    }
                    self.machine.handle_answer(decided.id, decided.answer, decided.late)
                }
                (item, _held) = ends.up.pop(), if from_client => match item {
                    Item::Data(0, data) => self.machine.handle_client(&data),
                    Item::Message(Message::Eof) => {
                        self.client_ended = true;
                        self.machine.handle_end(Peer::Client)
                    }
                    Item::Message(Message::Close) => return How::ClientGone,
                    Item::Data(..) | Item::Message(_) => Ok(()),
                },
                (item, _held) = ends.down.pop(), if from_target => match item {
                    Item::Data(0, data) => self.machine.handle_target(&data),
                    Item::Data(stream, data) => {
                        let data = data.freeze();
                        if ends.record.write(Stream::Error, &data).await.is_err() {
                            return How::Unrecorded;
                        }
                        match ends.client.extended_data_bytes(stream, data).await {
                            Ok(()) => Ok(()),
                            Err(_) => return How::ClientGone,
                        }
                    }
                    Item::Message(Message::Failure) => return How::Refused,
                    Item::Message(Message::ExitStatus(status)) => {
                        self.how = Some(How::Status(status));
                        Ok(())
                    }
                    Item::Message(Message::ExitSignal { signal, .. }) => {
                        self.how = Some(How::Signal(format!("{signal:?}")));
                        Ok(())
                    }
                    Item::Message(end @ (Message::Close | Message::Lost)) => {
                        if matches!(end, Message::Lost) {
                            self.how.get_or_insert(How::Lost);
                        }
                        self.target_ended = true;
                        self.machine.handle_end(Peer::Target)
                    }
                    Item::Message(_) => Ok(()),
                },
            };
            if let Err(error) = step {
                return self.broken(error).await;
            }
        }
    }

    /// Does what the machine wants to have done, as far as there is room.
    async fn drain(&mut self) -> Result<(), Broken> {
        while self.to_client.bytes < WAITING && self.to_target.bytes < WAITING {
            match self.machine.poll()? {
                Some(Action::ToClient(packet)) => self.to_client.push(packet),
                Some(Action::ToTarget(packet)) => self.to_target.push(packet),
                Some(Action::Ask(ask)) => self.ask(ask),
                Some(Action::Event(event)) => self.event(event).await,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn ask(&mut self, ask: Ask) {
        let (session, ends, paths) = (self.session, self.ends, self.paths.clone());
        let entered = self.entered.clone();
        self.asks.push(Box::pin(async move {
            let what = format!("{} {}", ask.operation, String::from_utf8_lossy(&ask.path));
            let decided = match paths {
                None => decide(session, ends, ask).await,
                Some(paths) => decide_where_it_leads(session, ends, ask, (&paths, &entered)).await,
            };
            let word = match decided.answer {
                Answer::Allow | Answer::AllowLooked(_) => "permitted",
                Answer::Deny { .. } => "refused",
            };
            mark(ends, format!("{what}: {word}")).await;
            decided
        }));
    }

    /// An operation that opens a file ends with it.
    async fn opened(&mut self, path: Vec<u8>, running: Running) {
        if self.open.len() >= OPEN || self.open.get(&path).is_some_and(|same| same.len() >= OPEN) {
            return running.end(None).await;
        }
        self.open.entry(path).or_default().push(running);
    }

    async fn event(&mut self, event: Event) {
        if let Event::Withheld { path } = &event {
            let path = String::from_utf8_lossy(path);
            mark(self.ends, format!("withheld {path}: it holds what is masked")).await;
            let denial = withheld(&path, &BTreeSet::new());
            let decision = self.session.refuse(&denial, None).await;
            // SFTP has a status for it.
            self.withheld = self.machine.is_mute().then_some(decision);
        }
        if let Event::Closed { path, read, written } = event {
            let name = String::from_utf8_lossy(&path);
            mark(
                self.ends,
                format!("closed {name}: {read} bytes out, {written} bytes in"),
            )
            .await;
            for running in self.open.remove(&path).unwrap_or_default() {
                let bytes = read.saturating_add(written);
                running.counts().down.store(bytes, Ordering::Relaxed);
                running.end(None).await;
            }
        }
    }

    async fn ended(&mut self) -> How {
        let how = self.how.take().unwrap_or(How::Closed);
        if let How::Status(status) = how {
            let _ = self.ends.client.exit_status(status).await;
        }
        let _ = self.ends.client.eof().await;
        how
    }

    /// A side broke the protocol: what it sent can't be followed any more.
    async fn broken(&mut self, error: Broken) -> How {
        tracing::info!(session = %self.session.id, error = error.what, "a transfer ends");
        if error.by == Peer::Client {
            let decision = self.session.malformed("file transfer", &error.what).await;
            return refuse(self.ends, &decision).await;
        }
        let text = tell::note(&format!("the transfer ends: {}", error.what), false);
        let _ = self.ends.client.extended_data_bytes(1, text).await;
        end_refused(self.ends).await
    }
}

/// Tells the client a refusal that ends the channel.
async fn refuse(ends: &Ends<'_>, decision: &Decision) -> How {
    let lines = tell::lines(decision, false);
    let _ = ends.client.extended_data_bytes(1, lines).await;
    end_refused(ends).await
}

async fn end_refused(ends: &Ends<'_>) -> How {
    let _ = ends.client.exit_status(tell::REFUSED).await;
    let _ = ends.client.eof().await;
    How::Status(tell::REFUSED)
}

/// Has a packet recorded before it goes on. What can't be recorded goes nowhere: the channel ends by that.
async fn keep(ends: &Ends<'_>, stream: Stream, packet: &Bytes) {
    if ends.record.wants_contents() && ends.record.write(stream, packet).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Has the recording say what happened.
async fn mark(ends: &Ends<'_>, text: String) {
    if ends.record.mark(text).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Decides a file of the old scp on the path that the target resolves: a tree that is copied may have links out of it, which
/// the target's scp follows.
async fn decide_where_it_leads(
    session: &Arc<Session>,
    ends: &Ends<'_>,
    mut ask: Ask,
    (paths, entered): (&Paths, &Entered),
) -> Decided {
    let (id, operation, writes) = (ask.id, ask.operation, ask.what == What::Write);
    let nowhere = async |why: Unreachable| {
        tracing::info!(session = %session.id, error = %why, "a path of a transfer can't be decided");
        let decision = session
            .malformed(operation, "the target can't say where the path leads")
            .await;
        Decided::refused(id, &decision)
    };
    let led = match paths.lead(&ask.path).await {
        Ok(resolved) => resolved.path,
        Err(why) => return nowhere(why).await,
    };
    let elsewhere = async || {
        let why = "the path leads elsewhere than when this was asked for: ask again";
        let decision = session.malformed(operation, why).await;
        Decided::refused(id, &decision)
    };
    if operation == LEAVE {
        if entered.lock().remove(&ask.path) != Some(led) {
            return elsewhere().await;
        }
        return Decided {
            id,
            answer: Answer::Allow,
            opened: None,
            late: false,
        };
    }
    let asked = std::mem::replace(&mut ask.path, led.clone());
    let mut decided = decide(session, ends, ask).await;
    if decided.late && !matches!(decided.answer, Answer::Deny { .. }) {
        match paths.lead(&asked).await {
            Err(why) => return nowhere(why).await,
            Ok(now) if now.path != led => return elsewhere().await,
            Ok(_) => {}
        }
    }
    if operation == FOLDER && writes && !matches!(decided.answer, Answer::Deny { .. }) {
        let mut entered = entered.lock();
        // One that is not kept can't be left: the copy ends there.
        if entered.len() < ENTERED {
            entered.insert(asked.clone(), led);
        }
    }
    // What becomes of it is told by the name under which it was asked.
    decided.opened = decided.opened.map(|(_, running)| (asked, running));
    decided
}

/// Decides one request.
async fn decide(session: &Arc<Session>, ends: &Ends<'_>, ask: Ask) -> Decided {
    let action = match ask.what {
        What::Read => "sftp-read",
        What::Write => "sftp-write",
    };
    let Some(operation) = session.place.file(action, &ask.path) else {
        // Policy names paths as text, and a path that is none must not become another one on the way there.
        let decision = session
            .malformed(action, "the path is no UTF-8, and policy can't name it")
            .await;
        return Decided::refused(ask.id, &decision);
    };
    let path = String::from_utf8_lossy(&ask.path);
    let opens = ask.what == What::Read && matches!(ask.operation, "OPEN" | FILE);
    let operations = match opens && session.settings.looks_at_files {
        true => session.place.seen(vec![operation]),
        false => vec![operation],
    };
    let question = question(
        operations,
        format!("{action} {path}"),
        &ask.statement(),
        ask.what == What::Write,
    );
    // SFTP has no word for waiting; who looks at stderr reads why nothing happens.
    let late = AtomicBool::new(false);
    let told = async |decision: Decision| {
        late.store(true, Ordering::Relaxed);
        let lines = tell::lines(&decision, false);
        ends.client.extended_data_bytes(1, lines).await.is_ok()
    };
    // The same name may stand for another request, and the same request may do something else.
    let exact = [ask.operation.as_bytes(), b"\0", &ask.exact].concat();
    match session.ask(&question, &exact, told).await {
        Err(decision) => Decided::refused(ask.id, &decision),
        Ok(permitted) => {
            let answer = match session.looked(&permitted.obligations.mask) {
                Some(detectors) => {
                    let denial = withheld(&path, &permitted.obligations.mask);
                    let decision = denial.decision(format!("{}/{}", session.id, permitted.ticket));
                    let text = text(&decision);
                    Answer::AllowLooked(Looked { detectors, text })
                }
                None => Answer::Allow,
            };
            let running = Running::new(session, permitted.ticket);
            let opened = match ask.operation {
                "OPEN" | "OPENDIR" | FILE | FOLDER => Some((ask.path, running)),
                _ => {
                    running.end(None).await;
                    None
                }
            };
            Decided {
                id: ask.id,
                answer,
                opened,
                late: late.load(Ordering::Relaxed),
            }
        }
    }
}

/// Why a file is not read further; `masked`: the tags that are looked for, where they are known.
fn withheld(path: &str, masked: &BTreeSet<String>) -> Denial {
    let named: Vec<String> = masked.iter().map(|tag| format!("`{tag}`")).collect();
    let of = match named.is_empty() {
        true => "that".to_owned(),
        false => named.join(", "),
    };
    let hint = format!("the file holds data that is masked here, and `unmask` of {of} is not permitted");
    Denial::new(format!("sftp-read {path}"), hint)
}

/// A refusal as SFTP tells it: a sentence and the decision object, or the object alone where that is long.
fn text(decision: &Decision) -> String {
    let json = decision.to_json();
    let all = format!("{}: {} {json}", decision.word(), decision.hint);
    if all.len() <= TEXT { all } else { json }
}

/// Whether any transfer may be permitted: at the root, or at any path that a rule names.
fn may_transfer(session: &Session) -> bool {
    let policy = session.gateway.policy();
    let root = format!("{}/", session.place.resource);
    let named = policy.named(&session.place.resource);
    let paths = named
        .iter()
        .filter(|(entity, _)| entity.kind == "Path")
        .filter_map(|(entity, _)| entity.id.strip_prefix(&root))
        .map(|below| format!("/{below}"));
    let principal = session.principal();
    std::iter::once("/".to_owned()).chain(paths).any(|path| {
        ["sftp-read", "sftp-write"].into_iter().any(|action| {
            let Some(operation) = session.place.file(action, path.as_bytes()) else {
                return false;
            };
            let operations = Arc::new(Operations::new(vec![operation], action));
            let verdict = policy.decide(&principal, &session.resource, &operations);
            !matches!(verdict, Verdict::Deny(_))
        })
    })
}
