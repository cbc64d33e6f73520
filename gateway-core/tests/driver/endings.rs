//! However a session ends, its end is in the trail and its peers are told.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gateway_core::machine::{End, Peer};

use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::world::{PIPE, Reset, World, line, rest, send, settle, soon};

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_within_a_message_ends_the_session() {
    let world = World::new();
    let mut wire = world.session().await;
    send(&mut wire.client, "GET a\nGET unfini").await;
    drop(wire.client);
    assert_eq!(rest(&mut wire.target).await, "GET a\n");
    assert_eq!(soon(wire.task).await.unwrap(), End::ClientClosed);

    let mut wire = world.session().await;
    send(&mut wire.client, "GET a\n").await;
    line(&mut wire.target).await;
    send(&mut wire.target, "+a\na=unfini").await;
    drop(wire.target);
    assert_eq!(rest(&mut wire.client).await, "+a\nEND target closed\n");
    assert_eq!(soon(wire.task).await.unwrap(), End::TargetClosed);
    let ends: Vec<_> = world.trail.ends().into_iter().map(|end| end.0).collect();
    assert_eq!(ends, ["client closed", "target closed"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_gets_all_that_the_target_sent_before_it_closed() {
    let world = World::new();
    let wire = world.session().await;
    let mut target = wire.target;
    let text = "+0123456789\n".repeat(100_000);
    let writer = tokio::spawn(async move { send(&mut target, &text).await });
    let mut client = wire.client;
    settle().await;
    let got = rest(&mut client).await;
    soon(writer).await.unwrap();
    assert_eq!(got.len(), 1_200_000 + "END target closed\n".len());
    assert_eq!(soon(wire.task).await.unwrap(), End::TargetClosed);
}

/// A reset, or TLS that ends without a goodbye: what came before waits for a client that is slow, too.
#[tokio::test(start_paused = true)]
async fn a_client_gets_all_that_came_before_the_target_s_connection_broke() {
    let world = World::new();
    let wire = world.session_over(|pipe| Box::new(Reset(pipe))).await;
    let mut target = wire.target;
    let text = "+0123456789\n".repeat(100_000);
    let writer = tokio::spawn(async move { send(&mut target, &text).await });
    let mut client = wire.client;
    settle().await;
    let mut got = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    while let n @ 1.. = soon(client.read(&mut piece)).await.unwrap() {
        got.extend_from_slice(&piece[..n]);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    soon(writer).await.unwrap();
    assert!(got.starts_with(b"+0123456789\n"));
    let last = b"+0123456789\nEND target connection broke: connection reset\n";
    assert!(
        got.ends_with(last),
        "{}",
        String::from_utf8_lossy(&got[got.len() - 100..])
    );
    assert_eq!(got.len(), 1_200_000 + last.len() - "+0123456789\n".len());
    assert!(matches!(
        soon(wire.task).await.unwrap(),
        End::Broken(Peer::Target, _)
    ));
}

/// It says why it closes, and the client happens to send something just then.
#[tokio::test(start_paused = true)]
async fn a_client_gets_the_last_words_of_a_target_that_takes_no_more() {
    let world = World::new();
    let mut wire = world.session().await;
    settle().await;
    let words = "+the target shuts down\n".repeat(2_500);
    send(&mut wire.target, &words).await;
    drop(wire.target);
    send(&mut wire.client, "GET a\n").await;
    let told = rest(&mut wire.client).await;
    assert!(told.starts_with(&words), "{} of {}", told.len(), words.len());
    assert!(matches!(
        soon(wire.task).await.unwrap(),
        End::Broken(Peer::Target, _)
    ));
}

/// A goodbye that nobody takes holds nothing up for long.
#[tokio::test(start_paused = true)]
async fn a_client_that_takes_no_goodbye_is_left() {
    let world = World::new();
    let mut wire = world.session().await;
    super::world::flood(&mut wire.target, "+0123456789\n", 64 << 20).await;
    world.gateway.live().end(wire.id, End::Killed(Box::default()));
    settle().await;
    assert_eq!(world.trail.ends().len(), 1, "the trail does not wait for it");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(wire.task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_scope_that_is_dropped_ends_its_session_in_the_trail() {
    let world = World::new();
    let mut scope = world.open().await.unwrap();
    scope.lease(None).await.unwrap();
    let id = scope.id();
    assert!(world.gateway.live().session(id).is_some());
    drop(scope);
    assert_eq!(world.trail.ends(), [("ended before it began".to_owned(), 0, 0)]);
    assert!(world.gateway.live().is_empty());
    settle().await;
    assert_eq!(
        *world.issuer.revoked.lock(),
        *world.issuer.leased.lock(),
        "its lease is given back"
    );
    assert!(world.journal.leases.lock().is_empty());
    let record = world.gateway.store().session(id).await.unwrap().unwrap();
    assert_eq!(record.reason.as_deref(), Some("ended before it began"));
    assert!(record.ended.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_end_is_written_once() {
    let world = World::new();
    let mut scope = world.open().await.unwrap();
    scope.finish_because("target not reached");
    scope.finish(&End::Killed(Box::default()));
    drop(scope);
    assert_eq!(world.trail.ends(), [("target not reached".to_owned(), 0, 0)]);
}

/// The target goes on for a moment, and its answer tells what became of the operation; nobody else hears it.
#[tokio::test(start_paused = true)]
async fn how_a_running_operation_ended_is_known_though_its_session_was_killed() {
    let world = World::new();
    let mut wire = world.session().await;
    send(&mut wire.client, "PUT a\n").await;
    assert_eq!(line(&mut wire.target).await, "PUT a");
    world.gateway.live().end(wire.id, End::Killed(Box::default()));
    assert_eq!(line(&mut wire.client).await, "END killed by an operator");
    assert!(world.trail.ends().is_empty(), "it is not known yet how it ended");
    send(&mut wire.target, "+cut").await;
    send(&mut wire.target, " off\ndone\n").await;
    assert_eq!(rest(&mut wire.client).await, "");
    assert_eq!(wire.end().await, End::Killed(Box::default()));
    assert_eq!(world.trail.errors(), [None]);
    assert_eq!(world.interrupts.count.load(Ordering::Relaxed), 1);
}

/// A target that was between two operations when it was told to stop did not heed that.
#[tokio::test(start_paused = true)]
async fn a_target_is_told_again_to_stop_and_not_waited_for_without_end() {
    let world = World::new();
    let mut wire = world.session().await;
    send(&mut wire.client, "PUT a\nPUT b\n").await;
    assert_eq!(line(&mut wire.target).await, "PUT a");
    world.gateway.live().end(wire.id, End::Killed(Box::default()));
    send(&mut wire.target, "done\n").await;
    let since = Instant::now();
    let end = tokio::time::timeout(Duration::from_secs(6), wire.task).await;
    assert_eq!(end.unwrap().unwrap(), End::Killed(Box::default()));
    assert!(since.elapsed() >= Duration::from_secs(4), "{:?}", since.elapsed());
    let told = world.interrupts.count.load(Ordering::Relaxed);
    assert!((15..=21).contains(&told), "{told}");
    assert_eq!(world.trail.errors(), [None, Some("unanswered".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn what_a_client_that_leaves_has_sent_is_followed_to_its_end() {
    let world = World::new();
    let mut wire = world.session().await;
    send(&mut wire.client, "PUT a\n").await;
    assert_eq!(line(&mut wire.target).await, "PUT a");
    drop(wire.client);
    settle().await;
    send(&mut wire.target, "done\n").await;
    assert_eq!(soon(wire.task).await.unwrap(), End::ClientClosed);
    assert_eq!(world.trail.errors(), [None]);
    let told = world.interrupts.count.load(Ordering::Relaxed);
    assert_eq!(told, 0, "it has the server's own behaviour");
}

/// What could not be sent while the target took nothing does not run after the end.
#[tokio::test(start_paused = true)]
async fn what_had_not_left_when_a_session_was_killed_never_leaves() {
    let world = World::new();
    let mut wire = world.session().await;
    let taken = super::world::flood(&mut wire.client, "PUT 0123456789\n", 64 << 20).await;
    world.gateway.live().end(wire.id, End::Killed(Box::default()));
    settle().await;
    let reached = rest(&mut wire.target).await;
    assert!(taken > 2 * PIPE, "{taken}");
    assert!(
        (1..=PIPE).contains(&reached.len()),
        "{} of {taken} left after the end",
        reached.len()
    );
    assert_eq!(wire.end().await, End::Killed(Box::default()));
}

/// What waits for a person has not begun: it has no end either.
#[tokio::test(start_paused = true)]
async fn what_was_held_when_its_session_ended_is_not_waited_for() {
    let world = World::new();
    let mut wire = world.session().await;
    send(&mut wire.client, "HOLD a\n").await;
    assert!(line(&mut wire.client).await.starts_with("HELD"));
    world.gateway.live().end(wire.id, End::Killed(Box::default()));
    settle().await;
    assert_eq!(world.trail.ends().len(), 1);
    assert_eq!(world.trail.errors(), []);
    assert_eq!(wire.end().await, End::Killed(Box::default()));
}
