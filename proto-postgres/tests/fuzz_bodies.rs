//! The corpora of the fuzz targets, replayed with any toolchain; and where the seeds come from.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a test"
)]

#[path = "pair/mod.rs"]
mod pair;

use std::path::PathBuf;

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join("../fuzz/corpus")
        .join(target)
}

#[test]
fn the_committed_corpora_hold() {
    for (target, body) in pair::bodies::TARGETS {
        let files: Vec<_> = std::fs::read_dir(corpus(target))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(!files.is_empty(), "{target}");
        for file in files {
            let data = std::fs::read(&file).unwrap();
            let held = std::panic::catch_unwind(|| body(&data));
            assert!(held.is_ok(), "{}", file.display());
        }
    }
}

/// A little fuzzing without a fuzzer: inputs of the corpora, spliced and changed. `GATEWAY_FUZZ_ROUNDS` makes it longer.
#[test]
fn changed_inputs_hold() {
    let rounds = std::env::var("GATEWAY_FUZZ_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(200);
    let mut dice = pair::play::Dice::new(7);
    for (target, body) in pair::bodies::TARGETS {
        let mut files: Vec<_> = std::fs::read_dir(corpus(target))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let inputs: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
        for _ in 0..rounds {
            let mut data = inputs[dice.roll(inputs.len())].clone();
            for _ in 0..dice.roll(4) {
                let at = dice.roll(data.len() + 1);
                match dice.roll(4) {
                    0 if at < data.len() => data[at] = u8::try_from(dice.roll(256)).unwrap(),
                    1 => data.truncate(at),
                    2 => {
                        let other = &inputs[dice.roll(inputs.len())];
                        let tail = data.split_off(at);
                        data.extend_from_slice(&other[dice.roll(other.len() + 1)..]);
                        data.extend_from_slice(&tail);
                    }
                    _ => data.extend_from_slice(&inputs[dice.roll(inputs.len())]),
                }
            }
            let held = std::panic::catch_unwind(|| body(&data));
            assert!(held.is_ok(), "{target}: \"{}\"", data.escape_ascii());
        }
    }
}

#[cfg(feature = "goldens")]
mod seed {
    use pair::message::*;
    use proto_postgres::wire::{Framing, Peer, goldens};

    use super::*;

    fn put(target: &str, name: &str, bytes: &[u8]) {
        std::fs::create_dir_all(corpus(target)).unwrap();
        std::fs::write(corpus(target).join(name), bytes).unwrap();
    }

    fn turn(kind: u8, bytes: &[u8]) -> Vec<u8> {
        let mut turn = vec![kind];
        turn.extend_from_slice(&u16::try_from(bytes.len()).unwrap().to_le_bytes());
        turn.extend_from_slice(bytes);
        turn
    }

    /// The client closes five bytes, which is a Terminate, before the end of its CopyData.
    fn closes_in_copy_data() -> Vec<u8> {
        let script = query("COPY t3 FROM STDIN");
        let played = pair::play::whole(&script, |_, _| pair::driver::Answer::Run);
        let mut server = pair::server::Server::default();
        server.take(&played.to_target);
        let row = copy_data("0123456789");
        [
            turn(0, &script),
            turn(1, &server.output),
            turn(8, &row[..row.len() - 5]),
        ]
        .concat()
    }

    /// Writes the seeds; only when it is asked to.
    #[test]
    fn seed() {
        if std::env::var_os("GATEWAY_SEED_CORPUS").is_none() {
            return;
        }
        for (n, golden) in goldens().iter().enumerate() {
            let name = format!("golden-{n:03}-{}", golden.message);
            match (golden.framing, golden.peer) {
                (Framing::Startup, _) => put("startup", &name, &golden.bytes[4..]),
                (_, Peer::Client) => {
                    put(
                        "frontend",
                        &name,
                        &[&golden.bytes[..1], &golden.bytes[5..]].concat(),
                    );
                }
                (_, Peer::Upstream) => put(
                    "backend",
                    &name,
                    &[&golden.bytes[..1], &golden.bytes[5..]].concat(),
                ),
            }
            if golden.framing == Framing::Tagged {
                put("frame", &name, golden.bytes);
                let kind = u8::from(golden.peer == Peer::Upstream);
                let query = turn(0, &query("SELECT id FROM t3"));
                put("session", &name, &[query, turn(kind, golden.bytes)].concat());
            }
        }
        let statements = [
            "",
            ";",
            "SELECT id FROM t3",
            "SELECT * FROM secret2 s JOIN held3 h USING (id) WHERE s.id > 'a' ORDER BY 1",
            "BEGIN; UPDATE t3 SET id = 'x' WHERE id = 'y'; COMMIT",
            "COPY t3 FROM STDIN",
            "COPY (SELECT id FROM t5) TO STDOUT",
            "SET search_path TO other, public",
            "PREPARE s1 AS SELECT id FROM t3 WHERE id = $1",
            "EXECUTE s1('x')",
            "DECLARE c CURSOR FOR SELECT id FROM t5",
            "FETCH ALL FROM c",
            "DO $$ BEGIN DELETE FROM t3; END $$",
            "WITH r AS (DELETE FROM t3 RETURNING id) SELECT count(*) FROM r",
            "EXPLAIN ANALYZE DELETE FROM t3",
            "CREATE TEMP TABLE x AS SELECT * FROM secret2",
            "SELECT E'\\'; DROP TABLE t3; --'",
            "SELECT '\\'; DROP TABLE t3; --'",
            "SELECT 1 /* /* nested */ */",
            "MERGE INTO t3 USING t5 ON t3.id = t5.id WHEN MATCHED THEN DELETE",
            "SELECT pg_read_file('/etc/passwd')",
            "SELECT ((((((((((1))))))))))",
        ];
        for (n, sql) in statements.iter().enumerate() {
            put("analyze", &format!("statement-{n:02}"), sql.as_bytes());
        }
        let scripts = [
            [query("BEGIN"), query("SELECT id FROM secret2"), query("ROLLBACK")].concat(),
            [
                unnamed("SELECT id FROM t3"),
                sync(),
                unnamed("SELECT id FROM held3"),
                sync(),
            ]
            .concat(),
            [
                parse("s1", "SELECT id FROM t3"),
                bind("p1", "s1"),
                execute("p1", 1),
                close('S', "s1"),
                sync(),
            ]
            .concat(),
            [
                query("COPY t3 FROM STDIN"),
                copy_data("1"),
                copy_done(),
                query(""),
            ]
            .concat(),
            [
                query("SET search_path TO other"),
                parse("", "SELECT id FROM x2"),
                describe('S', ""),
                flush(),
                sync(),
            ]
            .concat(),
        ];
        for (n, script) in scripts.iter().enumerate() {
            for (kind, word) in [(0, "run"), (2, "deny"), (4, "rows"), (6, "hold")] {
                let played = pair::play::whole(script, move |_, _| match kind {
                    0 => pair::driver::Answer::Run,
                    2 => pair::driver::Answer::Deny,
                    4 => pair::driver::Answer::Rows(1),
                    _ => pair::driver::Answer::Hold(1, true),
                });
                // The server's answers as they came, the gateway's own questions included.
                let mut server = pair::server::Server::default();
                server.take(&played.to_target);
                let turns = [
                    turn(kind, script),
                    turn(kind | 1, &server.output),
                    turn(kind | 1, b""),
                ]
                .concat();
                put("session", &format!("script-{n}-{word}"), &turns);
                // Either peer closes in the middle of what it says.
                let half = script.len() / 2;
                let answers = server.output.len() / 2;
                let client = [turn(kind, &script[..half]), turn(kind | 8, b"")].concat();
                let target = [
                    turn(kind, script),
                    turn(kind | 9, &server.output[..answers]),
                    turn(kind | 8, b""),
                ];
                put("session", &format!("script-{n}-{word}-client-closes"), &client);
                put(
                    "session",
                    &format!("script-{n}-{word}-target-closes"),
                    &target.concat(),
                );
            }
        }
        put("session", "closes-in-copy-data", &closes_in_copy_data());
    }
}
