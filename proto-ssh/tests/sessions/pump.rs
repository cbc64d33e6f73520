//! Bytes in both directions: all of them, in order, and nobody waits for the other.

use std::time::Duration;

use super::world::{World, pattern, read, run};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_in_both_directions_at_once_locks_nobody_up() {
    let world = world().await;
    let client = world.client().await;
    let channels = (0..2).map(async |_| {
        let mut channel = client.channel_open_session().await.unwrap();
        channel.exec(true, "cat").await.unwrap();
        let writer = channel.make_writer();
        let sending = tokio::spawn(async move {
            let mut writer = writer;
            tokio::io::AsyncWriteExt::write_all(&mut writer, &pattern(MANY))
                .await
                .unwrap();
            tokio::io::AsyncWriteExt::shutdown(&mut writer).await.unwrap();
        });
        let seen = read(&mut channel).await;
        sending.await.unwrap();
        assert!(seen.out == pattern(MANY), "{} bytes", seen.out.len());
        assert_eq!(seen.status, Some(0));
    });
    futures_util::future::join_all(channels).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_data_waits_for_a_late_target_in_order_and_bounded() {
    let world = World::new(anything, Duration::from_secs(1)).await;
    let client = world.client().await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "cat 500").await.unwrap();
    let writer = channel.make_writer();
    let sending = tokio::spawn(async move {
        let mut writer = writer;
        tokio::io::AsyncWriteExt::write_all(&mut writer, &pattern(MANY))
            .await
            .unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut writer).await.unwrap();
    });
    // More than windows and queues hold is not taken before the target is there.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!sending.is_finished());
    let seen = read(&mut channel).await;
    sending.await.unwrap();
    assert!(seen.out == pattern(MANY), "{} bytes", seen.out.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_its_target_does_not_take_leaves_its_siblings_alone() {
    let world = world().await;
    let client = world.client().await;
    let mut stalled = client.channel_open_session().await.unwrap();
    stalled.exec(true, "cat 4000").await.unwrap();
    let writer = stalled.make_writer();
    let sending = tokio::spawn(async move {
        let mut writer = writer;
        let _ = tokio::io::AsyncWriteExt::write_all(&mut writer, &pattern(MANY)).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut writer).await;
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..3 {
        let begun = std::time::Instant::now();
        assert_eq!(run(&client, "exit 0").await.status, Some(0));
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    assert!(!sending.is_finished());
    let seen = read(&mut stalled).await;
    assert!(seen.out == pattern(MANY), "{} bytes", seen.out.len());
    sending.await.unwrap();
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
