//! Bytes in both directions: all of them, in order, and nobody waits for the other.

use std::time::Duration;

use super::world::{World, pattern, run};

fn anything(_: &gateway_core::operation::Operation) -> bool {
    true
}

async fn world() -> World {
    World::new(anything, Duration::ZERO).await
}

const MANY: usize = 24 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_comes_down_whole() {
    let world = world().await;
    let seen = run(&world.client().await, &format!("flood {MANY}")).await;
    assert!(seen.out == pattern(MANY), "{} bytes", seen.out.len());
    assert_eq!(seen.status, Some(0));
}

#[tokio::test]
async fn stderr_stays_apart_and_the_status_comes_before_the_end_of_output() {
    let world = world().await;
    let seen = run(&world.client().await, "exit 3").await;
    assert_eq!(
        (seen.out.as_slice(), seen.err.as_str()),
        (&b"to stdout"[..], "to stderr")
    );
    assert_eq!(seen.status, Some(3));
    assert!(seen.status_first);
}

#[tokio::test]
async fn the_status_of_what_closes_its_output_early_is_kept() {
    let world = world().await;
    let seen = run(&world.client().await, "closes 2500").await;
    assert_eq!(seen.status, Some(3));
}

#[tokio::test]
async fn a_signal_that_ended_a_program_is_told() {
    let world = world().await;
    let seen = run(&world.client().await, "signal").await;
    assert_eq!((seen.status, seen.signal.as_deref()), (None, Some("ALRM")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_short_channels_each_keep_their_status() {
    let world = world().await;
    let client = world.client().await;
    for _ in 0..6 {
        let all = (0..20).map(|n| {
            let client = &client;
            async move { assert_eq!(run(client, &format!("exit {n}")).await.status, Some(n)) }
        });
        futures_util::future::join_all(all).await;
    }
}
