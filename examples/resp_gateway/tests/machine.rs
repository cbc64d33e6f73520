//! The machine without a socket: the same bytes give the same actions however they are split.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

use std::sync::Arc;
use std::time::Instant;

use gateway_core::machine::{Inspection, Outbound, Outcome, Parsed, Peer, ProtocolSession};
use gateway_core::verdict::{Denial, Obligations, Ruling};
use resp_gateway::session::{Session, decision_in};
use resp_gateway::wire::encode;

/// What `DEL` and `KEYS` ask is refused; `LRANGE` gives at most two elements.
fn rule(
    session: &mut Session,
    mut message: <Session as ProtocolSession>::Message,
    ticket: u64,
    out: &mut Outbound,
) {
    let (operation, denial) = match session.inspect(&mut message, out, Instant::now()).unwrap() {
        Inspection::Ask(question) => (question.operations.summary().to_owned(), None),
        Inspection::Refuse(denial, _) => (denial.operation.clone(), Some(denial)),
        other => panic!("{other:?}"),
    };
    let refused = ["DEL ", "KEYS "].iter().any(|word| operation.starts_with(word));
    let denial = denial.or_else(|| refused.then(|| Denial::new(operation.clone(), "not for you")));
    let ruling = match denial {
        Some(denial) => Ruling::Refuse {
            decision: Arc::new(denial.decision(ticket.to_string())),
            ticket,
        },
        None => Ruling::Run {
            obligations: Obligations {
                rows: operation.starts_with("LRANGE").then_some(2),
                ..Obligations::default()
            },
            ticket,
        },
    };
    session.rewrite(message, &ruling, out).unwrap();
}

/// Plays the client's bytes, then the target's, in chunks of `step`; what each got, and the outcomes.
fn play(client: &[u8], target: &[u8], step: usize) -> (Vec<u8>, Vec<u8>, Vec<Outcome>) {
    let (mut session, mut out) = (Session::new("cache", 4096), Outbound::default());
    let (mut outcomes, mut ticket) = (Vec::new(), 0);
    for (peer, bytes) in [(Peer::Client, client), (Peer::Target, target)] {
        let (mut from, mut have) = (0, 0);
        while from < bytes.len() {
            let input = &bytes[from..have];
            let parsed = if input.is_empty() {
                Parsed::Incomplete
            } else {
                session.parse(peer, input, &mut out, Instant::now()).unwrap()
            };
            match parsed {
                Parsed::Incomplete => {
                    assert!(have < bytes.len(), "it waits for more than there is");
                    have = (have + step).min(bytes.len());
                }
                Parsed::Forward(n) => {
                    assert_eq!(peer, Peer::Target, "nothing of a client goes on unseen");
                    out.to_client.extend_from_slice(&input[..n]);
                    from += n;
                }
                Parsed::Consumed(n) => from += n,
                Parsed::Inspect { consumed, message } => {
                    from += consumed;
                    ticket += 1;
                    rule(&mut session, message, ticket, &mut out);
                }
                other => panic!("{other:?}"),
            }
            outcomes.extend(std::iter::from_fn(|| session.poll_outcome()));
        }
    }
    (out.to_client.to_vec(), out.to_target.to_vec(), outcomes)
}

fn requests(list: &[&str]) -> Vec<u8> {
    list.iter()
        .flat_map(|line| encode(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>()))
        .collect()
}

#[test]
fn any_split_of_the_same_bytes_gives_the_same_actions() {
    let client = requests(&[
        "GET a",
        "DEL a",
        "KEYS *",
        "LRANGE l 0 -1",
        "SORT a",
        "LRANGE m 0 -1",
        "SET b 1",
        "DEL b",
    ]);
    let target = b"$3\r\n\r\nx\r\n*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n>2\r\n+push\r\n:1\r\n*2\r\n$1\r\n1\r\n:2\r\n+OK\r\n";
    let whole = play(&client, target, usize::MAX / 2);
    for step in [1, 2, 3, 5, 7, 16, 61] {
        assert_eq!(play(&client, target, step), whole, "{step}");
    }
    let (to_client, to_target, outcomes) = whole;
    let text = String::from_utf8(to_client).unwrap();
    let lines: Vec<String> = text
        .split("\r\n")
        .map(|line| line.chars().take(20).collect())
        .collect();
    // Each reply and each refusal in its place.
    assert_eq!(lines[..3], ["$3", "", "x"]);
    assert_eq!(lines[3], "-NOPERM DEL cache/a:");
    assert_eq!(lines[4], "-NOPERM KEYS cache: ");
    assert_eq!(lines[5], "-NOPERM reply: {\"cod");
    assert_eq!(lines[6], "-NOPERM unknown SORT");
    assert_eq!(lines[7..10], [">2", "+push", ":1"]);
    assert_eq!(lines[10..14], ["*2", "$1", "1", ":2"]);
    assert_eq!(lines[14], "+OK");
    assert_eq!(lines[15], "-NOPERM DEL cache/b:");
    assert_eq!(
        to_target,
        requests(&["GET a", "LRANGE l 0 -1", "LRANGE m 0 -1", "SET b 1"])
    );
    assert_eq!(outcomes.len(), 4);
    assert_eq!(outcomes[1].error.as_deref(), Some("NOPERM"));
    let refusal = text.split("\r\n").nth(3).unwrap();
    assert_eq!(decision_in(refusal.as_bytes()).unwrap().operation, "DEL cache/a");
}

#[test]
fn a_transaction_of_which_a_part_was_refused_is_not_executed() {
    let (to_client, to_target, _) = play(
        &requests(&["MULTI", "SET a 1", "DEL b", "EXEC", "MULTI", "SET a 2", "EXEC"]),
        b"+OK\r\n+QUEUED\r\n+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n",
        7,
    );
    assert_eq!(
        to_target,
        requests(&["MULTI", "SET a 1", "DISCARD", "MULTI", "SET a 2", "EXEC"])
    );
    let text = String::from_utf8(to_client).unwrap();
    let kinds: Vec<&str> = text
        .lines()
        .map(|line| line.split([' ', '\r']).next().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "+OK",
            "+QUEUED",
            "-NOPERM",
            "-EXECABORT",
            "+OK",
            "+QUEUED",
            "*1",
            "+OK"
        ]
    );
}

#[test]
fn a_limit_on_rows_holds_in_a_transaction_too() {
    let (to_client, to_target, _) = play(
        &requests(&["MULTI", "LRANGE l 0 -1", "EXEC"]),
        b"+OK\r\n+OK\r\n",
        100,
    );
    assert_eq!(to_target, requests(&["MULTI", "DISCARD"]));
    assert!(String::from_utf8(to_client).unwrap().contains("-EXECABORT"));
}

#[test]
fn a_reply_that_nobody_asked_for_ends_the_session() {
    let (mut session, mut out) = (Session::new("cache", 100), Outbound::default());
    let fault = session
        .parse(Peer::Target, b"+OK\r\n", &mut out, Instant::now())
        .unwrap_err();
    assert_eq!(fault.peer, Peer::Target);
}

#[test]
fn a_client_that_asks_without_end_waits() {
    let (mut session, mut out) = (Session::new("cache", 100), Outbound::default());
    let request = requests(&["PING"]);
    for ticket in 1..100_000 {
        match session
            .parse(Peer::Client, &request, &mut out, Instant::now())
            .unwrap()
        {
            Parsed::Inspect { message, .. } => rule(&mut session, message, ticket, &mut out),
            Parsed::Blocked => return,
            other => panic!("{other:?}"),
        }
    }
    panic!("it was never made to wait");
}
