use super::*;
use std::net::{Ipv4Addr, Ipv6Addr};

use russh::keys::{Algorithm, EcdsaCurve, PrivateKey};

const NOW: i64 = 1_000_000;
const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn new_key() -> PrivateKey {
    PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap()
}

fn ca() -> (tempfile::TempDir, LoginCa) {
    let dir = tempfile::tempdir().unwrap();
    let ca = LoginCa::default();
    ca.keep_in(dir.path(), &Arc::default());
    (dir, ca)
}

/// A certificate of ours, changed; `None`: as it would be.
fn made(ca: &PrivateKey, change: impl FnOnce(&mut Builder)) -> Certificate {
    let mut random = russh::keys::key::safe_rng();
    let public = new_key().public_key().key_data().clone();
    let mut builder = Builder::new_with_random_nonce(&mut random, public, 999_940, 1_000_600).unwrap();
    builder.key_id("Certif1aaaaa").unwrap();
    change(&mut builder);
    // Where it has none yet.
    let _ = builder.cert_type(CertType::User);
    builder.sign(ca).unwrap()
}

fn named(builder: &mut Builder) {
    builder.valid_principal("ann@example.test").unwrap();
}

#[test]
fn a_certificate_of_ours_shows_whose_it_is_and_what_it_permits() {
    let (dir, ca) = ca();
    let key = new_key().public_key().to_openssh().unwrap();
    let text = ca
        .certify(&Certified {
            public_key: &key,
            id: "Certif1aaaaa",
            subject: "ann@example.test",
            from: at(NOW - 60),
            until: at(NOW + 600),
        })
        .unwrap();
    let certificate = Certificate::from_openssh(&text).unwrap();
    let shown = ca.read(&certificate, HOME, at(NOW)).unwrap();
    assert_eq!(
        (shown.id.as_str(), shown.principals.as_slice(), shown.permits),
        ("Certif1aaaaa", &["ann@example.test".to_owned()][..], Permits::ALL)
    );
    for late in [NOW - 61, NOW + 600] {
        let told = ca.read(&certificate, HOME, at(late)).unwrap_err();
        assert!(matches!(told, NotTaken::Time), "{told}");
    }
    // The key is a file of its own, and never the one that targets trust.
    let of = |name: &str| dir.path().join(name).exists();
    assert!(of(LOGIN_CA) && !of(crate::authority::USER_CA));
}

#[test]
fn a_certificate_that_another_ca_signed_shows_nobody() {
    let (dir, ca) = ca();
    let told = ca.read(&made(&new_key(), named), HOME, at(NOW)).unwrap_err();
    assert!(matches!(told, NotTaken::Stranger), "{told}");
    // Nor does one of the CA that targets trust.
    let targets = crate::authority::Authority::default();
    targets.keep_in(dir.path(), &Arc::default());
    targets.public_key().unwrap();
    let text = std::fs::read(dir.path().join(crate::authority::USER_CA)).unwrap();
    let targets = PrivateKey::from_openssh(&text).unwrap();
    let told = ca.read(&made(&targets, named), HOME, at(NOW)).unwrap_err();
    assert!(matches!(told, NotTaken::Stranger), "{told}");
}

#[test]
fn what_is_not_exactly_a_user_certificate_that_is_understood_shows_nobody() {
    let (_dir, ca) = ca();
    let ours = ca.0.key().unwrap();
    let refused = |change: &dyn Fn(&mut Builder)| {
        let certificate = made(&ours, |builder| change(builder));
        ca.read(&certificate, HOME, at(NOW)).unwrap_err().to_string()
    };
    let host = refused(&|builder| {
        named(builder);
        builder.cert_type(CertType::Host).unwrap();
    });
    assert!(host.contains("one of a host"), "{host}");
    let all = refused(&|builder| {
        builder.all_principals_valid().unwrap();
    });
    assert!(all.contains("names no principals"), "{all}");
    for (name, data, why) in [
        ("force-command", "id", "`force-command`"),
        ("restrict-hours@example.test", "", "not known"),
        ("source-address", "192.0.2.8", "source-address"),
        ("source-address", "10.0.0.0/8,nonsense", "source-address"),
    ] {
        let told = refused(&|builder| {
            named(builder);
            builder.critical_option(name, data).unwrap();
        });
        assert!(told.contains(why), "{name}: {told}");
    }
}

#[test]
fn a_certificate_is_good_from_where_it_says() {
    let (_dir, ca) = ca();
    let ours = ca.0.key().unwrap();
    let certificate = made(&ours, |builder| {
        named(builder);
        builder
            .critical_option("source-address", "10.0.0.0/8,192.0.2.0/29,2001:db8::/32")
            .unwrap();
    });
    let from = |peer: IpAddr| ca.read(&certificate, peer, at(NOW)).is_ok();
    assert!(from(HOME));
    assert!(from(IpAddr::V6(Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped())));
    assert!(from("2001:db8::7".parse().unwrap()));
    assert!(!from(Ipv4Addr::new(192, 0, 2, 8).into()));
    assert!(!from(Ipv6Addr::LOCALHOST.into()));
}

#[test]
fn a_certificate_that_was_touched_shows_nobody() {
    let (_dir, ca) = ca();
    let ours = ca.0.key().unwrap();
    let bytes = made(&ours, named).to_bytes().unwrap();
    let mut read = 0;
    for index in 0..bytes.len() {
        let mut touched = bytes.clone();
        touched[index] ^= 1;
        if let Ok(certificate) = Certificate::from_bytes(&touched) {
            read += 1;
            assert!(ca.read(&certificate, HOME, at(NOW)).is_err(), "byte {index}");
        }
    }
    assert!(read > 50, "{read} were read at all");
}

#[test]
fn cve_2025_49825_a_certificate_is_neither_a_key_nor_a_ca() {
    let (_dir, ca) = ca();
    let ours = ca.0.key().unwrap();
    let inner = made(&ours, named);
    assert!(fault(&KeyData::Certificate(Box::new(inner.clone()))).is_some());
    // The blob of a certificate whose signature key is a certificate.
    let inner = inner.to_bytes().unwrap();
    let outer = made(&ours, named).to_bytes().unwrap();
    let key = ours.public_key().to_bytes().unwrap();
    let place = outer.windows(key.len()).position(|part| part == key).unwrap();
    let mut nested = outer[..place - 4].to_vec();
    nested.extend_from_slice(&u32::try_from(inner.len()).unwrap().to_be_bytes());
    nested.extend_from_slice(&inner);
    nested.extend_from_slice(&outer[place + key.len()..]);
    if let Ok(certificate) = Certificate::from_bytes(&nested) {
        let told = ca.read(&certificate, HOME, at(NOW)).unwrap_err().to_string();
        assert!(told.contains("signed by a certificate"), "{told}");
    }
    assert_eq!(UserCertificate::parse(&nested), Err(Refused::Nested));
}

#[test]
fn what_extensions_do_not_permit_is_lacking() {
    let (_dir, ca) = ca();
    let ours = ca.0.key().unwrap();
    let permits = |names: &[&str]| {
        let certificate = made(&ours, |builder| {
            named(builder);
            for name in names {
                builder.extension(*name, "").unwrap();
            }
        });
        ca.read(&certificate, HOME, at(NOW)).unwrap().permits
    };
    let none = permits(&["unknown@example.test"]);
    let place = crate::operations::Place {
        resource: "web-1".to_owned(),
        login: "deploy".to_owned(),
        detected: std::sync::Arc::default(),
    };
    for (operation, missing) in [
        (place.forward("h", 1), FORWARDING),
        (place.forward_unix("/x"), FORWARDING),
        (place.remote_forward("h", 1), FORWARDING),
        (place.agent(), AGENT),
        (place.x11(), X11),
    ] {
        let question = crate::operations::question(vec![operation], String::new(), "", false);
        assert_eq!(none.lacks(&question), Some(missing));
        assert_eq!(permits(&[missing]).lacks(&question), None);
        assert_eq!(Permits::ALL.lacks(&question), None);
    }
    let exec = crate::operations::question(vec![place.shell(true)], String::new(), "", false);
    assert_eq!(none.lacks(&exec), None);
    assert_eq!((none.lacks_pty(), permits(&[PTY]).lacks_pty()), (Some(PTY), None));
}

#[test]
fn a_key_that_is_weak_or_no_public_key_is_refused() {
    let mut random = russh::keys::key::safe_rng();
    let ecdsa = Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    };
    let ecdsa = PrivateKey::random(&mut random, ecdsa).unwrap();
    for key in [&new_key(), &ecdsa] {
        let line = key.public_key().to_openssh().unwrap();
        assert!(read_key(&format!("{line} a comment\n")).is_ok());
        assert!(read_key(&format!("{line}\n{line}\n")).is_err());
    }
    // Of 1024 bits: ssh-keygen makes none any more.
    let rsa = |bytes: usize, first: u8| {
        let mut blob = Vec::new();
        let mut number = vec![0xc3; bytes];
        number[0] = first;
        if first >= 0x80 {
            number.insert(0, 0);
        }
        for part in [&b"ssh-rsa"[..], &[1, 0, 1], &number] {
            blob.extend_from_slice(&u32::try_from(part.len()).unwrap().to_be_bytes());
            blob.extend_from_slice(part);
        }
        PublicKey::from_bytes(&blob).unwrap().key_data().clone()
    };
    for weak in [rsa(128, 0x80), rsa(256, 0x7f), rsa(2049, 0x80)] {
        assert!(fault(&weak).is_some());
    }
    assert_eq!(fault(&rsa(256, 0x80)), None);
    for text in [
        "",
        "ssh-ed25519",
        "ssh-dss AAAAB3NzaC1kc3MAAAAB",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ] {
        assert!(read_key(text).is_err(), "{text}");
    }
}
