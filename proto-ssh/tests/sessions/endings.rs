//! How what runs is cut off, what its client is told, and in which order the trail has it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gateway_core::audit::Event;
use gateway_core::machine::{End, Kill};
use russh::ChannelMsg;

use super::world::World;

fn anything(_: &gateway_core::operation::Operation) -> bool {
    true
}

/// The place of an event in the trail.
fn place(world: &World, is: impl Fn(&Event) -> bool) -> Option<usize> {
    world.events.lock().iter().position(is)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_killed_says_so_and_its_end_is_in_the_trail_before_the_sessions() {
    let world = World::new(anything, Duration::ZERO).await;
    let client = world.client_by_socket().await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "cat 0").await.unwrap();
    channel.data_bytes("hello").await.unwrap();
    let mut heard = 0;
    while heard < 5 {
        if let Some(ChannelMsg::Data { data }) = channel.wait().await {
            heard += data.len();
        }
    }
    let id = world.gateway.live().list()[0].id;
    let kill = Kill {
        by: Some("olga".to_owned()),
        reason: Some("INC-7".to_owned()),
    };
    world.gateway.live().end(id, End::Killed(Box::new(kill)));
    let seen = super::world::read(&mut channel).await;
    assert_eq!(seen.status, Some(77), "{seen:?}");
    let (line, json) = seen.err.trim_end().split_once('\n').unwrap();
    assert!(
        line.contains("ended by an operator of the gateway: INC-7"),
        "{line}"
    );
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(json["code"], "session_expired");
    for _ in 0..60 {
        if world.gateway.live().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let outcome = place(&world, |event| {
        matches!(event, Event::Outcome { error: Some(error), bytes, .. }
            if error == "killed by olga: INC-7" && *bytes == 5)
    });
    let ended = place(&world, |event| {
        matches!(event, Event::SessionEnded { bytes: 5, .. })
    });
    assert!(outcome.is_some() && outcome < ended, "{:?}", world.events.lock());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_cuts_off_what_runs_before_its_session_ends() {
    let world = World::new(anything, Duration::ZERO).await;
    let client = world.client_by_socket().await;
    let channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "cat 0").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop((channel, client));
    for _ in 0..60 {
        if world.gateway.live().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let outcome = place(
        &world,
        |event| matches!(event, Event::Outcome { error: Some(error), .. } if error == "client closed"),
    );
    let ended = place(&world, |event| matches!(event, Event::SessionEnded { .. }));
    assert!(outcome.is_some() && outcome < ended, "{:?}", world.events.lock());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_started_at_a_target_that_lets_in_after_the_session_was_killed() {
    let world = World::new(anything, Duration::from_millis(400)).await;
    let client = world.client_by_socket().await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "exit 0").await.unwrap();
    for _ in 0..60 {
        if world.asked.connections.load(Ordering::SeqCst) > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let id = world.gateway.live().list()[0].id;
    world.gateway.live().end(id, End::Killed(Box::default()));
    let seen = super::world::read(&mut channel).await;
    assert_eq!(seen.status, Some(77), "{seen:?}");
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(world.asked.commands.lock().is_empty(), "it runs all the same");
    assert!(world.has_event(
        |event| matches!(event, Event::Outcome { error: Some(error), .. } if error == "killed by an operator")
    ));
}
