//! Bytes that nobody would send, through every parser and both machines: nothing panics, what is read is written again
//! as it was, and what is kept stays bounded. `HOSTILE_ROUNDS` makes it longer.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs,
    dead_code,
    reason = "a test"
)]

mod seeded;

use proto_ssh::command::{Parsed, Shell, parse_command};
use proto_ssh::scp::{self, Base, Scp};
use proto_ssh::sftp::{self, Answer, Settings, Sftp};
use proto_ssh::wire::certificate::UserCertificate;
use proto_ssh::wire::scp::{Direction, Line};
use proto_ssh::wire::sftp::{
    Attributes, CopyData, Extended, Init, Name, Names, Request, RequestBody, Response, ResponseBody, Version,
    kind,
};
use seeded::Seeded;

fn rounds() -> usize {
    std::env::var("HOSTILE_ROUNDS").map_or(20_000, |rounds| rounds.parse().unwrap())
}

/// Some bytes changed, put in, taken out, or cut.
fn spoil(seeded: &mut Seeded, bytes: &mut Vec<u8>) {
    for _ in 0..seeded.below(4) {
        let place = seeded.below(bytes.len() + 1);
        let byte = [
            0,
            1,
            0x7f,
            0x80,
            0xff,
            b'/',
            b'.',
            b'\n',
            u8::try_from(seeded.below(256)).unwrap(),
        ][seeded.below(9)];
        match seeded.below(4) {
            0 => bytes.insert(place, byte),
            1 if place < bytes.len() => drop(bytes.remove(place)),
            2 => bytes.truncate(place.max(4)),
            _ if place < bytes.len() => bytes[place] = byte,
            _ => {}
        }
    }
}

fn request(seeded: &mut Seeded, id: u32) -> Vec<u8> {
    let path: &[u8] = [&b"/a"[..], b"a/../b", b"", b"/", b"x/", b"..", b"/\xff\0"][seeded.below(7)];
    let handle: &[u8] = [&b"0"[..], b"1", b"2", b""][seeded.below(4)];
    let attributes = Attributes {
        size: Some(1),
        extended: Some(vec![(b"a", b"b")]),
        ..Attributes::default()
    };
    let flags = u32::try_from(seeded.below(128)).unwrap();
    let copy = CopyData {
        from: handle,
        from_offset: 0,
        length: 0,
        to: b"1",
        to_offset: 0,
    };
    let body = match seeded.below(20) {
        0..3 => RequestBody::Open {
            path,
            flags,
            attributes,
        },
        3 => RequestBody::Close { handle },
        4..6 => RequestBody::Read {
            handle,
            offset: 0,
            length: 100,
        },
        6..8 => RequestBody::Write {
            handle,
            offset: 0,
            data: b"data",
        },
        8 => RequestBody::Opendir { path },
        9 => RequestBody::Readdir { handle },
        10 => RequestBody::Realpath { path },
        11 => RequestBody::Rename {
            old: path,
            new: b"/new",
        },
        12 => RequestBody::Symlink {
            target: path,
            link: path,
        },
        13 => RequestBody::Setstat { path, attributes },
        14 => RequestBody::Fsetstat { handle, attributes },
        15 => RequestBody::Extended(Extended::CopyData(copy)),
        16 => RequestBody::Extended(Extended::Hardlink { old: path, new: path }),
        17 => RequestBody::Extended(Extended::Unknown {
            name: b"x",
            data: b"y",
        }),
        18 => RequestBody::Unknown { kind: 250, data: b"" },
        _ => RequestBody::Lstat { path },
    };
    Request { id, body }.encode().unwrap()
}

fn response(seeded: &mut Seeded, id: u32) -> Vec<u8> {
    let name = |filename| Name {
        filename,
        longname: b"long",
        attributes: Attributes::default(),
    };
    let body = match seeded.below(8) {
        0..2 => ResponseBody::Status {
            code: u32::try_from(seeded.below(10)).unwrap(),
            message: b"m",
            language: b"",
        },
        2 => ResponseBody::Handle {
            handle: [&b"0"[..], b"1", b"2"][seeded.below(3)],
        },
        3 => ResponseBody::Data { data: b"data" },
        4..6 => ResponseBody::Name(Names(vec![name(b"/srv/x")])),
        6 => ResponseBody::Name(Names(vec![name(b"a"), name(b"b")])),
        _ => ResponseBody::Attrs(Attributes::default()),
    };
    Response { id, body }.encode().unwrap()
}

/// What a target would answer to a request of this type, as a rule.
fn fitting(seeded: &mut Seeded, id: u32, kind: u8) -> Vec<u8> {
    let name = Name {
        filename: [&b"/srv/x"[..], b"/srv", b"/secret", b"/secret/y"][seeded.below(4)],
        longname: b"",
        attributes: Attributes::default(),
    };
    let handle = [&b"0"[..], b"1", b"2"][seeded.below(3)];
    let body = match kind {
        _ if seeded.below(40) == 0 => return response(seeded, id),
        kind::REALPATH => ResponseBody::Name(Names(vec![name])),
        kind::OPEN | kind::OPENDIR if seeded.below(3) > 0 => ResponseBody::Handle { handle },
        kind::READ => ResponseBody::Data { data: b"data" },
        _ => ResponseBody::Status {
            code: 1,
            message: b"",
            language: b"",
        },
    };
    Response { id, body }.encode().unwrap()
}

#[test]
fn what_is_read_is_written_again_as_it_was() {
    let mut seeded = Seeded(1);
    let mut read = 0;
    for _ in 0..rounds() {
        let mut packet = request(&mut seeded, 7);
        spoil(&mut seeded, &mut packet);
        let inside = packet.get(4..).unwrap_or_default();
        if let Ok(parsed) = Request::parse(inside) {
            assert_eq!(&parsed.encode().unwrap()[4..], inside);
            read += 1;
        }
        let mut packet = response(&mut seeded, 7);
        spoil(&mut seeded, &mut packet);
        let inside = packet.get(4..).unwrap_or_default();
        if let Ok(parsed) = Response::parse(inside) {
            assert_eq!(&parsed.encode().unwrap()[4..], inside);
            read += 1;
        }
        let _ = UserCertificate::parse(&packet);
        let _ = Line::parse(&packet);
    }
    assert!(read > rounds() / 4, "{read}");
}

/// Whether a request is about a path that was refused. What a symbolic link holds is not decided.
fn sends_secret(packet: &[u8]) -> bool {
    packet.windows(7).any(|part| part == b"/secret")
}

#[test]
fn the_sftp_machine_takes_anything_and_sends_nothing_that_was_refused() {
    let mut seeded = Seeded(2);
    let mut decided = 0;
    for _ in 0..rounds() / 20 {
        let mut machine = Sftp::new(Settings {
            realpath: seeded.below(2) == 0,
        });
        machine
            .handle_client(
                &Init {
                    version: 3,
                    extensions: vec![],
                }
                .encode()
                .unwrap(),
            )
            .unwrap();
        machine
            .handle_target(
                &Version {
                    version: 3,
                    extensions: vec![],
                }
                .encode()
                .unwrap(),
            )
            .unwrap();
        let mut asks = Vec::new();
        let mut ids = Vec::new();
        for _ in 0..100 {
            let spoiled = seeded.below(50) == 0;
            // Mostly what a target would say, where something is asked.
            let answered = if seeded.below(2) == 0 { ids.pop() } else { None };
            let mut packet = match answered {
                Some((id, kind)) => fitting(&mut seeded, id, kind),
                None => request(&mut seeded, 1),
            };
            if spoiled {
                spoil(&mut seeded, &mut packet);
            }
            let taken = match answered {
                Some(_) => machine.handle_target(&packet),
                None => machine.handle_client(&packet),
            };
            while let Ok(Some(action)) = machine.poll() {
                match action {
                    sftp::Action::Ask(ask) => asks.push((ask.id, ask.path)),
                    sftp::Action::ToTarget(packet) if packet.len() >= 9 => {
                        assert!(
                            packet[4] == kind::REALPATH || !sends_secret(&packet),
                            "{packet:?}"
                        );
                        ids.push((
                            u32::from_be_bytes([packet[5], packet[6], packet[7], packet[8]]),
                            packet[4],
                        ));
                    }
                    _ => {}
                }
            }
            if taken.is_err() {
                break;
            }
            if let Some((ask, path)) = asks.pop() {
                let deny = Answer::Deny {
                    text: "no".to_owned(),
                };
                let answer = if path.starts_with(b"/secret") {
                    deny
                } else {
                    Answer::Allow
                };
                decided += 1;
                // What the client had sent behind it is looked at now, and may be nothing.
                if let Err(error) = machine.handle_answer(ask, answer) {
                    assert_ne!(error.peer, sftp::Peer::Gateway);
                    break;
                }
            }
        }
    }
    assert!(decided > 100, "{decided}");
}

#[test]
fn the_scp_machine_takes_anything() {
    let mut seeded = Seeded(3);
    let lines: [&[u8]; 10] = [
        b"\0",
        b"C0644 4 a\n",
        b"D0755 0 d\n",
        b"E\n",
        b"T1 0 2 0\n",
        b"abcd",
        b"\x01no\n",
        b"\x02end\n",
        b"\xff",
        b"C0644 4 ../a\n",
    ];
    let mut decided = 0;
    for _ in 0..rounds() / 20 {
        let direction = if seeded.below(2) == 0 {
            Direction::Source
        } else {
            Direction::Sink
        };
        let base = |path: &str| Base {
            path: path.as_bytes().to_vec(),
            directory: None,
        };
        let mut machine = Scp::new(direction, vec![base("/srv/a"), base("/srv/d")]);
        for _ in 0..60 {
            let mut bytes = lines[seeded.below(8)].to_vec();
            if seeded.below(30) == 0 {
                bytes = lines[seeded.below(10)].to_vec();
            }
            // Mostly what each side would say.
            let answers = seeded.below(2) == 0;
            if answers && seeded.below(10) > 0 {
                bytes = b"\0".to_vec();
            }
            let taken = match answers == (direction == Direction::Source) {
                true => machine.handle_client(&bytes),
                false => machine.handle_target(&bytes),
            };
            if taken.is_err() {
                break;
            }
            while let Some(action) = machine.poll() {
                if let scp::Action::Ask(ask) = action {
                    let deny = Answer::Deny {
                        text: "no".to_owned(),
                    };
                    let answer = if seeded.below(4) == 0 { deny } else { Answer::Allow };
                    decided += 1;
                    let _ = machine.handle_answer(ask.id, answer);
                }
            }
        }
    }
    assert!(decided > 100, "{decided}");
}

#[test]
fn what_is_static_stays_static_in_its_canonical_form() {
    let mut seeded = Seeded(4);
    let alphabet: Vec<char> = (' '..='~')
        .chain("ab cd '\"\\ \n\t\u{a0}é\u{202e};&||".chars())
        .collect();
    let mut found = 0;
    for _ in 0..rounds() {
        let line: String = (0..seeded.below(14))
            .map(|_| alphabet[seeded.below(alphabet.len())])
            .collect();
        for shell in [Shell::Bash, Shell::Dash, Shell::Zsh, Shell::Unknown] {
            let Parsed::Static { commands, canonical } = parse_command(line.as_bytes(), shell) else {
                continue;
            };
            let again = parse_command(canonical.as_bytes(), shell);
            assert_eq!(
                again,
                Parsed::Static {
                    commands,
                    canonical: canonical.clone()
                },
                "{line:?} as {canonical:?}"
            );
            found += 1;
        }
    }
    assert!(found > rounds() / 20, "{found}");
}
