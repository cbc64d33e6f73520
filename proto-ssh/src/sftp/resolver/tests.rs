use super::*;
use crate::wire::sftp::{Attributes, Name};

fn begun() -> Resolver {
    let mut resolver = Resolver::new();
    assert_eq!(resolver.take_bytes(), b"\0\0\0\x05\x01\0\0\0\x03");
    resolver
        .handle_target(
            &Version {
                version: 3,
                extensions: Vec::new(),
            }
            .encode()
            .unwrap(),
        )
        .unwrap();
    resolver
}

fn answer(resolver: &mut Resolver, id: u32, body: ResponseBody<'_>) -> Result<(), Error> {
    resolver.handle_target(&Response { id, body }.encode().unwrap())
}

fn name(path: &[u8]) -> ResponseBody<'_> {
    ResponseBody::Name(Names(vec![Name {
        filename: path,
        longname: b"",
        attributes: Attributes::default(),
    }]))
}

fn of_status(code: u32) -> ResponseBody<'static> {
    ResponseBody::Status {
        code,
        message: b"",
        language: b"",
    }
}

#[test]
fn a_path_is_resolved_and_looked_at() {
    let mode = |mode| {
        ResponseBody::Attrs(Attributes {
            permissions: Some(mode),
            ..Attributes::default()
        })
    };
    let cases = [
        (mode(0o040_755), Some(true)),
        (mode(0o100_644), Some(false)),
        (ResponseBody::Attrs(Attributes::default()), None),
        (of_status(status::NO_SUCH_FILE), Some(false)),
        (of_status(status::PERMISSION_DENIED), None),
    ];
    for (stat, directory) in cases {
        let mut resolver = begun();
        let ticket = resolver.ask(b"up/x", false).unwrap();
        assert_eq!(
            resolver.take_bytes(),
            Request {
                id: 1,
                body: RequestBody::Realpath { path: b"up/" }
            }
            .encode()
            .unwrap()
        );
        answer(&mut resolver, 1, name(b"/srv")).unwrap();
        assert_eq!(
            resolver.take_bytes(),
            Request {
                id: 1,
                body: RequestBody::Stat { path: b"/srv/x" }
            }
            .encode()
            .unwrap()
        );
        answer(&mut resolver, 1, stat).unwrap();
        assert_eq!(
            resolver.poll(),
            Some((
                ticket,
                Ok(Resolved {
                    path: b"/srv/x".to_vec(),
                    directory
                })
            ))
        );
        assert_eq!(resolver.poll(), None);
    }
}

#[test]
fn what_is_not_resolved_is_no_path() {
    let mut resolver = begun();
    for path in [&b""[..], b"a\0", &[b'a'; 5000]] {
        assert_eq!(resolver.ask(path, true), Err(Unresolved::Unusable));
    }
    resolver.ask(b"a", true).unwrap();
    answer(&mut resolver, 1, of_status(status::FAILURE)).unwrap();
    assert_eq!(
        resolver.poll().unwrap().1,
        Err(Unresolved::Refused(status::FAILURE))
    );
    resolver.ask(b"a", true).unwrap();
    answer(&mut resolver, 2, name(b"/a/../b")).unwrap();
    assert_eq!(
        resolver.poll().unwrap().1,
        Err(Unresolved::Refused(status::FAILURE))
    );
    for _ in 0..MAX_OPEN {
        resolver.ask(b"a", true).unwrap();
    }
    assert_eq!(resolver.ask(b"a", true), Err(Unresolved::TooMany));
}

#[test]
fn nothing_is_asked_before_version() {
    let mut resolver = Resolver::new();
    resolver.take_bytes();
    resolver.ask(b"/a", true).unwrap();
    assert_eq!(resolver.take_bytes(), b"");
    resolver
        .handle_target(
            &Version {
                version: 3,
                extensions: Vec::new(),
            }
            .encode()
            .unwrap(),
        )
        .unwrap();
    assert!(!resolver.take_bytes().is_empty());
}

#[test]
fn a_target_that_breaks_the_protocol_resolves_nothing() {
    let fault = |answer: &dyn Fn(&mut Resolver) -> Result<(), Error>| {
        let mut resolver = begun();
        resolver.ask(b"/a", true).unwrap();
        let error = answer(&mut resolver).unwrap_err();
        assert_eq!(resolver.handle_target(b""), Err(error));
        assert_eq!(resolver.poll(), None);
        error.fault
    };
    assert_eq!(
        fault(&|resolver| answer(resolver, 9, name(b"/a"))),
        Fault::Unsolicited
    );
    assert_eq!(
        fault(&|resolver| answer(resolver, 1, ResponseBody::Name(Names(Vec::new())))),
        Fault::Names
    );
    assert_eq!(
        fault(&|resolver| answer(resolver, 1, of_status(status::OK))),
        Fault::WrongType
    );
    assert_eq!(
        fault(&|resolver| answer(resolver, 1, ResponseBody::Handle { handle: b"h" })),
        Fault::WrongType
    );
    let mut resolver = Resolver::new();
    assert_eq!(
        answer(&mut resolver, 1, name(b"/a")).unwrap_err().fault,
        Fault::Start
    );
}
