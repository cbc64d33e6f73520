//! Scripts that are made up: mostly what peers would say, in odd orders and on odd channels, with some bytes spoiled.

use proto_ssh::wire::sftp::{Extended, RequestBody};

use super::{
    FIRST, WINDOW, agent, env, exec, exit_signal, extended, file, forward, forwarded, init, listen,
    open_file, pty, session, socket, subsystem, window_change, x11,
};
use crate::pipes::script::{CLIENT, Head, TARGET};
use crate::pipes::wire::{Message, data, number, open, plain, request};
use crate::seeded::Seeded;

/// Makes scripts up.
struct Maker<'a> {
    seeded: &'a mut Seeded,
    /// Channels of the client so far.
    channels: u32,
    turns: Vec<Vec<u8>>,
}

/// A script, made up or changed.
pub fn made_up(seeded: &mut Seeded) -> Vec<u8> {
    let mut script = match seeded.below(8) {
        0 => {
            let seeds = super::seeds();
            // Not those that send all that may be sent.
            let small: Vec<_> = seeds
                .into_iter()
                .filter(|(name, _)| !name.starts_with("flood"))
                .collect();
            small[seeded.below(small.len())].1.clone()
        }
        _ => of_phrases(seeded),
    };
    if seeded.below(4) == 0 {
        for _ in 0..1 + seeded.below(3) {
            let (place, byte) = (seeded.below(script.len()), seeded.below(256));
            script[place] = u8::try_from(byte).unwrap();
        }
    }
    script
}

fn of_phrases(seeded: &mut Seeded) -> Vec<u8> {
    let settings = match seeded.below(12) {
        0 => [1, 2, 8, 9][seeded.below(4)],
        1..4 => [4, 16, 32, 64, 96, 20, 128][seeded.below(7)],
        _ => 0,
    };
    let mut maker = Maker {
        seeded,
        channels: 0,
        turns: Vec::new(),
    };
    let phrases = [8, 8, 8, 30][maker.seeded.below(4)];
    for _ in 0..1 + maker.seeded.below(phrases) {
        match maker.seeded.below(3) {
            0 => maker.target(),
            _ => maker.client(),
        }
    }
    let mut script = vec![settings];
    script.extend(maker.turns.concat());
    script
}

impl Maker<'_> {
    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.seeded.below(all.len())].clone()
    }

    fn push(&mut self, head: Head, mut bytes: Vec<u8>) {
        if self.seeded.below(12) == 0 && !bytes.is_empty() {
            let place = self.seeded.below(bytes.len());
            match self.seeded.below(3) {
                0 => bytes.truncate(place.max(1)),
                1 => bytes.push(0),
                _ => bytes[place] = self.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            }
        }
        let pause = match self.seeded.below(10) {
            0 => self.pick(&[1, 2, 2, 3]),
            _ => 0,
        };
        let often = match self.seeded.below(12) {
            0 => self.pick(&[1, 1, 2, 3]),
            _ => 0,
        };
        self.turns.push(head.pause(pause).often(often).turn(&bytes));
    }

    fn say(&mut self, bytes: Vec<u8>) {
        self.push(CLIENT, bytes);
    }

    /// A channel: mostly the newest.
    fn channel(&mut self) -> u32 {
        let newest = FIRST + self.channels.saturating_sub(1);
        match self.seeded.below(6) {
            0 => FIRST,
            1 => self.pick(&[0, 1, newest + 1, 1001, u32::MAX]),
            _ => newest,
        }
    }

    fn opened(&mut self) -> u32 {
        self.channels += 1;
        let channel = FIRST + self.channels - 1;
        self.say(session(channel));
        channel
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.pick(&[0, 1, 5, 100, 32_000, 34_000]);
        match self.seeded.below(3) {
            0 => vec![0; length],
            1 => b"ann@example.com\x1b[2J\r\n".repeat(length / 20 + 1),
            _ => (0..length)
                .map(|_| u8::try_from(self.seeded.below(256)).unwrap())
                .collect(),
        }
    }

    fn client(&mut self) {
        match self.seeded.below(11) {
            0..3 => self.program(),
            10 => self.back(),
            3 => self.files(),
            4 => self.scp(),
            5 => {
                let (host, port) =
                    self.pick(&[("in", 80), ("in", 22), ("out", 80), ("in", 1 << 20), ("", 80)]);
                self.channels += 1;
                let message = match self.seeded.below(3) {
                    0 => socket(FIRST + self.channels - 1, self.seeded_path()),
                    _ => forward(FIRST + self.channels - 1, host, port),
                };
                self.say(message);
                self.data_and_end();
            }
            6 => {
                let kinds = ["tcpip-forward", "tcpip-forward", "cancel-tcpip-forward"];
                let sockets = [
                    "streamlocal-forward@openssh.com",
                    "cancel-streamlocal-forward@openssh.com",
                ];
                let message = match self.seeded.below(4) {
                    0 => listen(self.pick(&sockets), self.seeded_path(), 0),
                    1 => listen("keepalive@openssh.com", "", 0),
                    _ => listen(
                        self.pick(&kinds),
                        self.pick(&["in", "out"]),
                        self.pick(&[0, 4000, 70_000]),
                    ),
                };
                self.say(message);
            }
            7 => self.data_and_end(),
            8 => self.odd(CLIENT),
            _ => {
                let head = self.pick(&[CLIENT, CLIENT, CLIENT.which(1), CLIENT.which(2), CLIENT.raw()]);
                self.push(head, Vec::new());
            }
        }
    }

    /// The target opens channels that were permitted, and bytes go both ways.
    fn back(&mut self) {
        if self.seeded.below(2) == 0 {
            self.say(listen("tcpip-forward", "in", 4000));
            self.push(TARGET, forwarded(7));
        } else {
            let channel = self.opened();
            self.say(agent(channel));
            self.say(exec(channel, "cat"));
            let kind = self.pick(&["auth-agent@openssh.com", "auth-agent@openssh.com", "x11"]);
            self.push(TARGET, open(kind, 7, WINDOW).done());
        }
        self.channels += 1;
        for _ in 0..self.seeded.below(4) {
            // The gateway is the one that numbers both ends: here as its next channel, there as its first or second.
            let (there, bytes) = (self.pick(&[FIRST, FIRST + 1]), self.bytes());
            self.push(TARGET, data(there, &bytes));
            self.say(data(FIRST + self.channels - 1, bytes));
        }
        let channel = FIRST + self.channels - 1;
        let end = self.pick(&[number::EOF, number::CLOSE]);
        match self.seeded.below(3) {
            0 => self.say(plain(end, channel)),
            1 => self.push(TARGET, plain(end, FIRST)),
            _ => {}
        }
    }

    fn seeded_path(&mut self) -> &'static str {
        self.pick(&["/run/in", "/run/in", "/run/out", "run/in", "/run/../run/in"])
    }

    fn program(&mut self) {
        let channel = self.opened();
        for _ in 0..self.seeded.below(5) {
            let name = self.pick(&["LANG", "LANG", "LD_PRELOAD", "A=B", "GATEWAY_REASON"]);
            let size = self.pick(&[0, 80, u32::MAX]);
            let message = match self.seeded.below(6) {
                0 | 5 => env(channel, name),
                1 => agent(channel),
                2 => x11(channel),
                3 => window_change(channel, size),
                _ => pty(channel),
            };
            self.say(message);
        }
        let lines = [
            "ok",
            "cat",
            "cat",
            "cat | ok 'a b'",
            "slow",
            "forbidden",
            "ok; forbidden",
            "ok $(x)",
            "ok $(y)",
            "ok\0",
            "",
            "ok > /no/x",
            "runbooks",
            "runbook:greet name=ann",
            "runbook:greet name=$x",
            "subsystem:netconf",
        ];
        let line = self.pick(&lines);
        let name = self.pick(&["netconf", "other", ""]);
        let message = match self.seeded.below(8) {
            0 => request(channel, "shell", true).done(),
            1 => subsystem(channel, name),
            _ => exec(channel, line),
        };
        self.say(message);
        self.data_and_end();
    }

    fn files(&mut self) {
        let channel = self.opened();
        self.say(subsystem(channel, "sftp"));
        self.say(data(channel, init()));
        for id in 0..u32::try_from(self.seeded.below(8)).unwrap() {
            let path = self.path();
            let (path, other) = (path.as_bytes(), self.path().as_bytes());
            let handle = self.pick(&[&b"0"[..], b"1", b"H", b""]);
            let packet = match self.seeded.below(14) {
                0..4 => open_file(
                    id,
                    std::str::from_utf8(path).unwrap(),
                    self.pick(&[0, 1, 2, 26, 127]),
                ),
                4 => file(
                    id,
                    RequestBody::Read {
                        handle,
                        offset: 0,
                        length: 32_768,
                    },
                ),
                5 => file(
                    id,
                    RequestBody::Write {
                        handle,
                        offset: 0,
                        data: b"data",
                    },
                ),
                6 => file(id, RequestBody::Close { handle }),
                7 => file(id, RequestBody::Opendir { path }),
                8 => file(id, RequestBody::Realpath { path }),
                9 => file(
                    id,
                    RequestBody::Rename {
                        old: path,
                        new: other,
                    },
                ),
                10 => file(
                    id,
                    RequestBody::Symlink {
                        target: other,
                        link: path,
                    },
                ),
                11 => file(
                    id,
                    RequestBody::Extended(Extended::Hardlink {
                        old: path,
                        new: other,
                    }),
                ),
                12 => file(
                    id,
                    RequestBody::Extended(Extended::Unknown {
                        name: b"x@y",
                        data: b"z",
                    }),
                ),
                _ => file(id, RequestBody::Lstat { path }),
            };
            self.say(data(channel, packet));
        }
        self.data_and_end();
    }

    fn path(&mut self) -> &'static str {
        self.pick(&[
            "/srv/a",
            "/srv/a/",
            "/no/a",
            "/no",
            "/link/x",
            "a/../../no",
            "",
            "/",
            "x",
            "/srv/../no/",
        ])
    }

    fn scp(&mut self) {
        let channel = self.opened();
        let line =
            ["scp -t ", "scp -r -t ", "scp -f ", "scp -r -f "][self.seeded.below(4)].to_owned() + self.path();
        self.say(exec(channel, line));
        for _ in 0..self.seeded.below(8) {
            let lines: [&[u8]; 8] = [
                b"\0",
                b"\0",
                b"C0644 4 a\n",
                b"data\0",
                b"D0755 0 no\n",
                b"E\n",
                b"\x01no\n",
                b"C0644 4 ../x\n",
            ];
            let line = self.pick(&lines);
            self.say(data(channel, line));
        }
        self.data_and_end();
    }

    fn data_and_end(&mut self) {
        for _ in 0..self.seeded.below(4) {
            let channel = self.channel();
            let message = match self.seeded.below(9) {
                0..4 => data(channel, self.bytes()),
                4 => extended(channel, self.pick(&[0, 1, 7]), &self.bytes()),
                5 => plain(number::EOF, channel),
                6 => plain(number::CLOSE, channel),
                7 => request(channel, "signal", false)
                    .string(self.pick(&["INT", "KILL", "odd@x"]))
                    .done(),
                _ => Message::new(number::ADJUST)
                    .u32(channel)
                    .u32(self.pick(&[0, 1, u32::MAX]))
                    .done(),
            };
            self.say(message);
        }
    }

    /// What nobody expects.
    fn odd(&mut self, head: Head) {
        let channel = self.channel();
        let bytes = self.bytes();
        let message = match self.seeded.below(12) {
            0 => crate::pipes::transport::init(),
            1 => Message::new(1).u32(11).string("bye").string("").done(),
            2 => Message::new(2).string(&bytes).done(),
            3 => vec![u8::try_from(self.seeded.below(256)).unwrap()],
            4 => plain(self.pick(&[number::SUCCESS, number::FAILURE]), channel),
            5 => Message::new(number::CONFIRMATION)
                .u32(channel)
                .u32(1)
                .u32(u32::MAX)
                .u32(self.pick(&[0, 1, 32768]))
                .done(),
            6 => Message::new(number::OPEN_FAILURE)
                .u32(channel)
                .u32(2)
                .string("no")
                .string("")
                .done(),
            7 => open(
                self.pick(&["session", "x11", "odd@x", "forwarded-tcpip"]),
                channel,
                self.pick(&[0, u32::MAX]),
            )
            .done(),
            8 => Message::new(number::GLOBAL)
                .string("odd@x")
                .byte(1)
                .string(&bytes)
                .done(),
            9 => Message::new(number::AUTH_REQUEST)
                .string("deploy@web-1")
                .string("ssh-connection")
                .string("none")
                .done(),
            10 => vec![self.pick(&[number::GLOBAL_SUCCESS, number::GLOBAL_FAILURE])],
            _ => request(channel, "odd@x", true).string(&bytes).done(),
        };
        let head = match self.seeded.below(8) {
            0 => head.raw(),
            _ => head,
        };
        self.push(head, message);
    }

    fn target(&mut self) {
        let which = u8::try_from(self.seeded.below(3)).unwrap();
        let head = if self.seeded.below(3) == 0 {
            TARGET.which(which)
        } else {
            TARGET
        };
        let channel = self.pick(&[FIRST, FIRST, FIRST, FIRST + 1, 0, 9]);
        let bytes = self.bytes();
        let message = match self.seeded.below(13) {
            0..3 => data(channel, bytes),
            3 => extended(channel, self.pick(&[0, 1, 7]), &bytes),
            4 => request(channel, "exit-status", false)
                .u32(self.pick(&[0, 1, u32::MAX]))
                .done(),
            5 => exit_signal(channel),
            6 => plain(self.pick(&[number::EOF, number::CLOSE]), channel),
            7 => forwarded(self.pick(&[7, 8])),
            8 => open(
                self.pick(&["auth-agent@openssh.com", "session", "odd@x"]),
                9,
                WINDOW,
            )
            .done(),
            9 => {
                let message = open("x11", 11, WINDOW).string("127.0.0.1").u32(6010);
                message.done()
            }
            10 => return self.push(head, Vec::new()),
            12 => vec![number::AUTH_SUCCESS],
            _ => return self.odd(head),
        };
        self.push(head, message);
    }
}
