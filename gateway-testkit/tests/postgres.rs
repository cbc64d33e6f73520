//! The fixtures against a real server.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use gateway_testkit::{AuthMethod, ChunkingRelay, PostgresOptions, PostgresServer, RawClient};

#[test]
fn a_private_server_answers_and_is_gone_when_dropped() {
    let server = PostgresServer::start(&PostgresOptions::default());
    assert_eq!(server.sql("postgres", "SELECT 1, 'x'"), "1|x");
    let address = server.address();
    drop(server);
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn each_way_to_log_in_is_really_in_force() {
    for (auth, kept) in [
        (AuthMethod::Trust, "SCRAM-SHA-256%"),
        (AuthMethod::Password, "SCRAM-SHA-256%"),
        (AuthMethod::Md5, "md5%"),
        (AuthMethod::ScramSha256, "SCRAM-SHA-256%"),
    ] {
        let server = PostgresServer::start(&PostgresOptions {
            auth,
            ..PostgresOptions::default()
        });
        let sql = format!(
            "SELECT count(*) FROM pg_authid WHERE rolname = 'postgres' AND rolpassword LIKE '{kept}'"
        );
        assert_eq!(server.sql("postgres", &sql), "1", "{auth:?}");
        let mut client = RawClient::connect(server.address(), Duration::from_secs(10));
        client.send(&RawClient::startup(&[
            ("user", "postgres"),
            ("database", "postgres"),
        ]));
        let asked = client.read().unwrap();
        assert_eq!(asked.tag, b'R');
        let code = asked.body.get(3).copied();
        let expected = match auth {
            AuthMethod::Trust => 0,
            AuthMethod::Password => 3,
            AuthMethod::Md5 => 5,
            AuthMethod::ScramSha256 => 10,
        };
        assert_eq!(code, Some(expected), "{auth:?}");
    }
}

#[test]
fn a_raw_client_works_byte_by_byte() {
    let server = PostgresServer::start(&PostgresOptions {
        auth: AuthMethod::Password,
        ..PostgresOptions::default()
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let relay = runtime.block_on(ChunkingRelay::start(server.address(), &[1]));
    let mut client = RawClient::connect(relay.address(), Duration::from_secs(20));
    client
        .login(PostgresServer::USER, "postgres", PostgresServer::PASSWORD)
        .unwrap();
    assert!(client.key.is_some());
    let frames = client.simple("SELECT 'ab', NULL");
    let tags: Vec<u8> = frames.iter().map(|frame| frame.tag).collect();
    assert_eq!(tags, b"TDCZ");
    let row = frames.iter().find(|frame| frame.tag == b'D').unwrap();
    assert_eq!(row.columns(), [Some(b"ab".to_vec()), None]);
    let refused = client.simple("SELECT 1/0");
    assert_eq!(
        refused.first().and_then(|frame| frame.field(b'C')).as_deref(),
        Some("22012")
    );
}
