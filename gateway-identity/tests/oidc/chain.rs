//! The chain by form, and issuers that come and go while sessions run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use gateway_core::principal::PrincipalKind;
use gateway_core::secret::Secret;
use gateway_core::services::{AuthError, Authenticator, SessionFilter, Store, StoreError, TokenRecord};
use gateway_core::session::{SessionId, SessionRecord};
use gateway_identity::oidc::{CheckedIssuers, OidcSettings};
use gateway_identity::{Authenticators, CreateToken, MockKey, TokenAuthenticator};
use gateway_testkit::Answer;
use jiff::Timestamp;
use serde_json::json;

use crate::support::{DISCOVERY, Idp, JWKS, NOW, Signer, authenticator, refusal, verify};

/// A store with one token, which counts how often it is asked.
struct OneToken {
    token: TokenRecord,
    asked: AtomicUsize,
}

#[async_trait]
impl Store for OneToken {
    async fn insert_token(&self, _: &TokenRecord) -> Result<(), StoreError> {
        Ok(())
    }
    async fn token(&self, id: &str) -> Result<Option<TokenRecord>, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok((id == self.token.id).then(|| self.token.clone()))
    }
    async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        Ok(vec![])
    }
    async fn revoke_token(&self, _: &str, _: Timestamp) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn put_session(&self, _: &SessionRecord) -> Result<(), StoreError> {
        Ok(())
    }
    async fn session(&self, _: SessionId) -> Result<Option<SessionRecord>, StoreError> {
        Ok(None)
    }
    async fn sessions(&self, _: SessionFilter, _: u32) -> Result<Vec<SessionRecord>, StoreError> {
        Ok(vec![])
    }
    async fn close_orphans(&self, _: Timestamp, _: &str) -> Result<u64, StoreError> {
        Ok(0)
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn gateway_token() -> (Arc<OneToken>, Secret) {
    let (token, secret) = CreateToken {
        subject: "bob".to_owned(),
        kind: PrincipalKind::Human,
        groups: vec![],
        on_behalf_of: None,
        ttl: std::time::Duration::from_secs(60),
        resources: vec![],
    }
    .build(now())
    .unwrap();
    (
        Arc::new(OneToken {
            token,
            asked: AtomicUsize::new(0),
        }),
        secret,
    )
}

#[tokio::test]
async fn the_form_alone_tells_who_is_asked() {
    let signer = Signer::es256("k");
    let idp = Idp::start(&[&signer]).await;
    let oidc = authenticator(vec![idp.settings()]);
    let (store, gateway_token) = gateway_token();
    let chain = Authenticators::new(
        TokenAuthenticator::new(store.clone(), now, MockKey::new(&[7; MockKey::LEN])),
        oidc,
    );
    let alice = chain
        .authenticate(&Secret::new(signer.sign(&idp.claims())))
        .await
        .unwrap();
    assert_eq!(
        (
            alice.principal.subject.as_str(),
            store.asked.load(Ordering::SeqCst)
        ),
        ("alice", 0)
    );
    let bob = chain.authenticate(&gateway_token).await.unwrap();
    assert_eq!(
        (bob.principal.subject.as_str(), store.asked.load(Ordering::SeqCst)),
        ("bob", 1)
    );
    for proof in [&alice.credential_id, &bob.credential_id] {
        assert!(chain.still_valid(proof).await.unwrap(), "{proof}");
    }
    let before = (store.asked.load(Ordering::SeqCst), idp.web.requests(JWKS));
    for neither in [
        "",
        "password",
        "gwt_",
        "gwt_short_x",
        "a.b",
        "..",
        "eyJ.eyJ.x",
        &"x.".repeat(9000),
    ] {
        let found = chain.authenticate(&Secret::new(neither)).await;
        assert!(found.is_err(), "{neither}");
    }
    assert_eq!(
        (store.asked.load(Ordering::SeqCst), idp.web.requests(JWKS)),
        before,
        "others cost nothing"
    );
    for id in [
        "oidc/",
        "oidc/corp/",
        "oidc/corp",
        "oidc/other/0000000000000000/1",
        "OIDC/corp/1",
    ] {
        assert!(!chain.still_valid(id).await.unwrap(), "{id}");
    }
}

#[tokio::test]
async fn what_an_issuer_says_comes_out_as_what_the_gateway_tells() {
    let signer = Signer::es256("k");
    let mut idp = Idp::start(&[&signer]).await;
    let oidc = authenticator(vec![idp.settings()]);
    let ask = async |claims: &serde_json::Value| oidc.authenticate(&Secret::new(signer.sign(claims))).await;
    let mut ended = idp.claims();
    ended["exp"] = json!(NOW);
    assert!(matches!(ask(&ended).await, Err(AuthError::Expired)));
    let mut other = idp.claims();
    other["aud"] = json!("other");
    assert!(matches!(ask(&other).await, Err(AuthError::Rejected(why)) if why.contains("audience")));
    assert!(matches!(
        oidc.authenticate(&Secret::new("x")).await,
        Err(AuthError::Form)
    ));
    idp.web.down().await;
    let never = authenticator(vec![idp.settings()]);
    let found = never.authenticate(&Secret::new(signer.sign(&idp.claims()))).await;
    assert!(matches!(found, Err(AuthError::Unavailable(why)) if why.contains("corp")));
}

#[tokio::test]
async fn an_issuer_that_is_taken_out_ends_what_it_proved_and_the_others_stay() {
    let (one, two) = (Signer::es256("k"), Signer::es256("k"));
    let (idp, other) = (Idp::start(&[&one]).await, Idp::start(&[&two]).await);
    let second = OidcSettings {
        name: "other".to_owned(),
        ..other.settings()
    };
    let oidc = authenticator(vec![idp.settings(), second.clone()]);
    let first = verify(&oidc, &one.sign(&idp.claims()))
        .await
        .unwrap()
        .credential_id;
    let kept = verify(&oidc, &two.sign(&other.claims()))
        .await
        .unwrap()
        .credential_id;
    let both = [
        oidc.still_valid(&first).await.unwrap(),
        oidc.still_valid(&kept).await.unwrap(),
    ];
    assert_eq!(both, [true, true]);
    oidc.trust(CheckedIssuers::new(vec![second]).unwrap());
    assert!(!oidc.still_valid(&first).await.unwrap());
    assert!(oidc.still_valid(&kept).await.unwrap());
    assert!(matches!(
        refusal(&oidc, &one.sign(&idp.claims())).await,
        gateway_identity::oidc::Refusal::Issuer(_)
    ));
    verify(&oidc, &two.sign(&other.claims())).await.unwrap();
    assert_eq!(other.web.requests(DISCOVERY), 1, "the keys of who stays are kept");
}

#[tokio::test]
async fn a_name_that_is_given_to_another_issuer_does_not_keep_the_old_ones_sessions() {
    let signer = Signer::es256("k");
    let (idp, other) = (Idp::start(&[&signer]).await, Idp::start(&[&signer]).await);
    let oidc = authenticator(vec![idp.settings()]);
    let proof = verify(&oidc, &signer.sign(&idp.claims()))
        .await
        .unwrap()
        .credential_id;
    oidc.trust(CheckedIssuers::new(vec![other.settings()]).unwrap());
    assert!(!oidc.still_valid(&proof).await.unwrap());
}

#[tokio::test]
async fn changed_rules_hold_at_once_and_keep_the_keys_also_while_the_issuer_is_down() {
    let signer = Signer::es256("k");
    let mut idp = Idp::start(&[&signer]).await;
    let oidc = authenticator(vec![idp.settings()]);
    let token = signer.sign(&idp.claims());
    let proof = verify(&oidc, &token).await.unwrap().credential_id;
    idp.web.down().await;
    let renamed = OidcSettings {
        group_prefix: Some("corp:".to_owned()),
        ..idp.settings()
    };
    oidc.trust(CheckedIssuers::new(vec![renamed]).unwrap());
    let found = verify(&oidc, &token).await.unwrap();
    assert!(found.principal.groups.contains("corp:dba") && found.principal.groups.len() == 1);
    assert!(oidc.still_valid(&proof).await.unwrap());
}

#[tokio::test]
async fn a_token_of_eight_kibibytes_is_taken() {
    let signer = Signer::es256("k");
    let idp = Idp::start(&[&signer]).await;
    let oidc = authenticator(vec![idp.settings()]);
    let mut claims = idp.claims();
    claims["photo"] = json!("x".repeat(8000));
    let token = signer.sign(&claims);
    assert!(token.len() > 8192);
    verify(&oidc, &token).await.unwrap();
}

#[cfg(feature = "dev-issuer")]
mod development {
    use std::time::Duration;

    use gateway_identity::dev_issuer::{DevIssuer, DevIssuerOptions, DevPerson};
    use gateway_identity::oidc::OidcAuthenticator;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn start() -> DevIssuer {
        let olivia = DevPerson {
            name: "olivia".to_owned(),
            subject: "olivia@example.com".to_owned(),
            groups: vec!["analysts".to_owned()],
            kind: PrincipalKind::Human,
        };
        DevIssuer::start(DevIssuerOptions {
            port: 0,
            audience: "gateway".to_owned(),
            ttl: Duration::from_secs(60),
            people: vec![olivia],
        })
        .await
        .unwrap()
    }

    async fn get(issuer: &DevIssuer, path: &str, host: &str) -> String {
        let address = issuer.url().strip_prefix("http://").unwrap();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn its_tokens_are_taken_by_a_gateway_that_trusts_it() {
        let issuer = start().await;
        let oidc = OidcAuthenticator::new(Timestamp::now);
        oidc.trust(CheckedIssuers::new(vec![OidcSettings::new("dev", issuer.url(), "gateway")]).unwrap());
        let host = issuer.url().strip_prefix("http://").unwrap().to_owned();
        let answer = get(&issuer, "/token/olivia", &host).await;
        let token = answer.rsplit("\r\n\r\n").next().unwrap().trim();
        let found = verify(&oidc, token).await.unwrap();
        assert_eq!(found.principal.subject, "olivia@example.com");
        assert!(found.principal.groups.contains("analysts"));
        assert!(issuer.token("nobody").is_none());
        assert!(
            get(&issuer, "/token/nobody", &host)
                .await
                .starts_with("HTTP/1.1 404 ")
        );
    }

    #[tokio::test]
    async fn it_is_on_loopback_and_answers_to_its_own_address_alone() {
        let issuer = start().await;
        assert!(issuer.url().starts_with("http://127.0.0.1:"));
        for host in ["evil.example", "localhost", "", "127.0.0.1"] {
            let answer = get(&issuer, "/token/olivia", host).await;
            assert!(
                !answer.contains("eyJ") && answer.contains(" 403 "),
                "{host}: {answer}"
            );
        }
    }
}

#[tokio::test]
async fn a_key_set_in_which_most_is_strange_still_serves_its_good_key() {
    let signer = Signer::es256("k");
    let idp = Idp::start(&[]).await;
    let keys = json!({"keys": [{"kty": "oct", "k": "x"}, 7, {"kty": "AKP"}, signer.jwk()], "more": 1});
    idp.web.set(JWKS, Answer::Body(keys.to_string()));
    let oidc = authenticator(vec![idp.settings()]);
    verify(&oidc, &signer.sign(&idp.claims())).await.unwrap();
}
