//! What must hold, whatever both sides do: who sees what, and what the trail says at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use gateway_core::audit::Event;
use gateway_core::operation::{Operation, Value};
use parking_lot::Mutex;
use proto_ssh::command::{Parsed, Shell, parse_command};
use proto_ssh::wire::sftp::{Extended, RequestBody};

/// Programs that may run.
const PROGRAMS: [&str; 4] = ["ok", "cat", "flood", "slow"];
/// The one line that may run although it is not understood.
const OPAQUE: &str = "ok $(x)";
/// The one runbook, which runs one of them.
const RUNBOOK: &str = "runbook:greet";
/// The one subsystem beside SFTP.
const SUBSYSTEM: &str = "netconf";
/// Where forwards may lead, and where the target may listen.
const HOST: &str = "in";
const SOCKET: &str = "/run/in";
const PORT: u32 = 80;

/// How often scripts have come so far, by what the target, or the client, was asked.
pub type Seen = BTreeMap<&'static str, usize>;

/// What a session was, as far as it is to be checked.
#[derive(Default)]
pub struct Watch {
    permitted: Mutex<BTreeSet<String>>,
    seen: Mutex<Seen>,
    pub trail: Mutex<Vec<Event>>,
    /// The client asked for the old scp: the gateway itself asks the target what its paths are, before it decides.
    pub scp: AtomicBool,
    /// The session was killed.
    pub killed: AtomicBool,
}

/// Whether a path is one that nobody may touch.
fn is_secret(path: &[u8]) -> bool {
    path == b"/no" || path.starts_with(b"/no/")
}

/// The policy.
pub fn permits(operation: &Operation) -> bool {
    let is = |name: &str, value: &str| operation.context.get(name) == Some(&Value::from(value));
    match operation.action.as_str() {
        "connect" | "agent-forward" | "x11" => true,
        "exec" => PROGRAMS.iter().any(|program| is("program", program)) || is("program", RUNBOOK),
        "exec-opaque" => is("command", OPAQUE) || is("command", &format!("subsystem:{SUBSYSTEM}")),
        "shell" => operation.context.get("pty") == Some(&Value::Bool(true)),
        "env" => is("name", "LANG"),
        "forward" => {
            let port = operation.context.get("port") == Some(&Value::Long(i64::from(PORT)));
            is("host", HOST) && port || is("host", &format!("unix:{SOCKET}"))
        }
        "remote-forward" => is("host", HOST) || is("host", &format!("unix:{SOCKET}")),
        "sftp-read" | "sftp-write" => match operation.context.get("path") {
            Some(Value::String(path)) => !is_secret(path.as_bytes()),
            _ => false,
        },
        _ => false,
    }
}

impl Watch {
    /// Something was permitted.
    pub fn permitted(&self, operation: &Operation) {
        self.permitted.lock().insert(operation.action.as_str().to_owned());
    }

    /// Counts something.
    pub fn saw(&self, what: &'static str) {
        *self.seen.lock().entry(what).or_default() += 1;
    }

    /// Notes a number.
    pub fn reached(&self, what: &'static str, number: usize) {
        self.seen.lock().insert(what, number);
    }

    fn was_permitted(&self, action: &str) -> bool {
        self.permitted.lock().contains(action)
    }

    /// The gateway opens a channel to the client.
    pub fn opened_to_client(&self, kind: &str) {
        self.saw("back");
        let fine = match kind {
            "auth-agent@openssh.com" => self.was_permitted("agent-forward"),
            "x11" => self.was_permitted("x11"),
            "forwarded-tcpip" | "forwarded-streamlocal@openssh.com" => self.was_permitted("remote-forward"),
            _ => false,
        };
        assert!(
            fine,
            "the client is opened a channel `{kind}` that nobody permitted"
        );
    }

    /// The target is asked for something.
    pub fn begins(&self, message: &[u8]) {
        let killed = self.killed.load(Ordering::Relaxed);
        // That nobody listens any more may be said at any time, and that the gateway is still there.
        let harmless = ["cancel-", "keepalive@"];
        let harmless = harmless
            .iter()
            .any(|word| message.windows(word.len()).any(|part| part == word.as_bytes()));
        assert!(
            !killed || harmless,
            "the session was killed, and the target is asked for {message:?}"
        );
    }

    /// The target is asked to run a command line.
    pub fn exec(&self, line: &[u8]) {
        self.saw("exec");
        let told = String::from_utf8_lossy(line).into_owned();
        if told == OPAQUE {
            return assert!(self.was_permitted("exec-opaque"), "`{told}` runs undecided");
        }
        let Parsed::Static { commands, .. } = parse_command(line, Shell::Bash) else {
            panic!("the target is to run `{told}`");
        };
        for command in commands {
            // Each of its files is decided when its line comes.
            let fine = command.program == "scp"
                || PROGRAMS.contains(&command.program.as_str()) && self.was_permitted("exec");
            assert!(fine, "the target is to run `{told}`");
        }
    }

    /// A variable is set there.
    pub fn env(&self, name: &str) {
        self.saw("env");
        assert!(
            name == "LANG" && self.was_permitted("env"),
            "the target sees {name}"
        );
    }

    /// Something is started that has a name or none.
    pub fn started(&self, kind: &str, name: &str) {
        self.saw("started");
        let fine = match kind {
            "shell" => self.was_permitted("shell"),
            "subsystem" => name == "sftp" || name == SUBSYSTEM && self.was_permitted("exec-opaque"),
            "auth-agent-req@openssh.com" => self.was_permitted("agent-forward"),
            "x11-req" => self.was_permitted("x11"),
            "pty-req" | "window-change" | "signal" => true,
            _ => false,
        };
        assert!(fine, "the target is asked for `{kind}` {name}");
    }

    /// The target is to connect.
    pub fn connects(&self, host: &str, port: Option<u32>) {
        self.saw("forward");
        let there = match port {
            Some(port) => host == HOST && port == PORT,
            None => host == SOCKET,
        };
        assert!(
            there && self.was_permitted("forward"),
            "the target connects to {host} {port:?}"
        );
    }

    /// The target is to listen, or to listen no more.
    pub fn listens(&self, host: &str) {
        self.saw("listen");
        let there = host == HOST || host == SOCKET;
        assert!(
            there && self.was_permitted("remote-forward"),
            "the target listens at {host}"
        );
    }

    /// A request of SFTP reaches the target.
    pub fn file(&self, body: &RequestBody<'_>) {
        let paths: &[&[u8]] = match body {
            RequestBody::Open { path, .. }
            | RequestBody::Lstat { path }
            | RequestBody::Setstat { path, .. }
            | RequestBody::Opendir { path }
            | RequestBody::Remove { path }
            | RequestBody::Mkdir { path, .. }
            | RequestBody::Rmdir { path }
            | RequestBody::Stat { path }
            | RequestBody::Readlink { path }
            // What a link holds is text: it is decided where somebody follows it.
            | RequestBody::Symlink { link: path, .. }
            | RequestBody::Extended(Extended::Statvfs { path } | Extended::Lsetstat { path, .. }) => &[path],
            RequestBody::Rename { old, new }
            | RequestBody::Extended(Extended::PosixRename { old, new } | Extended::Hardlink { old, new }) => {
                &[old, new]
            }
            RequestBody::Extended(Extended::Unknown { name, .. }) => {
                panic!("the target is asked for `{}`", String::from_utf8_lossy(name))
            }
            _ => &[],
        };
        if !paths.is_empty() {
            self.saw("file");
        }
        let own = matches!(body, RequestBody::Stat { .. }) && self.scp.load(Ordering::Relaxed);
        let decided = self.was_permitted("sftp-read") || self.was_permitted("sftp-write");
        for path in paths {
            let parts = path.split(|byte| *byte == b'/');
            let plain = path.starts_with(b"/") && !parts.into_iter().any(|part| part == b"..");
            assert!(
                plain && (own || decided && !is_secret(path)),
                "the target is asked about {}",
                String::from_utf8_lossy(path)
            );
        }
    }

    /// The trail, once all is over: each session ends once, as the last of it, and each operation that was permitted has one end.
    pub fn finish(&self) -> Seen {
        let trail = self.trail.lock();
        let (mut open, mut ended, mut started) = (BTreeMap::new(), 0, 0);
        for event in &*trail {
            match event {
                Event::SessionStarted { .. } => {
                    started += 1;
                    self.saw("session");
                }
                Event::SessionEnded { .. } => ended += 1,
                Event::Operation { ticket, verdict, .. } => {
                    assert!(ended == 0, "it goes on behind its end: {trail:?}");
                    let before = open.insert(*ticket, (verdict == "allow", 0));
                    assert!(before.is_none(), "{ticket} twice: {trail:?}");
                    if verdict == "deny" {
                        self.saw("refused");
                    }
                }
                Event::Outcome { ticket, .. } => {
                    assert!(ended == 0, "it goes on behind its end: {trail:?}");
                    let (_, ends) = open.get_mut(ticket).expect("what ends was decided");
                    *ends += 1;
                }
                _ => {}
            }
        }
        assert!(started <= 1 && started == ended, "{trail:?}");
        let wrong: Vec<_> = open
            .iter()
            .filter(|(_, (allowed, ends))| *ends != usize::from(*allowed))
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}: {trail:?}");
        self.seen.lock().clone()
    }
}
