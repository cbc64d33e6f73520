//! How a client gets in, and how it does not.

use std::time::Duration;

use gateway_core::audit::Event;
use russh::client::KeyboardInteractiveAuthResponse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world::{TOKEN, World, run};

fn anything(_: &gateway_core::operation::Operation) -> bool {
    true
}

async fn world() -> World {
    World::new(anything, Duration::ZERO).await
}

#[tokio::test]
async fn a_token_logs_in_as_password_and_as_answer() {
    let world = world().await;
    let client = world.client().await;
    assert_eq!(run(&client, "exit 0").await.status, Some(0));
    let mut client = world.dial().await;
    let asked = client.authenticate_keyboard_interactive_start("deploy@web-1", None::<String>);
    assert!(
        matches!(asked.await.unwrap(), KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } if prompts.len() == 1)
    );
    let answered = client
        .authenticate_keyboard_interactive_respond(vec![TOKEN.to_owned()])
        .await;
    assert!(matches!(
        answered.unwrap(),
        KeyboardInteractiveAuthResponse::Success
    ));
}

#[tokio::test]
async fn a_user_without_login_is_the_credentials_own_and_an_empty_one_nobody() {
    let world = world().await;
    for (user, good) in [("web-1", true), ("@web-1", false), ("a b@web-1", false)] {
        let mut client = world.dial().await;
        let login = client.authenticate_password(user, TOKEN).await.unwrap();
        assert_eq!(login.success(), good, "{user}");
    }
}

#[tokio::test]
async fn every_refused_login_looks_alike() {
    let world = World::new(
        |operation| operation.context.get("login") == Some(&"deploy".into()),
        Duration::ZERO,
    )
    .await;
    let mut answers = std::collections::BTreeSet::new();
    for (user, secret) in [
        ("deploy@web-1", "wrong"),
        ("deploy@web-1", ""),
        ("deploy@nowhere", TOKEN),
        ("root@web-1", TOKEN),
    ] {
        let mut client = world.dial().await;
        let begun = std::time::Instant::now();
        let told = client.authenticate_password(user, secret).await.unwrap();
        assert!(!told.success(), "{user}");
        answers.insert(format!("{told:?}"));
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(450), "{user}: {took:?}");
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(
        world.asked.connections.load(std::sync::atomic::Ordering::SeqCst),
        0
    );
}

#[tokio::test]
async fn cve_2023_48795_key_exchange_is_strict_and_nothing_old_is_offered() {
    let world = world().await;
    let mut raw = world.raw();
    raw.write_all(b"SSH-2.0-test\r\n").await.unwrap();
    let mut offered = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&offered).contains("kex-strict-s-v00@openssh.com") {
            assert!(raw.read_buf(&mut offered).await.unwrap() > 0);
        }
        // The rest of the packet.
        let _ = tokio::time::timeout(Duration::from_millis(300), async {
            while raw.read_buf(&mut offered).await.unwrap() > 0 {}
        })
        .await;
    };
    tokio::time::timeout(Duration::from_secs(5), reading)
        .await
        .unwrap();
    let offered = String::from_utf8_lossy(&offered);
    for old in [
        "group1-sha1",
        "group14-sha1",
        "cbc",
        "3des",
        "arcfour",
        "hmac-sha1",
        "hmac-md5",
        "ssh-rsa",
        "zlib",
    ] {
        assert!(!offered.contains(old), "{old}");
    }
}

#[tokio::test]
async fn who_does_not_log_in_in_time_is_cut_off() {
    let world = world().await;
    let client = world.dial().await;
    tokio::time::sleep(Duration::from_millis(5500)).await;
    assert!(client.is_closed());
}

#[tokio::test]
async fn an_operator_ends_a_session_within_a_second() {
    let world = world().await;
    let client = world.client().await;
    let id = world.gateway.live().list()[0].id;
    let kill = gateway_core::machine::End::Killed(Box::default());
    assert!(world.gateway.live().end(id, kill));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(client.is_closed());
    assert!(world.has_event(|event| matches!(event, Event::SessionEnded { .. })));
    assert!(world.gateway.live().is_empty());
}
