use super::*;
use crate::wire::certificate::UserCertificate;
use gateway_core::principal::PrincipalKind;
use std::time::Duration;

fn certified() -> Certified {
    Certified {
        principals: vec!["deploy".to_owned()],
        ttl: Duration::from_secs(300),
        source_address: None,
        force_command: false,
    }
}

fn authority() -> (tempfile::TempDir, Authority) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::default();
    authority.keep_in(dir.path(), &Arc::default());
    (dir, authority)
}

fn issue(authority: &Authority, certified: &Certified, granted: &Granted) -> Vec<u8> {
    let now = Timestamp::from_second(1_000_000).unwrap();
    let (key, certificate) = authority
        .issue(certified, "deploy", "ann session=1", granted, now)
        .unwrap();
    assert_eq!(key.public_key().key_data(), certificate.public_key());
    certificate.to_bytes().unwrap()
}

#[test]
fn a_certificate_is_for_one_login_for_minutes_and_for_nothing_that_was_not_granted() {
    let (_dir, authority) = authority();
    let bytes = issue(&authority, &certified(), &Granted::default());
    let read = UserCertificate::parse(&bytes).unwrap();
    assert_eq!(read.principals, ["deploy"]);
    assert_eq!((read.valid_after, read.valid_before), (999_940, 1_000_300));
    assert_eq!(read.key_id, "ann session=1");
    assert_eq!(read.extensions, [""; 0]);
    assert_eq!((read.force_command, read.source_address), (None, None));
    let ca = authority.public_key().unwrap().to_bytes().unwrap();
    assert_eq!(read.signature_key, ca);
    // Neither key nor number comes twice.
    let again = issue(&authority, &certified(), &Granted::default());
    let again = UserCertificate::parse(&again).unwrap();
    assert_ne!(read.serial, again.serial);
    assert_ne!(read.signed, again.signed);
}

#[test]
fn each_grant_is_its_own_extension_and_user_rc_is_none() {
    let (_dir, authority) = authority();
    let extensions = |granted: &Granted| -> Vec<String> {
        let bytes = issue(&authority, &certified(), granted);
        let read = UserCertificate::parse(&bytes).unwrap();
        read.extensions.iter().map(|name| (*name).to_owned()).collect()
    };
    assert_eq!(extensions(&Granted::forwarding()), ["permit-port-forwarding"]);
    let all = Granted {
        pty: true,
        agent: true,
        forwarding: true,
        x11: true,
        command: None,
    };
    assert_eq!(
        extensions(&all),
        [
            "permit-X11-forwarding",
            "permit-agent-forwarding",
            "permit-port-forwarding",
            "permit-pty"
        ]
    );
    let pty = Granted {
        pty: true,
        ..Granted::default()
    };
    assert_eq!(extensions(&pty), ["permit-pty"]);
}

#[test]
fn a_command_is_forced_where_that_is_asked_for_and_one_that_cannot_be_is_refused() {
    let (_dir, authority) = authority();
    let command = |command: &[u8]| Granted {
        command: Some(command.to_vec()),
        ..Granted::default()
    };
    let mut certified = certified();
    let bytes = issue(&authority, &certified, &command(b"uptime"));
    assert_eq!(UserCertificate::parse(&bytes).unwrap().force_command, None);
    certified.force_command = true;
    certified.source_address = Some("10.0.0.0/8,::1".to_owned());
    let bytes = issue(&authority, &certified, &command(b"uptime"));
    let read = UserCertificate::parse(&bytes).unwrap();
    assert_eq!(read.force_command, Some("uptime"));
    assert_eq!(read.source_address, Some("10.0.0.0/8,::1"));
    for bad in [&b""[..], b"a\0b", b"\xff", &[b'a'; COMMAND + 1]] {
        let issued = authority.issue(&certified, "deploy", "x", &command(bad), Timestamp::now());
        assert!(matches!(issued, Err(NoCertificate::Command(_))));
    }
}

#[test]
fn a_key_id_is_one_line_that_cannot_be_read_otherwise() {
    let session = SessionId::generate();
    let mut who = Principal::new("ann@example.test", PrincipalKind::Agent);
    assert_eq!(
        key_id(&who, session),
        format!("ann@example.test session={session}")
    );
    who.on_behalf_of = Some("bob".to_owned());
    assert_eq!(
        key_id(&who, session),
        format!("ann@example.test for bob session={session}")
    );
    who.subject = "ann for root session=1\n\u{202e}%é".to_owned();
    who.on_behalf_of = Some("x".repeat(100_000));
    let text = key_id(&who, session);
    assert!(
        text.starts_with("ann%20for%20root%20session=1%0a%e2%80%ae%25é for xxx"),
        "{text}"
    );
    assert!(
        text.ends_with(&format!("... session={session}")) && text.len() < 700,
        "{text}"
    );
}

#[test]
fn nothing_is_made_before_it_is_known_where_to_keep_it() {
    let authority = Authority::default();
    assert!(!authority.is_ready());
    assert!(authority.public_key().is_err());
}
