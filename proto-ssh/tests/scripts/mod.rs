//! Scripts for the whole adapter: those of the corpus, and those that are made up.

use proto_ssh::wire::sftp::{Attributes, Init, Request, RequestBody};

use crate::pipes::wire::{Message, number, open, request};

mod made_up;
mod seeds;

pub use made_up::made_up;
pub use seeds::seeds;

/// The first number that the gateway gives to a channel: here the client's channels have the same.
const FIRST: u32 = 2;
const WINDOW: u32 = 1 << 20;

fn session(channel: u32) -> Vec<u8> {
    open("session", channel, WINDOW).done()
}

fn exec(channel: u32, line: impl AsRef<[u8]>) -> Vec<u8> {
    request(channel, "exec", true).string(line).done()
}

fn pty(channel: u32) -> Vec<u8> {
    let message = request(channel, "pty-req", true).string("xterm");
    let message = message.u32(80).u32(24).u32(0).u32(0);
    message.string([1, 0, 0, 0, 3, 0]).done()
}

fn env(channel: u32, name: &str) -> Vec<u8> {
    request(channel, "env", true).string(name).string("C").done()
}

fn subsystem(channel: u32, name: &str) -> Vec<u8> {
    request(channel, "subsystem", true).string(name).done()
}

fn window_change(channel: u32, size: u32) -> Vec<u8> {
    let message = request(channel, "window-change", false);
    message.u32(size).u32(size).u32(size).u32(0).done()
}

fn forward(channel: u32, host: &str, port: u32) -> Vec<u8> {
    let message = open("direct-tcpip", channel, WINDOW).string(host).u32(port);
    message.string("127.0.0.1").u32(9).done()
}

fn socket(channel: u32, path: &str) -> Vec<u8> {
    let message = open("direct-streamlocal@openssh.com", channel, WINDOW);
    message.string(path).string("").u32(0).done()
}

fn listen(kind: &str, host: &str, port: u32) -> Vec<u8> {
    let message = Message::new(number::GLOBAL).string(kind).byte(1);
    match kind.contains("streamlocal") {
        true => message.string(host).done(),
        false => message.string(host).u32(port).done(),
    }
}

fn x11(channel: u32) -> Vec<u8> {
    let message = request(channel, "x11-req", true).byte(0);
    message.string("MIT-MAGIC-COOKIE-1").string("abcd").u32(0).done()
}

fn agent(channel: u32) -> Vec<u8> {
    request(channel, "auth-agent-req@openssh.com", true).done()
}

fn extended(channel: u32, kind: u32, bytes: &[u8]) -> Vec<u8> {
    let message = Message::new(number::EXTENDED_DATA).u32(channel).u32(kind);
    message.string(bytes).done()
}

fn exit_signal(channel: u32) -> Vec<u8> {
    let message = request(channel, "exit-signal", false).string("KILL");
    message.byte(1).string("why").string("en").done()
}

fn forwarded(channel: u32) -> Vec<u8> {
    let message = open("forwarded-tcpip", channel, WINDOW).string("in").u32(4000);
    message.string("192.0.2.7").u32(7).done()
}

fn init() -> Vec<u8> {
    let init = Init {
        version: 3,
        extensions: vec![],
    };
    init.encode().unwrap()
}

fn file(id: u32, body: RequestBody<'_>) -> Vec<u8> {
    Request { id, body }.encode().unwrap()
}

fn open_file(id: u32, path: &str, flags: u32) -> Vec<u8> {
    let body = RequestBody::Open {
        path: path.as_bytes(),
        flags,
        attributes: Attributes::default(),
    };
    file(id, body)
}
