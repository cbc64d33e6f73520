use super::*;

use crate::wire::sftp::{
    Attributes, CopyData, Extended, Extension, Init, Name, Names, Request, RequestBody, Version, open,
};

mod handles;
mod hostile;
mod order;
mod paths;
mod splits;

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
    std::iter::from_fn(|| machine.poll().ok().flatten()).collect()
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

/// Questions and their paths; what is sent in the end, and its id.
type Sent = (Vec<(What, Vec<u8>)>, Vec<u8>, u32);

/// Answers REALPATHs with `resolve`, allows what is asked, and gives what is asked and what is sent in the end.
fn through(machine: &mut Sftp, body: RequestBody<'_>, resolve: impl Fn(&[u8]) -> Vec<u8>) -> Sent {
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
        // Names of the target's users: no policy names them.
        Extended::UsersGroupsById {
            users: b"\0\0\0\0",
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
