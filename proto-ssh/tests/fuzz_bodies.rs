//! The corpora of the fuzz targets, replayed with any toolchain; and where the seeds come from.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs,
    dead_code,
    reason = "a test"
)]

mod bodies;
mod seeded;

use std::fs;
use std::path::PathBuf;

use proto_ssh::wire::sftp::{
    Attributes, Extended, Init, Name, Names, Request, RequestBody, Response, ResponseBody, Version, open,
};
use seeded::Seeded;

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join("../fuzz/corpus")
        .join(target)
}

fn inputs(target: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = fs::read_dir(corpus(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{target}");
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

/// `GATEWAY_SEED_CORPUS=1` writes them.
#[test]
fn the_committed_corpora_hold() {
    if std::env::var_os("GATEWAY_SEED_CORPUS").is_some() {
        for (target, inputs) in seeds() {
            fs::create_dir_all(corpus(target)).unwrap();
            for (number, input) in inputs.iter().enumerate() {
                fs::write(corpus(target).join(format!("seed-{number:02}")), input).unwrap();
            }
        }
    }
    for (target, body) in bodies::TARGETS {
        inputs(target).iter().for_each(|input| body(input));
    }
}

/// A little fuzzing without a fuzzer: inputs of the corpora, changed. `GATEWAY_FUZZ_ROUNDS` makes it longer.
#[test]
fn changed_inputs_hold() {
    let rounds = std::env::var("GATEWAY_FUZZ_ROUNDS").map_or(2000, |rounds| rounds.parse().unwrap());
    let mut seeded = Seeded(7);
    for (target, body) in bodies::TARGETS {
        let inputs = inputs(target);
        for _ in 0..rounds {
            let mut data = inputs[seeded.below(inputs.len())].clone();
            for _ in 0..seeded.below(4) {
                let place = seeded.below(data.len() + 1);
                let byte = u8::try_from(seeded.below(256)).unwrap();
                match seeded.below(4) {
                    0 if place < data.len() => data[place] = byte,
                    1 => data.insert(place, byte),
                    2 if place < data.len() => drop(data.remove(place)),
                    3 if place < data.len() => data[place] ^= 1 << (byte % 8),
                    _ => data.extend_from_slice(&inputs[seeded.below(inputs.len())]),
                }
            }
            body(&data);
        }
    }
}

fn turn(side: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap().to_le_bytes();
    [&[side], &length[..], bytes].concat()
}

fn packets() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let attributes = Attributes {
        permissions: Some(0o100_644),
        ..Attributes::default()
    };
    let request = |id, body| Request { id, body }.encode().unwrap();
    let response = |id, body| Response { id, body }.encode().unwrap();
    let name = |filename| Name {
        filename,
        longname: b"-rw-r--r--",
        attributes: Attributes::default(),
    };
    let client = vec![
        Init {
            version: 3,
            extensions: vec![],
        }
        .encode()
        .unwrap(),
        request(
            1,
            RequestBody::Open {
                path: b"/a",
                flags: open::READ,
                attributes: attributes.clone(),
            },
        ),
        request(
            2,
            RequestBody::Read {
                handle: b"H",
                offset: 0,
                length: 8,
            },
        ),
        request(
            3,
            RequestBody::Rename {
                old: b"a",
                new: b"/b/../c",
            },
        ),
        request(4, RequestBody::Close { handle: b"H" }),
        request(
            5,
            RequestBody::Setstat {
                path: b"/a",
                attributes,
            },
        ),
        request(6, RequestBody::Extended(Extended::Limits)),
        request(7, RequestBody::Extended(Extended::Statvfs { path: b"/" })),
    ];
    let target = vec![
        Version {
            version: 3,
            extensions: vec![],
        }
        .encode()
        .unwrap(),
        response(1, ResponseBody::Name(Names(vec![name(b"/srv/a")]))),
        response(2, ResponseBody::Handle { handle: b"H" }),
        response(3, ResponseBody::Data { data: b"data" }),
        response(1, ResponseBody::Name(Names(vec![name(b"/secret/a")]))),
        response(
            4,
            ResponseBody::Status {
                code: 0,
                message: b"Success",
                language: b"",
            },
        ),
        response(
            5,
            ResponseBody::Attrs(Attributes {
                size: Some(4),
                ..Attributes::default()
            }),
        ),
    ];
    (client, target)
}

fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let commands = [
        "\0systemctl restart web",
        "\x01cat '/srv/it'\\''s.log' | grep \"a\\$b\" && id",
        "\x02a; b\nc || d",
        "\x03show version",
        "\0echo $(x) `y` > z",
        "\0{ a; }",
        "\0if a; then b; fi",
        "\0a\u{202e}b",
        "\0a\\ b \\'c 'd\"e'",
        "\0X=1 a",
    ];
    let (client, target) = packets();
    // A file is opened, read and closed; the same with a path that is refused.
    let session = |resolved: usize| {
        let turns = [
            turn(0, &client[0]),
            turn(1, &target[0]),
            turn(0, &client[1]),
            turn(1, &target[resolved]),
            turn(1, &target[2]),
            turn(0, &client[2]),
            turn(1, &target[3]),
            turn(0, &[&client[4][..], &client[3], &client[6]].concat()),
            turn(1, &target[5]),
        ];
        turns.concat()
    };
    let source = [
        b"\0".to_vec(),
        turn(0, b"\0"),
        turn(1, b"T1 0 2 0\n"),
        turn(0, b"\0"),
        turn(1, b"C0644 4 a\n"),
        turn(0, b"\0"),
        turn(1, b"data\0"),
        turn(0, b"\0"),
        turn(1, b"C0600 1 b\n"),
        turn(1, b"D0755 0 d\n"),
        turn(0, b"\0"),
        turn(1, b"E\n"),
    ];
    let sink = [
        b"\x01".to_vec(),
        turn(1, b"\0"),
        turn(0, b"D0755 0 d\n"),
        turn(1, b"\0"),
        turn(0, b"C0644 4 a\ndata\0"),
        turn(1, b"\0"),
        turn(1, b"\x01full\n"),
        turn(0, b"E\n"),
        turn(1, b"\x02end\n"),
    ];
    let mut certificate = Vec::new();
    for field in [&b"ssh-ed25519-cert-v01@openssh.com"[..], &[9; 32], &[1; 32]] {
        certificate.extend(u32::try_from(field.len()).unwrap().to_be_bytes());
        certificate.extend(field);
    }
    certificate.extend(b"\0\0\0\0\0\0\0\x07\0\0\0\x01\0\0\0\x02id\0\0\0\x0a\0\0\0\x06deploy");
    certificate.extend(b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02");
    certificate.extend(b"\0\0\0\x1f\0\0\0\x0dforce-command\0\0\0\x0a\0\0\0\x06uptime\0\0\0\0\0\0\0\0");
    certificate
        .extend(b"\0\0\0\x14\0\0\0\x0bssh-ed25519\0\0\0\x01k\0\0\0\x14\0\0\0\x0bssh-ed25519\0\0\0\x01s");
    assert!(proto_ssh::wire::certificate::UserCertificate::parse(&certificate).is_ok());
    vec![
        (
            "ssh-command",
            commands.iter().map(|line| line.as_bytes().to_vec()).collect(),
        ),
        ("sftp-packet", [client.clone(), target.clone()].concat()),
        ("sftp-session", vec![session(1), session(4)]),
        ("scp-session", vec![source.concat(), sink.concat()]),
        (
            "ssh-certificate",
            vec![certificate, b"C0644 4 a\n".to_vec(), b"T1 0 2 0\n".to_vec()],
        ),
    ]
}
