//! A peer that does not read costs bounded memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gateway_core::machine::End;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

use super::world::{PIPE, World, flood, line, send, settle, silent, soon};

/// What the driver may keep of a peer's bytes, with what is in the pipes.
const KEPT: usize = (1 << 20) + 4 * PIPE;

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_stalls_the_target() {
    let world = World::new();
    let mut wire = world.session().await;
    let taken = flood(&mut wire.target, "+0123456789\n", 64 << 20).await;
    // What waits for the client, one read behind it, and what is in the pipes.
    assert!((PIPE..6 * PIPE + 2 * PIPE).contains(&taken), "{taken}");
    // It goes on where the client reads again.
    assert_eq!(line(&mut wire.client).await, "+0123456789");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_does_not_read_stalls_the_client() {
    let world = World::new();
    let mut wire = world.session().await;
    let taken = flood(&mut wire.client, "GET a\n", 64 << 20).await;
    assert!((PIPE..KEPT).contains(&taken), "{taken}");
    assert!(world.trail.operations().len() <= KEPT / 6);
    assert_eq!(line(&mut wire.target).await, "GET a");
    // The other direction is open.
    send(&mut wire.target, "*news\n").await;
    assert_eq!(line(&mut wire.client).await, "*news");
}

/// Refusals come from the gateway itself: no target slows down who provokes them.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_refusals_is_not_read_either() {
    let world = World::new();
    let mut wire = world.session().await;
    let message = format!("DENY {}\n", "a".repeat(58));
    let taken = flood(&mut wire.client, &message, 64 << 20).await;
    assert!(taken < (1 << 20) + KEPT, "{taken}");
    let refused = world.trail.operations().len();
    assert!(refused * 100 < KEPT, "{refused} refusals wait");
    // All that it sent is answered once it reads.
    let (from, to) = tokio::io::split(wire.client);
    let mut from = tokio::io::BufReader::new(from).lines();
    for _ in 0..taken / message.len() {
        let answer = soon(from.next_line()).await.unwrap().unwrap();
        assert!(answer.starts_with("DENIED"));
    }
    drop((from, to));
    assert_eq!(soon(wire.task).await.unwrap(), End::ClientClosed);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_must_wait_for_the_target_is_not_read_for_ever() {
    let world = World::new();
    let mut wire = world.session().await;
    send(&mut wire.client, "LOCK a\n").await;
    assert_eq!(line(&mut wire.target).await, "LOCK a");
    let taken = flood(&mut wire.client, "DENY b\n", 128 << 20).await;
    assert!((1 << 20..KEPT).contains(&taken), "{taken}");
    send(&mut wire.target, "a\n").await;
    assert_eq!(line(&mut wire.client).await, "a");
    assert!(line(&mut wire.client).await.starts_with("DENIED"));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_must_wait_for_the_client_is_not_read_for_ever() {
    let world = World::new();
    let mut wire = world.session().await;
    send(&mut wire.target, "%\n").await;
    let taken = flood(&mut wire.target, "*news\n", 128 << 20).await;
    assert!(taken < KEPT, "{taken}");
    silent(&mut wire.client).await;
    send(&mut wire.client, "GET a\n").await;
    settle().await;
    assert_eq!(line(&mut wire.client).await, "*news");
}

/// A client that takes a little at a time makes room for a little, not for another read of what the target has ready.
#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_does_not_let_the_target_s_bytes_pile_up() {
    let world = World::new();
    let wire = world.session().await;
    let (mut client, mut target) = (wire.client, wire.target);
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let flood = tokio::spawn(async move {
        let lines = "+0123456789abcdef0123456789abcdef\n".repeat(1000);
        while target.write_all(lines.as_bytes()).await.is_ok() {
            counter.fetch_add(lines.len(), Ordering::Relaxed);
        }
    });
    let (mut read, mut piece) = (0, [0; 1024]);
    for _ in 0..2000 {
        read += client.read(&mut piece).await.unwrap();
        settle().await;
    }
    let kept = sent.load(Ordering::Relaxed) - read;
    assert!(kept < 2 * KEPT, "{kept} bytes wait");
    flood.abort();
}

/// A message that is parsed whole (a row that is masked) may be larger than all that is kept for a peer.
#[tokio::test(start_paused = true)]
async fn messages_larger_than_any_buffer_reach_a_client_that_reads_slowly() {
    let world = World::new();
    let wire = world.session().await;
    let (mut client, mut target) = (wire.client, wire.target);
    let row = format!("*{}\n", "0123456789abcdef".repeat(3 << 16));
    let rows = row.repeat(2);
    let writer = tokio::spawn(async move {
        send(&mut target, &rows).await;
        target
    });
    settle().await;
    let (mut read, mut piece) = (0, vec![0; PIPE]);
    while read < 2 * row.len() {
        let n = soon(client.read(&mut piece)).await.unwrap();
        assert!(n > 0, "it ended at {read}");
        read += n;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(read, 2 * row.len());
    drop((client, soon(writer).await.unwrap()));
}
