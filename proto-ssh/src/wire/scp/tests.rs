use super::*;
use crate::command::{Parsed, Shell, parse_command};

fn recognised(line: &str) -> Option<ScpCommand> {
    match parse_command(line.as_bytes(), Shell::Bash) {
        Parsed::Static { commands, .. } => ScpCommand::of(&commands[0]),
        _ => None,
    }
}

#[test]
fn commands_of_clients_are_recognised() {
    let source = recognised("scp -v -r -p -f /srv/a '/srv/b c'").unwrap();
    assert_eq!(
        (
            source.direction,
            source.recursive,
            source.preserve,
            source.directory
        ),
        (Direction::Source, true, true, false)
    );
    assert_eq!(source.paths, ["/srv/a", "/srv/b c"]);
    let sink = recognised("scp -rd -t -- -x").unwrap();
    assert_eq!(
        (
            sink.direction,
            sink.recursive,
            sink.directory,
            sink.paths.as_slice()
        ),
        (Direction::Sink, true, true, &["-x".to_owned()][..])
    );
    assert_eq!(
        sink.words(&["/x".to_owned()]),
        ["scp", "-r", "-d", "-t", "--", "/x"]
    );
    assert_eq!(recognised("scp -qf x").unwrap().paths, ["x"]);
}

#[test]
fn other_commands_are_no_scp() {
    for line in [
        "scp a b",
        "scp -t",
        "scp -f",
        "scp -t a b",
        "scp -f -t a",
        "scp -S /bin/sh -f a",
        "scp -o ProxyCommand=x -f a",
        "scp -f a -S x",
        "scp -F x -f a",
        "/tmp/scp -f a",
        "scp -fx",
        "scp -f ''",
        "scp -f /x/*",
        "scp -f ~/x",
        "scp -t $x",
        "scp -f x --",
        "scp -f -- ''",
        "scp -f -",
    ] {
        let found = recognised(line);
        assert!(found.is_none() || line == "scp -f -", "{line}: {found:?}");
    }
    let Parsed::Static { commands, .. } = parse_command(b"a | scp -t x", Shell::Bash) else {
        panic!()
    };
    assert_eq!(ScpCommand::of(&commands[1]), None);
}

#[test]
fn lines_are_read_as_openssh_writes_them() {
    assert_eq!(
        Line::parse(b"C0644 12 a b\xff\n"),
        Ok(Line::File {
            mode: 0o644,
            size: 12,
            name: b"a b\xff"
        })
    );
    assert_eq!(
        Line::parse(b"C4755 9223372036854775807 x\n"),
        Ok(Line::File {
            mode: 0o4755,
            size: u64::MAX / 2,
            name: b"x"
        })
    );
    assert_eq!(
        Line::parse(b"D0755 0 d\n"),
        Ok(Line::Directory {
            mode: 0o755,
            name: b"d"
        })
    );
    assert_eq!(Line::parse(b"E\n"), Ok(Line::Leave));
    assert_eq!(
        Line::parse(b"T1700000000 0 1 0\n"),
        Ok(Line::Times {
            change: 1_700_000_000,
            access: 1
        })
    );
    assert_eq!(Line::parse(b"\x01scp: no\n"), Ok(Line::Warning(b"scp: no")));
    assert_eq!(Line::parse(b"\x02\n"), Ok(Line::Fatal(b"")));
    assert_eq!(Reply::parse(b"\0"), Ok(Reply::Ok));
    assert_eq!(Reply::parse(b"\x01no\n"), Ok(Reply::Warning(b"no")));
}

#[test]
fn cve_2018_20685_and_cve_2019_6111_names_that_lead_elsewhere_are_refused() {
    for name in [
        "",
        ".",
        "..",
        "/",
        "/etc/passwd",
        "../x",
        "a/b",
        "a\0",
        "a\x1b[2K",
        "a\r",
        "a\tb",
    ] {
        for kind in ["C0644 1 ", "D0777 0 "] {
            assert_eq!(
                Line::parse(format!("{kind}{name}\n").as_bytes()),
                Err(Malformed::Name),
                "{name:?}"
            );
        }
    }
}

#[test]
fn numbers_are_bounded_and_every_strict_prefix_is_an_error() {
    for line in [&b"C0644 12 name\n"[..], b"D0755 0 name\n", b"T1 0 2 0\n", b"E\n"] {
        for end in 0..line.len() {
            assert!(Line::parse(&line[..end]).is_err(), "{line:?} cut at {end}");
        }
    }
    for line in [
        "C0644 18446744073709551616 a",
        "C0644 -1 a",
        "C0644 +1 a",
        "C0644 0x1 a",
        "C644 1 a",
        "C00644 1 a",
        "C0648 1 a",
        "C0644  1 a",
        "C0644 1a",
        "C0644 a",
        "c0644 1 a",
        "E0",
        "T1 0 2",
        "T1 2",
        "T1 1 2 0",
        "T-1 0 2 0",
        "T1 0 2 0 ",
        "X",
        "",
        "\0",
        "\x03x",
    ] {
        assert_eq!(
            Line::parse(format!("{line}\n").as_bytes()),
            Err(Malformed::Line),
            "{line}"
        );
    }
    assert_eq!(
        Line::parse(b"C0644 9223372036854775808 a\n"),
        Err(Malformed::Size)
    );
    assert_eq!(split_line(&[b'a'; MAX_LINE]), Err(Malformed::TooLong));
    assert_eq!(split_line(&[b'a'; MAX_LINE - 1]), Ok(None));
    assert_eq!(split_reply(b"x"), Err(Malformed::Reply));
    assert_eq!(split_reply(b"\0\0"), Ok(Some((&b"\0"[..], &b"\0"[..]))));
    assert_eq!(split_reply(b"\x01no"), Ok(None));
}
