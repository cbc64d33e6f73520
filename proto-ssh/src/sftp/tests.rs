use super::*;
use crate::wire::sftp::{
    Attributes, CopyData, Extended, Extension, Init, Name, Names, Request, RequestBody, Version, open,
};

const PATHS: Settings = Settings { realpath: true };

fn init() -> Vec<u8> {
    Init {
        version: 3,
        extensions: vec![Extension {
            name: b"x@y",
            data: b"1",
        }],
    }
    .encode()
    .unwrap()
}

fn version() -> Vec<u8> {
    let extension = |name: &'static str, data: &'static str| Extension {
        name: name.as_bytes(),
        data: data.as_bytes(),
    };
    let extensions = vec![
        extension("posix-rename@openssh.com", "1"),
        extension("statvfs@openssh.com", "2"),
        extension("fstatvfs@openssh.com", "3"),
        extension("hardlink@openssh.com", "1"),
        extension("fsync@openssh.com", "1"),
        extension("copy-data", "1"),
        extension("home-directory", "1"),
        extension("users-groups-by-id@openssh.com", "1"),
        extension("evil@example.com", "1"),
    ];
    Version {
        version: 3,
        extensions,
    }
    .encode()
    .unwrap()
}

fn request(id: u32, body: RequestBody<'_>) -> Vec<u8> {
    Request { id, body }.encode().unwrap()
}

fn response(id: u32, body: ResponseBody<'_>) -> Vec<u8> {
    Response { id, body }.encode().unwrap()
}

fn one_name(id: u32, path: &[u8]) -> Vec<u8> {
    let name = Name {
        filename: path,
        longname: b"",
        attributes: Attributes::default(),
    };
    response(id, ResponseBody::Name(Names(vec![name])))
}

fn of_status(id: u32, code: u32) -> Vec<u8> {
    response(
        id,
        ResponseBody::Status {
            code,
            message: b"",
            language: b"",
        },
    )
}

fn actions(machine: &mut Sftp) -> Vec<Action> {
    std::iter::from_fn(|| machine.poll()).collect()
}

/// A session after its first packets.
fn begun() -> Sftp {
    let mut machine = Sftp::new(PATHS);
    machine.handle_client(&init()).unwrap();
    machine.handle_target(&version()).unwrap();
    actions(&mut machine);
    machine
}

/// The one packet that goes to the target.
fn sent(machine: &mut Sftp) -> (u32, Vec<u8>) {
    match actions(machine).as_slice() {
        [Action::ToTarget(packet)] => {
            let Request { id, .. } = Request::parse(&packet[4..]).unwrap();
            (id, with_id(packet.clone(), 0))
        }
        other => panic!("{other:?}"),
    }
}

/// The status that the client gets.
fn refused(machine: &mut Sftp) -> (u32, u32) {
    match actions(machine).as_slice() {
        [Action::ToClient(packet)] => match Response::parse(&packet[4..]).unwrap() {
            Response {
                id,
                body: ResponseBody::Status { code, .. },
            } => (id, code),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Answers REALPATHs with `resolve`, allows what is asked, and gives what is asked and what is sent in the end.
fn through(
    machine: &mut Sftp,
    body: RequestBody<'_>,
    resolve: impl Fn(&[u8]) -> Vec<u8>,
) -> (Vec<(What, Vec<u8>)>, Vec<u8>, u32) {
    machine.handle_client(&request(77, body)).unwrap();
    let queries = actions(machine);
    for query in queries {
        let Action::ToTarget(packet) = query else {
            panic!("{query:?}")
        };
        let Request {
            id,
            body: RequestBody::Realpath { path },
        } = Request::parse(&packet[4..]).unwrap()
        else {
            panic!("no REALPATH: {packet:?}")
        };
        machine.handle_target(&one_name(id, &resolve(path))).unwrap();
    }
    let mut asked = Vec::new();
    for action in actions(machine) {
        let Action::Ask(ask) = action else {
            panic!("{action:?}")
        };
        asked.push((ask.what, ask.path));
        machine.handle_answer(ask.id, Answer::Allow).unwrap();
    }
    let (id, packet) = sent(machine);
    (asked, packet, id)
}

fn opened(machine: &mut Sftp, flags: u32, path: &[u8], handle: &[u8]) {
    let body = RequestBody::Open {
        path,
        flags,
        attributes: Attributes::default(),
    };
    let (_, _, id) = through(machine, body, <[u8]>::to_vec);
    machine
        .handle_target(&response(id, ResponseBody::Handle { handle }))
        .unwrap();
    assert_eq!(actions(machine).len(), 2);
}

#[test]
fn version_is_cut_down_to_what_is_decided() {
    let mut machine = Sftp::new(PATHS);
    machine.handle_client(&init()).unwrap();
    assert!(!machine.wants_client());
    assert_eq!(
        actions(&mut machine),
        [Action::ToTarget(
            Init {
                version: 3,
                extensions: vec![]
            }
            .encode()
            .unwrap()
        )]
    );
    machine.handle_target(&version()).unwrap();
    let [Action::ToClient(packet)] = &actions(&mut machine)[..] else {
        panic!()
    };
    let announced = Version::parse(&packet[4..]).unwrap().unwrap();
    let names: Vec<_> = announced
        .extensions
        .iter()
        .map(|extension| std::str::from_utf8(extension.name).unwrap())
        .collect();
    // Not fstatvfs: another version of it than the one that is understood.
    assert_eq!(
        names,
        [
            "posix-rename@openssh.com",
            "statvfs@openssh.com",
            "hardlink@openssh.com",
            "fsync@openssh.com",
            "copy-data"
        ]
    );
    for extended in [
        Extended::HomeDirectory { user: b"x" },
        Extended::UsersGroupsById {
            users: b"",
            groups: b"",
        },
        Extended::Unknown {
            name: b"evil@example.com",
            data: b"",
        },
        Extended::Fstatvfs { handle: b"h" },
    ] {
        machine
            .handle_client(&request(5, RequestBody::Extended(extended)))
            .unwrap();
        assert_eq!(refused(&mut machine), (5, status::OP_UNSUPPORTED));
    }
    machine
        .handle_client(&request(6, RequestBody::Unknown { kind: 99, data: b"" }))
        .unwrap();
    assert_eq!(refused(&mut machine), (6, status::OP_UNSUPPORTED));
}

#[test]
fn the_resolved_path_is_decided_and_sent() {
    use What::{Read, Write};
    let attributes = Attributes {
        permissions: Some(0o600),
        ..Attributes::default()
    };
    let resolve = |query: &[u8]| match query {
        b"." => b"/home/deploy".to_vec(),
        b"/l/" => b"/srv".to_vec(),
        b"/l/\xff" => b"/secret".to_vec(),
        other => other.strip_suffix(b"/").unwrap_or(other).to_vec(),
    };
    let (path, whole, last): (&[u8], &[u8], &[u8]) = (b"/l/\xff", b"/secret", b"/srv/\xff");
    let open = |path, flags| RequestBody::Open {
        path,
        flags,
        attributes: attributes.clone(),
    };
    let extended = RequestBody::Extended;
    let cases = [
        (
            open(path, open::READ),
            open(whole, open::READ),
            vec![(Read, whole)],
        ),
        (
            open(path, open::READ | open::WRITE),
            open(whole, open::READ | open::WRITE),
            vec![(Read, whole), (Write, whole)],
        ),
        (
            open(path, open::WRITE),
            open(whole, open::WRITE),
            vec![(Write, whole)],
        ),
        (
            RequestBody::Stat { path },
            RequestBody::Stat { path: whole },
            vec![(Read, whole)],
        ),
        (
            RequestBody::Lstat { path },
            RequestBody::Lstat { path: last },
            vec![(Read, last)],
        ),
        (
            RequestBody::Opendir { path },
            RequestBody::Opendir { path: whole },
            vec![(Read, whole)],
        ),
        (
            RequestBody::Readlink { path },
            RequestBody::Readlink { path: last },
            vec![(Read, last)],
        ),
        (
            RequestBody::Remove { path },
            RequestBody::Remove { path: last },
            vec![(Write, last)],
        ),
        (
            RequestBody::Rmdir { path },
            RequestBody::Rmdir { path: last },
            vec![(Write, last)],
        ),
        (
            RequestBody::Rename { old: path, new: b"x" },
            RequestBody::Rename {
                old: last,
                new: b"/home/deploy/x",
            },
            vec![(Write, last), (Write, b"/home/deploy/x")],
        ),
        (
            RequestBody::Symlink {
                target: b"../any",
                link: path,
            },
            RequestBody::Symlink {
                target: b"../any",
                link: last,
            },
            vec![(Write, last)],
        ),
        (
            RequestBody::Mkdir {
                path,
                attributes: attributes.clone(),
            },
            RequestBody::Mkdir {
                path: last,
                attributes: attributes.clone(),
            },
            vec![(Write, last)],
        ),
        (
            RequestBody::Setstat {
                path,
                attributes: attributes.clone(),
            },
            RequestBody::Setstat {
                path: whole,
                attributes: attributes.clone(),
            },
            vec![(Write, whole)],
        ),
        (
            extended(Extended::PosixRename { old: path, new: path }),
            extended(Extended::PosixRename { old: last, new: last }),
            vec![(Write, last), (Write, last)],
        ),
        (
            extended(Extended::Hardlink { old: path, new: path }),
            extended(Extended::Hardlink {
                old: whole,
                new: last,
            }),
            vec![(Read, whole), (Write, last)],
        ),
        (
            extended(Extended::Statvfs { path }),
            extended(Extended::Statvfs { path: whole }),
            vec![(Read, whole)],
        ),
    ];
    for (body, expected, asks) in cases {
        let mut machine = begun();
        let (asked, packet, _) = through(&mut machine, body, resolve);
        assert_eq!(packet, request(0, expected));
        assert_eq!(
            asked,
            asks.into_iter()
                .map(|(what, path)| (what, path.to_vec()))
                .collect::<Vec<_>>()
        );
    }
}

#[test]
fn any_flag_of_open_but_read_is_a_write() {
    use What::{Read, Write};
    for (flags, expected) in [
        (0, vec![Read]),
        (open::READ, vec![Read]),
        (open::APPEND, vec![Read, Write]),
        (open::READ | open::TRUNC, vec![Read, Write]),
        (open::CREAT, vec![Read, Write]),
        (open::WRITE | open::APPEND, vec![Write]),
        (open::EXCL, vec![Read, Write]),
    ] {
        let mut machine = begun();
        let body = RequestBody::Open {
            path: b"/a",
            flags,
            attributes: Attributes::default(),
        };
        let (asked, ..) = through(&mut machine, body, <[u8]>::to_vec);
        assert_eq!(
            asked.into_iter().map(|(what, _)| what).collect::<Vec<_>>(),
            expected,
            "{flags:#x}"
        );
    }
    // A flag of later versions: asked as a write, then refused.
    let mut machine = begun();
    machine
        .handle_client(&request(
            1,
            RequestBody::Open {
                path: b"/a",
                flags: 0x42,
                attributes: Attributes::default(),
            },
        ))
        .unwrap();
    let (id, _) = sent(&mut machine);
    machine.handle_target(&one_name(id, b"/a")).unwrap();
    let [Action::Ask(ask)] = &actions(&mut machine)[..] else {
        panic!()
    };
    assert_eq!(ask.what, Write);
    machine.handle_answer(ask.id, Answer::Allow).unwrap();
    assert_eq!(refused(&mut machine), (1, status::OP_UNSUPPORTED));
}

#[test]
fn a_refusal_is_permission_denied_with_text_and_the_session_lives() {
    let mut machine = begun();
    machine
        .handle_client(&request(
            9,
            RequestBody::Rename {
                old: b"/a",
                new: b"/b",
            },
        ))
        .unwrap();
    for action in actions(&mut machine) {
        let Action::ToTarget(packet) = action else {
            panic!()
        };
        machine
            .handle_target(&one_name(Request::parse(&packet[4..]).unwrap().id, b"/"))
            .unwrap();
    }
    let [Action::Ask(old), Action::Ask(new)] = &actions(&mut machine)[..] else {
        panic!()
    };
    machine
        .handle_answer(
            new.id,
            Answer::Deny {
                text: "é".repeat(1000),
            },
        )
        .unwrap();
    let [Action::ToClient(packet)] = &actions(&mut machine)[..] else {
        panic!()
    };
    let ResponseBody::Status { code, message, .. } = Response::parse(&packet[4..]).unwrap().body else {
        panic!()
    };
    assert_eq!(
        (code, std::str::from_utf8(message).unwrap()),
        (status::PERMISSION_DENIED, "é".repeat(512).as_str())
    );
    // The other answer comes late and changes nothing.
    machine.handle_answer(old.id, Answer::Allow).unwrap();
    assert_eq!(actions(&mut machine), []);
    assert!(machine.is_idle() && machine.wants_client());
    assert_eq!(
        machine.handle_answer(old.id, Answer::Allow).unwrap_err().fault,
        Fault::NoSuchQuestion
    );
}

#[test]
fn paths_that_no_target_has_are_refused_at_once() {
    let mut machine = begun();
    for (path, code) in [
        (&b""[..], status::NO_SUCH_FILE),
        (b"/a\0b", status::PERMISSION_DENIED),
        (&[b'a'; 5000], status::FAILURE),
    ] {
        machine
            .handle_client(&request(1, RequestBody::Stat { path }))
            .unwrap();
        assert_eq!(refused(&mut machine), (1, code));
        machine
            .handle_client(&request(
                1,
                RequestBody::Rename {
                    old: b"/x",
                    new: path,
                },
            ))
            .unwrap();
        assert_eq!(refused(&mut machine), (1, code));
    }
    for path in [&b"/a\0"[..], &[b'a'; 5000]] {
        machine
            .handle_client(&request(1, RequestBody::Realpath { path }))
            .unwrap();
        assert_ne!(refused(&mut machine).1, status::OK);
        machine
            .handle_client(&request(
                1,
                RequestBody::Symlink {
                    target: path,
                    link: b"/l",
                },
            ))
            .unwrap();
        assert_ne!(refused(&mut machine).1, status::OK);
    }
    // The target's word for a path is not taken where it is not canonical.
    for lie in [&b"srv"[..], b"/srv/../etc", b"/srv//x", b"/a\0b", b""] {
        machine
            .handle_client(&request(2, RequestBody::Stat { path: b"x" }))
            .unwrap();
        let (id, _) = sent(&mut machine);
        machine.handle_target(&one_name(id, lie)).unwrap();
        assert_eq!(refused(&mut machine), (2, status::PERMISSION_DENIED));
    }
    // What the target says about a path that it can't resolve is the answer.
    machine
        .handle_client(&request(3, RequestBody::Stat { path: b"/no/where" }))
        .unwrap();
    let (id, _) = sent(&mut machine);
    machine
        .handle_target(&of_status(id, status::NO_SUCH_FILE))
        .unwrap();
    assert_eq!(refused(&mut machine), (3, status::NO_SUCH_FILE));
}

#[test]
fn realpath_is_answered_only_where_some_sftp_may_be_permitted() {
    let mut machine = begun();
    machine
        .handle_client(&request(4, RequestBody::Realpath { path: b"." }))
        .unwrap();
    let (id, _) = sent(&mut machine);
    machine.handle_target(&one_name(id, b"/home")).unwrap();
    assert_eq!(actions(&mut machine), [Action::ToClient(one_name(4, b"/home"))]);
    machine.settings.realpath = false;
    machine
        .handle_client(&request(4, RequestBody::Realpath { path: b"." }))
        .unwrap();
    assert_eq!(refused(&mut machine), (4, status::PERMISSION_DENIED));
}

#[test]
fn handles_are_of_use_only_for_what_they_were_granted() {
    let read = |handle| RequestBody::Read {
        handle,
        offset: 0,
        length: 10,
    };
    let write = |handle| RequestBody::Write {
        handle,
        offset: 0,
        data: b"abc",
    };
    let mut machine = begun();
    opened(&mut machine, open::READ, b"/r", b"R");
    opened(&mut machine, open::WRITE, b"/w", b"W");
    let (_, _, id) = through(&mut machine, RequestBody::Opendir { path: b"/d" }, <[u8]>::to_vec);
    machine
        .handle_target(&response(id, ResponseBody::Handle { handle: b"D" }))
        .unwrap();
    actions(&mut machine);

    let copy = |from, to| {
        RequestBody::Extended(Extended::CopyData(CopyData {
            from,
            from_offset: 0,
            length: 0,
            to,
            to_offset: 0,
        }))
    };
    let setstat = |handle| RequestBody::Fsetstat {
        handle,
        attributes: Attributes::default(),
    };
    let fsync = |handle| RequestBody::Extended(Extended::Fsync { handle });
    let denied = [
        write(b"R"),
        setstat(b"R"),
        fsync(b"R"),
        read(b"W"),
        RequestBody::Readdir { handle: b"R" },
        RequestBody::Readdir { handle: b"W" },
        read(b"D"),
        write(b"D"),
        setstat(b"D"),
        copy(b"R", b"R"),
        copy(b"W", b"W"),
        copy(b"W", b"R"),
        copy(b"D", b"W"),
    ];
    for body in denied {
        machine.handle_client(&request(1, body)).unwrap();
        assert_eq!(refused(&mut machine), (1, status::PERMISSION_DENIED));
    }
    for body in [
        read(b"x"),
        write(b"x"),
        RequestBody::Close { handle: b"x" },
        RequestBody::Fstat { handle: b"" },
        RequestBody::Readdir { handle: b"x" },
        copy(b"R", b"x"),
    ] {
        machine.handle_client(&request(1, body)).unwrap();
        assert_eq!(refused(&mut machine), (1, status::FAILURE));
    }
    for body in [
        copy(b"R", b"W"),
        setstat(b"W"),
        fsync(b"W"),
        RequestBody::Fstat { handle: b"R" },
        RequestBody::Fstat { handle: b"D" },
        RequestBody::Readdir { handle: b"D" },
    ] {
        machine.handle_client(&request(1, body.clone())).unwrap();
        assert_eq!(sent(&mut machine).1, request(0, body));
    }
    machine
        .handle_client(&request(1, RequestBody::Close { handle: b"R" }))
        .unwrap();
    sent(&mut machine);
    machine.handle_client(&request(1, read(b"R"))).unwrap();
    assert_eq!(refused(&mut machine), (1, status::FAILURE));
}

#[test]
fn what_went_through_a_handle_is_reported_when_it_is_closed() {
    let mut machine = begun();
    opened(&mut machine, open::READ | open::WRITE, b"/f", b"H");
    machine
        .handle_client(&request(
            1,
            RequestBody::Read {
                handle: b"H",
                offset: 0,
                length: 4,
            },
        ))
        .unwrap();
    let (read, _) = sent(&mut machine);
    machine
        .handle_client(&request(
            2,
            RequestBody::Write {
                handle: b"H",
                offset: 0,
                data: b"abc",
            },
        ))
        .unwrap();
    let (write, _) = sent(&mut machine);
    machine
        .handle_client(&request(3, RequestBody::Close { handle: b"H" }))
        .unwrap();
    let (close, _) = sent(&mut machine);
    machine
        .handle_target(&response(read, ResponseBody::Data { data: b"1234" }))
        .unwrap();
    machine.handle_target(&of_status(write, status::OK)).unwrap();
    machine.handle_target(&of_status(close, status::OK)).unwrap();
    let last = actions(&mut machine).pop();
    assert_eq!(
        last,
        Some(Action::Event(Event::Closed {
            path: b"/f".to_vec(),
            read: 4,
            written: 3
        }))
    );
    opened(&mut machine, open::READ, b"/g", b"H");
    machine.finish();
    assert_eq!(
        actions(&mut machine),
        [Action::Event(Event::Closed {
            path: b"/g".to_vec(),
            read: 0,
            written: 0
        })]
    );
}

#[test]
fn ids_of_the_client_never_meet_those_of_the_machine() {
    let mut machine = begun();
    opened(&mut machine, open::READ, b"/f", b"H");
    let mut ids = Vec::new();
    // The same id, three times at once.
    for offset in 0..3 {
        machine
            .handle_client(&request(
                1,
                RequestBody::Read {
                    handle: b"H",
                    offset,
                    length: 4,
                },
            ))
            .unwrap();
        ids.push(sent(&mut machine).0);
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    for id in ids {
        machine
            .handle_target(&response(id, ResponseBody::Data { data: b"x" }))
            .unwrap();
        assert_eq!(
            actions(&mut machine),
            [Action::ToClient(response(1, ResponseBody::Data { data: b"x" }))]
        );
    }
}

#[test]
fn a_target_that_breaks_the_protocol_ends_the_session() {
    let name = |filename| Name {
        filename,
        longname: b"",
        attributes: Attributes::default(),
    };
    let read = RequestBody::Read {
        handle: b"H",
        offset: 0,
        length: 2,
    };
    let listing = RequestBody::Readdir { handle: b"D" };
    let realpath = RequestBody::Realpath { path: b"." };
    let stat = RequestBody::Fstat { handle: b"H" };
    let cases: [(RequestBody<'_>, ResponseBody<'_>, Fault); 12] = [
        (read.clone(), ResponseBody::Data { data: b"abc" }, Fault::Data),
        (
            read.clone(),
            ResponseBody::Handle { handle: b"x" },
            Fault::WrongType,
        ),
        (
            read,
            ResponseBody::Status {
                code: status::OK,
                message: b"",
                language: b"",
            },
            Fault::WrongType,
        ),
        (stat.clone(), ResponseBody::Data { data: b"" }, Fault::WrongType),
        (
            stat.clone(),
            ResponseBody::Unknown { kind: 99, data: b"" },
            Fault::WrongType,
        ),
        (stat, ResponseBody::ExtendedReply { data: b"" }, Fault::WrongType),
        (realpath.clone(), ResponseBody::Name(Names(vec![])), Fault::Names),
        (
            realpath,
            ResponseBody::Name(Names(vec![name(b"/a"), name(b"/b")])),
            Fault::Names,
        ),
        (
            listing.clone(),
            ResponseBody::Name(Names(vec![name(b"a"), name(b"../b")])),
            Fault::Names,
        ),
        (
            listing.clone(),
            ResponseBody::Name(Names(vec![name(b"")])),
            Fault::Names,
        ),
        (
            listing.clone(),
            ResponseBody::Name(Names(vec![name(b"a\0")])),
            Fault::Names,
        ),
        (
            listing,
            ResponseBody::Attrs(Attributes::default()),
            Fault::WrongType,
        ),
    ];
    for (body, answer, fault) in cases {
        let mut machine = begun();
        opened(&mut machine, open::READ, b"/f", b"H");
        let (_, _, id) = through(&mut machine, RequestBody::Opendir { path: b"/d" }, <[u8]>::to_vec);
        machine
            .handle_target(&response(id, ResponseBody::Handle { handle: b"D" }))
            .unwrap();
        actions(&mut machine);
        machine.handle_client(&request(1, body)).unwrap();
        let (id, _) = sent(&mut machine);
        let error = Error {
            peer: Peer::Target,
            fault,
        };
        assert_eq!(machine.handle_target(&response(id, answer)), Err(error));
        assert_eq!(
            machine.handle_client(&request(1, RequestBody::Stat { path: b"/" })),
            Err(error)
        );
        assert!(!machine.wants_client() && !machine.wants_target() && machine.poll().is_none());
    }
    let first = |bytes: &[u8]| Sftp::new(PATHS).handle_target(bytes).unwrap_err().fault;
    assert_eq!(first(&version()), Fault::Start);
    assert_eq!(begun().handle_target(&version()).unwrap_err().fault, Fault::Start);
    assert_eq!(
        begun().handle_target(&of_status(1, 0)).unwrap_err().fault,
        Fault::Unsolicited
    );
    assert_eq!(
        begun().handle_target(&[0xff; 4]).unwrap_err().fault,
        Fault::Malformed(crate::wire::sftp::Malformed::Length)
    );
}

#[test]
fn a_handle_that_is_given_twice_ends_the_session() {
    let mut machine = begun();
    opened(&mut machine, open::READ, b"/public", b"H");
    let body = RequestBody::Open {
        path: b"/other",
        flags: open::WRITE,
        attributes: Attributes::default(),
    };
    let (_, _, id) = through(&mut machine, body, <[u8]>::to_vec);
    assert_eq!(
        machine
            .handle_target(&response(id, ResponseBody::Handle { handle: b"H" }))
            .unwrap_err()
            .fault,
        Fault::HandleTwice
    );
}

#[test]
fn a_client_that_breaks_the_protocol_ends_the_session() {
    let first = |bytes: &[u8]| Sftp::new(PATHS).handle_client(bytes).unwrap_err().fault;
    assert_eq!(first(&request(1, RequestBody::Stat { path: b"/" })), Fault::Start);
    assert_eq!(
        first(
            &Init {
                version: 2,
                extensions: vec![]
            }
            .encode()
            .unwrap()
        ),
        Fault::Version(2)
    );
    assert_eq!(begun().handle_client(&init()).unwrap_err().fault, Fault::Start);
    assert!(begun().handle_client(b"\0\0\0\x06\x11\0\0\0\x01\0").is_err());
    let mut machine = begun();
    machine.handle_client(b"\0\0").unwrap();
    assert_eq!(
        machine.handle_end(Peer::Client).unwrap_err().fault,
        Fault::Truncated
    );
}

#[test]
fn requests_and_handles_are_bounded() {
    let mut machine = begun();
    for number in 0..2 * u32::try_from(MAX_OPEN).unwrap() {
        machine
            .handle_client(&request(number, RequestBody::Stat { path: b"/a" }))
            .unwrap();
    }
    assert!(!machine.wants_client() && machine.wants_target());
    let first = actions(&mut machine);
    assert_eq!(first.len(), MAX_OPEN);
    // One is answered, one more goes out.
    let Action::ToTarget(packet) = &first[0] else {
        panic!()
    };
    machine
        .handle_target(&of_status(
            Request::parse(&packet[4..]).unwrap().id,
            status::FAILURE,
        ))
        .unwrap();
    assert_eq!(actions(&mut machine).len(), 2);

    let mut machine = begun();
    for number in 0..MAX_HANDLES {
        opened(&mut machine, open::READ, b"/f", number.to_string().as_bytes());
    }
    machine
        .handle_client(&request(1, RequestBody::Opendir { path: b"/" }))
        .unwrap();
    let (id, _) = sent(&mut machine);
    machine.handle_target(&one_name(id, b"/")).unwrap();
    let [Action::Ask(ask)] = &actions(&mut machine)[..] else {
        panic!()
    };
    machine.handle_answer(ask.id, Answer::Allow).unwrap();
    assert_eq!(refused(&mut machine), (1, status::FAILURE));

    let mut machine = begun();
    let long = vec![0; MAX_WAITING];
    let attributes = Attributes {
        extended: vec![(b"x", &long)],
        ..Attributes::default()
    };
    machine
        .handle_client(&request(
            1,
            RequestBody::Mkdir {
                path: b"/a",
                attributes,
            },
        ))
        .unwrap();
    assert_eq!(refused(&mut machine), (1, status::FAILURE));
}

#[test]
fn a_side_that_is_not_read_stops_the_other() {
    let mut machine = begun();
    opened(&mut machine, open::WRITE, b"/f", b"H");
    let data = vec![0; 200_000];
    for _ in 0..10 {
        machine
            .handle_client(&request(
                1,
                RequestBody::Write {
                    handle: b"H",
                    offset: 0,
                    data: &data,
                },
            ))
            .unwrap();
    }
    assert!(!machine.wants_client());
    assert!(machine.queued_for_target < MAX_QUEUED + data.len() + 100);
    while machine.poll().is_some() {}
    assert!(machine.wants_client());
    // What waited goes on with the next call.
    machine.handle_client(b"").unwrap();
    assert_eq!(actions(&mut machine).len(), 4);
}

/// A session in which every kind of thing happens, as bytes of both sides.
fn play(split: &mut dyn FnMut(usize) -> usize) -> Vec<Action> {
    let mut machine = Sftp::new(PATHS);
    let mut all = Vec::new();
    let requests = [
        init(),
        request(1, RequestBody::Realpath { path: b"." }),
        request(
            1,
            RequestBody::Open {
                path: b"/a",
                flags: 3,
                attributes: Attributes::default(),
            },
        ),
        request(
            2,
            RequestBody::Rename {
                old: b"/denied",
                new: b"/b",
            },
        ),
        request(
            3,
            RequestBody::Write {
                handle: b"H",
                offset: 0,
                data: b"abc",
            },
        ),
        request(3, RequestBody::Remove { path: b"/c" }),
        request(4, RequestBody::Close { handle: b"H" }),
    ];
    for packet in requests {
        let mut to_feed: VecDeque<(Peer, Vec<u8>)> = VecDeque::from([(Peer::Client, packet)]);
        while let Some((peer, bytes)) = to_feed.pop_front() {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (part, after) = rest.split_at(split(rest.len()));
                match peer {
                    Peer::Client => machine.handle_client(part).unwrap(),
                    _ => machine.handle_target(part).unwrap(),
                }
                rest = after;
                while let Some(action) = machine.poll() {
                    match &action {
                        Action::ToTarget(packet) => to_feed.push_back((Peer::Target, reply(packet))),
                        Action::Ask(ask) if ask.path.starts_with(b"/denied") => {
                            machine
                                .handle_answer(
                                    ask.id,
                                    Answer::Deny {
                                        text: "no".to_owned(),
                                    },
                                )
                                .unwrap();
                        }
                        Action::Ask(ask) => machine.handle_answer(ask.id, Answer::Allow).unwrap(),
                        Action::ToClient(_) | Action::Event(_) => {}
                    }
                    all.push(action);
                }
            }
        }
    }
    assert!(machine.is_idle());
    all
}

/// A target that does everything.
fn reply(packet: &[u8]) -> Vec<u8> {
    let Ok(Request { id, body }) = Request::parse(&packet[4..]) else {
        return version();
    };
    match body {
        _ if packet[4] == kind::INIT => version(),
        RequestBody::Realpath { path } => one_name(
            id,
            if path.starts_with(b"/") {
                path.strip_suffix(b"/")
                    .filter(|path| !path.is_empty())
                    .unwrap_or(path)
            } else {
                b"/home"
            },
        ),
        RequestBody::Open { .. } => response(id, ResponseBody::Handle { handle: b"H" }),
        _ => of_status(id, status::OK),
    }
}

#[test]
fn any_split_of_the_bytes_gives_the_same_actions() {
    let whole = play(&mut |length| length);
    assert!(whole.len() > 20, "{whole:?}");
    for size in [1, 2, 3, 5, 7, 11] {
        assert_eq!(
            play(&mut |length| size.min(length)),
            whole,
            "{size} bytes at a time"
        );
    }
}
