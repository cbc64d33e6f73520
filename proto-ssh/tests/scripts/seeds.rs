//! The scripts of the corpus, by what they show.

use proto_ssh::wire::sftp::open as flags;

use super::{
    FIRST, WINDOW, agent, env, exec, exit_signal, forward, forwarded, init, listen, open_file, pty, session,
    socket, subsystem, window_change, x11,
};
use crate::pipes::script::{CLIENT, Head, TARGET};
use crate::pipes::transport;
use crate::pipes::wire::{data, number, open, plain, request};

/// Bits of the first byte.
const BARE_CLIENT: u8 = 1;
const NO_LOGIN: u8 = 2;
const BARE_TARGET: u8 = 8;
const DUMB: u8 = 16;
const LYING: u8 = 32;
const DETECTS: u8 = 64;
const SHUT: u8 = 128;

/// A script that is being written.
struct Script(Vec<u8>);

impl Script {
    fn new(settings: u8) -> Self {
        Self(vec![settings])
    }

    fn turn(mut self, head: Head, bytes: &[u8]) -> Self {
        self.0.extend(head.turn(bytes));
        self
    }

    fn client(self, message: Vec<u8>) -> Self {
        self.turn(CLIENT, &message)
    }

    fn target(self, message: Vec<u8>) -> Self {
        self.turn(TARGET, &message)
    }

    /// A command on the first channel.
    fn exec(self, line: &str) -> Self {
        self.client(session(FIRST)).client(exec(FIRST, line))
    }

    fn files(self, paths: &[&str]) -> Self {
        let mut script = self.client(session(FIRST)).client(subsystem(FIRST, "sftp"));
        script = script.client(data(FIRST, init()));
        for (id, path) in (1..).zip(paths) {
            script = script.client(data(FIRST, open_file(id, path, flags::READ)));
        }
        script
    }
}

/// All of them.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = programs();
    all.extend(channels());
    all.extend(ends());
    all.extend(transports());
    all.into_iter().map(|(name, script)| (name, script.0)).collect()
}

fn programs() -> Vec<(&'static str, Script)> {
    let plays = || Script::new(0);
    let shell = plays()
        .client(session(FIRST))
        .client(pty(FIRST))
        .client(env(FIRST, "LD_PRELOAD"))
        .client(env(FIRST, "LANG"))
        .client(agent(FIRST))
        .client(x11(FIRST))
        .client(request(FIRST, "shell", true).done())
        .target(open("auth-agent@openssh.com", 9, WINDOW).done())
        .target(data(FIRST, "$ "))
        .client(data(FIRST, "exit\n"))
        .target(exit_signal(FIRST));
    let ended = plays()
        .exec("cat")
        .client(data(FIRST, "hello"))
        .client(plain(number::EOF, FIRST))
        .client(plain(number::CLOSE, FIRST));
    let twice = plays()
        .exec("cat")
        .client(exec(FIRST, "ok"))
        .client(pty(FIRST))
        .client(env(FIRST, "LANG"))
        .client(window_change(FIRST, u32::MAX))
        .client(request(FIRST, "signal", false).string("KILL").done());
    let opaque = plays().exec("ok $(x)").client(session(FIRST + 1));
    vec![
        ("exec", plays().exec("ok a 'b c'")),
        ("exec-then-data-and-end", ended),
        ("exec-forbidden", plays().exec("forbidden --now")),
        ("exec-opaque", opaque.client(exec(FIRST + 1, "ok $(y)"))),
        ("exec-masked", Script::new(DETECTS).exec("cat")),
        (
            "exec-limited",
            plays().exec("slow").turn(CLIENT.pause(3), &data(FIRST, "a")),
        ),
        ("exec-twice-pty-behind-it", twice),
        ("runbook", plays().exec("runbook:greet name=ann")),
        ("runbooks", plays().exec("runbooks --json")),
        ("shell", shell),
    ]
}

fn channels() -> Vec<(&'static str, Script)> {
    let scp = Script::new(0)
        .exec("scp -t /srv/a")
        .client(data(FIRST, "C0644 4 a\n"))
        .client(data(FIRST, "data\0"))
        .client(session(FIRST + 1))
        .client(exec(FIRST + 1, "scp -r -f /srv/d"))
        .client(data(FIRST + 1, [0]))
        .client(data(FIRST + 1, [0]))
        .client(data(FIRST + 1, [0, 0]));
    let forwards = Script::new(0)
        .client(forward(FIRST, "in", 80))
        .client(forward(FIRST + 1, "out", 80))
        .client(socket(FIRST + 2, "/run/in"))
        .client(data(FIRST, "GET"))
        .client(listen("tcpip-forward", "in", 0))
        .target(forwarded(7))
        .target(data(FIRST, "too early"))
        .client(listen("streamlocal-forward@openssh.com", "/run/in", 0))
        .client(listen("cancel-tcpip-forward", "in", 4000));
    let many = data(FIRST, vec![b'x'; 32_000]);
    let (output, input) = (TARGET.often(3).pause(2), CLIENT.often(3).pause(2));
    let outputs = Script::new(0).exec("cat").turn(CLIENT, &[]);
    let inputs = Script::new(0).exec("cat").turn(TARGET, &[]);
    vec![
        (
            "sftp",
            Script::new(0).files(&["/srv/a", "/no/a", "/link/a", "../no", "x"]),
        ),
        ("sftp-at-a-liar", Script::new(LYING).files(&["/srv/a"])),
        ("scp-both-ways", scp),
        ("forwards", forwards),
        (
            "flood-of-output-that-nobody-reads",
            outputs.turn(output, &many).turn(output, &many),
        ),
        (
            "flood-of-input-that-nobody-reads",
            inputs.turn(input, &many).turn(input, &many),
        ),
    ]
}

fn ends() -> Vec<(&'static str, Script)> {
    let (kill, drain) = (CLIENT.which(1), CLIENT.which(2));
    let listener = listen("tcpip-forward", "in", 0);
    let let_in = vec![number::AUTH_SUCCESS];
    vec![
        ("killed", Script::new(0).exec("cat").turn(kill.pause(2), &[])),
        (
            "killed-before-the-target-lets-in",
            Script::new(SHUT).exec("cat").turn(kill, &[]).target(let_in),
        ),
        (
            "killed-while-a-listener-waits",
            Script::new(DUMB)
                .client(listener.clone())
                .turn(kill.pause(2), &[]),
        ),
        (
            "listeners-of-a-target-that-answers-nothing",
            Script::new(DUMB).turn(CLIENT.often(2), &listener),
        ),
        ("drained", Script::new(0).exec("cat").turn(drain.pause(3), &[])),
    ]
}

fn transports() -> Vec<(&'static str, Script)> {
    let keys = Script::new(0)
        .exec("cat")
        .client(transport::init())
        .client(data(FIRST, "a"))
        .target(transport::init())
        .client(data(FIRST, "b"))
        .client(plain(number::EOF, FIRST));
    let bare = Script::new(BARE_CLIENT)
        .turn(CLIENT.raw(), b"SSH-2.0-x\r\n")
        .client(transport::init())
        .turn(CLIENT.pause(2), &[number::ECDH_INIT, 0, 0, 0, 32]);
    let target = TARGET.raw();
    vec![
        ("new-keys-of-both", keys),
        ("target-that-answers-nothing", Script::new(DUMB).exec("cat")),
        (
            "target-of-raw-bytes",
            Script::new(BARE_TARGET)
                .exec("cat")
                .turn(target, b"SSH-2.0-x\r\n\0\0\0\x0c\x0a\x14"),
        ),
        ("client-of-raw-bytes", bare),
        (
            "client-that-does-not-log-in",
            Script::new(NO_LOGIN)
                .exec("ok")
                .client(vec![number::SERVICE_REQUEST, 0, 0, 0, 1, b'x']),
        ),
        (
            "raw-bytes-behind-encryption",
            Script::new(0).exec("cat").turn(CLIENT.raw(), &[0xff; 40]),
        ),
    ]
}
