use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RsaKeyPair,
};
use serde_json::json;

use super::*;

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn p256() -> Value {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = key.public_key().as_ref();
    json!({"kty": "EC", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..])})
}

fn p384() -> Value {
    let key = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let point = key.public_key().as_ref();
    json!({"kty": "EC", "crv": "P-384", "x": b64(&point[1..49]), "y": b64(&point[49..])})
}

fn ed() -> Value {
    let key = Ed25519KeyPair::generate().unwrap();
    json!({"kty": "OKP", "crv": "Ed25519", "x": b64(key.public_key().as_ref())})
}

fn rsa2048() -> Value {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let n = key.public_key().modulus().big_endian_without_leading_zero();
    json!({"kty": "RSA", "e": "AQAB", "n": b64(n)})
}

fn with(mut key: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        key[name] = value.clone();
    }
    key
}

fn set(keys: Vec<Value>) -> KeySet {
    KeySet::read(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

#[test]
fn each_kind_of_key_is_for_its_algorithms_alone() {
    for (key, good) in [
        (p256(), vec![Algorithm::Es256]),
        (p384(), vec![Algorithm::Es384]),
        (ed(), vec![Algorithm::EdDsa]),
        (rsa2048(), Algorithm::ALL[..6].to_vec()),
    ] {
        let keys = set(vec![with(key, json!({"kid": "k"}))]);
        for algorithm in Algorithm::ALL {
            match keys.find(Some("k"), algorithm) {
                Ok(_) => assert!(good.contains(&algorithm), "{algorithm:?}"),
                Err(refusal) => {
                    assert!(!good.contains(&algorithm), "{algorithm:?}");
                    assert_eq!(refusal, Refusal::KeyMismatch);
                }
            }
        }
    }
}

#[test]
fn a_key_that_names_its_algorithm_is_for_no_other() {
    let keys = set(vec![with(rsa2048(), json!({"kid": "k", "alg": "PS256"}))]);
    assert!(keys.find(Some("k"), Algorithm::Ps256).is_ok());
    assert_eq!(
        keys.find(Some("k"), Algorithm::Rs256).unwrap_err(),
        Refusal::KeyMismatch
    );
    let wrong = with(rsa2048(), json!({"alg": "ES256"}));
    let symmetric = with(rsa2048(), json!({"alg": "HS256"}));
    assert_eq!(set(vec![wrong, symmetric]).len(), 0);
}

#[test]
fn a_token_without_a_key_id_needs_a_key_that_alone_fits() {
    let one = set(vec![with(p256(), json!({"kid": "a"})), ed()]);
    assert!(one.find(None, Algorithm::Es256).is_ok());
    assert!(one.find(None, Algorithm::EdDsa).is_ok());
    assert_eq!(one.find(None, Algorithm::Es384).unwrap_err(), Refusal::UnknownKey);
    let two = set(vec![with(p256(), json!({"kid": "a"})), p256()]);
    assert_eq!(
        two.find(None, Algorithm::Es256).unwrap_err(),
        Refusal::AmbiguousKey
    );
}

#[test]
fn an_unknown_key_id_finds_nothing_and_one_id_may_be_two_kinds() {
    let keys = set(vec![
        with(p256(), json!({"kid": "k"})),
        with(ed(), json!({"kid": "k"})),
        with(ed(), json!({"kid": "twice"})),
        with(ed(), json!({"kid": "twice"})),
        p384(),
    ]);
    assert!(keys.find(Some("k"), Algorithm::Es256).is_ok() && keys.find(Some("k"), Algorithm::EdDsa).is_ok());
    assert_eq!(
        keys.find(Some("twice"), Algorithm::EdDsa).unwrap_err(),
        Refusal::AmbiguousKey
    );
    // A key without an id is not meant by any.
    assert_eq!(
        keys.find(Some("other"), Algorithm::Es384).unwrap_err(),
        Refusal::UnknownKey
    );
}

#[test]
fn keys_that_are_not_public_signature_keys_are_left_out() {
    let ec = p256();
    let keys = vec![
        json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}),
        json!({"kty": "new", "crv": "later"}),
        json!("text"),
        json!({}),
        with(ec.clone(), json!({"use": "enc"})),
        with(ec.clone(), json!({"key_ops": ["sign"]})),
        with(ec.clone(), json!({"kid": 7})),
        with(ec.clone(), json!({"kid": "k".repeat(257)})),
        with(ec.clone(), json!({"crv": "secp256k1"})),
        with(ec.clone(), json!({"crv": "P-384"})),
        with(ec.clone(), json!({"x": ""})),
        with(ec.clone(), json!({"y": "AQAB"})),
        with(ec.clone(), json!({"x": "====", "y": "????"})),
        with(ed(), json!({"x": "AQAB"})),
        with(ed(), json!({"crv": "X25519"})),
    ];
    assert_eq!(set(keys).len(), 0);
    let good = vec![
        with(
            ec.clone(),
            json!({"use": "sig", "key_ops": ["verify"], "x5c": ["x"], "x5u": "http://e"}),
        ),
        ec,
    ];
    assert_eq!(set(good).len(), 2);
}

#[test]
fn weak_and_giant_rsa_keys_are_left_out() {
    let modulus = |bytes: usize| {
        let mut n = vec![0xff; bytes];
        n[0] = 0x80;
        json!({"kty": "RSA", "e": "AQAB", "n": b64(&n)})
    };
    for (key, good) in [
        (modulus(256), true),
        (modulus(1024), true),
        (modulus(255), false),
        (modulus(128), false),
        (modulus(1025), false),
        (with(modulus(256), json!({"e": "AQ"})), false),
        (with(modulus(256), json!({"e": "AA"})), false),
        (with(modulus(256), json!({"e": ""})), false),
        (with(modulus(256), json!({"e": "AQAA"})), false),
        (with(modulus(256), json!({"e": b64(&[1, 0, 0, 0, 0, 1])})), false),
        (with(modulus(256), json!({"n": ""})), false),
        (with(modulus(256), json!({"n": "AAAA"})), false),
    ] {
        assert_eq!(set(vec![key.clone()]).len(), usize::from(good), "{key}");
    }
    // Zeros in front make no key longer.
    let mut padded = vec![0; 200];
    padded.extend([0xff; 100]);
    assert_eq!(
        set(vec![json!({"kty": "RSA", "e": "AQAB", "n": b64(&padded)})]).len(),
        0
    );
}

#[test]
fn a_document_that_is_no_key_set_is_an_error_and_so_are_too_many_keys() {
    for bad in [
        "",
        "[]",
        "{}",
        "null",
        "<html>",
        r#"{"keys":{}}"#,
        r#"{"keys":"x"}"#,
    ] {
        assert!(KeySet::read(bad.as_bytes()).is_err(), "{bad}");
    }
    let many = |n: usize| json!({"keys": vec![json!({}); n]}).to_string();
    assert!(KeySet::read(many(100).as_bytes()).is_ok());
    assert!(KeySet::read(many(101).as_bytes()).is_err());
}

#[test]
fn a_point_off_the_curve_verifies_nothing() {
    let off = with(p256(), json!({"x": b64(&[1; 32]), "y": b64(&[1; 32])}));
    let keys = set(vec![off]);
    let key = keys.find(None, Algorithm::Es256).unwrap();
    assert!(!key.verifies(&b64(&[0; 64]), "a.b", Algorithm::Es256));
    assert!(!key.verifies(&b64(&[1; 64]), "a.b", Algorithm::Es256));
}

#[test]
fn psychic_signatures_verify_nothing_cve_2022_21449() {
    let keys = set(vec![p256()]);
    let key = keys.find(None, Algorithm::Es256).unwrap();
    for signature in [vec![0; 64], vec![], vec![0; 63], vec![0xff; 64]] {
        assert!(!key.verifies(&b64(&signature), "a.b", Algorithm::Es256));
    }
}

#[test]
fn a_key_refuses_an_algorithm_of_another_kind_also_where_it_is_asked_directly() {
    let rsa = set(vec![rsa2048()]);
    let key = rsa.find(None, Algorithm::Rs256).unwrap();
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa] {
        assert!(!key.verifies(&b64(&[1; 64]), "a.b", algorithm));
    }
}

proptest::proptest! {
    #[test]
    fn no_document_panics(text in ".{0,60}", n in "[A-Za-z0-9_-]{0,40}") {
        let _ = KeySet::read(text.as_bytes());
        for key in [json!({"kty": "RSA", "n": n, "e": n}), json!({"kty": "EC", "crv": "P-256", "x": n, "y": n})] {
            set(vec![key]);
        }
    }
}
