use super::*;

#[expect(clippy::too_many_lines, reason = "a table")]
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
        b"/l/\xff" | b"/l/\xff/" => b"/secret".to_vec(),
        other => other.strip_suffix(b"/").unwrap_or(other).to_vec(),
    };
    let (path, whole, last): (&[u8], &[u8], &[u8]) = (b"/l/\xff", b"/secret", b"/srv/\xff");
    let open = |path, flags| RequestBody::Open {
        path,
        flags,
        attributes: attributes.clone(),
    };
    let extended = RequestBody::Extended;
    let slash: &[u8] = b"/l/\xff/";
    // It is sent as it came, and the target takes no file for a folder.
    let slashed = [last, b"/"].concat();
    let cases = [
        (
            RequestBody::Lstat { path: slash },
            RequestBody::Lstat { path: whole },
            vec![(Read, whole)],
        ),
        (
            RequestBody::Rmdir { path: slash },
            RequestBody::Rmdir { path: &slashed },
            vec![(Write, last)],
        ),
        (
            RequestBody::Remove { path: slash },
            RequestBody::Remove { path: &slashed },
            vec![(Write, last)],
        ),
        (
            RequestBody::Rename {
                old: slash,
                new: b"x/",
            },
            RequestBody::Rename {
                old: &slashed,
                new: b"/home/deploy/x/",
            },
            vec![(Write, last), (Write, b"/home/deploy/x")],
        ),
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
    assert!(machine.is_idle() && machine.wants_client() && machine.asks.is_empty());
    let never = AskId(u64::MAX);
    assert_eq!(
        machine.handle_answer(never, Answer::Allow).unwrap_err().fault,
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
    // What the target says about a relative path that it can't resolve is the answer.
    machine
        .handle_client(&request(3, RequestBody::Stat { path: b"no/where" }))
        .unwrap();
    let (id, _) = sent(&mut machine);
    machine
        .handle_target(&of_status(id, status::NO_SUCH_FILE))
        .unwrap();
    assert_eq!(refused(&mut machine), (3, status::NO_SUCH_FILE));
}

#[test]
fn what_is_not_there_is_refused_like_what_is() {
    for (answer, code) in [
        (Answer::Allow, status::NO_SUCH_FILE),
        (Answer::Deny { text: String::new() }, status::PERMISSION_DENIED),
    ] {
        let mut machine = begun();
        machine
            .handle_client(&request(
                3,
                RequestBody::Lstat {
                    path: b"/no/../nor/where",
                },
            ))
            .unwrap();
        let (id, _) = sent(&mut machine);
        machine
            .handle_target(&of_status(id, status::NO_SUCH_FILE))
            .unwrap();
        let [Action::Ask(ask)] = &actions(&mut machine)[..] else {
            panic!()
        };
        assert_eq!((ask.what, ask.path.as_slice()), (What::Read, &b"/nor/where"[..]));
        machine.handle_answer(ask.id, answer).unwrap();
        assert_eq!(refused(&mut machine), (3, code));
        assert!(machine.is_idle());
    }
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
