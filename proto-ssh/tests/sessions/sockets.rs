//! The data path over real sockets: what fills both directions, comes late, or stands still.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use russh::ChannelMsg;

use super::world::{World, pattern, read, run};

fn anything(_: &gateway_core::operation::Operation) -> bool {
    true
}

const MANY: usize = 12 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_goes_both_ways_at_once_and_comes_whole() {
    let world = World::new(anything, Duration::ZERO).await;
    let client = world.client_by_socket().await;
    let channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "cat 0").await.unwrap();
    let (mut reading, writing) = channel.split();
    let sent = tokio::spawn(async move {
        writing.data_bytes(pattern(MANY)).await.unwrap();
        writing.eof().await.unwrap();
        writing
    });
    let mut back = Vec::new();
    let all = async {
        while let Some(message) = reading.wait().await {
            if let ChannelMsg::Data { data } = message {
                back.extend_from_slice(&data);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .expect("neither side waits for the other");
    assert!(back == pattern(MANY), "{} bytes", back.len());
    drop(sent.await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_before_a_late_target_is_kept_in_order() {
    let world = World::new(anything, Duration::from_millis(1200)).await;
    let client = world.client_by_socket().await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "cat 0").await.unwrap();
    let early = pattern(600 << 10);
    let began = Instant::now();
    for part in early.chunks(10_007) {
        channel.data_bytes(part.to_vec()).await.unwrap();
    }
    channel.eof().await.unwrap();
    let commands = world.asked.commands.lock().len();
    assert!(
        commands == 0 && began.elapsed() < Duration::from_secs(1),
        "all of it was early"
    );
    let seen = read(&mut channel).await;
    assert!(seen.out == early, "{} bytes", seen.out.len());
    assert_eq!(seen.status, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_stands_still_does_not_stop_its_siblings() {
    let world = World::new(anything, Duration::ZERO).await;
    let client = world.client_by_socket().await;
    let stalled = client.channel_open_session().await.unwrap();
    // The target's program reads nothing for longer than this test lasts.
    stalled.exec(true, "cat 600000").await.unwrap();
    let (_reading, writing) = stalled.split();
    let upload = tokio::spawn(async move { writing.data_bytes(pattern(64 << 20)).await });
    tokio::time::sleep(Duration::from_millis(700)).await;
    let began = Instant::now();
    for status in 1..4 {
        assert_eq!(run(&client, &format!("exit {status}")).await.status, Some(status));
    }
    let seen = run(&client, "flood 4000000").await;
    assert!(seen.out == pattern(4_000_000), "{} bytes", seen.out.len());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(!upload.is_finished(), "it stands still");
    assert!(world.asked.connections.load(Ordering::SeqCst) >= 5);
    upload.abort();
}
