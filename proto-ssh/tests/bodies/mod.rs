//! The bodies of the fuzz targets; `fuzz/` calls them, and `fuzz_bodies.rs` replays the corpora with them.

use proto_ssh::command::{Parsed, Shell, parse_command};
use proto_ssh::scp::{self, Base, Scp};
use proto_ssh::sftp::{self, Answer, Settings, Sftp};
use proto_ssh::wire::certificate::UserCertificate;
use proto_ssh::wire::scp::{Direction, Line, Reply};
use proto_ssh::wire::sftp::{Init, Request, Response, Version, split_frame};

/// What a target does with its input.
pub type Body = fn(&[u8]);

/// The targets by their names.
pub const TARGETS: [(&str, Body); 5] = [
    ("ssh-command", command),
    ("sftp-packet", packet),
    ("sftp-session", sftp_session),
    ("scp-session", scp_session),
    ("ssh-certificate", certificate),
];

/// The first byte chooses a shell. What is static is read from its canonical form as it was from the line.
pub fn command(data: &[u8]) {
    let [shell, line @ ..] = data else { return };
    let shell = [Shell::Bash, Shell::Dash, Shell::Zsh, Shell::Unknown][usize::from(*shell) % 4];
    if let Parsed::Static { commands, canonical } = parse_command(line, shell) {
        assert!(!commands.is_empty() && commands.iter().all(|simple| !simple.program.is_empty()));
        let again = parse_command(canonical.as_bytes(), shell);
        assert_eq!(
            again,
            Parsed::Static {
                commands,
                canonical: canonical.clone()
            }
        );
    }
}

/// A packet of either side that parses encodes to the same bytes.
pub fn packet(data: &[u8]) {
    let Ok(Some((packet, _))) = split_frame(data) else {
        return;
    };
    if let Ok(Some(first)) = Init::parse(packet) {
        assert_eq!(&first.encode().unwrap()[4..], packet);
    }
    if let Ok(Some(first)) = Version::parse(packet) {
        assert_eq!(&first.encode().unwrap()[4..], packet);
    }
    if let Ok(request) = Request::parse(packet) {
        assert_eq!(&request.encode().unwrap()[4..], packet);
    }
    if let Ok(response) = Response::parse(packet) {
        assert_eq!(&response.encode().unwrap()[4..], packet);
    }
}

/// Any bytes as a certificate, and as lines of the old scp protocol.
pub fn certificate(data: &[u8]) {
    if let Ok(certificate) = UserCertificate::parse(data) {
        assert!(!certificate.principals.is_empty() && certificate.signed.len() < data.len());
    }
    let _ = (Line::parse(data), Reply::parse(data));
}

/// What one play gave: bytes for the target and for the client, questions, and whether it broke.
type Played = (Vec<u8>, Vec<u8>, Vec<Vec<u8>>, bool);

/// Turns of both sides: one byte (low bit: 0 client, 1 target), a length of two bytes, little-endian, and so many bytes.
fn turns(mut data: &[u8]) -> Vec<(bool, &[u8])> {
    let mut turns = Vec::new();
    while let [side, low, high, rest @ ..] = data {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (bytes, after) = rest.split_at(length);
        turns.push((side & 1 == 1, bytes));
        data = after;
    }
    turns
}

fn answer(path: &[u8]) -> Answer {
    match path.starts_with(b"/secret") {
        true => Answer::Deny {
            text: "no".to_owned(),
        },
        false => Answer::Allow,
    }
}

/// The same bytes give the same in any chunks, and nothing is sent about a path that was refused.
pub fn sftp_session(data: &[u8]) {
    let whole = play_sftp(data, usize::MAX);
    assert_eq!(play_sftp(data, 1), whole);
}

fn play_sftp(data: &[u8], chunk: usize) -> Played {
    let mut machine = Sftp::new(Settings { realpath: true });
    let (mut target, mut client, mut asked, mut broken) = (Vec::new(), Vec::new(), Vec::new(), false);
    for (from_target, bytes) in turns(data) {
        for part in bytes.chunks(chunk) {
            let taken = if from_target {
                machine.handle_target(part)
            } else {
                machine.handle_client(part)
            };
            broken |= taken.is_err();
        }
        let mut asks = Vec::new();
        loop {
            match machine.poll() {
                Ok(Some(sftp::Action::ToTarget(packet))) => {
                    if let Ok(Request { body, .. }) = Request::parse(&packet[4..]) {
                        let realpath = matches!(body, proto_ssh::wire::sftp::RequestBody::Realpath { .. });
                        // What a handle, a link or data holds is not a path that was asked.
                        let open = matches!(body, proto_ssh::wire::sftp::RequestBody::Open { path, .. } if path.starts_with(b"/secret"));
                        assert!(realpath || !open);
                    }
                    target.extend(packet);
                }
                Ok(Some(sftp::Action::ToClient(packet))) => client.extend(packet),
                Ok(Some(sftp::Action::Ask(ask))) => asks.push(ask),
                Ok(Some(sftp::Action::Event(_))) => {}
                Ok(None) if asks.is_empty() => break,
                Ok(None) => {
                    for ask in asks.drain(..) {
                        let _ = machine.handle_answer(ask.id, answer(&ask.path));
                        asked.push(ask.path);
                    }
                }
                Err(_) => break,
            }
        }
        if broken {
            break;
        }
    }
    (target, client, asked, broken)
}

/// The first byte chooses a direction; then turns. The same bytes give the same in any chunks.
pub fn scp_session(data: &[u8]) {
    let [direction, data @ ..] = data else { return };
    let direction = if direction & 1 == 0 {
        Direction::Source
    } else {
        Direction::Sink
    };
    let whole = play_scp(direction, data, usize::MAX);
    assert_eq!(play_scp(direction, data, 1), whole);
}

fn play_scp(direction: Direction, data: &[u8], chunk: usize) -> Played {
    let base = |path: &str| Base {
        path: path.as_bytes().to_vec(),
        directory: None,
    };
    let mut machine = Scp::new(direction, vec![base("/srv/a"), base("/secret/b"), base("/srv/d")]);
    let (mut target, mut client, mut asked, mut broken) = (Vec::new(), Vec::new(), Vec::new(), false);
    for (from_target, bytes) in turns(data) {
        for part in bytes.chunks(chunk) {
            let taken = if from_target {
                machine.handle_target(part)
            } else {
                machine.handle_client(part)
            };
            broken |= taken.is_err();
        }
        while let Some(action) = machine.poll() {
            match action {
                scp::Action::ToTarget(bytes) => target.extend(bytes),
                scp::Action::ToClient(bytes) => client.extend(bytes),
                scp::Action::Event(_) => {}
                scp::Action::Ask(ask) => {
                    broken |= machine.handle_answer(ask.id, answer(&ask.path)).is_err();
                    asked.push(ask.path);
                }
            }
        }
        if broken {
            break;
        }
    }
    (target, client, asked, broken)
}
