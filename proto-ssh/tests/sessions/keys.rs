//! Clients that show a key or a certificate.

use std::sync::Arc;
use std::time::Duration;

use gateway_core::adapter::{Certified, ProtocolAdapter};
use gateway_core::audit::Event;
use jiff::{SignedDuration, Timestamp};
use russh::client::AuthResult;
use russh::keys::{Certificate, PrivateKey, PrivateKeyWithHashAlg};

use super::world::{TOKEN, World, new_key, read, run};

const ID: &str = "Certif1aaaaa";

fn anything(_: &gateway_core::operation::Operation) -> bool {
    true
}

async fn world() -> World {
    World::new(anything, Duration::ZERO).await
}

fn register(world: &World, key: &PrivateKey, id: Option<&str>) -> String {
    let public = key.public_key().to_openssh().unwrap();
    let fingerprint = world.adapter.fingerprint(&public).unwrap();
    world
        .keys
        .lock()
        .insert(fingerprint.clone(), id.map(str::to_owned));
    fingerprint
}

fn certify(world: &World, key: &PrivateKey, subject: &str) -> Certificate {
    let (now, minute) = (Timestamp::now(), SignedDuration::from_mins(1));
    let text = world.adapter.certify(&Certified {
        public_key: &key.public_key().to_openssh().unwrap(),
        id: ID,
        subject,
        from: now.saturating_sub(minute).unwrap(),
        until: now.saturating_add(minute).unwrap(),
    });
    Certificate::from_openssh(&text.unwrap()).unwrap()
}

async fn by_key(world: &World, user: &str, key: &PrivateKey) -> AuthResult {
    let mut client = world.dial().await;
    let key = PrivateKeyWithHashAlg::new(Arc::new(key.clone()), None);
    client.authenticate_publickey(user, key).await.unwrap()
}

async fn by_certificate(world: &World, key: &PrivateKey, certificate: &Certificate) -> AuthResult {
    let mut client = world.dial().await;
    let key = Arc::new(key.clone());
    let shown = client.authenticate_openssh_cert("deploy@web-1", key, certificate.clone());
    shown.await.unwrap()
}

fn refusals(world: &World) -> Vec<String> {
    let events = world.events.lock();
    let reason = |event: &Event| match event {
        Event::LoginRefused { reason, .. } => Some(reason.clone()),
        _ => None,
    };
    events.iter().filter_map(reason).collect()
}

fn has_session(world: &World) -> bool {
    world.has_event(|event| matches!(event, Event::SessionStarted { .. }))
}

#[tokio::test]
async fn a_registered_key_logs_in_and_no_other_does() {
    let world = world().await;
    let key = new_key();
    assert!(!by_key(&world, "deploy@web-1", &key).await.success());
    register(&world, &key, None);
    let mut client = world.dial().await;
    let shown = PrivateKeyWithHashAlg::new(Arc::new(key.clone()), None);
    let login = client
        .authenticate_publickey("deploy@web-1", shown)
        .await
        .unwrap();
    assert!(login.success());
    assert_eq!(run(&client, "exit 0").await.status, Some(0));
    assert!(!by_key(&world, "deploy@nowhere", &key).await.success());
    assert!(!by_key(&world, "@web-1", &key).await.success());
    assert!(!by_key(&world, "deploy@web-1", &new_key()).await.success());
}

#[tokio::test]
async fn ghsa_3cjp_cve_2024_45337_a_key_that_is_offered_proves_nobody_and_the_one_that_signs_does() {
    let world = world().await;
    let (known, own) = (new_key(), new_key());
    register(&world, &known, None);
    // The known key is offered, and accepted for a proof; another one signs, in its name and in its own.
    let mut client = world.dial().await;
    let mut liar = Liar(own.clone());
    let told = client
        .authenticate_publickey_with("deploy@web-1", known.public_key().clone(), None, &mut liar)
        .await
        .unwrap();
    assert!(!told.success());
    assert!(client.channel_open_session().await.is_err());
    assert!(!has_session(&world));
    assert!(!by_key(&world, "deploy@web-1", &own).await.success());
    assert!(!has_session(&world));
}

/// Signs with a key that is not the one that was offered.
struct Liar(PrivateKey);

impl russh::Signer for Liar {
    type Error = russh::AgentAuthError;
    async fn auth_sign(
        &mut self,
        _: &russh::keys::agent::AgentIdentity,
        _: Option<russh::keys::HashAlg>,
        to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, Self::Error> {
        use russh::keys::signature::Signer as _;
        let signature: russh::keys::ssh_key::Signature = self.0.try_sign(&to_sign).unwrap();
        let mut blob = Vec::new();
        for part in [&b"ssh-ed25519"[..], signature.as_bytes()] {
            blob.extend_from_slice(&u32::try_from(part.len()).unwrap().to_be_bytes());
            blob.extend_from_slice(part);
        }
        let mut signed = to_sign;
        signed.extend_from_slice(&u32::try_from(blob.len()).unwrap().to_be_bytes());
        signed.extend_from_slice(&blob);
        Ok(signed)
    }
}

#[tokio::test]
async fn a_certificate_logs_in_with_its_own_key_and_for_its_own_owner() {
    let world = world().await;
    let key = new_key();
    let certificate = certify(&world, &key, "ann@example.test");
    assert!(!by_certificate(&world, &key, &certificate).await.success());
    register(&world, &key, Some(ID));
    assert!(by_certificate(&world, &key, &certificate).await.success());
    // Its key alone is nobody's.
    assert!(!by_key(&world, "deploy@web-1", &key).await.success());
    // A certificate of somebody else behind the same token.
    let other = certify(&world, &key, "bob@example.test");
    assert!(!by_certificate(&world, &key, &other).await.success());
    assert!(
        refusals(&world)
            .iter()
            .any(|why| why.contains("for somebody else"))
    );
    // Another's certificate, with a key that is known.
    let thief = new_key();
    register(&world, &thief, None);
    assert!(!by_certificate(&world, &thief, &certificate).await.success());
}

#[tokio::test]
async fn what_no_one_looked_at_is_in_the_trail_all_the_same() {
    let world = world().await;
    let key = new_key();
    register(&world, &key, Some(ID));
    let now = Timestamp::now();
    let old = |seconds| now.saturating_sub(SignedDuration::from_secs(seconds)).unwrap();
    // It ended; the library sees that before it asks.
    let text = world.adapter.certify(&Certified {
        public_key: &key.public_key().to_openssh().unwrap(),
        id: ID,
        subject: "ann@example.test",
        from: old(600),
        until: old(300),
    });
    let ended = Certificate::from_openssh(&text.unwrap()).unwrap();
    assert!(!by_certificate(&world, &key, &ended).await.success());
    for _ in 0..50 {
        if !refusals(&world).is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        refusals(&world)[0].contains("not valid now"),
        "{:?}",
        refusals(&world)
    );
}

#[tokio::test]
async fn every_refused_key_and_certificate_looks_alike() {
    let world = world().await;
    let (key, strange) = (new_key(), new_key());
    register(&world, &key, Some(ID));
    let certificate = certify(&world, &key, "bob@example.test");
    let unknown = certify(&world, &strange, "ann@example.test");
    let answers = [
        format!("{:?}", by_key(&world, "deploy@web-1", &key).await),
        format!("{:?}", by_key(&world, "deploy@web-1", &strange).await),
        format!("{:?}", by_certificate(&world, &key, &certificate).await),
        format!("{:?}", by_certificate(&world, &strange, &unknown).await),
    ];
    assert!(answers.iter().all(|one| *one == answers[0]), "{answers:?}");
}

#[tokio::test]
async fn who_tries_too_often_is_cut_off_and_many_keys_are_not_many_tries() {
    let world = world().await;
    let mut client = world.dial().await;
    for _ in 0..7 {
        let key = PrivateKeyWithHashAlg::new(Arc::new(new_key()), None);
        let told = client.authenticate_publickey("deploy@web-1", key).await;
        assert!(!told.unwrap().success());
    }
    assert!(
        client
            .authenticate_password("deploy@web-1", TOKEN)
            .await
            .unwrap()
            .success()
    );
    let mut client = world.dial().await;
    for _ in 0..6 {
        let told = client.authenticate_password("deploy@web-1", "wrong").await;
        assert!(!told.unwrap().success());
    }
    let told = client.authenticate_password("deploy@web-1", TOKEN).await;
    assert!(!told.is_ok_and(|told| told.success()));
    assert!(client.is_closed());
    let wrong = refusals(&world);
    assert_eq!(
        wrong.iter().filter(|why| why.contains("unknown")).count(),
        6,
        "{wrong:?}"
    );
}

#[tokio::test]
async fn a_certificate_without_extensions_holds_back_what_policy_would_permit() {
    let world = world().await;
    let key = new_key();
    register(&world, &key, Some(ID));
    let ca = std::fs::read(world.dir().join("ssh_login_ca"));
    // It is made with the first certificate.
    assert!(ca.is_err());
    certify(&world, &key, "ann@example.test");
    let ca = PrivateKey::from_openssh(std::fs::read(world.dir().join("ssh_login_ca")).unwrap()).unwrap();
    let bare = bare_certificate(&ca, &key);
    let mut client = world.dial().await;
    let shown = client.authenticate_openssh_cert("deploy@web-1", Arc::new(key), bare);
    assert!(shown.await.unwrap().success());
    assert_eq!(run(&client, "exit 0").await.status, Some(0));
    assert!(
        client
            .channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1)
            .await
            .is_err()
    );
    assert!(client.tcpip_forward("127.0.0.1", 0).await.is_err());
    let mut channel = client.channel_open_session().await.unwrap();
    channel
        .request_pty(true, "xterm", 80, 24, 0, 0, &[])
        .await
        .unwrap();
    channel.agent_forward(true).await.unwrap();
    channel.exec(true, "exit 0").await.unwrap();
    let seen = read(&mut channel).await;
    assert!(seen.failed && seen.status == Some(0), "{seen:?}");
    let refused =
        |what: &str| world.has_event(|event| format!("{event:?}").contains(&format!("lacks `{what}`")));
    for what in ["permit-port-forwarding", "permit-pty", "permit-agent-forwarding"] {
        assert!(refused(what), "{what}");
    }
}

fn bare_certificate(ca: &PrivateKey, key: &PrivateKey) -> Certificate {
    use russh::keys::ssh_key::certificate::{Builder, CertType};
    let now = u64::try_from(Timestamp::now().as_second()).unwrap();
    let mut random = russh::keys::key::safe_rng();
    let public = key.public_key().key_data().clone();
    let mut builder = Builder::new_with_random_nonce(&mut random, public, now - 60, now + 60).unwrap();
    builder.cert_type(CertType::User).unwrap();
    builder.key_id(ID).unwrap();
    builder.valid_principal("ann@example.test").unwrap();
    builder.sign(ca).unwrap()
}
