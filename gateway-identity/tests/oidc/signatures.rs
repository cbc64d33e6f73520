//! Whose signature it is, and by what algorithm.

use aws_lc_rs::hmac;
use gateway_core::principal::PrincipalKind;
use gateway_identity::oidc::{Algorithm, OidcSettings, Refusal};
use serde_json::{Value, json};

use crate::support::{Idp, NOW, Signer, authenticator, b64, refusal, verify};

#[tokio::test]
async fn a_token_of_each_kind_of_key_proves_who_it_is() {
    let signers = [Signer::es256("ec"), Signer::rs256("rsa"), Signer::eddsa("ed")];
    let idp = Idp::start(&signers.each_ref()).await;
    let authenticator = authenticator(vec![idp.settings()]);
    for signer in &signers {
        let found = verify(&authenticator, &signer.sign(&idp.claims())).await.unwrap();
        assert_eq!(
            (found.principal.subject.as_str(), found.principal.kind),
            ("alice", PrincipalKind::Human)
        );
        assert!(found.principal.groups.contains("dba"));
        assert_eq!(found.expires.unwrap().as_second(), NOW + 60);
        assert!(found.covers("anything"));
        assert!(
            found.credential_id.starts_with("oidc/corp/"),
            "{}",
            found.credential_id
        );
    }
}

#[tokio::test]
async fn every_changed_character_of_a_token_refuses_it() {
    let signer = Signer::es256("k");
    let idp = Idp::start(&[&signer]).await;
    let authenticator = authenticator(vec![idp.settings()]);
    let token = signer.sign(&idp.claims());
    verify(&authenticator, &token).await.unwrap();
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        refusal(&authenticator, &String::from_utf8(changed).unwrap()).await;
    }
}

#[tokio::test]
async fn a_token_without_a_signature_is_refused_cve_2015_9235() {
    let signer = Signer::es256("k");
    let idp = Idp::start(&[&signer]).await;
    let authenticator = authenticator(vec![idp.settings()]);
    let claims = b64(idp.claims().to_string());
    let header = |alg: &str| b64(json!({"alg": alg, "kid": "k"}).to_string());
    assert_eq!(
        refusal(&authenticator, &format!("{}.{claims}.", header("none"))).await,
        Refusal::Form
    );
    for alg in ["none", "None", "HS256"] {
        let signed = signer.sign(&idp.claims());
        let signature = signed.rsplit_once('.').unwrap().1;
        let found = refusal(&authenticator, &format!("{}.{claims}.{signature}", header(alg))).await;
        assert_eq!(found, Refusal::Algorithm(alg.to_owned()));
    }
    assert_eq!(
        refusal(&authenticator, &format!("{}.{claims}.AA", header("ES256"))).await,
        Refusal::Signature
    );
}

#[tokio::test]
async fn a_public_key_is_no_hmac_secret_cve_2016_10555() {
    for signer in [Signer::es256("k"), Signer::rs256("k")] {
        let idp = Idp::start(&[&signer]).await;
        let authenticator = authenticator(vec![idp.settings()]);
        for secret in [signer.public(), signer.jwk().to_string().into_bytes()] {
            let header = json!({"alg": "HS256", "kid": "k"});
            let signed = format!("{}.{}", b64(header.to_string()), b64(idp.claims().to_string()));
            let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed.as_bytes());
            let found = refusal(&authenticator, &format!("{signed}.{}", b64(mac))).await;
            assert_eq!(found, Refusal::Algorithm("HS256".to_owned()));
        }
    }
}

#[tokio::test]
async fn an_algorithm_of_another_kind_than_the_key_is_refused() {
    let signer = Signer::es256("k");
    let idp = Idp::start(&[&signer]).await;
    let authenticator = authenticator(vec![idp.settings()]);
    for alg in ["RS256", "PS512", "ES384", "EdDSA"] {
        let mut header = signer.header();
        header["alg"] = json!(alg);
        assert_eq!(
            refusal(&authenticator, &signer.sign_as(&header, &idp.claims())).await,
            Refusal::KeyMismatch
        );
    }
}

#[tokio::test]
async fn an_algorithm_that_is_not_listed_is_refused() {
    let signer = Signer::es256("k");
    let idp = Idp::start(&[&signer]).await;
    let settings = OidcSettings {
        algorithms: vec![Algorithm::Rs256, Algorithm::EdDsa],
        ..idp.settings()
    };
    let authenticator = authenticator(vec![settings]);
    let found = refusal(&authenticator, &signer.sign(&idp.claims())).await;
    assert_eq!(found, Refusal::Algorithm("ES256".to_owned()));
}

#[tokio::test]
async fn a_key_that_the_token_brings_or_points_to_is_not_looked_at_cve_2018_0114() {
    let (published, own) = (Signer::es256("k"), Signer::es256("own"));
    let idp = Idp::start(&[&published]).await;
    let evil = Idp::start(&[&own]).await;
    let authenticator = authenticator(vec![idp.settings()]);
    let more = json!({
        "jwk": own.jwk(), "jku": evil.web.url("/jwks"), "x5u": evil.web.url("/jwks"), "x5c": ["MIIB"],
    });
    for kid in [
        json!("k"),
        json!("own"),
        json!("/dev/null"),
        json!("' OR 1=1"),
        Value::Null,
    ] {
        let mut header = own.header();
        match kid {
            Value::Null => drop(header.as_object_mut().unwrap().remove("kid")),
            kid => header["kid"] = kid,
        }
        for (name, value) in more.as_object().unwrap() {
            header[name] = value.clone();
        }
        refusal(&authenticator, &own.sign_as(&header, &idp.claims())).await;
    }
    assert_eq!(evil.web.requests("/jwks"), 0);
    // What it brings does no harm to a token that is good.
    let mut header = published.header();
    header["jku"] = json!(evil.web.url("/jwks"));
    verify(&authenticator, &published.sign_as(&header, &idp.claims()))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_signature_of_another_key_is_refused() {
    let (published, other) = (Signer::es256("k"), Signer::es256("k"));
    let idp = Idp::start(&[&published]).await;
    let authenticator = authenticator(vec![idp.settings()]);
    assert_eq!(
        refusal(&authenticator, &other.sign(&idp.claims())).await,
        Refusal::Signature
    );
}

#[tokio::test]
async fn a_token_of_an_issuer_that_nobody_trusts_is_refused_and_the_issuer_not_asked() {
    let signer = Signer::es256("k");
    let (idp, other) = (Idp::start(&[&signer]).await, Idp::start(&[&signer]).await);
    let authenticator = authenticator(vec![idp.settings()]);
    let near = [
        other.url(),
        format!("{}/", idp.url()),
        idp.url().to_uppercase(),
        format!(" {}", idp.url()),
        String::new(),
    ];
    for issuer in near {
        let mut claims = idp.claims();
        claims["iss"] = json!(issuer);
        assert!(matches!(
            refusal(&authenticator, &signer.sign(&claims)).await,
            Refusal::Issuer(_)
        ));
    }
    for odd in [Value::Null, json!(1), json!([idp.url()])] {
        let mut claims = idp.claims();
        claims["iss"] = odd;
        assert!(matches!(
            refusal(&authenticator, &signer.sign(&claims)).await,
            Refusal::Claim { .. }
        ));
    }
    assert_eq!(other.web.requests("/jwks"), 0);
}

#[tokio::test]
async fn an_issuer_signs_for_itself_alone() {
    let (one, two) = (Signer::es256("k"), Signer::es256("k"));
    let (idp, other) = (Idp::start(&[&one]).await, Idp::start(&[&two]).await);
    let second = OidcSettings {
        name: "other".to_owned(),
        ..other.settings()
    };
    let authenticator = authenticator(vec![idp.settings(), second]);
    verify(&authenticator, &two.sign(&other.claims())).await.unwrap();
    assert_eq!(
        refusal(&authenticator, &two.sign(&idp.claims())).await,
        Refusal::Signature
    );
}

#[tokio::test]
async fn nothing_of_the_token_but_who_it_is_comes_out() {
    let signer = Signer::es256("k");
    let idp = Idp::start(&[&signer]).await;
    let authenticator = authenticator(vec![idp.settings()]);
    let token = signer.sign(&idp.claims());
    let found = verify(&authenticator, &token).await.unwrap();
    let shown = format!("{found:?} {authenticator:?}");
    for part in token.split('.') {
        assert!(!shown.contains(part), "{shown}");
    }
    let mut claims = idp.claims();
    claims["iss"] = json!(format!("\u{1b}[31m{}", "x".repeat(5000)));
    let told = refusal(&authenticator, &signer.sign(&claims)).await.to_string();
    assert!(told.len() < 400 && !told.contains('\u{1b}'), "{told}");
}

/// Prints what one verification costs: `cargo test --release -p gateway-identity --test oidc -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn what_a_verification_costs() {
    let signers = [Signer::es256("ec"), Signer::rs256("rsa"), Signer::eddsa("ed")];
    let idp = Idp::start(&signers.each_ref()).await;
    let authenticator = authenticator(vec![idp.settings()]);
    for signer in &signers {
        let token = signer.sign(&idp.claims());
        verify(&authenticator, &token).await.unwrap();
        let begin = std::time::Instant::now();
        for _ in 0..2000 {
            verify(&authenticator, &token).await.unwrap();
        }
        println!("{}: {:?}", signer.id, begin.elapsed() / 2000);
    }
}
