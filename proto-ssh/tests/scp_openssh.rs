//! OpenSSH's client of the old protocol and OpenSSH's scp on the other side, with the machine between them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};

use proto_ssh::command::{Parsed, Shell, parse_command};
use proto_ssh::scp::{Action, Answer, Base, Event, Peer, Scp, What};
use proto_ssh::sftp::resolver::Resolver;
use proto_ssh::wire::scp::ScpCommand;

const SCP: &str = "/usr/bin/scp";
const SFTP_SERVER: &str = "/usr/lib/openssh/sftp-server";

/// `remote` is the target's: `logs` may be read, `upload` read and written. `local` is the client's.
struct Room {
    folder: tempfile::TempDir,
    remote: PathBuf,
    local: PathBuf,
}

struct Outcome {
    printed: String,
    succeeded: bool,
    events: Vec<Event>,
}

impl Room {
    /// `None` where OpenSSH is not installed.
    fn new() -> Option<Self> {
        if !Path::new(SCP).exists() || !Path::new(SFTP_SERVER).exists() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (remote, local) = (root.join("remote"), root.join("local"));
        for name in ["logs/old", "upload", "secret"] {
            fs::create_dir_all(remote.join(name)).unwrap();
        }
        fs::create_dir(&local).unwrap();
        fs::write(remote.join("logs/app.log"), "a line\n").unwrap();
        fs::write(remote.join("logs/old/it's.log"), "old\n").unwrap();
        fs::write(remote.join("logs/empty"), "").unwrap();
        fs::write(remote.join("secret/key"), "CANARY").unwrap();
        Some(Self {
            folder,
            remote,
            local,
        })
    }

    fn permits(&self, what: What, path: &[u8]) -> bool {
        let path = Path::new(std::str::from_utf8(path).unwrap());
        let secret = path.ends_with("old/it's.log") && self.remote.join("no-old").exists();
        path.starts_with(self.remote.join("upload"))
            || (what == What::Read && path.starts_with(self.remote.join("logs")) && !secret)
    }

    /// Runs `scp -O` with these arguments, where `@` is the target's folder, and `%` the client's.
    fn run(&self, arguments: &[&str]) -> Outcome {
        let place = |name: &str| self.folder.path().join(name);
        let (up, down, line, bridge) = (place("up"), place("down"), place("line"), place("bridge"));
        let _ = fs::remove_file(&up);
        let _ = fs::remove_file(&down);
        assert!(
            Command::new("mkfifo")
                .args([&up, &down])
                .status()
                .unwrap()
                .success()
        );
        // Takes the place of ssh: the last argument is the command, and it ends when the target does.
        let script = format!(
            "#!/bin/sh\nfor last; do :; done\nprintf %s \"$last\" >{}\nexec 3<&0\ncat <&3 >{} &\ncat <{}\nkill $! 2>/dev/null\nexit 0\n",
            line.display(),
            up.display(),
            down.display()
        );
        fs::write(&bridge, script).unwrap();
        fs::set_permissions(&bridge, fs::Permissions::from_mode(0o755)).unwrap();
        let remote = format!("host:{}", self.remote.display());
        let client = Command::new(SCP)
            .args(["-q", "-O", "-S", bridge.to_str().unwrap()])
            .args(arguments.iter().map(|word| {
                word.replace('@', &remote)
                    .replace('%', self.local.to_str().unwrap())
            }))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let from_client = File::open(&up).unwrap();
        let to_client = File::create(&down).unwrap();
        let events = self.pump(&fs::read(&line).unwrap(), from_client, to_client);
        let output = client.wait_with_output().unwrap();
        Outcome {
            printed: String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
            succeeded: output.status.success(),
            events,
        }
    }

    fn pump(&self, line: &[u8], from_client: File, mut to_client: File) -> Vec<Event> {
        let Parsed::Static { commands, .. } = parse_command(line, Shell::Bash) else {
            panic!("{}", String::from_utf8_lossy(line))
        };
        let command = ScpCommand::of(&commands[0]).unwrap();
        let bases: Vec<Base> = command.paths.iter().map(|path| resolved(path)).collect();
        let paths: Vec<_> = bases
            .iter()
            .map(|base| String::from_utf8(base.path.clone()).unwrap())
            .collect();
        let mut machine = Scp::of(&command, bases);
        let words = command.words(&paths);
        let mut server = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, receiver) = channel();
        let mut to_target = server.stdin.take();
        read(from_client, Peer::Client, sender.clone());
        read(server.stdout.take().unwrap(), Peer::Target, sender);
        let mut events = Vec::new();
        for (peer, bytes) in receiver {
            match (peer, bytes.is_empty()) {
                (Peer::Target, true) => break,
                (peer, true) => {
                    machine.handle_end(peer).unwrap();
                    to_target = None;
                }
                (Peer::Target, false) => machine.handle_target(&bytes).unwrap(),
                (_, false) => machine.handle_client(&bytes).unwrap(),
            }
            while let Some(action) = machine.poll() {
                match action {
                    Action::ToTarget(bytes) => to_target.as_mut().unwrap().write_all(&bytes).unwrap(),
                    Action::ToClient(bytes) => to_client.write_all(&bytes).unwrap(),
                    Action::Event(event) => events.push(event),
                    Action::Ask(ask) => {
                        let permitted = self.permits(ask.what, &ask.path);
                        let text = format!("policy says no to {}", String::from_utf8_lossy(&ask.path));
                        let answer = if permitted {
                            Answer::Allow
                        } else {
                            Answer::Deny { text }
                        };
                        machine.handle_answer(ask.id, answer).unwrap();
                    }
                }
            }
        }
        drop(to_target);
        server.wait().unwrap();
        events
    }

    fn transferred(&self, name: &str, what: What, bytes: u64) -> Event {
        Event::Transferred {
            path: self.remote.join(name).to_str().unwrap().as_bytes().to_vec(),
            what,
            bytes,
        }
    }
}

/// Where a path leads, as the target's `sftp-server` says.
fn resolved(path: &str) -> Base {
    let mut server = Command::new(SFTP_SERVER)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut to_target, mut from_target) = (server.stdin.take().unwrap(), server.stdout.take().unwrap());
    let mut resolver = Resolver::new();
    let ticket = resolver.ask(path.as_bytes(), true).unwrap();
    let mut buffer = vec![0; 4096];
    let resolved = loop {
        to_target.write_all(&resolver.take_bytes()).unwrap();
        if let Some((answered, resolved)) = resolver.poll() {
            assert_eq!(answered, ticket);
            break resolved.unwrap();
        }
        let length = from_target.read(&mut buffer).unwrap();
        resolver.handle_target(&buffer[..length]).unwrap();
    };
    drop(to_target);
    server.wait().unwrap();
    Base {
        path: resolved.path,
        directory: resolved.directory,
    }
}

fn read(mut from: impl Read + Send + 'static, peer: Peer, to: Sender<(Peer, Vec<u8>)>) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 70_000];
        loop {
            let length = from.read(&mut buffer).unwrap();
            if to.send((peer, buffer[..length].to_vec())).is_err() || length == 0 {
                return;
            }
        }
    });
}

#[test]
fn permitted_files_go_both_ways() {
    let Some(room) = Room::new() else { return };
    let down = room.run(&["-p", "@/logs/app.log", "%/got"]);
    assert!(down.succeeded, "{}", down.printed);
    assert_eq!(fs::read(room.local.join("got")).unwrap(), b"a line\n");
    assert_eq!(down.events, [room.transferred("logs/app.log", What::Read, 7)]);

    symlink("app.log", room.remote.join("logs/latest.log")).unwrap();
    let link = room.run(&["@/logs/latest.log", "%/"]);
    assert!(link.succeeded, "{}", link.printed);
    assert_eq!(fs::read(room.local.join("latest.log")).unwrap(), b"a line\n");
    assert_eq!(link.events, [room.transferred("logs/app.log", What::Read, 7)]);
    symlink(room.remote.join("secret/key"), room.remote.join("current")).unwrap();
    let stolen = room.run(&["@/current", "%/stolen"]);
    assert!(
        !stolen.succeeded && stolen.printed.contains("policy says no to"),
        "{}",
        stolen.printed
    );

    let tree = room.run(&["-r", "@/logs", "%/tree"]);
    assert!(tree.succeeded, "{}", tree.printed);
    assert_eq!(fs::read(room.local.join("tree/old/it's.log")).unwrap(), b"old\n");
    assert!(
        tree.events
            .contains(&room.transferred("logs/empty", What::Read, 0))
    );

    let big: Vec<u8> = (0..1_000_000_u32)
        .flat_map(|number| number.to_le_bytes())
        .collect();
    fs::write(room.local.join("tree/big file"), &big).unwrap();
    let up = room.run(&["-r", "-p", "%/tree", "@/upload"]);
    assert!(up.succeeded, "{}", up.printed);
    assert!(
        fs::read(room.remote.join("upload/tree/big file")).unwrap() == big,
        "what went up differs"
    );
    assert!(
        up.events
            .contains(&room.transferred("upload/tree/big file", What::Write, 4_000_000))
    );
    let two = room.run(&["%/got", "%/tree/app.log", "@/upload/tree/old"]);
    assert!(two.succeeded, "{}", two.printed);
    assert_eq!(two.events.len(), 2);
}

#[test]
fn refused_files_do_not_go_and_the_client_says_why() {
    let Some(room) = Room::new() else { return };
    let down = room.run(&["@/secret/key", "%/stolen"]);
    assert!(
        !down.succeeded && down.printed.contains("policy says no to"),
        "{}",
        down.printed
    );
    assert!(!room.local.join("stolen").exists() && down.events.is_empty());

    fs::write(room.local.join("x"), "x").unwrap();
    for to in [
        "@/logs/x",
        "@/logs",
        "@/logs/app.log",
        "@/secret/key",
        "@/upload/../logs/x",
    ] {
        let up = room.run(&["%/x", to]);
        assert!(
            !up.succeeded && up.printed.contains("policy says no to"),
            "{to}: {}",
            up.printed
        );
        assert!(
            up.events.is_empty() && !room.remote.join("logs/x").exists(),
            "{to}"
        );
    }
    assert_eq!(fs::read(room.remote.join("logs/app.log")).unwrap(), b"a line\n");

    // One of a tree is refused; the others go.
    fs::write(room.remote.join("no-old"), "").unwrap();
    let tree = room.run(&["-r", "@/logs", "%/tree"]);
    assert!(
        !tree.succeeded && tree.printed.contains("policy says no to"),
        "{}",
        tree.printed
    );
    assert!(room.local.join("tree/app.log").exists() && !room.local.join("tree/old/it's.log").exists());
}
