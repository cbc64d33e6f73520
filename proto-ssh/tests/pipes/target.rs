//! A target that lets the gateway in, starts what it is asked to start, and has files.

use std::collections::HashMap;
use std::sync::Arc;

use proto_ssh::wire::sftp::{
    Attributes, Extended, Init, Name, Names, Request, RequestBody, Response, ResponseBody, Version,
    split_frame,
};

use super::echo::GREETING;
use super::fixture::{SECRET, TOKEN};
use super::peer::Side;
use super::script::Settings;
use super::transport::Transport;
use super::watch::Watch;
use super::wire::{Message, Take, adjust, data, number, plain, request};

/// What runs on a channel.
enum Runs {
    Nothing,
    /// It sends back what comes.
    Cat,
    /// SFTP, with what came of a packet.
    Files(Vec<u8>),
    /// `scp -t`, which says yes to all; whether it is to a place where nobody may write.
    Sink(bool),
    /// `scp -f`, with what it still sends: what nobody may read is a secret, which no client sees.
    Source(Vec<&'static [u8]>),
}

pub struct Target {
    pub settings: Settings,
    pub watch: Arc<Watch>,
    /// It has not always read, so that what it sees can be old.
    stalled: bool,
    /// What runs, by the gateway's number of the channel, which is ours, too.
    channels: HashMap<u32, Runs>,
}

impl Side for Target {
    fn begin(&mut self, _: &mut Transport) {}

    fn take(&mut self, message: &[u8], transport: &mut Transport) {
        let token = TOKEN.as_bytes();
        assert!(
            !message.windows(token.len()).any(|part| part == token),
            "the target sees the client's token"
        );
        self.answer(message, transport);
    }

    fn sent(&mut self, _: &[u8]) {}

    fn stalls(&mut self) {
        self.stalled = true;
    }
}

impl Target {
    pub fn new(settings: Settings, watch: Arc<Watch>) -> Self {
        Self {
            settings,
            watch,
            stalled: false,
            channels: HashMap::new(),
        }
    }

    fn answer(&mut self, message: &[u8], transport: &mut Transport) -> Option<()> {
        let mut take = Take(message);
        let dumb = self.settings.dumb_target;
        let number = take.byte()?;
        if matches!(number, number::GLOBAL | number::OPEN | number::REQUEST) && !self.stalled {
            self.watch.begins(message);
        }
        match number {
            number::SERVICE_REQUEST => {
                transport.send(&Message::new(number::SERVICE_ACCEPT).string("ssh-userauth").done());
            }
            number::AUTH_REQUEST => {
                assert_eq!(take.text()?, "deploy");
                let secret = SECRET.as_bytes();
                assert!(message.windows(secret.len()).any(|part| part == secret));
                if !self.settings.shut {
                    transport.send(&[number::AUTH_SUCCESS]);
                }
            }
            number::GLOBAL => {
                let (kind, reply) = (take.text()?, take.byte()? != 0);
                if kind.contains("forward") {
                    self.watch.listens(&take.text()?);
                }
                let port = Message::new(number::GLOBAL_SUCCESS).u32(4000);
                if reply && !dumb {
                    transport.send(&port.done());
                }
            }
            number::OPEN => {
                let (kind, id) = (take.text()?, take.u32()?);
                let (_window, _packet) = (take.u32()?, take.u32()?);
                match kind.as_str() {
                    "session" => {}
                    "direct-tcpip" => self.watch.connects(&take.text()?, Some(take.u32()?)),
                    "direct-streamlocal@openssh.com" => self.watch.connects(&take.text()?, None),
                    other => panic!("the target is opened a channel `{other}`"),
                }
                let runs = match kind.as_str() {
                    "session" => Runs::Nothing,
                    _ => Runs::Cat,
                };
                self.channels.insert(id, runs);
                let yes = Message::new(number::CONFIRMATION).u32(id).u32(id);
                if !dumb {
                    transport.send(&yes.u32(1 << 20).u32(32768).done());
                }
            }
            number::REQUEST => {
                let (id, kind, reply) = (take.u32()?, take.text()?, take.byte()? != 0);
                self.request(id, &kind, &mut take, transport)?;
                if reply && !dumb {
                    transport.send(&plain(number::SUCCESS, id));
                    self.begun(id, &kind, transport);
                }
            }
            number::DATA => {
                let (id, bytes) = (take.u32()?, take.string()?);
                self.input(id, bytes, transport)?;
                if !dumb {
                    transport.send(&adjust(id, bytes.len()));
                }
            }
            number::EOF if !dumb => {
                let id = take.u32()?;
                transport.send(&request(id, "exit-status", false).u32(0).done());
                transport.send(&plain(number::EOF, id));
                transport.send(&plain(number::CLOSE, id));
            }
            number::CLOSE => {
                let id = take.u32()?;
                if self.channels.remove(&id).is_some() && !dumb {
                    transport.send(&plain(number::CLOSE, id));
                }
            }
            _ => {}
        }
        Some(())
    }

    fn request(&mut self, id: u32, kind: &str, take: &mut Take<'_>, _: &mut Transport) -> Option<()> {
        let runs = self.channels.get_mut(&id)?;
        match kind {
            "env" => self.watch.env(&take.text()?),
            "exec" => {
                let line = take.string()?;
                self.watch.exec(line);
                let has = |word: &str| line.windows(word.len()).any(|part| part == word.as_bytes());
                let refused = has("/no");
                let source: Vec<&[u8]> = match refused {
                    true => vec![
                        SECRET.as_bytes(),
                        b"C0644 19 a\n",
                        SECRET.as_bytes(),
                        b"C0644 19 a\n",
                    ],
                    false => vec![b"E\n", b"data\0", b"C0644 4 a\n", b"D0755 0 d\n"],
                };
                *runs = match has("'scp'") {
                    true if has("'-t'") => Runs::Sink(refused),
                    true => Runs::Source(source),
                    false => Runs::Cat,
                };
            }
            "subsystem" => {
                let name = take.text()?;
                self.watch.started(kind, &name);
                if name == "sftp" {
                    *runs = Runs::Files(Vec::new());
                }
            }
            kind => self.watch.started(kind, ""),
        }
        Some(())
    }

    /// What a program says as soon as it runs.
    fn begun(&mut self, id: u32, kind: &str, transport: &mut Transport) {
        match (kind, self.channels.get(&id)) {
            ("exec", Some(Runs::Sink(_))) => transport.send(&data(id, [0])),
            ("exec", Some(Runs::Cat)) => transport.send(&data(id, GREETING)),
            _ => {}
        }
    }

    fn input(&mut self, id: u32, bytes: &[u8], transport: &mut Transport) -> Option<()> {
        let dumb = self.settings.dumb_target;
        match self.channels.get_mut(&id)? {
            Runs::Nothing => {}
            Runs::Cat if !dumb => transport.send(&data(id, bytes)),
            Runs::Sink(refused) => {
                let line = matches!(bytes.first(), Some(b'C' | b'D'));
                assert!(!(*refused && line), "scp writes where nobody may");
                if !dumb {
                    transport.send(&data(id, [0]));
                }
            }
            Runs::Source(left) if !dumb => {
                if let Some(next) = left.pop() {
                    transport.send(&data(id, next));
                }
            }
            Runs::Files(came) => {
                came.extend_from_slice(bytes);
                while let Some((packet, rest)) = split_frame(came).expect("the gateway keeps to SFTP") {
                    let (length, taken) = (packet.len(), came.len() - rest.len());
                    let packet = came.get(taken - length..taken)?.to_vec();
                    came.drain(..taken);
                    let answer = file(&packet, &self.watch, self.settings.lying);
                    if !dumb && let Some(answer) = answer {
                        transport.send(&data(id, answer));
                    }
                }
            }
            _ => {}
        }
        Some(())
    }
}

/// The answer to a packet of SFTP.
fn file(packet: &[u8], watch: &Watch, lying: bool) -> Option<Vec<u8>> {
    if Init::parse(packet).ok()?.is_some() {
        let version = Version {
            version: 3,
            extensions: vec![],
        };
        return version.encode().ok();
    }
    let request = Request::parse(packet).expect("the gateway's requests can be read");
    watch.file(&request.body);
    let resolved;
    let name = |filename| Name {
        filename,
        longname: b"-rw-r--r-- 1 a b 4 Jan 1 00:00 x",
        attributes: Attributes {
            permissions: Some(0o100_644),
            ..Attributes::default()
        },
    };
    let status = |code| ResponseBody::Status {
        code,
        message: b"",
        language: b"",
    };
    let body = match request.body {
        RequestBody::Realpath { path } => {
            resolved = if lying { b"/no/x".to_vec() } else { normal(path) };
            ResponseBody::Name(Names(vec![name(&resolved)]))
        }
        RequestBody::Open { .. } | RequestBody::Opendir { .. } => ResponseBody::Handle { handle: b"H" },
        RequestBody::Read { length, .. } => match length {
            0..4 => status(1),
            _ => ResponseBody::Data { data: b"data" },
        },
        RequestBody::Readdir { .. } => ResponseBody::Name(Names(vec![name(b"x"), name(b"no")])),
        RequestBody::Stat { .. } | RequestBody::Lstat { .. } | RequestBody::Fstat { .. } => {
            ResponseBody::Attrs(Attributes {
                size: Some(4),
                permissions: Some(0o100_644),
                ..Attributes::default()
            })
        }
        RequestBody::Readlink { .. } => ResponseBody::Name(Names(vec![name(b"/no/x")])),
        RequestBody::Extended(Extended::Limits) => status(8),
        _ => status(0),
    };
    let id = request.id;
    Response { id, body }.encode().ok()
}

/// A path from the root, whose links are `/link` to `/no` and nothing else.
fn normal(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            b"link" if parts.is_empty() => parts.push(b"no"),
            part => parts.push(part),
        }
    }
    let mut all = Vec::new();
    for part in &parts {
        all.push(b'/');
        all.extend_from_slice(part);
    }
    if all.is_empty() {
        all.push(b'/');
    }
    all
}
