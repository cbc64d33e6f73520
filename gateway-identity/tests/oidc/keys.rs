//! Keys that change, and issuers that are down, slow, or lie.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_core::tls::{ServerTls, TlsConfig};
use gateway_identity::oidc::{CheckedIssuers, OidcSettings, Refusal};
use gateway_testkit::Answer;
use serde_json::json;

use crate::support::{DISCOVERY, Idp, JWKS, Signer, authenticator, key_set, refusal, verify};

#[tokio::test]
async fn a_rotated_key_is_found_at_the_first_token_that_names_it() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let idp = Idp::start(&[&old]).await;
    let authenticator = authenticator(vec![idp.settings()]);
    verify(&authenticator, &old.sign(&idp.claims())).await.unwrap();
    idp.publish(&[&old, &new]);
    verify(&authenticator, &new.sign(&idp.claims())).await.unwrap();
    verify(&authenticator, &old.sign(&idp.claims())).await.unwrap();
    assert_eq!(idp.web.requests(JWKS), 2);
}

#[tokio::test]
async fn a_key_that_is_withdrawn_signs_no_more_after_the_next_reading() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let idp = Idp::start(&[&old]).await;
    let authenticator = authenticator(vec![idp.settings()]);
    let token = old.sign(&idp.claims());
    verify(&authenticator, &token).await.unwrap();
    idp.publish(&[&new]);
    verify(&authenticator, &new.sign(&idp.claims())).await.unwrap();
    assert_eq!(refusal(&authenticator, &token).await, Refusal::UnknownKey);
}

#[tokio::test]
async fn unknown_key_ids_have_the_keys_read_once_however_many_come() {
    let signer = Signer::es256("k");
    let idp = Idp::start(&[&signer]).await;
    let authenticator = authenticator(vec![idp.settings()]);
    verify(&authenticator, &signer.sign(&idp.claims())).await.unwrap();
    idp.web.set(
        JWKS,
        Answer::After(
            Duration::from_millis(200),
            Box::new(Answer::Body(key_set(&[&signer]))),
        ),
    );
    let strangers = (0..200).map(|n| {
        let (authenticator, token) = (
            authenticator.clone(),
            Signer::es256(&format!("x{n}")).sign(&idp.claims()),
        );
        tokio::spawn(async move { refusal(&authenticator, &token).await })
    });
    for stranger in strangers.collect::<Vec<_>>() {
        assert_eq!(stranger.await.unwrap(), Refusal::UnknownKey);
    }
    let begin = Instant::now();
    assert_eq!(
        refusal(&authenticator, &Signer::es256("y").sign(&idp.claims())).await,
        Refusal::UnknownKey
    );
    assert!(
        begin.elapsed() < Duration::from_millis(100),
        "nobody waits for a reading that is not"
    );
    assert_eq!((idp.web.requests(DISCOVERY), idp.web.requests(JWKS)), (2, 2));
}

#[tokio::test]
async fn after_a_while_an_unknown_key_id_is_looked_for_again() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let idp = Idp::start(&[&old]).await;
    let mut settings = idp.settings();
    settings.pace.demand = Duration::from_millis(300);
    let authenticator = authenticator(vec![settings]);
    verify(&authenticator, &old.sign(&idp.claims())).await.unwrap();
    let token = new.sign(&idp.claims());
    assert_eq!(refusal(&authenticator, &token).await, Refusal::UnknownKey);
    idp.publish(&[&new]);
    assert_eq!(refusal(&authenticator, &token).await, Refusal::UnknownKey);
    tokio::time::sleep(Duration::from_millis(350)).await;
    verify(&authenticator, &token).await.unwrap();
}

#[tokio::test]
async fn known_keys_work_while_the_issuer_is_down_and_unknown_ones_do_not() {
    let (known, unknown) = (Signer::es256("known"), Signer::es256("unknown"));
    let mut idp = Idp::start(&[&known]).await;
    let authenticator = authenticator(vec![idp.settings()]);
    verify(&authenticator, &known.sign(&idp.claims())).await.unwrap();
    idp.web.down().await;
    assert_eq!(
        refusal(&authenticator, &unknown.sign(&idp.claims())).await,
        Refusal::UnknownKey
    );
    verify(&authenticator, &known.sign(&idp.claims())).await.unwrap();
}

#[tokio::test]
async fn known_keys_do_not_work_for_ever_without_the_issuer() {
    let signer = Signer::es256("k");
    let mut idp = Idp::start(&[&signer]).await;
    // Shorter than the configuration permits.
    let settings = OidcSettings {
        keys_keep: Duration::from_secs(60),
        keys_refresh: Duration::from_secs(60),
        ..idp.settings()
    };
    let authenticator = authenticator(vec![settings]);
    let token = signer.sign(&idp.claims());
    verify(&authenticator, &token).await.unwrap();
    idp.web.down().await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(45)).await;
    tokio::time::resume();
    verify(&authenticator, &token).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(20)).await;
    tokio::time::resume();
    assert!(matches!(
        refusal(&authenticator, &token).await,
        Refusal::Unreachable(_)
    ));
}

#[tokio::test]
async fn an_issuer_that_was_down_at_the_start_is_found_when_it_comes() {
    let signer = Signer::es256("k");
    let mut idp = Idp::start(&[&signer]).await;
    idp.web.down().await;
    let mut settings = idp.settings();
    settings.pace.retry = Duration::from_millis(100);
    let authenticator = authenticator(vec![settings]);
    let token = signer.sign(&idp.claims());
    assert!(matches!(
        refusal(&authenticator, &token).await,
        Refusal::Unreachable(_)
    ));
    idp.web.up().await;
    let begin = Instant::now();
    while verify(&authenticator, &token).await.is_err() {
        assert!(begin.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn keys_are_read_again_from_time_to_time_without_being_asked_for() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let idp = Idp::start(&[&old]).await;
    let settings = OidcSettings {
        keys_refresh: Duration::from_secs(60),
        ..idp.settings()
    };
    let authenticator = authenticator(vec![settings]);
    verify(&authenticator, &old.sign(&idp.claims())).await.unwrap();
    idp.publish(&[&new]);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    let begin = Instant::now();
    while idp.web.requests(JWKS) < 2 {
        assert!(begin.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What an issuer's documents are answered with, and what must not come of it.
#[tokio::test]
async fn an_issuer_that_answers_nonsense_is_as_one_that_is_down() {
    let signer = Signer::es256("k");
    let good = key_set(&[&signer]);
    let evil = Idp::start(&[&signer]).await;
    let table = [
        (DISCOVERY, Answer::Status(200)),
        (DISCOVERY, Answer::Status(500)),
        (DISCOVERY, Answer::Redirect(evil.web.url(DISCOVERY))),
        (
            DISCOVERY,
            Answer::Body(json!({"issuer": evil.url(), "jwks_uri": evil.web.url(JWKS)}).to_string()),
        ),
        (DISCOVERY, Answer::Body("{}".to_owned())),
        (DISCOVERY, Answer::Close),
        (DISCOVERY, Answer::Silence),
        (DISCOVERY, Answer::EndlessHead),
        (JWKS, Answer::Status(200)),
        (JWKS, Answer::Redirect(evil.web.url(JWKS))),
        (JWKS, Answer::Status(404)),
        (JWKS, Answer::Torn(good.clone())),
        (JWKS, Answer::Silence),
        (
            JWKS,
            Answer::After(Duration::from_secs(5), Box::new(Answer::Body(good))),
        ),
    ];
    for (path, answer) in table {
        let idp = Idp::start(&[&signer]).await;
        idp.web.set(path, answer.clone());
        let authenticator = authenticator(vec![idp.settings()]);
        let begin = Instant::now();
        let found = refusal(&authenticator, &signer.sign(&idp.claims())).await;
        assert!(
            matches!(found, Refusal::Unreachable(_)),
            "{path} {answer:?}: {found:?}"
        );
        assert!(begin.elapsed() < Duration::from_secs(3), "{path} {answer:?}");
    }
    assert_eq!(
        (evil.web.requests(DISCOVERY), evil.web.requests(JWKS)),
        (0, 0),
        "redirects are not followed"
    );
}

#[tokio::test]
async fn nonsense_leaves_the_known_keys_in_force() {
    let signer = Signer::es256("k");
    let idp = Idp::start(&[&signer]).await;
    let authenticator = authenticator(vec![idp.settings()]);
    verify(&authenticator, &signer.sign(&idp.claims())).await.unwrap();
    idp.web.set(JWKS, Answer::Status(200));
    assert_eq!(
        refusal(&authenticator, &Signer::es256("x").sign(&idp.claims())).await,
        Refusal::UnknownKey
    );
    assert_eq!(idp.web.requests(JWKS), 2);
    verify(&authenticator, &signer.sign(&idp.claims())).await.unwrap();
}

#[tokio::test]
async fn an_issuer_that_withdraws_all_keys_is_believed() {
    let signer = Signer::es256("k");
    let idp = Idp::start(&[&signer]).await;
    let authenticator = authenticator(vec![idp.settings()]);
    verify(&authenticator, &signer.sign(&idp.claims())).await.unwrap();
    idp.publish(&[]);
    refusal(&authenticator, &Signer::es256("x").sign(&idp.claims())).await;
    assert_eq!(
        refusal(&authenticator, &signer.sign(&idp.claims())).await,
        Refusal::UnknownKey
    );
}

#[tokio::test]
async fn a_hundred_megabytes_are_not_read() {
    let signer = Signer::es256("k");
    for announced in [true, false] {
        for path in [DISCOVERY, JWKS] {
            let idp = Idp::start(&[&signer]).await;
            idp.web.set(
                path,
                Answer::Huge {
                    bytes: 100 << 20,
                    announced,
                },
            );
            let authenticator = authenticator(vec![idp.settings()]);
            let found = refusal(&authenticator, &signer.sign(&idp.claims())).await;
            assert!(matches!(found, Refusal::Unreachable(_)), "{found:?}");
            // What the sockets hold is taken; the rest is not.
            assert!(
                idp.web.taken() < 20 << 20,
                "{path}: {} bytes were taken",
                idp.web.taken()
            );
        }
    }
}

#[tokio::test]
async fn keys_elsewhere_than_https_or_loopback_are_not_fetched() {
    let signer = Signer::es256("k");
    for jwks_uri in [
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "",
        "//jwks",
        "http://10.0.0.1/",
    ] {
        let idp = Idp::start(&[&signer]).await;
        let discovery = json!({"issuer": idp.url(), "jwks_uri": jwks_uri});
        idp.web.set(DISCOVERY, Answer::Body(discovery.to_string()));
        let mut settings = idp.settings();
        settings.pace.fetch = Duration::from_secs(5);
        let authenticator = authenticator(vec![settings]);
        let begin = Instant::now();
        assert!(matches!(
            refusal(&authenticator, &signer.sign(&idp.claims())).await,
            Refusal::Unreachable(_)
        ));
        assert!(
            begin.elapsed() < Duration::from_secs(3),
            "{jwks_uri}: somebody was asked"
        );
    }
}

/// A front of TLS before an issuer, with a private CA in `dir`.
async fn tls_front(idp: &Idp, dir: &Path) -> u16 {
    let server = Arc::new(ServerTls::open(TlsConfig::default(), dir).unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, target) = (listener.local_addr().unwrap().port(), idp.web.address());
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let server = server.clone();
            tokio::spawn(async move {
                let mut outside = server.accept(tcp, &[]).await.ok()?;
                let mut inside = tokio::net::TcpStream::connect(target).await.ok()?;
                tokio::io::copy_bidirectional(&mut outside, &mut inside)
                    .await
                    .ok()
            });
        }
    });
    port
}

#[tokio::test]
async fn a_private_issuer_is_reached_over_tls_with_its_own_ca_alone() {
    let signer = Signer::es256("k");
    let idp = Idp::start(&[&signer]).await;
    let (dir, strange) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let port = tls_front(&idp, dir.path()).await;
    ServerTls::open(TlsConfig::default(), strange.path()).unwrap();
    let url = format!("https://localhost:{port}/realm/");
    let discovery = json!({"issuer": url, "jwks_uri": format!("https://127.0.0.1:{port}/jwks")});
    idp.web.set(
        "/realm/.well-known/openid-configuration",
        Answer::Body(discovery.to_string()),
    );
    let mut claims = idp.claims();
    claims["iss"] = json!(url);
    for (ca, good) in [(dir.path(), true), (strange.path(), false)] {
        let settings = OidcSettings {
            issuer: url.clone(),
            ca: Some(ca.join("ca.crt")),
            ..idp.settings()
        };
        let authenticator = authenticator(vec![settings]);
        assert_eq!(verify(&authenticator, &signer.sign(&claims)).await.is_ok(), good);
    }
    // Keys of an https issuer do not come in clear.
    let discovery = json!({"issuer": url, "jwks_uri": idp.web.url(JWKS)});
    idp.web.set(
        "/realm/.well-known/openid-configuration",
        Answer::Body(discovery.to_string()),
    );
    let settings = OidcSettings {
        issuer: url,
        ca: Some(dir.path().join("ca.crt")),
        ..idp.settings()
    };
    let authenticator = authenticator(vec![settings]);
    let before = idp.web.requests(JWKS);
    assert!(matches!(
        refusal(&authenticator, &signer.sign(&claims)).await,
        Refusal::Unreachable(_)
    ));
    assert_eq!(idp.web.requests(JWKS), before);
}

#[tokio::test]
async fn a_ca_file_that_cannot_be_read_is_told_before_anything_is_trusted() {
    let settings = OidcSettings {
        ca: Some("/nowhere/ca.crt".into()),
        ..OidcSettings::new("corp", "https://issuer.example", "gateway")
    };
    let told = CheckedIssuers::new(vec![settings]).unwrap_err().to_string();
    assert!(
        told.contains("corp") && told.contains("/nowhere/ca.crt"),
        "{told}"
    );
}
