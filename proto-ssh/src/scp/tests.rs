use super::*;
use crate::command::Simple;
use crate::wire::scp::Malformed;

fn base(path: &str, directory: Option<bool>) -> Base {
    Base {
        path: path.as_bytes().to_vec(),
        directory,
    }
}

fn sink(path: &str, directory: Option<bool>) -> Scp {
    let mut machine = Scp::new(Direction::Sink, vec![base(path, directory)]);
    machine.handle_target(b"\0").unwrap();
    assert_eq!(actions(&mut machine), [Action::ToClient(b"\0".to_vec())]);
    machine
}

fn source(paths: &[&str]) -> Scp {
    let mut machine = Scp::new(
        Direction::Source,
        paths.iter().map(|path| base(path, None)).collect(),
    );
    machine.handle_client(b"\0").unwrap();
    assert_eq!(actions(&mut machine), [Action::ToTarget(b"\0".to_vec())]);
    machine
}

fn actions(machine: &mut Scp) -> Vec<Action> {
    std::iter::from_fn(|| machine.poll()).collect()
}

/// What is asked, and nothing else.
fn asked(machine: &mut Scp) -> Vec<(AskId, What, String)> {
    let asks = actions(machine).into_iter().map(|action| match action {
        Action::Ask(ask) => (ask.id, ask.what, String::from_utf8(ask.path).unwrap()),
        other => panic!("{other:?}"),
    });
    asks.collect()
}

fn allow(machine: &mut Scp) -> Vec<String> {
    let asks = asked(machine);
    for (id, ..) in &asks {
        machine.handle_answer(*id, Answer::Allow).unwrap();
    }
    asks.into_iter().map(|(_, _, path)| path).collect()
}

fn deny(machine: &mut Scp) {
    let (id, ..) = asked(machine).remove(0);
    machine
        .handle_answer(
            id,
            Answer::Deny {
                text: "no\u{1b}[2J".to_owned(),
            },
        )
        .unwrap();
}

fn to_target(bytes: &[u8]) -> Action {
    Action::ToTarget(bytes.to_vec())
}

fn to_client(bytes: &[u8]) -> Action {
    Action::ToClient(bytes.to_vec())
}

#[test]
fn a_file_is_held_until_its_path_is_permitted() {
    let mut machine = sink("/srv/up", Some(true));
    machine.handle_client(b"C0644 3 a\n").unwrap();
    // A client that does not wait: nothing of it is read.
    machine.handle_client(b"abc\0").unwrap();
    assert!(!machine.wants_client() && machine.wants_target());
    assert_eq!(allow(&mut machine), ["/srv/up/a"]);
    assert_eq!(actions(&mut machine), [to_target(b"C0644 3 a\n")]);
    machine.handle_target(b"\0").unwrap();
    assert_eq!(
        actions(&mut machine),
        [to_client(b"\0"), to_target(b"abc"), to_target(b"\0")]
    );
    machine.handle_target(b"\0").unwrap();
    let event = Event::Transferred {
        path: b"/srv/up/a".to_vec(),
        what: What::Write,
        bytes: 3,
    };
    assert_eq!(actions(&mut machine), [Action::Event(event), to_client(b"\0")]);
}

#[test]
fn a_refused_file_never_reaches_the_target_and_the_next_one_is_judged() {
    let mut machine = sink("/srv/up", Some(true));
    machine.handle_client(b"C0644 3 a\n").unwrap();
    deny(&mut machine);
    assert_eq!(actions(&mut machine), [to_client(b"\x01scp: no[2J\n")]);
    machine.handle_client(b"C0644 0 b\n").unwrap();
    assert_eq!(allow(&mut machine), ["/srv/up/b"]);
    // Bytes of a file that was refused are no line.
    let mut machine = sink("/srv/up", Some(true));
    machine.handle_client(b"C0644 3 a\nE \n").unwrap();
    let (id, ..) = asked(&mut machine).remove(0);
    assert_eq!(
        machine
            .handle_answer(id, Answer::Deny { text: String::new() })
            .unwrap_err()
            .fault,
        Fault::Malformed(Malformed::Line)
    );
}

#[test]
fn a_sink_that_may_be_a_file_or_a_folder_is_asked_for_both() {
    let mut machine = sink("/srv/up", None);
    machine.handle_client(b"C0644 3 a\n").unwrap();
    let asks = asked(&mut machine);
    assert_eq!(
        asks.iter()
            .map(|(_, what, path)| (*what, path.as_str()))
            .collect::<Vec<_>>(),
        [(What::Write, "/srv/up"), (What::Write, "/srv/up/a")]
    );
    machine.handle_answer(asks[1].0, Answer::Allow).unwrap();
    assert_eq!(actions(&mut machine), []);
    machine
        .handle_answer(asks[0].0, Answer::Deny { text: String::new() })
        .unwrap();
    assert_eq!(actions(&mut machine), [to_client(b"\x01scp: \n")]);
    // Late or twice: of no effect. Never asked: the caller's fault.
    machine.handle_answer(asks[0].0, Answer::Allow).unwrap();
    assert_eq!(
        machine.handle_answer(AskId(99), Answer::Allow).unwrap_err().peer,
        Peer::Gateway
    );

    let mut machine = sink("/srv/f", Some(false));
    machine.handle_client(b"C0644 3 a\n").unwrap();
    assert_eq!(allow(&mut machine), ["/srv/f"]);
}

#[test]
fn folders_are_asked_for_with_what_is_in_them() {
    let mut machine = sink("/up/", Some(true));
    for (line, path) in [
        ("D0755 0 d\n", "/up/d"),
        ("D0755 0 e\n", "/up/d/e"),
        ("C0644 0 x\n", "/up/d/e/x"),
    ] {
        machine.handle_client(line.as_bytes()).unwrap();
        assert_eq!(allow(&mut machine), [path]);
        machine.handle_target(b"\0").unwrap();
        actions(&mut machine);
    }
    machine.handle_client(b"\0").unwrap();
    machine.handle_target(b"\0").unwrap();
    actions(&mut machine);
    for path in ["/up/d/e", "/up/d"] {
        assert!(machine.is_in_a_folder());
        machine.handle_client(b"E\n").unwrap();
        assert_eq!(
            allow(&mut machine),
            [path],
            "it is asked for again when it is left"
        );
        assert_eq!(actions(&mut machine), [to_target(b"E\n")]);
        machine.handle_target(b"\0").unwrap();
        actions(&mut machine);
    }
    assert!(!machine.is_in_a_folder());
    machine.handle_client(b"D0755 0 f\n").unwrap();
    deny(&mut machine);
    actions(&mut machine);
    assert_eq!(machine.handle_client(b"E\n").unwrap_err().fault, Fault::Depth);
}

#[test]
fn a_refused_file_of_a_source_is_left_out_and_its_bytes_never_reach_the_client() {
    let mut machine = source(&["/srv/logs/a", "/srv/b"]);
    machine.handle_target(b"C0644 3 a\n").unwrap();
    deny(&mut machine);
    assert_eq!(
        actions(&mut machine),
        [to_target(b"\x01scp: no[2J\n"), to_client(b"\x01scp: no[2J\n")]
    );
    machine.handle_target(b"T1 0 2 0\n").unwrap();
    assert_eq!(actions(&mut machine), [to_target(b"\0")]);
    machine.handle_target(b"C0644 3 b\n").unwrap();
    assert_eq!(allow(&mut machine), ["/srv/b"]);
}

/// With times a source has opened the file before anybody knows its name, and would wait for the client as long as that likes.
#[test]
fn a_source_gets_its_answer_to_times_from_the_gateway() {
    let begin = || {
        let mut machine = source(&["/srv/a"]);
        machine.handle_target(b"T1 0 2 0\n").unwrap();
        assert_eq!(actions(&mut machine), [to_target(b"\0")]);
        machine.handle_target(b"C0644 3 a\n").unwrap();
        assert_eq!(allow(&mut machine), ["/srv/a"]);
        assert_eq!(actions(&mut machine), [to_client(b"T1 0 2 0\n")]);
        machine
    };
    let mut machine = begin();
    machine.handle_client(b"\0").unwrap();
    assert_eq!(actions(&mut machine), [to_client(b"C0644 3 a\n")]);
    machine.handle_client(b"\0").unwrap();
    assert_eq!(actions(&mut machine), [to_target(b"\0")]);
    // A client that does not like the times does not get the file.
    for word in [&b"\x01bad\n"[..], b"\x02bad\n"] {
        let mut machine = begin();
        machine.handle_client(word).unwrap();
        assert_eq!(actions(&mut machine), [to_target(word)]);
    }
    // Refused: neither line reaches the client.
    let mut machine = source(&["/srv/a"]);
    machine.handle_target(b"T1 0 2 0\nD0755 0 a\n").unwrap();
    assert_eq!(machine.poll(), Some(to_target(b"\0")));
    deny(&mut machine);
    assert_eq!(
        actions(&mut machine),
        [to_target(b"\x01scp: no[2J\n"), to_client(b"\x01scp: no[2J\n")]
    );
    // An answer that nobody has asked for.
    let mut machine = source(&["/srv/a"]);
    machine.handle_target(b"T1 0 2 0\n").unwrap();
    assert_eq!(
        machine.handle_client(b"\0").unwrap_err().fault,
        Fault::Unsolicited
    );
}

/// The target's scp gives a folder its mode and times by name when it is left, or when its input ends.
#[test]
fn nothing_goes_on_where_a_folder_leads_elsewhere_when_it_is_left() {
    let begin = || {
        let mut machine = sink("/up/", Some(true));
        machine.handle_client(b"D0777 0 d\n").unwrap();
        assert_eq!(allow(&mut machine), ["/up/d"]);
        assert_eq!(actions(&mut machine), [to_target(b"D0777 0 d\n")]);
        assert!(machine.is_in_a_folder(), "it may be made by now");
        machine.handle_target(b"\0").unwrap();
        actions(&mut machine);
        machine
    };
    let mut machine = begin();
    machine.handle_client(b"E\n").unwrap();
    deny(&mut machine);
    assert_eq!(actions(&mut machine), [to_client(b"\x02scp: no[2J\n")]);
    assert!(machine.is_stopped() && machine.is_in_a_folder() && !machine.wants_client());
    machine.handle_client(b"E\n").unwrap();
    assert_eq!(actions(&mut machine), []);
    // An end within a folder is none.
    let mut machine = begin();
    let error = machine.handle_end(Peer::Client).unwrap_err();
    assert_eq!(error.fault, Fault::Truncated);
    assert!(machine.is_in_a_folder());
}

#[test]
fn cve_2019_6111_a_source_sends_only_what_was_asked_for_and_in_order() {
    for (line, fault) in [
        ("C0644 1 authorized_keys\n", Fault::Name),
        ("D0755 0 .ssh\n", Fault::Name),
        ("C0644 1 ../a\n", Fault::Malformed(Malformed::Name)),
        ("C0644 1 .\n", Fault::Malformed(Malformed::Name)),
    ] {
        let mut machine = source(&["/srv/a", "/srv/b"]);
        let error = Error {
            peer: Peer::Target,
            fault,
        };
        assert_eq!(machine.handle_target(line.as_bytes()), Err(error), "{line}");
        assert_eq!(machine.handle_client(b"\0"), Err(error));
    }
    let mut machine = source(&["/srv/a", "/srv/b"]);
    machine.handle_target(b"C0644 1 b\n").unwrap();
    deny(&mut machine);
    actions(&mut machine);
    assert_eq!(
        machine.handle_target(b"C0644 1 a\n").unwrap_err().fault,
        Fault::Name
    );
}

#[test]
fn no_side_runs_ahead() {
    // An answer that is not owed would release what comes next.
    let mut machine = source(&["/a"]);
    assert_eq!(
        machine.handle_client(b"\0").unwrap_err(),
        Error {
            peer: Peer::Client,
            fault: Fault::Unsolicited
        }
    );
    let mut machine = sink("/a", Some(true));
    assert_eq!(
        machine.handle_target(b"\0").unwrap_err(),
        Error {
            peer: Peer::Target,
            fault: Fault::Unsolicited
        }
    );
    // A client that sends before the sink has begun waits.
    let mut machine = Scp::new(Direction::Sink, vec![base("/a", Some(true))]);
    machine.handle_client(b"C0644 1 x\n").unwrap();
    assert_eq!(actions(&mut machine), []);
    // Behind the end there is nothing.
    let mut machine = source(&["/a"]);
    machine.handle_target(b"\x02gone\n").unwrap();
    assert_eq!(actions(&mut machine), [to_client(b"\x02gone\n")]);
    assert_eq!(
        machine.handle_target(b"C0644 1 a\n").unwrap_err().fault,
        Fault::Over
    );
}

#[test]
fn depth_and_paths_are_bounded() {
    let mut machine = sink("/up", Some(true));
    for _ in 0..MAX_DEPTH {
        machine.handle_client(b"D0755 0 d\n").unwrap();
        allow(&mut machine);
        machine.handle_target(b"\0").unwrap();
        actions(&mut machine);
    }
    assert_eq!(
        machine.handle_client(b"D0755 0 d\n").unwrap_err().fault,
        Fault::TooDeep
    );
    let mut machine = sink(&"/d".repeat(2000), Some(true));
    let name = "n".repeat(200);
    assert_eq!(
        machine
            .handle_client(format!("C0644 0 {name}\n").as_bytes())
            .unwrap_err()
            .fault,
        Fault::TooDeep
    );
}

#[test]
fn an_end_inside_of_a_file_is_told() {
    let mut machine = sink("/up", Some(true));
    machine.handle_client(b"C0644 5 a\n").unwrap();
    allow(&mut machine);
    machine.handle_target(b"\0").unwrap();
    machine.handle_client(b"ab").unwrap();
    assert_eq!(
        machine.handle_end(Peer::Client).unwrap_err().fault,
        Fault::Truncated
    );
    assert_eq!(source(&["/a"]).handle_end(Peer::Target), Ok(()));
}

/// Bytes for either side, questions and events of an upload that comes in pieces.
fn upload(piece: usize) -> (Vec<u8>, Vec<u8>, Vec<Action>) {
    let mut machine = Scp::new(Direction::Sink, vec![base("/up", Some(true))]);
    let (mut target, mut client, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    // The sink's answers, each with how much it has to have got before.
    let sent = b"D0755 0 d\nT1 0 2 0\nC0644 70000 a\n";
    let data = vec![b'\n'; 70_000];
    let stream = [&sent[..], &data, b"\0E\nC0600 0 b\n\0"].concat();
    let mut answers = VecDeque::from([
        (0, &b"\0"[..]),
        (10, b"\0"),
        (19, b"\0"),
        (33, b"\0"),
        (70_034, b"\0"),
        (70_036, b"\0"),
        (70_046, b"\0"),
        (70_047, b"\x01full\n"),
    ]);
    let mut pieces = stream.chunks(piece);
    loop {
        while let Some(action) = machine.poll() {
            match action {
                Action::ToTarget(bytes) => target.extend(bytes),
                Action::ToClient(bytes) => client.extend(bytes),
                Action::Ask(ask) => {
                    rest.push(Action::Ask(ask.clone()));
                    machine.handle_answer(ask.id, Answer::Allow).unwrap();
                }
                event @ Action::Event(_) => rest.push(event),
            }
        }
        match answers.front() {
            Some((from, answer)) if *from <= target.len() => {
                for byte in answer.chunks(piece) {
                    machine.handle_target(byte).unwrap();
                }
                answers.pop_front();
            }
            _ => match pieces.next() {
                Some(piece) => machine.handle_client(piece).unwrap(),
                None => break,
            },
        }
    }
    assert!(answers.is_empty());
    assert_eq!(target, stream);
    (target, client, rest)
}

#[test]
fn any_split_of_the_bytes_gives_the_same() {
    let whole = upload(usize::MAX);
    // Two folders or files and one that the sink could not write.
    assert_eq!(whole.2.len(), 6, "{:?}", whole.2);
    for piece in [1, 2, 3, 7, 4096] {
        assert!(upload(piece) == whole, "{piece} bytes at a time");
    }
}

#[test]
fn a_link_keeps_the_name_that_the_client_asked_for() {
    let simple = Simple {
        program: "scp".to_owned(),
        arguments: ["-r", "-f", "logs/latest.log", "d/", "."]
            .map(str::to_owned)
            .to_vec(),
        stdin: false,
    };
    let command = ScpCommand::of(&simple).unwrap();
    let bases = ["/srv/logs/app.log", "/srv/real", "/home/deploy"]
        .map(|path| base(path, None))
        .to_vec();
    let mut machine = Scp::of(&command, bases.clone());
    machine.handle_client(b"\0").unwrap();
    actions(&mut machine);
    for (line, path, forwarded) in [
        ("C0644 0 app.log\n", "/srv/logs/app.log", "C0644 0 latest.log\n"),
        ("D0755 0 real\n", "/srv/real", "D0755 0 d\n"),
    ] {
        machine.handle_target(line.as_bytes()).unwrap();
        assert_eq!(allow(&mut machine), [path]);
        assert_eq!(actions(&mut machine), [to_client(forwarded.as_bytes())]);
        machine.handle_client(b"\0").unwrap();
        machine
            .handle_target(if line.starts_with('C') { b"\0" } else { b"E\n" })
            .unwrap();
        machine.handle_client(b"\0").unwrap();
        actions(&mut machine);
    }
    machine.handle_target(b"D0755 0 deploy\n").unwrap();
    assert_eq!(allow(&mut machine), ["/home/deploy"]);
    assert_eq!(actions(&mut machine), [to_client(b"D0755 0 deploy\n")]);
    // Where the target is asked for the path as it was written it has that name already.
    let mut machine = Scp::of(&command, bases);
    machine.handle_client(b"\0").unwrap();
    machine.handle_target(b"C0644 0 latest.log\n").unwrap();
    assert!(matches!(&actions(&mut machine)[1], Action::Ask(ask) if ask.path == b"/srv/logs/app.log"));
}

#[test]
fn nothing_goes_on_behind_a_file_that_holds_what_is_looked_for() {
    for size in [1, 5, 100] {
        let mut machine = source(&["/r"]);
        machine.handle_target(b"C0644 40 r\n").unwrap();
        let (id, ..) = asked(&mut machine).remove(0);
        let looked = crate::contents::tests::looked();
        machine.handle_answer(id, Answer::AllowLooked(looked)).unwrap();
        assert_eq!(actions(&mut machine), [to_client(b"C0644 40 r\n")]);
        machine.handle_client(b"\0").unwrap();
        let mut got = actions(&mut machine);
        for piece in b"card 4111 1111 1111 1111 and something..\0".chunks(size) {
            machine.handle_target(piece).unwrap();
            got.extend(actions(&mut machine));
        }
        let sent: Vec<u8> = got
            .iter()
            .filter_map(|action| match action {
                Action::ToClient(bytes) => Some(bytes.clone()),
                _ => None,
            })
            .collect::<Vec<_>>()
            .concat();
        assert!(sent.len() < 24, "{size}: {sent:?}");
        let withheld = Action::Event(Event::Withheld { path: b"/r".to_vec() });
        assert_eq!(got.iter().filter(|action| **action == withheld).count(), 1);
        assert!(!machine.wants_target() && machine.handle_end(Peer::Target).is_ok());
    }
}
