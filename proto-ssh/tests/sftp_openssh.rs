//! OpenSSH's client and OpenSSH's server with the machine between them.
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

use proto_ssh::sftp::{Action, Answer, Event, Peer, Settings, Sftp, What};

const SERVER: &str = "/usr/lib/openssh/sftp-server";

/// `logs` may be read, `upload` read and written, `secret` is nobody's; `logs/current` leads there.
struct Room {
    folder: tempfile::TempDir,
    root: PathBuf,
}

struct Outcome {
    /// What the client printed, both streams.
    printed: String,
    succeeded: bool,
    /// What was asked.
    asked: Vec<(What, String, &'static str)>,
    events: Vec<Event>,
}

impl Room {
    /// `None` where OpenSSH is not installed.
    fn new() -> Option<Self> {
        if !Path::new(SERVER).exists() || !Path::new("/usr/bin/sftp").exists() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap().join("srv");
        for name in ["logs/old", "upload", "secret"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::write(root.join("logs/app.log"), "a line\n").unwrap();
        fs::write(root.join("logs/with blank.log"), "a blank\n").unwrap();
        fs::write(root.join("secret/key"), "CANARY").unwrap();
        symlink(root.join("secret/key"), root.join("logs/current")).unwrap();
        symlink("app.log", root.join("logs/latest.log")).unwrap();
        symlink(root.join("secret"), root.join("upload/out")).unwrap();
        Some(Self { folder, root })
    }

    fn permits(&self, what: What, path: &str) -> bool {
        let below = |name: &str| {
            let folder = self.root.join(name);
            Path::new(path).starts_with(folder)
        };
        below("upload") || (what == What::Read && below("logs"))
    }

    /// Runs commands of `sftp -b`, with or without the machine.
    fn run(&self, batch: &str, machine: bool) -> Outcome {
        let script = self.folder.path().join("batch");
        fs::write(&script, batch.replace("@", self.root.to_str().unwrap())).unwrap();
        let fifos = tempfile::tempdir().unwrap();
        let (up, down, bridge) = (
            fifos.path().join("up"),
            fifos.path().join("down"),
            fifos.path().join("bridge"),
        );
        let server = if machine {
            assert!(
                Command::new("mkfifo")
                    .args([&up, &down])
                    .status()
                    .unwrap()
                    .success()
            );
            fs::write(
                &bridge,
                format!(
                    "#!/bin/sh\ncat <{} &\nexec cat >{}\n",
                    down.display(),
                    up.display()
                ),
            )
            .unwrap();
            fs::set_permissions(&bridge, fs::Permissions::from_mode(0o755)).unwrap();
            bridge.to_str().unwrap().to_owned()
        } else {
            SERVER.to_owned()
        };
        let client = Command::new("/usr/bin/sftp")
            .args(["-q", "-b", script.to_str().unwrap(), "-D", &server])
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut asked, mut events) = (Vec::new(), Vec::new());
        if machine {
            self.pump(&up, &down, &mut asked, &mut events);
        }
        let output = client.wait_with_output().unwrap();
        Outcome {
            printed: String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
            succeeded: output.status.success(),
            asked,
            events,
        }
    }

    fn pump(
        &self,
        up: &Path,
        down: &Path,
        asked: &mut Vec<(What, String, &'static str)>,
        events: &mut Vec<Event>,
    ) {
        let mut server = Command::new(SERVER)
            .current_dir(&self.root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, receiver) = channel();
        let mut to_client = File::create(down).unwrap();
        let mut to_target = server.stdin.take();
        read(File::open(up).unwrap(), Peer::Client, sender.clone());
        read(server.stdout.take().unwrap(), Peer::Target, sender);
        let mut machine = Sftp::new(Settings { realpath: true });
        for (peer, bytes) in receiver {
            match (peer, bytes.is_empty()) {
                (peer, true) => {
                    machine.handle_end(peer).unwrap();
                    to_target = None;
                }
                (Peer::Target, false) => machine.handle_target(&bytes).unwrap(),
                (_, false) => machine.handle_client(&bytes).unwrap(),
            }
            // Answered late, the last first: no order may matter.
            let mut asks = Vec::new();
            loop {
                match machine.poll().unwrap() {
                    Some(Action::ToTarget(packet)) => to_target.as_mut().unwrap().write_all(&packet).unwrap(),
                    Some(Action::ToClient(packet)) => to_client.write_all(&packet).unwrap(),
                    Some(Action::Event(event)) => events.push(event),
                    Some(Action::Ask(ask)) => asks.push(ask),
                    None => match asks.pop() {
                        Some(ask) => {
                            let path = String::from_utf8(ask.path).unwrap();
                            let answer = match self.permits(ask.what, &path) {
                                true => Answer::Allow,
                                false => Answer::Deny {
                                    text: format!("policy says no to {path}"),
                                },
                            };
                            asked.push((ask.what, path, ask.operation));
                            machine.handle_answer(ask.id, answer).unwrap();
                        }
                        None => break,
                    },
                }
            }
        }
        assert!(machine.is_idle());
        server.wait().unwrap();
    }

    fn path(&self, name: &str) -> Vec<u8> {
        self.root.join(name).to_str().unwrap().as_bytes().to_vec()
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
fn permitted_work_looks_as_it_does_without_the_machine() {
    let Some(room) = Room::new() else { return };
    let here = room.folder.path().join("here");
    fs::create_dir(&here).unwrap();
    let big: Vec<u8> = (0..3_000_000_u32)
        .flat_map(|number| number.to_le_bytes())
        .collect();
    fs::write(here.join("big"), &big).unwrap();
    let batch = format!(
        "pwd\ncd @/logs\nls -1\nls -lan old\nls -ln app.log\nget latest.log {here}/got\nget \"with blank.log\" {here}/blank\n\
         cd ../upload\nmkdir d\nput {here}/big d/big\nrename d/big b\nget b {here}/back\nchmod 600 b\nln -s anywhere l\n\
         ln b hard\nls -1\ncp b copied\nrm copied\nrm l\nrm hard\nrm b\nrmdir d\nls -1 @/upload\ndf @/logs\n",
        here = here.display()
    );
    let direct = room.run(&batch, false);
    assert!(direct.succeeded, "{}", direct.printed);
    let through = room.run(&batch, true);
    assert!(through.succeeded, "{}", through.printed);
    // A client asks for names of users and groups by an extension that says more than a policy of paths can permit: it is not
    // offered, and what stands there are numbers.
    let number = |word: &str| {
        let same = word.len() == 8 && word.starts_with("root");
        if same {
            "0       ".to_owned()
        } else {
            word.to_owned()
        }
    };
    let steady = |printed: &str| {
        printed
            .lines()
            .filter(|line| !line.contains('%') && !line.starts_with("Size"))
            .map(|line| match line.split_at_checked(16) {
                Some((mode, rest)) if mode.starts_with(['d', '-']) && mode.ends_with("? ") => {
                    let (user, rest) = rest.split_at_checked(8).unwrap_or((rest, ""));
                    let (gap, rest) = rest.split_at_checked(1).unwrap_or((rest, ""));
                    let (group, rest) = rest.split_at_checked(8).unwrap_or((rest, ""));
                    format!("{mode}{}{gap}{}{rest}", number(user), number(group))
                }
                _ => line.to_owned(),
            })
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(steady(&through.printed), steady(&direct.printed));
    assert!(
        fs::read(here.join("back")).unwrap() == big,
        "what came back differs"
    );
    assert_eq!(fs::read(here.join("got")).unwrap(), b"a line\n");

    let all = u64::try_from(big.len()).unwrap();
    let closed = |name, read, written| Event::Closed {
        path: room.path(name),
        read,
        written,
    };
    for event in [
        closed("logs/app.log", 7, 0),
        closed("upload/d/big", 0, all),
        closed("upload/b", all, 0),
        Event::DirectoryMade {
            path: room.path("upload/d"),
        },
        Event::Renamed {
            old: room.path("upload/d/big"),
            new: room.path("upload/b"),
        },
        Event::Symlinked {
            target: b"anywhere".to_vec(),
            link: room.path("upload/l"),
        },
        Event::Hardlinked {
            old: room.path("upload/b"),
            new: room.path("upload/hard"),
        },
        Event::Removed {
            path: room.path("upload/b"),
        },
        Event::DirectoryRemoved {
            path: room.path("upload/d"),
        },
        Event::Copied {
            from: room.path("upload/b"),
            to: room.path("upload/copied"),
            length: 0,
        },
    ] {
        assert!(
            through.events.contains(&event),
            "{event:?} in {:?}",
            through.events
        );
    }
    assert!(
        through
            .asked
            .iter()
            .all(|(what, path, _)| room.permits(*what, path)),
        "{:?}",
        through.asked
    );
}

#[test]
fn no_spelling_of_a_path_leads_out_of_what_is_permitted() {
    let Some(room) = Room::new() else { return };
    let here = room.folder.path().join("here");
    fs::create_dir(&here).unwrap();
    fs::write(here.join("x"), "x").unwrap();
    let commands = [
        "get @/secret/key HERE/stolen",
        "get @/logs/current HERE/stolen",
        "get @/logs/../secret/key HERE/stolen",
        "get @//logs/./old/../../secret/key HERE/stolen",
        "get secret/key HERE/stolen",
        "get @/upload/out/key HERE/stolen",
        "reget @/logs/current HERE/stolen",
        "ls @/secret",
        "ls @/upload/out/",
        "put HERE/x @/logs/app.log",
        "put HERE/x @/logs/new",
        "put HERE/x @/upload/out/new",
        "put HERE/x @/logs/current",
        "rename @/logs/app.log @/upload/app.log",
        "rename @/upload/out/key @/upload/key",
        "rename @/upload/there @/logs/there",
        "rm @/logs/app.log",
        "rm @/upload/out/key",
        "mkdir @/logs/d",
        "rmdir @/logs/old",
        "chmod 777 @/logs/app.log",
        "chmod 777 @/upload/out",
        "ln @/secret/key @/upload/hard",
        "ln @/logs/current @/upload/hard",
        "ln -s anything @/logs/l",
        "cp @/secret/key @/upload/copied",
        "cp @/logs/app.log @/logs/copied",
        "df @/secret",
    ];
    let before = listing(&room.root);
    for command in commands {
        fs::write(room.root.join("upload/there"), "there").unwrap();
        let outcome = room.run(&command.replace("HERE", here.to_str().unwrap()), true);
        fs::remove_file(room.root.join("upload/there")).unwrap();
        assert!(!outcome.succeeded, "{command}: {}", outcome.printed);
        assert!(!outcome.printed.contains("CANARY"), "{command}");
        assert!(
            outcome
                .asked
                .iter()
                .any(|(what, path, _)| !room.permits(*what, path)),
            "{command}: {:?}",
            outcome.asked
        );
        assert!(
            !fs::read_to_string(here.join("stolen"))
                .unwrap_or_default()
                .contains("CANARY"),
            "{command}"
        );
        assert_eq!(listing(&room.root), before, "{command} changed something");
    }
}

/// Every path below with its mode and length.
fn listing(folder: &Path) -> Vec<(PathBuf, u32, u64)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            all.extend(listing(&path));
        }
        // A folder's length says how many names it once had.
        let length = if metadata.is_dir() { 0 } else { metadata.len() };
        all.push((path, metadata.permissions().mode(), length));
    }
    all.sort();
    all
}
