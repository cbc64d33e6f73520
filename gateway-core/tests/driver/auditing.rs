//! What is allowed goes on once the trail has it; what is refused does not.

use std::time::Duration;

use gateway_core::audit::AuditError;
use gateway_core::machine::{End, Fault};
use gateway_core::verdict::{Code, Decision};

use super::world::{Mode, World, line, rest, send, settle, silent, soon};

fn denied(text: &str) -> Decision {
    serde_json::from_str(text.strip_prefix("DENIED ").expect(text)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_allowed_goes_through_and_what_is_refused_does_not() {
    let world = World::new();
    let mut wire = world.session().await;
    send(&mut wire.client, "GET a\n").await;
    assert_eq!(line(&mut wire.target).await, "GET a");
    send(&mut wire.target, "a=1\n").await;
    assert_eq!(line(&mut wire.client).await, "a=1");
    send(&mut wire.client, "DENY b\n").await;
    let decision = denied(&line(&mut wire.client).await);
    assert_eq!(decision.code, Code::Denied);
    assert_eq!(decision.correlation, format!("{}/2", wire.id));
    silent(&mut wire.target).await;
    // The session lives.
    send(&mut wire.client, "GET c\n").await;
    assert_eq!(line(&mut wire.target).await, "GET c");
    send(&mut wire.target, "c=1\n").await;
    assert_eq!(line(&mut wire.client).await, "c=1");
    send(&mut wire.client, "BYE\n").await;
    assert_eq!(line(&mut wire.client).await, "END client closed");
    assert_eq!(wire.end().await, End::ClientClosed);
    assert_eq!(
        world.trail.operations(),
        ["allow GET a", "deny DENY b", "allow GET c"]
    );
    assert_eq!(world.trail.outcomes(), 2);
    assert_eq!(world.trail.ends(), [("client closed".to_owned(), 3, 1)]);
    assert!(world.gateway.live().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_forwarded_until_its_event_is_in_the_trail() {
    let world = World::new();
    world.trail.set(Mode::Pend);
    let mut wire = world.session().await;
    send(&mut wire.client, "PUT a\nPUT b\n").await;
    silent(&mut wire.target).await;
    assert_eq!(world.trail.operations(), ["allow PUT a"]);
    world.trail.settle(Ok(()));
    assert_eq!(line(&mut wire.target).await, "PUT a");
    silent(&mut wire.target).await;
    assert_eq!(world.trail.operations(), ["allow PUT a", "allow PUT b"]);
    world.trail.settle(Ok(()));
    assert_eq!(line(&mut wire.target).await, "PUT b");
}

#[tokio::test(start_paused = true)]
async fn what_the_trail_cannot_take_is_refused_and_counts_as_refused() {
    let world = World::new();
    let mut wire = world.session().await;
    // The disk says no after it has been asked.
    world.trail.set(Mode::Pend);
    send(&mut wire.client, "PUT a\n").await;
    settle().await;
    world.trail.settle(Err(AuditError::Write("no space".into())));
    assert!(denied(&line(&mut wire.client).await).hint.contains("audit trail"));
    // The writer vanishes with the receipt.
    send(&mut wire.client, "PUT b\n").await;
    settle().await;
    drop(world.trail.pending.lock().pop());
    assert!(denied(&line(&mut wire.client).await).hint.contains("audit trail"));
    // It is refused at once.
    world.trail.set(Mode::Fail);
    send(&mut wire.client, "PUT c\n").await;
    assert!(denied(&line(&mut wire.client).await).hint.contains("audit trail"));
    silent(&mut wire.target).await;
    // And recovers.
    world.trail.set(Mode::Take);
    send(&mut wire.client, "PUT d\nBYE\n").await;
    assert_eq!(line(&mut wire.target).await, "PUT d");
    wire.end().await;
    assert_eq!(world.trail.ends(), [("client closed".to_owned(), 4, 3)]);
}

/// An approval does not stand in for the trail.
#[tokio::test(start_paused = true)]
async fn what_is_held_waits_for_its_event_too() {
    for good in [true, false] {
        let world = World::new();
        world.trail.set(Mode::Pend);
        let mut wire = world.session().await;
        send(&mut wire.client, "HOLD a\n").await;
        // Nobody is told before the trail has it.
        silent(&mut wire.client).await;
        if good {
            world.trail.settle(Ok(()));
            assert!(line(&mut wire.client).await.starts_with("HELD"));
            silent(&mut wire.target).await;
            world.desk.asked.lock().remove(0).send(Ok(())).unwrap();
            assert_eq!(line(&mut wire.target).await, "HOLD a");
        } else {
            world.trail.settle(Err(AuditError::Closed));
            assert!(denied(&line(&mut wire.client).await).hint.contains("audit trail"));
            silent(&mut wire.target).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_client_sent_whole_before_it_closed_still_runs() {
    let world = World::new();
    world.trail.set(Mode::Pend);
    let mut wire = world.session().await;
    send(&mut wire.client, "PUT a\nPUT b\nPUT c").await;
    drop(wire.client);
    settle().await;
    world.trail.settle(Ok(()));
    settle().await;
    world.trail.settle(Ok(()));
    assert_eq!(rest(&mut wire.target).await, "PUT a\nPUT b\n");
    assert_eq!(soon(wire.task).await.unwrap(), End::ClientClosed);
}

#[tokio::test(start_paused = true)]
async fn nothing_that_comes_after_a_goodbye_is_looked_at() {
    let world = World::new();
    let mut wire = world.session().await;
    send(&mut wire.client, "GET a\nBYE\nGET b\nPANIC parse\n").await;
    assert_eq!(rest(&mut wire.target).await, "GET a\n");
    assert_eq!(wire.end().await, End::ClientClosed);
    assert_eq!(world.trail.operations(), ["allow GET a"]);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_asks_the_target_first_is_asked_again() {
    let world = World::new();
    let mut wire = world.session().await;
    send(&mut wire.client, "ASK k\nGET a\n").await;
    assert_eq!(line(&mut wire.target).await, "?k");
    silent(&mut wire.target).await;
    assert!(world.trail.operations().is_empty());
    send(&mut wire.target, "!yes\n").await;
    assert_eq!(line(&mut wire.target).await, "ASK k");
    assert_eq!(line(&mut wire.target).await, "GET a");
    silent(&mut wire.client).await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_protocol_ends_the_session_and_says_whose_fault_it_was() {
    let world = World::new();
    let wire = {
        let mut wire = world.session().await;
        send(&mut wire.client, "GET a\nWRONG\n").await;
        assert_eq!(rest(&mut wire.target).await, "GET a\n");
        wire
    };
    assert_eq!(wire.end().await, End::Fault(Fault::client("sent what is wrong")));
    let mut wire = world.session().await;
    send(&mut wire.target, "an answer to nothing\n").await;
    assert_eq!(
        line(&mut wire.client).await,
        "END target answered what nobody asked"
    );
    assert!(matches!(wire.end().await, End::Fault(_)));
}

/// The same bytes give the same result, however the sockets split them.
#[tokio::test(start_paused = true)]
async fn chunks_change_nothing() {
    let script: String = (0..60)
        .map(|i| match i % 4 {
            0 => format!("DENY {i}\n"),
            1 => format!("LOCK {i}\n"),
            _ => format!("GET {i}{}\n", "x".repeat(i * 7)),
        })
        .collect();
    let mut seen = Vec::new();
    for seed in 1..=12_u64 {
        let world = World::new();
        let wire = world.session().await;
        let (mut from_client, mut to_client) = tokio::io::split(wire.client);
        let (mut from_target, mut to_target) = tokio::io::split(wire.target);
        let script = script.clone();
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut size = move |most: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(1 + random % most).unwrap()
        };
        let most = [1, 3, 40, 100_000][usize::try_from(seed % 4).unwrap()];
        let mut sizes = size;
        let writer = tokio::spawn(async move {
            let mut bytes = script.as_bytes();
            while !bytes.is_empty() {
                let n = sizes(most).min(bytes.len());
                tokio::io::AsyncWriteExt::write_all(&mut to_client, &bytes[..n])
                    .await
                    .unwrap();
                bytes = &bytes[n..];
                tokio::task::yield_now().await;
            }
            to_client
        });
        let target = tokio::spawn(async move {
            let mut lines = Vec::new();
            loop {
                let got = line(&mut from_target).await;
                if got.is_empty() {
                    return lines;
                }
                for piece in format!("+{got}\nok {got}\n").as_bytes().chunks(size(most)) {
                    let piece = std::str::from_utf8(piece).unwrap();
                    send(&mut to_target, piece).await;
                    tokio::task::yield_now().await;
                }
                lines.push(got);
            }
        });
        let mut answers = Vec::new();
        while answers.len() < 105 {
            let answer = line(&mut from_client).await;
            // The correlation names the session.
            let told = answer.split(",\"correlation\"").next().unwrap_or_default();
            answers.push(told.to_owned());
        }
        silent(&mut from_client).await;
        drop((soon(writer).await.unwrap(), from_client));
        let lines = soon(target).await.unwrap();
        assert_eq!(soon(wire.task).await.unwrap(), End::ClientClosed);
        seen.push((lines, answers, world.trail.operations(), world.trail.ends()));
    }
    assert_eq!(seen[0].0.len(), 45);
    for (i, other) in seen.iter().enumerate() {
        assert!(*other == seen[0], "{i}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_start_the_trail_does_not_take_never_was() {
    let world = World::new();
    *world.trail.start.lock() = Mode::Fail;
    assert!(world.open().await.is_err());
    *world.trail.start.lock() = Mode::Pend;
    let (opened, ()) = tokio::join!(world.open(), async {
        settle().await;
        world.trail.settle(Err(AuditError::Closed));
    });
    assert!(opened.is_err());
    assert!(world.gateway.live().is_empty());
    assert!(world.trail.ends().is_empty());
}

/// A login has a deadline, which may strike while the trail is slow.
#[tokio::test(start_paused = true)]
async fn a_login_that_is_cut_while_its_start_is_written_leaves_nothing_behind() {
    let world = World::new();
    *world.trail.start.lock() = Mode::Pend;
    let opened = tokio::time::timeout(Duration::from_secs(1), world.open()).await;
    assert!(opened.is_err(), "it opened");
    assert!(world.gateway.live().is_empty(), "its place is free again");
    assert_eq!(world.trail.ends(), [("ended before it began".to_owned(), 0, 0)]);
}
