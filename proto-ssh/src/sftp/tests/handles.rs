use super::*;

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
fn when_rights_end_open_handles_are_of_no_more_use() {
    let mut machine = begun();
    opened(&mut machine, open::READ, b"/f", b"H");
    machine
        .handle_client(&request(1, RequestBody::Stat { path: b"/a" }))
        .unwrap();
    sent(&mut machine);
    machine.end_rights("session_expired");
    assert_eq!(refused(&mut machine), (1, status::PERMISSION_DENIED));
    for body in [
        RequestBody::Read {
            handle: b"H",
            offset: 0,
            length: 1,
        },
        RequestBody::Realpath { path: b"." },
        RequestBody::Stat { path: b"/" },
    ] {
        machine.handle_client(&request(2, body)).unwrap();
        assert_eq!(refused(&mut machine), (2, status::PERMISSION_DENIED));
    }
    machine
        .handle_client(&request(3, RequestBody::Close { handle: b"H" }))
        .unwrap();
    assert_eq!(
        sent(&mut machine).1,
        request(0, RequestBody::Close { handle: b"H" })
    );
}

#[test]
fn a_file_that_holds_what_is_looked_for_is_not_read_further() {
    let mut machine = begun();
    let body = RequestBody::Open {
        path: b"/r",
        flags: open::READ,
        attributes: Attributes::default(),
    };
    machine.handle_client(&request(1, body)).unwrap();
    let (id, _) = sent(&mut machine);
    machine.handle_target(&one_name(id, b"/r")).unwrap();
    let [Action::Ask(ask)] = &actions(&mut machine)[..] else {
        panic!("a question")
    };
    let looked = crate::contents::tests::looked();
    machine
        .handle_answer(ask.id, Answer::AllowLooked(looked))
        .unwrap();
    let (id, _) = sent(&mut machine);
    machine
        .handle_target(&response(id, ResponseBody::Handle { handle: b"R" }))
        .unwrap();
    actions(&mut machine);
    let mut read = |offset, data: &[u8]| {
        let body = RequestBody::Read {
            handle: b"R",
            offset,
            length: 100,
        };
        machine.handle_client(&request(7, body)).unwrap();
        let (id, _) = sent(&mut machine);
        machine
            .handle_target(&response(id, ResponseBody::Data { data }))
            .unwrap();
        actions(&mut machine)
    };
    let told = |action: &Action| {
        let Action::ToClient(packet) = action else {
            panic!("{action:?}")
        };
        match Response::parse(&packet[4..]).unwrap().body {
            ResponseBody::Data { data } => (status::OK, data.to_vec()),
            ResponseBody::Status { code, message, .. } => (code, message.to_vec()),
            other => panic!("{other:?}"),
        }
    };
    let first = read(0, b"card 4111 1111 ");
    assert_eq!(told(&first[0]), (status::OK, b"card 4111 1111 ".to_vec()));
    let second = read(15, b"1111 1111 and");
    let no = (status::PERMISSION_DENIED, b"it holds cards".to_vec());
    assert_eq!(told(&second[0]), no);
    let withheld = Event::Withheld { path: b"/r".to_vec() };
    assert_eq!(second[1..], [Action::Event(withheld)]);
    // Nothing else of it, and it is told once.
    let third = read(500, b"nothing");
    assert_eq!((told(&third[0]), third.len()), (no, 1));
    machine.finish();
    let closed = Event::Closed {
        path: b"/r".to_vec(),
        read: 15,
        written: 0,
    };
    assert_eq!(actions(&mut machine), [Action::Event(closed)]);
}
