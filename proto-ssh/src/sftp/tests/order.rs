//! Requests reach the target as if each was sent when it came.

use super::*;

/// What goes to the target, by its kind and, where it is a question of the gateway's own, its path.
fn kinds(machine: &mut Sftp) -> Vec<(u32, &'static str, String)> {
    let mut list = Vec::new();
    for action in actions(machine) {
        let Action::ToTarget(packet) = action else {
            continue;
        };
        let Request { id, body } = Request::parse(&packet[4..]).unwrap();
        let (kind, path) = match body {
            RequestBody::Realpath { path } => ("REALPATH", path),
            RequestBody::Symlink { link, .. } => ("SYMLINK", link),
            RequestBody::Open { path, .. } => ("OPEN", path),
            RequestBody::Setstat { path, .. } => ("SETSTAT", path),
            RequestBody::Stat { path } => ("STAT", path),
            RequestBody::Write { .. } => ("WRITE", &b""[..]),
            RequestBody::Read { .. } => ("READ", &b""[..]),
            RequestBody::Close { .. } => ("CLOSE", &b""[..]),
            other => panic!("{other:?}"),
        };
        list.push((id, kind, String::from_utf8(path.to_vec()).unwrap()));
    }
    list
}

fn only(machine: &mut Sftp, kind: &str) -> u32 {
    let list = kinds(machine);
    assert!(matches!(&list[..], [(_, only, _)] if *only == kind), "{list:?}");
    list[0].0
}

/// Resolves one path and gives its questions.
fn resolve(machine: &mut Sftp, id: u32, to: &[u8]) -> Vec<Ask> {
    machine.handle_target(&one_name(id, to)).unwrap();
    let asks = actions(machine).into_iter().map(|action| match action {
        Action::Ask(ask) => ask,
        other => panic!("{other:?}"),
    });
    asks.collect()
}

fn symlink<'a>() -> RequestBody<'a> {
    RequestBody::Symlink {
        target: b"/srv/secret",
        link: b"/srv/up/n",
    }
}

fn open_of(path: &[u8], flags: u32) -> RequestBody<'_> {
    RequestBody::Open {
        path,
        flags,
        attributes: Attributes::default(),
    }
}

/// What an attack would do in one write: the link is not there when the path is resolved, and there when it is used.
#[test]
fn no_path_is_resolved_while_where_it_leads_may_change() {
    let mut machine = begun();
    let both = [
        request(1, symlink()),
        request(2, open_of(b"/srv/up/n", open::READ | open::CREAT)),
    ];
    machine.handle_client(&both.concat()).unwrap();
    let first = only(&mut machine, "REALPATH");
    let asks = resolve(&mut machine, first, b"/srv/up");
    assert_eq!(asks.len(), 1);
    machine.handle_answer(asks[0].id, Answer::Allow).unwrap();
    let link = only(&mut machine, "SYMLINK");
    assert!(!machine.is_idle());
    // It is asked only once the link is there.
    machine.handle_target(&of_status(link, status::OK)).unwrap();
    let second = only(&mut machine, "REALPATH");
    let asks = resolve(&mut machine, second, b"/srv/secret");
    assert!(asks.iter().all(|ask| ask.path == b"/srv/secret"), "{asks:?}");
}

#[test]
fn what_changes_something_passes_nothing_and_is_passed_by_nothing() {
    let mut machine = begun();
    opened(&mut machine, open::READ | open::WRITE, b"/srv/f", b"h");
    let setstat = RequestBody::Setstat {
        path: b"/srv/f",
        attributes: Attributes {
            size: Some(0),
            ..Attributes::default()
        },
    };
    let write = RequestBody::Write {
        handle: b"h",
        offset: 0,
        data: b"abc",
    };
    let stat = RequestBody::Stat { path: b"/srv/f" };
    let all = [
        request(1, setstat),
        request(2, write),
        request(3, stat),
        request(4, RequestBody::Close { handle: b"h" }),
    ];
    machine.handle_client(&all.concat()).unwrap();
    let query = only(&mut machine, "REALPATH");
    let asks = resolve(&mut machine, query, b"/srv/f");
    machine.handle_answer(asks[0].id, Answer::Allow).unwrap();
    let sent = kinds(&mut machine);
    let order: Vec<_> = sent.iter().map(|(_, kind, _)| *kind).collect();
    assert_eq!(order, ["SETSTAT", "WRITE"], "{sent:?}");
    machine.handle_target(&of_status(sent[0].0, status::OK)).unwrap();
    let sent = kinds(&mut machine);
    let order: Vec<_> = sent.iter().map(|(_, kind, _)| *kind).collect();
    assert_eq!(order, ["REALPATH", "CLOSE"], "{sent:?}");
}

#[test]
fn what_changes_nothing_waits_for_nothing() {
    let mut machine = begun();
    opened(&mut machine, open::READ, b"/srv/f", b"h");
    let read = RequestBody::Read {
        handle: b"h",
        offset: 0,
        length: 10,
    };
    let all = [
        request(1, RequestBody::Stat { path: b"/srv/a" }),
        request(2, RequestBody::Stat { path: b"/srv/b" }),
        request(3, read),
    ];
    machine.handle_client(&all.concat()).unwrap();
    let sent = kinds(&mut machine);
    let order: Vec<_> = sent.iter().map(|(_, kind, _)| *kind).collect();
    assert_eq!(order, ["REALPATH", "REALPATH", "READ"], "{sent:?}");
    assert!(machine.wants_client());
}

/// A client that leaves is seen though what it has sent waits; and it can't send without end.
#[test]
fn what_waits_is_bounded() {
    let mut machine = begun();
    machine.handle_client(&request(1, symlink())).unwrap();
    let write = |id| {
        request(
            id,
            RequestBody::Write {
                handle: b"h",
                offset: 0,
                data: &[0; 32 * 1024],
            },
        )
    };
    let mut taken = 0;
    while machine.wants_client() {
        machine.handle_client(&write(2)).unwrap();
        taken += 1;
        assert!(taken < 100);
    }
    assert!(taken > 4);
}

#[test]
fn what_has_waited_for_people_goes_on_only_where_it_led() {
    for (then, goes_on) in [(&b"/srv/up/d"[..], true), (b"/srv/secret", false)] {
        let mut machine = begun();
        machine
            .handle_client(&request(7, open_of(b"/srv/up/d", open::READ)))
            .unwrap();
        let query = only(&mut machine, "REALPATH");
        let asks = resolve(&mut machine, query, b"/srv/up/d");
        machine.handle_late_answer(asks[0].id, Answer::Allow).unwrap();
        let again = only(&mut machine, "REALPATH");
        machine.handle_target(&one_name(again, then)).unwrap();
        if goes_on {
            only(&mut machine, "OPEN");
        } else {
            assert_eq!(refused(&mut machine), (7, status::PERMISSION_DENIED));
        }
    }
}

#[test]
fn people_read_what_a_request_would_do_and_approve_that_alone() {
    let attributes = Attributes {
        size: Some(0),
        owner: Some((0, 10)),
        permissions: Some(0o104_777),
        times: Some((1, 2)),
        extended: None,
    };
    let told = |body: RequestBody<'_>| {
        let mut machine = begun();
        machine.handle_client(&request(1, body)).unwrap();
        let mut asks = Vec::new();
        for (id, _, path) in kinds(&mut machine) {
            asks.extend(resolve(&mut machine, id, path.trim_end_matches('/').as_bytes()));
        }
        let texts: Vec<_> = asks.iter().map(Ask::statement).collect();
        assert!(texts.windows(2).all(|two| two[0] == two[1]), "{texts:?}");
        (texts[0].clone(), asks[0].exact.clone())
    };
    let setstat = |attributes: Attributes<'static>| RequestBody::Setstat {
        path: b"/srv/x",
        attributes,
    };
    let (text, all) = told(setstat(attributes.clone()));
    assert_eq!(text, "SETSTAT /srv/x size=0 owner=0:10 mode=4777 time=2");
    let (text, mode) = told(setstat(Attributes {
        permissions: Some(0o600),
        ..Attributes::default()
    }));
    assert_eq!(text, "SETSTAT /srv/x mode=0600");
    assert_ne!(all, mode);
    let (text, _) = told(open_of(b"/srv/x", open::WRITE | open::CREAT | open::TRUNC));
    assert_eq!(text, "OPEN /srv/x write create truncate");
    let (_, append) = told(open_of(b"/srv/x", open::WRITE | open::APPEND));
    let (_, truncate) = told(open_of(b"/srv/x", open::WRITE | open::TRUNC));
    assert_ne!(append, truncate);
    let rename = |old, new| RequestBody::Rename { old, new };
    let (text, there) = told(rename(b"/srv/a", b"/srv/b"));
    assert_eq!(text, "RENAME /srv/a to /srv/b");
    assert_ne!(told(rename(b"/srv/b", b"/srv/a")).1, there);
    let (text, _) = told(symlink());
    assert_eq!(text, "SYMLINK /srv/up/n to /srv/secret");
}
