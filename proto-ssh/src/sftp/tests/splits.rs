use super::*;

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
                while let Some(action) = machine.poll().unwrap() {
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
