//! Limits of time, kills and drain.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gateway_core::machine::End;
use gateway_core::verdict::Verdict;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::world::{World, line, rest, send, settle, silent, soon};

fn about(since: Instant, seconds: u64) {
    let waited = since.elapsed();
    let range = Duration::from_secs(seconds)..Duration::from_millis(seconds * 1000 + 500);
    assert!(range.contains(&waited), "{waited:?}, not {seconds} s");
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_ends_idle_and_running_sessions() {
    for busy in [false, true] {
        let world = World::new();
        *world.identity.expires.lock() = Some(Duration::from_secs(9));
        let since = Instant::now();
        let mut wire = world.session().await;
        if busy {
            send(&mut wire.client, "GET a\n").await;
            line(&mut wire.target).await;
        }
        assert_eq!(line(&mut wire.client).await, "END session expired");
        about(since, 9);
        assert_eq!(wire.end().await, End::Expired);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_has_ended_already_forwards_nothing() {
    let world = World::new();
    *world.identity.expires.lock() = Some(Duration::ZERO);
    let mut wire = world.session().await;
    send(&mut wire.client, "GET a\n").await;
    assert_eq!(rest(&mut wire.target).await, "");
    assert_eq!(wire.end().await, End::Expired);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_token_ends_its_sessions_soon() {
    let world = World::new();
    let mut wire = world.session().await;
    tokio::time::sleep(Duration::from_secs(61)).await;
    send(&mut wire.client, "GET a\n").await;
    line(&mut wire.target).await;
    let since = Instant::now();
    world.identity.revoked.store(true, Ordering::Relaxed);
    assert_eq!(line(&mut wire.client).await, "END session expired");
    assert!(since.elapsed() <= Duration::from_secs(3));
    assert_eq!(wire.end().await, End::Expired);
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_tokens_are_checked_again_does_not_end_the_checks() {
    let world = World::new();
    let mut wire = world.session().await;
    world.identity.panics.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.identity.panics.store(false, Ordering::Relaxed);
    let since = Instant::now();
    world.identity.revoked.store(true, Ordering::Relaxed);
    assert_eq!(line(&mut wire.client).await, "END session expired");
    assert!(since.elapsed() <= Duration::from_secs(3));
    assert_eq!(wire.end().await, End::Expired);
}

#[tokio::test(start_paused = true)]
async fn an_operator_ends_a_session_and_no_other() {
    let world = World::new();
    let (one, mut other) = (world.session().await, world.session().await);
    assert_eq!(world.gateway.live().len(), 2);
    assert!(world.gateway.live().end(one.id, End::Killed(Box::default())));
    let id = one.id;
    assert_eq!(one.end().await, End::Killed(Box::default()));
    assert!(!world.gateway.live().end(id, End::Killed(Box::default())));
    send(&mut other.client, "GET a\n").await;
    assert_eq!(line(&mut other.target).await, "GET a");
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_ends_and_one_that_does_something_does_not() {
    let world = World::limited(|limits| limits.idle = Duration::from_secs(10));
    let mut wire = world.session().await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(8)).await;
        send(&mut wire.target, "*news\n").await;
        assert_eq!(line(&mut wire.client).await, "*news");
    }
    let since = Instant::now();
    assert_eq!(line(&mut wire.client).await, "END idle limit");
    about(since, 10);
    assert_eq!(wire.end().await, End::Idle);
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_at_its_limit_however_busy_it_is() {
    let world = World::limited(|limits| limits.session = Duration::from_secs(15));
    let since = Instant::now();
    let wire = world.session().await;
    let (mut client, mut target) = (wire.client, wire.target);
    let chatter = tokio::spawn(async move {
        while target.write_all(b"*news\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let told = rest(&mut client).await;
    assert!(told.ends_with("*news\nEND session limit\n"), "{told}");
    about(since, 15);
    assert_eq!(soon(wire.task).await.unwrap(), End::TooLong);
    soon(chatter).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_takes_longer_than_policy_gives_is_interrupted_once() {
    let world = World::new();
    let mut wire = world.session().await;
    send(&mut wire.client, "SLOW a\n").await;
    assert_eq!(line(&mut wire.target).await, "SLOW a");
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(world.interrupts.count.load(Ordering::Relaxed), 0);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.interrupts.count.load(Ordering::Relaxed), 1);
    send(&mut wire.target, "cancelled\n").await;
    let told = line(&mut wire.client).await;
    assert!(told.contains("budget_exhausted"), "{told}");
    // The session lives, and what was in time is let be.
    tokio::time::sleep(Duration::from_secs(60)).await;
    send(&mut wire.client, "SLOW b\n").await;
    line(&mut wire.target).await;
    send(&mut wire.target, "b=1\n").await;
    assert_eq!(line(&mut wire.client).await, "b=1");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.interrupts.count.load(Ordering::Relaxed), 1);
    assert!(!wire.task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn where_nothing_can_be_interrupted_the_session_ends() {
    let world = World::new();
    world.interrupts.impossible.store(true, Ordering::Relaxed);
    let mut wire = world.session().await;
    let since = Instant::now();
    send(&mut wire.client, "SLOW a\n").await;
    assert_eq!(line(&mut wire.client).await, "END operation out of time");
    about(since, 1);
    assert_eq!(wire.end().await, End::OutOfTime);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_does_not_heed_the_interruption_loses_the_session() {
    let world = World::new();
    let mut wire = world.session().await;
    let since = Instant::now();
    send(&mut wire.client, "SLOW a\n").await;
    assert_eq!(line(&mut wire.client).await, "END operation out of time");
    about(since, 6);
    assert_eq!(world.interrupts.count.load(Ordering::Relaxed), 1);
    assert_eq!(wire.end().await, End::OutOfTime);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_quiet_sessions_at_once_and_busy_ones_when_they_fall_quiet() {
    let world = World::new();
    let mut quiet = world.session().await;
    let mut busy = world.session().await;
    let mut endless = world.session().await;
    let mut held = world.session().await;
    for wire in [&mut busy, &mut endless] {
        send(&mut wire.client, "GET a\n").await;
        line(&mut wire.target).await;
    }
    send(&mut held.client, "HOLD a\n").await;
    line(&mut held.client).await;
    world.gateway.drain();
    assert_eq!(line(&mut quiet.client).await, "END gateway shutdown");
    assert_eq!(quiet.end().await, End::Shutdown);
    assert!(world.open().await.is_err(), "new ones are refused");
    // What waits for people has not begun, and a retry attaches.
    assert_eq!(line(&mut held.client).await, "END gateway shutdown");
    assert_eq!(held.end().await, End::Shutdown);
    settle().await;
    assert_eq!(world.gateway.live().len(), 2);
    send(&mut busy.target, "a=1\n").await;
    assert_eq!(rest(&mut busy.client).await, "a=1\nEND gateway shutdown\n");
    assert_eq!(busy.end().await, End::Shutdown);
    tokio::time::sleep(Duration::from_secs(30)).await;
    silent(&mut endless.client).await;
    world.gateway.live().end_all(&End::Shutdown);
    assert_eq!(endless.end().await, End::Shutdown);
    assert!(world.gateway.live().is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_session_slips_in_while_the_drain_begins() {
    let world = World::new();
    let gateway = world.gateway.clone();
    world.rule(move |_| {
        gateway.drain();
        Verdict::free()
    });
    assert!(world.open().await.is_err());
    assert!(world.gateway.live().is_empty());
    assert!(world.trail.ends().is_empty());
}
