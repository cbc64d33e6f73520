//! The body of the fuzz target `session`: turns of two peers that send anything, wait, and close.

use std::collections::BTreeMap;

use gateway_core::machine::{End, Peer, Stage};

use super::bodies::catalog;
use super::driver::{Answer, Asked, Driver};
use super::message::{frame, frames, text};

/// What the gateway may say by itself to the client for each message of a peer, in bytes.
const MOST_SAID: usize = 2048;
/// What it may ask the target for each of them: its own questions are long.
const MOST_ASKED: usize = 8192;

struct Turn<'a> {
    from: Peer,
    answer: Answer,
    /// The peer closes after the bytes.
    closes: bool,
    bytes: &'a [u8],
}

/// A turn is one byte (bit 0: the target's; bits 1 and 2: how policy answers; bit 3: the peer closes), a length of two
/// bytes, and the bytes.
fn turns(mut data: &[u8]) -> Vec<Turn<'_>> {
    let mut list = Vec::new();
    while let [kind, low, high, rest @ ..] = data {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (bytes, later) = rest.split_at(len);
        let answer = match kind >> 1 & 3 {
            0 => Answer::Run,
            1 => Answer::Deny,
            2 => Answer::Rows(1),
            _ => Answer::Hold(1, true),
        };
        list.push(Turn {
            from: if kind & 1 == 1 { Peer::Target } else { Peer::Client },
            answer,
            closes: kind & 8 == 8,
            bytes,
        });
        data = later;
    }
    list
}

/// What a peer has sent until it closed.
fn sent(turns: &[Turn<'_>], peer: Peer) -> Vec<u8> {
    let mut all = Vec::new();
    for turn in turns.iter().filter(|turn| turn.from == peer) {
        all.extend_from_slice(turn.bytes);
        if turn.closes {
            break;
        }
    }
    all
}

/// What came of the turns.
#[derive(Debug, PartialEq)]
struct Result {
    to_client: Vec<u8>,
    to_target: Vec<u8>,
    /// How much of it was there before the goodbye.
    before: (usize, usize),
    asked: Vec<Asked>,
    end: Option<End>,
}

fn play(turns: &[Turn<'_>], chunk: usize) -> Result {
    let answer = std::rc::Rc::new(std::cell::Cell::new(Answer::Run));
    let current = answer.clone();
    let mut driver = Driver::new(catalog().clone(), Box::new(move |_, _| current.get()));
    let mut closed = [false; 2];
    for turn in turns {
        answer.set(turn.answer);
        let closed = &mut closed[usize::from(turn.from == Peer::Target)];
        let bytes = if *closed { &[] } else { turn.bytes };
        for bytes in bytes.chunks(chunk) {
            if turn.from == Peer::Target {
                driver.from_target.extend_from_slice(bytes);
                driver.pump_target();
            } else {
                driver.from_client.extend_from_slice(bytes);
                driver.pump();
            }
        }
        if turn.closes {
            *closed = true;
            driver.close(turn.from);
        }
        driver.tick();
        driver.pump();
    }
    let before = (driver.out.to_client.len(), driver.out.to_target.len());
    if let Some(end) = driver.end.clone() {
        driver.goodbye(&end);
    }
    Result {
        to_client: driver.out.to_client.to_vec(),
        to_target: driver.out.to_target.to_vec(),
        before,
        asked: driver.asked.clone(),
        end: driver.end.clone(),
    }
}

/// Arbitrary bytes from both peers, which may close.
pub fn session(data: &[u8]) {
    let turns = turns(data);
    let whole = play(&turns, usize::MAX);
    for chunk in [1, 7] {
        assert_eq!(play(&turns, chunk), whole, "in chunks of {chunk}");
    }
    let (client, target) = (sent(&turns, Peer::Client), sent(&turns, Peer::Target));
    only_what_was_judged(&whole);
    forwarded(&whole.to_target, &client, b"QPBFdcf", made);
    forwarded(&whole.to_client, &target, b"TDdV", |_, _| false);
    says_goodbye(&whole);
    let messages = 1 + frames(&client).len() + frames(&target).len();
    let own = |all: &[u8], passed: &[u8]| all.len().saturating_sub(passed.len());
    assert!(own(&whole.to_client, &target) <= messages * MOST_SAID);
    assert!(own(&whole.to_target, &client) <= messages * MOST_ASKED);
}

/// Whether the gateway has made a message to the target by itself.
fn made(tag: u8, body: &[u8]) -> bool {
    let (first, rest) = text(body);
    match tag {
        b'Q' => first == proto_postgres::session::REFUSED,
        b'P' => is_own(&first),
        b'B' => is_own(&first) && is_own(&text(rest).0),
        _ => false,
    }
}

fn is_own(name: &str) -> bool {
    name == "gateway-nonce"
}

/// Of messages with these tags, a peer gets none that the other one has not sent, and none twice; and what it gets of a
/// message that is not whole are bytes of the other one.
fn forwarded(got: &[u8], sent: &[u8], tags: &[u8], made: impl Fn(u8, &[u8]) -> bool) {
    let mut there: BTreeMap<(u8, &[u8]), usize> = BTreeMap::new();
    for message in frames(sent) {
        *there.entry(message).or_default() += 1;
    }
    let mut whole = 0;
    for (tag, body) in frames(got) {
        whole += frame(tag, body).len();
        if tags.contains(&tag) && !made(tag, body) {
            let left = there.entry((tag, body)).or_default();
            assert!(
                *left > 0,
                "nobody sent {:?} \"{}\"",
                char::from(tag),
                body.escape_ascii()
            );
            *left -= 1;
        }
    }
    let rest = &got[whole..];
    let there = rest.is_empty() || sent.windows(rest.len()).any(|part| part == rest);
    assert!(there, "nobody sent \"{}\"", rest.escape_ascii());
}

/// The goodbye is one message to each peer at most, and none to a target that has gone.
fn says_goodbye(whole: &Result) {
    let (client, target) = whole.before;
    let (to_client, to_target) = (&whole.to_client[client..], &whole.to_target[target..]);
    match &whole.end {
        None => assert!(to_client.is_empty() && to_target.is_empty()),
        Some(end) => {
            assert!(to_target.is_empty() || to_target == frame(b'X', b""));
            assert!(to_target.is_empty() || *end != End::TargetClosed);
            let said = frames(to_client);
            assert!(
                to_client.is_empty() || matches!(said[..], [(b'E', _)]),
                "{said:?}"
            );
        }
    }
}

/// Nothing is forwarded that policy has not judged.
fn only_what_was_judged(whole: &Result) {
    let judged = |text: &str, run: bool| {
        whole
            .asked
            .iter()
            .filter(|a| a.runs && (a.stage == Stage::Run) == run && a.text == text)
            .count()
    };
    let (mut executes, mut runs) = (0, 0);
    for (tag, body) in frames(&whole.to_target) {
        match tag {
            b'Q' => {
                let (sql, _) = text(body);
                runs += 1;
                assert!(made(tag, body) || judged(&sql, true) > 0, "{sql:?}");
            }
            b'P' => {
                let (name, rest) = text(body);
                let (sql, _) = text(rest);
                assert!(is_own(&name) || judged(&sql, false) > 0, "{name:?} {sql:?}");
            }
            b'E' if !is_own(&text(body).0) => executes += 1,
            b'F' => runs += 1,
            b'B' | b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'd' | b'c' | b'f' => {}
            other => panic!("{:?} was forwarded", char::from(other)),
        }
    }
    let allowed = whole
        .asked
        .iter()
        .filter(|asked| asked.runs && asked.stage == Stage::Run)
        .count();
    assert!(executes <= allowed, "{executes} of {allowed}; {runs}");
}
