//! A session between a scripted client and a model of the server: refusals have their place, names mean what the
//! server takes them for, nothing runs that was not judged, nobody is left waiting.
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

use gateway_core::machine::{End, Peer};
use pair::driver::{Answer, STATEMENT_BYTES};
use pair::message::*;
use pair::play::{Dice, all, bare, by_table, driver, play, whole};

const OPEN: &str = "SELECT id FROM t3";
const SECRET: &str = "SELECT id FROM secret2";
const HELD: &str = "SELECT id FROM held3";

/// Plays a script whole and in many chunkings; the client sees the same always.
fn told(script: &[Vec<u8>], expected: &str) {
    let script = script.concat();
    let played = whole(&script, by_table);
    assert_eq!(played.driver.end, None);
    assert_eq!(played.short(), expected);
    played.assert_all_was_allowed();
    for seed in 0..40 {
        let again = play(&script, by_table, Some(Dice::new(seed)));
        assert_eq!(again.short(), expected, "seed {seed}");
        again.assert_all_was_allowed();
        assert!(again.driver.from_client.is_empty());
    }
}

/// All that is allowed is as without the gateway.
fn as_bare(script: &[Vec<u8>]) {
    let script = script.concat();
    let (_, expected) = bare(&script);
    for seed in 0..40 {
        let played = play(&script, all, (seed > 0).then(|| Dice::new(seed)));
        assert_eq!(played.driver.end, None, "seed {seed}");
        assert_eq!(played.short(), short(&expected), "seed {seed}");
        assert_eq!(without_notices(&played.to_client), expected, "seed {seed}");
    }
}

#[test]
fn a_refused_query_is_answered_in_its_place() {
    told(
        &[query(OPEN), query(SECRET), query(OPEN)],
        "T D D D C:SELECT 3 Z:I E:42501 Z:I T D D D C:SELECT 3 Z:I",
    );
}

#[test]
fn a_refused_query_fails_its_transaction() {
    told(
        &[
            query("BEGIN"),
            query(SECRET),
            query(OPEN),
            query("ROLLBACK"),
            query(OPEN),
        ],
        "C:BEGIN Z:T E:42501 Z:E E:25P02 Z:E C:ROLLBACK Z:I T D D D C:SELECT 3 Z:I",
    );
}

#[test]
fn a_refused_parse_discards_to_sync() {
    told(
        &[
            unnamed(OPEN),
            unnamed(SECRET),
            unnamed(OPEN),
            sync(),
            unnamed(OPEN),
            sync(),
            sync(),
        ],
        "1 2 D D D C:SELECT 3 E:42501 Z:I 1 2 D D D C:SELECT 3 Z:I Z:I",
    );
}

#[test]
fn a_held_statement_waits_in_its_place_and_is_held_each_time() {
    let script = [
        parse("s1", HELD),
        bind("", "s1"),
        execute("", 0),
        sync(),
        query(OPEN),
        bind("", "s1"),
        execute("", 0),
        sync(),
    ];
    told(
        &script,
        "1 2 D D D C:SELECT 3 Z:I T D D D C:SELECT 3 Z:I 2 D D D C:SELECT 3 Z:I",
    );
    let played = whole(&script.concat(), |_, operations| {
        if operations.iter().any(|o| o.contains("held3")) {
            Answer::Hold(3, false)
        } else {
            Answer::Run
        }
    });
    assert_eq!(
        played.short(),
        "1 2 E:42501 Z:I T D D D C:SELECT 3 Z:I 2 E:42501 Z:I"
    );
    assert_eq!(
        frames(&played.to_client)
            .iter()
            .filter(|(tag, _)| *tag == b'N')
            .count(),
        2
    );
}

/// A few bytes ask for an answer that is remembered by hundreds: how many of them a server's buffers take must not decide
/// what a session takes here.
#[test]
fn a_client_gets_only_so_far_ahead_of_a_server_that_does_not_answer() {
    let (mut driver, _) = driver(all);
    driver.from_client.extend_from_slice(&sync().repeat(20_000));
    driver.pump();
    assert_eq!(driver.end, None);
    assert_eq!(frames(&driver.out.to_target).len(), 4096);
    assert!(!driver.from_client.is_empty());
    // It goes on with every answer, also where the client asks for none before the end of a long run.
    let run = [bind("", "s1"), execute("", 0)].concat().repeat(3000);
    for script in [
        sync().repeat(20_000),
        query(OPEN).repeat(5000),
        [parse("s1", OPEN), sync(), run.clone(), sync()].concat(),
        // All but the first is skipped.
        [
            parse("s1", OPEN),
            sync(),
            parse("s1", OPEN),
            run,
            sync(),
            query(OPEN),
        ]
        .concat(),
    ] {
        let (_, expected) = bare(&script);
        let played = whole(&script, all);
        assert_eq!(played.driver.end, None);
        assert!(played.driver.is_quiet());
        assert!(without_notices(&played.to_client) == expected, "other answers");
    }
}

/// A portal of that name ended with its transaction: what is bound now is what runs.
#[test]
fn a_portal_name_used_again_after_sync_means_the_new_statement() {
    let played = whole(
        &[
            parse("a", OPEN),
            parse("h", HELD),
            bind("p1", "a"),
            execute("p1", 0),
            sync(),
            bind("p1", "h"),
            execute("p1", 0),
            sync(),
        ]
        .concat(),
        |_, operations| {
            if operations.iter().any(|o| o.contains("held3")) {
                Answer::Hold(1, false)
            } else {
                Answer::Run
            }
        },
    );
    assert_eq!(played.short(), "1 1 2 D D D C:SELECT 3 Z:I 2 E:42501 Z:I");
    assert_eq!(played.server.ran, [OPEN]);
}

/// COMMIT within a pipeline frees the portals' names before the Sync.
#[test]
fn a_portal_name_used_again_after_commit_in_a_pipeline_means_the_new_statement() {
    told(
        &[
            parse("a", OPEN),
            parse("h", HELD),
            unnamed("BEGIN"),
            bind("p1", "a"),
            execute("p1", 0),
            unnamed("COMMIT"),
            bind("p1", "h"),
            execute("p1", 0),
            sync(),
        ],
        "1 1 1 2 C:BEGIN 2 D D D C:SELECT 3 1 2 C:COMMIT 2 D D D C:SELECT 3 Z:I",
    );
    told(
        &[
            parse("a", OPEN),
            parse("h", HELD),
            sync(),
            query("BEGIN"),
            query("SAVEPOINT a"),
            bind("p1", "a"),
            sync(),
            query("ROLLBACK TO a"),
            bind("p1", "h"),
            execute("p1", 0),
            sync(),
            query("COMMIT"),
        ],
        "1 1 Z:I C:BEGIN Z:T C:SAVEPOINT Z:T 2 Z:T C:ROLLBACK Z:T 2 D D D C:SELECT 3 Z:T C:COMMIT Z:I",
    );
}

/// What was made and closed in a run that the server skipped was never there.
#[test]
fn a_skipped_parse_and_close_leave_nothing_behind() {
    told(
        &[
            parse("", "SELEC nonsense"),
            sync(),
            unnamed("SELECT 1/0 FROM t3"),
            parse("s1", OPEN),
            close('S', "s1"),
            sync(),
            parse("s1", HELD),
            bind("", "s1"),
            execute("", 0),
            sync(),
        ],
        "E:42501 Z:I 1 2 E:22012 Z:I 1 2 D D D C:SELECT 3 Z:I",
    );
}

#[test]
fn a_name_that_is_taken_keeps_its_meaning() {
    told(
        &[
            parse("s1", OPEN),
            sync(),
            parse("s1", HELD),
            sync(),
            bind("", "s1"),
            execute("", 0),
            sync(),
            close('S', "s1"),
            parse("s1", HELD),
            bind("", "s1"),
            execute("", 0),
            sync(),
        ],
        "1 Z:I E:42P05 Z:I 2 D D D C:SELECT 3 Z:I 3 1 2 D D D C:SELECT 3 Z:I",
    );
    // The Close and the Parse behind the failure are skipped, also for an EXECUTE that comes with the next run.
    told(
        &[
            parse("s1", HELD),
            sync(),
            unnamed("SELECT 1/0 FROM t3"),
            close('S', "s1"),
            parse("s1", OPEN),
            sync(),
            query("EXECUTE s1"),
        ],
        "1 Z:I 1 2 E:22012 Z:I T D D D C:SELECT 3 Z:I",
    );
}

/// EXECUTE and COPY look names up when they run, not when they are bound.
#[test]
fn what_resolves_names_when_it_runs_is_judged_then() {
    told(
        &[
            query("PREPARE s1 AS SELECT id FROM t3"),
            parse("e", "EXECUTE s1"),
            sync(),
            query("DEALLOCATE s1"),
            query("PREPARE s1 AS SELECT id FROM held3"),
            bind("", "e"),
            execute("", 0),
            sync(),
        ],
        "C:PREPARE Z:I 1 Z:I C:DEALLOCATE Z:I C:PREPARE Z:I 2 D D D C:SELECT 3 Z:I",
    );
    let script = [
        query("SET search_path TO other"),
        query("BEGIN"),
        parse("c", "COPY x2 TO STDOUT"),
        bind("p1", "c"),
        sync(),
        query("SET search_path TO public"),
        execute("p1", 0),
        sync(),
        query("ROLLBACK"),
    ];
    told(
        &script,
        "C:SET Z:I C:BEGIN Z:T 1 2 Z:T C:SET Z:T E:42501 Z:E C:ROLLBACK Z:I",
    );
}

#[test]
fn unknown_names_are_told_in_their_place() {
    told(
        &[
            unnamed(OPEN),
            execute("nope", 0),
            sync(),
            bind("", "nope"),
            sync(),
            query(OPEN),
        ],
        "1 2 D D D C:SELECT 3 E:34000 Z:I E:26000 Z:I T D D D C:SELECT 3 Z:I",
    );
}

#[test]
fn portal_row_limits_are_the_clients() {
    as_bare(&[
        query("BEGIN"),
        parse("a", OPEN),
        bind("p1", "a"),
        execute("p1", 2),
        execute("p1", 2),
        execute("p1", 1),
        sync(),
        query("COMMIT"),
    ]);
}

#[test]
fn a_budget_of_rows_holds_everywhere() {
    let budget = "SELECT id FROM budget5";
    told(
        &[query(budget), query(OPEN)],
        "T D D E:42501 Z:I T D D D C:SELECT 3 Z:I",
    );
    told(
        &[unnamed(budget), unnamed(OPEN), sync(), query(OPEN)],
        "1 2 D D E:42501 Z:I T D D D C:SELECT 3 Z:I",
    );
    told(
        &[query("BEGIN"), query(budget), query(OPEN), query("ROLLBACK")],
        "C:BEGIN Z:T T D D E:42501 Z:E E:25P02 Z:E C:ROLLBACK Z:I",
    );
    told(
        &[
            query("BEGIN"),
            parse("b", budget),
            bind("p1", "b"),
            execute("p1", 1),
            execute("p1", 1),
            execute("p1", 1),
            sync(),
            query("ROLLBACK"),
        ],
        "C:BEGIN Z:T 1 2 D s D s E:42501 Z:E C:ROLLBACK Z:I",
    );
    told(
        &[query("COPY budget5 TO STDOUT"), query(OPEN)],
        "H d d E:42501 Z:I T D D D C:SELECT 3 Z:I",
    );
    told(
        &[unnamed("COPY budget5 TO STDOUT"), sync(), query(OPEN)],
        "1 2 H d d E:42501 Z:I T D D D C:SELECT 3 Z:I",
    );
}

#[test]
fn copy_in_goes_through_in_both_protocols() {
    let data = [copy_data("1"), copy_data("2"), copy_done()].concat();
    as_bare(&[query("COPY t3 FROM STDIN"), data.clone(), query(OPEN)]);
    as_bare(&[
        query("COPY t3 FROM STDIN; COPY t3 FROM STDIN"),
        data.clone(),
        data.clone(),
        query(OPEN),
    ]);
    as_bare(&[
        unnamed("COPY t3 FROM STDIN"),
        sync(),
        data.clone(),
        sync(),
        query(OPEN),
    ]);
    as_bare(&[unnamed("COPY t3 FROM STDIN"), data.clone(), sync(), query(OPEN)]);
    as_bare(&[
        query("COPY t3 FROM STDIN"),
        copy_data("bad"),
        copy_done(),
        query(OPEN),
    ]);
    as_bare(&[
        unnamed("COPY t3 FROM STDIN"),
        copy_data("bad"),
        copy_done(),
        sync(),
        query(OPEN),
    ]);
    told(
        &[query("COPY secret2 FROM STDIN"), data, query(OPEN)],
        "E:42501 Z:I T D D D C:SELECT 3 Z:I",
    );
}

/// What is in front of a COPY FROM STDIN ends; the COPY still begins.
/// Five bytes are missing, as many as the goodbye has: as data it would make the message whole.
#[test]
fn a_session_that_ends_within_copy_data_writes_nothing_into_it() {
    let row = copy_data("0123456789");
    let script = [query("COPY t3 FROM STDIN"), row[..row.len() - 5].to_vec()].concat();
    let mut played = whole(&script, all);
    assert!(played.to_target.ends_with(b"01234"), "{:?}", played.to_target);
    played.driver.goodbye(&End::ClientClosed);
    assert!(played.driver.out.to_target.is_empty());
}

#[test]
fn a_pipelined_copy_in_keeps_its_place() {
    let data = [copy_data("1"), copy_done()].concat();
    as_bare(&[
        query(OPEN),
        query("COPY t3 FROM STDIN"),
        data.clone(),
        query(OPEN),
    ]);
    as_bare(&[
        query("SELECT 1/0 FROM t3"),
        query("COPY t3 FROM STDIN"),
        data.clone(),
        query(OPEN),
    ]);
    as_bare(&[
        unnamed(OPEN),
        unnamed("COPY t3 FROM STDIN"),
        sync(),
        data.clone(),
        sync(),
        query(OPEN),
    ]);
    as_bare(&[
        unnamed("SELECT 1/0 FROM t3"),
        sync(),
        unnamed("COPY t3 FROM STDIN"),
        sync(),
        data,
        sync(),
        query(OPEN),
    ]);
}

#[test]
fn long_messages_are_refused_in_their_place() {
    let long = "x".repeat(STATEMENT_BYTES + 20_000);
    told(
        &[query(OPEN), query(&long), query(OPEN)],
        "T D D D C:SELECT 3 Z:I E:54000 Z:I T D D D C:SELECT 3 Z:I",
    );
    told(
        &[
            unnamed(OPEN),
            bind(&long, ""),
            execute("", 0),
            sync(),
            query(OPEN),
        ],
        "1 2 D D D C:SELECT 3 E:54000 Z:I T D D D C:SELECT 3 Z:I",
    );
}

/// A statement of exactly so many bytes, with blanks at its end.
fn of_bytes(bytes: usize) -> String {
    format!("{OPEN:bytes$}")
}

#[test]
fn the_limit_of_a_statement_is_that_of_its_text() {
    told(&[query(&of_bytes(STATEMENT_BYTES))], "T D D D C:SELECT 3 Z:I");
    told(&[query(&of_bytes(STATEMENT_BYTES + 1))], "E:54000 Z:I");
    let extended = |bytes| [unnamed(&of_bytes(bytes)), sync(), query(OPEN)];
    told(
        &extended(STATEMENT_BYTES),
        "1 2 D D D C:SELECT 3 Z:I T D D D C:SELECT 3 Z:I",
    );
    told(
        &extended(STATEMENT_BYTES + 1),
        "E:54000 Z:I T D D D C:SELECT 3 Z:I",
    );
}

#[test]
fn what_is_no_protocol_ends_the_session() {
    for bad in [
        frame(b'?', b""),
        frame(b'p', b"x\0"),
        frame(b'Q', b"no end"),
        vec![b'Q', 0, 0, 0, 1],
    ] {
        let played = whole(&[query(OPEN), bad].concat(), all);
        assert!(matches!(played.driver.end, Some(End::Fault(fault)) if fault.peer == Peer::Client));
    }
}

#[test]
fn a_function_call_asks_what_is_not_understood() {
    let call = frame(b'F', &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    told(&[call.clone(), query(OPEN)], "E:42501 Z:I T D D D C:SELECT 3 Z:I");
    assert_eq!(whole(&call, all).short(), "V Z:I");
}

#[test]
fn a_target_that_breaks_the_protocol_ends_the_session() {
    let unsolicited: [&[u8]; 8] = [b"1", b"2", b"D", b"C", b"Z", b"T", b"G", b"s"];
    for tag in unsolicited {
        let body: &[u8] = match tag {
            b"Z" => b"I",
            b"D" | b"T" => &[0, 0],
            b"C" => b"SELECT 1\0",
            b"G" => &[0, 0, 0],
            _ => b"",
        };
        let mut driver = pair::driver::Driver::new(pair::server::Server::default().catalog(), Box::new(all));
        driver.from_target.extend_from_slice(&frame(tag[0], body));
        driver.pump();
        assert!(
            matches!(&driver.end, Some(End::Fault(fault)) if fault.peer == Peer::Target),
            "{tag:?}"
        );
        assert!(driver.out.to_client.is_empty());
    }
    let mut driver = pair::driver::Driver::new(pair::server::Server::default().catalog(), Box::new(all));
    driver.from_target.extend_from_slice(&[b'N', 0, 0, 0, 3]);
    driver.pump();
    assert!(matches!(driver.end, Some(End::Fault(fault)) if fault.peer == Peer::Target));
}

#[test]
fn a_changed_search_path_is_seen_at_bind() {
    told(
        &[
            query("SET search_path TO other"),
            parse("s1", "SELECT id FROM x2"),
            bind("", "s1"),
            execute("", 0),
            sync(),
            query("SET search_path TO public"),
            bind("", "s1"),
            execute("", 0),
            sync(),
            query(OPEN),
        ],
        "C:SET Z:I 1 2 D D C:SELECT 2 Z:I C:SET Z:I E:42501 Z:I T D D D C:SELECT 3 Z:I",
    );
}

/// The end of a run undoes SET LOCAL, and a failure undoes SET: what was pipelined behind it sees that.
#[test]
fn a_search_path_that_the_end_of_a_run_undoes_is_not_believed_behind_it() {
    let x2 = [unnamed("SELECT id FROM x2"), sync()].concat();
    told(
        &[
            unnamed("SET LOCAL search_path TO other"),
            unnamed("SELECT id FROM x2"),
            sync(),
            x2.clone(),
        ],
        "1 2 C:SET 1 2 D D C:SELECT 2 Z:I E:42501 Z:I",
    );
    told(
        &[
            unnamed("SET search_path TO other"),
            unnamed("SELECT id FROM x2"),
            unnamed("SELECT 1/0 FROM public.t3"),
            sync(),
            x2,
        ],
        "1 2 C:SET 1 2 D D C:SELECT 2 1 2 E:22012 Z:I E:42501 Z:I",
    );
}

#[test]
fn statements_at_the_level_of_sql() {
    told(
        &[
            query("PREPARE s1 AS SELECT id FROM t3"),
            query("EXECUTE s1"),
            bind("", "s1"),
            execute("", 0),
            sync(),
            query("DISCARD ALL"),
            bind("", "s1"),
            sync(),
            query("PREPARE s1 AS SELECT id FROM secret2"),
        ],
        "C:PREPARE Z:I T D D D C:SELECT 3 Z:I 2 D D D C:SELECT 3 Z:I C:DISCARD ALL Z:I E:26000 Z:I E:42501 Z:I",
    );
    as_bare(&[
        query("BEGIN"),
        query("DECLARE p1 CURSOR FOR SELECT id FROM t5"),
        execute("p1", 2),
        sync(),
        query("FETCH ALL FROM p1"),
        query("CLOSE p1"),
        query("COMMIT"),
    ]);
}

#[test]
fn a_transaction_sees_its_own_structure() {
    let script = [
        query("BEGIN"),
        query("CREATE TABLE n1 (id text)"),
        query("SELECT id FROM n1"),
        query("ROLLBACK"),
        query("SELECT id FROM n1"),
        query("CREATE TABLE n1 (id text)"),
        query("SELECT id FROM n1"),
    ];
    as_bare(&script);
    let played = whole(&script.concat(), by_table);
    let read = |asked: &&pair::driver::Asked| asked.operations.iter().any(|o| o == "read r/public.n1.id");
    assert_eq!(
        played.driver.asked.iter().filter(read).count(),
        2,
        "{:#?}",
        played.driver.asked
    );
}

/// A portal ends with its run: a FETCH behind that Sync names what nobody knows, however the answers come, and is
/// refused for it; it must not be judged by the portal that was.
#[test]
fn a_fetch_behind_the_end_of_a_run_does_not_find_its_portal() {
    told(
        &[
            parse("s1", "SELECT id FROM budget5"),
            bind("p1", "s1"),
            sync(),
            query("FETCH ALL FROM p1"),
        ],
        "1 2 Z:I E:42501 Z:I",
    );
}

/// PostgreSQL's unnamed statement is replaced when a Parse is read, refused or not; a skipped Parse, DEALLOCATE ALL
/// and DISCARD ALL leave it. What each of these gives is what version 15 was seen to give.
#[test]
fn the_unnamed_statement_lives_as_long_as_the_servers() {
    let again = [bind("", ""), sync()].concat();
    let scripts: [(Vec<u8>, &str); 5] = [
        (
            [unnamed("SAVEPOINT a"), unnamed("BEGIN"), sync(), again.clone()].concat(),
            "1 2 E:25P01 Z:I 2 Z:I",
        ),
        (
            [
                unnamed(OPEN),
                sync(),
                parse("", "SELECT id FROM nowhere"),
                unnamed(OPEN),
                sync(),
                again.clone(),
            ]
            .concat(),
            "1 2 D D D C:SELECT 3 Z:I E:42P01 Z:I E:26000 Z:I",
        ),
        (
            [
                parse("", OPEN),
                parse("", "SELECT id FROM nowhere"),
                sync(),
                again.clone(),
            ]
            .concat(),
            "1 E:42P01 Z:I E:26000 Z:I",
        ),
        (
            [
                parse("", OPEN),
                sync(),
                parse("", "SELECT id FROM nowhere"),
                sync(),
                bind("p1", "s9"),
                parse("", OPEN),
                sync(),
                again.clone(),
            ]
            .concat(),
            "1 Z:I E:42P01 Z:I E:26000 Z:I E:26000 Z:I",
        ),
        (
            [unnamed("DEALLOCATE ALL"), sync(), again].concat(),
            "1 2 C:DEALLOCATE ALL Z:I 2 Z:I",
        ),
    ];
    for (script, expected) in scripts {
        assert_eq!(short(&bare(&script).1), expected);
        as_bare_but_errors(&[script]);
    }
}

mod random {
    use proptest::prelude::*;

    use super::*;

    /// Statements that the bare server and the gateway with a policy that permits all answer alike.
    const STATEMENTS: &[&str] = &[
        OPEN,
        OPEN,
        "SELECT id FROM t0",
        "SELECT id FROM t5",
        "SELECT 1/0 FROM t3",
        "SELECT id FROM nowhere",
        "SELEC nonsense",
        "INSERT INTO t3 VALUES ('1')",
        "COPY t3 TO STDOUT",
        "BEGIN",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT a",
        "ROLLBACK TO a",
        "SET search_path TO other",
        "SET search_path TO public",
        "SET LOCAL search_path TO other",
        "SELECT id FROM x2",
        "PREPARE s1 AS SELECT id FROM t3",
        "PREPARE s2 AS SELECT id FROM held3",
        "EXECUTE s1",
        "EXECUTE s2",
        "DEALLOCATE s1",
        "DEALLOCATE ALL",
        "DECLARE p1 CURSOR FOR SELECT id FROM t5",
        "FETCH ALL FROM p1",
        "CLOSE p1",
        "CREATE TABLE n1 (id text)",
        "SELECT id FROM n1",
        HELD,
        "",
    ];
    const ONLY_ALONE: &[&str] = &[
        "DISCARD ALL",
        "SELECT id FROM t3; SELECT id FROM t0",
        "SELECT id FROM t3; SELECT 1/0 FROM t3; SELECT id FROM t5",
        "SET search_path TO other; SELECT 1/0 FROM public.t3",
        "BEGIN; SELECT id FROM t3; COMMIT",
    ];
    const REFUSED: &[&str] = &[
        SECRET,
        "SELECT id FROM budget5",
        "COPY secret2 TO STDOUT",
        "PREPARE s1 AS SELECT id FROM secret2",
    ];

    fn pick(list: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
        (0..list.len()).prop_map(|at| list[at])
    }

    fn statement(refused: bool) -> BoxedStrategy<&'static str> {
        if refused {
            prop_oneof![5 => pick(STATEMENTS), 1 => pick(REFUSED)].boxed()
        } else {
            pick(STATEMENTS).boxed()
        }
    }

    fn step(refused: bool) -> impl Strategy<Value = Vec<u8>> {
        let statements = || pick(&["", "s1", "s2"]);
        let portals = || pick(&["", "p1", "p2"]);
        prop_oneof![
            3 => (statements(), statement(refused)).prop_map(|(name, sql)| parse(name, sql)),
            4 => (portals(), statements()).prop_map(|(portal, name)| bind(portal, name)),
            4 => (portals(), 0..3).prop_map(|(portal, max)| execute(portal, max)),
            3 => statement(refused).prop_map(unnamed),
            2 => (statements(), portals(), statement(refused)).prop_map(|(name, portal, sql)| {
                [close('S', name), close('P', portal), parse(name, sql), bind(portal, name), execute(portal, 0)].concat()
            }),
            1 => statements().prop_map(|name| describe('S', name)),
            1 => portals().prop_map(|name| describe('P', name)),
            1 => statements().prop_map(|name| close('S', name)),
            1 => portals().prop_map(|name| close('P', name)),
            1 => Just(flush()),
        ]
    }

    /// Bytes that print as text.
    #[derive(Clone)]
    struct Part(Vec<u8>);

    impl std::fmt::Debug for Part {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "\"{}\"", self.0.escape_ascii())
        }
    }

    /// A part of a script that ends with what is answered by ReadyForQuery, once.
    fn part(refused: bool) -> impl Strategy<Value = Part> {
        let data =
            || pick(&["1", "bad"]).prop_map(|row| [copy_data("0"), copy_data(row), copy_done()].concat());
        prop_oneof![
            6 => statement(refused).prop_map(query),
            1 => pick(ONLY_ALONE).prop_map(query),
            8 => prop::collection::vec(step(refused), 0..6).prop_map(|steps| [steps.concat(), sync()].concat()),
            1 => data().prop_map(|data| [query("COPY t3 FROM STDIN"), data].concat()),
            1 => data().prop_map(|data| {
                // Under names that nothing else uses, so that it is not executed again where no data follow.
                let copy = [close('S', "c"), close('P', "c"), parse("c", "COPY t3 FROM STDIN"), bind("c", "c"), execute("c", 0)];
                [copy.concat(), data, sync()].concat()
            }),
        ]
        .prop_map(Part)
    }

    fn ready(bytes: &[u8]) -> usize {
        frames(bytes).iter().filter(|(tag, _)| *tag == b'Z').count()
    }

    fn cases() -> u32 {
        std::env::var("PROPTEST_CASES")
            .ok()
            .and_then(|n| n.parse().ok())
            .unwrap_or(128)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

        /// With a policy that permits all, the client sees what it would see without a gateway.
        #[test]
        fn the_gateway_is_not_seen(parts in prop::collection::vec(part(false), 1..8), seed: u64) {
            let script: Vec<u8> = parts.iter().flat_map(|part| part.0.clone()).collect();
            let (_, expected) = bare(&script);
            for dice in [None, Some(Dice::new(seed)), Some(Dice::new(seed ^ 1))] {
                let played = play(&script, all, dice);
                prop_assert_eq!(&played.driver.end, &None);
                // In a failed transaction the gateway can't ask what names mean, and says no to several statements; and
                // a portal that has changed the structure is not run again, which the server refuses, too.
                let alike = |text: String| text.replace("E:42501", "E:25P02").replace("E:55000", "E:25P02");
                prop_assert_eq!(alike(played.short()), alike(short(&expected)));
                // Of errors the gateway's own have other texts.
                let rest = |bytes| -> Vec<_> {
                    frames(bytes).into_iter().filter(|(tag, _)| !b"EN".contains(tag)).collect()
                };
                prop_assert_eq!(rest(&played.to_client), rest(&expected));
                prop_assert!(played.driver.from_client.is_empty());
                played.assert_all_was_allowed_by(|_| true);
            }
        }

        /// Nothing runs that was not judged, everyone is answered, and the same bytes give the same however they
        /// come.
        #[test]
        fn nothing_runs_unjudged(parts in prop::collection::vec(part(true), 1..8), seed: u64) {
            let script: Vec<u8> = parts.iter().flat_map(|part| part.0.clone()).collect();
            let first = play(&script, by_table, None);
            for dice in [None, Some(Dice::new(seed)), Some(Dice::new(seed ^ 1)), Some(Dice::new(seed ^ 2))] {
                let played = play(&script, by_table, dice);
                prop_assert_eq!(&played.driver.end, &None);
                played.assert_all_was_allowed();
                prop_assert_eq!(ready(&played.to_client), parts.len());
                prop_assert!(played.driver.from_client.is_empty());
                prop_assert_eq!(played.short(), first.short());
                prop_assert_eq!(&played.server.ran, &first.server.ran);
            }
        }
    }
}

/// The portal of a COPY ended with its run: executing it again fails, and what follows goes on.
#[test]
fn a_copy_in_that_can_not_begin_holds_nothing_up() {
    let data = [copy_data("1"), copy_done()].concat();
    let copy = [unnamed("COPY t3 FROM STDIN"), data, sync()].concat();
    as_bare_but_errors(&[copy.clone(), execute("", 0), sync(), query(OPEN)]);
    as_bare_but_errors(&[
        query("BEGIN"),
        query("SELECT 1/0 FROM t3"),
        copy,
        query("ROLLBACK"),
    ]);
}

/// A message that waits for the gateway's own question when an error comes is skipped, and asks nothing.
#[test]
fn an_error_while_a_message_waits_leaves_nobody_waiting() {
    as_bare_but_errors(&[describe('S', ""), parse("", OPEN), sync(), query(OPEN)]);
}

/// As `as_bare`, where the gateway's own errors have other texts.
fn as_bare_but_errors(script: &[Vec<u8>]) {
    let script = script.concat();
    let (_, expected) = bare(&script);
    for seed in 0..40 {
        let played = play(&script, all, (seed > 0).then(|| Dice::new(seed)));
        assert_eq!(
            played.short(),
            short(&expected),
            "seed {seed} {:?} {:?} {:?}",
            played.driver.asked,
            played.driver.from_client,
            frames(&played.to_target)
        );
    }
}
