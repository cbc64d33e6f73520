use super::*;

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
        assert!(!machine.wants_client() && !machine.wants_target() && machine.poll() == Err(error));
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
            .handle_client(&request(number, RequestBody::Stat { path: b"a" }))
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
        extended: Some(vec![(b"x", &long)]),
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
    // Room makes what waited go on, without another byte.
    assert_eq!(actions(&mut machine).len(), 10);
    assert!(machine.wants_client());
}
