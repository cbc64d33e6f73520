use super::*;

/// What `ssh-keygen -s ca -I 'session:1 rita' -n deploy,root -z 7 -O force-command=uptime -O source-address=10.0.0.0/8`
/// made, with `permit-pty` alone.
const GOLDEN: &str = "\
    000000207373682d656432353531392d636572742d763031406f70656e7373682e636f6d00000020e84a290ee6a5c641\
    fc4cfed92d89af3d8bc5fd8ac5ab4878d352e44b16b05419000000201117a42c5439f135d56a8f97effec0812fd989d2\
    5a4fcfb5cefb36b270fd1e0b0000000000000007000000010000000e73657373696f6e3a312072697461000000120000\
    00066465706c6f7900000004726f6f74000000006955b900000000006955ba2c000000430000000d666f7263652d636f\
    6d6d616e640000000a00000006757074696d650000000e736f757263652d616464726573730000000e0000000a31302e\
    302e302e302f38000000120000000a7065726d69742d7074790000000000000000000000330000000b7373682d656432\
    3535313900000020b49304dce30e6685e23199302cf280182dfadee272afc169446bc3522451c026000000530000000b\
    7373682d6564323535313900000040cce3a4d2a9545d7671d0450cc786a99598a254f1f313ea7dca16dc73dd473df146\
    d6957e696759fa899d6d6ad10f165a67b6d7db5552a4fde640710a71fa0605\
";

fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
    to.extend(bytes);
}

fn strings(all: &[&[u8]]) -> Vec<u8> {
    let mut list = Vec::new();
    for bytes in all {
        put(&mut list, bytes);
    }
    list
}

/// A certificate whose parts can be changed.
#[derive(Clone)]
struct Parts {
    name: &'static str,
    key: Vec<u8>,
    kind: u32,
    principals: Vec<u8>,
    times: (u64, u64),
    options: Vec<u8>,
    extensions: Vec<u8>,
    ca: Vec<u8>,
    signature: Vec<u8>,
}

impl Parts {
    fn good() -> Self {
        Self {
            name: "ssh-ed25519-cert-v01@openssh.com",
            key: strings(&[&[1; 32]]),
            kind: 1,
            principals: strings(&[b"deploy", b"root"]),
            times: (100, 200),
            options: strings(&[
                b"force-command",
                &strings(&[b"uptime"]),
                b"source-address",
                &strings(&[b"10.0.0.0/8"]),
            ]),
            extensions: strings(&[b"permit-pty", b""]),
            ca: strings(&[b"ssh-ed25519", &[2; 32]]),
            signature: strings(&[b"ssh-ed25519", &[3; 64]]),
        }
    }

    fn blob(&self) -> Vec<u8> {
        let mut blob = strings(&[self.name.as_bytes(), &[9; 32]]);
        blob.extend(&self.key);
        blob.extend(7_u64.to_be_bytes());
        blob.extend(self.kind.to_be_bytes());
        put(&mut blob, b"session:1 rita");
        put(&mut blob, &self.principals);
        blob.extend(self.times.0.to_be_bytes());
        blob.extend(self.times.1.to_be_bytes());
        for field in [
            &self.options,
            &self.extensions,
            &Vec::new(),
            &self.ca,
            &self.signature,
        ] {
            put(&mut blob, field);
        }
        blob
    }
}

fn refused(change: impl FnOnce(&mut Parts)) -> Refused {
    let mut parts = Parts::good();
    change(&mut parts);
    UserCertificate::parse(&parts.blob()).unwrap_err()
}

#[test]
fn fields_are_those_that_the_ca_put_in() {
    let blob = Parts::good().blob();
    let certificate = UserCertificate::parse(&blob).unwrap();
    assert_eq!(
        (certificate.key_type, certificate.serial, certificate.key_id),
        ("ssh-ed25519", 7, "session:1 rita")
    );
    assert_eq!(
        (
            certificate.principals.as_slice(),
            certificate.extensions.as_slice()
        ),
        (&["deploy", "root"][..], &["permit-pty"][..])
    );
    assert_eq!(
        (certificate.force_command, certificate.source_address),
        (Some("uptime"), Some("10.0.0.0/8"))
    );
    assert_eq!(
        certificate.signed.len() + 4 + certificate.signature.len(),
        blob.len()
    );
    assert!(certificate.is_valid_at(100) && certificate.is_valid_at(199));
    assert!(!certificate.is_valid_at(99) && !certificate.is_valid_at(200));
}

#[test]
fn a_certificate_of_ssh_keygen_is_read() {
    let blob: Vec<u8> = GOLDEN
        .as_bytes()
        .chunks(2)
        .map(|hex| u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap())
        .collect();
    let certificate = UserCertificate::parse(&blob).unwrap();
    assert_eq!((certificate.serial, certificate.key_id), (7, "session:1 rita"));
    assert_eq!(certificate.principals, ["deploy", "root"]);
    assert_eq!(
        (certificate.valid_after, certificate.valid_before),
        (1_767_225_600, 1_767_225_900)
    );
    assert_eq!(
        (certificate.force_command, certificate.source_address),
        (Some("uptime"), Some("10.0.0.0/8"))
    );
    assert_eq!(certificate.extensions, ["permit-pty"]);
}

#[test]
fn every_strict_prefix_and_every_trailing_byte_is_an_error() {
    let blob = Parts::good().blob();
    for end in 0..blob.len() {
        assert!(UserCertificate::parse(&blob[..end]).is_err(), "cut at {end}");
    }
    assert_eq!(
        UserCertificate::parse(&[&blob[..], &[0]].concat()),
        Err(Refused::Malformed)
    );
    assert_eq!(
        UserCertificate::parse(&[0; MAX_CERTIFICATE + 1]),
        Err(Refused::Malformed)
    );
    assert_eq!(UserCertificate::parse(&[0xff; 64]), Err(Refused::Malformed));
}

#[test]
fn cve_2025_49825_a_certificate_that_signs_a_certificate_is_refused() {
    let nested = Parts::good().blob();
    assert!(is_certificate(&nested));
    assert_eq!(refused(|parts| parts.ca = nested), Refused::Nested);
    assert_eq!(
        refused(|parts| parts.ca = strings(&[b"ssh-rsa-cert-v00@openssh.com", b"x"])),
        Refused::Nested
    );
    assert!(!is_certificate(&Parts::good().ca) && !is_certificate(b""));
}

#[test]
fn a_host_is_no_user() {
    assert_eq!(refused(|parts| parts.kind = 2), Refused::Host);
    assert_eq!(refused(|parts| parts.kind = 0), Refused::Type);
}

#[test]
fn critical_options_have_to_be_known_once_and_in_order() {
    let value = strings(&[b"x"]);
    assert_eq!(
        refused(|parts| parts.options = strings(&[b"new-rule@example.com", b""])),
        Refused::CriticalOption
    );
    assert_eq!(
        refused(|parts| parts.options = strings(&[b"force-command", &value, b"force-command", &value])),
        Refused::CriticalOption
    );
    assert_eq!(
        refused(|parts| parts.options = strings(&[b"source-address", &value, b"force-command", &value])),
        Refused::CriticalOption
    );
    assert_eq!(
        refused(|parts| parts.options = strings(&[b"verify-required", b"x"])),
        Refused::CriticalOption
    );
    assert_eq!(
        refused(|parts| parts.options = strings(&[b"force-command", b"uptime"])),
        Refused::Malformed
    );
    assert_eq!(
        refused(|parts| parts.options = strings(&[b"force-command"])),
        Refused::Malformed
    );
    assert_eq!(
        refused(|parts| parts.options = strings(&[b"force-command", &[&value[..], &[0]].concat()])),
        Refused::Malformed
    );
    assert_eq!(
        refused(|parts| parts.extensions = strings(&[b"permit-pty", b"", b"permit-pty", b""])),
        Refused::Extension
    );
}

#[test]
fn keys_and_signatures_of_other_types_are_refused() {
    assert_eq!(refused(|parts| parts.name = "ssh-ed25519"), Refused::Type);
    assert_eq!(
        refused(|parts| parts.name = "ssh-dss-cert-v01@openssh.com"),
        Refused::Type
    );
    assert_eq!(
        refused(|parts| parts.ca = strings(&[b"ssh-dss", b"x"])),
        Refused::Signature
    );
    assert_eq!(
        refused(|parts| parts.signature = strings(&[b"ssh-rsa", b"x"])),
        Refused::Signature
    );
    // SHA-1.
    let rsa = |parts: &mut Parts, algorithm: &[u8]| {
        parts.ca = strings(&[b"ssh-rsa", b"e", b"n"]);
        parts.signature = strings(&[algorithm, b"x"]);
    };
    assert_eq!(refused(|parts| rsa(parts, b"ssh-rsa")), Refused::Signature);
    let mut parts = Parts::good();
    rsa(&mut parts, b"rsa-sha2-512");
    assert!(UserCertificate::parse(&parts.blob()).is_ok());
    for (name, key) in [
        ("sk-ssh-ed25519-cert-v01@openssh.com", strings(&[b"k", b"ssh:"])),
        ("ecdsa-sha2-nistp256-cert-v01@openssh.com", strings(&[b"c", b"k"])),
    ] {
        let parts = Parts {
            name,
            key,
            ..Parts::good()
        };
        assert!(UserCertificate::parse(&parts.blob()).is_ok(), "{name}");
    }
}

#[test]
fn a_certificate_for_nobody_or_for_no_time_is_refused() {
    assert_eq!(
        refused(|parts| parts.principals = Vec::new()),
        Refused::Principals
    );
    assert_eq!(
        refused(|parts| parts.principals = strings(&[b""])),
        Refused::Principals
    );
    assert_eq!(
        refused(|parts| parts.principals = strings(&[&b"a"[..]; MAX_PRINCIPALS + 1])),
        Refused::Principals
    );
    assert_eq!(
        refused(|parts| parts.principals = strings(&[b"a\0b"])),
        Refused::Malformed
    );
    assert_eq!(
        refused(|parts| parts.principals = vec![0, 0, 0, 9, 1]),
        Refused::Malformed
    );
    assert_eq!(refused(|parts| parts.times = (200, 200)), Refused::Time);
}
