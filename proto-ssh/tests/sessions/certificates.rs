//! Certificates between the gateway and OpenSSH's server: the gateway's towards it, and its own towards the gateway.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::audit::Event;
use jiff::Timestamp;
use russh::ChannelMsg;
use serde_json::{Value, json};

use super::sshd::{Sshd, is_installed, keygen, public, run as program};
use super::world::{Seen, TOKEN, Towards, World, adapter_in, read, run};

fn anything(_: &gateway_core::operation::Operation) -> bool {
    true
}

/// What is different.
struct How {
    /// Beside `kind` and `principals`.
    credential: Value,
    /// Lines of sshd's configuration.
    sshd: String,
    /// `host_key`; empty: the target's own.
    host_key: String,
    now: fn() -> Timestamp,
}

impl Default for How {
    fn default() -> Self {
        Self {
            credential: json!({}),
            sshd: String::new(),
            host_key: String::new(),
            now: Timestamp::now,
        }
    }
}

/// `None` where OpenSSH is not installed.
fn both(how: impl FnOnce(&Path) -> How) -> Option<(Sshd, World)> {
    if !is_installed() {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    keygen(&dir.path().join("host"));
    let how = how(dir.path());
    let adapter = adapter_in(dir.path());
    let sshd = Sshd::start(dir.path(), &adapter.user_ca().unwrap(), &how.sshd);
    let mut credential = json!({ "kind": "certificate", "principals": [sshd.login, "deploy"], "ttl": "5m" });
    let more = how.credential.as_object().unwrap().clone();
    credential.as_object_mut().unwrap().extend(more);
    let host_key = match how.host_key.is_empty() {
        true => public(&dir.path().join("host")),
        false => how.host_key,
    };
    let towards = Towards {
        address: sshd.address,
        host_key,
        credential,
        adapter,
        now: how.now,
    };
    let world = World::towards(anything, dir, towards, Arc::default());
    Some((sshd, world))
}

/// Without a login that is asked for it is the credential's first.
async fn echo(world: &World) -> Seen {
    run(&world.client_of("web-1").await, "echo hello").await
}

/// What the last connection that was let in may, as the target understood it.
fn permitted(sshd: &Sshd) -> String {
    let log = sshd.log();
    let told = log
        .lines()
        .rev()
        .find_map(|line| line.split_once("active: key options:"));
    told.unwrap_or_else(|| panic!("{log}")).1.trim().to_owned()
}

fn refused(seen: &Seen) {
    assert_eq!(seen.status, Some(77), "{seen:?}");
    assert_eq!(seen.out, b"");
}

#[tokio::test]
async fn a_target_that_trusts_the_ca_lets_the_gateway_in_and_logs_for_whom() {
    let Some((sshd, world)) = both(|_| How::default()) else {
        return;
    };
    let seen = echo(&world).await;
    assert_eq!(
        (seen.status, seen.out.as_slice()),
        (Some(0), &b"hello\n"[..]),
        "{}",
        sshd.log()
    );
    let log = sshd.log();
    let accepted = log
        .lines()
        .find(|line| line.contains("Accepted publickey"))
        .unwrap();
    assert!(accepted.contains("ED25519-CERT"), "{accepted}");
    assert!(accepted.contains("ID ann@example.test session="), "{accepted}");
    // Nothing was asked for, and nothing is granted.
    assert_eq!(permitted(&sshd), "");
}

#[tokio::test]
async fn a_terminal_is_in_the_certificate_only_where_it_was_granted() {
    let Some((sshd, world)) = both(|_| How::default()) else {
        return;
    };
    let client = world.client_of("web-1").await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel
        .request_pty(true, "xterm", 80, 24, 0, 0, &[])
        .await
        .unwrap();
    channel.exec(true, "tty").await.unwrap();
    let seen = read(&mut channel).await;
    assert!(
        String::from_utf8_lossy(&seen.out).contains("/dev/"),
        "{seen:?} {}",
        sshd.log()
    );
    assert_eq!(permitted(&sshd), "pty");
}

#[tokio::test]
async fn a_forward_has_a_certificate_for_forwards_alone() {
    let Some((sshd, world)) = both(|_| How::default()) else {
        return;
    };
    let client = world.client_of("web-1").await;
    let port = u32::from(sshd.address.port());
    let opened = client.channel_open_direct_tcpip("127.0.0.1", port, "127.0.0.1", 1);
    let mut channel = opened.await.unwrap();
    let Some(ChannelMsg::Data { data }) = channel.wait().await else {
        panic!("its banner: {}", sshd.log())
    };
    assert!(data.starts_with(b"SSH-2.0-"), "{data:?}");
    assert_eq!(permitted(&sshd), "port-forwarding");
}

#[tokio::test]
async fn a_certificate_that_has_ended_opens_nothing() {
    fn before() -> Timestamp {
        Timestamp::now() - Duration::from_secs(3600)
    }
    let how = |_: &Path| How {
        now: before,
        ..How::default()
    };
    let Some((sshd, world)) = both(how) else { return };
    refused(&echo(&world).await);
    assert!(
        sshd.log().contains("Certificate invalid: expired"),
        "{}",
        sshd.log()
    );
}

#[tokio::test]
async fn a_certificate_for_somebody_else_opens_nothing() {
    let how = |dir: &Path| {
        std::fs::write(dir.join("principals"), "somebody-else\n").unwrap();
        How {
            sshd: format!("AuthorizedPrincipalsFile {}/principals", dir.display()),
            ..How::default()
        }
    };
    let Some((sshd, world)) = both(how) else { return };
    refused(&echo(&world).await);
    assert!(
        sshd.log().contains("does not contain an authorized principal"),
        "{}",
        sshd.log()
    );
}

#[tokio::test]
async fn a_login_that_is_not_among_the_principals_is_refused_before_the_target_is_asked() {
    let Some((_sshd, world)) = both(|_| How::default()) else {
        return;
    };
    let mut client = world.dial().await;
    let login = client
        .authenticate_password("postgres@web-1", TOKEN)
        .await
        .unwrap();
    assert!(!login.success());
    assert!(world.has_event(
        |event| matches!(event, Event::LoginRefused { reason, .. } if reason.contains("certifies no login `postgres`"))
    ));
}

#[tokio::test]
async fn a_source_address_is_enforced_by_the_target() {
    let from = |network: &'static str| {
        move |_: &Path| How {
            credential: json!({ "source_address": [network] }),
            ..How::default()
        }
    };
    let Some((_sshd, world)) = both(from("127.0.0.0/8")) else {
        return;
    };
    assert_eq!(echo(&world).await.status, Some(0));
    let Some((sshd, world)) = both(from("192.0.2.0/24")) else {
        return;
    };
    refused(&echo(&world).await);
    assert!(sshd.log().contains("source"), "{}", sshd.log());
}

#[tokio::test]
async fn a_forced_command_is_what_runs() {
    let how = |forced: bool| {
        move |_: &Path| How {
            credential: json!({ "force_command": forced }),
            ..How::default()
        }
    };
    // sshd tells a forced command what was asked for beside it.
    let line = "printenv SSH_ORIGINAL_COMMAND";
    let Some((sshd, world)) = both(how(true)) else {
        return;
    };
    let seen = run(&world.client_of("web-1").await, line).await;
    assert_eq!(seen.status, Some(0), "{seen:?} {}", sshd.log());
    assert!(
        String::from_utf8_lossy(&seen.out).contains("SSH_ORIGINAL_COMMAND"),
        "{seen:?}"
    );
    let Some((_sshd, world)) = both(how(false)) else {
        return;
    };
    assert_eq!(run(&world.client_of("web-1").await, line).await.status, Some(1));
}

/// A target with a host certificate that the CA `signer` made with `arguments`, and a gateway that trusts the CA `trusted`.
fn certified(dir: &Path, signer: &str, trusted: &str, arguments: &[&str]) -> How {
    for ca in ["host_ca", "other_ca"] {
        keygen(&dir.join(ca));
    }
    let (ca, key) = (dir.join(signer), dir.join("host.pub"));
    let fixed = ["-q", "-s", ca.to_str().unwrap(), "-I", "web-1"];
    program(
        "ssh-keygen",
        &[&fixed, arguments, &[key.to_str().unwrap()]].concat(),
    );
    How {
        sshd: format!("HostCertificate {}/host-cert.pub", dir.display()),
        host_key: format!("@cert-authority {}", public(&dir.join(trusted))),
        ..How::default()
    }
}

#[tokio::test]
async fn a_host_certificate_of_the_named_authority_is_taken() {
    let good = ["-h", "-n", "web-1.example,127.0.0.1", "-V", "-5m:+5m"];
    let Some((sshd, world)) = both(|dir| certified(dir, "host_ca", "host_ca", &good)) else {
        return;
    };
    let seen = echo(&world).await;
    assert_eq!(seen.status, Some(0), "{seen:?} {}", sshd.log());
    assert!(sshd.log().contains("userauth-request"), "{}", sshd.log());
}

#[tokio::test]
async fn a_host_certificate_that_proves_nothing_gets_no_login() {
    let named = ["-h", "-n", "127.0.0.1", "-V", "-5m:+5m"];
    let expired = ["-h", "-n", "127.0.0.1", "-V", "-2h:-1h"];
    let other_name = ["-h", "-n", "web-2.example", "-V", "-5m:+5m"];
    let no_name = ["-h", "-V", "-5m:+5m"];
    for (signer, arguments) in [
        ("other_ca", &named[..]),
        ("host_ca", &expired[..]),
        ("host_ca", &other_name[..]),
        ("host_ca", &no_name[..]),
    ] {
        let Some((sshd, world)) = both(|dir| certified(dir, signer, "host_ca", arguments)) else {
            return;
        };
        refused(&echo(&world).await);
        // Nothing was sent to it.
        assert!(
            !sshd.log().contains("userauth-request"),
            "{arguments:?} {}",
            sshd.log()
        );
    }
}

#[tokio::test]
async fn a_bare_host_key_is_not_taken_where_an_authority_is_named() {
    let how = |dir: &Path| {
        let named = ["-h", "-n", "127.0.0.1", "-V", "-5m:+5m"];
        How {
            sshd: String::new(),
            ..certified(dir, "host_ca", "host_ca", &named)
        }
    };
    let Some((sshd, world)) = both(how) else { return };
    refused(&echo(&world).await);
    assert!(!sshd.log().contains("userauth-request"), "{}", sshd.log());
}
