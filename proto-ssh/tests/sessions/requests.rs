//! Each request is decided on its own, and nothing opens at the target before.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gateway_core::audit::Event;
use gateway_core::operation::Operation;

use super::world::{World, read, run};

/// `exit` and the variable LANG, and nothing else.
fn little(operation: &Operation) -> bool {
    match operation.action.as_str() {
        "connect" => true,
        "exec" => operation.context.get("program") == Some(&"exit".into()),
        "env" => operation.context.get("name") == Some(&"LANG".into()),
        _ => false,
    }
}

async fn world() -> World {
    World::new(little, Duration::ZERO).await
}

#[tokio::test]
async fn ghsa_xm63_a_refused_command_reaches_no_target() {
    let world = world().await;
    let client = world.client().await;
    for command in [
        "flood 10",
        "exit 0; flood 10",
        "exit $(flood 10)",
        "exit 0 | flood 10",
    ] {
        let seen = run(&client, command).await;
        assert_eq!(seen.status, Some(77), "{command}");
        let json: serde_json::Value = serde_json::from_str(seen.err.lines().nth(1).unwrap()).unwrap();
        assert_eq!(json["code"], "denied");
    }
    assert_eq!(world.asked.connections.load(Ordering::SeqCst), 0);
    // The connection lives.
    assert_eq!(run(&client, "exit 0").await.status, Some(0));
}

#[tokio::test]
async fn what_is_no_command_line_is_malformed() {
    let world = world().await;
    let client = world.client().await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, &b"exit\0 0"[..]).await.unwrap();
    let seen = read(&mut channel).await;
    assert!(seen.err.contains(r#""code":"malformed""#), "{}", seen.err);
    assert_eq!(seen.status, Some(77));
}

#[tokio::test]
async fn a_refused_shell_and_subsystem_say_why_and_the_connection_lives() {
    let world = world().await;
    let client = world.client().await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.request_shell(true).await.unwrap();
    let seen = read(&mut channel).await;
    assert_eq!(seen.status, Some(77));
    assert!(seen.err.contains(r#""code":"denied""#), "{}", seen.err);
    let mut channel = client.channel_open_session().await.unwrap();
    channel.request_subsystem(true, "netconf").await.unwrap();
    let seen = read(&mut channel).await;
    assert!(seen.failed && seen.status.is_none(), "{seen:?}");
    assert!(seen.err.contains(r#""code":"denied""#), "{}", seen.err);
    assert_eq!(run(&client, "exit 0").await.status, Some(0));
}

#[tokio::test]
async fn each_variable_is_asked_and_ld_preload_never_passes() {
    let world = world().await;
    let client = world.client().await;
    let mut channel = client.channel_open_session().await.unwrap();
    for name in ["LANG", "LC_ALL", "LD_PRELOAD", "BASH_ENV"] {
        channel.set_env(false, name, "x").await.unwrap();
    }
    channel.exec(true, "exit 0").await.unwrap();
    channel.eof().await.unwrap();
    assert_eq!(read(&mut channel).await.status, Some(0));
    assert_eq!(*world.asked.env.lock(), ["LANG"]);
}

#[tokio::test]
async fn one_channel_starts_one_thing() {
    let world = world().await;
    let client = world.client().await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "exit 0").await.unwrap();
    channel.exec(true, "exit 1").await.unwrap();
    channel.eof().await.unwrap();
    let seen = read(&mut channel).await;
    assert!(seen.failed && seen.status == Some(0), "{seen:?}");
    assert_eq!(world.asked.commands.lock().len(), 1);
}

#[tokio::test]
async fn a_refused_forward_and_listener_are_refused_and_the_connection_lives() {
    let world = world().await;
    let client = world.client().await;
    let refused = client
        .channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1)
        .await;
    assert!(refused.is_err());
    assert!(client.channel_open_direct_streamlocal("/run/x").await.is_err());
    assert!(client.tcpip_forward("127.0.0.1", 0).await.is_err());
    assert_eq!(run(&client, "exit 0").await.status, Some(0));
    assert_eq!(world.asked.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_target_with_another_host_key_is_told_on_the_channel_and_gets_no_login() {
    let world = World::with_an_impostor(little).await;
    let client = world.client().await;
    let seen = run(&client, "exit 0").await;
    assert_eq!(seen.status, Some(77));
    assert!(
        seen.err.contains("can't be reached") && !seen.err.contains("SHA256"),
        "{}",
        seen.err
    );
    assert!(world.asked.commands.lock().is_empty());
}

#[tokio::test]
async fn the_trail_has_each_operation_and_the_session_to_its_end() {
    let world = world().await;
    let client = world.client().await;
    run(&client, "exit 3").await;
    run(&client, "flood 1").await;
    drop(client);
    for _ in 0..50 {
        if world.has_event(|event| matches!(event, Event::SessionEnded { .. })) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(world.has_event(
        |event| matches!(event, Event::Outcome { error: Some(error), bytes, .. }
        if error == "exit status 3" && *bytes > 0)
    ));
    assert!(world.has_event(|event| matches!(
        event,
        Event::SessionEnded {
            operations: 2,
            refused: 1,
            ..
        }
    )));
}
